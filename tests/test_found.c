/* SPDX-License-Identifier: MIT */
/*
 * Defects that were found once, each with the shortest program that shows it. On the simulated
 * disk, without threads unless the defect needs them.
 */
#include "simdisk.h"
#include "store.h"
#include "test.h"

#include <pthread.h>

TEST_MAIN

static struct tkv_options small_options(void)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = 64 * 1024;
    options.compact_size_min = 0;
    return options;
}

static struct tkv_store *open_on(struct simdisk *disk, const struct tkv_options *options)
{
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_OK(tkv_open_on(&disk->os, "store", options, &store, NULL, &err));
    return store;
}

TEST(an_expired_large_value_does_not_keep_the_store_from_opening)
{
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(1);
    struct tkv_store *store = open_on(disk, &options);
    static char value[40000];
    struct tkv_error err;

    CHECK_OK(tkv_put_expiring(store, tkv_text("large"), tkv_bytes(value, sizeof value),
                              disk->wall_ms + 10, &err));
    CHECK_OK(tkv_put(store, tkv_text("other"), tkv_text("x"), &err));
    CHECK_OK(tkv_checkpoint(store, &err));
    disk->wall_ms += 1000;
    CHECK_OK(tkv_compact(store, NULL, &err));
    CHECK_OK(tkv_close(store, &err));
    store = open_on(disk, &options);
    CHECK_EQ(tkv_exists(store, tkv_text("large"), &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_exists(store, tkv_text("other"), &err), TKV_OK);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

/* The newest header is damaged after a kill: the older one must not stand for an empty log. */
TEST(damage_to_one_log_header_never_loses_what_a_new_store_acknowledged)
{
    for (unsigned block = 0; block < 2; block++) {
        const struct tkv_options options = small_options();
        struct simdisk *disk = simdisk_new(2), *after;
        struct tkv_store *store = open_on(disk, &options), *again;
        struct tkv_error err;
        enum tkv_status status;
        uint8_t byte;

        CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("value"), &err));
        after = simdisk_survivor(disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
        CHECK(simdisk_file_read(after, "wal.log", &byte, 1, block * 4096 + 44) == 1);
        byte ^= 1;
        CHECK(simdisk_file_write(after, "wal.log", &byte, 1, block * 4096 + 44) == 1);
        status = tkv_open_on(&after->os, "store", &options, &again, NULL, &err);
        if (status == TKV_OK) {
            CHECK_EQ(tkv_exists(again, tkv_text("key"), &err), TKV_OK);
            CHECK_OK(tkv_close(again, &err));
        } else {
            CHECK_EQ(status, TKV_CORRUPT);
        }
        simdisk_free(after);
        CHECK_OK(tkv_close(store, &err));
        simdisk_free(disk);
    }
}

TEST(a_key_at_null_is_refused_by_reads_as_by_writes)
{
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(3);
    struct tkv_store *store = open_on(disk, &options);
    struct tkv_error err;

    CHECK_EQ(tkv_exists(store, tkv_bytes(NULL, 5), &err), TKV_INVALID);
    CHECK_EQ(tkv_put(store, tkv_bytes(NULL, 5), tkv_text("v"), &err), TKV_INVALID);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

struct writer {
    struct tkv_store *store;
    unsigned number;
};

static void *write_large_records(void *argument)
{
    const struct writer *w = argument;
    static const char value[8000];
    struct tkv_error err;
    char key[32];

    for (unsigned i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "%u %u", w->number, i);
        CHECK_OK(tkv_put(w->store, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    return NULL;
}

TEST(writers_who_together_exceed_a_small_log_are_served_in_several_groups)
{
    enum { WRITERS = 16 };
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(4);
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    struct tkv_store *store;
    struct tkv_error err;

    options.background = true;
    store = open_on(disk, &options);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){store, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, write_large_records, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

/* A block of an unsealed data file reads as zeros: it was synced, so it is no padding. */
TEST(a_block_that_was_lost_is_not_taken_for_padding)
{
    static const uint8_t zeros[SIMDISK_PAGE];
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(5), *after;
    struct tkv_store *store = open_on(disk, &options), *again;
    struct tkv_error err;

    CHECK_OK(tkv_put(store, tkv_text("first"), tkv_text("value"), &err));
    CHECK_OK(tkv_checkpoint(store, &err));
    CHECK_OK(tkv_put(store, tkv_text("second"), tkv_text("value"), &err));
    CHECK_OK(tkv_checkpoint(store, &err));
    after = simdisk_survivor(disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    CHECK(simdisk_file_write(after, "0000000001.data", zeros, sizeof zeros, SIMDISK_PAGE) >
          0);
    CHECK_EQ(tkv_open_on(&after->os, "store", &options, &again, NULL, &err), TKV_CORRUPT);
    simdisk_free(after);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}
