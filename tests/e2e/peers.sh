#!/bin/sh
# peers.sh - bench/peers from the command line: its own arithmetic (peers_test.py), and whole runs of it with
# drover on a tiny model beside programs that only answer as llama.cpp's do.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
peers() { python3 "$SRC/bench/peers" "$@"; }
export DROVER_CACHE="$T/cache"

python3 "$SRC/tests/e2e/peers_test.py" "$SRC" >log || cat log
passed=$(sed -n 's/^\([0-9]*\) passed.*/\1/p' log | awk '{n+=$1} END {print n+0}')
failed=$(sed -n 's/.* \([0-9]*\) failed$/\1/p' log | awk '{n+=$1} END {print n+(NR==0)}')

# fake FOLDER: peers that say 100 tokens/s for prompts and 10 for each sequence of a batch
fake() {
    mkdir -p "$1"
    cat >"$1/llama-bench" <<'EOF'
#!/bin/sh
p=0 n=0
while [ $# -gt 0 ]; do case $1 in -p) p=$2 ;; -n) n=$2 ;; esac; shift; done
echo '['
[ "$p" = 0 ] || echo '{"n_prompt": '$p', "n_gen": 0, "samples_ts": [100.0, 100.0]}'
[ "$p" = 0 ] || [ "$n" = 0 ] || echo ,
[ "$n" = 0 ] || echo '{"n_prompt": 0, "n_gen": '$n', "samples_ts": [10.0, 10.0]}'
echo ']'
EOF
    cat >"$1/llama-batched-bench" <<'EOF'
#!/bin/sh
while [ $# -gt 0 ]; do case $1 in -npp) p=$2 ;; -ntg) n=$2 ;; -npl) b=$2 ;; esac; shift; done
echo "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |"
for k in $(echo "$b" | tr , ' '); do echo "| $p | $n | $k | 1 | 1.0 | 100.00 | 1.0 | $((10 * k)).00 | 2.0 | 1.0 |"; done
EOF
    printf '#!/bin/sh\necho word\n' >"$1/llama-completion"
    printf '#!/bin/sh\necho word\n' >"$1/llama-cli"
    chmod +x "$1"/*
}
fake good; fake bad
printf '#!/bin/sh\necho "cannot load this" >&2; exit 3\n' >bad/llama-bench
drover synth --shape tiny --type Q8_0 --quiet --out tiny.gguf
dirs="--peer-dir llama.cpp=good --peer-dir ik_llama.cpp=bad"
base="--cache c --drover ./drover --rounds 2 --tries 2 -t 1 -p 16 -n 4 --reps 1 --limit 1000 --others 1"

# like WHAT REGEX FILE
like() { if grep -qE -- "$2" "$3"; then ok; else fail "$1: nothing like $2"; head -30 "$3"; fi; }
if peers run tiny.gguf $base $dirs --tests prefill,decode,batch,depth --depths 32 --kv-types f16 --batches 1,2 \
        --out a.json >out 2>err; then ok; else fail "a run: $(tail -3 err)"; fi
like "drover and the peer that works" '^tiny +1 +prefill 16 +[0-9].* +100 \[100-100\]' out
like "batches" '^tiny +1 +decode, 2 at once +[0-9].* 20\.0 \[20\.0-20\.0\].* 20\.0 \[20\.0-20\.0\]' out
like "depth" '^tiny +1 +decode after 32, cache f16 +[0-9].* 10\.0 \[10\.0-10\.0\]' out
like "the peer that fails is said to" '^tiny, short: ik_llama\.cpp: ended with 3: cannot load this' out
like "the machine" '^1 thread: read [0-9]' out
python3 - a.json <<'EOF' && ok || fail "the results file"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["format"] == 1 and r["machine"]["cpus"] > 0 and list(r["programs"]) == ["drover", "llama.cpp", "ik_llama.cpp"]
assert len(r["rounds"]) == 6 and {x["turn"] for x in r["rounds"]} == {0, 1}
one, two = [x for x in r["rounds"] if x["job"]["kind"] == "short"]
assert [x["program"] for x in one["runs"]] == ["drover", "llama.cpp", "ik_llama.cpp"], "the first in order"
assert [x["program"] for x in two["runs"]] == ["llama.cpp", "ik_llama.cpp", "drover"], "the second turned"
assert len(one["probes"]) == 4 and all(p["int8"] > 0 for p in one["probes"])
assert one["job"]["arithmetic"] == "int8" and one["job"]["kv_bytes_per_position"] == 1024
assert "/" not in one["runs"][1]["command"].replace("llama-bench", ""), "no folder of this machine"
EOF

# rounds are added to a file that is there, and only as many as are wanted
peers run tiny.gguf $base $dirs --peers llama.cpp --tests prefill --rounds 1 --tries 1 --out b.json >out 2>err
peers run tiny.gguf $base $dirs --peers llama.cpp --tests prefill --rounds 1 --tries 3 --out b.json >out 2>>err
if [ "$(grep -c '"turn"' b.json)" = 2 ]; then ok; else fail "rounds are added: $(grep -c turn b.json)"; fi
if peers show b.json --limit 1000 --others 1 >out && grep -q '2 of 2' out; then ok; else fail "show: $(cat out)"; fi

# no round begins that would not end in time: the last one of this job says how long it takes
sed 's/"seconds": [0-9.]*}$/"seconds": 999}/' b.json >g.json
peers run tiny.gguf $base $dirs --peers llama.cpp --tests prefill --rounds 9 --seconds 100 --out g.json >out 2>err
if [ "$(grep -c '"turn"' g.json)" = 2 ] && grep -q 'the time is over' err; then ok; else fail "--seconds"; fi

# a made model that is in the cache is not made again; the cache's name may be relative
mkdir -p c/models
cp tiny.gguf c/models/llama-3.2-1b-Q4_0.gguf
peers run --shapes llama-3.2-1b --types Q4_0 $base $dirs --peers llama.cpp --tests prefill --rounds 1 --out f.json --remove >out 2>err
like "a shape and a type" '^llama-3.2-1b Q4_0 +1 +prefill 16 +[0-9].* 100 \[100-100\]' out
if [ -e c/models/llama-3.2-1b-Q4_0.gguf ]; then fail "--remove"; else ok; fi

# interrupted: what was measured is kept
cat >good/llama-batched-bench <<'EOF'
#!/bin/sh
echo $$ >"$PIDFILE"; exec sleep 250
EOF
PIDFILE=$PWD/pid python3 "$SRC/bench/peers" run tiny.gguf $base $dirs --peers llama.cpp --tests prefill,batch \
    --out c.json >out 2>err &
for _ in $(seq 900); do [ -s pid ] && break; sleep 0.1; done
t0=$(date +%s)
kill -TERM $!; wait $!
rc=$?
if [ $rc -eq 130 ] && [ $(($(date +%s) - t0)) -lt 120 ]; then ok; else
    fail "an interrupted run ends with 130, at once: $rc after $(($(date +%s) - t0)) s"; fi
like "interrupted" '^tiny +1 +prefill 16 ' out
like "and says so" 'interrupted; c.json has what was measured' err
if kill -0 "$(cat pid)" 2>/dev/null; then fail "a peer still runs"; else ok; fi
PIDFILE=$PWD/pid peers run tiny.gguf $base $dirs --peers llama.cpp --tests batch --tries 1 --timeout 1 --out d.json >out 2>err
like "a peer that hangs" 'llama.cpp .*: still running after 1 s' err

# tables and plot into a page; --check
printf '# t\n\n<!-- results of a.json: bench/peers render writes what follows -->\n<!-- end of results -->\n' >page.md
if peers render a.json --page page.md --check >log 2>&1; then fail "render --check of an old page"; else ok; fi
peers render a.json --page page.md >log
like "render" '^\| tiny \| 1 \| prefill 16 \| [0-9]' page.md
like "its plot" '^<svg xmlns' a.svg
if peers render a.json --page page.md --check; then ok; else fail "render --check of a new page"; fi

echo '{"format": 1, "machine": {"processor": "x"}, "programs": {}, "rounds": []}' >other.json
echo 1 2 3 >ids
if peers render "$SRC"/docs/benchmarks/*.json --check; then ok; else fail "docs/benchmarks.md is not what its results say"; fi

# mistakes: refuse WHAT STATUS REGEX ARGUMENT...
refuse() {
    what=$1 status=$2 regex=$3; shift 3
    peers "$@" >out 2>err; rc=$?
    if [ $rc -eq "$status" ] && grep -qE -- "$regex" err && ! grep -q Traceback err; then ok
    else fail "$what: status $rc: $(cat err)"; fi
}
refuse "an unknown test" 2 'speed is not one of prefill decode' run --tests speed
refuse "an unknown type" 2 'Q9 is not one of' run --types Q9
refuse "no such file" 1 'none.gguf is no file' run none.gguf $dirs --drover ./drover --cache c
refuse "no such drover" 1 'no program at ./none: run make first' run tiny.gguf --drover ./none --cache c
refuse "results of another machine" 1 'of another machine' run tiny.gguf $base $dirs --out other.json
refuse "nothing that runs" 1 'nothing was measured' run ids $base $dirs --tests prefill --rounds 1 --tries 1 --out e.json
refuse "no results" 1 'cut.json: |Error' show cut.json
finish
