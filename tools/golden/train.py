#!/usr/bin/env python3
"""Loss, log-probabilities and every gradient of whole models, in float64, for tests/golden/train.c.

usage: train.py OUTDIR [--large | --model FOLDER]     tests/golden/data holds what `train.py tests/golden/data` makes

The reference is written out below in plain PyTorch at float64, documents one after another on their
own; its forward is first held against transformers' LlamaForCausalLM at float32. What transformers
makes of the same gradients at float32, and under bfloat16 autocast, goes into the file beside them:
the yardstick of the bf16 test. Weights, tokens, targets and weights of losses are a hash of their
place (`value` below; the test computes the same), so that only gradients are stored.
--large: shapes of the size of real models' layers, hundreds of megabytes, not for the repository;
`build/release/tests/golden/train OUTDIR avx512` judges them. --model: weights of a Hugging Face folder
(F32 safetensors, as `drover convert MODEL FOLDER --type F32` writes them) on the first 512 tokens of
a text of the folder's tokenizer, in three documents.
Made with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6."""
import json, os, sys
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
LLAMA3 = dict(factor=8.0, low=1.0, high=4.0, orig=64)
SMALL = [
    dict(name="tied", V=64, C=32, L=2, nh=2, nkv=1, hs=16, F=48, tied=True, theta=1e4, rope=None,
         docs=[70, 1, 33], weighted=False),
    dict(name="untied", V=51, C=32, L=2, nh=4, nkv=2, hs=16, F=40, tied=False, theta=5e5, rope=LLAMA3,
         docs=[5, 130, 2, 17, 66], weighted=True),
]
LARGE = [
    dict(name="smol4", V=4096, C=576, L=4, nh=9, nkv=3, hs=64, F=1536, tied=True, theta=1e5, rope=None,
         docs=[300, 7, 205], weighted=False),
    dict(name="deep", V=500, C=256, L=12, nh=4, nkv=2, hs=64, F=704, tied=False, theta=5e5, rope=LLAMA3,
         docs=[700, 1, 1, 322], weighted=True),
    dict(name="w768", V=8192, C=768, L=2, nh=12, nkv=12, hs=64, F=2048, tied=False, theta=1e4, rope=None,
         docs=[512], weighted=False),
    dict(name="h128", V=1000, C=512, L=2, nh=4, nkv=1, hs=128, F=1000, tied=True, theta=5e5, rope=LLAMA3,
         docs=[1100, 60], weighted=True),
    dict(name="long", V=130, C=128, L=2, nh=2, nkv=2, hs=64, F=200, tied=True, theta=1e4, rope=None,
         docs=[2300, 100], weighted=False),
]
EPS, STD, CTX = 1e-5, 0.08, 4096


