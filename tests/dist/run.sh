#!/bin/sh
# run.sh - the tests of several processes: PROGRAM (ranks.c) on 1, 2, 3 and 4 of them, then train.sh with
# the program $DROVER: make check-mpi
# usage: [N_RANKS="2 4"] DROVER=... tests/dist/run.sh PROGRAM      the last line is "N passed, N failed"
. "$(dirname "$0")/mpi.sh"
if ! command -v mpirun >/dev/null; then
    echo "skip: mpirun is not here; tools/packages-debian.txt names its package"
    echo "0 passed, 0 failed"
    exit 0
fi
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for n in ${N_RANKS:-1 2 3 4}; do
    timeout -k 5 "${TEST_TIMEOUT:-300}" mpirun -n $n "$1" >"$log" 2>&1 </dev/null
    rc=$?
    p=$(sed -n 's/.*mpi: \([0-9]*\) passed, [0-9]* failed.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    f=$(sed -n 's/.*mpi: [0-9]* passed, \([0-9]*\) failed.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    ranks=$(grep -c "of $n, mpi:" "$log")
    if [ $rc -ne 0 ] || [ "$ranks" -ne $n ]; then
        cat "$log"
        echo "FAIL $1 on $n ranks ended with $rc, $ranks told a result"
        [ "$f" -gt 0 ] || f=1
    fi
    passed=$((passed + p)) failed=$((failed + f))
done
"$(dirname "$0")/train.sh" >"$log" 2>&1 || cat "$log"
p=$(sed -n 's/^\([0-9]*\) passed, .*/\1/p' "$log") f=$(sed -n 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/p' "$log")
passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
