#!/bin/sh
# SPDX-License-Identifier: MIT
# Run the tests on a build that counts branches, the long ones shortened: each of their crashes
# and bits takes the same code. Usage: coverage.sh BUILD_DIRECTORY [--html DIRECTORY]
set -eu
build=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
html=
[ "${1:-}" != --html ] || html=$2
log=$build/coverage.log
failed=

quietly() { # COMMAND...: what it prints matters when it fails
    if ! "$@" >"$log" 2>&1; then
        grep -E 'FAIL|ERROR|TIMEOUT|not true|violation' "$log" >&2 || tail -n 20 "$log" >&2
        failed=yes
    fi
}

# All but what builds, needs root, or takes long for branches that others take.
names() {
    meson test -C "$build" --list 2>/dev/null | grep '^tinykv:' | grep -vE '^tinykv:(build|labs)' |
        sed 's|.* / ||' | grep -vxE 'crash|crash_determinism|damage|kill|kill_on_disk|soak|space|strace|call_order'
}

find "$build" -name '*.gcda' -delete
names >"$build/names"
quietly xargs -d '\n' meson test -C "$build" --no-rebuild --timeout-multiplier 4 <"$build/names"
quietly "$build/tests/crash/test_crash" --states 8000
quietly "$build/tests/damage/test_damage" --bits 200 --only always-killed
[ -z "$html" ] || {
    mkdir -p "$html"
    gcovr --root "$root" --object-directory "$build" --exclude-unreachable-branches \
        --gcov-ignore-parse-errors --filter "$root/(lib|wal|compactor)/.*" \
        --html-details "$html/index.html" "$build"
}
python3 "$root/tests/coverage/coverage.py" "$build" || failed=yes
[ -z "$failed" ]
