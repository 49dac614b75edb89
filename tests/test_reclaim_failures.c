/* SPDX-License-Identifier: MIT */
/*
 * A compaction that fails without losing a sync changes nothing that can be read, leaves every
 * account as it was, and is tried again. Those after which the store is poisoned are in
 * tests/test_reclaim_poison.c.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting; calls and allocations of the compaction fail, one after the other.
 */
#include "late_failure.h"

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

/* ---- At any call ------------------------------------------------------------------ */

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

/* ---- Late ------------------------------------------------------------------------- */

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

/* ---- No room, memory or descriptor ------------------------------------------------ */

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

/* ---- A file that cannot be compacted ---------------------------------------------- */

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
