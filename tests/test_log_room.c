/* SPDX-License-Identifier: MIT */
/*
 * test_log_room - when the log grows, and when there is a checkpoint instead.
 *
 * Method: a small store on the simulated disk, without threads, so that every put sees to the
 * log; the clock is the test's.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

#define CAP (8u << 20)

static void begin_with_room(struct fixture *f, uint64_t cap)
{
    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.wal_size_max = cap;
    f->options.data_file_size_min = f->options.data_file_size_max = 4u << 20;
    open_again(f);
}

static uint64_t capacity(const struct fixture *f)
{
    return f->store->wal.ring.end - TKV_WAL_RING_START;
}

static uint64_t used(struct fixture *f)
{
    return atomic_load(&f->store->log_head) - atomic_load(&f->store->log_released);
}

static uint64_t checkpoint_of(const struct fixture *f)
{
    return f->store->checkpoint.position;
}

static void pass(struct fixture *f, unsigned ms)
{
    f->disk->monotonic_us += (uint64_t)ms * 1000;
}

TEST(a_log_that_fills_fast_grows_before_its_writers_need_the_room)
{
    struct fixture f;
    uint64_t size, begun;

    begin_with_room(&f, CAP);
    begun = checkpoint_of(&f);
    size = capacity(&f);
    for (unsigned i = 0; i < 400 && capacity(&f) < CAP - TKV_WAL_RING_START; i++) {
        put_bytes(&f, "key", (uint8_t)i, 30000);
        if (capacity(&f) == size)
            continue;
        CHECK(used(&f) < size / 2);         /* room was left meanwhile */
        CHECK_EQ(checkpoint_of(&f), begun); /* and no checkpoint was needed */
        size = capacity(&f);
    }
    CHECK_EQ(f.store->wal.ring.end, CAP);
    end(&f);
}

/* The size that a log of 1 MiB grows to first, on a disk of `disk_size` bytes. */
static uint64_t first_growth(enum tkv_durability durability, uint64_t disk_size)
{
    struct fixture f;
    uint64_t grown;

    begin_with_room(&f, CAP);
    f.options.durability = durability;
    open_again(&f);
    f.disk->capacity = disk_size;
    for (unsigned i = 0; i < 50 && f.store->wal.ring.end == TKV_WAL_SIZE_FIRST; i++)
        put_bytes(&f, "key", (uint8_t)i, 30000);
    grown = f.store->wal.ring.end;
    end(&f);
    return grown;
}

TEST(a_log_that_waits_for_nobody_grows_fourfold_and_twofold_where_there_is_no_room_for_that)
{
    CHECK_EQ(first_growth(TKV_DURABILITY_NONE, 16u << 20), 4u << 20);
    CHECK_EQ(first_growth(TKV_DURABILITY_INTERVAL, 16u << 20), 4u << 20);
    CHECK_EQ(first_growth(TKV_DURABILITY_NONE, 4u << 20), 2u << 20);
    CHECK_EQ(first_growth(TKV_DURABILITY_ALWAYS, 16u << 20), 2u << 20);
}

TEST(a_log_that_fills_slowly_keeps_its_size)
{
    struct fixture f;
    uint64_t size, begun;

    begin_with_room(&f, CAP);
    begun = checkpoint_of(&f);
    size = capacity(&f);
    for (unsigned i = 0; i < 400; i++) {
        pass(&f, 100);
        put_bytes(&f, "key", (uint8_t)i, 30000);
        CHECK(used(&f) <= size / 2 + 30100);
    }
    CHECK_EQ(capacity(&f), size);
    CHECK(checkpoint_of(&f) > begun);
    end(&f);
}

/* Where the head is a lap ahead, growing would bring no room before the next checkpoint. */
TEST(a_log_whose_head_has_wrapped_has_a_checkpoint_first)
{
    struct fixture f;
    uint64_t size;
    unsigned i = 0;

    begin_with_room(&f, CAP);
    size = capacity(&f);
    do { /* slowly, until a checkpoint is made beyond three quarters */
        pass(&f, 600);
        put_bytes(&f, "key", (uint8_t)++i, 30000);
    } while (f.store->wal.ring.tail.file_offset < size * 3 / 4 || used(&f) > 40000);
    while (f.store->wal.ring.head.lap == f.store->wal.ring.tail.lap) {
        CHECK_EQ(capacity(&f), size);
        put_bytes(&f, "key", (uint8_t)++i, 30000);
    }
    while (used(&f) > 40000) {
        CHECK_EQ(capacity(&f), size);
        put_bytes(&f, "key", (uint8_t)++i, 30000);
    }
    CHECK(f.store->wal.ring.head.lap == f.store->wal.ring.tail.lap);
    end(&f);
}

