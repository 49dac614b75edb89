/* SPDX-License-Identifier: MIT */
/*
 * Defects that the damage sweep found, each with the shortest program that shows it.
 */
#include "file_name.h"
#include "group.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

TEST_MAIN

static struct tkv_options small_options(void)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.auto_compact = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = 64 * 1024;
    options.compact_size_min = 0;
    return options;
}

static struct tkv_store *open_on(struct simdisk *disk)
{
    const struct tkv_options options = small_options();
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_OK(tkv_open_on(&disk->os, "", &options, &store, NULL, &err));
    return store;
}

static void put(struct tkv_store *store, const char *key, size_t size)
{
    static const char value[40000];
    struct tkv_error err;

    CHECK_OK(tkv_put(store, tkv_text(key), tkv_bytes(value, size), &err));
}

static void close_it(struct tkv_store *store)
{
    struct tkv_error err;

    CHECK_OK(tkv_close(store, &err));
}

static enum tkv_status get(struct tkv_store *store, const char *key, struct tkv_error *err)
{
    void *value = NULL;
    size_t size;
    const enum tkv_status status = tkv_get_copy(store, tkv_text(key), &value, &size, err);

    tkv_free(value);
    return status;
}

#define RECORD_SIZE(key_size, value_size) (24u + (key_size) + (value_size))

/* Each record of the file moves up over the first one, which is lost; the last is there twice:
 * as many records as before. */
static void shift_records(struct simdisk *disk, const char *name, size_t size, size_t count)
{
    uint8_t bytes[4096];
    const size_t all = size * count;

    CHECK(all <= sizeof bytes);
    CHECK_EQ(simdisk_file_read(disk, name, bytes, all, 64), all);
    memmove(bytes, bytes + size, all - size);
    CHECK_EQ(simdisk_file_write(disk, name, bytes, all, 64), all);
}

TEST(a_compaction_never_drops_what_the_index_points_at)
{
    struct simdisk *disk = simdisk_new(1);
    struct tkv_store *store = open_on(disk);
    struct tkv_error err;

    put(store, "a", 100);
    put(store, "b", 100);
    put(store, "c", 100);
    put(store, "x", 9000);
    put(store, "x", 10); /* worth a compaction */
    close_it(store);
    shift_records(disk, "0000000001.data", RECORD_SIZE(1, 100), 3);
    store = open_on(disk); /* by its hint */
    CHECK_EQ(get(store, "a", &err), TKV_CORRUPT);
    (void)!tkv_compact(store, NULL, &err);
    CHECK_EQ(get(store, "a", &err), TKV_CORRUPT);
    CHECK_EQ(tkv_verify(store, NULL, NULL, NULL, &err), TKV_CORRUPT);
    close_it(store);
    simdisk_free(disk);
}

TEST(closing_never_makes_a_lost_record_official)
{
    struct simdisk *disk = simdisk_new(2);
    struct tkv_store *store = open_on(disk);
    const uint8_t zeros[RECORD_SIZE(1, 200)] = {0};
    struct tkv_error err;

    put(store, "a", 100);
    CHECK_OK(tkv_checkpoint(store, &err));
    put(store, "a", 200);
    close_it(store);
    CHECK_EQ(simdisk_file_write(disk, "0000000001.data", zeros, sizeof zeros, 4096),
             sizeof zeros);
    for (unsigned i = 0; i < 3; i++) {
        char key[2] = {(char)('b' + (int)i), 0};

        store = open_on(disk);
        CHECK_EQ(get(store, "a", &err), TKV_CORRUPT);
        put(store, key, 10); /* so that closing has a hint to write */
        close_it(store);
    }
    simdisk_free(disk);
}

TEST(damage_that_a_hint_survives_does_not_close_the_store_later)
{
    struct simdisk *disk = simdisk_new(3);
    struct tkv_store *store = open_on(disk);
    const uint8_t byte = 1;
    struct tkv_error err;

    put(store, "dead", 100);
    put(store, "dead", 200);
    close_it(store);
    CHECK_EQ(simdisk_file_write(disk, "0000000001.data", &byte, 1, 64 + 50), 1);
    for (unsigned i = 0; i < 3; i++) {
        store = open_on(disk);
        CHECK_OK(get(store, "dead", &err));
        put(store, "other", 10);
        close_it(store);
    }
    simdisk_free(disk);
}

