/* SPDX-License-Identifier: MIT */
/*
 * Which deletes and expired records a compaction keeps: those that hide an older record in
 * another file, for as long as that file is there, and no others.
 *
 * Method: a small store on the simulated disk, without threads, whose first file has the older
 * records and is not worth compacting.
 */
#include "small_store.h"

TEST_MAIN

/* ---- What stays hidden ------------------------------------------------------------ */

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

/* ---- What nothing needs any more -------------------------------------------------- */

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
