#!/usr/bin/env python3
"""Compare drover's tokenizer with the libraries that own each file, text by text.

usage: compare_tokenizers.py [--build DIR] [--random MB] [--speed] --tokenizer KIND=PATH … TEXT …

KIND: tiktoken (a tokenizer.model of Llama 3), hf (a folder with tokenizer.json, through
transformers), hfgguf (a GGUF file whose tokens are turned into the tokenizers library's terms),
spm (a SentencePiece .model). TEXT: files, folders, zip archives; every file is one text (bytes
that are not UTF-8 are skipped here: no reference takes them). Prints, per tokenizer, the texts,
bytes and differences; ends with 1 if there was one. Needs tiktoken, transformers, sentencepiece.
"""
import argparse
import base64
import gzip
import os
import random
import struct
import subprocess
import sys
import time
import zipfile

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOCK = 1 << 16                     # long files are cut: a difference is then easier to find
HERE = os.path.dirname(os.path.abspath(__file__))


def read_texts(paths, limit):
    def blocks(name, data):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            try:
                text = data.decode("utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else None
            except UnicodeDecodeError:
                text = None
        if not text:
            return
        for at in range(0, len(text), BLOCK):
            yield "%s+%d" % (name, at), text[at:at + BLOCK]
    for path in paths:
        if os.path.isdir(path):
            files = sorted(os.path.join(d, f) for d, _, fs in os.walk(path) for f in fs)
        else:
            files = [path]
        for f in files:
            if not os.path.isfile(f) or os.path.getsize(f) > limit:
                continue
            if f.endswith(".zip"):
                try:
                    with zipfile.ZipFile(f) as z:
                        for n in z.namelist():
                            if z.getinfo(n).file_size <= limit:
                                yield from blocks(f + ":" + n, z.read(n))
                except (RuntimeError, NotImplementedError):
                    print("skip %s: encrypted" % f)
            elif f.endswith(".gz"):
                yield from blocks(f, gzip.open(f).read())
            else:
                yield from blocks(f, open(f, "rb").read())


def random_texts(mb, seed=1):
    """Every plane that has assigned characters, unassigned code points among them, in runs."""
    rng = random.Random(seed)
    planes = [(0, 0xd7ff), (0xe000, 0xffff), (0x10000, 0x1ffff), (0x20000, 0x2ffff),
              (0x30000, 0x3ffff), (0xe0000, 0xe01ff), (0xf0000, 0xfffff), (0x100000, 0x10ffff)]
    glue = [" ", "  ", "\n", "\r\n", "\t", "'s", "'S", "'\u017f", "'ll", "12", "3456", ".", "\u2581",
            "\u00a0", "\u3000", "\u0085", "a", "Ab", "!?", "", "", ""]
    total = 0
    while total < mb * 1000000:
        out = []
        for _ in range(3000):
            kind = rng.random()
            if kind < 0.3:
                lo, hi = rng.choice(planes)
                c = rng.randint(lo, hi)
                out.extend(chr(x) for x in range(c, min(c + rng.randint(1, 6), hi + 1)))
            elif kind < 0.7:
                lo, hi = planes[0]
                out.append(chr(rng.randint(lo, hi)))
            elif kind < 0.85:
                out.append(chr(rng.randint(0, 0x250)))
            out.append(rng.choice(glue))
        text = "".join(out)
        total += len(text.encode())
        yield "random+%d" % total, text
    everything = [chr(c) for c in range(0x110000) if not 0xd800 <= c < 0xe000]
    for name, sep in (("all", ""), ("all, spaced", " "), ("all, in letters", "a"),
                      ("all, in digits", "1"), ("all, after '", "'")):
        for at in range(0, len(everything), 65536):
            yield "%s+%d" % (name, at), sep.join(everything[at:at + 65536])


def tiktoken_encoder(path):
    import tiktoken
    ranks = {}
    for line in open(path, "rb"):
        if line.strip():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    enc = tiktoken.Encoding("llama3", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens={})
    return enc.encode_ordinary, None


def hf_encoder(path):
    import transformers
    tok = transformers.PreTrainedTokenizerFast(
        tokenizer_file=os.path.join(path, "tokenizer.json"))._tokenizer

    def special(text):
        tok.encode_special_tokens = False
        return tok.encode(text, add_special_tokens=False).ids

    def plain(text):
        tok.encode_special_tokens = True
        return tok.encode(text, add_special_tokens=False).ids
    return plain, special


def gguf_encoder(path):
    """smollm: Digits, then GPT-2's pattern, as its own tokenizer.json has them."""
    import gguf
    import tokenizers
    from tokenizers import models, pre_tokenizers, AddedToken
    r = gguf.GGUFReader(path)

    def strings(key):
        f = r.fields[key]
        return [bytes(f.parts[i]).decode("utf-8") for i in f.data]
    pre = strings("tokenizer.ggml.pre")[0]
    assert pre == "smollm", pre
    tokens = strings("tokenizer.ggml.tokens")
    f = r.fields["tokenizer.ggml.token_type"]
    types = [int(f.parts[i][0]) for i in f.data]
    merges = [tuple(m.split(" ")) for m in strings("tokenizer.ggml.merges")]
    tok = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False)
                            for t, k in zip(tokens, types) if k == 3])

    def special(text):
        tok.encode_special_tokens = False
        return tok.encode(text, add_special_tokens=False).ids

    def plain(text):
        tok.encode_special_tokens = True
        return tok.encode(text, add_special_tokens=False).ids
    return plain, special


