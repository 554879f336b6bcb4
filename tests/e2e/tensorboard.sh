#!/bin/sh
# tensorboard.sh - the event files of a run, read back by the tensorboard package, say what log.jsonl
# says; after a run that went on, too. PYTHON=… names a Python that has the package.
. "$(dirname "$0")/../lib/e2e.sh"
py=${PYTHON:-python3}
"$py" -c 'import tensorboard' 2>/dev/null || { skip "no Python with tensorboard is here"; finish; }

printf 'To be, or not to be: that is the question.\n' >t.txt
cp "$SRC/tests/data/tokenizers/small.json" tokenizer.json
drover synth --shape dim=32,layers=1,heads=2,kv_heads=1,ffn=64,vocab=451,ctx=64,tied=1 --type F32 --tokenizer tokenizer.json --out init
drover prep tokenizer.json t.txt -o shards -q >/dev/null
cat >r.yaml <<'END'
out: run
precision: f32
model: {init: init, random: true}
data: [{path: shards}]
eval: {path: shards, every: 3}
checkpoint: {every: 4}
phases:
  - {until_tokens: 384, seq: 16, batch_tokens: 32, peak: 1e-2}
END
cat >compare.py <<'END'
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
tags = {"train/loss": "loss", "train/grad_norm": "grad_norm", "train/lr": "lr",
        "speed/tokens_per_s": "tokens_per_s", "eval/loss": "eval_loss"}
log = [json.loads(x) for x in open("run/log.jsonl")]
acc = EventAccumulator("run/tb", size_guidance={"scalars": 0})
acc.Reload()
bad = 0
for tag, key in tags.items():
    want = {x["step"]: x[key] for x in log if x.get(key) is not None and (x["step"] or key == "eval_loss")}
    got = {}
    for s in acc.Scalars(tag):
        bad += s.step in got                 # each step once, although it was taken twice
        got[s.step] = s.value
    bad += want.keys() != got.keys()
    bad += sum(abs(got.get(k, 1e9) - v) > 1e-6 * abs(v) for k, v in want.items())
print(len(log), "steps,", bad, "differences")
sys.exit(bad != 0 or len(log) != 13)
END
drover train r.yaml -q || fail "training failed"
if "$py" compare.py >log 2>&1; then ok; else fail "$(tail -1 log)"; fi
# back to step 8: steps 9 to 12 are taken again, and their first values are void
rm -r run/checkpoints/step-00000012
sleep 1
drover train r.yaml -q 2>/dev/null || fail "going on failed"
if "$py" compare.py >log 2>&1; then ok; else fail "after going on: $(tail -1 log)"; fi
finish
