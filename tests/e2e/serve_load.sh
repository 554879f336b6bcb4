#!/bin/sh
# serve_load.sh - bench/serve from the command line: its client and arithmetic (serve_load_test.py), and whole runs of it
# with drover on a tiny model beside a program that answers as llama-server does.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
python3 "$SRC/tests/e2e/serve_load_test.py" "$SRC" >log || cat log
passed=$(sed -n 's/^\([0-9]*\) passed.*/\1/p' log | awk '{n+=$1} END {print n+0}')
failed=$(sed -n 's/.* \([0-9]*\) failed$/\1/p' log | awk '{n+=$1} END {print n+(NR==0)}')
finish
