/* SPDX-License-Identifier: MIT */
/*
 * Defects that the fault sweeps found, each with its shortest program: what a store does when
 * a call fails, and after.
 */
#include "simdisk.h"
#include "store.h"
#include "test.h"

#include <errno.h>

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

static void put_numbered(struct tkv_store *store, unsigned first, unsigned end, size_t size)
{
    static const char value[4000];
    struct tkv_error err;
    char key[32];

    for (unsigned i = first; i < end; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_put(store, tkv_text(key), tkv_bytes(value, size), &err));
    }
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

/* ---- Quarantine ---------------------------------------------------------------------- */

static void plant_evidence(struct simdisk *disk, unsigned number, uint64_t size)
{
    const int root = disk->os.open_dir(&disk->os, "store", false);
    const int quarantine = disk->os.open_dir_at(&disk->os, root, "quarantine", true);
    char name[64];

    CHECK(quarantine >= 0);
    CHECK_EQ(disk->os.close(&disk->os, quarantine), 0);
    CHECK_EQ(disk->os.close(&disk->os, root), 0);
    snprintf(name, sizeof name, "quarantine/wal-%020u.torn", number);
    CHECK_EQ(simdisk_file_write(disk, name, "torn", 4, 0), 4);
    CHECK_EQ(simdisk_file_truncate(disk, name, size), size);
    snprintf(name, sizeof name, "quarantine/wal-%020u.txt", number);
    CHECK_EQ(simdisk_file_write(disk, name, "note", 4, 0), 4);
}

static void count_name(void *context, const char *name)
{
    unsigned *count = context;

    *count += strstr(name, ".torn") != NULL;
}

/* A store that was killed in the middle of a write, and what it has in quarantine. */
static struct simdisk *torn_store(struct tkv_options *options)
{
    static char value[6000];
    struct simdisk *disk = simdisk_new(13), *after;
    struct tkv_store *store;
    struct tkv_error err;

    memset(value, 'v', sizeof value); /* zeros would be there before they are written */
    options->auto_compact = false;
    store = open_on(disk, options);
    put_numbered(store, 0, 4, 3000);
    disk->crash_kinds = SIMDISK_WRITE;
    disk->crash_count = 0;
    disk->crash_at = 1;
    disk->crash_cut = 4096;
    CHECK_EQ(tkv_put(store, tkv_text("torn"), tkv_bytes(value, sizeof value), &err),
             TKV_IO);
    after = simdisk_clone(disk);
    (void)tkv_close(store, NULL);
    simdisk_free(disk);
    return after;
}

static unsigned evidence_after_opening(struct simdisk *disk,
                                       const struct tkv_options *options)
{
    struct tkv_open_report report;
    struct tkv_store *store;
    struct tkv_error err;
    unsigned count = 0;

    CHECK_OK(tkv_open_on(&disk->os, "store", options, &store, &report, &err));
    CHECK(report.bytes_cut > 0);
    CHECK_OK(tkv_close(store, &err));
    simdisk_list(disk, count_name, &count);
    return count;
}

TEST(quarantine_keeps_the_sixteen_newest_tails_and_foreign_files)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = torn_store(&options);

    for (unsigned i = 0; i < 40; i++)
        plant_evidence(disk, i, 4);
    CHECK_EQ(simdisk_file_write(disk, "quarantine/mine", "x", 1, 0), 1);
    CHECK_EQ(evidence_after_opening(disk, &options), 16);
    CHECK(simdisk_file_size(disk, "quarantine/wal-00000000000000000024.torn") < 0);
    CHECK(simdisk_file_size(disk, "quarantine/wal-00000000000000000024.txt") < 0);
    CHECK_EQ(simdisk_file_size(disk, "quarantine/wal-00000000000000000025.torn"), 4);
    CHECK_EQ(simdisk_file_size(disk, "quarantine/wal-00000000000000000025.txt"), 4);
    CHECK_EQ(simdisk_file_size(disk, "quarantine/mine"), 1);
    simdisk_free(disk);
}

/* What lies there may be of another store, with positions that are higher. */
TEST(quarantine_keeps_what_was_just_written_wherever_it_stands_among_the_others)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = torn_store(&options);
    unsigned ours = 0;

    for (unsigned i = 0; i < 20; i++)
        plant_evidence(disk, 4000000000u + i, 8 * 1024 * 1024);
    CHECK_EQ(evidence_after_opening(disk, &options), 1 + 8);
    for (unsigned i = 0; i < 20; i++) {
        char name[64];

        snprintf(name, sizeof name, "quarantine/wal-%020u.torn", 4000000000u + i);
        ours += simdisk_file_size(disk, name) > 0;
    }
    CHECK_EQ(ours, 8); /* so the ninth is the one that was cut now */
    simdisk_free(disk);
}

