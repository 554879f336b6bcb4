#!/bin/sh
# memory.sh - the private memory of a run with its context filled is what `drover info` says,
# within five in a hundred; weights are no part of it unless they are copied.
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"

peak() {                          # the most private bytes (RssAnon) of the command, watched
    "$@" >out 2>err </dev/null &
    pid=$! top=0
    while kill -0 $pid 2>/dev/null; do
        kb=$(sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null)
        [ "${kb:-0}" -gt "$top" ] && top=$kb
        sleep 0.01
    done
    wait $pid
    echo $((top * 1024))
}

if have smollm2; then
    i=0
    while [ $i -lt 300 ]; do echo "line $i of a long text"; i=$((i + 1)); done >text
    n=$(drover tokenize smollm2 --file text | wc -w)
    ctx=$(((n + 63) / 64 * 64))
    want=$(drover info smollm2 --ctx $ctx --json | sed -n 's/.*"private": \([0-9]*\).*/\1/p')
    got=$(peak drover run smollm2 "$(cat text)" --raw -n 8 --ctx $ctx --temp 0)
    off=$(((got > want ? got - want : want - got) * 1000 / want))
    if [ "$off" -le 50 ]; then ok; else
        fail "peak private memory $got, info says $want: off by $off in a thousand"
    fi
else
    skip "needs smollm2"
fi

# The bound that an 8B model is held to (keys and values and 300 MB), for a smaller one: 110 MB of
# weights, 33.6 MB of cache, the rest in proportion to its width.
if have python3; then
    tiny m dim=1024,layers=4,heads=16,kv_heads=4,head_dim=64,ffn=3584,vocab=512,ctx=8192 --type BF16 ||
        fail "no model"
    i=0
    while [ $i -lt 40 ]; do echo "line $i of a long text"; i=$((i + 1)); done >text
    kv=$((2 * 4 * 256 * 2 * 8192))
    weights=$(drover info m --json | sed -n 's/.*"weights": \([0-9]*\).*/\1/p')
    got=$(peak drover run m "$(cat text)" --raw -n 8 --ctx 8192 --temp 0 --ignore-eos)
    if [ "$weights" -gt 100000000 ] && [ "$got" -gt 0 ] && [ "$got" -le $((kv + 40000000)) ]; then ok; else
        fail "mapped: peak private memory $got, keys and values $kv, weights $weights"
    fi
    got=$(peak drover run m "$(cat text)" --raw -n 8 --ctx 8192 --temp 0 --ignore-eos --load copy)
    if [ "$got" -ge "$weights" ] && [ "$got" -le $((kv + 40000000 + weights)) ]; then ok; else
        fail "copied: peak private memory $got, keys and values $kv, weights $weights"
    fi
else
    skip "needs python3"
fi
finish
