/* SPDX-License-Identifier: MIT */
/*
 * A compaction that fails changes nothing that can be read, leaves every account as it was, and
 * is tried again, unless a sync failed: then the store is poisoned.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting; calls and allocations of the compaction fail, one after the other.
 */
#include "small_store.h"

#include "garbage.h"

#include <errno.h>

TEST_MAIN

static bool list_fails; /* there is no memory for a list of all files */

enum tkv_status __real_tkv_garbage_list(struct tkv_store *store,
                                        struct tkv_garbage_list *list, struct tkv_error *e);
enum tkv_status __wrap_tkv_garbage_list(struct tkv_store *store,
                                        struct tkv_garbage_list *list, struct tkv_error *e);

enum tkv_status __wrap_tkv_garbage_list(struct tkv_store *store,
                                        struct tkv_garbage_list *list, struct tkv_error *e)
{
    return list_fails ? tkv_fail_memory(e, 1, "a list")
                      : __real_tkv_garbage_list(store, list, e);
}

/* ---- A disk that fails ----------------------------------------------------------------- */

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

/* Mode NONE stores into the mapped log: what fails are the data files. */
TEST(a_compaction_on_a_disk_that_takes_nothing_says_so)
{
    struct fixture f;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_sticky = true;
    f.disk->fail_at = 1;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    f.disk->fail_at = 0;
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    check_byte(&f, "garbage", 9);
    CHECK(tkv_files_disk_bytes(f.store) < 4 * TKV_BLOCK_SIZE);
    end(&f);
}

/* ---- When it fails --------------------------------------------------------------------- */

struct sums {
    uint64_t disk_bytes, file_count, records, live_bytes, tombstone_bytes, garbage_bytes;
};

static struct sums sums_of(struct fixture *f)
{
    const struct usage_sums usage = usage_of(f);

    return (struct sums){tkv_files_disk_bytes(f->store),
                         tkv_usage_get(&f->store->file_count),
                         usage.records,
                         tkv_usage_get(&f->store->live_bytes),
                         usage.tombstone_bytes,
                         tkv_garbage_bytes(f->store)};
}

/* When the last compaction began. */
static struct sums sums_when_picked;
static uint64_t synced_when_picked;

/* Of what the compactor wrote. */
static uint64_t synced_bytes(struct fixture *f)
{
    uint64_t bytes = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        const struct tkv_datafile *file = tkv_files_at(f->store, slot);

        if (file != NULL && file->file_class == TKV_FILE_COMPACTED)
            bytes += file->durable;
    }
    return bytes;
}

static void note_picked(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_PICKED)
        return;
    sums_when_picked = sums_of(f); /* other events come before there is a store */
    synced_when_picked = synced_bytes(f);
}

/* A file's worth of live keys and garbage. */
static void put_set(struct fixture *f, char set)
{
    char key[8];

    for (unsigned i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "%c%u", set, i);
        put_bytes(f, key, (uint8_t)set, 4000);
        if (i % 2 == 0)
            put_bytes(f, "garbage", (uint8_t)i, 4000);
    }
    if (set == 'a')
        put_bytes(f, "deleted", 1, 100);
    else
        del(f, "deleted"); /* which hides the record of the set before */
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static void check_set(struct fixture *f, char set)
{
    char key[8];

    for (unsigned i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "%c%u", set, i);
        check_byte(f, key, (uint8_t)set);
    }
}