TEST(quarantine_keeps_no_more_than_64_mib_beside_the_newest_tail)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = torn_store(&options);

    for (unsigned i = 0; i < 3; i++)
        plant_evidence(disk, i, 30 * 1024 * 1024);
    CHECK_EQ(evidence_after_opening(disk, &options), 3);
    CHECK(simdisk_file_size(disk, "quarantine/wal-00000000000000000000.torn") < 0);
    CHECK(simdisk_file_size(disk, "quarantine/wal-00000000000000000001.torn") > 0);
    simdisk_free(disk);
}

/* ---- Calls that fail ----------------------------------------------------------------- */

static void fail(struct simdisk *disk, enum simdisk_call call, int os_errno, bool sticky)
{
    disk->fail_kinds = call;
    disk->fail_errno = os_errno;
    disk->fail_sticky = sticky;
    disk->fail_count = 0;
    disk->fail_at = 1;
}

TEST(a_lost_sync_is_an_io_error_whatever_the_errno_and_says_so_in_the_detail)
{
    static const int errnos[] = {ENOSPC, EDQUOT, ENOMEM, EINTR, EIO};

    for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++) {
        struct tkv_options options = small_options();
        struct simdisk *disk = simdisk_new(9);
        struct tkv_store *store;
        struct tkv_error err;

        options.auto_compact = false;
        store = open_on(disk, &options);
        CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("value"), &err));
        fail(disk, SIMDISK_SYNC, errnos[i], false);
        CHECK_EQ(tkv_checkpoint(store, &err), TKV_IO);
        CHECK_EQ(err.status, TKV_IO);
        CHECK_EQ(err.os_errno, errnos[i]);
        CHECK_EQ(tkv_put(store, tkv_text("key"), tkv_text("other"), &err), TKV_POISONED);
        (void)tkv_close(store, NULL);
        simdisk_free(disk);
    }
}

TEST(a_dead_file_that_a_manifest_could_not_leave_out_keeps_its_hint)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(15);
    struct tkv_store *store;
    struct tkv_error err;

    options.auto_compact = false;
    store = open_on(disk, &options);
    put_numbered(store, 0, 30, 3000);
    put_numbered(store, 0, 30, 3000); /* the first file is dead */
    CHECK_OK(tkv_checkpoint(store, &err));
    CHECK(simdisk_file_size(disk, "0000000001.hint") > 0);
    fail(disk, SIMDISK_OPEN, EMFILE, true);
    CHECK_EQ(tkv_compact(store, NULL, &err), TKV_IO);
    disk->fail_at = 0;
    CHECK(simdisk_file_size(disk, "0000000001.data") > 0);
    CHECK(simdisk_file_size(disk, "0000000001.hint") > 0);
    CHECK_OK(tkv_compact(store, NULL, &err));
    CHECK(simdisk_file_size(disk, "0000000001.data") < 0);
    CHECK(simdisk_file_size(disk, "0000000001.hint") < 0);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

TEST(a_compaction_without_a_descriptor_does_not_poison)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(10);
    struct tkv_store *store;
    struct tkv_stats stats;
    struct tkv_error err;

    options.auto_compact = false;
    store = open_on(disk, &options);
    put_numbered(store, 0, 40, 3000);
    put_numbered(store, 3, 10, 3000); /* a file that is half dead */
    CHECK_OK(tkv_checkpoint(store, &err));
    fail(disk, SIMDISK_OPEN, EMFILE, true);
    CHECK_EQ(tkv_compact(store, NULL, &err), TKV_IO);
    disk->fail_at = 0;
    CHECK_OK(tkv_stats(store, &stats, &err));
    CHECK_EQ(stats.poisoned, TKV_OK);
    put_numbered(store, 40, 41, 3000);
    CHECK_OK(tkv_compact(store, NULL, &err));
    check_numbered(store, 41);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

/* What a failed sync has dropped no later sync writes: nor the size that the log has grown to,
 * which the next opening finds in the cache. */
static void open_after_a_lost_growth(enum tkv_durability durability, bool drops_cache,
                                     bool is_direct)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(11), *after;
    struct tkv_store *store = open_on(disk, &options);
    struct tkv_error err;

    disk->drops_cache = drops_cache;
    disk->no_direct_sync = !is_direct;
    CHECK_OK(tkv_close(store, &err));
    options.durability = durability;
    options.wal_size_max = 256 * 1024;
    store = open_on(disk, &options);
    put_numbered(store, 0, 4, 3000);
    CHECK_OK(tkv_sync(store, &err));
    fail(disk, is_direct ? SIMDISK_WRITE : SIMDISK_SYNC, EIO, false);
    CHECK_EQ(tkv_wal_grow(&store->wal, 2 * store->wal.ring.end, &err), TKV_IO);
    (void)tkv_close(store, NULL);
    store = open_on(disk, &options);
    CHECK_OK(tkv_close(store, &err));
    after = simdisk_survivor(disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    simdisk_free(disk);
    store = open_on(after, &options);
    check_numbered(store, 4);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(after);
}

