/* SPDX-License-Identifier: MIT */
/*
 * Which failures of a compaction poison the store: that of a sync, and of a manifest's new name;
 * and what a poisoned store is spared. Other failures are in tests/test_reclaim_failures.c.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting; its syncs fail, one after the other, or all from one on.
 */
#include "late_failure.h"

#include <errno.h>

TEST_MAIN

/* ---- Syncs ------------------------------------------------------------------------ */

static int (*simdisk_open)(struct tkv_os *os, int dir, const char *name, unsigned flags);
static int (*simdisk_sync)(struct tkv_os *os, int fd);
static int manifest_fd;      /* of the manifest's temporary file */
static bool manifest_failed; /* to be synced */

static int open_and_note(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    const int fd = simdisk_open(os, dir, name, flags);

    if (strncmp(name, "MANIFEST", 8) == 0)
        manifest_fd = fd;
    else if (fd == manifest_fd)
        manifest_fd = -1;
    return fd;
}

static int sync_and_note(struct tkv_os *os, int fd)
{
    const int result = simdisk_sync(os, fd);

    manifest_failed |= result < 0 && fd == manifest_fd;
    return result;
}

/* Without a thread's knowing: a data file, an output or the log. Only what nobody will ever look
 * at may fail to be synced, the manifest's temporary file. False: there is no such sync. */
static bool fail_sync(uint64_t at)
{
    struct fixture f;
    enum tkv_status status;
    bool failed;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    put_bytes(&f, "live", 1, 100);
    for (unsigned i = 0; i < 40; i++) /* a file with a live record, and one without */
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    put_bytes(&f, "late", 1, 100);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_at = at;
    simdisk_open = f.disk->os.open;
    simdisk_sync = f.disk->os.sync;
    f.disk->os.open = open_and_note;
    f.disk->os.sync = sync_and_note;
    manifest_fd = -1;
    manifest_failed = false;
    status = tkv_compact(f.store, NULL, &err);
    failed = f.disk->faults > 0;
    f.disk->fail_at = 0;
    if (failed && !manifest_failed) {
        CHECK_EQ(status, TKV_IO);
        CHECK(f.store->poisoned != TKV_OK);
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_POISONED);
    } else {
        CHECK_EQ(f.store->poisoned, TKV_OK);
        /* Where it had a checkpoint with it, another manifest follows. */
        CHECK(status == TKV_OK || (failed && strcmp(err.file, "MANIFEST") == 0));
    }
    (void)tkv_close(f.store, &err);
    f.store = NULL;
    open_again(&f);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 39);
    end(&f);
    return failed;
}

TEST(a_failed_sync_in_a_compaction_poisons_the_store)
{
    uint64_t at = 1;

    while (fail_sync(at))
        at++;
    CHECK(at > 4);
}

TEST(after_a_failed_sync_of_an_output_nothing_more_is_done)
{
    struct fixture f;

    begin_failing_late(&f, SIMDISK_SYNC);
    CHECK_EQ(f.store->poisoned, TKV_IO);
    CHECK_STR(err.file, "0000000003.data");
    CHECK(simdisk_file_size(f.disk, err.file) > 0);
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG] != NULL);
    CHECK(tkv_close(f.store, &err) != TKV_OK);
    f.store = NULL;
    open_again(&f);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 2);
    end(&f);
}

/* With what is not in the data files yet, as every writer leaves it. */
static void begin_with_news(struct fixture *f, tkv_event_fn *on_event)
{
    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.on_event = on_event;
    open_again(f);
    put_garbage(f, 20);
    put_bytes(f, "late", 3, 100);
}

static void check_after_kill(struct fixture *f)
{
    end_failing(f);
    kill_process(f, SIMDISK_KILLED);
    f->options.on_event = NULL;
    open_again(f);
    check_byte(f, "live", 1);
    check_byte(f, "garbage", 2);
    check_byte(f, "late", 3);
    end(f);
}

TEST(a_failed_sync_of_the_active_file_after_that_of_an_output_poisons)
{
    struct fixture f;

    begin_with_news(&f, fail_when_copied);
    late_kinds = SIMDISK_SYNC;
    late_at = 2;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    CHECK_STR(err.file, f.store->active->name);
    CHECK_EQ(f.store->poisoned, TKV_IO);
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG]->durable > 0);
    CHECK(!f.store->outputs[TKV_OUTPUT_YOUNG]->listed);
    check_after_kill(&f);
}

static struct fixture *refusing; /* its active file cannot be written to; or NULL */
static unsigned refused;
static int64_t (*simdisk_write)(struct tkv_os *os, int fd, const void *data, size_t size,
                                uint64_t offset);

