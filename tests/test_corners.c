/* SPDX-License-Identifier: MIT */
/*
 * Corners that no sweep turns: a value that looks like the log, a delete in the middle of a
 * compaction, a clock that is turned back, numbers beyond 32 bits, a file cut under an open
 * store, a file of another store beside ours. Each stands in docs/failure-cases.md.
 */
#include "garbage.h"
#include "group.h"
#include "small_store.h"

#include <errno.h>

TEST_MAIN

#define ABSENT 0 /* no value here has this byte */

/* ---- A value that looks like the log ------------------------------------------------------- */

/* The first group's header, telling of a log that was durable far beyond its end, with good
 * checksums for the place where that group lies. */
static void forge_header(const struct fixture *f, uint8_t *header)
{
    const uint32_t seed = tkv_group_seed(f->store->uuid, TKV_WAL_RING_START);
    const uint64_t far = tkv_get_le64(first.bytes + TKV_WAL_RING_START + 16) + (1u << 20);
    struct tkv_group group;

    memcpy(header, first.bytes + TKV_WAL_RING_START, TKV_GROUP_HEADER_SIZE);
    tkv_put_le64(header + 16, far);
    tkv_put_le64(header + 32, far);
    tkv_put_le32(header + 8, tkv_crc32(tkv_crc32(seed, header, 8), header + 12,
                                       TKV_GROUP_HEADER_SIZE - 12));
    CHECK(tkv_group_decode_header(header, seed, &group));
    CHECK_EQ(group.durable, far);
}

/* At a multiple of 8 of the file, where replay looks for groups. */
static void put_forged_headers(struct fixture *f, uint8_t *value, size_t size)
{
    const char key[] = "eightlet";

    keep_file(f, "wal.log", &first);
    for (size_t at = 0; at < size; at += TKV_GROUP_HEADER_SIZE)
        forge_header(f, value + at);
    CHECK_EQ((TKV_GROUP_HEADER_SIZE + TKV_RECORD_HEADER_SIZE + strlen(key)) % 8, 0);
    CHECK_OK(tkv_put(f->store, tkv_text(key), tkv_bytes(value, size), &err));
}

TEST(a_value_that_looks_like_the_log_is_a_value_and_no_witness)
{
    static uint8_t value[150 * TKV_GROUP_HEADER_SIZE], got[sizeof value];

    for (int torn = 0; torn < 2; torn++) {
        struct fixture f;
        uint64_t at;
        uint8_t byte;
        size_t size;

        begin(&f);
        put_bytes(&f, "before", 1, 100);
        at = f.store->wal.ring.head.file_offset;
        put_forged_headers(&f, value, sizeof value);
        kill_process(&f, SIMDISK_KILLED);
        CHECK_EQ(simdisk_file_read(f.disk, "wal.log", &byte, 1, at + 8), 1);
        byte ^= 1;
        if (torn)
            overwrite(&f, "wal.log", at + 8, &byte, 1);
        open_again(&f);
        CHECK_EQ(f.report.bytes_cut > 0, torn);
        check_byte(&f, "before", 1);
        if (!torn) {
            CHECK_OK(tkv_get(f.store, tkv_text("eightlet"), got, sizeof got, &size, &err));
            CHECK(size == sizeof value && memcmp(got, value, size) == 0);
        }
        end(&f);
    }
}

/* ---- A delete in the middle of a compaction -------------------------------------------------- */

static void delete_during_copy(void *context, const struct tkv_event *event)
{
    if (event->kind == TKV_EVENT_COMPACTION_COPIED)
        del(context, "key");
}

TEST(a_delete_while_a_compaction_copies_wins)
{
    struct fixture f;
    uint8_t byte;

    begin_closed(&f);
    f.options.on_event = delete_during_copy;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", 1, 4000);
    put_bytes(&f, "key", 1, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    f.store->options.on_event = NULL;
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
        check_byte(&f, "garbage", 1);
        kill_process(&f, SIMDISK_NOTHING_PENDING);
        f.options.on_event = NULL;
        open_again(&f);
        CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    }
    end(&f);
}

/* ---- A clock that is turned back ---------------------------------------------------------------- */

/* Up to the next data file: with keys that live, or with garbage that makes the file worth a
 * compaction. */
