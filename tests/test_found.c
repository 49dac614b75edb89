/* SPDX-License-Identifier: MIT */
/*
 * Defects that were found once, each with the shortest program that shows it. On the simulated
 * disk, without threads unless the defect needs them.
 */
#include "large.h"
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

/* ---- Manifests, logs and outputs --------------------------------------------------- */

static struct tkv_store *putter; /* who puts a large value while a manifest is written */

static void put_large_meanwhile(struct simdisk *disk, enum simdisk_call call)
{
    static const uint8_t value[30000];
    uint8_t reference[TKV_LARGE_REFERENCE_SIZE];
    struct tkv_datafile *file;
    struct tkv_error err;

    if (call != SIMDISK_SYNC_DIR)
        return;
    disk->before_call = NULL;
    CHECK_OK(
        tkv_large_write(putter, tkv_bytes(value, sizeof value), reference, &file, &err));
}

TEST(a_large_value_put_while_a_manifest_is_written_is_below_its_next_number)
{
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(5), *after;
    struct tkv_store *store = open_on(disk, &options);
    struct tkv_error err;

    CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("value"), &err));
    putter = store;
    tkv_mutex_lock(&store->upkeep);
    store->dir_changed = true;
    disk->before_call = put_large_meanwhile;
    CHECK_OK(tkv_checkpoint_manifest(store, &err));
    tkv_mutex_unlock(&store->upkeep);
    after = simdisk_clone(disk);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
    store = open_on(after, &options);
    CHECK_EQ(tkv_exists(store, tkv_text("key"), &err), TKV_OK);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(after);
}

static void put_spread(struct tkv_store *store, unsigned first, unsigned end, size_t size,
                       size_t spread)
{
    static const char value[16000];
    struct tkv_error err;
    char key[32];

    for (unsigned i = first; i < end; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_put(store, tkv_text(key), tkv_bytes(value, size + i * 7919 % spread),
                         &err));
    }
}

static void put_numbered(struct tkv_store *store, unsigned first, unsigned end, size_t size)
{
    put_spread(store, first, end, size, 400);
}

static void check_numbered(struct tkv_store *store, unsigned end)
{
    struct tkv_error err;
    char key[32];

    for (unsigned i = 0; i < end; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_EQ(tkv_exists(store, tkv_text(key), &err), TKV_OK);
    }
}

static uint64_t generation_at(const struct simdisk *disk, unsigned block)
{
    uint64_t generation;

    CHECK(simdisk_file_read(disk, "wal.log", &generation, 8, block * 4096 + 32) == 8);
    return generation;
}

/* Killed after `count` writes, with the newest header damaged, the older one stands for bytes
 * that have been written over since. */
static void damage_newest_header(enum tkv_durability durability, unsigned count)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(count), *after;
    struct tkv_store *store;
    struct tkv_error err;
    enum tkv_status status;
    unsigned newest;
    uint8_t byte;

    options.durability = durability;
    options.auto_compact = false;
    options.data_file_size_min = options.data_file_size_max = 4 * 1024 * 1024;
    store = open_on(disk, &options);
    put_spread(store, 0, count, 0, 15500);
    after = simdisk_clone(disk);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
    newest = generation_at(after, 1) > generation_at(after, 0);
    CHECK(simdisk_file_read(after, "wal.log", &byte, 1, newest * 4096 + 60) == 1);
    byte ^= 4;
    CHECK(simdisk_file_write(after, "wal.log", &byte, 1, newest * 4096 + 60) == 1);
    status = tkv_open_on(&after->os, "store", &options, &store, NULL, &err);
    if (status == TKV_OK) {
        check_numbered(store, count);
        CHECK_OK(tkv_close(store, &err));
    } else {
        CHECK_EQ(status, TKV_CORRUPT);
    }
    simdisk_free(after);
}

TEST(an_older_header_never_stands_for_a_log_that_has_been_written_over)
{
    for (unsigned count = 40; count < 130; count += 3) {
        damage_newest_header(TKV_DURABILITY_ALWAYS, count);
        damage_newest_header(TKV_DURABILITY_INTERVAL, count);
        damage_newest_header(TKV_DURABILITY_NONE, count);
    }
}

