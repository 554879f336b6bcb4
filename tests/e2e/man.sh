#!/bin/sh
# man.sh - each command has a man page that says what its -h says: the same synopsis, every option;
# and the pages are well formed.
. "$(dirname "$0")/../lib/e2e.sh"

# The text of section $2 of page $1: macros and escapes taken out, one line.
section() {
    awk -v want="$2" '/^\.SH / { on = substr($0, 5) == want; next }
        !on || /^\.\\"/ || /^\.(PP|br)/ { next }
        { sub(/^\.[A-Z]+ */, ""); gsub(/\\f[A-Z]/, ""); gsub(/\\-/, "-"); gsub(/\\e/, "\\"); gsub(/\\&/, "")
          printf "%s%s", sep, $0; sep = " " }' "$1"
}

drover help --complete | awk -F '\t' '$2 == "" { print $1 }' >commands
while read -r cmd; do
    page=$SRC/man/drover-$cmd.1
    if [ ! -f "$page" ]; then fail "there is no man/drover-$cmd.1 (make man starts one)"; continue; fi
    usage=$(drover "$cmd" -h </dev/null | sed -n '1s/^usage: //p')
    if [ "$(section "$page" SYNOPSIS)" = "$usage" ]; then ok; else
        fail "man/drover-$cmd.1: SYNOPSIS is \"$(section "$page" SYNOPSIS)\", -h says \"$usage\" (make man)"
    fi
    text=$(section "$page" OPTIONS)
    for o in $(drover "$cmd" -h </dev/null | grep -oE '^  (-.,)? *--[a-z0-9-]+' | grep -oE '\-\-[a-z0-9-]+'); do
        case " $text " in *"$o"[!a-z0-9-]*) ok ;; *) fail "man/drover-$cmd.1 does not know $o (make man)" ;; esac
    done
    if grep -q 'to be written' "$page"; then fail "man/drover-$cmd.1 has no DESCRIPTION yet"; else ok; fi
done <commands
for page in "$SRC"/man/*.1; do
    name=$(basename "$page" .1)
    [ "$name" = drover ] || grep -qxF "${name#drover-}" commands || fail "$name.1 is of no command"
    listed=$(printf '%s' "$name" | sed 's/-/\\-/g')
    grep -qF "$listed (1)" "$SRC/man/drover.1" || [ "$name" = drover ] ||
        fail "man/drover.1 does not list $name (make man)"
    if have mandoc; then
        if mandoc -T lint -W warning "$page" >log; then ok; else fail "$name.1"; cat log; fi
    fi
done
have mandoc || skip "mandoc is not here"
finish
