/* SPDX-License-Identifier: MIT */
/*
 * A compaction changes nothing that can be read: neither what is written meanwhile, nor what a
 * delete or an expired record hides. tests/test_reclaim_failures.c has those that fail.
 *
 * Method: a small store on the simulated disk, without threads, in which exactly one file is
 * worth compacting.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

/* What comes next goes into a file of its own. */
static void rotate(struct fixture *f)
{
    tkv_mutex_lock(&f->store->apply);
    CHECK_OK(tkv_apply_rotate(f->store, 0, &err));
    tkv_mutex_unlock(&f->store->apply);
}

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

/* ---- What a delete or an expired record hides ------------------------------------------ */

/* How the older record's file looks to the compaction. */
enum look { WITH_HINT, WITHOUT_HINT, UNREADABLE, LOOK_COUNT };
/* What hides it: a delete or an expired record, beside live records or as all there is. */
enum cover { DELETED, EXPIRED, COVER_COUNT };

static const char *const victims[] = {"victim", "another victim"};

/* It holds the victims and live keys that make it not worth compacting. */
static void fill_first_file(struct fixture *f)
{
    const uint64_t number = f->store->active->number;
    char key[8];

    for (unsigned i = 0; i < 2; i++)
        put_bytes(f, victims[i], 1, 100);
    for (unsigned i = 0; i < 15; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, key, 1, 4000);
    }
    while (f->store->active->number == number) /* what spills into the next is garbage */
        put_bytes(f, "garbage", 1, 2000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static void cover_victims(struct fixture *f, enum cover cover, bool alone)
{
    for (unsigned i = 0; i < 2; i++) {
        if (cover == DELETED)
            del(f, victims[i]);
        else
            CHECK_OK(tkv_put_expiring(f->store, tkv_text(victims[i]), tkv_text("v"),
                                      f->disk->wall_ms + 1000, &err));
    }
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

static void check_no_victim(struct fixture *f)
{
    uint8_t byte;

    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(get(f, victims[i], &byte), TKV_NOT_FOUND);
}

/* The file that they hide something of is known, and they are no garbage. */
static void check_pinned(struct fixture *f, uint64_t by)
{
    uint64_t bytes = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);

        if (file == NULL || tkv_usage_get(&file->usage.tombstone_bytes) == 0)
            continue;
        CHECK_EQ(atomic_load(&file->pinned_by), by);
        bytes += tkv_usage_get(&file->usage.tombstone_bytes);
    }
    CHECK(bytes > 0);
    CHECK_EQ(usage_of(f).tombstone_bytes, bytes);
    CHECK_EQ(tkv_usage_get(&f->store->pinned_bytes), bytes);
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
    CHECK_EQ(usage_of(f).tombstone_bytes, 0);
    CHECK_EQ(usage_of(f).records, 0);
    CHECK_EQ(tkv_usage_get(&f->store->pinned_bytes), 0);
    CHECK(tkv_files_disk_bytes(f->store) < 2 * TKV_BLOCK_SIZE);
}