def hash32(stream, n):
    """lowbias32 (C. Wellons, hash-prospector) of place i in a stream."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint32) + np.uint32(0x9E3779B9 * (stream + 1) & 0xFFFFFFFF)
        x ^= x >> np.uint32(16); x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15); x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    return x


def value(stream, n):
    """In [-1, 1), exact in float32."""
    return ((hash32(stream, n) >> np.uint32(8)).astype(np.float32) * np.float32(2 ** -23)
            - np.float32(1)).astype(np.float32)


def names(c):
    out = [("model.embed_tokens.weight", (c["V"], c["C"])), ("model.norm.weight", (c["C"],))]
    if not c["tied"]:
        out.append(("lm_head.weight", (c["V"], c["C"])))
    Q, K, C, Fw = c["nh"] * c["hs"], c["nkv"] * c["hs"], c["C"], c["F"]
    for l in range(c["L"]):
        p = f"model.layers.{l}."
        out += [(p + "input_layernorm.weight", (C,)), (p + "self_attn.q_proj.weight", (Q, C)),
                (p + "self_attn.k_proj.weight", (K, C)), (p + "self_attn.v_proj.weight", (K, C)),
                (p + "self_attn.o_proj.weight", (C, Q)), (p + "post_attention_layernorm.weight", (C,)),
                (p + "mlp.gate_proj.weight", (Fw, C)), (p + "mlp.up_proj.weight", (Fw, C)),
                (p + "mlp.down_proj.weight", (C, Fw))]
    return out


def weights(c):
    if "model" in c:
        from safetensors.numpy import load_file
        w = load_file(os.path.join(c["model"], "model.safetensors"))
        return {n: w[n] for n, _ in names(c)}
    w = {}
    for i, (n, shape) in enumerate(names(c)):
        v = value(i, int(np.prod(shape)))
        v = v * np.float32(STD) if len(shape) == 2 else np.float32(1) + v * np.float32(0.25)
        w[n] = v.reshape(shape)
    return w


def batch(c):
    n = sum(c["docs"])
    tok = (hash32(1000, n) % np.uint32(c["V"])).astype(np.int64)
    if "ids" in c:
        tok = np.array(c["ids"], np.int64)
    tgt = np.full(n, -1, np.int64)
    at = 0
    for d in c["docs"]:                                  # the next token; the last has none
        tgt[at:at + d - 1] = tok[at + 1:at + d]
        at += d
    if c["docs"][-1] > 1:
        tgt[n - 1] = tok[0]
    skip = hash32(1001, n) % np.uint32(7) == 0           # some are masked
    tgt[skip] = -1
    wt = ((hash32(1002, n) % np.uint32(5)).astype(np.float32) * np.float32(0.25)) if c["weighted"] \
        else np.ones(n, np.float32)
    return tok, tgt, wt


def config(c):
    rope = {"rope_theta": c["theta"], "rope_type": "default"}
    if c["rope"]:
        r = c["rope"]
        rope = {"rope_theta": c["theta"], "rope_type": "llama3", "factor": r["factor"],
                "low_freq_factor": r["low"], "high_freq_factor": r["high"],
                "original_max_position_embeddings": r["orig"]}
    return LlamaConfig(vocab_size=c["V"], hidden_size=c["C"], intermediate_size=c["F"],
                       num_hidden_layers=c["L"], num_attention_heads=c["nh"],
                       num_key_value_heads=c["nkv"], head_dim=c["hs"], max_position_embeddings=CTX,
                       rms_norm_eps=EPS, tie_word_embeddings=c["tied"], rope_parameters=rope)


def rope_table(c, T):
    """cos, sin (T,hs/2) as transformers has them: float32."""
    m = LlamaForCausalLM(config(c))
    cos, sin = m.model.rotary_emb(torch.zeros(1, T, c["C"]), torch.arange(T)[None])
    h = c["hs"] // 2
    return cos[0, :, :h].double(), sin[0, :, :h].double()


def norm(x, w):
    return w * x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS)


def of_folder(folder):
    from transformers import AutoTokenizer
    with open(os.path.join(folder, "config.json")) as f:
        j = json.load(f)
    assert not j.get("rope_scaling") and abs(j["rms_norm_eps"] - EPS) < 1e-12, "not written out here"
    text = open(__file__).read()
    ids = AutoTokenizer.from_pretrained(folder)(text)["input_ids"][:512]
    theta = j.get("rope_theta") or j["rope_parameters"]["rope_theta"]
    return dict(name="model", model=os.path.abspath(folder), V=j["vocab_size"], C=j["hidden_size"],
                L=j["num_hidden_layers"], nh=j["num_attention_heads"], nkv=j["num_key_value_heads"],
                hs=j.get("head_dim") or j["hidden_size"] // j["num_attention_heads"],
                F=j["intermediate_size"], tied=j["tie_word_embeddings"], theta=theta, rope=None,
                docs=[300, 7, 205], weighted=False, ids=ids)


def forward64(c, w, tok, cos, sin):
    """(T,V) logits of one document."""
    T, nh, nkv, hs, h = len(tok), c["nh"], c["nkv"], c["hs"], c["hs"] // 2
    x = w["model.embed_tokens.weight"][tok]
    cs, sn = cos[:T, None], sin[:T, None]

    def turn(a):
        a1, a2 = a[..., :h], a[..., h:]
        return torch.cat([a1 * cs - a2 * sn, a2 * cs + a1 * sn], -1)
    mask = torch.full((T, T), float("-inf"), dtype=torch.float64).triu(1)
    for l in range(c["L"]):
        p = f"model.layers.{l}."
        n = norm(x, w[p + "input_layernorm.weight"])
        q = turn((n @ w[p + "self_attn.q_proj.weight"].T).view(T, nh, hs))
        k = turn((n @ w[p + "self_attn.k_proj.weight"].T).view(T, nkv, hs))
        v = (n @ w[p + "self_attn.v_proj.weight"].T).view(T, nkv, hs)
        k, v = (a.repeat_interleave(nh // nkv, 1) for a in (k, v))
        s = torch.einsum("qhd,khd->hqk", q, k) / hs ** 0.5 + mask
        o = torch.einsum("hqk,khd->qhd", s.softmax(-1), v).reshape(T, nh * hs)
        x = x + o @ w[p + "self_attn.o_proj.weight"].T
        n = norm(x, w[p + "post_attention_layernorm.weight"])
        x = x + (F.silu(n @ w[p + "mlp.gate_proj.weight"].T) *
                 (n @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
    head = w["model.embed_tokens.weight"] if c["tied"] else w["lm_head.weight"]
    return norm(x, w["model.norm.weight"]) @ head.T


def run(c, logits_of, params, tok, tgt, wt):
    """Sum of weighted losses, log-probabilities (0 where there is no target), gradients."""
    at, total, logp = 0, 0.0, np.zeros(len(tok))
    for d in c["docs"]:
        t, y, a = tok[at:at + d], tgt[at:at + d], wt[at:at + d]
        lp = logits_of(torch.from_numpy(t)).log_softmax(-1)
        on = torch.from_numpy(y >= 0)
        got = lp[torch.arange(d), torch.from_numpy(np.maximum(y, 0))]
        loss = -(got * on * torch.from_numpy(a).to(got.dtype)).sum()
        loss.backward()
        total += float(loss.detach())
        logp[at:at + d] = (got * on).detach().double().numpy()
        at += d
    return total, logp, {n: p.grad.detach().double().numpy() for n, p in params.items()}


def hf(c, w, autocast):
    m = LlamaForCausalLM(config(c))
    m.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in w.items()}, strict=not c["tied"])
    m.tie_weights()
    p = dict(m.named_parameters())

    def logits_of(t):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return m(t[None]).logits[0].float()
    return logits_of, {n: p[n] for n in w}


def rel(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)) if np.linalg.norm(b) else float(np.abs(a).max())


def main():
    out, cases = sys.argv[1], LARGE if "--large" in sys.argv else SMALL
    if "--model" in sys.argv:
        cases = [of_folder(sys.argv[sys.argv.index("--model") + 1])]
    os.makedirs(out, exist_ok=True)
    table = []
    for c in cases:
        w, (tok, tgt, wt) = weights(c), batch(c)
        cos, sin = rope_table(c, max(c["docs"]))
        p64 = {n: torch.from_numpy(a).double().requires_grad_() for n, a in w.items()}
        loss, logp, g = run(c, lambda t: forward64(c, p64, t, cos, sin), p64, tok, tgt, wt)
        l32, lp32, g32 = run(c, *hf(c, w, False), tok, tgt, wt)
        l16, lp16, g16 = run(c, *hf(c, w, True), tok, tgt, wt)
        assert abs(l32 - loss) / loss < 1e-5, (l32, loss)        # the same function
        e32 = {n: rel(g32[n], g[n]) for n in g}
        e16 = {n: rel(g16[n], g[n]) for n in g}
        weight = float(wt[tgt >= 0].astype(np.float64).sum())
        save_file({n: a.astype(np.float32) for n, a in g.items()} | {"logp": logp.astype(np.float32)},
                  os.path.join(out, f"train_{c['name']}.safetensors"))
        table.append(c | dict(std=STD, eps=EPS, ctx=CTX, loss=loss, weight=weight,
                              torch32=e32, autocast=e16, autocast_loss=l16))
        print(f"{c['name']}: loss {loss:.9f} / {weight}; torch fp32 {l32 - loss:+.2e}, gradients off by "
              f"{max(e32.values()):.2e} at most; autocast {l16 - loss:+.2e}, {np.median(list(e16.values())):.2e} "
              f"median, {max(e16.values()):.2e} at most")
    with open(os.path.join(out, "train.json"), "w") as f:
        json.dump(dict(torch=torch.__version__, cases=table), f, indent=1)


if __name__ == "__main__":
    main()