/* A copy of wal.log from before, put back beside a manifest that has been replaced since. */
TEST(an_older_log_beside_a_newer_manifest_is_refused)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(6);
    struct tkv_store *store;
    struct tkv_error err;
    static uint8_t log[64 * 1024];

    options.durability = TKV_DURABILITY_NONE;
    store = open_on(disk, &options);
    put_numbered(store, 0, 4, 1000);
    CHECK(simdisk_file_read(disk, "wal.log", log, sizeof log, 0) == sizeof log);
    put_numbered(store, 4, 60, 3000);
    CHECK_OK(tkv_close(store, &err));
    CHECK(simdisk_file_write(disk, "wal.log", log, sizeof log, 0) == sizeof log);
    CHECK_EQ(tkv_open_on(&disk->os, "store", &options, &store, NULL, &err), TKV_CORRUPT);
    simdisk_free(disk);
}

/* A data file from when files were larger becomes many. */
static struct tkv_store *compact_into_many(struct simdisk *disk)
{
    struct tkv_options options = small_options();
    struct tkv_store *store;
    struct tkv_error err;
    char key[32];

    options.auto_compact = false;
    options.data_file_size_min = options.data_file_size_max = 1024 * 1024;
    store = open_on(disk, &options);
    put_numbered(store, 0, 250, 3000);
    CHECK_OK(tkv_close(store, &err));
    options.data_file_size_min = options.data_file_size_max = 64 * 1024;
    store = open_on(disk, &options);
    for (unsigned i = 0; i < 250; i += 3) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_delete(store, tkv_text(key), NULL, &err));
    }
    CHECK_OK(tkv_compact(store, NULL, &err));
    return store;
}

TEST(a_compaction_may_need_more_than_four_outputs)
{
    struct simdisk *disk = simdisk_new(7);
    struct tkv_store *store = compact_into_many(disk);
    struct tkv_stats stats;
    struct tkv_error err;

    CHECK_OK(tkv_stats(store, &stats, &err));
    CHECK(stats.data_files > 5);
    CHECK(stats.disk_bytes < stats.live_bytes + stats.live_bytes / 4);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

TEST(an_output_that_is_sealed_and_on_disk_gives_its_memory_back)
{
    struct simdisk *disk = simdisk_new(8);
    struct tkv_store *store = compact_into_many(disk);
    const uint32_t used = atomic_load(&store->slots_used);
    unsigned sealed = 0;
    struct tkv_error err;

    CHECK_OK(tkv_checkpoint(store, &err));
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL || !atomic_load(&file->sealed) ||
            file->durable != atomic_load(&file->size))
            continue;
        sealed++;
        CHECK(atomic_load(&file->tail) == NULL);
    }
    CHECK(sealed > 4);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

/* ---- Threads ------------------------------------------------------------------------- */

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

static uint64_t size_of_first_file(struct tkv_store *store)
{
    struct tkv_file_stats file = {.size = 0};
    struct tkv_error err;
    size_t count;

    CHECK_OK(tkv_file_stats(store, &file, 1, &count, &err));
    return file.size;
}

/* The last record of a sealed file reads as zeros: padding would reach a block's boundary. */
TEST(the_end_of_a_sealed_file_that_was_lost_is_not_taken_for_padding)
{
    static const uint8_t zeros[SIMDISK_PAGE];
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(6), *after;
    struct tkv_store *store = open_on(disk, &options), *again;
    struct tkv_error err;
    uint64_t from, to;

    CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("old"), &err));
    CHECK_OK(tkv_put(store, tkv_text("other"), tkv_text("x"), &err));
    from = size_of_first_file(store);
    CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("new"), &err));
    to = size_of_first_file(store);
    tkv_mutex_lock(&store->apply);
    CHECK_OK(tkv_apply_rotate(store, 0, &err));
    tkv_mutex_unlock(&store->apply);
    CHECK_OK(tkv_checkpoint(store, &err));
    after = simdisk_survivor(disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    (void)simdisk_file_unlink(after, "0000000001.hint");
    CHECK(simdisk_file_write(after, "0000000001.data", zeros, to - from, from) > 0);
    CHECK_EQ(tkv_open_on(&after->os, "store", &options, &again, NULL, &err), TKV_CORRUPT);
    simdisk_free(after);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}