static void fill_file(struct fixture *f, bool lives)
{
    const uint64_t number = f->store->active->number;
    char key[16] = "garbage";

    for (unsigned i = 0; f->store->active->number == number; i++) {
        if (lives)
            snprintf(key, sizeof key, "live %u", i);
        put_bytes(f, key, 9, 4000);
    }
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static uint8_t byte_of(struct fixture *f, const char *key)
{
    uint8_t byte = ABSENT;
    const enum tkv_status status = get(f, key, &byte);

    CHECK(status == TKV_OK || status == TKV_NOT_FOUND);
    return byte;
}

#define NOW    UINT64_C(1700000000000)
#define EXPIRY (NOW + 1000)

/* The value that expired or none, whatever the clock said before. */
static void check_never_older(struct fixture *f, uint64_t wall_ms)
{
    uint8_t byte;

    f->disk->wall_ms = wall_ms;
    byte = byte_of(f, "key");
    CHECK(byte == ABSENT || (byte == 2 && wall_ms < EXPIRY));
    check_byte(f, "garbage", 9);
}

static void turn_back(uint64_t wall_ms, bool compacts)
{
    const uint8_t newer[100] = {2};
    struct fixture f;

    begin_closed(&f);
    f.disk->wall_ms = NOW;
    open_again(&f);
    put_bytes(&f, "key", 1, 100);
    fill_file(&f, true);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("key"), tkv_bytes(newer, sizeof newer),
                              EXPIRY, &err));
    fill_file(&f, false);
    put_bytes(&f, "garbage", 9, 100);
    check_never_older(&f, EXPIRY);
    for (int round = 0; round < 3; round++) {
        if (compacts)
            CHECK_OK(tkv_compact(f.store, NULL, &err));
        check_never_older(&f, wall_ms);
        open_again(&f);
        check_never_older(&f, wall_ms);
        check_never_older(&f, EXPIRY);
    }
    end(&f);
}

TEST(a_clock_that_is_turned_back_uncovers_no_older_value)
{
    static const uint64_t instants[] = {0, NOW, UINT64_C(1) << 42, UINT64_C(1) << 62};

    for (size_t i = 0; i < sizeof instants / sizeof instants[0]; i++) {
        turn_back(instants[i], false);
        turn_back(instants[i], true);
    }
}

TEST(a_store_that_compacts_by_hand_looks_for_what_has_expired_when_it_is_asked_to)
{
    struct fixture f;

    begin_closed(&f);
    f.options.compact_size_min = 64 * 1024;
    f.disk->wall_ms = NOW;
    open_again(&f);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("brief"), tkv_text("v"), NOW + 1, &err));
    for (uint8_t i = 1; i <= 10; i++)
        put_bytes(&f, "key", i, 30000);
    CHECK(tkv_garbage_wanted(f.store));
    f.disk->wall_ms = NOW + 2;
    put_bytes(&f, "key", 11,
              30000); /* every write looking through the index would be slow */
    CHECK_EQ(tkv_index_count(f.store->index), 2);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(tkv_index_count(f.store->index), 1);
    end(&f);
}

/* ---- Numbers beyond 32 bits ----------------------------------------------------------------------- */

/* As if that many writes had been made. */
static void skip_numbers(struct fixture *f, uint64_t next)
{
    CHECK_OK(tkv_checkpoint(f->store, &err));
    f->store->wal.seq_next = f->store->applied_seq_next = next;
    CHECK_OK(tkv_checkpoint(f->store, &err)); /* no group is believed far from one */
}

static void write_across(struct fixture *f, uint64_t next)
{
    skip_numbers(f, next);
    for (uint8_t i = 1; i <= 6; i++) {
        put_bytes(f, i % 2 == 0 ? "even" : "odd", i, 100);
        if (i == 2)
            del(f, "gone");
    }
}

