#!/bin/sh
# SPDX-License-Identifier: MIT
# machine.sh ARCH DIRECTORY [MESON TEST ARGUMENTS]: build the store and run its tests in a small
# Debian of another machine, which is made in DIRECTORY once. ARCH is Debian's word: i386 has
# pointers of 32 bits. The kernel must run such programs, by itself or through binfmt_misc.
# As root. What is mounted is mounted for this script alone.
set -eu

release=bookworm
packages=gcc,libc6-dev,meson,ninja-build,pkg-config,python3,uthash-dev,libxxhash-dev,zlib1g-dev
packages=$packages,libdeflate-dev

arch=$1
directory=$2
shift 2
[ -e "$directory/made" ] || {
    rm -rf "$directory"
    debootstrap --variant=minbase --arch="$arch" --include="$packages" "$release" "$directory" \
        >"$directory.log" 2>&1 || {
        tail -n 20 "$directory.log" >&2
        exit 1
    }
    touch "$directory/made"
}
rm -rf "$directory/tinykv/source"
mkdir -p "$directory/tinykv/source"
git ls-files --cached --others --exclude-standard | tar cf - -T - |
    tar xf - -C "$directory/tinykv/source"
cat >"$directory/tinykv/test" <<'END'
mount -t proc proc /proc
cd /tinykv
[ -e build ] || meson setup build source -Dbench=false
ninja -C build >build.log || { grep -E -A8 'error|FAILED' build.log; exit 1; }
status=0
meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 20 "$@" || status=$?
python3 source/tests/summary.py build/meson-logs/testlog.json
exit $status
END
personality=
setarch "$arch" true 2>/dev/null && personality="setarch $arch" # what uname tells meson
exec unshare --mount $personality chroot "$directory" sh /tinykv/test "$@"