TEST(a_block_of_zeros_is_a_lost_block_and_no_padding)
{
    struct simdisk *disk = simdisk_new(4), *after;
    struct tkv_store *store = open_on(disk);
    const struct tkv_options options = small_options();
    static const uint8_t zeros[4096];
    struct tkv_error err;

    put(store, "a", 100);
    CHECK_OK(tkv_checkpoint(store, &err));
    put(store, "a", 200);
    CHECK_OK(tkv_checkpoint(store, &err));
    after = simdisk_clone(disk);
    close_it(store);
    CHECK_EQ(simdisk_file_write(after, "0000000001.data", zeros, 4096, 4096), 4096);
    CHECK_EQ(tkv_open_on(&after->os, "", &options, &store, NULL, &err), TKV_CORRUPT);
    CHECK_STR(err.file, "0000000001.data");
    CHECK_EQ(err.offset, 4096);
    simdisk_free(after);
    simdisk_free(disk);
}

static void refuse_without_hint(struct simdisk *disk, const char *name, uint64_t offset)
{
    const struct tkv_options options = small_options();
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_EQ(tkv_open_on(&disk->os, "", &options, &store, NULL, &err), TKV_CORRUPT);
    CHECK_STR(err.file, name);
    CHECK_EQ(err.offset, offset);
    CHECK(strstr(err.message, "records are missing") != NULL);
}

/* Of files that have grown since the manifest was written (4) the log's header knows, of the
 * others, sealed (2), compacted (3) or growing, the manifest does. */
TEST(records_that_turn_into_zeros_up_to_their_padding_are_missed_loudly)
{
    static const uint8_t zeros[4096];
    const uint64_t second = 64 + RECORD_SIZE(1, 100);

    for (unsigned how = 0; how < 5; how++) {
        const char *name = how == 3 ? "0000000003.data" : "0000000001.data";
        struct simdisk *disk = simdisk_new(4 + how), *after;
        struct tkv_store *store = open_on(disk);
        struct tkv_error err;

        put(store, "a", 100);
        put(store, "b", 200);
        CHECK_OK(tkv_checkpoint(store, &err));
        if (how == 4) {
            put(store, "c", 200);
            CHECK_OK(tkv_checkpoint(store, &err));
        }
        if (how == 1)
            put(store, "c", 100); /* what only the log has changes nothing */
        if (how == 2)
            close_it(store);
        if (how == 3) {
            put(store, "x", 9000);
            put(store, "x", 10);
            CHECK_OK(tkv_compact(store, NULL, &err));
        }
        after = simdisk_clone(disk);
        if (how != 2)
            close_it(store);
        (void)simdisk_file_unlink(after, how == 3 ? "0000000003.hint" : "0000000001.hint");
        CHECK_EQ(simdisk_file_write(after, name, zeros, 4096 - second, second),
                 4096 - second);
        refuse_without_hint(after, name, second);
        simdisk_free(after);
        simdisk_free(disk);
    }
}

/* Between two checkpoints headers and manifests are written as well. */
TEST(what_was_put_after_a_checkpoint_is_not_missed_in_its_files)
{
    struct simdisk *disk = simdisk_new(8), *after;
    struct tkv_store *store = open_on(disk);
    struct tkv_error err;

    for (unsigned i = 0; i < 2; i++) { /* in the manifest, and then in the header */
        put(store, "a", 100);
        CHECK_OK(tkv_checkpoint(store, &err));
    }
    for (unsigned i = 0; i < 2; i++) {
        put(store, "b", 100);
        tkv_mutex_lock(&store->upkeep);
        CHECK_OK(i == 0 ? tkv_checkpoint_mark(store, &err)
                        : tkv_checkpoint_manifest(store, &err));
        tkv_mutex_unlock(&store->upkeep);
        after = simdisk_clone(disk);
        close_it(store);
        store = open_on(after);
        CHECK_OK(get(store, "b", &err));
        simdisk_free(disk);
        disk = after;
    }
    close_it(store);
    simdisk_free(disk);
}

