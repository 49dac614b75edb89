#!/bin/sh
# SPDX-License-Identifier: MIT
# test_outside.sh - TinyKv can be embedded by others: as a meson subproject, and installed,
# through pkg-config, with the static and with the shared library.
#
#     test_outside.sh SOURCE-DIRECTORY
set -u

source=$(cd "${1:?usage: test_outside.sh SOURCE-DIRECTORY}" && pwd) || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/tinykv-outside-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
unset TINYKV_DIR PKG_CONFIG_PATH LD_LIBRARY_PATH
prefix=$work/prefix
cc=${CC:-cc}

outside_project() { # DIRECTORY - a copy of the project to work in
    cp -R "$source/tests/outside/project" "$1"
    chmod -R u+w "$1"
}

installed() { # COMMAND... - with the installed library in sight
    PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib "$@"
}

# ---- Cases, in order: the first installs what the later ones use ---------------------------------

tinykv_installs_itself() {
    meson setup "$work/build" "$source" --prefix="$prefix" --libdir=lib -Dtests=false \
        -Dbench=false -Dexamples=false
    meson install -C "$work/build"
    ls "$prefix/include/tinykv.h" "$prefix/lib/libtinykv.a" "$prefix/lib/libtinykv.so" \
        "$prefix/bin/tinykv" "$prefix/lib/pkgconfig/tinykv.pc"
    [ "$(ls "$prefix/include")" = tinykv.h ]
    "$prefix/bin/tinykv" version
}

a_meson_project_finds_the_installed_library() {
    outside_project project
    installed meson setup build project --wrap-mode=nofallback
    installed meson test -C build --print-errorlogs
}

a_meson_project_has_it_as_a_subproject() {
    outside_project project
    mkdir project/subprojects
    ln -s "$source" project/subprojects/tinykv
    meson setup build project --wrap-mode=forcefallback
    meson test -C build --print-errorlogs
    # An embedder pays for the library only.
    [ -z "$(find build/subprojects -name 'tinykv-demo*' -o -name 'test_*' -o -name 'example_*')" ]
    # And installs nothing of it beside his program.
    DESTDIR=$PWD/stage meson install -C build
    [ -z "$(find stage -name '*tinykv*' 2>/dev/null)" ]
}

a_subproject_shows_its_user_no_header_but_its_own() {
    outside_project project
    mkdir project/subprojects
    ln -s "$source" project/subprojects/tinykv
    meson setup build project --wrap-mode=forcefallback
    ninja -C build -t commands outside | grep 'outside\.c' | tr ' ' '\n' | sed -n 's/^-I//p' >seen
    [ -s seen ]
    [ "$(cd build && xargs -I DIRECTORY find DIRECTORY -maxdepth 1 -name '*.h' <../seen |
        sed 's:.*/::')" = tinykv.h ]
}

a_wrap_file_provides_it() {
    outside_project project
    mkdir project/subprojects
    ln -s "$source" project/subprojects/tinykv-here
    printf '[wrap-file]\ndirectory = tinykv-here\n\n[provide]\ntinykv = tinykv_dep\n' \
        >project/subprojects/tinykv.wrap
    sed -i.old "s/, fallback: .*)/)/" project/meson.build
    meson setup build project --wrap-mode=forcefallback
    meson test -C build --print-errorlogs
}

the_shared_library_links_through_pkg_config() {
    # shellcheck disable=SC2046
    $cc -std=c11 -o outside "$source/tests/outside/project/outside.c" \
        $(installed pkg-config --cflags --libs tinykv)
    installed ./outside
}

the_static_library_links_through_pkg_config() {
    # shellcheck disable=SC2046
    $cc -std=c11 -o outside "$source/tests/outside/project/outside.c" \
        $(installed pkg-config --cflags tinykv) "$prefix/lib/libtinykv.a" \
        $(installed pkg-config --static --libs-only-l tinykv | sed 's/-ltinykv//')
    ./outside
}

the_shared_library_exports_only_the_interface() {
    command -v nm >/dev/null || exit 77
    nm -D --defined-only "$prefix/lib/libtinykv.so" | awk '{ print $3 }' | sort >exported
    grep -o 'tkv_[a-z_]*(' "$prefix/include/tinykv.h" | tr -d '(' | sort -u >declared
    [ -s exported ]
    [ -z "$(comm -23 exported declared)" ]
}

the_header_stands_alone() {
    printf '#include <tinykv.h>\n#include <tinykv.h>\nint tkv_unused_name(void);\n' >alone.c
    for standard in c99 c11; do
        $cc -std=$standard -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes \
            -Werror -I"$prefix/include" -fsyntax-only alone.c
    done
    command -v c++ >/dev/null || return 0
    cp alone.c alone.cc
    c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -I"$prefix/include" -fsyntax-only alone.cc
}

# ---- All of them ---------------------------------------------------------------------------------

passed=0 failed=0

for name in $(sed -n '/^# ---- Cases/,/^# ---- All of them/s/^\([a-z0-9_]*\)() {$/\1/p' "$0"); do
    mkdir "$work/$name"
    (
        cd "$work/$name" || exit 1
        set -eu
        "$name"
    ) >"$work/log" 2>&1 </dev/null
    code=$?
    if [ $code -eq 0 ] || [ $code -eq 77 ]; then
        [ $code -eq 0 ] && echo "ok $name" || echo "ok $name # skipped"
        passed=$((passed + 1))
    else
        echo "not ok $name"
        tail -n 40 "$work/log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