static void check_across(struct fixture *f, uint64_t last)
{
    struct tkv_verify_report report;
    struct tkv_stats stats;
    uint8_t byte;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    CHECK_EQ(stats.seq_last, last);
    check_byte(f, "even", 6);
    check_byte(f, "odd", 5);
    check_byte(f, "untouched", 7);
    CHECK_EQ(get(f, "gone", &byte), TKV_NOT_FOUND);
    CHECK_OK(tkv_verify(f->store, NULL, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
}

TEST(sequence_numbers_go_on_beyond_32_bits)
{
    static const uint64_t numbers[] = {UINT32_MAX - 2, (UINT64_C(1) << 33) - 2,
                                       (UINT64_C(1) << 61) - 3};

    for (size_t i = 0; i < 2 * sizeof numbers / sizeof numbers[0]; i++) {
        const uint64_t next = numbers[i / 2], last = next + 6;
        struct fixture f;

        begin(&f);
        put_bytes(&f, "untouched", 7, 100);
        put_bytes(&f, "gone", 8, 100);
        write_across(&f, next);
        check_across(&f, last);
        if (i % 2 == 0)
            kill_process(&f, SIMDISK_NOTHING_PENDING);
        open_again(&f);
        check_across(&f, last);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        check_across(&f, last);
        open_again(&f);
        check_across(&f, last);
        end(&f);
    }
}

/* The file that "key" is in after a compaction, by its lowest number. */
static uint64_t base_of_output(struct fixture *f)
{
    const struct tkv_slice key = tkv_text("key");
    struct tkv_location location;

    CHECK_OK(tkv_compact(f->store, NULL, &err));
    CHECK(tkv_index_find(f->store->index, key, tkv_index_hash(f->store->index, key),
                         &location));
    return tkv_files_at(f->store, tkv_place_slot(location.place))->seq_base;
}

TEST(one_output_takes_from_all_files_within_31_bits_and_from_none_beyond)
{
    static const uint64_t numbers[] = {(UINT64_C(1) << 31) - 1000,
                                       (UINT64_C(1) << 31) + 1000};

    for (size_t i = 0; i < 4; i++) {
        const uint64_t next = numbers[i % 2], base = i % 2 == 0 ? 1 : next;
        struct fixture f;

        begin(&f);
        fill_file(&f, true);
        if (i / 2 != 0) { /* there is an output already */
            put_bytes(&f, "key", 1, 100);
            fill_file(&f, false);
            CHECK_EQ(base_of_output(&f), 1);
        }
        skip_numbers(&f, next);
        put_bytes(&f, "key", 2, 100);
        fill_file(&f, false);
        CHECK_EQ(base_of_output(&f), base);
        for (int round = 0; round < 2; round++) {
            check_byte(&f, "key", 2);
            check_byte(&f, "live 0", 9);
            open_again(&f);
        }
        end(&f);
    }
}

/* A log that was written for long, as both of its headers have it. */
static void skip_positions(struct fixture *f, uint64_t distance)
{
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
    keep_file(f, "wal.log", &first);
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_wal_header header;
        uint8_t *block = first.bytes + i * TKV_BLOCK_SIZE;

        CHECK_OK(tkv_wal_header_decode(block, 0, &header, &err));
        header.checkpoint.position += distance;
        header.durable_mark += distance;
        tkv_wal_header_encode(&header, block);
    }
    put_file(f, "wal.log", &first);
    open_again(f);
    CHECK(f->store->checkpoint.position > distance);
}

/* What a manifest is told of the log lets the next opening see that a group is gone. */
TEST(a_manifest_names_what_of_the_log_was_durable_however_long_the_log_has_been)
{
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_manifest manifest;
        struct tkv_wal_state state;
        struct fixture f;
        int dir;

        begin(&f);
        put_bytes(&f, "key", 1, 100);
        if (i == 1)
            skip_positions(&f, UINT64_C(1) << 40);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        put_bytes(&f, "key", 2, 100);
        tkv_wal_state(&f.store->wal, &state);
        tkv_mutex_lock(&f.store->upkeep);
        CHECK_OK(tkv_checkpoint_manifest(f.store, &err));
        tkv_mutex_unlock(&f.store->upkeep);
        dir = f.disk->os.open_dir(&f.disk->os, "", false);
        CHECK_OK(tkv_manifest_read(&f.disk->os, dir, &manifest, &err));
        CHECK_EQ(f.disk->os.close(&f.disk->os, dir), 0);
        CHECK_EQ(manifest.durable_mark, state.durable);
        CHECK(manifest.durable_mark > manifest.checkpoint.position);
        tkv_manifest_release(&manifest);
        kill_process(&f, SIMDISK_KILLED);
        open_again(&f);
        check_byte(&f, "key", 2);
        end(&f);
    }
}

/* ---- A file cut under an open store ----------------------------------------------------------------- */

TEST(a_file_cut_under_an_open_store_is_an_error_of_the_keys_in_it)
{
    struct fixture f;
    uint8_t byte;

    begin(&f);
    put_bytes(&f, "first", 1, 100);
    put_bytes(&f, "second", 2, 5000);
    open_again(&f); /* from now on reads go to the file */
    CHECK(simdisk_file_truncate(f.disk, DATA, TKV_BLOCK_SIZE) >= 0);
    check_byte(&f, "first", 1);
    CHECK_EQ(get(&f, "second", &byte), TKV_IO); /* the file ends */
    CHECK_STR(err.file, DATA);
    put_bytes(&f, "second", 3, 100);
    check_byte(&f, "second", 3);
    (void)tkv_close(f.store, NULL);
    f.store = NULL;
    end(&f);
}