/* A log that was refused room asks again when another quarter is used, not with every put. */
TEST(a_refused_growth_is_asked_for_once_a_quarter)
{
    struct fixture f;
    uint64_t size, tried = 0;
    unsigned tries = 0;

    begin_with_room(&f, CAP);
    size = capacity(&f);
    f.disk->capacity = 5u << 19; /* room for puts, not for another log beside the reserve */
    for (unsigned i = 0; i < 350; i++) {
        put_bytes(&f, "key", (uint8_t)(i % 3), 1000);
        tries += f.store->growth_tried != tried;
        tried = f.store->growth_tried;
    }
    CHECK(used(&f) > size / 4 && used(&f) < size / 2);
    CHECK_EQ(tries, 1);
    while (tries == 1) {
        CHECK(used(&f) < size / 2 + 1100);
        put_bytes(&f, "key", 1, 1000);
        tries += f.store->growth_tried != tried;
    }
    CHECK_EQ(capacity(&f), size);
    end(&f);
}

/* Killed before a header says where the ring ends now. */
TEST(what_a_log_had_grown_just_before_a_kill_is_given_back)
{
    struct simdisk *killed;
    struct fixture f;

    begin_with_room(&f, CAP);
    for (unsigned i = 0; i < 100 && f.store->wal.ring.end == TKV_WAL_SIZE_FIRST; i++)
        put_bytes(&f, "key", (uint8_t)i, 30000);
    CHECK(f.store->wal.ring.end > TKV_WAL_SIZE_FIRST);
    killed = simdisk_clone(f.disk);
    CHECK_OK(tkv_close(f.store, &err));
    simdisk_free(f.disk);
    f.disk = killed;
    f.store = NULL;
    CHECK(simdisk_file_size(f.disk, "wal.log") > TKV_WAL_SIZE_FIRST);
    open_again(&f);
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), f.store->wal.ring.end);
    CHECK_EQ(f.store->wal.ring.end, TKV_WAL_SIZE_FIRST);
    end(&f);
}

struct watch {
    struct fixture f;
    uint64_t size;   /* of the log, before it grows */
    uint64_t lowest; /* space that puts could count on while it did */
};

static void note_space(struct simdisk *disk, enum simdisk_call call)
{
    struct watch *w = disk->context;
    const uint64_t left = atomic_load(&w->f.store->put_space_left);

    if (call == SIMDISK_WRITE && capacity(&w->f) == w->size && left < w->lowest)
        w->lowest = left;
}

TEST(while_a_log_grows_puts_do_not_count_on_the_space_that_it_takes)
{
    struct watch w = {.lowest = UINT64_MAX};
    uint64_t before;

    begin_with_room(&w.f, CAP);
    w.f.disk->capacity = CAP;
    w.size = capacity(&w.f);
    CHECK_OK(tkv_checkpoint(w.f.store, &err));
    before = atomic_load(&w.f.store->put_space_left);
    w.f.disk->context = &w;
    w.f.disk->before_call = note_space;
    for (unsigned i = 0; i < 100 && capacity(&w.f) == w.size; i++)
        put_bytes(&w.f, "key", (uint8_t)i, 10000);
    w.f.disk->before_call = NULL;
    CHECK(capacity(&w.f) > w.size);
    CHECK(w.lowest <= before - w.size);
    end(&w.f);
}

TEST(a_log_at_its_cap_does_not_grow)
{
    struct fixture f;
    uint64_t size, begun;

    begin_with_room(&f, TKV_WAL_SIZE_FIRST);
    begun = checkpoint_of(&f);
    size = capacity(&f);
    for (unsigned i = 0; i < 200; i++) {
        put_bytes(&f, "key", (uint8_t)i, 30000);
        CHECK(used(&f) <= size / 2 + 30100);
    }
    CHECK_EQ(capacity(&f), size);
    CHECK(checkpoint_of(&f) > begun);
    end(&f);
}

