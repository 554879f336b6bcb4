# e2e.sh - what the end-to-end tests share; sourced by tests/e2e/*.sh, which run from anywhere.
# It leaves: SRC the tree, T an empty folder removed at the end (the current folder), `drover` in
# PATH and as ./drover, and ok/fail/skip, whose counts `finish` prints. $DROVER is the program
# tested (default: the tree's ./drover).
SRC=$(cd "$(dirname "$0")/../.." && pwd)
prog=${DROVER:-$SRC/drover}
case $prog in /*) ;; *) prog=$SRC/$prog ;; esac
case ${O:-} in ''|/*) ;; *) O=$SRC/$O ;; esac
[ -x "$prog" ] || { echo "no program at $prog: run make first"; exit 1; }
T=$(mktemp -d)
trap 'cd /; rm -rf "$T"' EXIT
trap 'exit 130' INT TERM
mkdir "$T/bin" "$T/work"
ln -s "$prog" "$T/bin/drover"
cd "$T/work" || exit 1
ln -s "$prog" drover
PATH=$T/bin:$PATH
export SRC T O PATH
export LC_ALL=C.UTF-8
passed=0 failed=0 skipped=0

ok()   { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
skip() { skipped=$((skipped + 1)); echo "skip $*"; }
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] && [ $((passed + skipped)) -gt 0 ]
    exit
}

# have WHAT: whether something a test needs is here. Models are looked for, never fetched.
have() {
    case $1 in
        smollm2) [ -n "${have_smollm2:=$(drover list 2>/dev/null </dev/null | grep -q '^smollm2' && echo 1 || echo 0)}" ]
                 [ "$have_smollm2" = 1 ] ;;
        *)       command -v "$1" >/dev/null 2>&1 ;;
    esac
}
# started WHAT: $url of the server $pid, whose log is in the file err, once it listens.
started() {
    url=
    for i in $(seq 600); do
        url=$(sed -n 's/.*listening on \(.*\)/\1/p' err)
        [ -z "$url" ] || return 0
        kill -0 $pid 2>/dev/null || break
        sleep 0.05
    done
    fail "no server: $*: $(cat err)"
    return 1
}
# The names of all commands, one a line.
commands() { drover help --all | sed -n 's/^  *\([a-z][a-z-]*\)  .*/\1/p'; }