static void check_all(struct fixture *f)
{
    struct tkv_verify_report report;
    uint8_t byte;

    check_set(f, 'a');
    check_set(f, 'b');
    check_byte(f, "garbage", 10);
    CHECK_EQ(get(f, "deleted", &byte), TKV_NOT_FOUND);
    CHECK_OK(tkv_verify(f->store, NULL, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
    CHECK_EQ(report.keys, 25);
}

/* Fail call number `at` of a compaction whose survivors need the rest of one output and some
 * of a second. False: there is no such call. */
static bool fail_compaction(uint64_t at, int code)
{
    struct fixture f;
    struct sums after;
    enum tkv_status status;
    bool failed;

    begin_closed(&f);
    f.options.on_event = note_picked;
    open_again(&f);
    put_set(&f, 'a');
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put_set(&f, 'b');
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG] != NULL);
    f.disk->fail_kinds = SIMDISK_WRITE | SIMDISK_OPEN | SIMDISK_READ;
    f.disk->fail_count = 0;
    f.disk->fail_errno = code;
    f.disk->fail_at = at;
    sums_when_picked = sums_of(&f); /* it fails before it picks anything */
    synced_when_picked = synced_bytes(&f);
    status = tkv_compact(f.store, NULL, &err);
    after = sums_of(&f);
    failed = f.disk->faults > 0;
    f.disk->fail_at = 0;
    /* What a failed compaction has synced already stays, as garbage that is listed. */
    if (status != TKV_OK && f.store->poisoned == TKV_OK &&
        synced_bytes(&f) == synced_when_picked)
        CHECK(memcmp(&sums_when_picked, &after, sizeof after) == 0);
    check_all(&f);
    if (f.store->poisoned == TKV_OK) {
        CHECK_OK(tkv_compact(f.store, NULL, &err)); /* in the same life it works again */
        check_all(&f);
        CHECK_OK(tkv_close(f.store, &err));
    } else {
        CHECK(tkv_close(f.store, &err) != TKV_OK);
    }
    f.store = NULL;
    open_again(&f);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    check_all(&f);
    end(&f);
    return failed;
}

TEST(a_compaction_that_fails_leaves_everything_as_it_was)
{
    static const int codes[] = {EIO, ENOSPC, EMFILE};

    for (size_t i = 0; i < 3; i++) {
        uint64_t at = 1;

        while (fail_compaction(at, codes[i]))
            at++;
        CHECK(at > 5);
    }
}

/* ---- When it fails late ------------------------------------------------------------------- */

static unsigned late_kinds;  /* of calls: they fail after the copying; 0: none */
static uint64_t late_at = 1; /* from the first one on, or from a later one on */

static void fail_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED || late_kinds == 0)
        return;
    f->disk->fail_kinds = late_kinds;
    f->disk->fail_count = 0;
    f->disk->fail_errno = EIO;
    f->disk->fail_at = late_at;
    f->disk->fail_sticky = true;
    late_kinds = 0;
    late_at = 1;
}

static void end_failing(struct fixture *f)
{
    f->disk->fail_at = 0;
    f->disk->fail_sticky = false;
}

static void expire_and_fail_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED || late_kinds == 0)
        return;
    f->disk->wall_ms += 1000;
    tkv_upkeep_expire(f->store);
    fail_when_copied(context, event);
}

/* Else its file would look dead some day, and be removed unread; what the expired record hides
 * in an older file would be back. */
