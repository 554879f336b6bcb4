#!/bin/sh
# run.sh - the tests of several processes, on 1, 2, 3 and 4 of them: make check-mpi
# usage: [N_RANKS="2 4"] tests/dist/run.sh PROGRAM      the last line is "N passed, N failed"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1        # in a container one is root
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
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
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