static int64_t refuse_puts(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    if (refusing == NULL || fd != refusing->store->active->fd)
        return simdisk_write(os, fd, data, size, offset);
    refused++;
    return -EIO;
}

static void refuse_when_copied(void *context, const struct tkv_event *event)
{
    fail_when_copied(context, event);
    if (event->kind == TKV_EVENT_COMPACTION_COPIED)
        refusing = context;
}

static void begin_refusing(struct fixture *f, tkv_event_fn *on_event)
{
    begin_with_news(f, on_event);
    simdisk_write = f->disk->os.write;
    f->disk->os.write = refuse_puts;
    refused = 0;
}

static struct simdisk *cut; /* the power, at the first file that was dropped */

static void refuse_and_cut(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    refuse_when_copied(context, event);
    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED && cut == NULL)
        cut = simdisk_survivor(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
}

TEST(where_a_checkpoint_fails_the_log_is_synced_before_a_file_is_removed)
{
    struct fixture f;

    begin_refusing(&f, refuse_and_cut);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    refusing = NULL;
    CHECK(refused > 0);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    CHECK_OK(tkv_close(f.store, &err));
    simdisk_free(f.disk);
    f.disk = cut;
    cut = NULL;
    f.store = NULL;
    f.options.on_event = NULL;
    open_again(&f);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 2);
    check_byte(&f, "late", 3);
    end(&f);
}

TEST(where_neither_a_checkpoint_nor_a_sync_of_the_log_is_possible_a_compaction_poisons)
{
    struct fixture f;

    begin_refusing(&f, refuse_when_copied);
    late_kinds = SIMDISK_SYNC;
    late_at = 2; /* an output is synced before */
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    refusing = NULL;
    CHECK(refused > 0);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(f.store->poisoned, TKV_IO);
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG]->durable > 0);
    CHECK(!f.store->outputs[TKV_OUTPUT_YOUNG]->listed);
    check_after_kill(&f);
}

/* ---- Poisoned meanwhile, or before ------------------------------------------------ */

static uint64_t calls_when_poisoned;

static void poison_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    tkv_store_poison(f->store, TKV_IO);
    calls_when_poisoned = f->disk->calls;
}

TEST(a_store_that_is_poisoned_while_a_compaction_copies_is_left_alone_from_then_on)
{
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = poison_when_copied;
    open_again(&f);
    put_garbage(&f, 20);
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_POISONED);
    CHECK_EQ(f.disk->calls, calls_when_poisoned);
    CHECK(tkv_files_find(f.store, 1) != NULL);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    f.options.on_event = NULL;
    open_again(&f);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 2);
    end(&f);
}

static unsigned picked;

static void count_picked(void *context, const struct tkv_event *event)
{
    (void)context;
    picked += event->kind == TKV_EVENT_COMPACTION_PICKED;
}

TEST(a_step_in_a_poisoned_store_does_nothing_and_says_so)
{
    struct fixture f;
    uint64_t calls;
    bool did = true;

    begin_closed(&f);
    f.options.on_event = count_picked;
    open_again(&f);
    put_garbage(&f, 20);
    tkv_store_poison(f.store, TKV_IO);
    picked = 0;
    calls = f.disk->calls;
    CHECK_EQ(tkv_reclaim_step(f.store, TKV_RECLAIM_AUTOMATIC, &did, NULL, &err),
             TKV_POISONED);
    CHECK(!did);
    CHECK_EQ(picked, 0);
    CHECK_EQ(f.disk->calls, calls);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    end(&f);
}

/* ---- A manifest of unknown fate --------------------------------------------------- */

/* Of a dead file's removal, and of one that has a live record. */
TEST(a_file_of_which_nobody_knows_whether_a_manifest_lists_it_stays_out_of_ours)
{
    for (unsigned is_dead = 0; is_dead < 2; is_dead++) {
        struct tkv_datafile *file;
        struct fixture f;

        begin(&f);
        put_garbage(&f, 20);
        if (is_dead)
            put_bytes(&f, "live", 1, 100);
        f.disk->fail_kinds = SIMDISK_RENAME;
        f.disk->fail_count = 0;
        f.disk->fail_errno = EIO;
        f.disk->fail_at = 1;
        CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
        CHECK_EQ(f.disk->faults, 1);
        CHECK_EQ(f.store->poisoned, TKV_IO);
        file = tkv_files_find(f.store, 1);
        CHECK(file != NULL && atomic_load(&file->condemned));
        check_byte(&f, "live", 1);
        kill_process(&f, SIMDISK_KILLED);
        open_again(&f);
        check_byte(&f, "live", 1);
        check_byte(&f, "garbage", 2);
        end(&f);
    }
}
