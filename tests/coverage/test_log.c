/* SPDX-License-Identifier: MIT */
/*
 * The log where calls meet in a rare order, and where its end is somewhere rare.
 *
 * Method: the log's owner holds the leader of a group until others have joined the next one;
 * what else happens meanwhile, the owner does, so nothing depends on time.
 */
#include "../held_locks.h"
#include "replay.h"
#include "simdisk.h"
#include "test.h"
#include "wal.h"

#include "error.h"
#include "record.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

TEST_MAIN

#define START        TKV_WAL_RING_START
#define POSITION     (100 * (uint64_t)TKV_BLOCK_SIZE)
#define RING_END     (START + 64 * (uint64_t)TKV_BLOCK_SIZE)
#define LOG_SIZE_MAX (8u * 1024 * 1024)

static struct tkv_error err;
static const uint8_t uuid[16] = "the uuid of it.";
static atomic_uint interruptions; /* sem_wait()s that a signal ends, still to come */

int __real_sem_wait(sem_t *semaphore);
int __wrap_sem_wait(sem_t *semaphore);

int __wrap_sem_wait(sem_t *semaphore)
{
    unsigned left = atomic_load(&interruptions);

    while (left > 0 && !atomic_compare_exchange_weak(&interruptions, &left, left - 1))
        ;
    if (left == 0)
        return __real_sem_wait(semaphore);
    errno = EINTR;
    return -1;
}

static unsigned turns; /* that somebody gave away */

int __real_sched_yield(void);
int __wrap_sched_yield(void);

int __wrap_sched_yield(void)
{
    turns++;
    return __real_sched_yield();
}

/* ---- A log and its owner ---------------------------------------------------------------- */

struct owner {
    struct tkv_wal wal;
    struct simdisk *disk;
    struct tkv_os real;
    int dir;
    size_t hold_until; /* so many bytes have joined the group that fills */
    bool poison_when_applied;
    atomic_uint prepared, applied;
};

static struct owner owner;

static enum tkv_status prepare(void *context, size_t size, struct tkv_error *ret_err)
{
    struct owner *o = context;
    size_t joined = 0;

    (void)size;
    (void)ret_err;
    atomic_fetch_add(&o->prepared, 1);
    while (joined < o->hold_until) {
        tkv_mutex_lock(o->wal.lock);
        joined = o->wal.buffers[o->wal.filling].payload_size;
        tkv_mutex_unlock(o->wal.lock);
        (void)usleep(100);
    }
    o->hold_until = 0;
    return TKV_OK;
}

static void apply(void *context, const struct tkv_wal_applied *group)
{
    struct owner *o = context;

    (void)group;
    atomic_fetch_add(&o->applied, 1);
    if (o->poison_when_applied)
        tkv_wal_poison(&o->wal, TKV_IO);
}

static enum tkv_status make_room(void *context, uint64_t extent, struct tkv_error *ret_err)
{
    (void)context;
    (void)extent;
    return tkv_fail(ret_err, TKV_NO_SPACE, "no room");
}

static struct owner *begin(bool always)
{
    struct owner *o = &owner;
    struct tkv_wal_header header;
    struct tkv_wal_config config = {
        .always = always,
        .size_max = LOG_SIZE_MAX,
        .owner = {o, prepare, apply, make_room, NULL},
        .salt = 77,
        .seq_next = 1,
        .position = POSITION,
        .ring_end = RING_END,
    };

    memset(o, 0, sizeof *o);
    o->disk = simdisk_new(5);
    o->real = o->disk->os;
    o->dir = o->disk->os.open_dir(&o->disk->os, "", false);
    memset(&header, 0, sizeof header);
    memcpy(header.uuid, uuid, sizeof header.uuid);
    header.checkpoint = (struct tkv_checkpoint){.generation = 1,
                                                .salt = 77,
                                                .position = POSITION,
                                                .file_offset = START,
                                                .seq_next = 1};
    header.ring_end = RING_END;
    CHECK_OK(tkv_wal_create(&o->disk->os, o->dir, &header, &err));
    config.os = &o->disk->os;
    config.dir = o->dir;
    memcpy(config.uuid, uuid, sizeof config.uuid);
    CHECK_OK(tkv_wal_open(&o->wal, &config, &err));
    return o;
}

