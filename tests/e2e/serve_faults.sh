#!/bin/sh
# serve_faults.sh - drover serve under faults (serve_faults.py) on a random model that is slow enough to be interrupted.
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"
have python3 || { skip "python3 is not here"; finish; }
tiny slow dim=384,layers=6,heads=6,kv_heads=2,head_dim=64,ffn=1024,vocab=512,ctx=8192 --type BF16 || { fail "no model"; finish; }
# an adapter, as peft's save_pretrained lays it out
python3 - <<'EOF2'
import json, os, random, struct
random.seed(1)
head, data = {}, bytearray()
for l in range(6):
    for part, shape in (("A", (4, 384)), ("B", (384, 4))):
        n = shape[0] * shape[1]
        head["base_model.model.model.layers.%d.self_attn.q_proj.lora_%s.weight" % (l, part)] = {
            "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * n]}
        data += struct.pack("<%df" % n, *(random.gauss(0, 0.2) for _ in range(n)))
text = json.dumps(head).encode()
os.mkdir("adapter")
open("adapter/adapter_model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
json.dump({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}, open("adapter/adapter_config.json", "w"))
EOF2
python3 "$SRC/tests/e2e/serve_faults.py" "$SRC" "$prog" slow "$PWD/adapter" | tee log
passed=$(sed -n 's/^\([0-9]*\) passed.*/\1/p' log | awk '{n+=$1} END {print n+0}')
failed=$(sed -n 's/.* \([0-9]*\) failed.*/\1/p' log | awk '{n+=$1} END {print n+(NR==0)}')
skipped=$(sed -n 's/.* \([0-9]*\) skipped$/\1/p' log | awk '{n+=$1} END {print n+0}')
finish
