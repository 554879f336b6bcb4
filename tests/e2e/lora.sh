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
drover convert base base.gguf -q 2>err || fail "convert: $(cat err)"
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
finish
