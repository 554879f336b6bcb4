#!/bin/sh
# lora.sh - adapters from the command line: `--lora` of run, logits, perplexity, bench and info; `merge`.
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"

have python3 || { skip "needs python3"; finish; exit; }

# peft FOLDER SEED KEY=VALUE...: a PEFT adapter of the tiny shape, as peft's save_pretrained lays it out
cat >peft.py <<'PY'
import json, os, random, struct, sys
out, seed, extra = sys.argv[1], int(sys.argv[2]), dict(w.split("=", 1) for w in sys.argv[3:])
dims = json.load(open("base/config.json"))
C, F, L = dims["hidden_size"], dims["intermediate_size"], dims["num_hidden_layers"]
hs = dims.get("head_dim") or C // dims["num_attention_heads"]
Q, K = dims["num_attention_heads"] * hs, dims["num_key_value_heads"] * hs
random.seed(seed)
head, data = {}, bytearray()
for l in range(L):
    for name, rows, cols in (("self_attn.q_proj", Q, C), ("self_attn.k_proj", K, C), ("mlp.down_proj", C, F)):
        for part, shape in (("A", (4, cols)), ("B", (rows, 4))):
            n = shape[0] * shape[1]
            head["base_model.model.model.layers.%d.%s.lora_%s.weight" % (l, name, part)] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * n]}
            data += struct.pack("<%df" % n, *(random.gauss(0, 0.2) for _ in range(n)))
