/* SPDX-License-Identifier: MIT */
/*
 * In the relaxed modes the device begins early with what a checkpoint or a compaction will sync:
 * with puts, and with what the compactor has copied so far. Nothing is durable by that, and a
 * compaction that fails or is cut short leaves everything as it was.
 *
 * Method: a store with data files of 1 MiB on the simulated disk, without threads. The flusher's
 * part is done at the moment when a compaction has copied and not yet settled.
 */
#include "small_store.h"

#include <errno.h>
#include <sys/mman.h>

TEST_MAIN

#define KEY_COUNT  80u
#define VALUE_SIZE 6000u

static unsigned begun; /* calls for the device to begin */
static int advice_result;
static int (*simdisk_advise)(struct tkv_os *os, int fd, enum tkv_os_advice advice);

static int count_advice(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    if (advice == TKV_OS_WRITE_BACK) {
        begun++;
        if (advice_result != 0)
            return advice_result;
    }
    return simdisk_advise(os, fd, advice);
}

struct ahead {
    uint64_t written, durable; /* of the output, when it was copied and flushed */
    struct simdisk *cut;       /* the disk at that moment */
    bool fails;                /* to be written ahead ... */
    unsigned fail_kinds;       /* ... and afterwards: the first such call; 0: none */
};

static struct ahead ahead;

static void fail_next(struct fixture *f, unsigned kinds)
{
    f->disk->fail_kinds = kinds;
    f->disk->fail_count = 0;
    f->disk->fail_errno = EIO;
    f->disk->fail_at = kinds != 0;
}

static unsigned full_events;

static void flush_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;
    const struct tkv_datafile *output;

    full_events += event->kind == TKV_EVENT_DISK_FULL;
    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    fail_next(f, ahead.fails ? SIMDISK_WRITE : 0);
    tkv_upkeep_flush(f->store);
    output = f->store->outputs[TKV_OUTPUT_YOUNG];
    ahead.written = atomic_load(&output->written);
    ahead.durable = output->durable;
    ahead.cut = simdisk_survivor(f->disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    fail_next(f, ahead.fail_kinds);
}

static void put_all(struct fixture *f, uint8_t byte, unsigned step)
{
    char key[8];

    for (unsigned i = 0; i < KEY_COUNT; i += step) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, key, byte, VALUE_SIZE);
    }
}

static void check_all(struct fixture *f)
{
    struct tkv_verify_report report;
    char key[8];

    for (unsigned i = 0; i < KEY_COUNT; i++) {
        snprintf(key, sizeof key, "%u", i);
        check_byte(f, key, i % 4 == 0 ? 2 : 1);
    }
    CHECK_OK(tkv_verify(f->store, NULL, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
}

/* One file in which three of four keys are live. */
static void begin_half_dead(struct fixture *f, enum tkv_durability durability)
{
    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = 4u << 20;
    f->options.data_file_size_min = f->options.data_file_size_max = FILE_SIZE_MAX;
    f->options.on_event = flush_when_copied;
    open_again(f);
    simdisk_advise = f->disk->os.advise;
    f->disk->os.advise = count_advice;
    ahead = (struct ahead){.cut = NULL};
    begun = 0;
    advice_result = 0;
    put_all(f, 1, 1);
    put_all(f, 2, 4);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static bool has_survivors(const struct tkv_store *store)
{
    for (uint32_t slot = 0; slot < atomic_load(&store->slots_used); slot++) {
        const struct tkv_datafile *file = atomic_load(&store->files[slot]);

        if (file != NULL && file->file_class == TKV_FILE_COMPACTED)
            return true;
    }
    return false;
}

/* What killing the process at that moment would have left. */
static void check_cut(struct fixture *f)
{
    struct fixture after = {.disk = ahead.cut, .options = f->options};

    after.options.on_event = NULL;
    CHECK_OK(try_open(&after));
    check_all(&after);
    CHECK(!has_survivors(after.store)); /* what was written of the output is nobody's */
    end(&after);
}

TEST(survivors_are_written_while_they_are_copied_and_durable_only_when_settled)
{
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(ahead.written >= TKV_FLUSH_SIZE);
    CHECK_EQ(ahead.durable, 0);
    CHECK(begun > 0);
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG]->durable >= ahead.written);
    CHECK(tkv_usage_get(&f.store->counters.compaction_bytes_written) >= ahead.written);
    check_all(&f);
    check_cut(&f);
    end(&f);
}

TEST(a_compaction_that_fails_takes_back_what_was_written_ahead)
{
    struct fixture f;
    struct tkv_datafile *output;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    ahead.fail_kinds = SIMDISK_WRITE;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    fail_next(&f, 0);
    CHECK(ahead.written >= TKV_FLUSH_SIZE);
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG] == NULL);
    CHECK(!has_survivors(f.store));
    check_all(&f);
    simdisk_free(ahead.cut);
    f.options.on_event = NULL;
    ahead.fail_kinds = 0;
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    output = f.store->outputs[TKV_OUTPUT_YOUNG];
    CHECK(output != NULL && output->durable == atomic_load(&output->size));
    simdisk_free(ahead.cut);
    check_all(&f);
    open_again(&f);
    check_all(&f);
    end(&f);
}

