#!/usr/bin/env python3
"""Golden ids of the official vocabularies, whose files are not in this repository.

usage: make_golden_tokenizers.py OUTDIR NAME=KIND=PATH …      (KIND as in compare_tokenizers.py)
e.g.   make_golden_tokenizers.py tests/golden/tokenizers \\
           llama3/tokenizer.model=tiktoken=../shared/data/tokenizers/llama3/tokenizer.model
NAME is where the test looks for the vocabulary, below its folder of tokenizers.
"""
import os
import sys
from compare_tokenizers import KINDS
from make_small_tokenizers import strings, write_golden

for arg in sys.argv[2:]:
    name, kind, path = arg.split("=", 2)
    plain, special = KINDS[kind](path)
    write_golden(os.path.join(sys.argv[1], name.replace("/", "__") + ".golden"), name, strings(520),
                 plain, special)