static void check_stays_hidden(enum look look, enum cover cover, bool alone)
{
    struct fixture f;

    begin(&f);
    fill_first_file(&f);
    cover_victims(&f, cover, alone);
    blind(&f, look);
    for (int round = 0; round < 2; round++)
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
    check_pinned(&f, 1);
    overwrite(&f, DATA, 0, first.bytes, (size_t)first.size);
    check_no_victim(&f);
    for (int round = 0; round < 2; round++) {
        open_again(&f);
        check_no_victim(&f);
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

/* Live keys and some garbage, up to the next data file. */
static void fill_file(struct fixture *f, char set)
{
    const uint64_t number = f->store->active->number;
    char key[8];

    for (unsigned i = 0; f->store->active->number == number; i++) {
        snprintf(key, sizeof key, "%c%u", set, i);
        put_bytes(f, i % 4 == 3 ? "garbage" : key, (uint8_t)set, 4000);
    }
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

/* All in one file, behind what fill_first_file() left there: more than a compaction ever wastes. */
static void delete_often(struct fixture *f)
{
    const uint64_t number = f->store->active->number;

    for (unsigned i = 0; i < 150; i++) {
        put_bytes(f, victims[0], 1, 1);
        del(f, victims[0]);
    }
    put_bytes(f, "live", 5, 100);
    CHECK_EQ(f->store->active->number, number);
    while (f->store->active->number == number)
        put_bytes(f, "garbage", 1, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

/* The place of a file that had nothing but garbage is free for the output. */
TEST(deletes_that_hide_nothing_any_more_are_garbage_though_live_records_lie_beside_them)
{
    struct fixture f;
    char key[8];

    begin_closed(&f);
    f.options.wal_size_max = 1024 * 1024;
    open_again(&f);
    put_bytes(&f, "garbage", 1, 100);
    rotate(&f);
    fill_first_file(&f);
    delete_often(&f);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    check_pinned(&f, 2);
    CHECK_EQ(f.store->outputs[TKV_OUTPUT_YOUNG]->slot, 0);
    CHECK(usage_of(&f).tombstone_bytes > TKV_BLOCK_SIZE + TKV_DATA_HEADER_SIZE);
    for (unsigned i = 0; i < 15; i++) {
        snprintf(key, sizeof key, "%u", i);
        del(&f, key);
    }
    del(&f, victims[1]);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    for (int round = 0; round < 2; round++)
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
    CHECK(usage_of(&f).tombstone_bytes < 1000);
    CHECK_EQ(tkv_usage_get(&f.store->pinned_bytes), 0);
    check_byte(&f, "live", 5);
    check_byte(&f, "garbage", 1);
    end(&f);
}

/* The hint of the older one's file is read, or its records. */
TEST(a_delete_is_not_kept_for_an_older_delete_of_its_key)
{
    for (unsigned has_hint = 0; has_hint < 2; has_hint++) {
        struct fixture f;

        begin_closed(&f);
        f.options.wal_size_max = 1024 * 1024;
        open_again(&f);
        put_bytes(&f, "gone", 1, 100);
        put_bytes(&f, "garbage", 1, 100);
        rotate(&f); /* nothing in the first file will be live */
        del(&f, "gone");
        fill_first_file(&f);
        put_bytes(&f, "gone", 1, 100);
        del(&f, "gone");
        for (unsigned i = 0; i < 20; i++)
            put_bytes(&f, "garbage", (uint8_t)i, 4000);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        CHECK(simdisk_file_size(f.disk, "0000000002.hint") > 0);
        if (!has_hint)
            CHECK(simdisk_file_unlink(f.disk, "0000000002.hint") >= 0);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        CHECK(simdisk_file_size(f.disk, DATA) < 0);
        CHECK(simdisk_file_size(f.disk, "0000000002.data") > 0);
        CHECK(simdisk_file_size(f.disk, "0000000003.data") < 0);
        CHECK_EQ(usage_of(&f).tombstone_bytes, TKV_RECORD_HEADER_SIZE + strlen("gone"));
        CHECK_EQ(tkv_usage_get(&f.store->pinned_bytes), 0);
        end(&f);
    }
}

static void check_pinned_when_installed(void *context, const struct tkv_event *event)
{
    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED)
        check_pinned(context, 1);
}

/* The second compaction goes on in a second output; the third one has no deletes. */
TEST(deletes_are_no_garbage_in_whichever_output_they_lie)
{
    struct fixture f;
    uint64_t output;

    begin_closed(&f);
    f.options.on_event = check_pinned_when_installed;
    open_again(&f);
    fill_first_file(&f);
    del(&f, victims[0]);
    fill_file(&f, 'a');
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    output = f.store->outputs[TKV_OUTPUT_YOUNG]->number;
    del(&f, victims[1]);
    fill_file(&f, 'b');
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG]->number != output);
    check_pinned(&f, 1);
    fill_file(&f, 'c');
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    open_again(&f);
    check_no_victim(&f);
    end(&f);
}

/* Not of the other file: its hint can be read, or its records, or both. */
TEST(a_delete_of_what_its_own_file_had_goes_with_that_file)
{
    const uint8_t byte = 0xff;

    for (unsigned i = 0; i < 3; i++) {
        struct fixture f;
        uint8_t got;

        begin(&f);
        fill_first_file(&f);
        put_bytes(&f, "gone", 1, 100);
        del(&f, "gone");
        fill_file(&f, 'a');
        keep_file(&f, DATA, &first);
        CHECK(simdisk_file_size(f.disk, "0000000001.hint") > 0);
        if (i == 1)
            CHECK(simdisk_file_unlink(f.disk, "0000000001.hint") >= 0);
        if (i == 2)
            overwrite(&f, DATA, TKV_DATA_HEADER_SIZE, &byte, 1);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        CHECK(simdisk_file_size(f.disk, "0000000002.data") < 0);
        CHECK_EQ(usage_of(&f).tombstone_bytes, 0);
        overwrite(&f, DATA, 0, first.bytes, (size_t)first.size);
        open_again(&f);
        CHECK_EQ(get(&f, "gone", &got), TKV_NOT_FOUND);
        check_byte(&f, "another victim", 1);
        end(&f);
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

/* ---- Space ----------------------------------------------------------------------------- */

enum { LARGE_VALUE_SIZE = 1 << 20 };

static void begin_with_large_files(struct fixture *f, enum tkv_durability durability)
{
    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = 16u << 20;
    f->options.data_file_size_min = f->options.data_file_size_max = 72u << 20;
    open_again(f);
}

/* The first data file gets so many MiB, of which nothing is live. Every record but the first ends
 * where a block does, so that no checkpoint pads. */
static void fill_large_file(struct fixture *f, unsigned mebibytes)
{
    static uint8_t value[LARGE_VALUE_SIZE];
    const size_t overhead = TKV_RECORD_HEADER_SIZE + strlen("key");

    for (unsigned i = 0; i < mebibytes; i++) {
        const size_t used = (size_t)atomic_load(&f->store->active->size) % LARGE_VALUE_SIZE;

        CHECK_OK(tkv_put(f->store, tkv_text("key"),
                         tkv_bytes(value, sizeof value - used - overhead), &err));
    }
    rotate(f);
    put_bytes(f, "key", 1, 100);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    CHECK_EQ(simdisk_file_size(f->disk, DATA), (uint64_t)mebibytes << 20);
    simdisk_trace(f->disk);
}

static void fail_when_compacting(struct fixture *f, unsigned kinds, uint64_t at)
{
    f->disk->fail_kinds = kinds;
    f->disk->fail_count = 0;
    f->disk->fail_errno = EMFILE;
    f->disk->fail_at = at;
    f->disk->fail_sticky = true;
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    f->disk->fail_at = 0;
}

/* Its name goes first; then it is cut down to one step. At once where it cannot be opened. */
static void give_back(enum tkv_durability durability, unsigned mebibytes, bool opens,
                      const char *wanted)
{
    struct fixture f;
    const char *unlinked;

    begin_with_large_files(&f, durability);
    fill_large_file(&f, mebibytes);
    fail_when_compacting(&f, SIMDISK_OPEN, opens ? 0 : 2 /* after the manifest */);
    unlinked = strstr(f.disk->trace, "unlink " DATA "\n");
    CHECK(unlinked != NULL);
    CHECK(strstr(unlinked, wanted) != NULL);
    CHECK_EQ(strstr(f.disk->trace, "truncate") != NULL, wanted[0] != 0);
    CHECK_EQ(f.disk->faults > 0, !opens);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    end(&f);
}

TEST(a_large_file_is_given_back_in_steps)
{
    give_back(TKV_DURABILITY_NONE, 66, true,
              "truncate " DATA " 35651584\ntruncate " DATA " 2097152\n");
    give_back(TKV_DURABILITY_NONE, 64, true, "truncate " DATA " 33554432\n");
    give_back(TKV_DURABILITY_NONE, 32, true, "");
    give_back(TKV_DURABILITY_NONE, 66, false, "");
}

TEST(where_writers_wait_for_the_device_the_steps_are_short)
{
    give_back(TKV_DURABILITY_ALWAYS, 1, true,
              "truncate " DATA " 786432\ntruncate " DATA " 524288\ntruncate " DATA
              " 262144\n");
    give_back(TKV_DURABILITY_ALWAYS, 1, false, "");
}

TEST(a_large_file_that_cannot_be_cut_is_removed_after_one_attempt)
{
    struct fixture f;

    begin_with_large_files(&f, TKV_DURABILITY_ALWAYS);
    fill_large_file(&f, 2);
    fail_when_compacting(&f, SIMDISK_TRUNCATE, 1);
    CHECK_EQ(f.disk->faults, 1);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    end(&f);
}

TEST(a_large_file_that_somebody_reads_is_not_cut)
{
    struct tkv_pin pin;
    struct fixture f;

    begin_with_large_files(&f, TKV_DURABILITY_ALWAYS);
    put_bytes(&f, "key", 7, 64);
    CHECK_OK(tkv_get_pinned(f.store, tkv_text("key"), &pin, &err));
    fill_large_file(&f, 2);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(strstr(f.disk->trace, "truncate") == NULL);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    CHECK_EQ(pin.value.size, 64);
    CHECK_EQ(((const uint8_t *)pin.value.data)[63], 7);
    tkv_unpin(&pin);
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
    CHECK_EQ(usage_of(&f).live_records, 2);
    CHECK(tkv_usage_get(&f.store->live_bytes) < 4200);
    end(&f);
}

/* ---- Between copying and installing ------------------------------------------------------ */

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

static void expire_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    f->disk->wall_ms += 5000;
    tkv_upkeep_expire(f->store);
    del(f, "other");
}

/* Nothing in the output is live then. */
TEST(a_record_that_expires_while_its_copy_is_on_its_way_goes_on_hiding_older_ones)
{
    struct fixture f;
    uint64_t second;
    uint8_t byte;
    bool did;

    begin_closed(&f);
    f.options.on_event = expire_when_copied;
    open_again(&f);
    put_bytes(&f, "key", 1, 100);
    for (unsigned i = 0; f.store->active->number == 1; i++) {
        char other[8];

        snprintf(other, sizeof other, "%u", i);
        put_bytes(&f, other, 1, 4000);
    }
    rotate(&f);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    second = f.store->active->number;
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("key"), tkv_text("for a while"),
                              f.disk->wall_ms + 1000, &err));
    put_bytes(&f, "other", 1, 4000);
    for (unsigned i = 0; i < 8; i++)
        put_bytes(&f, "garbage", 1, 4000);
    rotate(&f);
    put_bytes(&f, "garbage", 1, 10); /* the last of them */
    CHECK_OK(tkv_checkpoint(f.store, &err));
    atomic_store(&tkv_files_find(f.store, 1)->damaged, true); /* it stays as it is */
    CHECK_OK(tkv_reclaim_step(f.store, second + 1, &did, NULL, &err));
    CHECK(did);
    CHECK(tkv_files_find(f.store, second) == NULL);
    CHECK_EQ(usage_of(&f).live_bytes, tkv_usage_get(&f.store->live_bytes));
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
    open_again(&f);
    CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
    end(&f);
}

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
