#!/bin/sh
# size.sh - the stripped program's bytes and how long a build from nothing takes on all cores.
# usage: tools/size.sh
cd "$(dirname "$0")/.." || exit 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
t0=$(date +%s.%N)
make -s -j"$(nproc)" O="$dir/o" "$dir/o/drover" >/dev/null || exit 1
t1=$(date +%s.%N)
strip -o "$dir/drover" "$dir/o/drover" || exit 1
printf 'stripped program: %s bytes\nbuild from nothing: %.1f s on %s cores\n' \
    "$(wc -c <"$dir/drover")" "$(echo "$t0 $t1" | awk '{print $2-$1}')" "$(nproc)"