TEST(survivors_that_cannot_be_written_ahead_are_written_when_settled)
{
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    ahead.fails = true;
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(f.disk->faults, 1);
    CHECK_EQ(ahead.written, 0);
    CHECK(!atomic_load(&f.store->disk_full));
    check_all(&f);
    check_cut(&f);
    end(&f);
}

/* A commit would find all of it in front of it in the device's queue. */
TEST(where_commits_wait_for_the_device_survivors_wait_for_their_turn)
{
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_ALWAYS);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(ahead.written, 0);
    CHECK_EQ(begun, 0);
    check_all(&f);
    check_cut(&f);
    end(&f);
}

TEST(puts_that_were_flushed_are_begun_with)
{
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    begun = 0;
    put_all(&f, 1, 1);
    tkv_upkeep_flush(f.store);
    CHECK(begun > 0);
    end(&f);
}

/* ext4 drops pages for which it finds no room only now. */
TEST(where_pages_are_lost_when_the_device_begins_the_store_is_poisoned)
{
    static const int codes[] = {-EIO, -ENOSPC, -EDQUOT};
    static const uint8_t value[VALUE_SIZE];

    for (size_t i = 0; i < 3; i++) {
        enum tkv_status status = TKV_OK;
        struct fixture f;

        begin_half_dead(&f, TKV_DURABILITY_NONE);
        begun = 0;
        advice_result = codes[i];
        for (unsigned puts = 0; puts < 1000 && status == TKV_OK; puts++)
            status = tkv_put(f.store, tkv_text("new"), tkv_bytes(value, VALUE_SIZE), &err);
        CHECK_EQ(status, TKV_POISONED);
        CHECK_EQ(f.store->poisoned, TKV_IO);
        CHECK_EQ(begun, 1); /* and nothing after it */
        CHECK(tkv_close(f.store, &err) != TKV_OK);
        f.store = NULL;
        open_again(&f);
        check_byte(&f, "new", 0);
        check_all(&f);
        end(&f);
    }
}

TEST(that_the_device_does_not_listen_is_no_failure)
{
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    begun = 0;
    advice_result = -EINVAL;
    put_all(&f, 1, 1);
    CHECK(begun > 0);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    end(&f);
}

/* ---- An output that was there before ------------------------------------------------------ */

#define MODELS 6u

static struct simdisk *cuts[MODELS];
static unsigned late_kinds;

static void flush_and_cut_when_copied(void *context, const struct tkv_event *event)
{
    static const enum simdisk_model models[MODELS] = {
        SIMDISK_NOTHING_PENDING, SIMDISK_SUBSET,    SIMDISK_TORN,
        SIMDISK_TRASHED,         SIMDISK_SIZE_ONLY, SIMDISK_ENTRIES_LOST};
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED || late_kinds == 0)
        return;
    tkv_upkeep_flush(f->store);
    for (unsigned i = 0; i < MODELS; i++)
        cuts[i] = simdisk_survivor(f->disk, models[i], 11 + i,
                                   i < 2 ? SIMDISK_PAGE : SIMDISK_SECTOR);
    fail_next(f, late_kinds);
    late_kinds = 0;
}

/* Every so many of the first or the second half of the keys. */
static void put_half(struct fixture *f, unsigned from, uint8_t byte, unsigned step)
{
    char key[8];

    for (unsigned i = from; i < from + KEY_COUNT; i += step) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, key, byte, VALUE_SIZE);
    }
}

