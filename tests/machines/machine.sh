#!/bin/sh
# SPDX-License-Identifier: MIT
# machine.sh ARCH DIRECTORY [MESON TEST ARGUMENTS]: build the store and run its tests in a small
# Debian of another machine, which is made in DIRECTORY once. ARCH is Debian's word: i386 has
# pointers of 32 bits. The kernel must run such programs, by itself or through binfmt_misc.
# As root. What is mounted is in namespaces that end with their processes.
set -eu

release=bookworm
packages=gcc,libc6-dev,meson,ninja-build,pkg-config,python3,uthash-dev,libxxhash-dev,zlib1g-dev
packages=$packages,libdeflate-dev

arch=$1
directory=$2
shift 2
cd "$(dirname "$0")/../.."

[ "$(id -u)" = 0 ] || {
    echo "machine.sh: only root can make another system" >&2
    exit 1
}

# "unfinished" and "made" tell what this script has made from what somebody else has.
make_system() {
    if [ -e "$directory/unfinished" ]; then
        rm -rf "$directory"
    fi
    mkdir "$directory"
    touch "$directory/unfinished"
    unshare --mount debootstrap --variant=minbase --arch="$arch" --include="$packages" \
        "$release" "$directory" >"$directory.log" 2>&1 || {
        tail -n 20 "$directory.log" >&2
        exit 1
    }
    mv "$directory/unfinished" "$directory/made"
}

copy_source() {
    rm -rf "$directory/tinykv/source"
    mkdir -p "$directory/tinykv/source"
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard \
        >"$directory/tinykv/files"
    tar cf "$directory/tinykv/source.tar" --null -T "$directory/tinykv/files"
    tar xf "$directory/tinykv/source.tar" -C "$directory/tinykv/source"
}

[ -e "$directory/made" ] || make_system
copy_source
cat >"$directory/tinykv/test" <<'END'
set -eu
mount -t proc proc /proc
cd /tinykv
[ -e build/build.ninja ] || meson setup build source -Dbench=false
ninja -C build >build.log || {
    cat build.log
    exit 1
}
status=0
meson test -C build --no-rebuild --print-errorlogs --timeout-multiplier 20 "$@" || status=$?
python3 source/tests/summary.py build/meson-logs/testlog.json || status=1
exit $status
END
personality=
setarch "$arch" true 2>/dev/null && personality="setarch $arch" # what uname tells meson
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    unshare --mount $personality chroot "$directory" sh /tinykv/test "$@"
