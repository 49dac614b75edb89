/* SPDX-License-Identifier: MIT */
/*
 * A store with damage that may hide writes: what opens in spite of it, what is certain then,
 * and what is left to be saved. The sweep asks the same of every store that it sees refused.
 */
#include "file_name.h"
#include "group.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

TEST_MAIN

static struct tkv_options options_with(enum tkv_damage damage)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.auto_compact = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = 64 * 1024;
    options.compact_size_min = 0;
    options.damage = damage;
    options.read_only = damage != TKV_DAMAGE_REFUSE;
    return options;
}

static struct tkv_store *open_with(struct simdisk *disk, enum tkv_damage damage,
                                   uint64_t *ret_gaps)
{
    const struct tkv_options options = options_with(damage);
    struct tkv_open_report report;
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_OK(tkv_open_on(&disk->os, "", &options, &store, &report, &err));
    if (ret_gaps != NULL)
        *ret_gaps = report.gaps;
    return store;
}

static void put(struct tkv_store *store, const char *key, size_t size)
{
    static const char value[60000];
    struct tkv_error err;

    CHECK_OK(tkv_put(store, tkv_text(key), tkv_bytes(value, size), &err));
}

static void close_it(struct tkv_store *store)
{
    struct tkv_error err;

    CHECK_OK(tkv_close(store, &err));
}

/* The size of the value, or the status with a minus sign. */
static long get(struct tkv_store *store, const char *key)
{
    struct tkv_error err;
    void *value = NULL;
    size_t size = 0;
    const enum tkv_status status = tkv_get_copy(store, tkv_text(key), &value, &size, &err);

    tkv_free(value);
    return status == TKV_OK ? (long)size : -(long)status;
}

static void must_refuse(struct simdisk *disk)
{
    const struct tkv_options options = options_with(TKV_DAMAGE_REFUSE);
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_EQ(tkv_open_on(&disk->os, "", &options, &store, NULL, &err), TKV_CORRUPT);
}

static void flip(struct simdisk *disk, const char *name, uint64_t offset)
{
    uint8_t byte;

    CHECK_EQ(simdisk_file_read(disk, name, &byte, 1, offset), 1);
    byte ^= 1;
    CHECK_EQ(simdisk_file_write(disk, name, &byte, 1, offset), 1);
}

/* File 1: "early", "both", three records of filler. File 2: "both" again, "late". */
static struct simdisk *two_files(void)
{
    struct simdisk *disk = simdisk_new(1);
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_REFUSE, NULL);
    char filler[] = "filler0";

    put(store, "early", 11);
    put(store, "both", 12);
    for (unsigned i = 0; i < 4; i++, filler[6]++)
        put(store, filler, 15000);
    put(store, "both", 21);
    put(store, "late", 22);
    close_it(store);
    CHECK(simdisk_file_size(disk, "0000000002.data") > 0);
    return disk;
}

#define CHECK_GET(store, key, expected) CHECK_EQ(get((store), (key)), (expected))

TEST(damage_other_than_refusing_needs_a_read_only_store)
{
    struct tkv_options options = options_with(TKV_DAMAGE_CERTAIN);
    struct simdisk *disk = simdisk_new(2);
    struct tkv_store *store;
    struct tkv_error err;

    options.read_only = false;
    CHECK_EQ(tkv_open_on(&disk->os, "", &options, &store, NULL, &err), TKV_INVALID);
    simdisk_free(disk);
}

TEST(a_sound_store_has_no_gaps_and_every_answer)
{
    struct simdisk *disk = two_files();
    uint64_t gaps;
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_CERTAIN, &gaps);

    CHECK_EQ(gaps, 0);
    CHECK_GET(store, "early", 11);
    CHECK_GET(store, "both", 21);
    CHECK_GET(store, "nobody", -TKV_NOT_FOUND);
    close_it(store);
    simdisk_free(disk);
}

TEST(keys_in_a_file_with_a_bad_header_are_errors_and_the_others_are_read)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store;
    uint64_t gaps;

    flip(disk, "0000000001.data", 20);
    must_refuse(disk);
    store = open_with(disk, TKV_DAMAGE_CERTAIN, &gaps); /* the hint knows the keys */
    CHECK_EQ(gaps, 1);
    CHECK_GET(store, "early", -TKV_CORRUPT);
    CHECK_GET(store, "both", 21);
    CHECK_GET(store, "late", 22);
    CHECK_GET(store, "nobody", -TKV_NOT_FOUND);
    close_it(store);
    simdisk_free(disk);
}

TEST(without_a_hint_whatever_is_newer_than_the_file_is_certain)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store;

    flip(disk, "0000000001.data", 70); /* in the first record */
    CHECK_EQ(simdisk_file_unlink(disk, "0000000001.hint"), 0);
    must_refuse(disk);
    store = open_with(disk, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_GET(store, "both", 21);
    CHECK_GET(store, "late", 22);
    CHECK_GET(store, "early", -TKV_CORRUPT);
    CHECK_GET(store, "nobody", -TKV_CORRUPT); /* it may be in there */
    close_it(store);
    simdisk_free(disk);
}

TEST(a_gap_that_may_hold_a_newer_write_makes_an_older_one_uncertain)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store;

    flip(disk, "0000000002.data", 70);
    (void)simdisk_file_unlink(disk, "0000000002.hint");
    must_refuse(disk);
    store = open_with(disk, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_GET(store, "early", -TKV_CORRUPT);
    CHECK_GET(store, "both", -TKV_CORRUPT);
    close_it(store);
    store = open_with(disk, TKV_DAMAGE_NEWEST, NULL);
    CHECK_GET(store, "early", 11);
    CHECK_GET(store, "both", 12); /* all that is left of it */
    CHECK_GET(store, "late", -TKV_NOT_FOUND);
    close_it(store);
    simdisk_free(disk);
}

