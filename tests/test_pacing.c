/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom: the compactor copies no faster than it needs to, unless somebody waits for
 * the space; writers are slowed when the store outgrows what it promises; a put waits for a look
 * at the index before its turn only where the last one had something to find.
 *
 * Method: a small store on the simulated disk, whose clock stands still, without threads, to which
 * a compactor seems to belong. Naps and turns given up are counted, and take no time.
 */
#include "small_store.h"

#include "give_way.h"
#include "walk.h"

#include <time.h>

TEST_MAIN

static unsigned naps;
static uint64_t live_bytes, other_bytes; /* as they really are */
static uint64_t napped_ns;

int __wrap_nanosleep(const struct timespec *duration, struct timespec *ret_left);

int __wrap_nanosleep(const struct timespec *duration, struct timespec *ret_left)
{
    (void)ret_left;
    naps++;
    napped_ns += (uint64_t)duration->tv_sec * 1000000000 + (uint64_t)duration->tv_nsec;
    return 0;
}

static unsigned turns;   /* given up */
static uint64_t turn_ns; /* how long the others take */
static uint64_t clock_ns = 1000000000;

int __wrap_sched_yield(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);

int __wrap_sched_yield(void)
{
    turns++;
    clock_ns += turn_ns;
    return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    (void)clock;
    ret_now->tv_sec = (time_t)(clock_ns / 1000000000);
    ret_now->tv_nsec = (long)(clock_ns % 1000000000);
    return 0;
}

static void begin_beside_compactor(struct fixture *f)
{
    begin_closed(f);
    f->options.auto_compact = true;
    f->options.compact_size_min = 0;
    open_again(f);
    f->store->compactor.started = true;
    f->store->reclaim_asked = true; /* nobody has to be woken */
    f->disk->monotonic_us = 5000000;
    live_bytes = f->store->live_bytes;
    other_bytes = f->store->other_bytes;
    naps = 0;
    napped_ns = 0;
}

static void end_beside_compactor(struct fixture *f)
{
    f->store->compactor.started = false;
    f->store->live_bytes = live_bytes;
    f->store->other_bytes = other_bytes;
    end(f);
}

/* As survivors.c does, in small pieces: 4 MiB. True when there was a nap. */
static bool naps_while_copying(struct fixture *f)
{
    uint64_t bytes = 0, from_us = 0;

    naps = 0;
    for (unsigned i = 0; i < 64; i++)
        tkv_pace_copy(f->store, &bytes, &from_us, 64 * 1024);
    return naps > 0;
}

/* 4 MiB are live, and the files are so many times as large; without the writes that takes. */
static void set_sizes(struct fixture *f, double factor)
{
    f->store->live_bytes = 4u << 20;
    f->store->other_bytes =
        (uint64_t)((double)(4u << 20) * factor) - f->store->applied_bytes;
}

TEST(without_hurry_the_compactor_copies_a_hundred_megabytes_a_second)
{
    struct fixture f;

    begin_beside_compactor(&f);
    set_sizes(&f, 1.2);
    CHECK(naps_while_copying(&f));
    CHECK_EQ(naps, 15); /* the first 256 KiB begin the account */
    CHECK(napped_ns / 1000 <= 15 * (256 * 1024 / 100));
    CHECK(napped_ns / 1000 >
          15 * (256 * 1024 / 100) - 100); /* reading the clock takes some */
    end_beside_compactor(&f);
}

TEST(the_compactor_hurries_while_the_store_is_above_its_limit_or_the_disk_is_full)
{
    struct fixture f;

    begin_beside_compactor(&f);
    set_sizes(&f, 2);
    CHECK(!naps_while_copying(&f));
    set_sizes(&f, 1.2);
    f.store->disk_full = true;
    CHECK(!naps_while_copying(&f));
    f.store->disk_full = false;
    CHECK(naps_while_copying(&f));
    end_beside_compactor(&f);
}

