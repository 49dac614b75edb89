/* SPDX-License-Identifier: MIT */
/*
 * Which records of a data file are known to be superseded: never one that is live, and all of
 * them as long as there is memory, whatever was written, compacted and opened again. What
 * compaction makes of it is in tests/coverage/test_copy.c.
 *
 * Method: a small store on the simulated disk, without threads; every record of every file is
 * compared with the index. Memory for bits fails on demand.
 */
#include "small_store.h"
#include "walk.h"

#include <errno.h>

TEST_MAIN

static size_t no_memory_for;  /* so many bytes of bits; 0: there is */
static bool no_memory_at_all; /* for the bits of any file of 56 to 64 KiB */

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    if (size == 1 &&
        (count == no_memory_for || (no_memory_at_all && count >= 448 && count <= 513)))
        return NULL;
    return __real_calloc(count, size);
}

/* ---- The bits -------------------------------------------------------------------------- */

TEST(records_as_short_as_they_can_be_have_a_bit_each)
{
    const uint64_t end = 64 * 1024;
    struct tkv_superseded s = {.end = 0};

    for (uint64_t offset = TKV_DATA_HEADER_SIZE; offset < end;
         offset += TKV_RECORD_HEADER_SIZE)
        CHECK(!tkv_superseded_has(&s, offset));
    for (uint64_t offset = TKV_DATA_HEADER_SIZE; offset < end;
         offset += 3 * TKV_RECORD_HEADER_SIZE)
        tkv_superseded_note(&s, offset, end);
    for (uint64_t i = 0; TKV_DATA_HEADER_SIZE + i * TKV_RECORD_HEADER_SIZE < end; i++)
        CHECK_EQ(tkv_superseded_has(&s, TKV_DATA_HEADER_SIZE + i * TKV_RECORD_HEADER_SIZE),
                 i % 3 == 0);
    tkv_superseded_forget(&s);
}

TEST(without_memory_for_the_bits_it_is_known_that_some_are_missing)
{
    struct tkv_superseded s = {.end = 0};

    atomic_store(&s.is_complete, true);
    tkv_superseded_note(&s, 100, 4096);
    CHECK(atomic_load(&s.is_complete));
    tkv_superseded_forget(&s);
    atomic_store(&s.is_complete, true);
    no_memory_for = tkv_superseded_byte(4096) + 1;
    tkv_superseded_note(&s, 100, 4096);
    no_memory_for = 0;
    CHECK(!tkv_superseded_has(&s, 100));
    CHECK(!atomic_load(&s.is_complete));
    tkv_superseded_note(&s, 200, 4096); /* there is memory again */
    CHECK(tkv_superseded_has(&s, 200));
    CHECK(!tkv_superseded_has(&s, 100));
    CHECK(!atomic_load(&s.is_complete));
    tkv_superseded_forget(&s);
}

TEST(what_was_forgotten_may_begin_again_with_a_longer_file)
{
    struct tkv_superseded s = {.end = 0};

    atomic_store(&s.is_complete, true);
    tkv_superseded_note(&s, 100, 4096);
    tkv_superseded_forget(&s);
    CHECK(!tkv_superseded_has(&s, 100));
    CHECK(!atomic_load(&s.is_complete));
    tkv_superseded_note(&s, 1024 * 1024 - 1, 1024 * 1024);
    CHECK(tkv_superseded_has(&s, 1024 * 1024 - 1));
    tkv_superseded_forget(&s);
}

/* ---- In a store ------------------------------------------------------------------------ */

struct sums {
    unsigned live, noted, missed; /* records that can be noted */
};

static bool is_live(struct fixture *f, const struct tkv_datafile *file,
                    const struct tkv_walk *walk)
{
    const uint64_t hash = tkv_index_hash(f->store->index, walk->record.key);
    struct tkv_location location;

    return tkv_index_find(f->store->index, walk->record.key, hash, &location) &&
           tkv_place_slot(location.place) == file->slot &&
           tkv_place_offset(location.place) == walk->offset;
}

static void check_record(struct fixture *f, const struct tkv_datafile *file,
                         const struct tkv_walk *walk, struct sums *sums)
{
    const bool noted = tkv_superseded_has(&file->superseded, walk->offset);
    const bool live = is_live(f, file, walk);

    CHECK(!noted || !live);
    if (walk->record.kind == TKV_RECORD_DELETE || walk->record.expires_at_ms != 0) {
        CHECK(!noted); /* it may hide older ones */
        return;
    }
    sums->live += live;
    sums->noted += noted;
    sums->missed += !noted && !live;
    CHECK(noted || live || !atomic_load(&file->superseded.is_complete));
}

static struct sums check_store(struct fixture *f)
{
    struct sums sums = {0};

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);
        struct tkv_walk walk;

        if (file == NULL || file->file_class == TKV_FILE_LARGE)
            continue;
        tkv_walk_begin(&walk, file, atomic_load(&file->size));
        while (tkv_walk_next(&walk))
            check_record(f, file, &walk, &sums);
        CHECK_EQ(walk.status, TKV_OK);
        tkv_walk_end(&walk);
    }
    CHECK_OK(tkv_verify(f->store, NULL, NULL, NULL, &err));
    return sums;
}

static void change(struct fixture *f, unsigned i)
{
    char key[16];

    snprintf(key, sizeof key, "%u", i * i % 61);
    if (i % 7 == 3)
        del(f, key);
    else if (i % 11 == 5)
        CHECK_OK(tkv_put_expiring(f->store, tkv_text(key), tkv_text("for a while"),
                                  f->disk->wall_ms + 1 + i % 2 * 1000000, &err));
    else if (i % 50 == 49)
        put_bytes(f, key, (uint8_t)i, 30000); /* a value in a file of its own */
    else
        put_bytes(f, key, (uint8_t)i, i * 37 % 1500);
}