static void end(struct owner *o)
{
    tkv_wal_close(&o->wal);
    o->disk->os = o->real;
    CHECK_EQ(o->disk->os.close(&o->disk->os, o->dir), 0);
    CHECK_EQ(simdisk_open_count(o->disk), 0);
    simdisk_free(o->disk);
}

/* One record with a value of `size` bytes. */
static enum tkv_status commit(struct owner *o, size_t size)
{
    uint8_t *value = calloc(1, size), *bytes = malloc(size + 64);
    const struct tkv_record record = {
        .kind = TKV_RECORD_PUT, .key = tkv_text("key"), .value = tkv_bytes(value, size)};
    struct tkv_wal_item item = {.offset = 0};
    struct tkv_wal_write write = {.bytes = bytes, .items = &item, .count = 1};
    struct tkv_error own;
    enum tkv_status status;

    CHECK(value != NULL && bytes != NULL);
    item.body_sum = tkv_record_encode(&record, bytes);
    write.size = tkv_record_size(&record);
    status = tkv_wal_commit(&o->wal, &write, &own);
    free(bytes);
    free(value);
    return status;
}

struct writer {
    size_t size;
    pthread_t thread;
    enum tkv_status status;
};

static void *write_one(void *argument)
{
    struct writer *w = argument;

    w->status = commit(&owner, w->size);
    return NULL;
}

static size_t joined(struct owner *o)
{
    size_t size;

    tkv_mutex_lock(o->wal.lock);
    size = o->wal.buffers[o->wal.filling].payload_size;
    tkv_mutex_unlock(o->wal.lock);
    return size;
}

/* The first leads; the others join the next group one after another. */
static void write_in_turn(struct owner *o, struct writer *writers, unsigned count)
{
    size_t before = 0;

    for (unsigned i = 1; i < count; i++)
        o->hold_until += writers[i].size;
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_one, &writers[i]), 0);
        while (i == 0 && atomic_load(&o->prepared) == 0)
            (void)usleep(100);
        while (i > 0 && i < count - 1 && joined(o) == before)
            (void)usleep(100);
        before = joined(o);
    }
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
}

/* ---- Commits that meet ------------------------------------------------------------------ */

static enum tkv_status count_records(void *context, const struct tkv_group *group,
                                     const uint8_t *payload, struct tkv_error *ret_err)
{
    unsigned *records = context;

    (void)payload;
    (void)ret_err;
    *records += group->count;
    return TKV_OK;
}

static unsigned records_in(struct owner *o)
{
    static uint8_t file[LOG_SIZE_MAX];
    const int64_t size = simdisk_file_read(o->disk, "wal.log", file, sizeof file, 0);
    struct tkv_replay replay = {
        .uuid = uuid,
        .from = {.salt = 77, .position = POSITION, .file_offset = START, .seq_next = 1}
    };
    unsigned records = 0;

    CHECK(size > 0);
    CHECK_OK(tkv_replay_run(&replay, file, (uint64_t)size, count_records, &records, &err));
    return records;
}

TEST(a_group_that_outgrows_its_memory_keeps_what_is_in_it)
{
    struct writer writers[] = {{.size = 100}, {.size = 40000}, {.size = 60000}};
    struct owner *o = begin(true);

    write_in_turn(o, writers, 3);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(o->applied, 2);
    CHECK_EQ(records_in(o), 3); /* with right checksums */
    end(o);
}

TEST(a_group_that_waits_while_the_log_is_poisoned_is_refused_and_not_written)
{
    struct writer writers[] = {{.size = 100}, {.size = 100}, {.size = 100}};
    struct owner *o = begin(true);

    o->poison_when_applied = true;
    write_in_turn(o, writers, 3);
    CHECK_EQ(writers[0].status, TKV_OK);
    CHECK_EQ(writers[1].status, TKV_POISONED);
    CHECK_EQ(writers[2].status, TKV_POISONED);
    CHECK_EQ(o->applied, 1);
    CHECK_EQ(records_in(o), 1);
    end(o);
}

TEST(a_group_takes_no_more_memory_than_the_least_power_of_two)
{
    static const size_t payloads[][2] = {
        {100,   64 },
        {65480, 64 }, /* with its header, all of it */
        {65481, 128},
    };

    for (unsigned i = 0; i < 3; i++) {
        struct owner *o = begin(true);

        CHECK_EQ(commit(o, payloads[i][0] - 27), TKV_OK); /* a record's own bytes */
        CHECK_EQ(o->wal.buffers[0].capacity, payloads[i][1] * 1024);
        end(o);
    }
}

