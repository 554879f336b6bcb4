#!/bin/sh
# run.sh - run test programs in turn and add up what they say.
# usage: tests/run.sh PROGRAM...     the last line is "N passed, N failed"
# $RUN, if given, runs each program: an emulator with its options.
# A program may take $TEST_TIMEOUT seconds (default 300); it is killed after that and counts as
# failed. A line of its output that starts with "skip" is passed on.
limit=${TEST_TIMEOUT:-300}
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM
start=$(date +%s)
for t in "$@"; do
    t0=$(date +%s)
    timeout -k 5 "$limit" ${RUN:-} "$t" >"$log" 2>&1 </dev/null
    rc=$?
    echo "== $t ($(($(date +%s) - t0)) s)"
    # ours: "N passed, N failed[, N skipped]"; cmocka: "[  PASSED  ] N test(s)."
    p=$(sed -n 's/^\([0-9]*\) passed, [0-9]* failed.*/\1/p; s/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    f=$(sed -n 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/p; s/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    s=$(grep -ciE '^skip' "$log")
    if [ $rc -ne 0 ]; then
        cat "$log"
        if [ $rc -eq 124 ] || [ $rc -eq 137 ]; then
            echo "FAIL $t was still running after $limit s"
        else
            echo "FAIL $t ended with $rc"
        fi
        [ "$f" -gt 0 ] || f=1
    elif [ "$p" -eq 0 ] && [ "$s" -eq 0 ]; then
        cat "$log"
        echo "FAIL $t ran no test"
        f=$((f + 1))
    else
        grep -iE '^skip' "$log"
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
echo "tests took $(($(date +%s) - start)) s"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
