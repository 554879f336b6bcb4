#!/usr/bin/env python3
"""Train the small tokenizers of tests/data/tokenizers and write golden ids beside them.

usage: tools/golden/make_small_tokenizers.py tests/data/tokenizers
Needs tokenizers, tiktoken, sentencepiece, gguf. The text they learn from is made here.
"""
import base64
import json
import os
import random
import sys

import gguf
import sentencepiece
import tiktoken
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers, AddedToken, Regex

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
           "<|eot_id|>"]


def corpus():
    who = "the drover;a dog;an old man;the herd;her sister;nobody;the river;our cart".split(";")
    did = ("walks to;waits at;drives cattle over;can't see;doesn't like;sings about;counts 12 of;"
           "was paid $3.50 for;they've left;it's near").split(";")
    what = ("the hills;a bridge;the market town;das Gras;la montaña;l'été;Москва;東京の町;"
            "the inn (1847);x = y + 2;int main(void)").split(";")
    rng = random.Random(7)
    for _ in range(4000):
        s = "%s %s %s" % (rng.choice(who), rng.choice(did), rng.choice(what))
        yield s[0].upper() + s[1:] + rng.choice([".", "!", "?\n", ";\n\n", ",  "])


def strings(n):
    """Strings to encode: words, spaces of all kinds, code, scripts, control tokens, oddities."""
    rng = random.Random(11)
    parts = ["the", " the", "The herd", "drover", " dog's", " don'T", "it'\u017fs", "'LL", " 12345",
             "3.14", "\n", "\r\n", "  ", "   ", "\t", "\u00a0", "\u3000", "\u0085", "é", "e\u0301",
             "ß", "Straße", "हिन्दी", "ไทย", "日本語", "한국어", "العربية", "עברית", "🙂", "👩\u200d🌾",
             "\u2581", "ﬁ", "Ⅷ", "²", "\u1bf7", "{", "};", "==", "//", "x=1", "\x00", "\x7f", "\ufeff",
             "\U000e0001", "\U0010ffff", "\u0378", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>",
             "<0x41>", "<tool>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
    out = ["", " ", "a"] + parts
    while len(out) < n:
        out.append("".join(rng.choice(parts) for _ in range(rng.randint(2, 9))))
    return out[:n]


def write_golden(path, name, texts, encode, special):
    """One line per string: kind, JSON text, ids."""
    with open(path, "w") as f:
        f.write("# %s: text as JSON, then its ids. plain: control tokens are text; special: they "
                "count.\n# made by tools/golden/make_small_tokenizers.py with tokenizers %s, tiktoken "
                "%s, sentencepiece %s\n" % (name, tokenizers.__version__, tiktoken.__version__,
                                            sentencepiece.__version__))
        for t in texts:
            f.write("plain\t%s\t%s\n" % (json.dumps(t), " ".join(map(str, encode(t)))))
            if special:
                s = special(t)
                if s != encode(t):
                    f.write("special\t%s\t%s\n" % (json.dumps(t), " ".join(map(str, s))))


def hf_pair(tok):
    def plain(t):
        tok.encode_special_tokens = True
        return tok.encode(t, add_special_tokens=False).ids

    def special(t):
        tok.encode_special_tokens = False
        return tok.encode(t, add_special_tokens=False).ids
    return plain, special


def main(out):
    texts = strings(520)
    path = lambda name: os.path.join(out, name)

    # byte-level BPE, as Llama 3's tokenizer.json
    tok = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    n = tok.get_vocab_size()
    tok.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROL])
    tok.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    tok.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", n)])
    tok.save(path("small.json"))
    write_golden(path("small.json.golden"), "small.json", texts, *hf_pair(tok))

    # its GPT-2 sibling: merges decide, digits alone; as SmolLM2
    state = json.loads(tok.to_str())
    vocab = sorted(state["model"]["vocab"].items(), key=lambda kv: kv[1])
    w = gguf.GGUFWriter(path("small.gguf"), "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list([t for t, _ in vocab] + CONTROL)
    w.add_token_types([1] * n + [3] * len(CONTROL))
    merges = [m if isinstance(m, str) else " ".join(m) for m in state["model"]["merges"]]
    w.add_token_merges(merges)
    w.add_bos_token_id(n)
    w.add_eos_token_id(n + 4)
    w.add_add_bos_token(True)
    w.add_chat_template("{{ messages }}")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    smol = tokenizers.Tokenizer(models.BPE(dict(vocab), [tuple(m.split(" ")) for m in merges]))
    smol.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    smol.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in CONTROL])
    write_golden(path("small.gguf.golden"), "small.gguf", texts, *hf_pair(smol))

    # the same words as tiktoken's text
    unbyte = {v: k for k, v in byte_alphabet().items()}
    ranks = {bytes(unbyte[c] for c in t): i for t, i in vocab}
    with open(path("small.tiktoken"), "wb") as f:
        for token, rank in ranks.items():
            f.write(base64.b64encode(token) + b" %d\n" % rank)
    enc = tiktoken.Encoding("small", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens={})
    write_golden(path("small.tiktoken.golden"), "small.tiktoken", texts, enc.encode_ordinary, None)

    # SentencePiece BPE: with a normaliser of its own and without
    rules = path("rules.tsv")
    with open(rules, "w") as f:
        for a, b in (("fb01", "66 69"), ("2167", "56 49 49 49"), ("3000", "20"), ("9", "20"),
                     ("65 301", "e9"), ("1f642", "3a 29")):
            f.write("%s\t%s\n" % (a, b))
    for name, extra in (("small.model", dict(vocab_size=600, byte_fallback=True, remove_extra_whitespaces=False,
                                             normalization_rule_name="identity")),
                        ("small_norm.model", dict(vocab_size=400, normalization_rule_tsv=rules,
                                                  user_defined_symbols=["<tool>"]))):
        prefix = path(name)[:-len(".model")]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(s for s in corpus()), model_prefix=prefix, model_type="bpe",
            minloglevel=2, **extra)
        os.remove(prefix + ".vocab")
        sp = sentencepiece.SentencePieceProcessor(model_file=path(name))
        write_golden(path(name + ".golden"), name, texts, sp.encode, None)
    os.remove(rules)


def byte_alphabet():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out = {b: chr(b) for b in keep}
    for i, b in enumerate(b for b in range(256) if b not in keep):
        out[b] = chr(256 + i)
    return out


if __name__ == "__main__":
    main(sys.argv[1])