static void check_halves(struct fixture *f)
{
    struct tkv_verify_report report;
    char key[8];

    for (unsigned i = 0; i < 2 * KEY_COUNT; i++) {
        snprintf(key, sizeof key, "%u", i);
        check_byte(f, key, i < KEY_COUNT ? (i % 4 == 0 ? 2 : 1) : (i % 3 == 2 ? 5 : 4));
    }
    CHECK_OK(tkv_verify(f->store, NULL, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
}

static void roll(struct fixture *f)
{
    tkv_mutex_lock(&f->store->apply);
    CHECK_OK(tkv_apply_rotate(f->store, 0, &err));
    tkv_mutex_unlock(&f->store->apply);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static void check_cut_power(struct fixture *f)
{
    for (unsigned i = 0; i < MODELS; i++) {
        struct fixture after = {.disk = cuts[i], .options = f->options};

        after.options.on_event = NULL;
        CHECK_OK(try_open(&after));
        check_halves(&after);
        CHECK_OK(tkv_compact(after.store, NULL, &err));
        check_halves(&after);
        open_again(&after);
        check_halves(&after);
        end(&after);
    }
}

TEST(an_output_of_an_earlier_compaction_is_as_it_was_after_one_that_fails)
{
    struct tkv_datafile *output;
    struct fixture f;
    uint64_t before, on_disk = 0;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    f.options.wal_size_max = f.options.data_file_size_min = f.options.data_file_size_max =
        4u << 20;
    f.options.on_event = flush_and_cut_when_copied;
    open_again(&f);
    put_half(&f, 0, 1, 1);
    put_half(&f, 0, 2, 4);
    roll(&f);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    output = f.store->outputs[TKV_OUTPUT_YOUNG];
    CHECK(output != NULL && output->durable > 0);
    before = output->durable;
    put_half(&f, KEY_COUNT, 4, 1);
    put_half(&f, KEY_COUNT, 5, 3);
    roll(&f);
    late_kinds = SIMDISK_WRITE;
    CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_IO);
    fail_next(&f, 0);
    CHECK_EQ(f.store->poisoned, TKV_OK);
    CHECK_EQ(atomic_load(&output->size), before);
    CHECK_EQ(f.disk->os.file_size(&f.disk->os, output->fd, &on_disk), 0);
    CHECK_EQ(on_disk, before); /* no bytes that no account knows */
    check_halves(&f);
    check_cut_power(&f);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    check_halves(&f);
    open_again(&f);
    check_halves(&f);
    end(&f);
}

/* ---- Settling and publishing --------------------------------------------------------------- */

static struct tkv_store *watched; /* until the next sync; or NULL */
static unsigned on_their_way;     /* files with news that were written by then, ... */
static unsigned begun_by_then;    /* ... and calls for the device to begin */
static int (*simdisk_sync)(struct tkv_os *os, int fd);

static int look_at_first_sync(struct tkv_os *os, int fd)
{
    for (uint32_t slot = 0; watched != NULL && slot < atomic_load(&watched->slots_used);
         slot++) {
        struct tkv_datafile *file = atomic_load(&watched->files[slot]);

        if (file == NULL || file->durable == atomic_load(&file->size))
            continue;
        CHECK_EQ(atomic_load(&file->written), atomic_load(&file->size));
        on_their_way++;
    }
    if (watched != NULL)
        begun_by_then = begun;
    watched = NULL;
    return simdisk_sync(os, fd);
}

static void watch_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind == TKV_EVENT_COMPACTION_COPIED)
        watched = f->store;
}

/* The device writes one while the other is waited for. */
TEST(all_that_a_compaction_syncs_is_on_its_way_before_the_first_sync)
{
    bool did = false;
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    roll(&f);
    f.options.on_event = watch_when_copied;
    open_again(&f);
    simdisk_sync = f.disk->os.sync;
    f.disk->os.sync = look_at_first_sync;
    put_bytes(&f, "late", 3, VALUE_SIZE);
    begun = on_their_way = 0;
    CHECK_OK(tkv_reclaim_step(f.store, f.store->active->number, &did, NULL, &err));
    CHECK(did);
    CHECK_EQ(on_their_way, 2); /* survivors, and the newest put */
    CHECK(begun_by_then >= 2);
    check_all(&f);
    check_byte(&f, "late", 3);
    end(&f);
}

static void lose_pages_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    f->disk->fail_kinds = SIMDISK_WRITE_BACK;
    f->disk->fail_errno = EIO;
    f->disk->fail_count = 0;
    f->disk->fail_at = 1;
}

