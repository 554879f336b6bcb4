#!/usr/bin/env python3
"""lm-evaluation-harness against drover serve, by log-probabilities and by generation: lmeval_client.py URL KEY
The task is a file of this folder: nothing is fetched. The log-probabilities that the harness gets are compared
with those of `drover logits` over the same ids, through numpy."""
# needs: lm-eval datasets tenacity aiohttp requests numpy
import json, math, os, subprocess, sys, tempfile
url, key = sys.argv[1], sys.argv[2]
os.environ.update(OPENAI_API_KEY=key, HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import numpy as np
import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
import requests

here = os.path.dirname(os.path.abspath(__file__))
head = {"Authorization": "Bearer " + key}
model = requests.get(url + "/v1/models", headers=head).json()["data"][0]["id"]


class Drover(LocalCompletionsAPI):
    """The harness gives the remote tokenizer no key by itself: it reads it from this property."""
    api_key = key


lm = Drover(base_url=url + "/v1/completions", model=model, tokenizer_backend="remote", num_concurrent=4, batch_size=4,
            max_length=2048, max_retries=1, auth_token=key)
with tempfile.TemporaryDirectory() as tmp:
    os.environ["HF_HOME"] = tmp
    text = open(here + "/lmeval/drover_facts.yaml").read().replace("FACTS", here + "/lmeval/facts.jsonl")
    open(tmp + "/drover_facts.yaml", "w").write(text)
    out = lm_eval.simple_evaluate(model=lm, tasks=["drover_facts"], num_fewshot=0, bootstrap_iters=0,
                                  task_manager=TaskManager(include_path=tmp, include_defaults=False),
                                  log_samples=True)
acc = out["results"]["drover_facts"]["acc,none"]
samples = out["samples"]["drover_facts"]
print("lm-eval %s: acc %.3f over %d questions" % (lm_eval.__version__, acc, len(samples)))
assert len(samples) == 20 and acc >= 0.7, "a model that answers finds the capital of France"


def encode(s):
    return requests.post(url + "/tokenize", headers=head, json={"prompt": s, "add_special_tokens": False}).json()["tokens"]


worst = 0.0
with tempfile.TemporaryDirectory() as tmp:
    for s in samples[:4]:
        context = s["doc"]["question"]
        for choice, got in zip(s["doc"]["choices"], s["filtered_resps"]):
            n, ids = len(encode(context)), encode(context + " " + choice)
            open(tmp + "/ids", "w").write(" ".join(map(str, ids)))
            subprocess.run([os.environ.get("DROVER", "drover"), "logits", os.environ.get("MODEL", "smollm2"), "--ids",
                            tmp + "/ids", "--kv-type", "f16", "--out", tmp + "/o.npy"], check=True, capture_output=True)
            x = np.load(tmp + "/o.npy").astype(np.float64)
            x -= x.max(-1, keepdims=True)
            p = x - np.log(np.exp(x).sum(-1, keepdims=True))
            want = sum(p[i - 1, ids[i]] for i in range(n, len(ids)))
            greedy = all(p[i - 1].argmax() == ids[i] for i in range(n, len(ids)))
            worst = max(worst, abs(want - float(got[0])))
            assert bool(got[1]) == greedy, (context, choice)
print("lm-eval: log-probabilities differ from those of drover logits by %.2g at most" % worst)
assert worst < 1e-4 and math.isfinite(worst)
one = lm.generate_until([Instance("generate_until", {}, ("The capital of France is", {"until": ["."], "max_gen_toks": 8}), 0)])
assert "Paris" in one[0] and "." not in one[0], one
print("lm-eval: 1 passed, 0 failed")
