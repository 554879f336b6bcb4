#!/bin/sh
# train.sh - drover train on 1, 2 and 4 processes: the same losses, and a run goes on on another number of
# them. make check-mpi.
# usage: DROVER=PROGRAM tests/dist/train.sh      the last line is "N passed, N failed"
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/dist/mpi.sh"
have mpirun || { skip "mpirun is not here"; finish; }

# losses FILE: of its steps, in order
losses() { sed -n 's/.*"loss": *\([0-9.eE+-]*\).*/\1/p' "$1"; }
# near A B MOST: two runs' losses, step by step
near() {
    losses "$1/log.jsonl" >a; losses "$2/log.jsonl" >b
    paste a b | awk -v most="$3" 'NF != 2 { bad = 1 }
        { d = $1 - $2; if (d < 0) d = -d; if (d > most * $1) bad = 1; n++ } END { exit bad || n != 8 }'
}
on() { n=$1; shift; mpirun -n "$n" drover train r.yaml -t 1 -q "$@" >log 2>&1 </dev/null || { cat log; false; }; }

cp "$SRC/tests/data/tokenizers/small.json" tokenizer.json
drover synth --shape dim=32,layers=2,heads=2,kv_heads=1,ffn=64,vocab=451,ctx=128,tied=1 --type F32 -q \
    --tokenizer tokenizer.json --out init
head -c 6000 "$SRC/README.md" >t.txt
drover prep tokenizer.json t.txt --split blank -o shards -q
cat >r.yaml <<'END'
precision: f32
model: {init: init, random: true}
data: [{path: shards}]
checkpoint: {every: 4, keep_last: 3}
phases:
  - {until_tokens: 1024, seq: 32, batch_tokens: 128, peak: 1e-2}
END
for kind in adamw muon; do
    for n in 1 2 4; do
        if on $n --set out=$kind$n --set optimizer.kind=$kind; then ok; else fail "$kind on $n ranks"; fi
    done
    for n in 2 4; do
        if near ${kind}1 $kind$n 1e-6; then ok; else
            fail "$kind: losses of 1 and $n ranks differ"; paste a b
        fi
    done
done

# half of it on 4 ranks, the rest on 2
if on 4 --set out=half --until 4 && on 2 --set out=half && near adamw1 half 1e-6; then ok; else
    fail "a run of 4 ranks went on on 2"; paste a b
fi
# bf16: weights that round otherwise after a sum in another order pull otherwise
if on 1 --set out=b1 --set precision=bf16 && on 4 --set out=b4 --set precision=bf16 &&
   near b1 b4 1e-3; then ok; else fail "bf16 on 4 ranks"; paste a b; fi
# what one rank cannot do, all say
if on 2 --set out=bad --set data.0.path=none; then fail "a folder that is not there"; else ok; fi
finish
