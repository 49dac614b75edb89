#!/bin/sh
# SPDX-License-Identifier: MIT
# test_cli.sh - what docs/cli.md promises about the tinykv command: every verb, every exit
# code, and what it says in bad times.
#
#     test_cli.sh PATH-OF-TINYKV [NAME]      all cases, or those whose name contains NAME
#
# Each case is a function that runs in an empty directory of its own under `set -eu`; it fails
# with the first command that does, and is skipped when it exits with 77.
set -u

tinykv=${1:?usage: test_cli.sh PATH-OF-TINYKV [NAME]}
only=${2:-}
case $tinykv in
/*) ;;
*) tinykv=$PWD/$tinykv ;;
esac
work=$(mktemp -d "${TMPDIR:-/tmp}/tinykv-cli-XXXXXX") || exit 1
unset TINYKV_DIR
LC_ALL=C
export LC_ALL

clean_up() {
    umount "$work"/*/mount 2>/dev/null
    chmod -R u+w "$work"
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# ---- Words that the cases are written in ------------------------------------------------------

# run CODE ARGUMENT... - the command must exit with CODE; its output goes to the files out, err
run() {
    expected=$1
    shift
    code=0
    "$tinykv" "$@" >out 2>err || code=$?
    if [ "$code" != "$expected" ]; then
        echo "exit code $code, not $expected: tinykv $*"
        cat err
        return 1
    fi
}

# on CODE ARGUMENT... - the same with the store of the case
on() {
    expected=$1
    shift
    run "$expected" -d store "$@"
}

# prints TEXT - what was printed is TEXT, to the byte
prints() {
    printf '%s' "$1" >expected
    cmp expected out
}

# prints_line TEXT - TEXT and a newline
prints_line() {
    printf '%s\n' "$1" >expected
    cmp expected out
}

# complains TEXT - standard error contains TEXT
complains() {
    grep -qF -- "$1" err || {
        echo "not said: $1"
        cat err
        return 1
    }
}

silent() {
    [ ! -s out ] && [ ! -s err ]
}

# json FILE EXPRESSION - FILE is one JSON value `x` for which the Python expression is true
json() {
    command -v python3 >/dev/null || exit 77
    python3 -c 'import json, sys
x = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else "not true: %s of %s" % (sys.argv[2], x))' "$1" "$2"
}

# Wait, but not for ever, until the command succeeds.
wait_until() {
    tries=0
    until "$@" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 500 ] || {
            echo "waited in vain: $*"
            return 1
        }
        sleep 0.02
    done
}

has_lines() { # FILE COUNT
    [ "$(wc -l <"$1")" -ge "$2" ]
}

numbered_lines() { # COUNT [VALUE]
    awk -v count="$1" -v value="${2:-value}" \
        'BEGIN { for (i = 1; i <= count; i++) printf "{\"k\":\"%07d\",\"v\":\"%s %d\"}\n", i, value, i }'
}

base64_line() {
    base64 | tr -d '\n'
}

# Keys and values of all sorts: every byte, text, both empty, large, JSON's and TSV's own signs.
make_mixture() {
    i=0
    while [ $i -lt 256 ]; do
        printf '{"k64":"%s","v64":"%s"}\n' \
            "$(printf "\\$(printf %03o $i)" | base64_line)" \
            "$(head -c $((i * 7)) /dev/urandom | base64_line)"
        i=$((i + 1))
    done
    printf '{"k":"","v64":"%s"}\n' "$(head -c 200000 /dev/urandom | base64_line)"
    printf '%s\n' '{"k":"a longer \"key\"","v":""}' '{"k":"\ud83d\ude00\u0000\u001f","v":"\/\b\f\n\r\t"}' \
        '{"k":"\\t","v":"\\x41 {}"}' '{"k":"{\"k\"","v":"\ttabs\t"}'
    printf 'plain\ttext with \\t tab, \\n newline, \\\\ backslash, \\x00 zero\n'
    head -c 300000 /dev/zero | tr '\0' x | sed 's/^/long	/'
    echo
}

