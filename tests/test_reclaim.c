/* SPDX-License-Identifier: MIT */
/*
 * A compaction copies what is live, changes nothing that is written or expires meanwhile, and
 * counts and tells what it did. Which deletes it keeps is in tests/test_reclaim_deletes.c, how
 * it removes files in tests/test_removed.c, those that fail in tests/test_reclaim_failures.c.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting.
 */
#include "small_store.h"

TEST_MAIN

/* ---- Beside writers --------------------------------------------------------------- */

static void put_during_copy(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind == TKV_EVENT_COMPACTION_COPIED)
        put_bytes(f, "key", 200, 100);
}

TEST(a_put_while_a_compaction_copies_wins)
{
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = put_during_copy;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", 1, 4000);
    put_bytes(&f, "key", 1, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    check_byte(&f, "key", 200);
    check_byte(&f, "garbage", 1);
    open_again(&f);
    check_byte(&f, "key", 200);
    end(&f);
}

static void retire_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    tkv_mutex_lock(&f->store->upkeep);
    tkv_retire(f->store);
    tkv_mutex_unlock(&f->store->upkeep);
}

/* One that was sealed because the next record did not fit is synced once more, to say so. */
TEST(an_output_is_not_retired_before_its_end_is_durable)
{
    unsigned sealed_early = 0;
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = retire_when_copied;
    f.options.read_mode = TKV_READ_MMAP; /* what is retired loses its descriptor */
    f.options.compact_size_min = 64 * 1024;
    open_again(&f);
    for (unsigned i = 0; i < 1000; i++) {
        const struct tkv_datafile *output = f.store->outputs[TKV_OUTPUT_YOUNG];
        bool did = true;
        char key[16];

        snprintf(key, sizeof key, "%u", i * i % 97);
        put_bytes(&f, key, (uint8_t)i, 1000 + i * 37 % 3000);
        if (i % 10 != 9)
            continue;
        CHECK_OK(tkv_checkpoint(f.store, &err));
        while (did)
            CHECK_OK(tkv_reclaim_step(f.store, TKV_RECLAIM_AUTOMATIC, &did, NULL, &err));
        sealed_early += output != NULL && output != f.store->outputs[TKV_OUTPUT_YOUNG];
    }
    CHECK(sealed_early > 3);
    end(&f);
}

static void checkpoint_during_copy(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;
    const struct tkv_datafile *output;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    CHECK_OK(tkv_checkpoint(f->store, &err));
    output = f->store->outputs[TKV_OUTPUT_YOUNG];
    CHECK(simdisk_file_size(f->disk, output->name) < 0);
    CHECK(atomic_load(&output->size) % TKV_BLOCK_SIZE != 0); /* nor is it padded */
}

TEST(a_checkpoint_while_a_compaction_copies_leaves_its_output_alone)
{
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = checkpoint_during_copy;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    put_bytes(&f, "key", 1, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(tkv_usage_get(&f.store->counters.compactions) > 0);
    open_again(&f);
    check_byte(&f, "key", 1);
    check_byte(&f, "garbage", 9);
    end(&f);
}

static void write_again_during_copy(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    put_bytes(f, "again", 2, 300);
    put_bytes(f, "and again", 2, 500);
    del(f, "gone");
}

TEST(a_copy_that_is_stale_when_it_is_installed_does_not_count_as_live)
{
    const struct tkv_datafile *output;
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = write_again_during_copy;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    put_bytes(&f, "stays", 1, 700);
    put_bytes(&f, "again", 1, 100);
    put_bytes(&f, "and again", 1, 100);
    put_bytes(&f, "gone", 1, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    output = f.store->outputs[TKV_OUTPUT_YOUNG];
    CHECK_EQ(output->usage.records, 5);
    CHECK_EQ(output->usage.live_records, 2); /* and what was garbage's last */
    CHECK_EQ(output->usage.live_bytes,
             2 * TKV_RECORD_HEADER_SIZE + strlen("stays") + strlen("garbage") + 4700);
    CHECK_EQ(usage_of(&f).live_records, 4);
    CHECK_EQ(usage_of(&f).live_bytes, tkv_usage_get(&f.store->live_bytes));
    end(&f);
}

static void let_time_pass(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind == TKV_EVENT_CHECKPOINTED)
        f->disk->wall_ms += 1000;
}

TEST(a_key_that_expires_while_it_is_compacted_is_counted_out)
{
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = let_time_pass;
    open_again(&f);
    put_bytes(&f, "live", 1, 100);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("key"), tkv_text("value"),
                              f.disk->wall_ms + 500, &err));
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(tkv_exists(f.store, tkv_text("key"), &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_index_count(f.store->index), 2);
    CHECK_EQ(usage_of(&f).live_records, 2);
    CHECK(tkv_usage_get(&f.store->live_bytes) < 4200);
    end(&f);
}

