#!/usr/bin/env python3
"""Embeddings as transformers makes them, of the random models of logits.py that lie in tests/golden/data.

usage: embed.py DIR
       embed.py --server URL FOLDER      a server of the model in FOLDER (safetensors in F32 or F16), beside transformers

For each NAME.gguf that logits.py --golden wrote there: LlamaModel's last hidden states in float64 of NAME.ids,
their mean and the last one, each divided by its length, as NAME.embed.npy (2, C) of float32. With --server: /v1/embeddings of
texts of many lengths, all at once, against float32 and float64; exit 1 if a value is off by more than 1e-4. Needs torch,
transformers, gguf, numpy."""
import os, sys
import numpy as np
import torch
import gguf
from transformers import LlamaConfig, LlamaModel
import logits


def unpermute(w, n_head):
    return w.reshape(n_head, w.shape[0] // n_head // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def pooled(h):
    v = np.stack([h.mean(0), h[-1]])
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def server(url, folder):
    import json, urllib.request
    from transformers import AutoTokenizer
    m = LlamaModel.from_pretrained(folder, dtype=torch.float64).eval()
    t = AutoTokenizer.from_pretrained(folder)
    words = "The herd crossed the river before the rain came and nobody had counted the calves".split()
    texts = [" ".join((words * 30)[i:i + n]) for i, n in enumerate((1, 2, 5, 17, 64, 130, 300))]
    ids = [t(x)["input_ids"] for x in texts]
    worst = 0
    for k, pooling in enumerate(("mean", "last")):
        q = urllib.request.Request(url + "/v1/embeddings", json.dumps({"input": ids, "pooling": pooling}).encode(),
                                   {"Content-Type": "application/json"})
        got = [np.array(x["embedding"]) for x in json.load(urllib.request.urlopen(q))["data"]]
        for i, g in zip(ids, got):
            with torch.no_grad():
                want = pooled(m(torch.tensor([i])).last_hidden_state[0].numpy())[k]
            off = np.abs(g - want).max()
            worst = max(worst, off)
            print(f"{pooling} of {len(i)} tokens: off by {off:.1e}")
    print(f"largest difference {worst:.1e}")
    sys.exit(not worst <= 1e-4)


def main():
    if sys.argv[1] == "--server": server(sys.argv[2], sys.argv[3])
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
        np.save(f"{where}/{name}.embed.npy", pooled(h).astype(np.float32))
        print(name, ids.shape[1], "tokens,", C, "values")


if __name__ == "__main__":
    main()
