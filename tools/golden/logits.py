#!/usr/bin/env python3
"""Hold drover's logits against transformers, on random models of many shapes.

usage: logits.py DROVER WORKDIR [--golden DIR] [--only NAME,NAME]

For each shape a random model is written as a Hugging Face folder and as GGUF, in F32 and F16;
transformers gives logits in float32 and float64, drover in both containers. A line a case:
max |drover - fp32| over the standard deviation of the logits, the distance of transformers'
own fp32 from its fp64, and drover's from fp64. Holds when the first is <= 1e-4 or the last is
<= 3x the second. --golden writes the two smallest cases, with their expected logits, as files
for tests/golden. Needs torch, transformers, gguf, safetensors, numpy. Exit 1 if a case fails."""
import json, os, subprocess, sys
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
import transformers
import gguf

LLAMA3 = lambda f: {"rope_type": "llama3", "factor": f, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
#        name        V    C   L  nh nkv hs   F  tied  theta   scaling    n_ids  start
SHAPES = [
    ("t64g1",       160, 128, 2, 2, 2, 64,  256, True,  1e4,   None,       40),
    ("g4small",     96,  128, 2, 4, 1, 64,  160, False, 5e5,   LLAMA3(8.), 70),
    ("u64g4",       160, 256, 2, 4, 1, 64,  384, False, 5e5,   LLAMA3(8.), 70),
    ("t128g1",      192, 256, 2, 2, 2, 128, 352, True,  1e4,   None,       129),
    ("u128g4",      320, 512, 3, 4, 1, 128, 704, False, 5e5,   LLAMA3(8.), 200),
    ("u128g8",      256, 1024, 2, 8, 1, 128, 1024, False, 5e5, LLAMA3(8.), 300),
    ("t64g8",       256, 512, 2, 8, 1, 64,  768, True,  5e5,   LLAMA3(32.), 300),
    ("t64g4long",   128, 256, 2, 4, 1, 64,  256, True,  5e5,   LLAMA3(32.), 8300),
    ("u128long",    128, 256, 2, 2, 1, 128, 256, False, 5e5,   LLAMA3(8.), 8300),
    ("u64long",     128, 128, 2, 2, 2, 64,  256, False, 1e4,   None,       8300),
    ("smol",        512, 576, 4, 9, 3, 64, 1536, True,  1e5,   None,       500),
    ("onlylayer",   128, 128, 1, 2, 1, 64,  160, False, 1e4,   None,       1),
    ("deep",        256, 256, 8, 4, 2, 64,  512, True,  5e5,   LLAMA3(8.), 600),
    ("wide3b",      512, 3072, 1, 24, 8, 128, 4096, True, 5e5, LLAMA3(32.), 100),
    ("oddF",        130, 192, 2, 3, 3, 64,  200, True,  1e4,   None,       65),
]
GGUF_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
              "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(n):
    for a, b in (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"),
                 ("lm_head", "output")):
        if n.startswith(a + "."):
            return b + ".weight"
    p = n.split(".")
    return f"blk.{p[2]}.{GGUF_NAMES['.'.join(p[3:-1])]}.weight"


def permute(w, n_head):
    return w.reshape(n_head, 2, w.shape[0] // n_head // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def rope_factors(cfg, scaling, theta):
    d = cfg["head_dim"]
    out = []
    for i in range(d // 2):
        f = theta ** (-2 * i / d)
        wl = 2 * np.pi / f
        lo, hi, old = scaling["low_freq_factor"], scaling["high_freq_factor"], 8192
        if wl < old / hi: out.append(1)
        elif wl > old / lo: out.append(scaling["factor"])
        else:
            s = (old / wl - lo) / (hi - lo)
            out.append(1 / ((1 - s) / scaling["factor"] + s))
    return np.array(out, dtype=np.float32)


def write_gguf(path, sd, c, theta, scaling, dtype):
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(131072); w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"]); w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"]); w.add_head_count_kv(c["num_key_value_heads"])
    w.add_key_length(c["head_dim"]); w.add_value_length(c["head_dim"])
    w.add_rope_dimension_count(c["head_dim"]); w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(theta); w.add_vocab_size(c["vocab_size"])
    if scaling: w.add_tensor("rope_freqs.weight", rope_factors(c, scaling, theta))
    for n, t in sd.items():
        a = t.float().numpy()
        if "q_proj" in n: a = permute(a, c["num_attention_heads"])
        if "k_proj" in n: a = permute(a, c["num_key_value_heads"])
        w.add_tensor(gguf_name(n), a.astype(np.float16 if dtype == "f16" and a.ndim == 2 else np.float32))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


def run(drover, model, ids, out):
    r = subprocess.run([drover, "logits", model, "--ids", ids, "--out", out], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{model}: {r.stderr}")
    return np.load(out)


def main():
    drover, work = sys.argv[1], sys.argv[2]
    golden = sys.argv[sys.argv.index("--golden") + 1] if "--golden" in sys.argv else None
    only = sys.argv[sys.argv.index("--only") + 1].split(",") if "--only" in sys.argv else None
    os.makedirs(work, exist_ok=True)
    torch.manual_seed(1)
    failed = 0
    print("case        type max|d-f32|/std  f32-f64/std  d-f64/std")
    for name, V, C, L, nh, nkv, hs, F, tied, theta, scaling, n in SHAPES:
        if only and name not in only: continue
        c = dict(vocab_size=V, hidden_size=C, num_hidden_layers=L, num_attention_heads=nh,
                 num_key_value_heads=nkv, head_dim=hs, intermediate_size=F,
                 max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=tied)
        for dtype in ("f32", "f16"):
            rp = dict(scaling or {"rope_type": "default"}, rope_theta=theta)
            cfg = LlamaConfig(**c, rope_parameters=rp, attn_implementation="eager")
            m = LlamaForCausalLM(cfg)
            with torch.no_grad():
                for k, p in m.named_parameters():
                    p.copy_(1 + 0.1 * torch.randn_like(p) if p.ndim == 1 else 0.02 * torch.randn_like(p))
                    if dtype == "f16": p.copy_(p.half().float())
            m.eval()
            sd = {k: v for k, v in m.state_dict().items() if not (tied and k == "lm_head.weight")}
            d = os.path.join(work, name + "-" + dtype)
            os.makedirs(d, exist_ok=True)
            half = {k: (v.half() if dtype == "f16" and v.ndim == 2 else v).contiguous().clone() for k, v in sd.items()}
            save_file(half, d + "/model.safetensors")
            json.dump(dict(c, model_type="llama", architectures=["LlamaForCausalLM"], hidden_act="silu",
                           rope_theta=theta, rope_scaling=scaling), open(d + "/config.json", "w"))
            write_gguf(d + ".gguf", sd, c, theta, scaling, dtype)
            ids = torch.randint(0, V, (1, n))
            open(d + ".ids", "w").write(" ".join(map(str, ids[0].tolist())))
            with torch.no_grad():
                f32 = m(ids).logits[0].numpy()
                f64 = m.double()(ids).logits[0].numpy()
            std = f64.std()
            res = [run(drover, p, d + ".ids", d + ".npy") for p in (d, d + ".gguf")]
            own = np.abs(f32 - f64).max() / std
            for what, a in zip(("safetensors", "gguf"), res):
                e32, e64 = np.abs(a - f32).max() / std, np.abs(a - f64).max() / std
                ok = e32 <= 1e-4 or e64 <= 3 * own
                failed += not ok
                print(f"{name:11s} {dtype} {what:11s} {e32:.2e}  {own:.2e}  {e64:.2e} {'' if ok else 'FAIL'}", flush=True)
            same = np.array_equal(res[0], res[1])
            print(f"{name:11s} {dtype} containers {'equal bit for bit' if same else 'DIFFER'}")
            if golden and name in ("t64g1", "g4small") and dtype == "f16":
                import shutil
                os.makedirs(golden, exist_ok=True)
                shutil.copy(d + ".gguf", f"{golden}/{name}.gguf")
                shutil.copy(d + ".ids", f"{golden}/{name}.ids")
                np.save(f"{golden}/{name}.npy", f64[-8:].astype(np.float32))
                open(f"{golden}/{name}.txt", "w").write(
                    f"tools/golden/logits.py; torch {torch.__version__}, transformers {transformers.__version__}; "
                    "last 8 rows of float64 logits\n")
    print(f"{failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
