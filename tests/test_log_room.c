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

struct watch {
    struct fixture f;
    uint64_t size;   /* of the log, before it grows */
    uint64_t lowest; /* space that puts could count on while it did */
};

static void note_space(struct simdisk *disk, enum simdisk_call call)
{
    struct watch *w = disk->context;
    const uint64_t left = atomic_load(&w->f.store->space_left);

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
    before = atomic_load(&w.f.store->space_left);
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
