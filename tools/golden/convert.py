#!/usr/bin/env python3
"""What drover convert wrote, read by transformers and llama.cpp: the same ids, the same logits.

usage: convert.py [--llama-probe PROGRAM] [--texts N] FOLDER GGUF [FOLDER2]

FOLDER: a model as Hugging Face has it (the reference); GGUF: what drover convert made of it;
FOLDER2: what it made of the GGUF file. Compared: ids of N texts (default 400) from the
tokenizers library, llama.cpp and drover (no control tokens in the texts); logits of 32 ids from transformers (float32), llama.cpp and drover. Needs
torch, transformers, tokenizers, numpy; llama_probe.c for llama.cpp. Ends with 1 if something differs.
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

DROVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "drover")
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def some_texts(n):
    rng = random.Random(7)
    texts = ["", " ", "  a", "Hello, world!", "don't", "DON'T", "1234567", "a\n\n  b", "\t\tx",
             "naïve café", "日本語のテキスト", "हिन्दी में", "🙂👍🏽", "x" * 300, "<|eot|>", "<x>"]
    names = sorted(os.path.join(d, f) for d, _, fs in os.walk(os.path.join(ROOT, "src")) for f in fs)
    body = "".join(open(f, encoding="utf-8").read() for f in names[:60])
    while len(texts) < n - n // 4:
        at = rng.randrange(len(body) - 400)
        texts.append(body[at:at + rng.randrange(1, 400)])
    pools = [(0x20, 0x7f), (0xa0, 0x250), (0x370, 0x530), (0x900, 0x980), (0x3040, 0x30ff),
             (0x4e00, 0x5000), (0x1f600, 0x1f640)]
    while len(texts) < n:
        lo, hi = rng.choice(pools)
        texts.append("".join(chr(rng.randrange(lo, hi)) if rng.random() > 0.2 else " "
                             for _ in range(rng.randrange(1, 80))))
    return [t.replace("\0", "") for t in texts]


def drover_ids(model, texts):
    out = []
    for t in texts:
        r = subprocess.run([DROVER, "tokenize", model], input=t.encode(), capture_output=True)
        if r.returncode:
            sys.exit(f"tokenize {model}: {r.stderr.decode()}")
        out.append([int(x) for x in r.stdout.split()])
    return out


def probe(program, model, texts, ids, tmp):
    with open(f"{tmp}/texts", "wb") as f:
        f.write(b"".join(t.encode() + b"\0" for t in texts))
    with open(f"{tmp}/ids", "w") as f:
        f.write(" ".join(map(str, ids)))
    subprocess.run([program, model, f"{tmp}/texts", f"{tmp}/out", f"{tmp}/ids", f"{tmp}/logits"],
                   check=True)
    got = [[int(x) for x in line.split()] for line in open(f"{tmp}/out")]
    return got, np.fromfile(f"{tmp}/logits", np.float32).reshape(len(ids), -1)


def drover_logits(model, ids, tmp):
    with open(f"{tmp}/ids", "w") as f:
        f.write(" ".join(map(str, ids)))
    subprocess.run([DROVER, "logits", model, "--ids", f"{tmp}/ids", "--out", f"{tmp}/o.npy"],
                   check=True)
    return np.load(f"{tmp}/o.npy")


def hf_logits(folder, ids):
    m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return m(torch.tensor([ids])).logits[0].numpy()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--llama-probe")
    a.add_argument("--texts", type=int, default=400)
    a.add_argument("folder")
    a.add_argument("gguf")
    a.add_argument("folder2", nargs="?")
    a = a.parse_args()
    bad = 0
    texts = some_texts(a.texts)
    tok = Tokenizer.from_file(f"{a.folder}/tokenizer.json")
    ids = [tok.encode(t).ids for t in texts]
    V = tok.get_vocab_size()
    use = [i % V for i in np.random.default_rng(1).integers(0, V, 32).tolist()]
    want = hf_logits(a.folder, use)
    std = want.std()

    def tell(what, n, of):
        nonlocal bad
        bad += n
        print(f"{what}: {n} of {of} texts differ")

    def near(what, x, limit):
        nonlocal bad
        d = np.abs(x[:, :want.shape[1]] - want).max() / std
        bad += not d <= limit
        print(f"{what}: logits differ by at most {d:.2e} of their spread")

    with tempfile.TemporaryDirectory() as tmp:
        g = drover_ids(a.gguf, texts)
        tell("drover, GGUF", sum(x != y for x, y in zip(g, ids)), len(ids))
        near("drover, GGUF", drover_logits(a.gguf, use, tmp), 3e-3)
        if a.folder2:
            t2 = Tokenizer.from_file(f"{a.folder2}/tokenizer.json")
            tell("tokenizers, FOLDER2",
                 sum(t2.encode(t).ids != y for t, y in zip(texts, ids)), len(ids))
            near("transformers, FOLDER2", hf_logits(a.folder2, use), 0)
        if a.llama_probe:
            got, logits = probe(a.llama_probe, a.gguf, texts, use, tmp)
            n = 0
            for t, x, y in zip(texts, got, ids):
                if x != y:
                    n += 1
                    print(f"  llama.cpp differs on {t[:60]!r}: {x[:12]} {y[:12]}")
            tell("llama.cpp, GGUF", n, len(ids))
            near("llama.cpp, GGUF", logits, 2e-2)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
