#!/bin/sh
# mistakes.sh - the usual mistakes with a MODEL argument each get one sentence that helps.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
. "$SRC/tests/lib/tiny.sh"
tiny m && drover synth --shape tiny,vocab=512 --out g.gguf -q || { fail "no model"; finish; }

# says WHAT REGEX COMMAND...: status 1, and the last line of stderr matches
says() {
    what=$1 regex=$2
    shift 2
    drover "$@" >out 2>err </dev/null
    rc=$?
    if [ $rc -eq 1 ] && tail -n 1 err | grep -qE -- "$regex"; then ok; else fail "$what: status $rc: $(cat err)"; fi
}
pointer() { printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 2471645608\n' 7; }

pointer >lfs.gguf
says "an LFS pointer" 'LFS' info lfs.gguf
cp -r m lfs && pointer >lfs/model.safetensors
says "an LFS pointer in a folder" 'LFS' run lfs hi
echo '<!DOCTYPE html><html>not found</html>' >page.gguf
says "a web page" 'web page' info page.gguf
: >empty.gguf
says "an empty file" 'empty' run empty.gguf hi
echo 'hello' >text.gguf
says "some text" 'neither a GGUF nor a safetensors' info text.gguf
python3 -c "import zipfile; zipfile.ZipFile('p.pth', 'w').writestr('archive/data.pkl', b'x')"
says "a PyTorch file" 'PyTorch' info p.pth
size=$(wc -c <g.gguf)
head -c $((size / 2)) g.gguf >half.gguf
says "half a GGUF" 'in part|cut short' run half.gguf hi
head -c 1000 g.gguf >start.gguf
says "the start of a GGUF" 'in part|cut short' info start.gguf
cp -r m half && head -c 1000000 m/model.safetensors >half/model.safetensors
says "half a safetensors" 'in part|cut short' run half hi
mkdir nothing
says "an empty folder" 'holds no model' info nothing
mkdir ggufs && cp g.gguf ggufs/
says "a folder of GGUFs" 'name the file, such as ggufs/g.gguf' run ggufs hi
mkdir meta && : >meta/consolidated.00.pth
says "Meta's files" 'pth' info meta
cp -r m noconfig && rm noconfig/config.json
says "no config" 'config.json is missing' info noconfig
cp -r m notok && rm notok/tokenizer.model
says "no tokenizer" 'tokenizer' run notok hi
says "no such path" 'no file or folder /no/such/thing' run /no/such/thing hi
sed 's/"LlamaForCausalLM"/"FalconForCausalLM"/; s/"model_type": "llama"/"model_type": "falcon"/' m/config.json >c
cp -r m falcon && cp c falcon/config.json
says "another architecture" '[fF]alcon' run falcon hi
drover info falcon >out 2>err
if grep -q '^tensors ' out; then ok; else fail "info shows what it can"; fi

# memory: how much is missing. 16 layers of 4 heads in F32 for 16 million positions: 512 GiB
tiny big tiny,vocab=512,layers=16,heads=4,kv_heads=4
says "too much memory" '[0-9.]+ MiB are needed .*, [0-9.]+ MiB are free: [0-9.]+ MiB are missing' \
    run big hi --ctx 16777216 --kv-type f32
if drover info big --ctx 16777216 --kv-type f32 2>err | grep -qE 'free now .* are missing; up to [0-9]+ positions would fit'; then ok; else fail "info: $(cat err)"; fi

# info's figures, and that they hold: private memory of a run with the context filled
drover info m --ctx 2048 --json >i.json && python3 - <<'END' && ok || fail "info --json: $(cat i.json)"
import json
d = json.load(open("i.json"))
m = d["memory"]
assert d["shape"]["layers"] == 2 and d["shape"]["vocabulary"] == 512 and d["types"]["BF16"]["tensors"] > 10
assert m["kv"] == 2 * 2 * 2 * 64 * 2048 * 2, m["kv"]
assert m["private"] == m["program"] + m["kv"] + m["workspace"] + m["scratch"] and m["fits"]
assert d["prompt_format"] == "llama3" and d["architecture"] == "llama"
END
drover info g.gguf >out 2>err; rc=$?
if [ $rc -eq 0 ] && grep -q '^tokenizer        none' out; then ok; else fail "a GGUF without a tokenizer: $rc $(cat err)"; fi
if drover info m --tensors | grep -qE '^BF16 +512x256	model.embed_tokens.weight$'; then ok; else fail "--tensors"; fi
if drover info g.gguf --meta | grep -qE '^llama.block_count +2$'; then ok; else fail "--meta"; fi
finish
