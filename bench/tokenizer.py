#!/usr/bin/env python3
"""drover's tokenizer beside tiktoken: one thread, the same text, rounds in turn.

usage: bench/tokenizer.py [--rounds N] VOCABULARY NAME=PATH…     (a file, folder or zip per text)
VOCABULARY is Llama 3's tokenizer.model. Prints MB/s (median) and the median of the paired ratios.
"""
import argparse
import os
import statistics
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "golden"))
from compare_tokenizers import build, read_texts, tiktoken_encoder      # noqa: E402

ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ap.add_argument("--rounds", type=int, default=9)
ap.add_argument("--mb", type=float, default=2.0, help="at most this much of each text")
ap.add_argument("--build", default=os.path.join(os.path.dirname(__file__), "..", "build", "release"))
ap.add_argument("vocabulary")
ap.add_argument("text", nargs="+")
a = ap.parse_args()
exe = build(a.build)
encode, _ = tiktoken_encoder(a.vocabulary)
for arg in a.text:
    name, path = arg.split("=", 1)
    text, size = "", 0
    for _, t in read_texts([path], 64 << 20):
        text += t
        size += len(t.encode())
        if size > a.mb * 1e6:
            break
    data = text.encode()
    p = subprocess.Popen([exe, a.vocabulary, "0", "speed"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
    p.stdin.write(struct.pack("<I", len(data)) + data)
    ours, theirs, ratio = [], [], []
    for i in range(a.rounds + 1):
        p.stdin.write(struct.pack("<I", 0xffffffff))
        p.stdin.flush()
        seconds, n = p.stdout.readline().split()
        t0 = time.process_time()
        ids = encode(text)
        t1 = time.process_time() - t0
        assert len(ids) == int(n), (len(ids), n)
        if i:                                            # the first round warms both
            ours.append(float(seconds))
            theirs.append(t1)
            ratio.append(t1 / float(seconds))
    p.stdin.close()
    p.wait()
    print("%-14s %.2f MB, %.2f bytes a token: drover %.1f MB/s, tiktoken %.1f MB/s, ratio %.2f "
          "(%.2f to %.2f)" % (name, len(data) / 1e6, len(data) / len(ids),
                              len(data) / 1e6 / statistics.median(ours),
                              len(data) / 1e6 / statistics.median(theirs),
                              statistics.median(ratio), min(ratio), max(ratio)), flush=True)