TEST(a_log_whose_growth_was_not_synced_is_not_taken_to_be_as_long_as_it_looks)
{
    for (unsigned i = 0; i < 4; i++) {
        open_after_a_lost_growth(TKV_DURABILITY_ALWAYS, i & 1, i & 2);
        open_after_a_lost_growth(TKV_DURABILITY_NONE, i & 1, i & 2);
    }
}

/* The simulated disk watches over the second sync. */
TEST(a_manifest_is_never_written_into_a_file_whose_sync_failed)
{
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(12);
    struct tkv_store *store = open_on(disk, &options);
    struct tkv_error err;

    put_numbered(store, 0, 4, 3000);
    fail(disk, SIMDISK_SYNC | SIMDISK_UNLINK, EIO, true);
    disk->fail_at = 1;
    tkv_mutex_lock(&store->upkeep);
    CHECK_EQ(tkv_checkpoint_manifest(store, &err), TKV_IO);
    disk->fail_kinds = SIMDISK_UNLINK; /* which cannot be removed ... */
    CHECK_EQ(tkv_checkpoint_manifest(store, &err), TKV_IO);
    disk->fail_at = 0; /* ... until it can */
    CHECK_OK(tkv_checkpoint_manifest(store, &err));
    tkv_mutex_unlock(&store->upkeep);
    CHECK_OK(tkv_close(store, &err));
    store = open_on(disk, &options);
    check_numbered(store, 4);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

static void note_corruption(void *context, const struct tkv_event *event)
{
    enum tkv_status *status = context;

    if (event->kind == TKV_EVENT_CORRUPTION)
        *status = event->status;
}

TEST(a_compaction_that_cannot_read_its_input_does_not_call_it_damaged)
{
    struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(14);
    enum tkv_status told = TKV_OK;
    struct tkv_store *store;
    struct tkv_error err;

    options.auto_compact = false;
    options.read_mode = TKV_READ_PREAD;
    options.on_event = note_corruption;
    options.event_context = &told;
    store = open_on(disk, &options);
    put_numbered(store, 0, 40, 3000);
    put_numbered(store, 3, 10, 3000); /* a file that is half dead */
    CHECK_OK(tkv_checkpoint(store, &err));
    fail(disk, SIMDISK_READ, EIO, true);
    CHECK_EQ(tkv_compact(store, NULL, &err), TKV_IO);
    CHECK_EQ(told, TKV_IO);
    disk->fail_at = 0;
    check_numbered(store, 40);
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

TEST(a_verification_that_cannot_finish_says_what_stopped_it)
{
    const struct tkv_options options = small_options();
    struct simdisk *disk = simdisk_new(15);
    struct tkv_store *store = open_on(disk, &options);
    struct tkv_error err;

    fail(disk, SIMDISK_OPEN, ENOMEM, false);
    CHECK_EQ(tkv_verify(store, NULL, NULL, NULL, &err), TKV_NO_MEMORY);
    CHECK_STR(err.file, "MANIFEST");
    CHECK_EQ(err.os_errno, ENOMEM);
    CHECK_OK(tkv_verify(store, NULL, NULL, NULL, &err));
    CHECK_OK(tkv_close(store, &err));
    simdisk_free(disk);
}

TEST(a_manifest_of_unknown_fate_poisons_and_never_says_disk_full)
{
    static const enum simdisk_call calls[] = {SIMDISK_RENAME, SIMDISK_SYNC_DIR};

    for (size_t i = 0; i < 2; i++) {
        const struct tkv_options options = small_options();
        struct simdisk *disk = simdisk_new(16);
        struct tkv_store *store = open_on(disk, &options);
        struct tkv_stats stats;
        struct tkv_error err;

        put_numbered(store, 0, 4, 3000);
        fail(disk, calls[i], ENOSPC, false);
        tkv_mutex_lock(&store->upkeep);
        CHECK_EQ(tkv_checkpoint_manifest(store, &err), TKV_IO);
        tkv_mutex_unlock(&store->upkeep);
        CHECK_EQ(err.status, TKV_IO);
        CHECK_OK(tkv_stats(store, &stats, &err));
        CHECK_EQ(stats.poisoned, TKV_IO);
        (void)tkv_close(store, NULL);
        store = open_on(disk, &options);
        check_numbered(store, 4);
        CHECK_OK(tkv_close(store, &err));
        simdisk_free(disk);
    }
}