/* ---- What is copied --------------------------------------------------------------- */

TEST(a_record_larger_than_a_data_file_is_compacted)
{
    static uint8_t value[200 * 1024], got[sizeof value];
    struct fixture f;
    struct tkv_batch *batch;
    uint64_t reclaimed, before;
    char name[TKV_FILE_NAME_SIZE];
    size_t size;

    memset(value, 7, sizeof value);
    begin_closed(&f);
    f.options.wal_size_max = 4u << 20;
    open_again(&f);
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("big"), tkv_bytes(value, sizeof value), &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("gone"), tkv_bytes(value, sizeof value), &err));
    CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    tkv_data_name(f.store->active->number, name);
    for (unsigned i = 0; i < 5; i++)
        put_bytes(&f, "gone", (uint8_t)i, 10000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    before = tkv_files_disk_bytes(f.store);
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK(reclaimed > sizeof value && reclaimed < before - sizeof value);
    CHECK(simdisk_file_size(f.disk, name) < 0);
    CHECK_OK(tkv_get(f.store, tkv_text("big"), got, sizeof got, &size, &err));
    CHECK(size == sizeof value && memcmp(got, value, size) == 0);
    end(&f);
}

/* Records that fill a block each: one that became zeros looks like padding. */
TEST(a_record_that_became_padding_is_missed_by_compaction_and_not_dropped)
{
    struct fixture f;
    struct copy *file = &first;
    uint8_t byte;
    size_t size;
    uint64_t at;

    begin(&f);
    put_bytes(&f, "a", 1, TKV_BLOCK_SIZE - TKV_DATA_HEADER_SIZE - 25);
    put_bytes(&f, "b", 2, TKV_BLOCK_SIZE - 25);
    put_bytes(&f, "c", 3, TKV_BLOCK_SIZE - 25);
    for (unsigned i = 0; i < 14; i++)
        put_bytes(&f, "garbage", (uint8_t)i, TKV_BLOCK_SIZE - 31);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    open_again(&f);
    keep_file(&f, DATA, file);
    at = find_record(file, "b", 0, &size);
    CHECK_EQ(at, TKV_BLOCK_SIZE);
    CHECK_EQ(size, TKV_BLOCK_SIZE);
    memset(file->bytes + at, 0, size);
    overwrite(&f, DATA, at, file->bytes + at, size);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(f.corruptions, 1);
    CHECK_EQ(get(&f, "b", &byte), TKV_CORRUPT);
    check_byte(&f, "a", 1);
    check_byte(&f, "c", 3);
    check_byte(&f, "garbage", 13);
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    end(&f);
}

/* ---- What is told ----------------------------------------------------------------- */

static struct tkv_event last_events[TKV_EVENT_POISONED + 1];

static void keep_event(void *context, const struct tkv_event *event)
{
    (void)context;
    last_events[event->kind] = *event;
}

