#!/usr/bin/env python3
"""Hold drover's LoRA, unmerged and merged, against PEFT on random models of many shapes.

usage: lora.py DROVER WORKDIR [--only NAME,NAME] [--converter convert_lora_to_gguf.py] [--no-merge]

For each case a random model is written as a Hugging Face folder and as GGUF (F32), a random PEFT
adapter as PEFT saves it and, where its factors can be said in GGUF, as a GGUF adapter (llama.cpp's
own converter writes that one with --converter). `drover logits --lora` is run for every base with
every adapter, `drover merge` likewise, and each is compared with the PEFT model's logits: a line
each, max |drover - PEFT| over the standard deviation of the logits, PEFT computing in float32 and
in float64, and how far PEFT's two are apart. Holds when the float32 or the float64 distance is at
most 1e-5. Needs torch, transformers, peft, gguf, safetensors, numpy. Exit 1 if a case fails."""
import json, os, shutil, subprocess, sys
import gguf, numpy as np, torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlamaConfig

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from logits import LLAMA3, gguf_name, permute, write_gguf
from safetensors.torch import save_file

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
#        name       V    C    L  nh nkv hs  F    tied   adapter
SHAPES = [
    ("plain",      160, 128, 2, 2, 2, 64, 256, False, dict(r=8, lora_alpha=16, target_modules=ALL)),
    ("gqa",        96,  256, 2, 4, 1, 64, 160, False, dict(r=4, lora_alpha=3, target_modules=["q_proj", "k_proj"])),
    ("tied",       192, 256, 3, 8, 2, 32, 352, True,  dict(r=16, lora_alpha=8, target_modules=ALL)),
    ("wide128",    130, 512, 2, 4, 2, 128, 704, False, dict(r=33, lora_alpha=7, target_modules=ALL)),
    ("rslora",     160, 128, 2, 4, 2, 32, 256, True,  dict(r=9, lora_alpha=6, use_rslora=True, target_modules=ALL)),
    ("patterns",   160, 128, 3, 4, 2, 32, 256, False, dict(r=4, lora_alpha=8, target_modules=ALL,
                   rank_pattern={"q_proj": 2, r"layers\.[12]\.mlp\.up_proj": 11},
                   alpha_pattern={"layers.1.self_attn.q_proj": 3, "^model.layers.0.mlp.down_proj": 20})),
    ("embeddings", 96,  128, 2, 2, 1, 64, 160, False, dict(r=5, lora_alpha=10, target_modules=["embed_tokens", "lm_head", "v_proj"])),
    ("head",       300, 128, 1, 2, 2, 64, 160, False, dict(r=64, lora_alpha=64, target_modules=["lm_head"])),
    ("rank1",      128, 192, 2, 3, 3, 64, 200, True,  dict(r=1, lora_alpha=4, target_modules=["down_proj", "o_proj"])),
]


def gguf_adapter(folder, out, c, alpha):
    w = gguf.GGUFWriter(out, "llama")
    w.add_type("adapter"), w.add_string("adapter.type", "lora"), w.add_float32("adapter.lora.alpha", alpha)
    for n, t in load_file(folder + "/adapter_model.safetensors").items():
        a, b = t.numpy(), ".lora_B" in n or "embedding_B" in n
        name = n[len("base_model.model."):].split(".lora_")[0] + ".weight"
        if b and "q_proj" in n: a = permute(a, c["num_attention_heads"])
        if b and "k_proj" in n: a = permute(a, c["num_key_value_heads"])
        if "embedding_A" in n: a = a.T
        w.add_tensor(gguf_name(name) + (".lora_b" if b else ".lora_a"), np.ascontiguousarray(a))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def run(*words):
    r = subprocess.run(words, capture_output=True, text=True)
    if r.returncode:
        sys.exit(" ".join(words) + ": " + r.stderr)


