/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises of a store as a whole: counts, events and reports say what happened,
 * what cannot be is refused at opening, who only reads changes nothing, and hints are only a
 * shortcut.
 */
#include "sim_store.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

TEST_MAIN

/* ---- Seeing inside ----------------------------------------------------------------- */

TEST(stats_count_what_was_done)
{
    struct fixture f = begin();
    struct tkv_stats stats;
    struct tkv_file_stats files[64];
    uint64_t live = 0, size = 0, records = 0;
    size_t count;

    for (unsigned i = 0; i < 100; i++)
        put_number(&f, i % 50, i, 1000);
    for (unsigned i = 0; i < 10; i++)
        delete_number(&f, i);
    check_absent(&f, "nothing");
    stats = stats_of(&f);
    CHECK_EQ(stats.keys, 40);
    CHECK_EQ(stats.puts, 100);
    CHECK_EQ(stats.deletes, 10);
    CHECK_EQ(stats.seq_last, 110);
    CHECK_EQ(stats.groups, 110);
    CHECK_EQ(stats.group_records, 110);
    CHECK(stats.fsyncs >= 110);
    CHECK(stats.checkpoints > 0);
    CHECK_EQ(stats.poisoned, TKV_OK);
    CHECK_EQ(stats.live_bytes + stats.dead_bytes, stats.disk_bytes);
    CHECK(stats.live_bytes >= 40 * 1000 && stats.live_bytes < 40 * 1100);
    CHECK(stats.wal_bytes_written >= 110 * 4096);
    CHECK_OK(tkv_file_stats(f.store, files, 64, &count, &err));
    CHECK_EQ(count, stats.data_files);
    for (size_t i = 0; i < count; i++) {
        live += files[i].live_bytes;
        size += files[i].size;
        records += files[i].live_records;
    }
    CHECK_EQ(live, stats.live_bytes);
    CHECK_EQ(size, stats.disk_bytes);
    CHECK_EQ(records, stats.keys);
    reopen(&f);
    CHECK_EQ(stats_of(&f).live_bytes, stats.live_bytes);
    CHECK_EQ(stats_of(&f).keys, 40);
    CHECK_EQ(stats_of(&f).seq_last, 110);
    check_verifies(f.store);
    end(&f);
}

static void count_event(void *context, const struct tkv_event *event)
{
    unsigned *counts = context;

    CHECK(event->kind >= TKV_EVENT_OPENED && event->kind <= TKV_EVENT_POISONED);
    counts[event->kind]++;
}

TEST(events_tell_what_happens)
{
    struct fixture f = begin_closed();
    unsigned counts[TKV_EVENT_POISONED + 1] = {0};

    f.options.on_event = count_event;
    f.options.event_context = counts;
    reopen(&f);
    for (unsigned i = 0; i < 300; i++)
        put_number(&f, i % 20, i, 2000);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put(&f, "k", "v");
    cut_power(&f);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_errno = EIO;
    CHECK_EQ(try_put(&f, "k", "w"), TKV_IO);
    CHECK_EQ(counts[TKV_EVENT_OPENED], 2);
    CHECK_EQ(counts[TKV_EVENT_RECOVERED], 1);
    CHECK(counts[TKV_EVENT_ROTATED] > 0);
    CHECK(counts[TKV_EVENT_CHECKPOINTED] > 0);
    CHECK(counts[TKV_EVENT_COMPACTION_PICKED] > 0);
    CHECK_EQ(counts[TKV_EVENT_COMPACTION_COPIED], counts[TKV_EVENT_COMPACTION_PICKED]);
    CHECK_EQ(counts[TKV_EVENT_COMPACTION_INSTALLED], counts[TKV_EVENT_COMPACTION_PICKED]);
    CHECK(counts[TKV_EVENT_FILE_REMOVED] > 0);
    CHECK_EQ(counts[TKV_EVENT_POISONED], 1);
    for (int kind = 0; kind <= TKV_EVENT_POISONED + 1; kind++)
        CHECK(tkv_event_text((enum tkv_event_kind)kind) != NULL);
    CHECK_EQ(tkv_close(f.store, &err), TKV_POISONED);
    simdisk_free(f.disk);
}

