#!/bin/sh
# gen_man.sh - write the tables of man/ anew from what ./drover says of itself.
# usage: tools/gen_man.sh        (make man)
# In man/drover-CMD.1 the lines between `.\" begin WHAT` and `.\" end` are ours, WHAT being name,
# synopsis or options; in man/drover.1, commands. All else is written by hand and stays. A command
# without a page gets one whose DESCRIPTION is the details of its -h, to be edited from there.
# make check fails when a page and its command disagree (tests/e2e/man.sh).
set -eu
cd "$(dirname "$0")/.."
drover=${DROVER:-./drover}
tab=$(mktemp)
trap 'rm -f "$tab" "$tab".*' EXIT
"$drover" help --complete >"$tab"
date=$(sed -n '1s/^.TH DROVER 1 \([^ ]*\).*/\1/p' man/drover.1)

roff='function roff(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^[.\x27]/) s = "\\&" s; return s }'

# What stands between the marks, for command $1 and part $2.
part() {
    awk -F '\t' -v cmd="$1" -v what="$2" "$roff"'
        what == "commands" && $2 == "" {
            printf ".TP\n.BR drover\\-%s (1)\n%s\n", roff($1), roff($4); next }
        $1 != cmd { next }
        what == "name" && $2 == "" { printf "drover\\-%s \\- %s\n", roff($1), roff($4) }
        what == "synopsis" && $2 == "" { printf ".B drover %s\n%s\n", roff($1), roff($3) }
        what == "options" && $2 != "" {
            n = split($2, a, ",")
            printf ".TP\n.B %s", roff(a[1])
            if (n > 1) printf ", %s", roff(a[2])
            if ($3 != "") printf " \\fI%s\\fP", roff($3)
            printf "\n%s\n", roff($4) }' "$tab"
}

fill() {                    # fill PAGE CMD
    for what in name synopsis options commands; do part "$2" $what >"$tab.$what"; done
    awk -v base="$tab" '
        /^\.\\" end/ { skip = 0 }
        !skip { print }
        /^\.\\" begin / { f = base "." $3; while ((getline line < f) > 0) print line; close(f); skip = 1 }
    ' "$1" >"$tab.new"
    cmp -s "$tab.new" "$1" || { cp "$tab.new" "$1"; echo "wrote $1"; }
}

awk -F '\t' '$2 == "" { print $1 }' "$tab" | while read -r cmd; do
    page=man/drover-$cmd.1
    if [ ! -f "$page" ]; then
        up=$(echo "drover-$cmd" | tr '[:lower:]' '[:upper:]')
        {
            printf '.TH %s 1 %s drover "User commands"\n' "$up" "$date"
            printf '.SH NAME\n.\\" begin name\n.\\" end\n.SH SYNOPSIS\n.\\" begin synopsis\n.\\" end\n'
            printf '.SH DESCRIPTION\n'
            "$drover" "$cmd" -h | awk "$roff"'
                NR < 5 { next } /^Options:/ { exit } /^$/ { gap = 1; next }
                gap && n { print ".PP" } { gap = 0; n++; print roff($0) }
                END { if (!n) print "(to be written)" }'
            printf '.SH OPTIONS\n.\\" begin options\n.\\" end\n'
            printf '.SH EXIT STATUS\n0 success, 1 failure (one sentence on standard error), 2 wrong command line.\n'
            printf '.SH SEE ALSO\n.BR drover (1)\n'
        } >"$page"
    fi
    fill "$page" "$cmd"
done
fill man/drover.1 ''