TEST(what_expires_during_a_compaction_that_fails_counts_as_a_delete_all_the_same)
{
    const struct tkv_slice key = tkv_text("mortal");
    struct tkv_location location;
    struct tkv_datafile *output;
    struct fixture f;
    uint64_t before;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    f.options.on_event = expire_and_fail_when_copied;
    open_again(&f);
    CHECK_OK(
        tkv_put_expiring(f.store, key, tkv_text("value"), f.disk->wall_ms + 500, &err));
    put_set(&f, 'a');
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(tkv_index_find(f.store->index, key, tkv_index_hash(f.store->index, key),
                         &location));
    output = tkv_files_at(f.store, tkv_place_slot(location.place));
    CHECK(output == f.store->outputs[TKV_OUTPUT_YOUNG]);
    put_set(&f, 'b');
    before = tkv_usage_get(&output->usage.tombstone_bytes);
    late_kinds = SIMDISK_WRITE;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    CHECK_EQ(late_kinds, 0);
    end_failing(&f);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    CHECK_EQ(tkv_exists(f.store, key, &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_usage_get(&output->usage.tombstone_bytes), before + location.size);
    check_all(&f);
    end(&f);
}

/* A file with one live record, and what else is full of garbage. */
static void put_garbage(struct fixture *f, unsigned count)
{
    put_bytes(f, "live", 1, 100);
    for (unsigned i = 0; i < count; i++)
        put_bytes(f, "garbage", 2, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

/* Mode NONE stores into the mapped log: what fails is the output's. */
static void begin_failing_late(struct fixture *f, unsigned kinds)
{
    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.on_event = fail_when_copied;
    open_again(f);
    put_garbage(f, 20);
    late_kinds = kinds;
    CHECK_EQ(tkv_compact(f->store, NULL, &err), TKV_IO);
    CHECK_EQ(late_kinds, 0);
    end_failing(f);
    CHECK(tkv_files_find(f->store, 1) != NULL);
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

TEST(an_output_that_could_not_be_written_leaves_no_file)
{
    struct fixture f;

    begin_failing_late(&f, SIMDISK_WRITE);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    CHECK_STR(err.file, "0000000003.data");
    CHECK_EQ(simdisk_file_size(f.disk, err.file), -ENOENT);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
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

TEST(a_compaction_without_memory_for_its_list_says_so)
{
    struct fixture f;

    begin(&f);
    put_garbage(&f, 20);
    list_fails = true;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_NO_MEMORY);
    list_fails = false;
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    check_byte(&f, "live", 1);
    end(&f);
}

static struct simdisk *full_disk;
static int (*real_unlink)(struct tkv_os *os, int dir, const char *name);

/* A file system that has the room again at once, and not when the directory is synced. */
static int unlink_and_free(struct tkv_os *os, int dir, const char *name)
{
    const int64_t size = simdisk_file_size(full_disk, name);
    const int result = real_unlink(os, dir, name);

    if (result == 0 && size > 0 && full_disk->capacity > 0)
        full_disk->capacity += SIMDISK_PAGE;
    return result;
}

/* A file that has nothing live, once there is a later one, or nothing else. */
static void put_file_of(struct fixture *f, bool is_dead)
{
    char key[8];

    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, is_dead ? "garbage" : key, 2, 4000);
    }
    tkv_mutex_lock(&f->store->apply);
    CHECK_OK(tkv_apply_rotate(f->store, 0, &err));
    tkv_mutex_unlock(&f->store->apply);
}

TEST(on_a_full_disk_the_hint_of_a_dead_file_makes_room_for_the_manifest)
{
    static const char *const data[] = {"0000000001.data", "0000000002.data"},
                             *const hints[] = {"0000000001.hint", "0000000002.hint"};

    for (unsigned dead = 0; dead < 2; dead++) {
        struct fixture f;

        begin_closed(&f);
        f.options.wal_size_max = 1024 * 1024;
        open_again(&f);
        put_file_of(&f, dead == 0);
        put_file_of(&f, dead == 1);
        put_bytes(&f, "garbage", 2, 100);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        full_disk = f.disk;
        real_unlink = f.disk->os.unlink;
        f.disk->os.unlink = unlink_and_free;
        f.disk->capacity = f.disk->used_bytes;
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        f.disk->os.unlink = real_unlink;
        f.disk->capacity = 0;
        CHECK(simdisk_file_size(f.disk, data[dead]) < 0);
        CHECK(simdisk_file_size(f.disk, hints[dead]) < 0);
        CHECK(simdisk_file_size(f.disk, data[1 - dead]) > 0);
        CHECK(simdisk_file_size(f.disk, hints[1 - dead]) > 0);
        check_byte(&f, "garbage", 2);
        check_byte(&f, "0", 2);
        end(&f);
    }
}

/* So many records of a key, of which one is live, and make them durable. */
static void put_often(struct fixture *f, const char *key, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        put_bytes(f, key, (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

/* A file with the victim and what keeps it there, and an output that has been appended to. */
static void begin_with_victim(struct fixture *f)
{
    char key[8];

    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.wal_size_max = 1024 * 1024;
    f->options.on_event = fail_when_copied;
    open_again(f);
    put_bytes(f, "victim", 1, 100);
    for (unsigned i = 0; f->store->active->number == 1; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, key, 1, 4000);
    }
    put_often(f, "x", 5);
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    CHECK(f->store->outputs[TKV_OUTPUT_YOUNG] != NULL);
}

/* In the output that is there, to which the delete was appended. */
TEST(a_delete_that_a_failed_compaction_had_kept_is_counted_once)
{
    const uint64_t size = TKV_RECORD_HEADER_SIZE + strlen("victim");
    struct tkv_datafile *output;
    struct fixture f;
    struct sums before, after;
    uint8_t byte;

    begin_with_victim(&f);
    output = f.store->outputs[TKV_OUTPUT_YOUNG];
    del(&f, "victim");
    put_often(&f, "y", 5);
    before = sums_of(&f);
    CHECK_EQ(before.tombstone_bytes, size);
    late_kinds = SIMDISK_WRITE;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    end_failing(&f);
    CHECK_STR(err.file, output->name);
    after = sums_of(&f);
    before.disk_bytes +=
        TKV_DATA_HEADER_SIZE; /* the file that receives puts is a new one */
    before.garbage_bytes += TKV_DATA_HEADER_SIZE;
    before.file_count++;
    CHECK(memcmp(&before, &after, sizeof after) == 0);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG] == output);
    CHECK_EQ(tkv_usage_get(&output->usage.tombstone_bytes), size);
    CHECK_EQ(usage_of(&f).tombstone_bytes, size);
    CHECK_EQ(get(&f, "victim", &byte), TKV_NOT_FOUND);
    end(&f);
}

/* False: there is no such call. */
static bool fail_open(uint64_t at)
{
    struct fixture f;
    enum tkv_status status;
    bool failed;

    begin(&f);
    put_garbage(&f, 40); /* a file with a live record, and one without */
    f.disk->fail_kinds = SIMDISK_OPEN;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EMFILE;
    f.disk->fail_at = at;
    status = tkv_compact(f.store, NULL, &err);
    failed = f.disk->faults > 0;
    CHECK(failed || status == TKV_OK);
    f.disk->fail_at = 0;
    for (uint32_t slot = 0; slot < atomic_load(&f.store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f.store, slot);

        CHECK(file == NULL || !atomic_load(&file->condemned));
    }
    tkv_mutex_lock(&f.store->upkeep);
    CHECK_OK(tkv_checkpoint_manifest(f.store, &err));
    tkv_mutex_unlock(&f.store->upkeep);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 2);
    end(&f);
    return failed;
}

TEST(a_manifest_that_cannot_be_written_leaves_every_file_in_the_set)
{
    uint64_t at = 1;

    while (fail_open(at))
        at++;
    CHECK(at > 3);
}

/* Every slot has a file. */
TEST(a_compaction_without_a_place_for_its_output_says_so_and_changes_nothing)
{
    static struct tkv_datafile other = {.file_class = TKV_FILE_LARGE};
    struct fixture f;
    uint32_t used;

    begin(&f);
    put_garbage(&f, 20);
    used = atomic_load(&f.store->slots_used);
    for (uint32_t slot = used; slot < TKV_SLOT_COUNT; slot++)
        atomic_store(&f.store->files[slot], &other);
    atomic_store(&f.store->slots_used, TKV_SLOT_COUNT);
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_TOO_BIG);
    for (uint32_t slot = used; slot < TKV_SLOT_COUNT; slot++)
        atomic_store(&f.store->files[slot], NULL);
    atomic_store(&f.store->slots_used, used);
    CHECK_EQ(f.corruptions, 0);
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    check_byte(&f, "live", 1);
    check_byte(&f, "garbage", 2);
    end(&f);
}

