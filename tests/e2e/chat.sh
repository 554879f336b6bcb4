#!/bin/sh
# chat.sh - the chat in a terminal: editing, history, commands, Ctrl-C, a full context.
. "$(dirname "$0")/../lib/e2e.sh"
have python3 || { skip "python3 is not here"; finish; }
. "$SRC/tests/lib/tiny.sh"
tiny m || { fail "no model"; finish; }
python3 "$SRC/tests/e2e/chat_pty.py" m >log 2>&1
rc=$?
grep -v ' passed, ' log
passed=$(sed -n 's/^\([0-9]*\) passed, .*/\1/p' log)
failed=$(sed -n 's/.* passed, \([0-9]*\) failed/\1/p' log)
[ -n "$failed" ] || { passed=0 failed=1; echo "FAIL the driver ended with $rc"; }
finish
