/* SPDX-License-Identifier: MIT */
/*
 * What a checkpoint writes, and what it may not: data files in steps, headers and manifests,
 * and the log's space only when all of it is durable.
 *
 * Method: a small store on the simulated disk, without threads; calls fail at chosen places,
 * and what is on disk is read from outside.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

/* ---- The log's space, and data files ------------------------------------------------- */

TEST(a_grown_log_is_on_disk_before_a_header_counts_on_it)
{
    const uint64_t cap = 4u << 20;

    for (int mode = TKV_DURABILITY_ALWAYS; mode <= TKV_DURABILITY_NONE; mode++) {
        struct fixture f;
        unsigned i = 0;

        begin_closed(&f);
        f.options.durability = (enum tkv_durability)mode;
        f.options.wal_size_max = cap;
        f.options.data_file_size_min = f.options.data_file_size_max = cap;
        open_again(&f);
        while (f.store->wal.ring.end <= TKV_WAL_SIZE_FIRST)
            put_bytes(&f, "key", (uint8_t)++i, 30000);
        put_bytes(&f, "key", (uint8_t)++i, 100);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        kill_process(&f, SIMDISK_NOTHING_PENDING);
        open_again(&f);
        check_byte(&f, "key", (uint8_t)i);
        end(&f);
    }
}

/* Mode NONE stores into the mapped log: what fails here are the writes of data files. */
TEST(a_checkpoint_that_fails_frees_nothing_of_the_log)
{
    struct fixture f;
    char key[8];
    unsigned count = 0;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_sticky = true;
    f.disk->fail_errno = EIO;
    for (;; count++) {
        snprintf(key, sizeof key, "%u", count);
        if (tkv_put(f.store, tkv_text(key), tkv_bytes(first.bytes, 4000), &err) != TKV_OK)
            break;
        CHECK(count < 100);
    }
    CHECK(count > 5);
    f.disk->fail_at = 0;
    kill_process(&f, SIMDISK_KILLED);
    open_again(&f);
    CHECK_EQ(f.report.keys, count);
    end(&f);
}

/* In mode ALWAYS a tail is synced while it is written; ext4 then takes the lost pages for
 * clean, so that the checkpoint's own sync would succeed. */
