#!/usr/bin/env python3
"""Hold drover's reading of official forms against torch and transformers.

usage: forms.py DROVER WORKDIR

Random models are made by drover synth as safetensors; torch.save writes them as Meta's folders of
1, 2, 4, 8 and 16 shards (Llama 3's and Llama 2's cut of the embeddings, 16 shards with every
key/value head twice, and with params.json counting the copies), drover writes its own, and logits
of every form must be the same bits. FP8 in its forms (fbgemm_fp8, compressed-tensors per row and
per tensor, Meta's fp8_scales) must agree with transformers on weights dequantised in float32,
within 1e-4 of the logits' standard deviation. What drover writes is loaded with torch.load
(weights_only=True) and compared. Needs torch, transformers, safetensors, numpy.
Exit 1 if a case fails."""
import json, os, shutil, subprocess, sys
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

drover, work = os.path.abspath(sys.argv[1]), sys.argv[2]
os.makedirs(work, exist_ok=True)
os.chdir(work)
failed = 0


def check(ok, what):
    global failed
    failed += not ok
    print(("ok      " if ok else "FAILED  ") + what, flush=True)


def run(*a):
    r = subprocess.run([drover, *a], capture_output=True, text=True)
    return r.returncode, r.stderr.strip()


def logits(path, ids):
    with open("ids", "w") as f:
        f.write(" ".join(map(str, ids)))
    rc, err = run("logits", path, "--ids", "ids", "--out", "l.npy")
    if rc:
        check(False, f"{path}: {err}")
        return None
    return np.load("l.npy")


NAMES = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk",
         "self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo",
         "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
         "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
         "post_attention_layernorm": "ffn_norm"}


def meta_name(n):
    for a, b in (("model.embed_tokens", "tok_embeddings"), ("model.norm", "norm"),
                 ("lm_head", "output")):
        if n.startswith(a + "."):
            return b + ".weight"
    p = n.split(".")
    return f"layers.{p[2]}.{NAMES['.'.join(p[3:-1])]}.weight"


def unpermute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


def to_meta(folder):
    c = json.load(open(folder + "/config.json"))
    out = {}
    for n, w in sorted(load_file(folder + "/model.safetensors").items()):
        if "q_proj" in n:
            w = unpermute(w, c["num_attention_heads"])
        if "k_proj" in n:
            w = unpermute(w, c["num_key_value_heads"])
        out[meta_name(n)] = w.contiguous()
    return c, out


def params_of(c, **more):
    p = {"dim": c["hidden_size"], "n_layers": c["num_hidden_layers"],
         "n_heads": c["num_attention_heads"], "n_kv_heads": c["num_key_value_heads"],
         "vocab_size": c["vocab_size"], "norm_eps": c["rms_norm_eps"],
         "rope_theta": c["rope_theta"], "multiple_of": 32}
    f = c["intermediate_size"]
    p["ffn_dim_multiplier"] = (f - 16) / int(8 * p["dim"] / 3)
    if c["rope_scaling"]:
        p["use_scaled_rope"] = True
    p.update(more)
    return p


def split(m, n, dup=1, emb=0):
    """The shards of model m; dup: shards that hold the same key/value head."""
    for r in range(n):
        d = {}
        for k, w in m.items():
            if k.endswith(("wk.weight", "wv.weight")):
                w = w.chunk(n // dup, 0)[r // dup]
            elif k == "tok_embeddings.weight":
                w = w.chunk(n, emb)[r]
            elif k.endswith(("wq.weight", "w1.weight", "w3.weight")) or k == "output.weight":
                w = w.chunk(n, 0)[r]
            elif k.endswith(("wo.weight", "w2.weight")):
                w = w.chunk(n, 1)[r]
            d[k] = w.clone().contiguous()
        yield d


def write_meta(folder, m, params, n, dup=1, emb=0, wrap=dict):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    json.dump(params, open(folder + "/params.json", "w"))
    for r, d in enumerate(split(m, n, dup, emb)):
        torch.save(wrap(d), f"{folder}/consolidated.{r:02d}.pth")


SHAPE = ("dim=512,layers=3,heads=16,kv_heads=8,head_dim=32,ffn=1024,vocab=512,ctx=131072,std=0.05,"
         "theta=500000,rope_factor=32,rope_orig=8192")
rng = np.random.default_rng(5)
IDS = [int(x) for x in rng.integers(0, 512, 90)]


def meta_forms():
    for t in ("F32", "BF16", "F16"):
        rc, err = run("synth", "--shape", SHAPE, "--type", t, "--seed", "3", "--out", "hf")
        check(rc == 0, f"synth {t} {err}")
        want = logits("hf", IDS)
        c, m = to_meta("hf")
        p = params_of(c)
        for n, dup, emb, more in ((1, 1, 0, {}), (2, 1, 0, {}), (4, 1, 1, {}), (8, 1, 0, {}),
                                  (8, 1, 1, {"vocab_size": -1}), (16, 2, 0, {}),
                                  (16, 2, 0, {"n_kv_heads": 16})):
            write_meta("meta", m, dict(p, **more), n, dup, emb)
            got = logits("meta", IDS)
            check(got is not None and np.array_equal(got, want),
                  f"{t}: torch.save, {n} shards, embeddings cut along {emb}, {more}")
        write_meta("meta", m, {"model": p}, 2, 1, 0, lambda d: torch.nn.ParameterDict(
            {k.replace(".", "/"): torch.nn.Parameter(v) for k, v in d.items()}).state_dict())
    # shared storages, offsets, tied heads, parameters, protocol 4
    big = torch.cat([m[f"layers.{l}.attention.wq.weight"].flatten() for l in range(3)])
    s = dict(m)
    k = 512 * 512
    for l in range(3):
        s[f"layers.{l}.attention.wq.weight"] = big[l * k:(l + 1) * k].view(512, 512)
    s["norm.weight"] = torch.nn.Parameter(s["norm.weight"])
    s["rope.freqs"] = torch.ones(16)
    shutil.rmtree("meta")
    os.makedirs("meta")
    json.dump(p, open("meta/params.json", "w"))
    for proto in (2, 3, 4, 5):
        torch.save(s, "meta/consolidated.00.pth", pickle_protocol=proto)
        got = logits("meta", IDS)
        check(got is not None and np.array_equal(got, want), f"shared storages, protocol {proto}")
    s["tok_embeddings.weight"] = m["tok_embeddings.weight"].t().contiguous().t()
    torch.save(s, "meta/consolidated.00.pth")
    rc, err = run("logits", "meta", "--ids", "ids", "--out", "l.npy")
    check(rc == 1 and "transposed or with gaps" in err, "transposed: " + err)
    torch.save(m, "meta/consolidated.00.pth", _use_new_zipfile_serialization=False)
    rc, err = run("logits", "meta", "--ids", "ids", "--out", "l.npy")
    check(rc == 1 and "before version 1.6" in err, "legacy: " + err)


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
meta_forms()
print(f"{failed} failed")
sys.exit(failed > 0)
