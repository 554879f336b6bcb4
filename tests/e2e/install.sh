#!/bin/sh
# install.sh - make install puts everything in place, a C program builds against what it put there,
# only the public names are visible in the libraries, and make uninstall takes all of it away.
. "$(dirname "$0")/../lib/e2e.sh"
CC=${CC:-gcc}
build=$(basename "${O:-$SRC/build/release}")
build=${build%%-*}
dest=$T/dest
expect() { what=$1; shift; if "$@" >log 2>&1; then ok; else fail "$what"; sed 's/^/  /' log; fi; }

case $build in
    asan|ubsan|tsan|cov) skip "the installed library is tried in ordinary builds"; finish ;;
esac
expect "make install" make -s -C "$SRC" BUILD="$build" CC="$CC" PREFIX=/usr DESTDIR="$dest" install
for f in bin/drover include/drover.h lib/libdrover.a lib/libdrover.so lib/libdrover.so.0 \
         lib/pkgconfig/drover.pc share/man/man1/drover.1 \
         share/bash-completion/completions/drover share/zsh/site-functions/_drover; do
    expect "$f is installed" test -s "$dest/usr/$f"
done
expect "soname" sh -c "readelf -d '$dest/usr/lib/libdrover.so' | grep -q 'soname: .libdrover.so.0.'"

# The public names: what drover.h declares, no more and no less, in both libraries.
sed -n 's/.*[ *]\(dr_[a-z0-9_]*\)(.*/\1/p' "$SRC/include/drover.h" | grep -v '^dr_.*_fn$' | sort -u >declared
nm -D --defined-only "$dest/usr/lib/libdrover.so" | awk '{print $3}' | sort -u >shared
nm -g --defined-only "$dest/usr/lib/libdrover.a" 2>/dev/null | awk 'NF==3 {print $3}' | sort -u >static
expect "libdrover.so exports drover.h" diff declared shared
expect "libdrover.a exports drover.h" diff declared static

cat >user.c <<'END'
#include <drover.h>
#include <stdio.h>
int main(void) { dr_err e = {0}; return e.code + puts("ok") < 0; }
END
if have pkgconf; then
    export PKG_CONFIG_PATH="$dest/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dest"
    # shellcheck disable=SC2046  # flags
    expect "a program links with the shared library" \
        "$CC" user.c -o user $(pkgconf --cflags --libs drover) -Wl,--no-as-needed
    expect "and runs" env LD_LIBRARY_PATH="$dest/usr/lib" ./user
    # shellcheck disable=SC2046
    expect "a program links with the static library" \
        "$CC" user.c -o user2 $(pkgconf --cflags drover) "$dest/usr/lib/libdrover.a" \
        $(pkgconf --static --libs-only-l drover | sed 's/-ldrover//')
    expect "and runs" ./user2
else
    skip "pkgconf is not here"
fi
expect "make uninstall" make -s -C "$SRC" BUILD="$build" CC="$CC" PREFIX=/usr DESTDIR="$dest" uninstall
expect "nothing is left" sh -c "[ -z \"\$(find '$dest' -type f -o -type l)\" ]"
finish