/* The simulated disk objects to a sync of that file. */
TEST(after_pages_were_lost_on_their_way_a_compaction_syncs_nothing_more)
{
    bool did = false;
    struct fixture f;

    begin_half_dead(&f, TKV_DURABILITY_NONE);
    roll(&f);
    f.options.on_event = lose_pages_when_copied;
    open_again(&f);
    CHECK_EQ(tkv_reclaim_step(f.store, f.store->active->number, &did, NULL, &err), TKV_IO);
    CHECK(!did);
    CHECK_EQ(err.status, TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(f.store->poisoned, TKV_IO);
    check_all(&f);
    CHECK(tkv_close(f.store, &err) != TKV_OK);
    f.store = NULL;
    f.disk->fail_at = 0;
    f.options.on_event = NULL;
    open_again(&f);
    check_all(&f);
    end(&f);
}

/* ---- A disk that is nearly full ------------------------------------------------------------ */

#define CHANGE_BYTES_MAX \
    (17u * TKV_BLOCK_SIZE) /* for names, the manifest and last blocks */

/* Room for the reserve and so much more; the compaction needs more, and gives more back. */
static void compact_out_of_reserve(uint64_t more, enum tkv_durability durability)
{
    struct tkv_os_fs_info info;
    struct fixture f;
    uint64_t used;
    bool did = false;

    begin_half_dead(&f, durability);
    roll(&f);
    full_events = 0;
    CHECK_EQ(f.disk->os.fs_info(&f.disk->os, f.store->dir, &info), 0);
    used = info.total_bytes - info.free_bytes;
    f.disk->capacity =
        used + (used / 8 + 2 * CHANGE_BYTES_MAX + TKV_FLUSH_SIZE + more) * 8 / 7;
    CHECK_OK(tkv_put(f.store, tkv_text("x"), tkv_text("y"), &err));
    CHECK(!atomic_load(&f.store->disk_full));
    CHECK_OK(tkv_reclaim_step(f.store, f.store->active->number, &did, NULL, &err));
    CHECK(did);
    CHECK_EQ(full_events, 0);
    CHECK(!atomic_load(&f.store->disk_full));
    CHECK_OK(tkv_put(f.store, tkv_text("x"), tkv_text("y"), &err));
    f.disk->capacity = 64u << 20;
    simdisk_free(ahead.cut);
    end(&f);
}

TEST(the_disk_is_not_full_while_a_compaction_uses_the_reserve)
{
    compact_out_of_reserve(100u << 10, TKV_DURABILITY_NONE);
    compact_out_of_reserve(300u << 10, TKV_DURABILITY_NONE);
    compact_out_of_reserve(300u << 10, TKV_DURABILITY_ALWAYS);
}

/* ---- Memory ahead of the records ------------------------------------------------------------ */

static uintptr_t asked_from, asked_to; /* of the system, last */
static unsigned times_asked;

int __wrap_madvise(void *at, size_t size, int advice);

int __wrap_madvise(void *at, size_t size, int advice)
{
    (void)advice;
    times_asked++;
    asked_from = (uintptr_t)at;
    asked_to = (uintptr_t)at + size;
    return 0;
}

#ifdef MADV_POPULATE_WRITE /* else nothing is asked for */

/* The memory of the file's bytes from `from` to `to` has been asked for, and not much else. */
static void check_asked(struct tkv_datafile *file, uint64_t from, uint64_t to)
{
    const uintptr_t tail = (uintptr_t)atomic_load(&file->tail);

    CHECK_EQ(asked_from % TKV_BLOCK_SIZE, 0);
    CHECK(asked_from <= tail + from && asked_from + TKV_BLOCK_SIZE > tail + from);
    CHECK_EQ(asked_to, tail + to);
}

TEST(memory_for_what_comes_next_is_asked_for_once_and_not_beyond_the_file)
{
    const uint64_t capacity = 16 * TKV_BLOCK_SIZE, begin = TKV_DATA_HEADER_SIZE;
    static const uint8_t uuid[16], bytes[3 * TKV_BLOCK_SIZE];
    struct tkv_datafile *file;
    struct simdisk *disk = simdisk_new(1);

    CHECK_OK(tkv_datafile_new(&disk->os, uuid, 1, 1, TKV_FILE_FRESH, capacity, false, &file,
                              &err));
    times_asked = 0;
    tkv_datafile_touch(file, 2 * TKV_BLOCK_SIZE);
    check_asked(file, begin, begin + 2 * TKV_BLOCK_SIZE);
    tkv_datafile_touch(file, TKV_BLOCK_SIZE); /* it is there */
    CHECK_EQ(times_asked, 1);
    (void)tkv_datafile_append(file, bytes, TKV_BLOCK_SIZE);
    tkv_datafile_touch(file, 2 * TKV_BLOCK_SIZE);
    check_asked(file, begin + 2 * TKV_BLOCK_SIZE, begin + 3 * TKV_BLOCK_SIZE);
    (void)tkv_datafile_append(file, bytes, 3 * TKV_BLOCK_SIZE); /* beyond it */
    tkv_datafile_touch(file, 1u << 30);
    check_asked(file, begin + 4 * TKV_BLOCK_SIZE, capacity);
    tkv_datafile_touch(file, 1u << 30);
    CHECK_EQ(times_asked, 3);
    tkv_datafile_release(file);
    simdisk_free(disk);
}

#endif

/* As one that is full and on disk. */
TEST(a_file_without_a_memory_tail_asks_for_no_memory)
{
    static const uint8_t uuid[16];
    struct tkv_datafile *file;
    struct simdisk *disk = simdisk_new(1);

    CHECK_OK(tkv_datafile_new(&disk->os, uuid, 1, 1, TKV_FILE_FRESH, 16 * TKV_BLOCK_SIZE,
                              false, &file, &err));
    free(atomic_exchange(&file->tail, NULL));
    times_asked = 0;
    tkv_datafile_touch(file, 1u << 20);
    CHECK_EQ(times_asked, 0);
    tkv_datafile_release(file);
    simdisk_free(disk);
}