/* Puts until the ring is full, while nobody else sees to the log. */
static void fill_without_flusher(struct fixture *f, unsigned ms)
{
    const uint64_t size = capacity(f), begun = checkpoint_of(f);

    f->store->flusher.started = true;
    atomic_store(&f->store->flush_asked, true);
    for (unsigned i = 0; capacity(f) == size && checkpoint_of(f) == begun; i++) {
        CHECK(i < 100);
        pass(f, ms);
        put_bytes(f, "key", (uint8_t)i, 30000);
    }
    f->store->flusher.started = false;
}

TEST(who_finds_the_log_full_lets_it_grow_if_it_fills_fast_and_else_makes_a_checkpoint)
{
    for (unsigned is_slow = 0; is_slow < 2; is_slow++) {
        struct fixture f;
        uint64_t size, begun;

        begin_with_room(&f, CAP);
        size = capacity(&f);
        begun = checkpoint_of(&f);
        fill_without_flusher(&f, is_slow ? 100 : 0);
        CHECK_EQ(capacity(&f) > size, !is_slow);
        CHECK_EQ(checkpoint_of(&f) > begun, is_slow != 0);
        end(&f);
    }
}

static unsigned syncs;

static void count_syncs(struct simdisk *disk, enum simdisk_call call)
{
    (void)disk;
    syncs += call == SIMDISK_SYNC;
}

TEST(a_log_whose_sync_has_failed_does_not_grow_which_would_sync_it_again)
{
    struct fixture f;
    uint64_t size;

    begin_closed(&f);
    f.disk->no_direct_sync = true;
    f.options.durability = TKV_DURABILITY_NONE;
    f.options.wal_size_max = CAP;
    open_again(&f);
    size = capacity(&f);
    f.store->flusher.started = true; /* nobody sees to the log */
    atomic_store(&f.store->flush_asked, true);
    while (used(&f) <= size / 4)
        put_bytes(&f, "key", 1, 30000);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_errno = EIO;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(tkv_sync(f.store, &err), TKV_IO);
    syncs = 0;
    f.disk->before_call = count_syncs;
    tkv_log_room_grow(f.store);
    f.disk->before_call = NULL;
    CHECK_EQ(syncs, 0);
    CHECK_EQ(capacity(&f), size);
    f.store->flusher.started = false;
    CHECK(tkv_close(f.store, &err) != TKV_OK);
    f.store = NULL;
    end(&f);
}

/* ---- Given back when the store is closed ---------------------------------------------------- */

#define KEPT (1u << 20) /* an eighth of CAP */

/* An open store whose log has grown to its cap; three keys are live. */
static void begin_grown(struct fixture *f, enum tkv_durability durability)
{
    static const char *const keys[] = {"a", "b", "c"};

    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = CAP;
    f->options.data_file_size_min = f->options.data_file_size_max = 4u << 20;
    open_again(f);
    for (unsigned i = 0; i < 1000 && f->store->wal.ring.end < CAP; i++)
        put_bytes(f, keys[i % 3], (uint8_t)i, 30000);
    CHECK_EQ(f->store->wal.ring.end, CAP);
    for (unsigned i = 0; i < 3; i++)
        put_bytes(f, keys[i], (uint8_t)(i + 1), 30000);
}

static void check_keys(struct fixture *f)
{
    check_byte(f, "a", 1);
    check_byte(f, "b", 2);
    check_byte(f, "c", 3);
}

TEST(a_closed_store_keeps_an_eighth_of_its_log_and_the_next_life_lets_it_grow_again)
{
    for (unsigned i = 0; i < 2; i++) {
        struct fixture f;

        begin_grown(&f, i == 0 ? TKV_DURABILITY_NONE : TKV_DURABILITY_ALWAYS);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), KEPT);
        open_again(&f);
        CHECK(f.report.clean);
        CHECK_EQ(f.store->wal.ring.end, KEPT);
        check_keys(&f);
        for (unsigned k = 0; k < 400 && capacity(&f) < CAP - TKV_WAL_RING_START; k++)
            put_bytes(&f, "other", (uint8_t)k, 30000);
        CHECK_EQ(f.store->wal.ring.end, CAP);
        kill_process(&f, SIMDISK_KILLED);
        open_again(&f);
        check_keys(&f);
        end(&f);
    }
}

