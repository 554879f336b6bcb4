#!/bin/sh
# cases.sh - run the black-box cases of tests/e2e/cases/*.case.
# usage: tests/e2e/cases.sh [FILE...]
#
# A case is a block of lines up to the next empty line; # starts a comment line:
#   case NAME           what is shown when it fails
#   need WHAT           skip unless it is here: smollm2, or a program
#   in TEXT             a line of standard input (several are joined)
#   run COMMAND         for sh; `drover` is in PATH, $SRC is the tree, the folder is the file's own
#   exit N              expected status (default 0)
#   out TEXT            standard output is exactly these lines (several are joined)
#   out~ REGEX          some line of standard output matches; err~ the same for standard error
#   out! REGEX          no line of standard output matches; err! the same for standard error
# Cases of one file run in order in one folder, so a later one may use what an earlier one wrote.
here=$PWD
. "$(dirname "$0")/../lib/e2e.sh"

reset() { name='' run='' want=0 needs=''; : >in; : >out; : >checks; }

judge() {
    [ -n "$run" ] || { [ -z "$name" ] || fail "$file: $name: no run line"; reset; return; }
    for n in $needs; do
        have "$n" || { skip "$name: needs $n"; reset; return; }
    done
    sh -c "$run" <in >got.out 2>got.err
    rc=$?
    bad=
    [ $rc -eq "$want" ] || bad="status $rc, not $want"
    if [ -s out ] && ! cmp -s out got.out; then bad="$bad; stdout is not what was wanted"; fi
    while read -r kind regex; do
        what=${kind%?}
        if grep -qE -- "$regex" "got.$what"; then hit=1; else hit=0; fi
        case $kind in
            *~) [ $hit = 1 ] || bad="$bad; no line of std$what matches: $regex" ;;
            *!) [ $hit = 0 ] || bad="$bad; a line of std$what matches: $regex" ;;
        esac
    done <checks
    if [ -z "$bad" ]; then ok; else
        fail "$file: $name: ${bad#; }"
        echo "  run $run"
        sed 's/^/  stdout: /' got.out | head -20
        sed 's/^/  stderr: /' got.err | head -20
    fi
    reset
}

[ $# -gt 0 ] || set -- "$SRC"/tests/e2e/cases/*.case
for path in "$@"; do
    file=$(basename "$path")
    case $path in /*) ;; *) path=$here/$path ;; esac
    mkdir "$T/work/$file.d" && cd "$T/work/$file.d" || exit 1
    ln -s "$prog" drover
    reset
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            '#'*)    ;;
            '')      judge ;;
            'case '*) name=${line#case } ;;
            'need '*) needs="$needs ${line#need }" ;;
            'in '*)  printf '%s\n' "${line#in }" >>in ;;
            'run '*) run=${line#run } ;;
            'exit '*) want=${line#exit } ;;
            'out '*) printf '%s\n' "${line#out }" >>out ;;
            'out~ '*|'err~ '*|'out! '*|'err! '*) printf '%s\n' "$line" >>checks ;;
            *) fail "$file: cannot read: $line" ;;
        esac
    done <"$path"
    judge
done
finish
