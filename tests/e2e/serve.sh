#!/bin/sh
# serve.sh - drover serve as its clients see it: requests and replies of http_cases/*.case, then what needs more
# than one request: the command line, signals, TLS, a socket in the file system.
# usage: tests/e2e/serve.sh [FILE.case...]
. "$(dirname "$0")/../lib/e2e.sh"
. "$SRC/tests/lib/tiny.sh"
have python3 || { skip 'requests: no python3'; finish; }
tiny tiny || { fail 'no model'; finish; }

cases() {
    if python3 "$SRC/tests/e2e/http_cases.py" "$@" >"$T/cases.out" 2>&1; then :; else
        tail -1 "$T/cases.out" | grep -q 'passed,' || { fail "http_cases.py: $(tail -3 "$T/cases.out")"; return; }
    fi
    grep -v 'passed, [0-9]* failed' "$T/cases.out"
    set -- $(sed -n '$s/[^0-9 ]//gp' "$T/cases.out")
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-0})) skipped=$((skipped + ${3:-0}))
}
if [ $# -gt 0 ]; then cases "$@"; finish; fi
cases "$SRC"/tests/e2e/http_cases/*.case
finish