TEST(a_log_that_could_not_be_cut_is_cut_by_the_next_closing)
{
    struct fixture f;

    begin_grown(&f, TKV_DURABILITY_NONE);
    f.disk->fail_kinds = SIMDISK_TRUNCATE;
    f.disk->fail_errno = EIO;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_OK(tkv_close(f.store, &err)); /* the store is whole */
    f.store = NULL;
    f.disk->fail_at = 0;
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), CAP);
    open_again(&f);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), KEPT);
    end(&f);
}

TEST(a_log_above_a_cap_that_was_lowered_is_cut_by_the_first_closing)
{
    struct fixture f;

    begin_grown(&f, TKV_DURABILITY_NONE);
    CHECK_OK(tkv_checkpoint(f.store, &err)); /* its header knows how long the log is */
    kill_process(&f, SIMDISK_KILLED);
    f.options.wal_size_max = 2u << 20;
    open_again(&f);
    CHECK_EQ(f.store->wal.ring.end, CAP);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), KEPT);
    open_again(&f);
    check_keys(&f);
    end(&f);
}

/* Whichever header is read speaks of the log as it is. */
TEST(a_log_that_was_given_back_does_without_either_header)
{
    for (unsigned block = 0; block < 2; block++) {
        static const uint8_t zeros[TKV_BLOCK_SIZE];
        struct fixture f;

        begin_grown(&f, TKV_DURABILITY_NONE);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        overwrite(&f, "wal.log", (uint64_t)block * TKV_BLOCK_SIZE, zeros, sizeof zeros);
        open_again(&f);
        check_keys(&f);
        end(&f);
    }
}

static unsigned cuts;

static void open_what_survives(const struct fixture *f, enum simdisk_model model,
                               uint64_t choice)
{
    struct fixture after = {.options = f->options};

    after.options.event_context = &after;
    after.disk = simdisk_survivor(f->disk, model, choice, SIMDISK_PAGE);
    open_again(&after);
    check_keys(&after);
    end(&after);
    cuts++;
}

static void cut_power(struct simdisk *disk, enum simdisk_call call)
{
    const struct fixture *f = disk->context;

    if ((call & SIMDISK_MUTATING) == 0)
        return;
    open_what_survives(f, SIMDISK_NOTHING_PENDING, 0);
    open_what_survives(f, SIMDISK_KILLED, 0);
    for (uint64_t choice = 0; choice < 3; choice++) {
        open_what_survives(f, SIMDISK_SUBSET, choice);
        open_what_survives(f, SIMDISK_TORN, choice);
        open_what_survives(f, SIMDISK_SIZE_ONLY, choice);
    }
    open_what_survives(f, SIMDISK_TRASHED, 1);
    open_what_survives(f, SIMDISK_ENTRIES_LOST, 1);
}

TEST(a_power_cut_while_a_grown_log_is_given_back_loses_nothing)
{
    struct fixture f;

    begin_grown(&f, TKV_DURABILITY_ALWAYS);
    f.disk->context = &f;
    f.disk->before_call = cut_power;
    cuts = 0;
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    f.disk->before_call = NULL;
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), KEPT);
    CHECK(cuts > 60);
    cut_power(f.disk, SIMDISK_WRITE); /* and after */
    open_again(&f);
    check_keys(&f);
    end(&f);
}

/* Every call of closing fails once; what cannot be given back stays. */
TEST(a_failure_while_a_grown_log_is_given_back_loses_nothing)
{
    bool is_beyond = false;

    for (uint64_t at = 1; !is_beyond; at++) {
        struct fixture f;

        begin_grown(&f, TKV_DURABILITY_ALWAYS);
        f.disk->fail_kinds = SIMDISK_MUTATING & SIMDISK_FALLIBLE;
        f.disk->fail_count = f.disk->faults = 0;
        f.disk->fail_errno = EIO;
        f.disk->fail_at = at;
        (void)tkv_close(f.store, &err);
        f.store = NULL;
        is_beyond = f.disk->faults == 0;
        f.disk->fail_at = 0;
        CHECK(!is_beyond || at > 6);
        open_what_survives(&f, SIMDISK_NOTHING_PENDING, 0);
        open_again(&f);
        check_keys(&f);
        end(&f);
    }
}