text = json.dumps(head).encode()
os.makedirs(out, exist_ok=True)
open(out + "/adapter_model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
json.dump(dict(peft_type="LORA", r=4, lora_alpha=8, bias="none", **{k: json.loads(v) for k, v in extra.items()}),
          open(out + "/adapter_config.json", "w"))
PY
peft() { python3 peft.py "$@"; }
same() { what=$1; shift; if "$@" 2>err; then ok; else fail "$what $(cat err)"; fi; }
refused() {                       # TEXT COMMAND...: status 1, and one sentence with TEXT
    text=$1; shift
    "$@" >out 2>err; rc=$?
    if [ $rc -eq 1 ] && grep -qF -- "$text" err && [ "$(wc -l <err)" -eq 1 ]; then ok
    else fail "status $rc, \"$(cat err)\"; wanted \"$text\": $*"; fi
}

tiny base tiny,vocab=512,ctx=2048 --type F32
drover synth --shape tiny,vocab=512,ctx=2048 --type F32 --out base.gguf -q      # the same weights, no tokenizer
peft one 1 && peft two 2
echo 1 5 9 2 44 7 3 100 250 17 >ids
log() { out=$1 model=$2; shift 2; drover logits "$model" --ids ids --out "$out" "$@"; }

log none.npy base && log a.npy base --lora one && log b.npy base.gguf --lora one -t 3 --chunk 3
same "GGUF and safetensors bases differ" cmp a.npy b.npy
if cmp -s none.npy a.npy; then fail "the adapter changes nothing"; else ok; fi
log b.npy base --lora one:0
same "scale 0 is not the base" cmp none.npy b.npy
log a.npy base --lora one --lora two:0.5 && log b.npy base.gguf --lora one:1 --lora two:0.5
same "two adapters differ by base" cmp a.npy b.npy
plain=$(drover run base hello --raw -n 6 --temp 0 -q) && with=$(drover run base hello --raw -n 6 --temp 0 -q --lora one)
if [ "$plain" != "$with" ]; then ok; else fail "run --lora answers as before: $with"; fi
p=$(drover perplexity base --ids ids --ctx 10 --json) && q=$(drover perplexity base --ids ids --ctx 10 --json --lora one)
if [ "$p" != "$q" ] && [ -n "$q" ]; then ok; else fail "perplexity --lora: $q"; fi
same "bench --lora" drover bench base -p 8 -n 2 -r 1 --lora one >/dev/null
if drover info base --lora one --json | grep -qE '"adapters": [1-9][0-9]{4,}'; then ok; else fail "info --lora"; fi

refused "adapter nothing: cannot open" drover logits base --ids ids --out x.npy --lora nothing
refused "there is no adapter_model.safetensors in it" drover logits base --ids ids --out x.npy --lora base
refused "is no LoRA adapter" drover run base.gguf hello --raw -n 1 --lora base.gguf
peft dora 1 use_dora=true
refused "use_dora is set" drover run base hello --raw -n 1 --lora dora
drover synth --shape tiny,vocab=512,ffn=96 --type F32 --out other -q
refused "it was made for another model" drover logits other --ids ids --out x.npy --lora one
head -c 3000 one/adapter_model.safetensors >cut && mkdir cutdir && cp cut cutdir/adapter_model.safetensors &&
    cp one/adapter_config.json cutdir/
refused "cutdir" drover logits base --ids ids --out x.npy --lora cutdir

# ---- merge

# near A.npy B.npy LIMIT: the largest difference over the standard deviation of A is at most LIMIT;
# mean OUT A B SHARE: OUT's tensors are the shares of A's and B's, within an ulp or so (F32 folders)
cat >near.py <<'PY'
import json, struct, sys
def npy(path):
    b = open(path, "rb").read()
    return struct.unpack("<%df" % ((len(b) - 128) // 4), b[128:])
def tensors(path):
    b = open(path + "/model.safetensors", "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    return {k: struct.unpack("<%df" % ((v["data_offsets"][1] - v["data_offsets"][0]) // 4),
                             b[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in json.loads(b[8:8 + n]).items() if k != "__metadata__"}
if sys.argv[1] == "near":
    a, b = npy(sys.argv[2]), npy(sys.argv[3])
    m = sum(a) / len(a)
    std = (sum((x - m) ** 2 for x in a) / len(a)) ** 0.5
    off = max(abs(x - y) for x, y in zip(a, b)) / std
    sys.exit("off by %.2e" % off if len(a) != len(b) or not off <= float(sys.argv[4]) else 0)
out, a, b, p = tensors(sys.argv[2]), tensors(sys.argv[3]), tensors(sys.argv[4]), float(sys.argv[5])
assert out.keys() == a.keys() == b.keys() and len(out) > 10
for k in out:
    for x, y, z in zip(out[k], a[k], b[k]):
        assert abs(x - (p * y + (1 - p) * z)) <= 1e-7 * (abs(y) + abs(z)), k
PY
near() { python3 near.py near "$@"; }

log un.npy base --lora one --lora two:0.5
for to in m.gguf m mm.pth; do
    for in in base base.gguf; do
        drover merge $in $to --lora one --lora two:0.5 -q --force 2>err || fail "merge $in $to: $(cat err)"
        log m.npy $to && same "merged $in into $to:" near un.npy m.npy 1e-5
    done
done
drover merge base.gguf t.gguf --lora one --lora two:0.5 -q -t 3
same "the number of threads" cmp m.gguf t.gguf
drover merge base half --lora one --type bf16 -q && drover merge base.gguf half2 --lora one --type bf16 -q &&
    same "bf16 from another container" cmp half/model.safetensors half2/model.safetensors
drover convert base q.gguf --type f16 -q && drover merge q.gguf q16.gguf --lora one -q &&
    if drover info q16.gguf --json | grep -q '"F16"'; then ok; else fail "a merged tensor does not keep its type"; fi

tiny other tiny,vocab=512,ctx=2048 --type F32 --seed 5
drover merge base base same -q && same "the average of a model with itself" cmp base/model.safetensors same/model.safetensors
drover merge base other mean -q && same "mean" python3 near.py mean mean base other 0.5
drover convert other other.gguf -q && drover merge base other.gguf mixed -q &&
    same "mean over containers" cmp mean/model.safetensors mixed/model.safetensors
drover merge base other shares --weights 3,1 -q && same "shares" python3 near.py mean shares base other 0.75
drover merge base.gguf other.gguf other mean3.gguf -q -t 1 && drover merge base.gguf other.gguf other mean4.gguf -q -t 3 &&
    same "threads of an average" cmp mean3.gguf mean4.gguf
same "the tokenizer goes along" cmp base/tokenizer.model mean/tokenizer.model

drover synth --shape tiny,vocab=512,ffn=96 --type F32 --out ffn -q
refused "cannot be averaged: feed-forward width" drover merge base ffn x
cp -r other tok && awk 'NR == 7 { a = $1; next } NR == 8 { print $1, 6; print a, 7; next } { print }' other/tokenizer.model >tok/tokenizer.model
refused "different tokenizers: token 6" drover merge base tok x
drover synth --shape tiny,vocab=512,bias=1 --type F32 --out biased -q
refused "q_proj.bias" drover merge base biased x -q
refused "sum of 0" drover merge base other x --weights 1,-1
refused "m.gguf is there already" drover merge base m.gguf --lora one
for wrong in "base x" "base other x --lora one" "base x --lora one --weights 1" "base other x --weights 1,y"; do
    # shellcheck disable=SC2086
    drover merge $wrong >out 2>err; rc=$?
    case $wrong in *y) want=1 ;; *) want=2 ;; esac
    if [ $rc -eq $want ] && [ ! -e x ]; then ok; else fail "merge $wrong: $rc $(cat err)"; fi
done
drover synth --shape tiny,vocab=512,ctx=2048,tied=1 --type F32 --out tied -q
sed 's/(("self_attn.q_proj", Q, C).*):/(("x", 0, 0),)[:0]:/' peft.py | sed 's|^text = |V = dims["vocab_size"]\nfor part, shape in (("A", (4, C)), ("B", (V, 4))):\n    n = shape[0] * shape[1]\n    head["base_model.model.lm_head.lora_%s.weight" % part] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * n]}\n    data += struct.pack("<%df" % n, *(random.gauss(0, 0.2) for _ in range(n)))\n&|' >head.py
python3 head.py head 3 || fail head.py
refused "one tensor in this base" drover merge tied x --lora head -q
log t.npy tied --lora head && log u.npy tied && if cmp -s t.npy u.npy; then fail "head of a tied model"; else ok; fi
finish
