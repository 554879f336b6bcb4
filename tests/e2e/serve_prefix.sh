#!/bin/sh
# serve_prefix.sh - beginnings that requests share: found in memory and, after the server ended or was
# killed, on disk; the same reply however it came about; damaged files, another model and two servers
# on one folder; the limit on disk.
# usage: tests/e2e/serve_prefix.sh
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"
have python3 || { skip 'prefixes: no python3'; finish; }
have curl || { skip 'prefixes: no curl'; finish; }
tiny tiny || { fail 'no model'; finish; }
tiny other tiny,vocab=512,ctx=2048 --seed 5 || { fail 'no model'; finish; }

start() {                   # start MODEL ARGS… sets $pid and $url
    drover serve "$@" --port 0 --quiet >out 2>err </dev/null &
    pid=$!
    started "drover serve $*"
}
stop() { kill "-${1:-TERM}" $pid; wait $pid 2>/dev/null; }
# ask WORD: a completion after a long beginning and WORD; leaves the reply in $text, the positions that
# were there in $cached.
ask() {
    python3 -c "import json; print(json.dumps(dict(prompt='The same beginning of many a prompt. ' * 27 + '$1', max_tokens=24, temperature=0, ignore_eos=True)))" >body
    curl -s --max-time 60 "$url/v1/completions" -H 'Content-Type: application/json' -d @body >reply
    text=$(python3 -c "import json; print(repr(json.load(open('reply'))['choices'][0]['text']))" 2>&1)
    cached=$(python3 -c "import json; print(json.load(open('reply'))['usage']['prompt_tokens_details']['cached_tokens'])" 2>&1)
}
is() { [ "$2" = "$3" ] && ok || fail "$1: $2, wanted $3"; }
# Waits until the folder has so many pages.
pages() {
    for i in $(seq 200); do
        n=$(find "$1" -name '*.page' | wc -l)
        [ "$n" -ge "$2" ] && break
        sleep 0.05
    done
    is "pages in $1" "$n" "$2"
}

# a beginning of 1,000 positions, 15 whole pages and more
start tiny || finish
ask one; first=$text; is 'nothing is cached at first' "$cached" 0
ask two; is 'the beginning is shared' "$cached" 1000
ask one; is 'the same again, from the cache' "$text" "$first"
stop
start tiny || finish
ask one; is 'memory alone does not outlive a server' "$cached" 0
stop

start tiny --prefix-store kept || finish
ask one; is 'a server with a folder replies alike' "$text" "$first"
pages kept 16
stop KILL
start tiny --prefix-store kept || finish
ask one; is 'the same after kill -9' "$text" "$first"
is 'and 15 pages were there' "$cached" 960
ask three
stop
start tiny --prefix-store kept || finish
ask three; is 'the same end: pages of the reply are no pages of another prompt' "$cached" 960
drover serve tiny --port 0 --prefix-store kept >out2 2>err2 </dev/null &
second=$!
for i in $(seq 200); do kill -0 $second 2>/dev/null || break; sleep 0.05; done
kill $second 2>/dev/null; wait $second; is 'a second server on the folder ends with' $? 1
grep -q "another process's" err2 && ok || fail "which says: $(cat err2)"
stop

# damage, then another model
page=$(find kept -name '*.page' | sort | sed -n 5p)
printf 'XXXX' | dd of="$page" bs=1 seek=1000 conv=notrunc 2>/dev/null
start tiny --prefix-store kept || finish
ask one; is 'what was damaged is not used' "$cached" 256
is 'and the reply is the same' "$text" "$first"
stop
start other --prefix-store kept || finish
ask one; is "another model has nothing of it" "$cached" 0
[ "$text" != "$first" ] && ok || fail 'another model, and the same reply'
stop
is 'folders' "$(find kept -mindepth 1 -maxdepth 1 | wc -l)" 2

# a limit of ten pages
size=$(stat -c %s "$(find kept -name '*.page' | head -1)")
start tiny --prefix-store small --prefix-store-size $((size * 10 + 1)) || finish
ask one
pages small 10
stop
start tiny --prefix-store small --prefix-store-size $((size * 10 + 1)) || finish
ask one; is 'ten pages' "$cached" 640
stop
finish