TEST(a_torn_tail_is_reported_and_kept)
{
    struct fixture f = begin();
    struct simdisk *after;
    struct tkv_open_report report;
    uint8_t value[3000];

    put(&f, "a", "1");
    fill(value, sizeof value, 3);
    f.disk->crash_kinds = SIMDISK_WRITE;
    f.disk->crash_at = f.disk->crash_count + 1;
    f.disk->crash_cut = 1500;
    CHECK_EQ(tkv_put(f.store, tkv_text("b"), tkv_bytes(value, sizeof value), &err), TKV_IO);
    after = simdisk_survivor(f.disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    (void)tkv_close(f.store, NULL);
    simdisk_free(f.disk);
    f.disk = after;
    CHECK_OK(tkv_open_on(&after->os, "", &f.options, &f.store, &report, &err));
    CHECK(!report.created && !report.clean);
    CHECK(report.bytes_cut >= 1500);
    CHECK(report.cut_reason[0] != 0);
    CHECK_EQ(report.keys, 1);
    CHECK_EQ(report.records_replayed, 1);
    check_value(&f, "a", "1");
    check_absent(&f, "b");
    end(&f);
}

/* ---- Options, read-only, locks ----------------------------------------------------- */

TEST(an_option_out_of_range_is_refused_by_name)
{
    struct fixture f = begin_closed();
    struct tkv_options good = f.options;
    struct tkv_options *o = &f.options;

#define CHECK_REFUSED(field, bad)                                                     \
    do {                                                                              \
        *o = good;                                                                    \
        o->field = bad;                                                               \
        err.message[0] = 0;                                                           \
        CHECK_EQ(tkv_open_on(&f.disk->os, "", o, &f.store, NULL, &err), TKV_INVALID); \
        CHECK(strstr(err.message, #field) != NULL);                                   \
    } while (0)
    CHECK_REFUSED(size, sizeof *o - 1);
    CHECK_REFUSED(durability, (enum tkv_durability)3);
    CHECK_REFUSED(interval_ms, 0);
    CHECK_REFUSED(interval_ms, 3600001);
    CHECK_REFUSED(read_mode, (enum tkv_read_mode)2);
    CHECK_REFUSED(compress_level, 10);
    CHECK_REFUSED(compress_size_min, TKV_VALUE_SIZE_MAX + 1);
    CHECK_REFUSED(data_file_size_min, 65535);
    CHECK_REFUSED(data_file_size_max, 65535);
    CHECK_REFUSED(data_file_size_max, UINT64_C(1) << 30);
    CHECK_REFUSED(compact_size_min, UINT64_C(1) << 63);
    CHECK_REFUSED(space_factor, 1.0);
    CHECK_REFUSED(space_factor, 10.5);
    CHECK_REFUSED(space_factor, 0.0 / 0.0 * 1.0);
    CHECK_REFUSED(idle_poll_us, 10001);
    CHECK_REFUSED(wal_size_max, 65535);
    CHECK_REFUSED(wal_size_max, (UINT64_C(16) << 30) + 1);
    if (SIZE_MAX < UINT64_MAX)
        CHECK_REFUSED(wal_size_max, (UINT64_C(512) << 20) + 1);
#undef CHECK_REFUSED
    CHECK_EQ(f.disk->calls, 0);
    simdisk_free(f.disk);
}

/* Of a caller that was built with another header. */
TEST(options_of_another_size_are_refused_and_not_read_beyond_it)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *pages =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char expected[32];
    size_t *size;

    CHECK(pages != MAP_FAILED);
    CHECK_EQ(mprotect(pages + page, page, PROT_NONE), 0);
    size = (size_t *)(void *)(pages + page - sizeof *size);
    *size = sizeof *size;
    CHECK_EQ(tkv_options_check((const struct tkv_options *)(const void *)size, &err),
             TKV_INVALID);
    snprintf(expected, sizeof expected, "option size is %zu", sizeof *size);
    CHECK(strstr(err.message, expected) != NULL);
    CHECK_EQ(munmap(pages, 2 * page), 0);
}

TEST(without_create_a_missing_store_is_not_found)
{
    struct fixture f = begin_closed();

    f.options.create = false;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err), TKV_NOT_FOUND);
    f.disk->root_is_missing = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err), TKV_NOT_FOUND);
    f.disk->root_is_missing = false;
    f.disk->is_remote = true;
    f.options.create = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err),
             TKV_UNSUPPORTED);
    f.options.allow_remote = true;
    reopen(&f);
    end(&f);
}

