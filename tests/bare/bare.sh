#!/bin/sh
# bare.sh - both README commands in a fresh minimal Debian 12, timed, then both again.
# usage: sudo tests/bare/bare.sh [FOLDER]      FOLDER (default: a new one under /var/tmp) is kept
# Needs root, debootstrap and a committed tree (git archive). The new root gets this machine's
# resolver, certificates, package sources and pip settings (how the network is reached), and
# nothing else; the tree has no .git. QUICK=1 leaves out the second run of the tests. The last line is "N passed, N failed".
set -u
[ "$(id -u)" -eq 0 ] || { echo "bare.sh: needs root"; exit 2; }
command -v debootstrap >/dev/null || { echo "bare.sh: needs debootstrap"; exit 2; }
cd "$(dirname "$0")/../.." || exit 2
keep=${1:+yes}
work=${1:-$(mktemp -d /var/tmp/drover-bare.XXXXXX)}
mkdir -p "$work" || exit 2
root=$work/root
passed=0 failed=0
ok()   { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }

mounts="proc dev/pts dev sys"
away() {                    # unmount; the root's files are only removed when nothing is mounted in it
    for m in $mounts; do ! mountpoint -q "$root/$m" || umount "$root/$m" || umount -l "$root/$m"; done
    if [ -z "$keep" ] && ! grep -q " $root/" /proc/mounts; then rm -rf --one-file-system "$work"; fi
}
trap away EXIT
trap 'exit 130' INT TERM

# --- the root
mirror=$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm .*/\2/p' \
         /etc/apt/sources.list /etc/apt/sources.list.d/debian* 2>/dev/null | head -1)
t0=$(date +%s)
debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >"$work/debootstrap.log" 2>&1 ||
    { echo "debootstrap failed:"; tail "$work/debootstrap.log"; exit 1; }
echo "root made in $(($(date +%s) - t0)) s, $(chroot "$root" dpkg-query -W | wc -l) packages"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# As the network's own certificates, so that Debian's package of certificates keeps them, and as the
# bundle that pip is told of.
bundle=/etc/ssl/certs/ca-certificates.crt
mkdir -p "$root/etc/ssl/certs" "$root/etc/ssl/network"
cp -L $bundle "$root/etc/ssl/certs/"
cp -L $bundle "$root/etc/ssl/network/bundle.crt"
printf '[global]\ncert = /etc/ssl/network/bundle.crt\n' >"$root/etc/pip.conf"
cp -f /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" 2>/dev/null &&
    : >"$root/etc/apt/sources.list"
for f in /etc/apt/apt.conf.d/*; do
    if grep -qE 'Acquire::|Proxy' "$f" 2>/dev/null; then cp "$f" "$root/etc/apt/apt.conf.d/"; fi
done
index=$(python3 -m pip config get global.index-url 2>/dev/null)
[ -z "$index" ] || echo "index-url = $index" >>"$root/etc/pip.conf"

# --- the tree
mkdir -p "$root/src/drover"
git archive HEAD | tar -x -C "$root/src/drover"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t devpts devpts "$root/dev/pts"

inside() {                  # inside COMMAND...: only what a login would have
    chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        sh -c 'cd /src/drover && exec "$@"' sh "$@"
}
timed() {                   # timed WHAT COMMAND...
    what=$1; shift
    t0=$(date +%s.%N)
    inside "$@" >"$work/$what.out" 2>"$work/$what.err" </dev/null
    rc=$?
    took=$(date +%s.%N | awk -v t0="$t0" '{ printf "%.1f", $1 - t0 }')
    echo "$what: status $rc, $took s"
    if [ $rc -eq 0 ]; then ok; else fail "$what"; tail -n 30 "$work/$what.err" "$work/$what.out"; fi
}
# The commands are README's first two sh blocks, as they stand.
readme() { awk -v n="$1" '/^```sh$/ { on = ++k == n; next } /^```/ { on = 0 } on' README.md; }

timed first-answer sh -c "$(readme 1)"
cat "$work/first-answer.out"
timed first-tests sh -c "$(readme 2)"
tail -n 2 "$work/first-tests.out"
timed setup-again ./setup
if awk -v t="$took" 'BEGIN { exit !(t <= 2) }'; then ok; else fail "set-up again took $took s, 2 allowed"; fi
timed second-answer sh -c "$(readme 1)"
cat "$work/second-answer.out"
if [ -z "${QUICK:-}" ]; then
    timed second-tests sh -c "$(readme 2)"
    tail -n 2 "$work/second-tests.out"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