TEST(events_tell_what_was_copied_and_moved_and_how_long_it_took)
{
    const struct tkv_event *const seen = last_events;
    struct fixture f;
    uint64_t from;

    begin_closed(&f);
    f.disk->monotonic_us = UINT64_C(1) << 40;
    f.options.on_event = keep_event;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    put_bytes(&f, "key", 1, 100);
    from = f.store->checkpoint.position;
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(f.store->checkpoint.position > from);
    CHECK_EQ(seen[TKV_EVENT_CHECKPOINTED].bytes, f.store->checkpoint.position - from);
    CHECK(seen[TKV_EVENT_CHECKPOINTED].micros < 1000000);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(seen[TKV_EVENT_COMPACTION_COPIED].count, 2);
    CHECK(seen[TKV_EVENT_COMPACTION_COPIED].micros < 1000000);
    CHECK_EQ(seen[TKV_EVENT_COMPACTION_INSTALLED].count, 2);
    end(&f);
}

static void let_copying_take_a_while(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    f->disk->monotonic_us += 5000;
    f->disk->wall_ms += 7;
}

static struct tkv_stats stats_of(struct fixture *f)
{
    struct tkv_stats stats;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats;
}

/* So many records of a key, of which one is live, in the file that receives puts; it is compacted.
 * Returns the size of the file. */
static uint64_t compact_active(struct fixture *f, const char *key, unsigned count)
{
    struct tkv_datafile *file = f->store->active;
    uint64_t size;

    for (unsigned i = 0; i < count; i++)
        put_bytes(f, key, (uint8_t)i, 4000);
    CHECK_EQ(f->store->active->number, file->number);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    size = atomic_load(&file->size);
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    return size;
}

/* The second compaction appends to what the first one wrote. */
TEST(statistics_tell_what_compactions_read_wrote_and_gave_back_and_when)
{
    const uint64_t one = TKV_RECORD_HEADER_SIZE + 3 + 4000;
    struct tkv_stats stats;
    struct fixture f;
    uint64_t size;

    begin_closed(&f);
    f.disk->monotonic_us = UINT64_C(1) << 40;
    f.options.on_event = let_copying_take_a_while;
    open_again(&f);
    size = compact_active(&f, "one", 10);
    stats = stats_of(&f);
    CHECK_EQ(stats.compactions, 1);
    CHECK_EQ(stats.compaction_bytes_read, 10 * one);
    CHECK_EQ(stats.compaction_bytes_written, TKV_BLOCK_SIZE);
    CHECK_EQ(stats.compaction_bytes_reclaimed, size - one);
    CHECK_EQ(stats.last_compaction_at_ms, f.disk->wall_ms);
    CHECK(stats.last_compaction_micros >= 5000 && stats.last_compaction_micros < 6000);
    size += compact_active(&f, "two", 5);
    stats = stats_of(&f);
    CHECK_EQ(stats.compactions, 2);
    CHECK_EQ(stats.compaction_bytes_read, 15 * one);
    CHECK_EQ(stats.compaction_bytes_written, 2 * TKV_BLOCK_SIZE);
    CHECK_EQ(stats.compaction_bytes_reclaimed, size - 2 * one);
    CHECK_EQ(stats.last_compaction_at_ms, f.disk->wall_ms);
    CHECK_EQ(stats.data_files, 2);
    CHECK_EQ(stats.disk_bytes, 2 * TKV_BLOCK_SIZE + TKV_DATA_HEADER_SIZE);
    CHECK_EQ(stats.live_bytes, 2 * one);
    end(&f);
}

TEST(a_step_with_nothing_to_do_says_so)
{
    uint64_t reclaimed = 7;
    struct fixture f;
    bool did = true;

    begin(&f);
    put_bytes(&f, "live", 1, 100);
    CHECK_OK(tkv_reclaim_step(f.store, TKV_RECLAIM_AUTOMATIC, &did, &reclaimed, &err));
    CHECK(!did);
    CHECK_EQ(reclaimed, 0);
    end(&f);
}