/* It has just brought the store below the limit, which does not last. */
TEST(the_compactor_hurries_for_a_moment_after_a_writer_was_held_back)
{
    struct fixture f;

    begin_beside_compactor(&f);
    set_sizes(&f, 2);
    tkv_pace_writer(f.store, 100000);
    CHECK_EQ(naps, 1);
    set_sizes(&f, 1.2);
    CHECK(!naps_while_copying(&f));
    f.disk->monotonic_us += 49000;
    CHECK(!naps_while_copying(&f));
    f.disk->monotonic_us += 2000;
    CHECK(naps_while_copying(&f));
    end_beside_compactor(&f);
}

TEST(a_writer_is_slowed_above_the_limit_only_and_never_stopped)
{
    struct fixture f;

    begin_beside_compactor(&f);
    set_sizes(&f, 1.3);
    tkv_pace_writer(f.store, 1u << 30);
    CHECK_EQ(naps, 0);
    set_sizes(&f, 10);
    tkv_pace_writer(f.store, 1u << 30);
    CHECK_EQ(naps, 1);
    CHECK_EQ(napped_ns, 20000000);
    f.store->reclaim_futile = 1; /* compacting brings nothing: waiting neither */
    tkv_pace_writer(f.store, 1u << 30);
    CHECK_EQ(naps, 1);
    end_beside_compactor(&f);
}

/* What has been copied is there twice until the input is removed. */
TEST(a_writer_is_not_slowed_for_what_a_compaction_has_copied_so_far)
{
    struct fixture f;

    begin_beside_compactor(&f);
    set_sizes(&f, 1.2);
    f.store->copied_bytes = 4u << 20;
    tkv_pace_writer(f.store, 100000);
    CHECK_EQ(naps, 0);
    CHECK(!naps_while_copying(&f)); /* and the compactor hurries */
    f.store->copies_kept = f.store->copied_bytes;
    tkv_pace_writer(f.store, 100000);
    CHECK(naps > 0);
    f.store->copied_bytes = f.store->copies_kept = 0;
    end_beside_compactor(&f);
}

TEST(what_a_compaction_has_copied_counts_when_it_has_ended)
{
    struct fixture f;

    begin(&f);
    for (uint8_t i = 0; i < 12; i++) {
        char key[] = "kept ?";

        key[5] = (char)('a' + i);
        put_bytes(&f, key, i, 4000);
        put_bytes(&f, "garbage", i, 4000);
    }
    CHECK_EQ(f.store->copies_kept, 0);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(f.store->copied_bytes > 0);
    CHECK_EQ(f.store->copies_kept, f.store->copied_bytes);
    end(&f);
}

/* ---- Whoever has the processor -------------------------------------------------------- */

/* The first file full of records of so many bytes, all of them live. */
static void fill_first_file(struct fixture *f, size_t size)
{
    unsigned i = 0;

    begin_closed(f);
    f->options.wal_size_max = 4u << 20; /* no checkpoint pads */
    open_again(f);
    while (f->store->active->number == 1) {
        char key[16];

        snprintf(key, sizeof key, "%u", i++);
        put_bytes(f, key, 1, size);
    }
    CHECK_OK(tkv_checkpoint(f->store, &err));
    turns = 0;
}

static unsigned turns_given_up_in_a_walk(struct fixture *f)
{
    struct tkv_datafile *file = tkv_files_find(f->store, 1);
    struct tkv_walk walk;

    turns = 0;
    tkv_walk_begin(&walk, file, atomic_load(&file->size));
    while (tkv_walk_next(&walk))
        ;
    CHECK_EQ(walk.status, TKV_OK);
    tkv_walk_end(&walk);
    return turns;
}

/* 64 KiB, of which the last stretch may be short. */
TEST(whoever_walks_through_a_file_gives_its_turn_up_every_16_kib)
{
    struct fixture f;

    fill_first_file(&f, 100);
    CHECK_EQ(turns_given_up_in_a_walk(&f), 64 * 1024 / TKV_STRETCH_BYTES - 1);
    end(&f);
}