/* ---- Files that belong to nobody -------------------------------------------------------------------- */

/* The first data file of `from` under another name. */
static void copy_data(struct simdisk *from, struct simdisk *to, const char *name)
{
    uint8_t bytes[TKV_BLOCK_SIZE];

    CHECK_EQ(simdisk_file_read(from, DATA, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_EQ(simdisk_file_write(to, name, bytes, sizeof bytes, 0), sizeof bytes);
}

/* A store with another uuid and a data file. */
static struct simdisk *other_store(void)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct simdisk *other = simdisk_new(99);
    struct tkv_store *store;

    options.background = false;
    other->random_state = 12345;
    CHECK_OK(tkv_open_on(&other->os, "", &options, &store, NULL, &err));
    CHECK_OK(tkv_put(store, tkv_text("theirs"), tkv_text("value"), &err));
    CHECK_OK(tkv_close(store, &err));
    return other;
}

TEST(a_data_file_of_another_store_is_left_where_it_is)
{
    struct simdisk *other = other_store();
    struct fixture f;

    begin(&f);
    put_bytes(&f, "ours", 1, 100);
    open_again(&f);
    copy_data(other, f.disk, "0000000777.data");
    copy_data(f.disk, f.disk, "0000000778.data"); /* what a crash of ours may leave */
    CHECK(simdisk_file_write(f.disk, "0000000779.data", "short", 5, 0) == 5);
    open_again(&f);
    CHECK_EQ(simdisk_file_size(f.disk, "0000000777.data"), TKV_BLOCK_SIZE);
    CHECK(simdisk_file_size(f.disk, "0000000778.data") < 0);
    CHECK(simdisk_file_size(f.disk, "0000000779.data") < 0);
    CHECK_EQ(f.report.files_removed, 2);
    check_byte(&f, "ours", 1);
    end(&f);
    simdisk_free(other);
}

/* Nor one that cannot be looked at: whose it is, the next opening may see. */
TEST(a_data_file_of_another_store_stays_when_it_cannot_be_read)
{
    static const struct {
        unsigned kind;
        int error;
    } faults[] = {
        {SIMDISK_OPEN, EMFILE},
        {SIMDISK_READ, EIO   }
    };
    struct simdisk *other = other_store();
    unsigned opened = 0;

    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t at = 1; at <= 16; at++) {
            struct fixture f;

            begin(&f);
            put_bytes(&f, "ours", 1, 100);
            open_again(&f);
            copy_data(other, f.disk, "0000000777.data");
            CHECK_OK(tkv_close(f.store, &err));
            f.store = NULL;
            f.disk->fail_kinds = faults[i].kind;
            f.disk->fail_count = 0;
            f.disk->fail_at = at;
            f.disk->fail_errno = faults[i].error;
            opened += try_open(&f) == TKV_OK;
            CHECK(simdisk_file_size(f.disk, "0000000777.data") > 0);
            end(&f);
        }
    }
    CHECK(opened > 0);
    simdisk_free(other);
}

/* ---- Behind padding ------------------------------------------------------------------ */

/* Zeros and the bytes behind them can look like a record to all but its checksum. */
TEST(a_hint_is_made_of_records_behind_any_padding)
{
    static const size_t sizes[] = {0, 1, 2, 3, 255, 256, 300, 600, 1000, 1023, 1024, 30000};
    const size_t overhead = TKV_DATA_HEADER_SIZE + TKV_RECORD_HEADER_SIZE + 1;

    for (size_t padding = 1; padding < TKV_RECORD_HEADER_SIZE; padding++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct fixture f;

            begin(&f);
            put_bytes(&f, "a", 1, TKV_BLOCK_SIZE - overhead - padding);
            CHECK_OK(tkv_checkpoint(f.store, &err));
            CHECK_EQ(atomic_load(&f.store->active->size), TKV_BLOCK_SIZE);
            put_bytes(&f, "b", 2, sizes[i]);
            open_again(&f);
            CHECK_EQ(f.report.hints_used, 1);
            CHECK_EQ(f.report.hints_rebuilt, 0);
            check_byte(&f, "a", 1);
            check_byte(&f, "b", sizes[i] > 0 ? 2 : 0);
            end(&f);
        }
    }
}
