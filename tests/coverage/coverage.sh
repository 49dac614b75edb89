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

find "$build" -name '*.gcda' -delete
meson test -C "$build" --no-rebuild --quiet --timeout-multiplier 4 \
    --suite unit --suite examples --suite tools --suite fuzz
meson test -C "$build" --no-rebuild --quiet --timeout-multiplier 4 \
    found guards reclaim store order order_altered faults \
    deaths locks surroundings rights signals
"$build/tests/crash/test_crash" --states 8000 >/dev/null
"$build/tests/damage/test_damage" --bits 2000 >/dev/null
[ -z "$html" ] || {
    mkdir -p "$html"
    gcovr --root "$root" --object-directory "$build" --exclude-unreachable-branches \
        --gcov-ignore-parse-errors --filter "$root/(lib|wal|compactor)/.*" \
        --html-details "$html/index.html" "$build"
}
python3 "$root/tests/coverage/coverage.py" "$build"