TEST(a_failed_sync_of_a_part_of_a_data_file_poisons)
{
    static const uint8_t value[30 * 1024];
    struct tkv_batch *batch;
    struct fixture f;
    uint64_t calls;
    char key[8];

    begin_closed(&f);
    f.options.wal_size_max = f.options.data_file_size_min = f.options.data_file_size_max =
        4u << 20;
    open_again(&f);
    put_bytes(&f, "first", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    f.disk->failed_sync = SIMDISK_FAILED_SYNC_LOSES;
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_errno = EIO;
    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_batch_put(batch, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    CHECK_EQ(f.disk->faults, 1); /* of three parts, the first one's */
    calls = f.disk->calls;
    tkv_upkeep_flush(f.store); /* the simulated disk ends a test that syncs again */
    CHECK_EQ(f.disk->calls, calls);
    CHECK_EQ(tkv_put(f.store, tkv_text("key"), tkv_text("v"), &err), TKV_POISONED);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    CHECK_EQ(f.report.keys, 21);
    check_byte(&f, "first", 1);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%u", i);
        check_byte(&f, key, 0);
    }
    end(&f);
}

static uint64_t unwritten(const struct fixture *f)
{
    const struct tkv_datafile *file = f->store->active;

    return atomic_load(&file->size) - atomic_load(&file->written);
}

/* Until so many bytes of the active file wait to be written; then they are. */
static void flush_bytes(struct fixture *f, uint64_t bytes)
{
    const size_t overhead = TKV_RECORD_HEADER_SIZE + strlen("key");

    while (unwritten(f) + 32100 <= bytes)
        put_bytes(f, "key", 1, 16000);
    put_bytes(f, "key", 2, (size_t)(bytes - unwritten(f)) - overhead);
    tkv_upkeep_flush(f->store);
    CHECK_EQ(unwritten(f), 0);
}

TEST(a_flush_waits_for_a_step_and_writes_what_there_is_and_not_more)
{
    struct fixture f;
    uint64_t syncs;

    begin_closed(&f);
    f.options.wal_size_max = f.options.data_file_size_min = f.options.data_file_size_max =
        4u << 20;
    open_again(&f);
    put_bytes(&f, "first", 1, 100);
    tkv_upkeep_flush(f.store);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    while (f.store->wal.ring.end <= TKV_WAL_SIZE_FIRST)
        put_bytes(&f, "key", 1, 10000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    syncs = tkv_usage_get(&f.store->counters.data_syncs);
    flush_bytes(&f, TKV_FLUSH_SIZE);
    CHECK_EQ(tkv_usage_get(&f.store->counters.data_syncs), syncs);
    flush_bytes(&f, TKV_FLUSH_SIZE + 1000); /* from a block boundary, to between two ... */
    flush_bytes(&f, TKV_FLUSH_SIZE + 8);    /* ... and on from there */
    CHECK_EQ(tkv_usage_get(&f.store->counters.data_syncs), syncs + 2);
    put_bytes(&f, "last", 3, 5000);
    open_again(&f);
    check_byte(&f, "key", 2);
    check_byte(&f, "last", 3);
    CHECK_OK(tkv_verify(f.store, NULL, NULL, NULL, &err));
    end(&f);
}

TEST(a_group_of_megabytes_gives_its_memory_back_and_the_next_has_its_own)
{
    static const uint8_t value[32 * 1000];
    struct tkv_batch *batch;
    struct fixture f;
    char key[8];

    begin_closed(&f);
    f.options.wal_size_max = f.options.data_file_size_min = f.options.data_file_size_max =
        32u << 20;
    open_again(&f);
    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = 0; i < 160; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_batch_put(batch, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    put_bytes(&f, "after", 2, 100);
    put_bytes(&f, "last", 3, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    CHECK_EQ(f.report.keys, 162);
    check_byte(&f, "159", 0);
    check_byte(&f, "last", 3);
    end(&f);
}

TEST(without_a_mapping_a_failed_write_leaves_the_log_as_it_was)
{
    struct fixture f;
    uint8_t byte;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    f.disk->fail_kinds = SIMDISK_MAP;
    f.disk->fail_errno = ENODEV;
    f.disk->fail_sticky = true;
    f.disk->fail_at = 1;
    open_again(&f);
    CHECK(f.store->wal.map == NULL);
    put_bytes(&f, "before", 1, 100);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_errno = EIO;
    f.disk->fail_sticky = false;
    f.disk->fail_count = 0;
    CHECK_EQ(tkv_put(f.store, tkv_text("key"), tkv_text("v"), &err), TKV_IO);
    CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
    put_bytes(&f, "after", 2, 100);
    kill_process(&f, SIMDISK_KILLED);
    open_again(&f);
    check_byte(&f, "before", 1);
    check_byte(&f, "after", 2);
    CHECK_EQ(f.report.keys, 2);
    end(&f);
}

static unsigned full_events;

static void count_full(void *context, const struct tkv_event *event)
{
    (void)context;
    full_events += event->kind == TKV_EVENT_DISK_FULL;
}

static bool is_full(struct fixture *f)
{
    struct tkv_stats stats;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats.disk_full;
}

/* Mode NONE stores into the mapped log: what fails first is the data file, then the manifest. */
TEST(a_checkpoint_that_finds_no_room_tells_that_the_disk_is_full_until_there_is_some)
{
    for (uint64_t at = 1; at <= 2; at++) {
        struct fixture f;

        begin_closed(&f);
        f.options.durability = TKV_DURABILITY_NONE;
        f.options.on_event = count_full;
        open_again(&f);
        put_bytes(&f, "key", 1, 100);
        full_events = 0;
        f.disk->fail_kinds = SIMDISK_WRITE;
        f.disk->fail_count = 0;
        f.disk->fail_errno = ENOSPC;
        f.disk->fail_at = at;
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_NO_SPACE);
        CHECK_EQ(f.disk->faults, 1);
        CHECK(is_full(&f));
        CHECK_EQ(full_events, 1);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        CHECK(!is_full(&f));
        CHECK_EQ(full_events, 1);
        end(&f);
    }
}

static unsigned lines_with(const char *text, const char *beginning)
{
    unsigned count = 0;

    for (; text != NULL && *text != 0; text = strchr(text, '\n'), text += text != NULL)
        count += strncmp(text, beginning, strlen(beginning)) == 0;
    return count;
}

/* Those of the log are its own: fsyncs of the statistics is the sum. */
TEST(every_sync_of_data_files_manifests_and_the_directory_is_counted)
{
    struct fixture f;
    uint64_t before;
    char key[8];

    begin(&f);
    simdisk_trace(f.disk);
    before = tkv_usage_get(&f.store->counters.data_syncs);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "%u", i % 20);
        put_bytes(&f, key, (uint8_t)i, i % 7 == 0 ? 20000 : 4000);
        if (i % 20 == 19)
            CHECK_OK(tkv_compact(f.store, NULL, &err));
    }
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(lines_with(f.disk->trace, "sync MANIFEST") > 5);
    CHECK(lines_with(f.disk->trace, "sync-dir") > lines_with(f.disk->trace, "rename"));
    CHECK_EQ(tkv_usage_get(&f.store->counters.data_syncs) - before,
             lines_with(f.disk->trace, "sync ") + lines_with(f.disk->trace, "sync-dir") -
                 lines_with(f.disk->trace, "sync wal.log"));
    end(&f);
}

/* ---- What a header says, and what a manifest ------------------------------------------ */

static struct tkv_wal_header header_in(const struct fixture *f, unsigned block)
{
    uint8_t bytes[TKV_BLOCK_SIZE];
    struct tkv_wal_header header;

    CHECK_EQ(
        simdisk_file_read(f->disk, "wal.log", bytes, sizeof bytes, block * TKV_BLOCK_SIZE),
        sizeof bytes);
    CHECK_OK(tkv_wal_header_decode(bytes, 0, &header, &err));
    return header;
}

static struct tkv_wal_header newest_header(const struct fixture *f)
{
    return header_in(f, f->store->checkpoint.generation % 2);
}

/* A manifest is a small file that is replaced, with two syncs; a header is one write. */
TEST(a_manifest_is_written_for_a_new_set_of_files_and_a_header_has_the_news_since)
{
    struct tkv_wal_header header;
    struct fixture f;
    uint64_t epoch;

    begin(&f);
    epoch = f.store->manifest_epoch;
    CHECK_OK(tkv_checkpoint(f.store, &err)); /* of a file that nothing was written to */
    CHECK_EQ(f.store->manifest_epoch, epoch);
    for (unsigned files = 1; files <= 4; files++) {
        while (f.store->active->number == files)
            put_bytes(&f, "key", 1, 4000);
        CHECK_OK(tkv_checkpoint(f.store, &err));
    }
    header = newest_header(&f);
    epoch = f.store->manifest_epoch;
    CHECK_EQ(header.manifest_epoch, epoch);
    CHECK_EQ(header.file_count, 0);
    for (unsigned i = 0; i < 3; i++) {
        put_bytes(&f, "key", 2, 100);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        header = newest_header(&f);
        CHECK_EQ(header.manifest_epoch, epoch);
        CHECK_EQ(header.file_count, 1);
        CHECK_EQ(header.files[0].number, f.store->active->number);
        CHECK_EQ(header.files[0].durable_size, f.store->active->durable);
    }
    end(&f);
}

/* As after an opening, when a header before it had news of all of them. */
TEST(more_news_than_a_header_can_hold_go_into_a_manifest)
{
    enum { COUNT = TKV_WAL_HEADER_FILES_MAX + 60 };
    struct tkv_wal_header header;
    struct fixture f;
    uint64_t epoch;
    char key[8];

    begin(&f);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(&f, key, (uint8_t)i, 20000); /* each in a file of its own */
    }
    CHECK_OK(tkv_checkpoint(f.store, &err));
    for (uint32_t slot = 0; slot < atomic_load(&f.store->slots_used); slot++)
        tkv_files_at(f.store, slot)->listed_size = 0;
    epoch = f.store->manifest_epoch;
    CHECK_OK(tkv_checkpoint(f.store, &err));
    header = newest_header(&f);
    CHECK_EQ(header.manifest_epoch, epoch + 1);
    CHECK_EQ(header.file_count, 0);
    open_again(&f);
    CHECK_EQ(f.report.keys, COUNT);
    end(&f);
}

