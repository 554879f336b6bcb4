#!/bin/sh
# docs.sh - run every ```sh block of README.md and docs/, so that no example goes stale.
# usage: tests/e2e/docs.sh [FILE...]
# The line before a block may say more, in a comment that readers do not see:
#   <!-- not run: WHY -->      the block is only shown
#   <!-- needs WHAT -->        skipped unless WHAT is here (smollm2, or a program)
# README's table of commands has every command that `drover help` lists and none that is not there.
# A block passes when it ends 0 under sh -e. It runs in an empty folder with ./drover in it;
# blocks of one file share the folder.
here=$PWD
. "$(dirname "$0")/../lib/e2e.sh"

sed -n 's/^| `drover \([a-z-]*\).*/\1/p' "$SRC/README.md" | sort >table
drover help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' | sort >most
drover help --all | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' | sort >all
if [ -z "$(comm -23 most table)$(comm -13 all table)" ]; then ok; else
    fail "README's table lacks: $(comm -23 most table); has what is no command: $(comm -13 all table)"
fi
[ $# -gt 0 ] || set -- "$SRC"/README.md "$SRC"/docs/*.md "$SRC"/docs/*/*.md
for path in "$@"; do
    case $path in /*) ;; *) path=$here/$path ;; esac
    [ -f "$path" ] || continue
    name=${path#"$SRC"/}
    dir=$T/work/$(echo "$name" | tr / _).d
    mkdir "$dir" && cd "$dir" || exit 1
    ln -s "$prog" drover
    awk '/^```/ && inside { close(out); inside = 0; next }
         inside { print > out; next }
         /^```sh$/ { inside = 1; out = "block" ++n; printf "%s\t%d\t%s\n", out, NR, before; next }
         /^```/ { inside = 1; out = "/dev/null"; next }
         { before = $0 }' "$path" >blocks
    while IFS='	' read -r block at before; do
        case $before in
            '<!-- not run: '*) continue ;;
            '<!-- needs '*)
                need=${before#<!-- needs }; need=${need% -->}
                have "$need" || { skip "$name:$at: needs $need"; continue; } ;;
        esac
        if sh -e "./$block" >log 2>&1 </dev/null; then ok; else
            fail "$name:$at: ended with $?"
            sed 's/^/  /' "$block"; sed 's/^/  > /' log | tail -20
        fi
    done <blocks
done
[ $((passed + failed + skipped)) -gt 0 ] || skip "no examples yet"
finish
