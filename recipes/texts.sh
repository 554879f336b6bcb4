#!/bin/sh
# texts.sh - English texts that a Debian machine has, for the recipe scratch-11m.yaml: manual pages as
# plain text (one a file), and fortunes with a line % after each.
# usage: recipes/texts.sh DIR        writes DIR/man/*.txt and DIR/fortunes.txt
# needs: apt-get install -y manpages manpages-dev fortunes mandoc bsdextrautils
set -eu
[ $# -eq 1 ] || { sed -n '4,5s/^# //p' "$0" >&2; exit 2; }
for p in mandoc col; do
    command -v $p >/dev/null || { echo "texts.sh: needs $p: apt-get install -y mandoc bsdextrautils" >&2; exit 1; }
done
[ -d /usr/share/games/fortunes ] || { echo "texts.sh: needs fortunes: apt-get install -y fortunes" >&2; exit 1; }
mkdir -p "$1/man"
for s in 1 2 5 7 8; do                            # 3, programming, would be most of it
    for f in /usr/share/man/man$s/*.gz; do
        [ -f "$f" ] && [ ! -L "$f" ] || continue
        n=$(basename "$f" .gz)
        # pages that are only another's name (.so) are left out
        zcat "$f" | head -c 4 | grep -q '^\.so' && continue
        zcat "$f" | mandoc -T utf8 -O width=72 2>/dev/null | col -bx >"$1/man/$n.txt" || rm -f "$1/man/$n.txt"
    done
done
for f in /usr/share/games/fortunes/*.u8; do
    n=$(basename "$f" .u8)
    case $n in *art*|*-o) continue ;; esac       # pictures
    cat "$f"
    echo %
done | iconv -c -f utf-8 -t utf-8 >"$1/fortunes.txt"
echo "$(find "$1/man" -name '*.txt' | wc -l) manual pages, $(grep -c '^%$' "$1/fortunes.txt") fortunes"