/* What is given back is taken anew for the next group. */
TEST(a_group_of_more_than_four_mebibytes_gives_its_memory_back)
{
    for (int always = 0; always < 2; always++) {
        struct owner *o = begin(always);
        const struct tkv_wal_group_buffer *b = &o->wal.buffers[0];

        CHECK_OK(tkv_wal_grow(&o->wal, LOG_SIZE_MAX, &err));
        CHECK_EQ(commit(o, 100), TKV_OK);
        CHECK_EQ(b->capacity, 64 * 1024);
        o->wal.filling = 0;
        CHECK_EQ(commit(o, 3 * 1024 * 1024), TKV_OK);
        CHECK_EQ(b->capacity, 4 * 1024 * 1024);
        o->wal.filling = 0;
        CHECK_EQ(commit(o, 4 * 1024 * 1024), TKV_OK);
        CHECK_EQ(b->capacity, 0);
        CHECK(b->bytes == NULL);
        o->wal.filling = 0;
        CHECK_EQ(commit(o, 100), TKV_OK);
        CHECK_EQ(b->capacity, 64 * 1024);
        CHECK_EQ(records_in(o), 4);
        end(o);
    }
}

/* ---- Waiting for those who will come ------------------------------------------------------ */

static uint64_t clock_us, turn_us; /* what it says, and how long a turn takes */
static unsigned clock_reads;

static int read_clock(struct tkv_os *os, uint64_t *ret_us)
{
    (void)os;
    clock_reads++;
    *ret_us = clock_us + turns * turn_us;
    return 0;
}

/* Turns that a leader gives away for three writers who were in the last group. */
static unsigned turns_for_three(struct owner *o)
{
    turns = 0;
    o->wal.expected = 4;
    CHECK_OK(commit(o, 100));
    clock_us += turns * turn_us;
    return turns;
}

TEST(a_leader_waits_some_turns_for_writers_of_the_last_group)
{
    struct owner *o = begin(true);

    o->disk->os.monotonic_us = read_clock;
    for (turn_us = 10; turn_us <= 1000; turn_us += 495)
        CHECK_EQ(turns_for_three(o), 8);
    turns = clock_reads = 0;
    CHECK_OK(commit(o, 100)); /* alone in the last group */
    CHECK_EQ(turns, 0);
    CHECK_EQ(clock_reads, 0);
    end(o);
}

/* The last group's writers are those who were in it and those who came meanwhile. */
static unsigned turns_of_the_second_group(unsigned count)
{
    struct writer writers[7];
    struct owner *o = begin(true);

    for (unsigned i = 0; i < count; i++)
        writers[i].size = 1000;
    turns = 0;
    write_in_turn(o, writers, count);
    CHECK_EQ(o->applied, 2);
    end(o);
    return turns;
}

TEST(a_leader_waits_for_one_who_is_missing_among_few_and_not_among_many)
{
    CHECK_EQ(turns_of_the_second_group(3), 8); /* two have come */
    CHECK_EQ(turns_of_the_second_group(5), 8); /* four have */
    CHECK_EQ(turns_of_the_second_group(6), 0); /* a sixth is missing, and not more */
    CHECK_EQ(turns_of_the_second_group(7), 0); /* six have */
}

TEST(a_leader_whose_turn_took_long_waits_for_nobody_for_a_while)
{
    struct owner *o = begin(true);

    o->disk->os.monotonic_us = read_clock;
    turn_us = 4000;
    CHECK_EQ(turns_for_three(o), 1);
    CHECK_EQ(turns_for_three(o), 0);
    clock_us += 199000;
    CHECK_EQ(turns_for_three(o), 0);
    clock_us += 1000;
    turn_us = 10;
    CHECK_EQ(turns_for_three(o), 8);
    end(o);
}

TEST(a_signal_does_not_end_the_wait_for_a_group)
{
    struct writer writers[] = {{.size = 100}, {.size = 100}};
    struct owner *o = begin(true);

    atomic_store(&interruptions, 5);
    write_in_turn(o, writers, 2);
    CHECK_EQ(atomic_load(&interruptions), 0);
    CHECK_EQ(writers[1].status, TKV_OK);
    CHECK_EQ(records_in(o), 2);
    end(o);
}

/* ---- Syncs and growth ------------------------------------------------------------------- */