static enum tkv_status mark(struct fixture *f)
{
    enum tkv_status status;

    tkv_mutex_lock(&f->store->upkeep);
    status = tkv_checkpoint_mark(f->store, &err);
    tkv_mutex_unlock(&f->store->upkeep);
    return status;
}

/* Else an older manifest put in its place would not be told apart. */
TEST(a_manifest_that_was_written_by_itself_is_named_by_the_next_header)
{
    struct fixture f;
    uint64_t epoch;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    epoch = f.store->manifest_epoch;
    for (unsigned i = 1; i < 4; i++) {
        tkv_mutex_lock(&f.store->upkeep);
        CHECK_OK(tkv_checkpoint_manifest(f.store, &err));
        tkv_mutex_unlock(&f.store->upkeep);
        CHECK_EQ(f.store->manifest_epoch, epoch + i);
        CHECK_EQ(newest_header(&f).manifest_epoch, epoch + i);
        CHECK_EQ(newest_header(&f).checkpoint.generation, f.store->header_generation);
    }
    end(&f);
}

/* The file of a large value needs a manifest first, which cannot be written. */
TEST(a_header_that_was_not_written_does_not_make_the_next_one_replace_the_newest)
{
    struct fixture f;
    uint64_t newest;

    begin(&f);
    put_bytes(&f, "key", 1, 20000);
    newest = f.store->checkpoint.generation;
    f.disk->fail_kinds = SIMDISK_OPEN;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EMFILE;
    f.disk->fail_at = 1;
    CHECK_EQ(mark(&f), TKV_IO);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    f.disk->fail_at = 0;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(mark(&f)); /* once is enough: nothing is written meanwhile */
        CHECK_EQ(header_in(&f, newest % 2).checkpoint.generation, newest);
        CHECK_EQ(header_in(&f, (newest + 1) % 2).checkpoint.generation, newest + 1);
    }
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    check_byte(&f, "key", 1);
    end(&f);
}

