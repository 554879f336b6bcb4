#!/bin/sh
# convert.sh - drover convert when it is stopped: by kill -9, by a full disk, by a file-size limit;
# the same command goes on and the output is what it would have been.
. "$(dirname "$0")/../lib/e2e.sh"
drover synth --shape tiny,vocab=20000,dim=512,layers=4,ffn=1024 --type BF16 --out a -q || { fail "no model"; finish; }
drover convert a want.gguf -q && drover convert a want -q --max-shard-size 8M && drover convert a want.pth -q --shards 2 || { fail "cannot convert"; finish; }

# same OUT WANT
same() { if diff -r "$1" "$2" >log 2>&1 && [ ! -e "$1.part" ]; then ok; else fail "$1: $(head -3 log) $(ls -d ./*.part 2>/dev/null)"; fi; }

# killed at ever later moments until one run is left alone
for form in "k.gguf want.gguf" "k want --max-shard-size 8M" "k.pth want.pth --shards 2"; do
    set -- $form
    out=$1 want=$2
    shift 2
    kills=0 wait=0.004
    while :; do
        timeout -s KILL $wait drover convert a $out "$@" -q >log 2>&1
        rc=$?
        [ $rc -eq 137 ] || break
        if [ -e $out ] && ! [ -e $out.part ]; then break; fi
        kills=$((kills + 1))
        wait=$(awk "BEGIN { print $wait * 1.15 }")
        [ $kills -lt 200 ] || break
    done
    [ $rc -eq 0 ] || [ -e $out ] || fail "$out: $rc $(cat log)"
    if [ $kills -gt 0 ]; then ok; else fail "$out: never killed"; fi
    rm -f $out/journal                     # killed between the last two steps
    same $out $want
    rm -rf $out
done

# a limit on the size of a file: one sentence, and what is there is kept
(ulimit -f 40000; drover convert a f.gguf -q) 2>err
rc=$?
if [ $rc -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -q 'cannot write f.gguf.part/f.gguf: File too large' err && [ -s f.gguf.part/f.gguf ] && [ ! -e f.gguf ]; then ok
else fail "file-size limit: $rc $(cat err)"; fi
before=$(wc -c <f.gguf.part/journal)
if [ "$before" -gt 32 ]; then ok; else fail "nothing is vouched for: $before"; fi
drover convert a f.gguf -q 2>err || fail "$(cat err)"
same f.gguf want.gguf
rm -f f.gguf

# a full disk: said before a byte is written
small=$(mktemp -d /dev/shm/drover-e2e-XXXXXX) && {
    if unshare -rm true 2>/dev/null; then
        unshare -rm sh -c "mount -t tmpfs -o size=10M none $small && cd '$T/work' && drover convert a $small/f.gguf -q; echo \$? >rc; ls $small/f.gguf.part >left 2>/dev/null" 2>err
        if [ "$(cat rc)" = 1 ] && grep -qE 'f.gguf takes 0\.0[0-9] GB more, but its disk has 0\.01 GB free' err; then ok; else fail "full disk: $(cat rc err)"; fi
        # the estimate holds, the disk fills while writing: another file takes the room
        unshare -rm sh -c "mount -t tmpfs -o size=80M none $small && cd '$T/work' && (ulimit -f 40000; drover convert a $small/f.gguf -q); head -c 45000000 /dev/zero >$small/other; drover convert a $small/f.gguf -q; echo \$? >rc; rm $small/other; drover convert a $small/f.gguf -q && cmp $small/f.gguf want.gguf && echo same >rc2" 2>err
        if [ "$(cat rc)" = 1 ] && [ "$(cat rc2)" = same ]; then ok; else fail "disk fills: $(cat rc rc2 err)"; fi
    else
        skip "no mount namespaces here"
    fi
    rmdir "$small"
}

# two at once: the second is refused
(ulimit -f 40000; drover convert a t.gguf -q) 2>/dev/null
python3 - <<'PY' &
import fcntl, time
f = open('t.gguf.part/journal', 'r+b')
fcntl.lockf(f, fcntl.LOCK_EX)
open('locked', 'w').close()
time.sleep(20)
PY
holder=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e locked ] && break; sleep 0.1; done
drover convert a t.gguf -q 2>err
if grep -q 'another process is writing t.gguf now' err; then ok; else fail "two at once: $(cat err)"; fi
kill $holder 2>/dev/null; wait $holder 2>/dev/null
drover convert a t.gguf -q && same t.gguf want.gguf

# --force on a folder: the old model's files go, others stay
mkdir old && drover convert a old/../o -q --max-shard-size 8M && echo mine >o/notes.txt && drover convert a o -q --force
if [ -e o/model.safetensors ] && [ ! -e o/model.safetensors.index.json ] && [ ! -e o/model-00001-of-00002.safetensors ] && [ "$(cat o/notes.txt)" = mine ]; then ok; else fail "--force: $(ls o)"; fi
finish