def spm_encoder(path):
    import sentencepiece
    sp = sentencepiece.SentencePieceProcessor(model_file=path)
    return sp.encode, None


KINDS = {"tiktoken": tiktoken_encoder, "hf": hf_encoder, "hfgguf": gguf_encoder, "spm": spm_encoder}


def build(folder):
    root = os.path.join(HERE, "..", "..")
    exe = os.path.join(folder, "tokenize_many")
    subprocess.run(["gcc", "-std=c17", "-D_POSIX_C_SOURCE=200809L", "-O2", "-I" + root + "/src",
                    "-I" + root + "/include", "-o", exe, os.path.join(HERE, "tokenize_many.c"),
                    os.path.join(folder, "core.a"), "-ljansson", "-lpcre2-8", "-lutf8proc", "-lz",
                    "-ldl", "-lm", "-lpthread"], check=True)
    return exe


def run_ours(exe, path, flags, texts):
    blob = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    out = subprocess.run([exe, path, str(flags)], input=blob, stdout=subprocess.PIPE,
                         check=True).stdout
    at = 0
    for _ in texts:
        n, = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from("<%di" % n, out, at + 4))
        at += 4 + 4 * n
        b, = struct.unpack_from("<I", out, at)
        yield ids, out[at + 4:at + 4 + b]
        at += 4 + b
    assert at == len(out)


def compare(exe, kind, path, texts, lossless):
    plain, special = KINDS[kind](path)
    runs = [("plain", 0, plain)] + ([("special", 2, special)] if special else [])
    bad = 0
    for label, flags, encode in runs:
        t0, n_bytes, n_ids, diffs, undone, n_texts = time.time(), 0, 0, 0, 0, 0
        batch = []

        def flush():
            nonlocal n_bytes, n_ids, diffs, undone, n_texts
            data = [t.encode() for _, t in batch]
            for (name, text), raw, (ours, back) in zip(batch, data, run_ours(exe, path, flags, data)):
                want = encode(text)
                n_texts += 1
                n_bytes += len(raw)
                n_ids += len(want)
                if ours != want:
                    diffs += 1
                    if diffs <= 5:
                        i = next((i for i, (a, b) in enumerate(zip(ours, want)) if a != b),
                                 min(len(ours), len(want)))
                        print("  %s: differs at id %d: ours %s, reference %s" %
                              (name, i, ours[i:i + 8], want[i:i + 8]))
                if back != raw:
                    undone += 1
                    if undone <= 3 and lossless:
                        i = next((i for i, (a, b) in enumerate(zip(back, raw)) if a != b),
                                 min(len(back), len(raw)))
                        print("  %s: decoding differs at byte %d: %r, was %r" %
                              (name, i, back[i - 4:i + 8], raw[i - 4:i + 8]))
            batch.clear()
        size = 0
        for item in texts():
            batch.append(item)
            size += len(item[1])
            if size > 8 << 20:
                flush()
                size = 0
        flush()
        bad += diffs
        print("%s %s, %s: %d texts, %.1f MB, %d ids: %d differences, %d not decoded back, %.0f s" %
              (kind, path, label, n_texts, n_bytes / 1e6, n_ids, diffs, undone, time.time() - t0),
              flush=True)
    return bad


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--build", default=os.path.join(HERE, "..", "..", "build", "release"))
    ap.add_argument("--random", type=float, default=0, metavar="MB")
    ap.add_argument("--limit", type=int, default=64 << 20, help="skip files larger than this")
    ap.add_argument("--tokenizer", action="append", default=[], metavar="KIND=PATH")
    ap.add_argument("text", nargs="*")
    a = ap.parse_args()
    exe = build(a.build)

    def texts():
        yield from read_texts(a.text, a.limit)
        if a.random:
            yield from random_texts(a.random)
    bad = 0
    for t in a.tokenizer:
        kind, path = t.split("=", 1)
        bad += compare(exe, kind, path, texts, kind in ("tiktoken",))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