/* Its data files are on disk then, but the header and manifest that say so are not. */
TEST(a_checkpoint_whose_manifest_fails_leaves_the_last_one_as_it_was)
{
    struct tkv_wal_header header;
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    header = newest_header(&f);
    put_bytes(&f, "b", 2, 100);
    tkv_mutex_lock(&f.store->apply);
    CHECK_OK(tkv_apply_rotate(f.store, 0, &err));
    tkv_mutex_unlock(&f.store->apply);
    put_bytes(&f, "c", 3, 100);
    f.disk->fail_kinds = SIMDISK_OPEN;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EMFILE;
    f.disk->fail_at = 2; /* after the second data file */
    CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_IO);
    CHECK_EQ(f.disk->faults, 1);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    CHECK_EQ(tkv_files_find(f.store, 1)->durable, TKV_BLOCK_SIZE);
    CHECK(!tkv_files_find(f.store, 1)->durable_sealed);
    CHECK_EQ(f.store->active->durable, 0);
    CHECK_OK(mark(&f));
    CHECK_EQ(newest_header(&f).checkpoint.position, header.checkpoint.position);
    CHECK_EQ(newest_header(&f).manifest_epoch, header.manifest_epoch);
    CHECK_EQ(newest_header(&f).file_count, 0);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    CHECK_EQ(f.report.records_replayed, 2);
    check_byte(&f, "a", 1);
    check_byte(&f, "b", 2);
    check_byte(&f, "c", 3);
    CHECK_EQ(usage_of(&f).records, 3);
    end(&f);
}

TEST(each_checkpoint_is_counted_once)
{
    struct tkv_stats stats;
    struct fixture f;
    uint64_t before;

    begin(&f);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    before = stats.checkpoints;
    for (unsigned i = 1; i <= 3; i++) {
        put_bytes(&f, "key", (uint8_t)i, 100);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        CHECK_OK(tkv_stats(f.store, &stats, &err));
        CHECK_EQ(stats.checkpoints, before + i);
    }
    end(&f);
}
