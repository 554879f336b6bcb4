#!/bin/sh
# embed.sh - the page's files as C: what src/serve/web.h declares.
# usage: tools/embed.sh FILE... >web_data.c      make runs it; nothing of it is in git
# Each file goes in twice, as it is and as gzip makes it, with a tag of its content.
set -eu
bytes() { od -An -v -tu1 "$1" | tr -s ' \n' ',,' | sed 's/^,//; s/,$//; s/\([0-9,]\{110\}[0-9]*,\)/\1\n/g'; }
type_of() {
    case $1 in
        *.html) echo 'text/html; charset=utf-8' ;;
        *.js)   echo 'text/javascript; charset=utf-8' ;;
        *.css)  echo 'text/css; charset=utf-8' ;;
        *.svg)  echo 'image/svg+xml' ;;
        *.yaml) echo 'application/yaml; charset=utf-8' ;;
        *.webmanifest) echo 'application/manifest+json' ;;
        *)      echo "embed.sh: no type for $1" >&2; exit 1 ;;
    esac
}
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
echo '/* Made by tools/embed.sh from web/. */'
echo '#include "serve/web.h"'
rows=
n=0
for f; do
    type=$(type_of "$f")
    gzip -9 -n -c "$f" >"$tmp"
    printf 'static const unsigned char f%d[] = {\n%s\n};\n' $n "$(bytes "$f")"
    printf 'static const unsigned char z%d[] = {\n%s\n};\n' $n "$(bytes "$tmp")"
    tag=$(sha256sum "$f" | cut -c 1-20)
    rows="$rows    { \"$(basename "$f")\", \"$type\", \"\\\"$tag\\\"\", \"\\\"$tag-gz\\\"\", f$n, sizeof f$n, z$n, sizeof z$n },
"
    n=$((n + 1))
done
printf 'const web_file web_files[] = {\n%s    { 0 }\n};\n' "$rows"