/* Beside the walk: for every 128 entries that are repointed. */
TEST(a_compaction_gives_its_turn_up_while_it_repoints_the_index)
{
    struct fixture f;
    unsigned walked, live;

    fill_first_file(&f, 20);
    for (unsigned i = 0; i < 400; i++) {
        char key[16];

        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_delete(f.store, tkv_text(key), NULL, &err));
    }
    walked = turns_given_up_in_a_walk(&f);
    live = (unsigned)tkv_usage_get(&tkv_files_find(f.store, 1)->usage.live_records);
    CHECK(live > 2 * TKV_STRETCH_ITEMS);
    turns = 0;
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(tkv_files_find(f.store, 1) == NULL);
    CHECK(turns >= walked + live / TKV_STRETCH_ITEMS);
    end(&f);
}

/* A relaxed writer waits for the end of such work. */
TEST(while_nobody_waits_for_the_device_no_turn_is_given_up)
{
    struct fixture f, other;

    fill_first_file(&f, 100);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    CHECK_EQ(turns_given_up_in_a_walk(&f), 0);
    begin(&other);
    CHECK(turns_given_up_in_a_walk(&f) > 0);
    end(&other);
    CHECK_EQ(turns_given_up_in_a_walk(&f), 0);
    f.options.durability = TKV_DURABILITY_ALWAYS;
    open_again(&f);
    CHECK(turns_given_up_in_a_walk(&f) > 0);
    end(&f);
}

static struct tkv_os above;
static struct tkv_os *below;
static unsigned turns_in_sync;

static int sync_beside_a_compactor(struct tkv_os *os, int fd)
{
    (void)os;
    turns = 0;
    tkv_give_way();
    turns_in_sync = turns;
    return below->sync(below, fd);
}

TEST(a_turn_is_given_up_while_a_relaxed_log_is_synced)
{
    struct fixture f;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    put_bytes(&f, "key", 1, 100);
    below = f.store->os;
    above = *below;
    above.sync = sync_beside_a_compactor;
    f.store->wal.os = &above;
    CHECK_OK(tkv_sync(f.store, &err));
    CHECK_EQ(turns_in_sync, 1);
    tkv_give_way();
    CHECK_EQ(turns, 1);
    f.store->wal.os = below;
    end(&f);
}

/* Each turn would cost 3 ms. */
TEST(beside_somebody_who_uses_the_whole_turn_one_is_given_up_every_50_ms)
{
    turns = 0;
    turn_ns = 3000000;
    tkv_give_way_begin();
    tkv_give_way();
    tkv_give_way();
    clock_ns += 49999999;
    tkv_give_way();
    CHECK_EQ(turns, 1);
    clock_ns++;
    turn_ns = 200000;
    for (unsigned i = 0; i < 10; i++)
        tkv_give_way();
    CHECK_EQ(turns, 11);
    tkv_give_way_end();
    turn_ns = 0;
}

/* ---- What a put expects ---------------------------------------------------------------- */

TEST(a_put_expects_to_be_of_a_new_key_if_the_last_one_was)
{
    struct tkv_batch *batch;
    struct fixture f;

    begin(&f);
    CHECK(!f.store->puts_are_new);
    put_bytes(&f, "a", 1, 10);
    CHECK(f.store->puts_are_new);
    put_bytes(&f, "a", 2, 10);
    CHECK(!f.store->puts_are_new);
    put_bytes(&f, "b", 1, 10);
    CHECK(f.store->puts_are_new);
    CHECK_OK(tkv_delete(f.store, tkv_text("a"), NULL, &err));
    CHECK(f.store->puts_are_new);
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("b"), tkv_text("3"), &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("b"), tkv_text("4"), &err));
    CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    CHECK(f.store->puts_are_new);
    end(&f);
}