TEST(a_read_only_store_changes_nothing)
{
    struct fixture f = begin();
    struct simdisk *killed;
    struct tkv_batch *batch;
    uint64_t before;

    for (unsigned i = 0; i < 60; i++)
        put_number(&f, i, 0, 1500);
    delete_number(&f, 3);
    /* Not closed: there is a log to replay. */
    killed = simdisk_survivor(f.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    end(&f);
    f.disk = killed;
    f.store = NULL;
    f.options.read_only = true;
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("k"), tkv_text("v"), &err));
    for (int i = 0; i < 2; i++) {
        before = simdisk_hash(f.disk);
        f.disk->is_read_only = i == 1;
        CHECK_OK(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err));
        check_number(&f, 59, 0, 1500);
        check_absent(&f, "key3");
        CHECK_EQ(count_iterated(f.store), 59);
        CHECK_EQ(stats_of(&f).keys, 59);
        check_verifies(f.store);
        CHECK_EQ(try_put(&f, "k", "v"), TKV_READ_ONLY);
        CHECK_EQ(tkv_delete(f.store, tkv_text("key1"), NULL, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_write(f.store, batch, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_sync(f.store, &err), TKV_READ_ONLY);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        CHECK_EQ(simdisk_hash(f.disk), before);
    }
    tkv_batch_free(batch);
    simdisk_free(f.disk);
}

TEST(a_second_opener_is_told_busy_at_once)
{
    struct fixture f = begin();
    struct tkv_store *second;
    struct tkv_options reading = f.options;

    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &second, NULL, &err), TKV_BUSY);
    reading.read_only = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &reading, &second, NULL, &err), TKV_BUSY);
    CHECK_OK(tkv_close(f.store, &err));
    CHECK_OK(tkv_open_on(&f.disk->os, "", &reading, &f.store, NULL, &err));
    CHECK_OK(tkv_open_on(&f.disk->os, "", &reading, &second, NULL, &err)); /* two readers */
    CHECK_OK(tkv_close(second, &err));
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &second, NULL, &err), TKV_BUSY);
    end(&f);
}

/* ---- Hints ------------------------------------------------------------------------- */

struct names {
    char names[64][64];
    size_t count;
};

static void keep_hint(void *context, const char *name)
{
    struct names *names = context;

    if (strstr(name, ".hint") != NULL && names->count < 64)
        snprintf(names->names[names->count++], 64, "%s", name);
}

TEST(hints_are_only_a_shortcut)
{
    for (int way = 0; way < 4; way++) {
        struct fixture f = begin();
        struct names hints = {.count = 0};
        struct tkv_open_report report;

        for (unsigned i = 0; i < 200; i++)
            put_number(&f, i, 0, 1500);
        for (unsigned i = 0; i < 200; i += 5)
            delete_number(&f, i);
        CHECK_OK(tkv_close(f.store, &err));
        simdisk_list(f.disk, keep_hint, &hints);
        CHECK(hints.count > 2);
        for (size_t i = 0; i < hints.count; i++) {
            const int64_t size = simdisk_file_size(f.disk, hints.names[i]);
            uint8_t byte = 0;

            CHECK(size > 0);
            if (way == 1)
                CHECK(simdisk_file_unlink(f.disk, hints.names[i]) >= 0);
            if (way == 2)
                CHECK(simdisk_file_truncate(f.disk, hints.names[i], (uint64_t)size / 2) >=
                      0);
            if (way != 3)
                continue;
            CHECK_EQ(
                simdisk_file_read(f.disk, hints.names[i], &byte, 1, (uint64_t)size / 2), 1);
            byte ^= 0x10;
            CHECK_EQ(
                simdisk_file_write(f.disk, hints.names[i], &byte, 1, (uint64_t)size / 2),
                1);
        }
        CHECK_OK(tkv_open_on(&f.disk->os, "", &f.options, &f.store, &report, &err));
        CHECK(report.clean);
        CHECK_EQ(way == 0 ? report.hints_rebuilt : report.hints_used, 0);
        for (unsigned i = 1; i < 200; i++) {
            if (i % 5 != 0)
                check_number(&f, i, 0, 1500);
        }
        check_absent(&f, "key5");
        CHECK_EQ(count_iterated(f.store), 160);
        check_verifies(f.store);
        end(&f);
    }
}