/* ---- A file that cannot be compacted ------------------------------------------------------- */

/* Two files of garbage and one live record each. */
static void begin_with_two(struct fixture *f)
{
    begin(f);
    put_bytes(f, "one", 1, 100);
    while (f->store->active->number == 1)
        put_bytes(f, "garbage", 1, 4000);
    put_bytes(f, "two", 2, 100);
    while (f->store->active->number == 2)
        put_bytes(f, "garbage", 2, 4000);
    open_again(f); /* from now on reads go to the files */
}

TEST(a_damaged_file_keeps_no_other_from_being_compacted)
{
    const uint8_t byte = 0xff;
    struct fixture f;

    begin_with_two(&f);
    overwrite(&f, DATA, TKV_DATA_HEADER_SIZE, &byte, 1);
    memset(&err, 0, sizeof err);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_STR(err.message, ""); /* it is written on failure only */
    CHECK_EQ(f.corruptions, 1);
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
    check_byte(&f, "two", 2);
    check_byte(&f, "garbage", 2);
    end(&f);
}

TEST(a_file_that_cannot_be_read_is_an_error_of_its_compaction)
{
    struct fixture f;

    begin_with_two(&f);
    f.disk->fail_kinds = SIMDISK_READ;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_at = 1;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    CHECK_STR(err.file, DATA);
    CHECK_EQ(f.corruptions, 1);
    CHECK_OK(tkv_compact(f.store, NULL, &err)); /* it is left alone from now on */
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
    check_byte(&f, "one", 1);
    check_byte(&f, "two", 2);
    end(&f);
}
