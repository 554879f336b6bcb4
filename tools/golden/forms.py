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




def reference(folder, weights, ids):
    """transformers' float32 logits of these weights with this folder's config.json."""
    c = json.load(open(folder + "/config.json"))
    cfg = LlamaConfig(**{k: v for k, v in c.items() if k not in ("quantization_config", "torch_dtype",
                                                                 "architectures", "model_type")})
    m = LlamaForCausalLM(cfg).float()
    if c["tie_word_embeddings"]:
        weights = dict(weights, **{"lm_head.weight": weights["model.embed_tokens.weight"]})
    missing, extra = m.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    assert not extra and not missing, (missing, extra)
    with torch.no_grad():
        return m(torch.tensor([ids])).logits[0].numpy()


def close(got, want, what, bar=1e-4):
    d = float(np.abs(got - want).max() / want.std()) if got is not None else 9
    check(d <= bar, f"{what}: max difference {d:.2e} of the standard deviation")


def dequantised(w):
    """Weights of safetensors: f32(fp8) * f32(scale); scales and input scales dropped."""
    out = {}
    for k, v in w.items():
        if k.endswith(("_scale", "input_scale")):
            continue
        out[k] = v.float() * w[k + "_scale"].float() if k + "_scale" in w else v
    return out


def fp8_forms():
    shape = SHAPE.replace("layers=3", "layers=4")
    for t in ("FP8", "FP8_DYNAMIC"):
        rc, err = run("synth", "--shape", shape, "--type", t, "--seed", "4", "--out", "f8")
        check(rc == 0, f"synth {t} {err}")
        w = load_file("f8/model.safetensors")
        plain = logits("f8", IDS)
        w = upcast(w)
        save_file(w, "f8/model.safetensors")
        n = sum(v.dtype == torch.float8_e4m3fn for v in w.values())
        check(n == (6 if t == "FP8" else 28), f"{t}: {n} matrices of FP8")
        close(logits("f8", IDS), reference("f8", dequantised(w), IDS), t)
        # a scale for the whole, in bf16, or without a second dimension; input scales beside them
        one = {k: v.max().reshape(()) if k.endswith("_scale") else v for k, v in w.items()}
        flat = {k: v.reshape(-1) if k.endswith("_scale") else v for k, v in w.items()}
        half = {k: v.bfloat16() if k.endswith("_scale") else v for k, v in w.items()}
        for what, x in (("one scale", one), ("flat scales", flat), ("bf16 scales", half)):
            x = dict(x, **{k[:-len("weight_scale")] + "input_scale": torch.tensor(0.5)
                           for k in x if k.endswith("_scale")})
            save_file({k: v.contiguous() for k, v in x.items()}, "f8/model.safetensors")
            for k in x:
                if k.endswith("weight_scale") and x[k].dim() == 1:
                    x[k] = x[k].reshape(-1, 1)
            close(logits("f8", IDS), reference("f8", dequantised(x), IDS), f"{t}, {what}")
        if t != "FP8":
            continue
        save_file(w, "f8/model.safetensors")
        want = logits("f8", IDS)
        for n in (1, 2, 8, 16):
            shutil.rmtree("f8.pth", ignore_errors=True)
            rc, err = run("synth", "--shape", shape, "--type", "FP8", "--seed", "4", "--shards", str(n),
                          "--out", "f8.pth/")
            check(rc == 0, f"synth FP8, {n} shards {err}")
            if n == 1:
                check(np.array_equal(plain, logits("f8.pth", IDS)),
                      "FP8 of Meta's in one shard and fbgemm_fp8: same bits")
            rewrite("f8.pth", n)                       # by torch.save
            got = logits("f8.pth", IDS)
            m = merged("f8.pth", n, n // 8 or 1)
            close(got, reference("f8", to_hf(m, json.load(open("f8/config.json"))), IDS),
                  f"FP8 of Meta's in {n} shards")
            if n == 1:
                check(np.array_equal(got, want), "the same with the rest as F32")


def merged(folder, n, dup=1):
    """A Meta folder by torch.load, put together in float32, FP8 multiplied by its scales."""
    shards = []
    for r in range(n):
        d = torch.load(f"{folder}/consolidated.{r:02d}.pth", weights_only=True, mmap=True)
        s = f"{folder}/fp8_scales_{r}.pt"
        s = torch.load(s, weights_only=True) if os.path.exists(s) else {}
        for k in d:
            p = k.split(".")
            if d[k].dtype == torch.float8_e4m3fn:
                d[k] = d[k].float() * s[f"{p[1]}_feed_forward.{p[3]}_{r}"].float().reshape(-1, 1)
        shards.append(d)
    out = {}
    for k in shards[0]:
        x = [d[k] for d in shards]
        if k.endswith(("wk.weight", "wv.weight")):
            out[k] = torch.cat(x[::dup], 0)
        elif k.endswith(("wo.weight", "w2.weight")):
            out[k] = torch.cat(x, 1)
        elif x[0].dim() == 1:
            out[k] = x[0]
        else:
            out[k] = torch.cat(x, 0)
    return out


def to_hf(m, c):
    out = {}
    for k, w in m.items():
        for a, b in list(NAMES.items()) + [("model.embed_tokens", "tok_embeddings"),
                                           ("model.norm", "norm"), ("lm_head", "output")]:
            tail = "." + b + ".weight"
            if k.startswith("layers.") and k.endswith(tail):
                h = c["num_attention_heads"] if b == "attention.wq" else \
                    c["num_key_value_heads"] if b == "attention.wk" else 0
                if h:
                    w = w.reshape(h, w.shape[0] // h // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)
                out["model." + k[:-len(tail)] + "." + a + ".weight"] = w
            elif k == b + ".weight":
                out[a + ".weight"] = w
    return out


def upcast(d):
    """BF16 as F32, so that nothing but the reference's own rounding is left to differ: a BF16
    product rounds its input, docs/numerics.md."""
    return {k: v.float() if v.dtype == torch.bfloat16 and not k.endswith("_scale") else v
            for k, v in d.items()}


def rewrite(folder, n):
    for r in range(n):
        for f in (f"{folder}/consolidated.{r:02d}.pth", f"{folder}/fp8_scales_{r}.pt"):
            torch.save(upcast(torch.load(f, weights_only=True)), f)


def written():
    """What drover writes, as torch reads it."""
    for tied in (0, 1):
        for t in ("F32", "F16", "BF16"):
            run("synth", "--shape", SHAPE + f",tied={tied}", "--type", t, "--seed", "5", "--out", "hf")
            c, want = to_meta("hf")
            for n in (1, 2, 8, 16):
                shutil.rmtree("w.pth", ignore_errors=True)
                rc, err = run("synth", "--shape", SHAPE + f",tied={tied}", "--type", t, "--seed", "5",
                              "--shards", str(n), "--out", "w.pth/")
                m = merged("w.pth", n, n // 8 or 1)
                if tied:
                    want = dict(want, **{"output.weight": want["tok_embeddings.weight"]})
                check(rc == 0 and m.keys() == want.keys() and all(
                    m[k].dtype == want[k].dtype and torch.equal(m[k], want[k]) for k in m),
                    f"torch.load of drover's {t}, {n} shards, tied {tied} {err}")
                a = logits("hf", IDS)
                check(np.array_equal(a, logits("w.pth", IDS)), f"logits of drover's {t}, {n} shards")
    d = torch.load("w.pth/consolidated.00.pth", weights_only=True)
    check(d["output.weight"].data_ptr() == d["tok_embeddings.weight"].data_ptr(),
          "tied heads share a storage")
    run("synth", "--shape", SHAPE, "--type", "F32", "--seed", "5", "--out", "hf")
    w = load_file("hf/model.safetensors")
    close(logits("hf", IDS), reference("hf", w, IDS), "F32, for comparison")


def bins():
    """Hugging Face's pytorch_model.bin as save_pretrained of older transformers wrote it."""
    for tied in (0, 1):
        run("synth", "--shape", SHAPE + f",tied={tied}", "--type", "BF16", "--seed", "6", "--out", "hf")
        w = load_file("hf/model.safetensors")
        if tied:
            w["lm_head.weight"] = w["model.embed_tokens.weight"]
        shutil.rmtree("bin", ignore_errors=True)
        os.makedirs("bin")
        shutil.copy("hf/config.json", "bin")
        torch.save(w, "bin/pytorch_model.bin")
        want = logits("hf", IDS)
        check(np.array_equal(logits("bin", IDS), want), f"pytorch_model.bin, tied {tied}")
        os.remove("bin/pytorch_model.bin")
        names, wmap = sorted(w), {}
        for i in range(3):
            f = f"pytorch_model-{i + 1:05d}-of-00003.bin"
            part = {k: w[k] for k in names[i::3]}
            torch.save(part, "bin/" + f)
            wmap.update({k: f for k in part})
        json.dump({"metadata": {}, "weight_map": wmap}, open("bin/pytorch_model.bin.index.json", "w"))
        check(np.array_equal(logits("bin", IDS), want), f"pytorch_model.bin in three, tied {tied}")


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
meta_forms()
bins()
written()
fp8_forms()
print(f"{failed} failed")
sys.exit(failed > 0)
