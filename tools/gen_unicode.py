#!/usr/bin/env python3
"""Make src/text/unicode_data.c: the character classes that pre-tokenisers are written in.

usage: tools/gen_unicode.py > src/text/unicode_data.c       (needs tiktoken and tokenizers)

The reference for Llama's tokens is tiktoken, so the classes are asked of tiktoken's own regex
engine, one code point at a time: each general category, \\s and \\w. Hugging Face's tokenizers
are asked for the one class they take from elsewhere: what their Digits pre-tokeniser calls a
digit (the Rust standard library's char::is_numeric, of a later Unicode version). If both agree
with the `unicodedata2` package when that is installed, its version names the tables.
"""
import sys
import tiktoken
import tokenizers

GC = ("Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co "
      "Cs").split()
SPACE, WORD, DIGIT = 32, 64, 128
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
STEP = 8192


def matches(pattern):
    """The code points that tiktoken's engine matches: text between matches is dropped."""
    enc = tiktoken.Encoding("probe", pat_str=pattern, special_tokens={},
                            mergeable_ranks={bytes([i]): i for i in range(256)})
    found = set()
    for at in range(0, len(ALL), STEP):
        text = "".join(map(chr, ALL[at:at + STEP]))
        found.update(map(ord, enc.decode(enc.encode_ordinary(text))))
    return found


def digits():
    pre = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for at in range(0, len(ALL), STEP):
        text = "a".join(map(chr, ALL[at:at + STEP]))
        for piece, _ in pre.pre_tokenize_str(text):
            if len(piece) == 1 and piece != "a":
                found.add(ord(piece))
    # a character next to nothing else is alone without being a digit: ask again in a word
    return {c for c in found if len(pre.pre_tokenize_str("a" + chr(c))) == 2}


def main():
    table = [0] * 0x110000
    seen = 0
    for i, name in enumerate(GC):
        if name in ("Cn", "Cs"):
            continue
        for c in matches(r"\p{%s}" % name):
            assert table[c] == 0, "%x is in two categories" % c
            table[c] = i
            seen += 1
    for c in range(0xD800, 0xE000):
        table[c] = GC.index("Cs")
    version = "not checked against a version"
    try:
        import unicodedata2 as ud
        off = [c for c in ALL if GC[table[c]] != ud.category(chr(c))]
        version = "Unicode " + ud.unidata_version if not off else \
            "%d code points off Unicode %s" % (len(off), ud.unidata_version)
    except ImportError:
        pass
    numbers = {c for c in ALL if GC[table[c]][0] == "N"}
    dig = digits()
    for c in matches(r"\s"):
        table[c] |= SPACE
    for c in matches(r"\w"):
        table[c] |= WORD
    for c in dig:
        table[c] |= DIGIT
    blocks, index = {}, []
    for at in range(0, 0x110000, 128):
        index.append(blocks.setdefault(bytes(table[at:at + 128]), len(blocks)))
    out = sys.stdout
    out.write("/* unicode_data.c - made by tools/gen_unicode.py; do not edit.\n"
              " * Classes: tiktoken %s's regex engine = %s.\n"
              " * %d code points assigned; %d letters, %d numbers.\n * %d digits for Digits "
              "(tokenizers %s). */\n#include \"text/unicode.h\"\n\n"
              % (tiktoken.__version__, version, seen,
                 sum(GC[t & 31][0] == "L" for t in table), len(numbers), len(dig),
                 tokenizers.__version__))
    assert len(blocks) < 65536
    out.write("const char uc_version[] = \"%s\";\n\n" % version)
    out.write("const uint16_t uc_index[%d] = {\n" % len(index))
    for at in range(0, len(index), 20):
        out.write("    " + ",".join(map(str, index[at:at + 20])) + ",\n")
    out.write("};\n\nconst uint8_t uc_block[%d][128] = {\n" % len(blocks))
    for b in blocks:
        out.write("    {")
        for at in range(0, 128, 24):
            out.write(("" if at == 0 else "\n     ") + ",".join(map(str, b[at:at + 24])) + ",")
        out.write("},\n")
    out.write("};\n")


main()