/* The newer header is lost; the older one knows less of the data file. */
TEST(a_store_that_is_refused_keeps_all_of_its_bytes)
{
    struct simdisk *disk = simdisk_new(5), *after;
    struct tkv_store *store = open_on(disk);
    const struct tkv_options options = small_options();
    static const uint8_t zeros[4096];
    struct tkv_error err;
    uint64_t hash;

    put(store, "a", 100);
    CHECK_OK(tkv_checkpoint(store, &err));
    for (unsigned i = 0; i < 12; i++)
        put(store, "b", 100);
    after = simdisk_clone(disk);
    close_it(store);
    CHECK_EQ(
        simdisk_file_write(after, TKV_WAL_NAME, zeros, 4096, TKV_WAL_RING_START + 8192),
        4096);
    for (unsigned block = 0; block < 2; block++) {
        struct simdisk *one = simdisk_clone(after);

        CHECK_EQ(simdisk_file_write(one, TKV_WAL_NAME, zeros, 4096, block * 4096), 4096);
        hash = simdisk_hash(one);
        if (tkv_open_on(&one->os, "", &options, &store, NULL, &err) == TKV_OK) {
            CHECK_OK(get(store, "b", &err));
            close_it(store);
        } else {
            CHECK_EQ(simdisk_hash(one), hash);
        }
        simdisk_free(one);
    }
    simdisk_free(after);
    simdisk_free(disk);
}

TEST(an_error_of_a_damaged_value_names_its_sequence_number)
{
    struct simdisk *disk = simdisk_new(6);
    struct tkv_store *store = open_on(disk);
    const uint8_t byte = 1;
    struct tkv_error err;

    put(store, "a", 100);
    put(store, "b", 100);
    close_it(store);
    CHECK_EQ(simdisk_file_write(disk, "0000000001.data", &byte, 1,
                                64 + RECORD_SIZE(1, 100) + 50),
             1);
    store = open_on(disk);
    CHECK_EQ(get(store, "b", &err), TKV_CORRUPT);
    CHECK_STR(err.file, "0000000001.data");
    CHECK_EQ(err.offset, 64 + RECORD_SIZE(1, 100));
    CHECK_EQ(err.seq, 2);
    close_it(store);
    simdisk_free(disk);
}

TEST(damage_to_a_reference_costs_one_large_value_and_no_other)
{
    struct simdisk *disk = simdisk_new(7);
    struct tkv_store *store = open_on(disk);
    uint8_t byte;
    struct tkv_error err;
    const uint64_t number_at = 64 + 24 + 3;

    put(store, "one", 20000);
    put(store, "two", 20000);
    close_it(store);
    /* The first reference becomes like the second: file 2, or whichever it names. */
    CHECK_EQ(simdisk_file_read(disk, "0000000002.data", &byte, 1, 48), 1);
    for (unsigned file = 1; file <= 3; file++) {
        char name[TKV_FILE_NAME_SIZE];
        uint8_t class;

        tkv_data_name(file, name);
        CHECK_EQ(simdisk_file_read(disk, name, &class, 1, 48), 1);
        if (class == TKV_FILE_LARGE)
            continue;
        CHECK_EQ(simdisk_file_read(disk, name, &byte, 1, number_at + RECORD_SIZE(3, 32)),
                 1);
        CHECK_EQ(simdisk_file_write(disk, name, &byte, 1, number_at), 1);
    }
    store = open_on(disk);
    CHECK_EQ(get(store, "one", &err), TKV_CORRUPT);
    CHECK_OK(get(store, "two", &err));
    put(store, "one", 10);
    CHECK_OK(get(store, "one", &err));
    CHECK_OK(tkv_compact(store, NULL, &err));
    CHECK_OK(get(store, "two", &err));
    close_it(store);
    store = open_on(disk);
    CHECK_OK(get(store, "one", &err));
    CHECK_OK(get(store, "two", &err));
    close_it(store);
    simdisk_free(disk);
}
