#!/bin/sh
# run.sh - run test programs in turn and add up what they say.
# usage: tests/run.sh PROGRAM...     the last line is "N passed, N failed"
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for t in "$@"; do
    echo "== $t"
    "$t" >"$log" 2>&1
    rc=$?
    # ours: "N passed, N failed[, N skipped]"; cmocka: "[  PASSED  ] N test(s)."
    p=$(sed -n 's/^\([0-9]*\) passed, [0-9]* failed.*/\1/p; s/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    f=$(sed -n 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/p; s/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    if [ $rc -ne 0 ]; then
        cat "$log"
        echo "FAIL $t ended with $rc"
        [ "$f" -gt 0 ] || f=1
    elif [ "$p" -eq 0 ]; then
        cat "$log"
        echo "FAIL $t ran no test"
        f=$((f + 1))
    else
        grep -iE '^skip' "$log"
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