/* How often an iteration says TKV_CORRUPT without a key before it ends. */
static unsigned warnings_before_the_end(struct tkv_store *store, bool keys_only)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error err;
    enum tkv_status status;
    unsigned warnings = 0;

    CHECK_OK(tkv_iterator_new(store, keys_only, &iterator, &err));
    while ((status = tkv_iterator_next(iterator, &entry, &err)) != TKV_NOT_FOUND) {
        CHECK(status == TKV_OK || status == TKV_CORRUPT);
        if (status == TKV_CORRUPT && entry.key.data == NULL) {
            CHECK_STR(err.file, "0000000001.data");
            warnings++;
        }
    }
    CHECK_EQ(tkv_iterator_next(iterator, &entry, NULL), TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    return warnings;
}

TEST(an_iteration_over_what_is_certain_says_that_keys_may_be_missing)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_CERTAIN, NULL);

    CHECK_EQ(warnings_before_the_end(store, false), 0); /* nothing is damaged yet */
    close_it(store);
    flip(disk, "0000000001.data", 70);
    CHECK_EQ(simdisk_file_unlink(disk, "0000000001.hint"), 0);
    store = open_with(disk, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_EQ(warnings_before_the_end(store, false), 1);
    CHECK_EQ(warnings_before_the_end(store, true), 1);
    close_it(store);
    store = open_with(disk, TKV_DAMAGE_NEWEST, NULL);
    CHECK_EQ(warnings_before_the_end(store, false), 0);
    close_it(store);
    simdisk_free(disk);
}

TEST(writes_that_the_log_has_are_certain_whatever_the_data_files_lack)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_REFUSE, NULL);
    struct simdisk *killed;

    put(store, "early", 33);
    killed = simdisk_clone(disk);
    close_it(store);
    simdisk_free(disk);
    CHECK_EQ(simdisk_file_unlink(killed, "0000000001.data"), 0);
    CHECK_EQ(simdisk_file_unlink(killed, "0000000001.hint"), 0);
    must_refuse(killed);
    store = open_with(killed, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_GET(store, "early", 33);
    CHECK_GET(store, "filler0", -TKV_CORRUPT);
    close_it(store);
    simdisk_free(killed);
}

TEST(a_broken_log_leaves_nothing_certain_and_a_prefix_to_save)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_REFUSE, NULL);
    struct simdisk *killed;

    put(store, "early", 31);
    put(store, "early", 32);
    put(store, "early", 33);
    killed = simdisk_clone(disk);
    close_it(store);
    simdisk_free(disk);
    flip(killed, TKV_WAL_NAME, TKV_WAL_RING_START + 4096 + TKV_GROUP_HEADER_SIZE);
    must_refuse(killed);
    store = open_with(killed, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_GET(store, "late", -TKV_CORRUPT);
    CHECK_GET(store, "nobody", -TKV_CORRUPT);
    close_it(store);
    store = open_with(killed, TKV_DAMAGE_NEWEST, NULL);
    CHECK_GET(store, "early", 31);
    CHECK_GET(store, "late", 22);
    close_it(store);
    simdisk_free(killed);
}

TEST(without_a_log_the_data_files_are_left_to_save)
{
    struct simdisk *disk = two_files();
    struct tkv_store *store;

    CHECK_EQ(simdisk_file_unlink(disk, TKV_WAL_NAME), 0);
    must_refuse(disk);
    store = open_with(disk, TKV_DAMAGE_NEWEST, NULL);
    CHECK_GET(store, "early", 11);
    close_it(store);
    store = open_with(disk, TKV_DAMAGE_CERTAIN, NULL);
    CHECK_GET(store, "early", -TKV_CORRUPT);
    close_it(store);
    simdisk_free(disk);
}

/* How far the data files go is in the log's header, which is whole. */
TEST(a_ring_that_cannot_be_read_does_not_take_its_header_along)
{
    struct simdisk *disk = simdisk_new(29);
    struct tkv_store *store = open_with(disk, TKV_DAMAGE_REFUSE, NULL);
    const enum tkv_damage ways[] = {TKV_DAMAGE_NEWEST, TKV_DAMAGE_CERTAIN};
    struct tkv_error err;
    uint64_t gaps;

    put(store, "first", 10);
    CHECK_OK(tkv_checkpoint(store, &err));
    put(store, "second", 20);
    put(store, "third", 30);
    close_it(store);
    CHECK(simdisk_file_truncate(disk, TKV_WAL_NAME,
                                (uint64_t)simdisk_file_size(disk, TKV_WAL_NAME) -
                                    TKV_BLOCK_SIZE) >= 0);
    must_refuse(disk);
    store = open_with(disk, ways[0], &gaps);
    CHECK_EQ(gaps, 1);
    CHECK_EQ(get(store, "first"), 10);
    CHECK_EQ(get(store, "second"), 20);
    CHECK_EQ(get(store, "third"), 30);
    close_it(store);
    store = open_with(disk, ways[1], &gaps); /* a newer write may have been in the ring */
    CHECK_EQ(get(store, "second"), -TKV_CORRUPT);
    close_it(store);
    simdisk_free(disk);
}
