#!/usr/bin/env python3
"""drover prep beside Hugging Face's tokenizers: the same JSON lines, all cores, rounds in turn.

usage: bench/prep.py [--rounds N] [--drover PATH] [--threads N] TOKENIZER.json FILE.jsonl...
Needs the tokenizers and numpy packages. Theirs is timed for Tokenizer.encode_batch and the ids
alone, with the texts in memory; ours is the whole command: start, reading the tokenizer and the
lines, and shards on the disk. Prints wall and CPU seconds (medians), MB of text a second, the
median of the paired ratios, and whether all ids are the same.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--drover", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "drover"))
ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
ap.add_argument("tokenizer")
ap.add_argument("file", nargs="+")
a = ap.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(a.threads)
import numpy as np                                                   # noqa: E402
import tokenizers                                                    # noqa: E402


def read_shard(path):
    """A shard as docs/data.md describes it: a list of arrays of ids."""
    raw = np.fromfile(path, dtype=np.uint8)
    width = int(raw[12:16].view("<u4")[0])
    n_tok, n_docs = (int(x) for x in raw[-64:-48].view("<u8"))
    ids = raw[128:128 + n_tok * width].view("<u2" if width == 2 else "<u4")
    at = 128 + -(-n_tok * width // 8) * 8
    start = raw[at:at + 8 * (n_docs + 1)].view("<u8")
    return [ids[start[i]:start[i + 1]] for i in range(n_docs)]


def theirs(tok, texts):
    t0, c0 = time.perf_counter(), time.process_time()
    ids = []
    for i in range(0, len(texts), 1000):
        ids += [e.ids for e in tok.encode_batch(texts[i:i + 1000], add_special_tokens=False)]
    return time.perf_counter() - t0, time.process_time() - c0, ids


def ours(path, out):
    c0 = resource.getrusage(resource.RUSAGE_CHILDREN)
    t0 = time.perf_counter()
    subprocess.run([a.drover, "prep", a.tokenizer, path, "-o", out, "--force", "-q", "--no-bos", "--end",
                    "none", "-t", str(a.threads)], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - t0
    c1 = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, c1.ru_utime + c1.ru_stime - c0.ru_utime - c0.ru_stime


tok = tokenizers.Tokenizer.from_file(a.tokenizer)
tok.encode_special_tokens = True                         # control tokens in text are text, as with us
print("tokenizers %s, %d threads, %d rounds, load %.2f" %
      (tokenizers.__version__, a.threads, a.rounds, os.getloadavg()[0]))
bad = 0
for path in a.file:
    texts = [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    texts = [t for t in texts if t]
    mb = sum(len(t.encode()) for t in texts) / 1e6
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "o")
        for i in range(a.rounds + 1):
            tw, tc, ids = theirs(tok, texts)
            ow, oc = ours(path, out)
            if i:                                        # the first round warms both
                rows.append((tw, tc, ow, oc))
        mine = read_shard(os.path.join(out, "00000.shard"))
    same = len(mine) == len(ids) and all(np.array_equal(m, t) for m, t in zip(mine, ids))
    bad += not same
    med = [statistics.median(r[k] for r in rows) for k in range(4)]
    print("%s: %.1f MB, %d documents, %d ids, %s" %
          (os.path.basename(path), mb, len(texts), sum(map(len, ids)), "the same" if same else "NOT THE SAME"))
    print("  wall: tokenizers %.2f s (%.1f MB/s), drover %.2f s (%.1f MB/s), ratio %.2f (%.2f to %.2f)" %
          (med[0], mb / med[0], med[2], mb / med[2], statistics.median(r[0] / r[2] for r in rows),
           min(r[0] / r[2] for r in rows), max(r[0] / r[2] for r in rows)))
    print("  CPU:  tokenizers %.2f s, drover %.2f s, ratio %.2f" %
          (med[1], med[3], statistics.median(r[1] / r[3] for r in rows)), flush=True)
sys.exit(bad > 0)