def main():
    drover, work = sys.argv[1:3]
    option = lambda n: sys.argv[sys.argv.index(n) + 1] if n in sys.argv else None
    only, converter = option("--only"), option("--converter")
    failed = 0
    print("case        base        adapter  how       |d-f32|/std  |d-f64|/std  PEFT's own")
    for name, V, C, L, nh, nkv, hs, F, tied, spec in SHAPES:
        if only and name not in only.split(","): continue
        torch.manual_seed(len(name) + V)
        c = dict(vocab_size=V, hidden_size=C, num_hidden_layers=L, num_attention_heads=nh,
                 num_key_value_heads=nkv, head_dim=hs, intermediate_size=F,
                 max_position_embeddings=131072, rms_norm_eps=1e-5, tie_word_embeddings=tied)
        m = LlamaForCausalLM(LlamaConfig(**c, rope_parameters=dict(LLAMA3(8.), rope_theta=5e5), attn_implementation="eager"))
        with torch.no_grad():
            for p in m.parameters():
                p.copy_(1 + 0.1 * torch.randn_like(p) if p.ndim == 1 else 0.05 * torch.randn_like(p))
        d = os.path.join(work, name)
        shutil.rmtree(d, ignore_errors=True)
        os.makedirs(d + "/hf")
        sd = {k: v for k, v in m.state_dict().items() if not (tied and k == "lm_head.weight")}
        save_file({k: v.contiguous().clone() for k, v in sd.items()}, d + "/hf/model.safetensors")
        json.dump(dict(c, model_type="llama", architectures=["LlamaForCausalLM"], hidden_act="silu", rope_theta=5e5,
                       rope_scaling=LLAMA3(8.)), open(d + "/hf/config.json", "w"))
        write_gguf(d + "/base.gguf", sd, c, 5e5, LLAMA3(8.), "f32")
        p = get_peft_model(m, LoraConfig(task_type="CAUSAL_LM", **spec))
        with torch.no_grad():
            for k, x in p.named_parameters():
                if "lora_" in k: x.copy_(0.1 * torch.randn_like(x))
        p.eval().save_pretrained(d + "/peft", save_embedding_layers=False)
        adapters = [("peft", d + "/peft")]
        if "rank_pattern" not in spec:
            alpha = spec["lora_alpha"] * (spec["r"] ** 0.5 if spec.get("use_rslora") else 1)
            gguf_adapter(d + "/peft", d + "/own.gguf", c, alpha)
            adapters.append(("gguf", d + "/own.gguf"))
            if converter and not spec.get("use_rslora"):
                run(sys.executable, converter, d + "/peft", "--base", d + "/hf", "--outfile", d + "/theirs.gguf", "--outtype", "f32")
                adapters.append(("theirs", d + "/theirs.gguf"))
        ids = torch.randint(0, V, (1, 70))
        open(d + "/ids", "w").write(" ".join(map(str, ids[0].tolist())))
        with torch.no_grad():
            f32 = p(ids).logits[0].numpy()
            f64 = p.double()(ids).logits[0].numpy()
            with p.disable_adapter():
                without = np.abs(p(ids).logits[0].numpy() - f64).max() / f64.std()
        std, own = f64.std(), np.abs(f32 - f64).max() / f64.std()
        assert without > 0.05, "the adapter changes nothing"
        for base in ("hf", "base.gguf"):
            for what, adapter in adapters:
                ways = [("unmerged", d + "/" + base, ["--lora", adapter])]
                merges = "--no-merge" not in sys.argv and not (tied and "lm_head" in spec["target_modules"])
                for out in ("m.gguf", "m") if merges else ():
                    shutil.rmtree(d + "/m", ignore_errors=True)
                    run(drover, "merge", d + "/" + base, d + "/" + out, "--lora", adapter, "--force")
                    ways.append(("to " + ("GGUF" if out == "m.gguf" else "folder"), d + "/" + out, []))
                for how, model, more in ways:
                    run(drover, "logits", model, "--ids", d + "/ids", "--out", d + "/l.npy", *more)
                    a = np.load(d + "/l.npy")
                    e32, e64 = np.abs(a - f32).max() / std, np.abs(a - f64).max() / std
                    ok = min(e32, e64) <= 1e-5
                    failed += not ok
                    print(f"{name:11s} {base:11s} {what:8s} {how:9s} {e32:.2e}     {e64:.2e}     {own:.2e} {'' if ok else 'FAIL'}", flush=True)
    sys.exit(1 if failed else 0)


main()
