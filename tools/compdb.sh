#!/bin/sh
# compdb.sh - print compile_commands.json (what clangd and clang-tidy read) for one build.
# usage: tools/compdb.sh build/release        (make compdb)
# make -nB says what it would run; each compile command there becomes an entry.
cd "$(dirname "$0")/.." || exit 2
make -nB O="$1" drover 2>/dev/null | awk -v dir="$PWD" '
    BEGIN { print "[" }
    / -c -o / {
        gsub(/\\/, "\\\\"); gsub(/"/, "\\\"")
        printf "%s{\"directory\": \"%s\", \"file\": \"%s\", \"command\": \"%s\"}", sep, dir, $NF, $0
        sep = ",\n"
    }
    END { print "\n]" }'
