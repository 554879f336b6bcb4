#!/usr/bin/env python3
"""Embeddings as transformers makes them, of the random models of logits.py that lie in tests/golden/data.

usage: embed.py DIR

For each NAME.gguf that logits.py --golden wrote there: LlamaModel's last hidden states in float64 of NAME.ids,
their mean and the last one, each divided by its length, as NAME.embed.npy (2, C) of float32. Needs torch,
transformers, gguf, numpy."""
import os, sys
import numpy as np
import torch
import gguf
from transformers import LlamaConfig, LlamaModel
import logits


def unpermute(w, n_head):
    return w.reshape(n_head, w.shape[0] // n_head // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def main():
    where = sys.argv[1]
    for name, V, C, L, nh, nkv, hs, F, tied, theta, scaling, n in logits.SHAPES:
        path = f"{where}/{name}.gguf"
        if not os.path.exists(path): continue
        cfg = LlamaConfig(vocab_size=V, hidden_size=C, num_hidden_layers=L, num_attention_heads=nh,
                          num_key_value_heads=nkv, head_dim=hs, intermediate_size=F, max_position_embeddings=131072,
                          rms_norm_eps=1e-5, attn_implementation="eager",
                          rope_parameters=dict(scaling or {"rope_type": "default"}, rope_theta=theta))
        m = LlamaModel(cfg)
        there = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
        with torch.no_grad():
            for k, p in m.named_parameters():
                a = np.array(there[logits.gguf_name("model." + k)], dtype=np.float32)
                if "q_proj" in k: a = unpermute(a, nh)
                if "k_proj" in k: a = unpermute(a, nkv)
                p.copy_(torch.from_numpy(a))
        ids = torch.tensor([[int(i) for i in open(f"{where}/{name}.ids").read().split()]])
        with torch.no_grad():
            h = m.double().eval()(ids).last_hidden_state[0].numpy()
        v = np.stack([h.mean(0), h[-1]])
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        np.save(f"{where}/{name}.embed.npy", v.astype(np.float32))
        print(name, ids.shape[1], "tokens,", C, "values")


if __name__ == "__main__":
    main()