static int sync_during_checkpoint(struct tkv_os *os, int fd)
{
    struct owner *o = &owner;
    struct tkv_ring_place head;

    CHECK_EQ(commit(o, 100), TKV_OK); /* another writer */
    tkv_mutex_lock(o->wal.lock);
    head = o->wal.ring.head;
    tkv_mutex_unlock(o->wal.lock);
    tkv_wal_release(&o->wal, &head);
    return o->real.sync(os, fd);
}

TEST(a_checkpoint_that_overtakes_a_sync_leaves_what_it_knows_as_durable)
{
    struct owner *o = begin(false);
    struct tkv_wal_state state;

    CHECK_EQ(commit(o, 100), TKV_OK);
    o->disk->os.sync = sync_during_checkpoint;
    CHECK_OK(tkv_wal_sync(&o->wal, &err));
    tkv_wal_state(&o->wal, &state);
    CHECK_EQ(state.durable, state.head_position); /* not back to where the sync began */
    end(o);
}

TEST(a_growth_whose_first_write_fails_ends_there)
{
    struct owner *o = begin(true);
    struct tkv_wal_state state;

    o->disk->fail_kinds = SIMDISK_WRITE;
    o->disk->fail_count = 0;
    o->disk->fail_errno = ENOSPC;
    o->disk->fail_at = 1;
    CHECK_EQ(tkv_wal_grow(&o->wal, 4 * 1024 * 1024, &err), TKV_NO_SPACE);
    CHECK_EQ(o->disk->fail_count, 1);
    CHECK_EQ(simdisk_file_size(o->disk, "wal.log"), RING_END);
    tkv_wal_state(&o->wal, &state);
    CHECK_EQ(state.end, RING_END);
    end(o);
}

/* ---- Where a log ends ------------------------------------------------------------------- */

/* The whole ring is one group. */
static size_t fill_ring(struct owner *o, uint8_t *file, size_t capacity)
{
    int64_t size;

    CHECK_EQ(commit(o, (size_t)(RING_END - START) - 100), TKV_OK);
    size = simdisk_file_read(o->disk, "wal.log", file, capacity, 0);
    CHECK_EQ(size, RING_END);
    return (size_t)size;
}

TEST(damage_behind_a_group_that_ends_with_the_file_is_placed_at_the_rings_start)
{
    static uint8_t file[RING_END];
    struct owner *o = begin(true);
    struct tkv_replay replay = {
        .uuid = uuid,
        .from = {.salt = 77, .position = POSITION, .file_offset = START, .seq_next = 1},
        .durable_mark = POSITION + RING_END,
    };
    unsigned records = 0;
    const size_t size = fill_ring(o, file, sizeof file);

    CHECK_EQ(tkv_replay_run(&replay, file, size, count_records, &records, &err),
             TKV_CORRUPT);
    CHECK_EQ(records, 1);
    CHECK_EQ(replay.file_offset, RING_END);
    CHECK_EQ(err.offset, START);
    end(o);
}

TEST(a_checkpoint_behind_the_end_of_the_file_is_refused)
{
    static uint8_t file[RING_END];
    struct tkv_replay replay = {
        .uuid = uuid,
        .from = {.salt = 77,
                 .position = POSITION,
                 .file_offset = RING_END + 8,
                 .seq_next = 9},
    };

    CHECK_EQ(tkv_replay_run(&replay, file, sizeof file, NULL, NULL, &err), TKV_CORRUPT);
    CHECK(strstr(err.message, "beyond the file's end") != NULL);
    CHECK_EQ(err.offset, RING_END);
    CHECK_EQ(err.seq, 9);
    CHECK_EQ(replay.position, POSITION);
    CHECK_EQ(replay.position_seen, POSITION);
    CHECK_EQ(replay.file_offset, RING_END + 8);
    CHECK_EQ(replay.seq_next, 9);
}

/* ---- A poisoned log, and numbers at their end ------------------------------------------- */

TEST(a_poisoned_log_takes_no_header)
{
    struct owner *o = begin(true);
    struct tkv_wal_header header;
    uint64_t writes;

    memset(&header, 0, sizeof header);
    tkv_wal_poison(&o->wal, TKV_IO);
    writes = o->disk->calls;
    CHECK_EQ(tkv_wal_write_header(&o->wal, &header, &err), TKV_POISONED);
    CHECK_EQ(o->disk->calls, writes);
    end(o);
}
