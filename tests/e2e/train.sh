#!/bin/sh
# train.sh - training that is killed at any instant, again and again, ends as the run that was left
# alone, to the bit; Ctrl-C saves and stops; a damaged checkpoint is passed over.
# KILLS=200 kills so often (default 20).
. "$(dirname "$0")/../lib/e2e.sh"

printf 'To be, or not to be: that is the question.\nWhether tis nobler in the mind to suffer\n' >t.txt
cp "$SRC/tests/data/tokenizers/small.json" tokenizer.json
drover synth --shape dim=64,layers=2,heads=2,kv_heads=1,ffn=128,vocab=451,ctx=64,tied=1 --type F32 --tokenizer tokenizer.json --out init
drover prep tokenizer.json t.txt --split line -o shards -q >/dev/null
steps=$((${KILLS:-20} * 8))
cat >r.yaml <<END
out: whole
precision: bf16
model: {init: init, random: true}
data: [{path: shards}]
eval: {path: shards, every: 7}
checkpoint: {every: 2}
guard: {action: off}
log: {tensorboard: false, curve: false}
phases:
  - {until_tokens: $((steps * 32)), seq: 16, batch_tokens: 32, peak: 1e-2}
END
last=$(printf 'step-%08d' $steps)
drover train r.yaml -q -t 1 || fail "training failed"

# what a log says but for the clock
said() { sed 's/, "seconds".*mfu_full": [^,}]*//; s/, "time.*//' "$1"; }
same() {
    if cmp -s "whole/checkpoints/$last/rank-000.safetensors" "$1/checkpoints/$last/rank-000.safetensors"; then ok; else
        fail "$1: other weights or moments than the run left alone"; fi
    said whole/log.jsonl >a; said "$1/log.jsonl" >b
    if cmp -s a b; then ok; else fail "$1: another log: $(diff a b | head -4)"; fi
}

# the time of a few steps, at which a kill finds anything: reading, a step, a checkpoint being written
kills=0 tries=0
while [ ! -d "killed/checkpoints/$last" ] && [ $tries -lt 2000 ]; do
    drover train r.yaml -q -t 1 --set out=killed 2>err &
    pid=$!
    tries=$((tries + 1))
    if [ $kills -lt "${KILLS:-20}" ]; then
        sleep "0.0$((tries * 37 % 90 + 10))"
        kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    fi
    wait $pid; rc=$?
    case $rc in 0|137) ;; *) fail "after $kills kills: status $rc: $(cat err)"; break ;; esac
    grep -q 'passed over' err && { fail "a checkpoint was not whole: $(cat err)"; break; }
done
[ $kills -gt 5 ] || fail "only $kills kills before the end"
same killed

# Ctrl-C, twice
for i in 1 2; do
    drover train r.yaml -q --json --set out=int >out 2>err &
    pid=$!
    for k in 1 2 3 4 5 6 7 8 9; do [ -s int/log.jsonl ] && [ "$(wc -l <int/log.jsonl)" -gt $((i * 6)) ] && break; sleep 0.1; done
    kill -INT $pid
    wait $pid; rc=$?
    if [ $rc = 0 ]; then ok; else fail "Ctrl-C: status $rc: $(cat err)"; fi
done
step=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' out)
if [ -d "int/checkpoints/$(printf 'step-%08d' "$step")" ]; then ok; else fail "step $step was not saved: $(cat out)"; fi
drover train r.yaml -q --set out=int 2>/dev/null
same int

# the newest one damaged: from the one before, and it says so
cp -r whole cut
printf x | dd of="cut/checkpoints/$last/rank-000.safetensors" bs=1 seek=5000 conv=notrunc 2>/dev/null
drover train r.yaml -q --set out=cut 2>err || fail "going on failed"
if grep -q "passed over.*$last.*damaged" err; then ok; else fail "not said: $(cat err)"; fi
same cut
finish
