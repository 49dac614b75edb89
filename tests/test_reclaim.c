/* SPDX-License-Identifier: MIT */
/*
 * A compaction changes nothing that can be read: neither what is written meanwhile, nor what a
 * delete or an expired record hides, nor when it fails.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

/* ---- Compacting ---------------------------------------------------------------------- */

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

/* ---- What a delete or an expired record hides ------------------------------------------ */

/* How the older record's file looks to the compaction. */
enum look { WITH_HINT, WITHOUT_HINT, UNREADABLE, LOOK_COUNT };
/* What hides it: a delete or an expired record, beside live records or as all there is. */
enum cover { DELETED, EXPIRED, COVER_COUNT };

/* The first file holds "victim" and live keys that make it not worth compacting. */
static void fill_first_file(struct fixture *f)
{
    char key[8];

    put_bytes(f, "victim", 1, 100);
    for (unsigned i = 0; i < 15; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, key, 1, 4000);
    }
    while (f->store->active->number == 1) /* what spills into the second is garbage */
        put_bytes(f, "garbage", 1, 2000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static void cover_victim(struct fixture *f, enum cover cover, bool alone)
{
    if (cover == DELETED)
        del(f, "victim");
    else
        CHECK_OK(tkv_put_expiring(f->store, tkv_text("victim"), tkv_text("v"),
                                  f->disk->wall_ms + 1000, &err));
    for (unsigned i = 0; i < 20; i++) /* fill the file */
        put_bytes(f, "garbage", (uint8_t)i, 4000);
    if (!alone)
        put_bytes(f, "live", 5, 100);
    for (unsigned i = 0; i < 20; i++)
        put_bytes(f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    f->disk->wall_ms += 1000;
}

static void blind(const struct fixture *f, enum look look)
{
    const uint8_t byte = 0xff;

    keep_file(f, DATA, &first);
    if (look != WITH_HINT && simdisk_file_size(f->disk, "0000000001.hint") >= 0)
        CHECK(simdisk_file_unlink(f->disk, "0000000001.hint") >= 0);
    if (look == UNREADABLE)
        overwrite(f, DATA, TKV_DATA_HEADER_SIZE, &byte, 1);
}

/* With nothing left to hide, the deletes go as well. */
static void check_shrinks(struct fixture *f)
{
    char key[8];

    for (unsigned i = 0; i < 15; i++) {
        snprintf(key, sizeof key, "%u", i);
        del(f, key);
    }
    del(f, "garbage");
    del(f, "live");
    for (int round = 0; round < 3; round++)
        CHECK_OK(tkv_compact(f->store, NULL, &err));
    CHECK_EQ(tkv_usage_get(&f->store->totals.tombstone_bytes), 0);
    CHECK_EQ(tkv_usage_get(&f->store->totals.records), 0);
    CHECK_EQ(tkv_usage_get(&f->store->pinned_bytes), 0);
    CHECK(tkv_usage_get(&f->store->disk_bytes) < 2 * TKV_BLOCK_SIZE);
}

static void check_stays_hidden(enum look look, enum cover cover, bool alone)
{
    struct fixture f;
    uint8_t byte;

    begin(&f);
    fill_first_file(&f);
    cover_victim(&f, cover, alone);
    blind(&f, look);
    for (int round = 0; round < 2; round++)
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
    /* The file that they hide something of is known, and they are no garbage. */
    CHECK(tkv_usage_get(&f.store->totals.tombstone_bytes) > 0);
    CHECK_EQ(tkv_usage_get(&f.store->pinned_bytes),
             tkv_usage_get(&f.store->totals.tombstone_bytes));
    overwrite(&f, DATA, 0, first.bytes, (size_t)first.size);
    CHECK_EQ(get(&f, "victim", &byte), TKV_NOT_FOUND);
    for (int round = 0; round < 2; round++) {
        open_again(&f);
        CHECK_EQ(get(&f, "victim", &byte), TKV_NOT_FOUND);
        check_byte(&f, "garbage", 19);
        check_byte(&f, "0", 1);
        if (!alone)
            check_byte(&f, "live", 5);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    }
    check_shrinks(&f);
    end(&f);
}

TEST(what_a_delete_hides_stays_hidden)
{
    for (enum look look = 0; look < LOOK_COUNT; look++) {
        check_stays_hidden(look, DELETED, false);
        check_stays_hidden(look, DELETED, true);
    }
}

TEST(what_an_expired_record_hides_stays_hidden)
{
    for (enum look look = 0; look < LOOK_COUNT; look++) {
        check_stays_hidden(look, EXPIRED, false);
        check_stays_hidden(look, EXPIRED, true);
    }
}

/* A delete before a checkpoint's padding became zeros as well. */
TEST(a_delete_that_became_padding_is_missed_by_compaction_and_not_dropped)
{
    const uint8_t zeros[64] = {0};
    struct fixture f;
    uint8_t byte;
    size_t size;
    uint64_t at;

    begin(&f);
    fill_first_file(&f);
    put_bytes(&f, "garbage", 1, 100); /* so that the delete does not begin a block */
    del(&f, "victim");
    CHECK_OK(tkv_checkpoint(f.store, &err));
    for (unsigned i = 0; i < 30; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    keep_file(&f, "0000000002.data", &first);
    at = find_record(&first, "victim", 0, &size);
    CHECK(size <= sizeof zeros);
    overwrite(&f, "0000000002.data", at, zeros, size);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(f.corruptions, 1);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") > 0);
    open_again(&f);
    CHECK_EQ(get(&f, "victim", &byte), TKV_NOT_FOUND);
    end(&f);
}

/* Without a thread's knowing: log, output or directory. Only what nobody will ever look at may
 * fail to be synced, the manifest's temporary file. False: there is no such sync. */
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
    status = tkv_compact(f.store, NULL, &err);
    failed = f.disk->faults > 0;
    f.disk->fail_at = 0;
    CHECK_EQ(status != TKV_OK, failed);
    if (failed && strcmp(err.file, "MANIFEST") != 0) {
        CHECK(f.store->poisoned != TKV_OK);
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_POISONED);
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
    CHECK(tkv_usage_get(&f.store->disk_bytes) < 4 * TKV_BLOCK_SIZE);
    end(&f);
}

/* ---- Space ----------------------------------------------------------------------------- */

/* Two steps of 32 MiB, and not below the first of them. */
TEST(a_large_file_is_given_back_in_steps)
{
    enum { VALUE_SIZE = 1 << 20, COUNT = 80 };
    static uint8_t value[VALUE_SIZE];
    char name[] = "0000000001.data";
    struct fixture f;
    int64_t size;
    char wanted[200];

    begin_closed(&f);
    f.options.wal_size_max = 16u << 20;
    f.options.data_file_size_min = f.options.data_file_size_max = 72u << 20;
    open_again(&f);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_OK(tkv_put(f.store, tkv_text("key"), tkv_bytes(value, sizeof value), &err));
    CHECK_OK(tkv_checkpoint(f.store, &err));
    size = simdisk_file_size(f.disk, name);
    CHECK(size > 64 << 20);
    simdisk_trace(f.disk);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    snprintf(wanted, sizeof wanted, "truncate %s %lld\ntruncate %s %lld\nunlink %s\n", name,
             (long long)size - (32 << 20), name, (long long)size - (64 << 20), name);
    CHECK(strstr(f.disk->trace, wanted) != NULL);
    end(&f);
}

/* Only its number is needed, and nothing of it can be read. */
TEST(a_file_without_live_records_goes_without_being_read)
{
    struct fixture f;
    uint64_t reclaimed;

    begin(&f);
    while (f.store->active->number == 1)
        put_bytes(&f, "garbage", 1, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    f.disk->fail_kinds = SIMDISK_READ;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_sticky = true;
    f.disk->fail_at = 1;
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    CHECK(reclaimed > 60000 && reclaimed <= 65536);
    f.disk->fail_at = 0;
    check_byte(&f, "garbage", 1);
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK_EQ(reclaimed, 0);
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
    CHECK_EQ(tkv_usage_get(&f.store->totals.live_records), 2);
    CHECK(tkv_usage_get(&f.store->totals.live_bytes) < 4200);
    end(&f);
}

/* ---- When the power fails -------------------------------------------------------------- */

struct cut {
    struct fixture fixture; /* first: it is what the events are for */
    struct simdisk *after;
};

static void cut_when_installed(void *context, const struct tkv_event *event)
{
    struct cut *cut = context;

    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED && cut->after == NULL)
        cut->after =
            simdisk_survivor(cut->fixture.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
}

/* The later record of "key" is in the log and not synced by anybody else. */
TEST(what_made_a_record_dead_is_as_durable_as_its_removal)
{
    struct cut cut = {.after = NULL};
    struct fixture *f = &cut.fixture;

    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.on_event = cut_when_installed;
    open_again(f);
    put_bytes(f, "key", 1, 100);
    put_bytes(f, "live", 1, 100);
    for (unsigned i = 0; i < 30; i++)
        put_bytes(f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    put_bytes(f, "key", 2, 100);
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    CHECK(cut.after != NULL);
    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = cut.after;
    f->store = NULL;
    open_again(f);
    check_byte(f, "key", 2);
    check_byte(f, "live", 1);
    end(f);
}

/* ---- When it fails --------------------------------------------------------------------- */

struct sums {
    uint64_t disk_bytes, file_count, records, live_bytes, tombstone_bytes;
};

static struct sums sums_of(struct fixture *f)
{
    return (struct sums){tkv_usage_get(&f->store->disk_bytes),
                         tkv_usage_get(&f->store->file_count),
                         tkv_usage_get(&f->store->totals.records),
                         tkv_usage_get(&f->store->totals.live_bytes),
                         tkv_usage_get(&f->store->totals.tombstone_bytes)};
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
    put_bytes(f, "deleted", 1, 100);
    del(f, "deleted");
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