TEST(no_live_record_is_noted_and_every_superseded_one_is)
{
    struct sums sums;
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 256 * 1024;
    open_again(&f);
    for (unsigned i = 0; i < 1000; i++) {
        change(&f, i);
        f.disk->wall_ms += i % 3;
        if (i % 100 == 50)
            (void)check_store(&f);
        if (i % 200 == 150)
            CHECK_OK(tkv_compact(f.store, NULL, &err));
    }
    sums = check_store(&f);
    CHECK(sums.live > 20 && sums.noted > 30);
    CHECK_EQ(sums.missed, 0);
    end(&f);
}

/* Files that go on growing are an exception: their bits were those of a shorter file. */
TEST(opening_a_store_notes_what_is_superseded_in_its_full_files)
{
    struct sums sums;
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 1000; i++)
        change(&f, i);
    open_again(&f);
    sums = check_store(&f);
    CHECK(sums.noted > 500);
    for (uint32_t slot = 0; slot < atomic_load(&f.store->slots_used); slot++) {
        const struct tkv_datafile *file = tkv_files_at(f.store, slot);

        if (file != NULL && file->file_class != TKV_FILE_LARGE)
            CHECK_EQ(atomic_load(&file->superseded.is_complete),
                     atomic_load(&file->sealed));
    }
    for (unsigned i = 0; i < 300; i++) /* what was replayed is written again, too */
        change(&f, i);
    kill_process(&f, SIMDISK_KILLED);
    open_again(&f);
    (void)check_store(&f);
    end(&f);
}

TEST(without_memory_for_bits_nothing_is_lost_and_the_garbage_goes_all_the_same)
{
    struct sums sums;
    struct fixture f;
    uint64_t before;

    begin(&f);
    for (unsigned i = 0; i < 40; i++)
        put_bytes(&f, "stays", (uint8_t)i, 100);
    for (unsigned i = 0; i < 400; i++) {
        char key[8];

        snprintf(key, sizeof key, "%u", i % 10);
        no_memory_for =
            i % 100 < 90 ? tkv_superseded_byte(f.store->active->capacity) + 1 : 0;
        put_bytes(&f, key, (uint8_t)i, 900);
        no_memory_for = 0;
    }
    sums = check_store(&f);
    CHECK(sums.missed > 0);
    before = tkv_files_disk_bytes(f.store);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(tkv_files_disk_bytes(f.store) < before / 4);
    for (unsigned i = 0; i < 10; i++) {
        char key[8];

        snprintf(key, sizeof key, "%u", i);
        check_byte(&f, key, (uint8_t)(390 + i));
    }
    check_byte(&f, "stays", 39);
    (void)check_store(&f);
    end(&f);
}

TEST(a_file_that_was_loaded_without_memory_for_bits_knows_that_some_are_missing)
{
    struct tkv_datafile *file;
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 12; i++)
        put_bytes(&f, "garbage", 2, 4000);
    for (unsigned i = 0; f.store->active->number == 1; i++) {
        char key[8];

        snprintf(key, sizeof key, "%u", i);
        put_bytes(&f, key, 1, 4000);
    }
    no_memory_at_all = true;
    open_again(&f);
    no_memory_at_all = false;
    file = tkv_files_find(f.store, 1);
    CHECK(atomic_load(&file->sealed));
    CHECK(!atomic_load(&file->superseded.is_complete));
    CHECK(check_store(&f).missed > 0);
    end(&f);
}

/* Nothing points at what a failed compaction has made durable, and nobody has noted it. */
TEST(an_output_that_is_not_taken_back_knows_that_some_are_missing)
{
    unsigned missed = 0;
    bool failed = true;

    for (uint64_t at = 1; failed; at++) {
        enum tkv_status status;
        struct fixture f;

        begin(&f);
        put_bytes(&f, "stays", 1, 100);
        while (f.store->active->number == 1)
            put_bytes(&f, "garbage", 2, 4000);
        f.disk->fail_kinds = SIMDISK_OPEN;
        f.disk->fail_count = 0;
        f.disk->fail_errno = EMFILE;
        f.disk->fail_at = at;
        status = tkv_compact(f.store, NULL, &err);
        failed = f.disk->faults > 0;
        CHECK(failed || status == TKV_OK);
        f.disk->fail_at = 0;
        missed += check_store(&f).missed;
        end(&f);
    }
    CHECK(missed > 0);
}

/* What a compaction has copied in vain must not be copied for ever. */
static void overtake(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED)
        return;
    put_bytes(f, "again", 2, 300);
    del(f, "gone");
    CHECK_OK(tkv_put_expiring(f->store, tkv_text("hides"), tkv_text("until then"),
                              f->disk->wall_ms + 1, &err));
}

TEST(a_copy_that_was_overtaken_is_noted_unless_it_expires)
{
    struct sums sums;
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = overtake;
    open_again(&f);
    for (unsigned i = 0; i < 10; i++)
        put_bytes(&f, "garbage", (uint8_t)i, 4000);
    put_bytes(&f, "again", 1, 100);
    put_bytes(&f, "gone", 1, 100);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("hides"), tkv_text("then"),
                              f.disk->wall_ms + 1000, &err));
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    sums = check_store(&f);
    CHECK_EQ(sums.noted, 2);
    CHECK_EQ(sums.missed, 0);
    end(&f);
}
