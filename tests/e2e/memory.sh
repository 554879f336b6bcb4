#!/bin/sh
# memory.sh - the private memory of a run with its context filled is what `drover info` says,
# within five in a hundred.
. "$(dirname "$0")/../lib/e2e.sh"

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
finish