# refuses LINE TEXT - as the third line, LINE stops the load with its number and TEXT
refuses() {
    printf 'a\t1\n\n%s\nb\t2\n' "$1" >lines
    run 2 -d refused load --batch 1 lines
    complains 'line 3: '
    complains "$2"
    run 0 -d refused list
    prints_line a
}

damage() { # FILE OFFSET - four bytes of it
    printf '\252\125\252\125' | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# acknowledged_survive BATCH - kill a load after some acknowledgements, and look
acknowledged_survive() {
    numbered_lines 1000000 >lines
    "$tinykv" -d store load --ack --batch "$1" lines >acks 2>err &
    loader=$!
    wait_until has_lines acks "$2"
    kill -9 $loader
    wait $loader 2>/dev/null || true
    lines=$(tail -n 1 acks | sed 's/^ack //')
    [ "$lines" -ge "$2" ]
    [ "$lines" -lt 1000000 ]
    # Reading does not recover: the log is replayed in memory. Then a writer opens it.
    on 0 count
    count=$(cat out)
    [ "$count" -ge "$lines" ]
    [ $((count % $1)) -eq 0 ]
    on 0 dump before
    head -n "$count" lines | cmp - before
    on 0 del 0000001
    on 0 dump after
    head -n "$count" lines | tail -n +2 | cmp - after
    on 0 verify
}

# ---- Single keys ---------------------------------------------------------------------------

set_then_get() {
    on 0 set name value
    silent
    on 0 get name
    prints value
    on 0 set name 'another value'
    on 0 get name
    prints 'another value'
}

get_of_an_absent_key_exits_1() {
    on 0 set name value
    on 1 get other
    prints ''
    complains 'no such key: other'
    on 1 get --quiet other
    silent
}

get_prints_the_bytes_and_nothing_else() {
    printf 'a\0b\n\377' >value
    on 0 set key - <value
    on 0 get key
    cmp value out
}

get_adds_a_newline_on_a_terminal() {
    command -v python3 >/dev/null || exit 77
    on 0 set key value
    python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$tinykv" -d store get key \
        </dev/null >terminal || exit 77
    [ "$(tr -d '\r' <terminal | od -An -c | tr -d ' ')" = 'value\n' ]
}

set_reads_standard_input() {
    head -c 3000000 /dev/urandom >value
    on 0 set key - <value
    on 0 get key
    cmp value out
    on 0 set key - </dev/null
    on 0 get key
    prints ''
}

empty_keys_and_values_are_ordinary() {
    on 0 set '' ''
    on 0 get ''
    prints ''
    on 0 exists ''
    on 0 count
    prints_line 1
    on 0 dump
    prints_line '{"k":"","v":""}'
}

exists_answers_with_its_exit_code() {
    on 0 set name value
    on 0 exists name
    silent
    on 1 exists other
    silent
    on 1 exists other --json
    prints_line '{"k":"other","exists":false}'
}

del_deletes_all_and_tells_what_was_missing() {
    on 0 set a 1
    on 0 set b 2
    on 0 set c 3
    on 1 del a nothing c
    complains 'no such key: nothing'
    on 0 list
    prints_line b
    on 0 del b
    silent
    on 0 count
    prints_line 0
    on 1 del --json a
    prints_line '{"deleted":0,"missing":1}'
}

keys_of_any_bytes_go_in_base64() {
    on 0 set --k64 AAH/ binary
    on 0 get --k64 AAH/
    prints binary
    on 0 list
    prints_line '\x00\x01\xff'
    on 0 get --k64 AAH/ --json
    prints_line '{"k64":"AAH/","v":"binary"}'
    on 0 del --k64 AAH/
    on 1 exists --k64 AAH/
    on 2 get --k64 'not base64'
}

keys_expire() {
    on 0 set --ttl-ms 1 brief 1
    on 0 set --ttl-ms 4000000 long 2
    on 0 get long
    prints 2
    on 0 get --json long
    json out '3000000 < x["ttl_ms"] <= 4000000'
    sleep 0.1
    on 1 get brief
    on 0 list
    prints_line long
    on 0 count
    prints_line 1
}

every_durability_works() {
    for mode in always interval none; do
        on 0 set --durability $mode key $mode
        on 0 get key
        prints $mode
    done
    on 2 set --durability sometimes key value
    complains 'always, interval or none'
}

limits_are_told() {
    big=$(head -c 65536 /dev/zero | tr '\0' k)
    on 2 set "$big" value
    complains 'the key has 65536 bytes, the limit is 65535'
    on 0 set "${big#k}" value
    on 0 get "${big#k}"
    prints value
}

# ---- All keys --------------------------------------------------------------------------------

list_is_sorted_and_escaped() {
    printf '%s\n' '{"k":"b","v":"2"}' '{"k":"a\tb\n\\","v":"1"}' '{"k":"{x","v":"3"}' \
        '{"k":"\u00e4","v":"\u0000"}' >lines
    on 0 load lines
    on 0 list
    printf '%s\n' 'a\tb\n\\' b '{x' "$(printf '\303\244')" >expected
    cmp expected out
    on 0 list --keys-only
    cmp expected out
    on 0 list --values
    printf 'a\\tb\\n\\\\\t1\nb\t2\n\\x7bx\t3\n\303\244\t\\x00\n' >expected
    cmp expected out
    on 2 list --values --keys-only
}

list_as_json() {
    on 0 set b 2
    on 0 set a 1
    on 0 list --json
    printf '{"k":"a"}\n{"k":"b"}\n' | cmp - out
    on 0 list --json --values
    printf '{"k":"a","v":"1"}\n{"k":"b","v":"2"}\n' | cmp - out
}

count_counts() {
    numbered_lines 1234 >lines
    on 0 load lines
    on 0 count
    prints_line 1234
    on 0 count --json
    prints_line '{"count":1234}'
}

# ---- load and dump ---------------------------------------------------------------------------

load_of_dump_is_the_same() {
    make_mixture >lines
    on 0 load lines
    on 0 dump first
    [ "$(wc -l <first)" -eq 263 ]
    run 0 -d copy load first
    run 0 -d copy dump second
    cmp first second
    run 0 -d copy2 load --batch 7 --durability none <second
    run 0 -d copy2 dump -
    cmp first out
}

load_of_list_values_is_the_same() {
    make_mixture >lines
    on 0 load lines
    on 0 dump first
    on 0 list --values
    mv out listed
    run 0 -d copy load listed
    run 0 -d copy dump second
    cmp first second
}

dump_keeps_the_time_that_is_left() {
    printf '%s\n' '{"k":"a","v":"1","ttl_ms":5000000}' >lines
    on 0 load lines
    on 0 dump first
    run 0 -d copy load first
    run 0 -d copy dump second
    json second '4000000 < x["ttl_ms"] <= 5000000'
}

dump_is_json() {
    command -v python3 >/dev/null || exit 77
    make_mixture >lines
    on 0 load lines
    on 0 dump first
    python3 -c 'import json
for line in open("first", "rb"):
    assert isinstance(json.loads(line.decode("utf-8")), dict)'
}

dump_without_a_store_keeps_the_older_dump() {
    echo precious >older
    run 5 -d nothing dump older
    [ "$(cat older)" = precious ]
}

later_lines_win() {
    printf 'a\t1\na\t2\n{"k":"a","v":"3"}\n' >lines
    on 0 load lines
    on 0 get a
    prints 3
}

empty_lines_are_skipped_and_counted() {
    printf '\na\t1\n\n\nb\t2\n\n' >lines
    on 0 load --ack --batch 1 lines
    [ "$(tail -n 1 out)" = 'ack 6' ]
    [ "$(wc -l <out)" -eq 6 ]
    on 0 count
    prints_line 2
}

the_last_line_needs_no_newline() {
    printf 'a\t1\nb\t2' >lines
    on 0 load lines
    on 0 get b
    prints 2
}

load_tells_how_much() {
    numbered_lines 25 >lines
    on 0 load lines
    complains 'loaded 25 records from 25 lines'
    prints ''
    on 0 load --quiet lines
    silent
    on 0 load --json lines
    prints_line '{"lines":25,"records":25}'
}

progress_shows_on_a_terminal_after_a_second() {
    command -v python3 >/dev/null || exit 77
    mkfifo lines
    { printf 'a\t1\n'; sleep 1.2; printf 'b\t2\n'; } >lines &
    python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$tinykv" -d store load --batch 1 \
        lines </dev/null >terminal || exit 77
    tr '\r' '\n' <terminal | grep -qx '1 lines'
    grep -q 'loaded 2 records' terminal
}

bad_json_is_refused_with_its_line() {
    refuses '{"k":"x"}' 'there is no "v" or "v64"'
    refuses '{"v":"x"}' 'there is no "k" or "k64"'
    refuses '{}' 'there is no "k" or "k64"'
    refuses '{"k":"x","v":"y","z":"w"}' 'unknown member "z"'
    refuses '{"k":"x","v":"y","v":"z"}' 'member "v" comes on top'
    refuses '{"k":"x","k64":"eA==","v":"y"}' 'member "k64" comes on top'
    refuses '{"k":"x","v":"y"' "',' or '}' is missing"
    refuses '{"k":"x","v":"y"} z' 'something follows'
    refuses '{"k":"x","v":"y",}' 'name of a member is missing'
    refuses '{"k":"x" "v":"y"}' "',' or '}' is missing"
    refuses '{"k" "x"}' "':' is missing"
    refuses '{"k":"x","v":"y' 'ends inside a string'
    refuses '{"k":"x","v":5}' 'member "v" must be a string'
    refuses '{"k":"x","v":null}' 'neither a string nor a number'
    refuses '{"k":"x","v":["y"]}' 'neither a string nor a number'
    refuses '{"k":"x","v":"\q"}' 'not an escape'
    refuses '{"k":"x","v":"\u12g4"}' 'four hexadecimal digits'
    refuses '{"k":"x","v":"\ud800"}' 'surrogate'
    refuses '{"k":"x","v":"\udc00\ud800"}' 'surrogate'
    refuses '{"k":"x","v":"\ud800\u0041"}' 'surrogate'
    refuses "{\"k\":\"x\",\"v\":\"$(printf '\377')\"}" 'invalid UTF-8'
    refuses "{\"k\":\"x\",\"v\":\"$(printf '\300\200')\"}" 'invalid UTF-8'
    refuses "{\"k\":\"x\",\"v\":\"$(printf '\355\240\200')\"}" 'invalid UTF-8'
    refuses "{\"k\":\"x\",\"v\":\"$(printf '\001')\"}" 'control character'
}

bad_base64_is_refused() {
    for text in 'A' 'AA' 'AAA' 'AA=A' 'A===' '====' 'AB==' 'AAB=' 'AA A' 'AA-_' 'AAAA='; do
        refuses "{\"k\":\"x\",\"v64\":\"$text\"}" 'member "v64" is not base64'
    done
}

bad_ttl_is_refused() {
    for number in 0 05 -1 1.5 1e3 9007199254740993 99999999999999999999999; do
        refuses "{\"k\":\"x\",\"v\":\"y\",\"ttl_ms\":$number}" 'ttl_ms must be a whole number'
    done
    refuses '{"k":"x","v":"y","ttl_ms":"5"}' 'member "ttl_ms" must be a number'
}

bad_tsv_is_refused() {
    refuses 'no tab' 'neither JSON nor'
    refuses "$(printf 'a\tb\tc')" 'a second tab'
    refuses "$(printf 'a\t\\q')" 'a backslash'
    refuses "$(printf 'a\t\\x1')" 'a backslash'
    refuses "$(printf 'a\t\\')" 'a backslash'
}

sizes_above_the_limit_are_refused() {
    refuses "$(head -c 65536 /dev/zero | tr '\0' k | sed 's/$/	v/')" 'the key has 65536 bytes'
}

what_was_acknowledged_before_a_bad_line_stays() {
    { numbered_lines 25 && echo bad && numbered_lines 5 later; } >lines
    on 2 load --batch 10 --ack lines
    complains 'line 26: '
    printf 'ack 10\nack 20\n' | cmp - out
    on 0 count
    prints_line 20
}

acks_come_after_each_batch() {
    numbered_lines 25 >lines
    on 0 load --batch 10 --ack lines
    printf 'ack 10\nack 20\nack 25\n' | cmp - out
    on 0 load --batch 10 --ack --json lines
    printf '{"ack":10}\n{"ack":20}\n{"ack":25}\n{"lines":25,"records":25}\n' | cmp - out
}

batches_too_big_for_the_log_are_split() {
    # 60 values of 1 MB as one batch, and one of 40 MB that is beside the log.
    head -c 750000 /dev/urandom | base64_line >megabyte
    i=0
    while [ $i -lt 60 ]; do
        printf 'key %d\t' $i
        cat megabyte
        echo
        i=$((i + 1))
    done >lines
    printf 'huge\t' >>lines
    i=0
    while [ $i -lt 40 ]; do
        cat megabyte
        i=$((i + 1))
    done >>lines
    on 0 load --ack lines
    prints_line 'ack 61'
    on 0 count
    prints_line 61
    on 0 get 'key 59'
    cmp megabyte out
    on 0 get huge
    [ "$(wc -c <out)" -eq 40000000 ]
    on 0 verify
}

acknowledged_lines_survive_kill_9() {
    acknowledged_survive 1 300
}

acknowledged_batches_survive_kill_9_and_are_whole() {
    acknowledged_survive 50 60
}

# ---- stats, compact, verify --------------------------------------------------------------------

stats_prints_every_field() {
    numbered_lines 100 >lines
    on 0 load lines
    on 0 stats
    grep -qx 'keys 100' out
    grep -qx 'poisoned ok' out
    grep -qx 'disk_full false' out
    [ "$(wc -l <out)" -eq 30 ]
    on 0 stats --files
    grep -q '^file\.1\.live_records 100$' out
    on 0 stats --json
    json out 'x["keys"] == 100 and x["index_bytes_per_key"] > 0 and len(x) == 30'
    on 0 stats --json --files
    json out 'sum(f["live_records"] for f in x["files"]) == 100 and len(x["files"][0]) == 11'
    json out 'len(x["files"]) == x["data_files"]'
}

stats_is_a_table_on_a_terminal() {
    command -v python3 >/dev/null || exit 77
    on 0 set key value
    python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$tinykv" -d store stats --files \
        </dev/null >terminal || exit 77
    grep -qE '^live_bytes +[0-9]+ bytes' terminal
}

compact_gives_bytes_back() {
    numbered_lines 20000 "$(head -c 300 /dev/zero | tr '\0' x)" >lines
    on 0 load lines
    sed 's/x/y/' lines >lines2
    on 0 load lines2
    "$tinykv" -d store list | head -n 19000 | tr '\n' ' ' >keys
    # shellcheck disable=SC2046
    on 0 del $(cat keys)
    on 0 compact
    [ "$(cat out)" -ge 0 ] # the commands before may have done it all by themselves
    [ "$(cat store/*.data | wc -c)" -lt 1000000 ]
    on 0 count
    prints_line 1000
    on 0 compact --json
    json out 'x["bytes_reclaimed"] >= 0'
    on 0 verify
}

verify_finds_nothing_in_a_sound_store() {
    numbered_lines 500 >lines
    on 0 load lines
    on 0 verify
    grep -q '^0 findings in ' out
    on 0 verify --json
    json out 'x["findings"] == [] and x["keys"] == 500 and x["records"] >= 500'
}

damaged_data_is_found() {
    numbered_lines 2000 >lines
    on 0 load lines
    on 0 dump before
    damage store/0000000001.data 40000
    on 3 verify
    grep -q '^0000000001\.data	[0-9]*	[0-9]*	' out
    on 3 verify --json
    json out 'x["findings"][0]["file"] == "0000000001.data" and x["findings"][0]["seq"] >= 0'
    # One value is an error, the others are read as they were.
    on 3 dump after
    complains '0000000001.data'
    [ "$(wc -l <after)" -lt 2000 ]
    [ "$(wc -l <after)" -ge 1998 ]
    [ -z "$(comm -13 before after)" ]
    on 3 get "$(comm -23 before after | head -n 1 | cut -d '"' -f 4)"
    prints ''
    on 0 get 0000001
}

damaged_manifest_is_found() {
    on 0 set key value
    damage store/MANIFEST 20
    on 3 get key
    complains MANIFEST
    on 3 set key value
    on 3 verify
    grep -q '^MANIFEST	' out
    on 3 verify --json
    json out 'x["findings"][0]["file"] == "MANIFEST"'
}

missing_data_file_is_found() {
    on 0 set key value
    rm store/0000000001.data store/*.hint
    on 3 get key
    on 3 verify
    [ ! -s err ]
}

# ---- salvage -----------------------------------------------------------------------------------

salvage_of_a_sound_store_is_a_copy() {
    numbered_lines 500 >lines
    on 0 load lines
    on 0 set --ttl-ms 3600000 passing value
    on 0 salvage new
    grep -q '^501 keys saved, 0 of them uncertain, 0 known keys lost; 0 gaps' out
    run 0 -d new count
    grep -qx 501 out
    on 0 del passing
    run 0 -d new del passing
    on 0 dump before
    run 0 -d new dump after
    cmp before after
    on 2 salvage new
}

salvage_saves_what_lies_before_damage() {
    numbered_lines 2000 >lines
    on 0 load lines
    on 0 dump before
    damage store/0000000001.data 40000
    rm store/0000000001.hint
    on 3 get 0000001
    complains 'salvage NEWDIR'
    cksum store/* >sums
    on 3 salvage new
    grep -q '^gap	0000000001\.data	[1-9]' out
    grep -q '^uncertain	0000001$' out
    grep -q '^[1-9][0-9]* keys saved, .* 1 gaps of [1-9]' out
    cksum store/* | cmp - sums
    run 0 -d new dump after
    [ "$(wc -l <after)" -gt 100 ]
    [ "$(wc -l <after)" -lt 2000 ]
    [ -z "$(comm -13 before after)" ]
}

salvage_with_a_hint_names_the_lost_keys() {
    on 0 set key value
    rm store/0000000001.data
    on 3 get key
    on 3 salvage new
    grep -q '^lost	key$' out
    grep -q '^0 keys saved, 0 of them uncertain, 1 known keys lost; 1 gaps' out
}

salvage_into_the_damaged_store_itself_is_refused_and_changes_nothing() {
    on 0 set key value
    damage store/0000000001.data 70
    rm store/0000000001.hint store/LOCK
    ln -s store alias
    cksum store/* >sums
    for new in store ./store/. alias "$PWD/store" store/new alias/new store/new/; do
        on 2 salvage "$new"
        complains 'the damaged store itself'
        cksum store/* | cmp - sums
    done
}

salvage_needs_a_manifest() {
    on 0 set key value
    damage store/MANIFEST 20
    on 3 get key
    ! grep -q 'salvage NEWDIR' err
    on 3 salvage new
    complains MANIFEST
    [ ! -e new ]
}

salvage_of_no_store_fails_and_makes_nothing() {
    run 5 -d nowhere salvage new
    complains 'there is no store in nowhere'
    [ ! -e new ]
}

salvage_leaves_a_store_that_is_there_as_it_is() {
    on 0 set key value
    run 0 -d other set --durability none key value
    printf 'no whole group' | dd of=other/wal.log bs=1 seek=12288 conv=notrunc 2>/dev/null
    cksum other/* >sums
    on 2 salvage other
    complains 'there is a store in other'
    cksum other/* | cmp - sums
    damage other/MANIFEST 20
    cksum other/* >sums
    on 2 salvage other
    complains 'there is a store in other'
    cksum other/* | cmp - sums
}

salvage_prints_json() {
    on 0 set key value
    rm store/0000000001.data
    on 3 salvage --json new
    grep -q '^{"what":"gap","file":"0000000001.data","bytes":[1-9][0-9]*}$' out
    grep -qx '{"what":"lost","k":"key"}' out
    grep -q '^{"what":"summary","saved":0,"uncertain":0,"lost":1,"gaps":1,"gap_bytes":[1-9]' out
}

a_closed_standard_stream_is_no_file() {
    numbered_lines 2000 >lines
    on 0 load lines
    damage store/0000000001.data 40000
    "$tinykv" -d store dump dumped 2>&- || :
    ! grep -q tinykv: dumped
}

verify_finds_a_byte_before_a_large_value() {
    head -c 17825792 /dev/zero | on 0 set key -
    large=$(ls -S store/*.data | head -n 1)
    printf x | dd of="$large" bs=1 seek=300 conv=notrunc 2>/dev/null
    on 3 verify
    grep -q 'not zero before a large value' out
}

# ---- Bad times ---------------------------------------------------------------------------------

a_second_process_finds_it_locked() {
    mkfifo lines
    "$tinykv" -d store load --batch 1 --ack lines >acks 2>loader_err &
    loader=$!
    exec 3>lines
    printf 'a\t1\n' >&3
    wait_until has_lines acks 1
    on 4 set b 2
    complains 'is open in another process'
    on 4 get a
    on 4 compact
    on 4 verify
    on 4 load /dev/null
    printf 'c\t3\n' >&3
    wait_until has_lines acks 2
    exec 3>&-
    wait $loader
    on 0 get c
    prints 3
}

many_may_read_at_a_time() {
    on 0 set a 1
    mkfifo slow
    "$tinykv" -d store dump slow &
    dumper=$!
    on 0 get a
    on 0 verify
    cat slow >dumped
    wait $dumper
    [ "$(cat dumped)" = '{"k":"a","v":"1"}' ]
}

reading_a_missing_store_exits_5_and_makes_nothing() {
    for verb in 'get a' 'exists a' list count dump stats verify 'del a' compact; do
        # shellcheck disable=SC2086
        on 5 $verb
        complains 'there is no store in store'
        prints ''
        [ ! -e store ]
    done
}

reading_an_empty_directory_exits_5_and_leaves_it_empty() {
    mkdir store
    for verb in 'get a' 'exists a' list count dump stats verify; do
        # shellcheck disable=SC2086
        on 5 $verb
        complains 'there is no store in store'
        [ -z "$(ls -A store)" ]
    done
}

a_directory_without_a_parent_exits_5() {
    run 5 -d no/such/parent set a 1
    complains 'No such file or directory'
}

a_file_in_the_way_exits_5() {
    echo text >store
    on 5 set a 1
    complains 'Not a directory'
    on 5 get a
    [ "$(cat store)" = text ]
}

input_that_cannot_be_read_exits_5() {
    on 5 load no-such-file
    complains 'open no-such-file: No such file'
    on 5 load .
    complains 'Is a directory'
}

output_that_cannot_be_written_exits_5() {
    [ -c /dev/full ] || exit 77
    on 0 set a 1
    code=0
    "$tinykv" -d store get a >/dev/full 2>err || code=$?
    [ $code -eq 5 ]
    complains 'write standard output: No space left'
    on 5 dump /dev/full
    complains 'write /dev/full: No space left'
    on 5 dump no/such/directory
}

a_read_only_directory_can_be_read() {
    if [ "$(id -u)" = 0 ]; then
        mkdir mount
        mount -t tmpfs -o size=16m tmpfs mount 2>/dev/null || exit 77
    else
        mkdir mount
    fi
    run 0 -d mount/store set a 1
    run 0 -d mount/store set b 2
    if [ "$(id -u)" = 0 ]; then
        mount -o remount,ro mount
    else
        chmod -R a-w mount/store
    fi
    run 0 -d mount/store get a
    prints 1
    run 0 -d mount/store list
    run 0 -d mount/store stats
    run 0 -d mount/store verify
    run 5 -d mount/store set c 3
    run 5 -d mount/store del a
    run 0 -d mount/store count
    prints_line 2
}

a_full_disk_exits_5_and_heals() {
    [ "$(id -u)" = 0 ] || exit 77
    mkdir mount
    mount -t tmpfs -o size=12m tmpfs mount 2>/dev/null || exit 77
    numbered_lines 100000 "$(head -c 300 /dev/zero | tr '\0' x)" >lines
    run 5 -d mount/store load --ack --batch 100 lines
    acknowledged=$(tail -n 1 out | sed 's/^ack //')
    [ "$acknowledged" -gt 1000 ]
    grep -qE 'disk is full|No space left' err
    run 0 -d mount/store dump dumped
    head -n "$acknowledged" lines >expected
    head -n "$acknowledged" dumped | cmp expected -
    run 0 -d mount/store get 0000002
    run 0 -d mount/store del 0000002
    run 1 -d mount/store get 0000002
    mount -o remount,size=64m mount
    run 0 -d mount/store set after 1
    run 0 -d mount/store get 0000001
    run 0 -d mount/store verify
}

# ---- The command line --------------------------------------------------------------------------

options_stand_anywhere() {
    run 0 set -d store a 1
    run 0 get a -d store
    prints 1
    run 0 -dstore get a
    run 0 --dir store get a
    run 0 --dir=store get --json a
    prints_line '{"k":"a","v":"1"}'
    (export TINYKV_DIR=store && run 0 get a && prints 1)
    (export TINYKV_DIR=nothing && run 0 -d store get a)
}

two_dashes_end_the_options() {
    on 0 set -- -k --json
    on 0 get -- -k
    prints --json
    on 2 get -k
    complains 'unknown option -k'
    complains '"--" goes before'
}

wrong_usage_exits_2() {
    run 2
    complains 'usage: tinykv'
    run 2 get a
    complains 'which store?'
    on 2 get
    complains 'usage: tinykv [-d DIR] get KEY'
    on 2 get a b
    on 2 count a
    on 2 set a
    on 2 del
    on 2 get --batch 5 a
    complains 'get does not take --batch'
    on 2 get --nonsense a
    on 2 load --batch 0 /dev/null
    complains '--batch is "0"'
    on 2 load --batch many /dev/null
    on 2 set --ttl-ms 0 a b
    on 2 set a b --ttl-ms
    complains 'option --ttl-ms needs a value'
    on 2 set a b --json=yes
    complains 'takes no value'
    [ ! -e store ]
}

a_wrong_verb_is_guessed() {
    on 2 gte a
    complains 'did you mean "get"?'
    on 2 delete a
    complains 'did you mean "del"?'
    on 2 verfy
    complains 'did you mean "verify"?'
    on 2 qqqqqqqq
    complains '"tinykv help" lists them'
    run 2 help comapct
    complains 'did you mean "compact"?'
}

help_and_version_print_to_standard_output() {
    for arguments in help --help -h; do
        run 0 $arguments
        grep -q '^usage: tinykv' out
        for verb in set get del exists list count load dump stats compact verify version help; do
            grep -q "^  $verb" out
        done
        [ ! -s err ]
    done
    for verb in set get del exists list count load dump stats compact verify version help; do
        run 0 help $verb
        grep -q "^usage: tinykv \[-d DIR\] $verb" out
        cp out expected
        run 0 $verb --help
        cmp expected out
    done
    run 0 version
    grep -q '^tinykv [0-9]' out
    cp out expected
    run 0 --version
    cmp expected out
    run 0 version --json
    json out 'x["build"].startswith("tinykv " + x["version"])'
}

quoted_input_cannot_command_the_terminal() {
    on 0 set a 1
    on 1 get "$(printf '\033[31m')"
    [ "$(tr -d '\n' <err | tr -d '[:print:]' | wc -c)" -eq 0 ]
}

# ---- All of them -------------------------------------------------------------------------------

passed=0 failed=0 skipped=0

run_case() {
    mkdir "$work/$1"
    (
        cd "$work/$1" || exit 1
        set -eu
        "$1"
    ) >"$work/log" 2>&1 </dev/null
    case $? in
    0)
        echo "ok $1"
        passed=$((passed + 1))
        ;;
    77)
        echo "ok $1 # skipped"
        skipped=$((skipped + 1))
        ;;
    *)
        echo "not ok $1"
        sed 's/^/    /' "$work/log"
        failed=$((failed + 1))
        ;;
    esac
    umount "$work/$1/mount" 2>/dev/null
    chmod -R u+w "$work/$1"
    rm -rf "${work:?}/$1"
}

cases=$(sed -n '/^# ---- Single keys/,/^# ---- All of them/s/^\([a-z0-9_]*\)() {$/\1/p' "$0")
for name in $cases; do
    case $name in
    *"$only"*) run_case "$name" ;;
    esac
done
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
