/* SPDX-License-Identifier: MIT */
/*
 * The log as a writer sees it: what a commit promises in each mode, who leads and who follows,
 * and what every failure leaves behind.
 *
 * Method: a log on the simulated disk with an owner that only takes notes. What was written is
 * read back group by group. Where threads matter, the leader is held in prepare() until the
 * others have joined. Whoever unlocks must have locked (held_locks.h).
 */
#include "bytes.h"
#include "error.h"
#include "held_locks.h"
#include "record.h"
#include "simdisk.h"
#include "test.h"
#include "wal.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

TEST_MAIN

#define START    TKV_WAL_RING_START
#define BLOCK    TKV_BLOCK_SIZE
#define POSITION (100 * (uint64_t)BLOCK)
#define BLOCKS   16u
#define MIB      (UINT64_C(1) << 20)

static struct tkv_error err;
static bool memory_is_gone;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

/* Memory is not zero when it is new. */
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *bytes = memory_is_gone ? NULL : __real_aligned_alloc(alignment, size);

    return bytes == NULL ? NULL : memset(bytes, 0xa5, size);
}

/* The disk's own memory is small. */
void *__wrap_calloc(size_t count, size_t size)
{
    return memory_is_gone && size >= BLOCK ? NULL : __real_calloc(count, size);
}

/* ---- A log and its owner ---------------------------------------------------------------- */

struct owner {
    struct tkv_wal wal;
    struct simdisk *disk;
    int dir;

    enum tkv_status refuse_prepare, refuse_room;
    bool release_in_room, poison_in_room;
    unsigned hold_until;  /* writers waiting in the next group */
    unsigned full_groups; /* so many prepare()s wait for the next group to be full ... */
    unsigned full;        /* ... with so many */
    unsigned fail_group;  /* this prepare() makes the write fail; 0: none */

    atomic_bool is_prepared; /* and not applied */
    atomic_uint prepared;
    unsigned applied, rooms;
    pthread_t leaders[8]; /* who applied the first groups */
    size_t prepared_size;
    uint64_t room_extent;
    struct tkv_wal_applied last;
};

static enum tkv_status prepare(void *context, size_t size, struct tkv_error *ret_err)
{
    struct owner *o = context;
    unsigned waiting = 0;

    o->is_prepared = o->refuse_prepare == TKV_OK;
    o->prepared++;
    o->prepared_size = size;
    while (o->hold_until > 0 && waiting < o->hold_until) {
        tkv_mutex_lock(o->wal.lock);
        waiting = o->wal.buffers[o->wal.filling].count + o->wal.waiting_to_join;
        tkv_mutex_unlock(o->wal.lock);
        (void)usleep(100);
    }
    o->hold_until = 0;
    for (waiting = 0; o->prepared <= o->full_groups && waiting < o->full; usleep(100)) {
        tkv_mutex_lock(o->wal.lock);
        waiting = o->wal.buffers[o->wal.filling].count;
        tkv_mutex_unlock(o->wal.lock);
    }
    if (o->prepared == o->fail_group) {
        o->disk->fail_kinds = SIMDISK_WRITE;
        o->disk->fail_count = 0;
        o->disk->fail_errno = EIO;
        o->disk->fail_at = 1;
    }
    return o->refuse_prepare != TKV_OK ? tkv_fail(ret_err, o->refuse_prepare, "refused")
                                       : TKV_OK;
}

/* Each write's records, one after another, with their numbers. */
static void check_writes(const struct tkv_wal_applied *group)
{
    uint64_t seq = group->seq_first;
    size_t at = 0;

    for (const struct tkv_wal_write *w = group->writes; w != NULL; w = w->next) {
        CHECK_EQ(w->payload_offset, at);
        for (size_t i = 0; i < w->count; i++) {
            struct tkv_record record;

            CHECK_EQ(tkv_record_decode(tkv_bytes(group->payload + at + w->items[i].offset,
                                                 w->size - w->items[i].offset),
                                       &record),
                     TKV_RECORD_GOOD);
            CHECK_EQ(record.seq, seq++);
        }
        at += w->size;
    }
    CHECK_EQ(at, group->payload_size);
    CHECK_EQ(seq, group->seq_next);
}

static void apply(void *context, const struct tkv_wal_applied *group)
{
    struct owner *o = context;

    CHECK(o->is_prepared);
    CHECK_EQ(group->payload_size, o->prepared_size);
    o->is_prepared = false;
    check_writes(group);
    if (o->applied < 8)
        o->leaders[o->applied] = pthread_self();
    o->applied++;
    o->last = *group;
}

static enum tkv_status make_room(void *context, uint64_t extent, struct tkv_error *ret_err)
{
    struct owner *o = context;

    o->rooms++;
    o->room_extent = extent;
    if (o->release_in_room)
        tkv_wal_release(&o->wal, &o->wal.ring.head);
    if (o->poison_in_room)
        tkv_wal_poison(&o->wal, TKV_IO);
    return o->refuse_room != TKV_OK ? tkv_fail(ret_err, o->refuse_room, "no room") : TKV_OK;
}

static const uint8_t uuid[16] = "the uuid of it.";

static struct tkv_wal_header header_with(uint64_t generation)
{
    static struct tkv_wal_header h;

    memset(&h, 0, sizeof h);
    memcpy(h.uuid, uuid, sizeof h.uuid);
    h.checkpoint = (struct tkv_checkpoint){.generation = generation,
                                           .salt = 77,
                                           .position = POSITION,
                                           .file_offset = START,
                                           .seq_next = 1};
    h.ring_end = START + BLOCKS * BLOCK;
    return h;
}

static enum tkv_status open_log(struct owner *o, bool always, uint64_t size_max)
{
    struct tkv_wal_config config = {
        .os = &o->disk->os,
        .dir = o->dir,
        .always = always,
        .size_max = size_max,
        .owner = {o, prepare, apply, make_room, NULL},
        .salt = 77,
        .seq_next = 10,
        .position = POSITION,
        .ring_end = START + BLOCKS * BLOCK,
    };

    memcpy(config.uuid, uuid, sizeof config.uuid);
    memset(&o->wal, 0xee, sizeof o->wal); /* whatever was there */
    return tkv_wal_open(&o->wal, &config, &err);
}

static void make_disk(struct owner *o)
{
    const struct tkv_wal_header header = header_with(1);

    memset(o, 0, sizeof *o);
    o->disk = simdisk_new(5);
    o->dir = o->disk->os.open_dir(&o->disk->os, "", false);
    CHECK(o->dir >= 0);
    CHECK_OK(tkv_wal_create(&o->disk->os, o->dir, &header, &err));
    CHECK_EQ(o->disk->os.sync_dir(&o->disk->os, o->dir), 0);
}

static void begin(struct owner *o, bool always)
{
    make_disk(o);
    CHECK_OK(open_log(o, always, START + 2 * BLOCKS * BLOCK));
}

static void end(struct owner *o)
{
    tkv_wal_close(&o->wal);
    CHECK_EQ(o->disk->os.close(&o->disk->os, o->dir), 0);
    CHECK_EQ(simdisk_open_count(o->disk), 0);
    simdisk_free(o->disk);
}

/* ---- Committing and reading back -------------------------------------------------------- */

struct write {
    struct tkv_wal_write w;
    struct tkv_wal_item items[4];
    uint8_t *bytes;
};

/* `count` records, each with a value of `size` bytes. */
static void make_write(struct write *write, unsigned count, size_t size)
{
    uint8_t *value = calloc(1, size + 1);

    memset(write, 0, sizeof *write);
    write->bytes = malloc(count * (size + 64));
    CHECK(value != NULL && write->bytes != NULL && count <= 4);
    write->w.bytes = write->bytes;
    write->w.items = write->items;
    write->w.count = count;
    for (unsigned i = 0; i < count; i++) {
        const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                          .key = tkv_text("key"),
                                          .value = tkv_bytes(value, size)};

        write->items[i].offset = write->w.size;
        write->items[i].body_sum = tkv_record_encode(&record, write->bytes + write->w.size);
        write->w.size += tkv_record_size(&record);
    }
    free(value);
}

static enum tkv_status commit(struct owner *o, unsigned count, size_t size)
{
    struct write write;
    enum tkv_status status;

    make_write(&write, count, size);
    status = tkv_wal_commit(&o->wal, &write.w, &err);
    free(write.bytes);
    return status;
}

/* The group at `offset` as it is on the disk, or as the file shows it. */
static bool read_group(const struct simdisk *disk, uint64_t offset, struct tkv_group *ret)
{
    static uint8_t bytes[2 * BLOCKS * BLOCK];
    const uint32_t seed = tkv_group_seed(uuid, offset);
    uint32_t chain;

    if (simdisk_file_read(disk, "wal.log", bytes, sizeof bytes, offset) < 64)
        return false;
    return tkv_group_decode_header(bytes, seed, ret) && ret->payload_size < sizeof bytes &&
           tkv_group_check_payload(ret, bytes, bytes + TKV_GROUP_HEADER_SIZE, seed, &chain);
}

static bool is_on_disk(const struct owner *o, uint64_t offset)
{
    struct simdisk *after =
        simdisk_survivor(o->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    struct tkv_group group;
    const bool found = read_group(after, offset, &group);

    simdisk_free(after);
    return found;
}

static struct tkv_wal_state state_of(struct owner *o)
{
    struct tkv_wal_state state;

    memset(&state, 0xee, sizeof state); /* every field is filled in */
    tkv_wal_state(&o->wal, &state);
    return state;
}

TEST(a_new_log_is_zeros_behind_two_headers_and_on_disk)
{
    static uint8_t bytes[START + BLOCKS * BLOCK];
    const struct tkv_wal_header header = header_with(1);
    uint8_t block[BLOCK];
    struct simdisk *after;
    struct owner o;

    make_disk(&o);
    after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    CHECK_EQ(simdisk_file_size(after, "wal.log"), sizeof bytes);
    CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0), sizeof bytes);
    tkv_wal_header_encode(&header, block);
    CHECK(memcmp(bytes, block, BLOCK) == 0);
    CHECK(memcmp(bytes + BLOCK, block, BLOCK) == 0);
    CHECK(tkv_is_zero(bytes + START, sizeof bytes - START));
    simdisk_free(after);
    end(&o);
}

TEST(a_log_is_made_of_zeros_first_and_synced_last)
{
    const struct tkv_wal_header header = header_with(1);
    struct owner o;

    make_disk(&o);
    simdisk_trace(o.disk);
    CHECK_OK(tkv_wal_create(&o.disk->os, o.dir, &header, &err));
    CHECK_STR(o.disk->trace, "truncate wal.log 0\n"
                             "write wal.log 0 73728\n"
                             "write wal.log 0 4096\n"
                             "write wal.log 4096 4096\n"
                             "sync wal.log\n");
    end(&o);
}

/* An empty ring takes any group of a quarter of it. */
TEST(a_group_grows_to_a_quarter_of_the_log_but_not_beyond_a_mebibyte)
{
    static const uint64_t sizes[][2] = {
        {START + BLOCKS * BLOCK, (START + BLOCKS * BLOCK) / 4},
        {4 * MIB - BLOCK,        MIB - BLOCK / 4             },
        {4 * MIB,                MIB                         },
        {4 * MIB + BLOCK,        MIB                         },
        {64 * MIB,               MIB                         },
    };

    for (unsigned i = 0; i < 5; i++) {
        struct owner o;

        make_disk(&o);
        CHECK_OK(open_log(&o, true, sizes[i][0]));
        CHECK_EQ(o.wal.group_size_max, sizes[i][1]);
        end(&o);
    }
}

TEST(a_log_that_cannot_be_made_or_opened_leaves_nothing_open)
{
    const struct tkv_wal_header header = header_with(1);

    for (int opening = 0; opening < 2; opening++) {
        unsigned failures = 0;

        for (uint64_t at = 1; at < 20; at++) {
            enum tkv_status status;
            struct owner o;

            make_disk(&o);
            o.disk->fail_kinds = SIMDISK_OPEN | SIMDISK_WRITE | SIMDISK_SYNC;
            o.disk->fail_count = 0;
            o.disk->fail_errno = EIO;
            o.disk->fail_at = at;
            memset(&err, 0, sizeof err);
            status = opening ? open_log(&o, true, START + BLOCKS * BLOCK)
                             : tkv_wal_create(&o.disk->os, o.dir, &header, &err);
            CHECK_EQ(status != TKV_OK, o.disk->faults > 0);
            if (status != TKV_OK) {
                CHECK_STR(err.file, "wal.log");
                CHECK_EQ(err.os_errno, EIO);
                CHECK_EQ(simdisk_open_count(o.disk), 1); /* the directory */
                CHECK(tkv_is_zero((const uint8_t *)&o.wal, sizeof o.wal));
                failures++;
            }
            o.disk->fail_at = 0;
            end(&o);
        }
        CHECK_EQ(failures, opening ? 2 : 5); /* open twice; open, zeros, 2 headers, sync */
    }
}

TEST(the_first_write_of_a_new_log_that_fails_is_the_last)
{
    const struct tkv_wal_header header = header_with(1);

    for (uint64_t at = 1; at <= 3; at++) { /* zeros, two headers */
        struct owner o;

        make_disk(&o);
        o.disk->fail_kinds = SIMDISK_WRITE;
        o.disk->fail_count = 0;
        o.disk->fail_errno = ENOSPC;
        o.disk->fail_at = at;
        CHECK_EQ(tkv_wal_create(&o.disk->os, o.dir, &header, &err), TKV_NO_SPACE);
        CHECK_EQ(o.disk->fail_count, at);
        end(&o);
    }
}

/* ---- Mode ALWAYS ------------------------------------------------------------------------ */

TEST(what_a_write_held_before_makes_no_difference)
{
    static struct tkv_wal_write stale;
    struct write write;
    struct owner o;

    begin(&o, true);
    make_write(&write, 1, 100);
    stale.status = TKV_BUSY;
    write.w.next = &stale;
    write.w.status = TKV_IO;
    write.w.done = true;
    write.w.payload_offset = 4711;
    CHECK_OK(tkv_wal_commit(&o.wal, &write.w, &err));
    CHECK_EQ(write.w.status, TKV_OK);
    CHECK_EQ(stale.status, TKV_BUSY); /* no part of the group */
    free(write.bytes);
    end(&o);
}

TEST(a_durable_commit_is_one_write_of_whole_blocks_and_on_disk)
{
    struct tkv_group group;
    struct tkv_wal_state s;
    struct owner o;

    begin(&o, true);
    simdisk_trace(o.disk);
    CHECK_OK(commit(&o, 2, 100));
    CHECK_STR(o.disk->trace, "write-sync wal.log 8192 4096\n");
    CHECK(is_on_disk(&o, START));
    CHECK(read_group(o.disk, START, &group));
    CHECK_EQ(group.salt, 77);
    CHECK_EQ(group.position, POSITION);
    CHECK_EQ(group.durable, POSITION);
    CHECK_EQ(group.seq, 10);
    CHECK_EQ(group.count, 2);
    CHECK_EQ(group.chain, 0);
    CHECK(group.ends_at_block);
    CHECK_EQ(o.prepared_size, 254);
    CHECK_EQ(o.last.payload_size, 254);
    CHECK_EQ(o.last.seq_first, 10);
    CHECK_EQ(o.last.seq_next, 12);
    CHECK_EQ(o.last.end.position, POSITION + BLOCK);
    CHECK_EQ(o.last.chain, o.wal.chain);

    CHECK_OK(commit(&o, 1, 5000));
    CHECK(read_group(o.disk, START + BLOCK, &group));
    CHECK_EQ(group.position, POSITION + BLOCK);
    CHECK_EQ(group.durable, POSITION + BLOCK);
    CHECK_EQ(group.seq, 12);
    CHECK(group.chain != 0);
    s = state_of(&o);
    CHECK_EQ(s.used, 3 * BLOCK);
    CHECK_EQ(s.capacity, BLOCKS * BLOCK);
    CHECK_EQ(s.end, START + BLOCKS * BLOCK);
    CHECK_EQ(s.head_position, POSITION + 3 * BLOCK);
    CHECK_EQ(s.durable, POSITION + 3 * BLOCK);
    CHECK_EQ(s.seq_next, 13);
    CHECK_EQ(s.poisoned, TKV_OK);
    CHECK_EQ(s.counters.groups, 2);
    CHECK_EQ(s.counters.records, 3);
    CHECK_EQ(s.counters.records_max, 2);
    CHECK_EQ(s.counters.syncs, 2);
    CHECK_EQ(s.counters.bytes_written, 3 * BLOCK);
    CHECK_EQ(o.applied, 2);
    end(&o);
}

/* Whatever the group before has left in the memory. */
TEST(what_lies_between_the_groups_is_zeros)
{
    static uint8_t bytes[START + BLOCKS * BLOCK];

    for (int always = 0; always < 2; always++) {
        uint64_t at = START;
        struct owner o;

        begin(&o, always);
        for (size_t size = 4000; size > 3900; size -= 33) {
            const size_t used = TKV_GROUP_HEADER_SIZE + 27 + size;

            CHECK_OK(commit(&o, 1, size));
            CHECK_EQ(simdisk_file_read(o.disk, "wal.log", bytes, sizeof bytes, 0),
                     sizeof bytes);
            CHECK(tkv_is_zero(bytes + at + used, sizeof bytes - at - used));
            at = o.wal.ring.head.file_offset;
        }
        end(&o);
    }
}

TEST(a_failed_write_poisons_the_log_and_nothing_is_applied)
{
    struct owner o;

    begin(&o, true);
    o.fail_group = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_IO);
    CHECK_EQ(err.status, TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(o.applied, 0);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
    CHECK_EQ(state_of(&o).poisoned, TKV_IO);
    CHECK_EQ(state_of(&o).head_position, POSITION);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_POISONED);
    CHECK_EQ(o.prepared, 1);
    tkv_wal_poison(&o.wal, TKV_NO_SPACE); /* the first one counts */
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
    end(&o);
}

TEST(an_owner_that_cannot_prepare_refuses_the_group_and_nothing_is_logged)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        o.refuse_prepare = TKV_NO_MEMORY;
        simdisk_trace(o.disk);
        CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY);
        CHECK_STR(o.disk->trace, "");
        CHECK_EQ(o.applied, 0);
        CHECK_EQ(state_of(&o).used, 0);
        o.refuse_prepare = TKV_OK;
        CHECK_OK(commit(&o, 1, 100));
        CHECK_EQ(o.applied, 1);
        CHECK_EQ(o.last.payload_size, 127);
        end(&o);
    }
}

TEST(without_memory_a_write_is_refused_and_uses_no_sequence_number)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        make_disk(&o);
        memory_is_gone = true;
        CHECK_EQ(open_log(&o, always, START + BLOCKS * BLOCK), TKV_NO_MEMORY);
        memory_is_gone = false;
        CHECK_OK(open_log(&o, always, START + BLOCKS * BLOCK));
        memory_is_gone = true;
        CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY);
        memory_is_gone = false;
        CHECK_EQ(o.applied, 0);
        CHECK_EQ(state_of(&o).seq_next, 10);
        CHECK_OK(commit(&o, 1, 100));
        CHECK_OK(commit(&o, 1, 100)); /* there are two buffers */
        CHECK_EQ(o.applied, 2);
        memory_is_gone = true; /* what it has is enough for a small one */
        CHECK_OK(commit(&o, 1, 100));
        memory_is_gone = false;
        CHECK_OK(commit(&o, 1, 40000));
        end(&o);
    }
}

TEST(a_group_that_fills_its_memory_wants_no_more)
{
    for (int always = 0; always < 2; always++) {
        struct write fills, exceeds;
        struct owner o;

        begin(&o, always);
        CHECK_OK(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err));
        CHECK_OK(commit(&o, 1, 100));
        CHECK_OK(commit(&o, 1, 100)); /* there are two buffers */
        make_write(&fills, 1, 64 * 1024 - TKV_GROUP_HEADER_SIZE - 27);
        CHECK_EQ(fills.w.size, 64 * 1024 - TKV_GROUP_HEADER_SIZE);
        make_write(&exceeds, 1, 64 * 1024 - TKV_GROUP_HEADER_SIZE - 26);
        memory_is_gone = true;
        CHECK_EQ(tkv_wal_commit(&o.wal, &exceeds.w, &err), TKV_NO_MEMORY);
        CHECK_OK(tkv_wal_commit(&o.wal, &fills.w, &err));
        memory_is_gone = false;
        CHECK_EQ(o.applied, 3);
        free(fills.bytes);
        free(exceeds.bytes);
        end(&o);
    }
}

TEST(without_memory_a_log_is_not_made_and_does_not_grow)
{
    const struct tkv_wal_header header = header_with(1);
    struct owner o;

    begin(&o, true);
    memory_is_gone = true;
    CHECK_EQ(tkv_wal_create(&o.disk->os, o.dir, &header, &err), TKV_NO_MEMORY);
    CHECK_EQ(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err), TKV_NO_MEMORY);
    memory_is_gone = false;
    CHECK_EQ(state_of(&o).end, START + BLOCKS * BLOCK);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    end(&o);
}

TEST(a_full_ring_asks_its_owner_for_room)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;
        unsigned count = 0;

        begin(&o, always);
        o.refuse_room = TKV_NO_SPACE;
        while (commit(&o, 1, 8000) == TKV_OK)
            count++;
        CHECK_EQ(err.status, TKV_NO_SPACE);
        CHECK_EQ(count, always ? BLOCKS / 2 : BLOCKS * BLOCK / 8088);
        CHECK_EQ(o.rooms, 1);
        CHECK_EQ(o.room_extent, always ? 2 * BLOCK : 8088);
        CHECK(!tkv_wal_has_room(&o.wal, always ? BLOCK : 8088));
        CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
        o.refuse_room = TKV_OK;
        o.release_in_room = true;
        CHECK_OK(commit(&o, 1, 8000));
        CHECK_EQ(o.rooms, 2);
        CHECK_EQ(o.last.end.lap, 1);
        CHECK(tkv_wal_has_room(&o.wal, BLOCK));
        CHECK(state_of(&o).wrapped);
        tkv_wal_release(&o.wal, &o.wal.ring.head);
        CHECK(!state_of(&o).wrapped);
        end(&o);
    }
}

TEST(poison_that_comes_while_room_is_made_is_noticed)
{
    struct owner o;

    begin(&o, true);
    while (o.rooms == 0) {
        o.poison_in_room = o.wal.ring.head.file_offset == o.wal.ring.end;
        if (commit(&o, 1, 8000) != TKV_OK)
            break;
    }
    CHECK_EQ(err.status, TKV_POISONED);
    CHECK_EQ(o.rooms, 1);
    end(&o);
}

TEST(sequence_numbers_end_before_they_wrap)
{
    struct owner o;

    begin(&o, true);
    o.wal.seq_next = INT64_MAX - 2;
    CHECK_EQ(commit(&o, 3, 10), TKV_TOO_BIG);
    CHECK_OK(commit(&o, 2, 10));
    CHECK_EQ(commit(&o, 1, 10), TKV_TOO_BIG);
    CHECK_EQ(state_of(&o).seq_next, INT64_MAX);
    end(&o);
}

TEST(without_direct_io_a_write_is_followed_by_a_sync)
{
    struct owner o;

    make_disk(&o);
    o.disk->no_direct_sync = true;
    CHECK_OK(open_log(&o, true, START + BLOCKS * BLOCK));
    simdisk_trace(o.disk);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_STR(o.disk->trace, "write wal.log 8192 4096\nsync wal.log\n");
    o.disk->fail_kinds = SIMDISK_SYNC;
    o.disk->fail_count = 0;
    o.disk->fail_errno = EIO;
    o.disk->fail_at = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_IO);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    end(&o);
}

/* ---- Leaders and followers -------------------------------------------------------------- */

struct writer {
    struct owner *owner;
    size_t value_size;
    pthread_t thread;
    enum tkv_status status;
};

static void *write_one(void *argument)
{
    struct writer *w = argument;
    struct tkv_error own = {.status = TKV_BUSY};
    struct write write;

    make_write(&write, 1, w->value_size);
    write.w.done = true; /* whatever was there */
    write.w.payload_offset = 4711;
    memset(&write.w.woken, 0xee, sizeof write.w.woken);
    w->status = tkv_wal_commit(&w->owner->wal, &write.w, &own);
    CHECK_EQ(own.status, w->status == TKV_OK ? TKV_BUSY : w->status);
    CHECK_EQ(own.message[0] != 0, w->status != TKV_OK);
    free(write.bytes);
    return NULL;
}

/* The first leads and is held until the others wait. */
static void write_together(struct owner *o, struct writer *writers, unsigned count,
                           size_t value_size)
{
    o->hold_until = count - 1;
    for (unsigned i = 0; i < count; i++) {
        const unsigned prepared = o->prepared;

        writers[i].owner = o;
        writers[i].value_size = value_size;
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_one, &writers[i]), 0);
        while (i == 0 && o->prepared == prepared)
            (void)usleep(100);
    }
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
}

/* A few are left to the first of them, many are led by who led before. */
static void share_the_next_group(unsigned count)
{
    struct writer writers[40];
    struct owner o;

    begin(&o, true);
    write_together(&o, writers, count, 100);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(o.applied, 2);
    CHECK_EQ(state_of(&o).counters.records_max, count - 1);
    CHECK_EQ(state_of(&o).counters.records, count);
    CHECK_EQ(state_of(&o).seq_next, 10 + count);
    CHECK(!o.wal.leader_active);
    CHECK_OK(commit(&o, 1, 10));
    end(&o);
}

TEST(writers_who_wait_share_the_next_group)
{
    share_the_next_group(2);
    share_the_next_group(12);
    share_the_next_group(40);
}

/* One writer alone, then four groups of so many. Its own write was in the first. */
static void lead_five_groups(unsigned size, unsigned led)
{
    struct writer writers[1 + 4 * 32];
    const unsigned count = 1 + 4 * size;
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = size * 127; /* exactly */
    o.full = size;
    o.full_groups = 4;
    write_together(&o, writers, count, 100);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(o.applied, 5);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(pthread_equal(o.leaders[i], writers[0].thread) != 0, i < led);
    CHECK_EQ(state_of(&o).counters.records_max, size);
    CHECK(!o.wal.leader_active);
    end(&o);
}

TEST(a_leader_among_many_leads_four_groups_and_then_hands_over)
{
    lead_five_groups(32, 4);
}

TEST(a_leader_among_few_leads_its_own_group_only)
{
    lead_five_groups(31, 1);
    lead_five_groups(6, 1);
}

TEST(writers_who_do_not_fit_together_are_served_group_by_group)
{
    struct writer writers[14];
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = 2 * 1027; /* two of them, exactly */
    o.release_in_room = true;
    write_together(&o, writers, 14, 1000);
    for (unsigned i = 0; i < 14; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(state_of(&o).counters.records, 14);
    CHECK_EQ(state_of(&o).counters.records_max, 2);
    CHECK(!o.wal.leader_active);
    CHECK_EQ(o.wal.waiting_to_join, 0);
    end(&o);
}

/* Two wait for a group to join, and there is one number left. */
TEST(a_writer_who_waited_to_join_is_refused_when_the_numbers_have_ended_meanwhile)
{
    struct writer writers[4];
    unsigned refused = 0;
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = 1100; /* one of them */
    o.wal.seq_next = INT64_MAX - 3;
    write_together(&o, writers, 4, 1000);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(writers[i].status == TKV_OK || writers[i].status == TKV_TOO_BIG);
        refused += writers[i].status == TKV_TOO_BIG;
    }
    CHECK_EQ(refused, 1);
    CHECK_EQ(o.applied, 3);
    CHECK_EQ(state_of(&o).seq_next, INT64_MAX);
    end(&o);
}

TEST(when_a_group_fails_every_writer_in_it_is_told)
{
    for (unsigned count = 6; count <= 12; count += 6) {
        struct writer writers[12];
        struct owner o;

        begin(&o, true);
        o.fail_group = 2;
        write_together(&o, writers, count, 1000);
        CHECK_EQ(writers[0].status, TKV_OK);
        for (unsigned i = 1; i < count; i++)
            CHECK_EQ(writers[i].status, TKV_IO);
        CHECK_EQ(o.applied, 1);
        CHECK_EQ(commit(&o, 1, 10), TKV_POISONED);
        end(&o);
    }
}

/* ---- The relaxed modes ------------------------------------------------------------------ */

TEST(a_relaxed_commit_is_in_the_log_at_once_and_on_disk_after_a_sync)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK(o.wal.map != NULL);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_OK(commit(&o, 1, 100));
    CHECK_EQ(o.applied, 2);
    CHECK(read_group(o.disk, START, &group));
    CHECK(!group.ends_at_block);
    CHECK(read_group(o.disk, START + 184, &group));
    CHECK_EQ(group.durable, POSITION);
    CHECK(!is_on_disk(&o, START));
    CHECK_EQ(state_of(&o).durable, POSITION);
    simdisk_trace(o.disk);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK_OK(tkv_wal_sync(&o.wal, &err)); /* there is nothing to do */
    CHECK_STR(o.disk->trace, "sync wal.log\n");
    CHECK(is_on_disk(&o, START) && is_on_disk(&o, START + 184));
    CHECK_EQ(state_of(&o).durable, POSITION + 368);
    CHECK_EQ(state_of(&o).counters.syncs, 1);
    end(&o);
}

TEST(a_commit_into_a_mapped_log_is_no_write)
{
    struct owner o;

    begin(&o, false);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = EIO;
    o.disk->fail_at = 1;
    CHECK_OK(commit(&o, 1, 100));
    CHECK_EQ(o.disk->fail_count, 0);
    end(&o);
}

TEST(after_a_sync_the_next_group_leaves_the_block_alone_and_says_what_is_durable)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK(tkv_wal_has_room(&o.wal, (BLOCKS - 1) * BLOCK));
    CHECK(!tkv_wal_has_room(&o.wal, (BLOCKS - 1) * BLOCK + 8)); /* it begins at a block */
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START + BLOCK, &group));
    CHECK_EQ(group.position, POSITION + BLOCK);
    CHECK_EQ(group.durable, POSITION + 184);
    CHECK_OK(commit(&o, 1, 100)); /* and then they share blocks again */
    CHECK(read_group(o.disk, START + BLOCK + 184, &group));
    end(&o);
}

TEST(a_failed_sync_poisons_the_log)
{
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    o.disk->fail_kinds = SIMDISK_SYNC;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOSPC; /* whatever it says, nobody knows what is on disk */
    o.disk->fail_at = 1;
    memset(&err, 0, sizeof err);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_IO);
    CHECK_EQ(err.os_errno, ENOSPC);
    CHECK_EQ(state_of(&o).durable, POSITION);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_POISONED);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    CHECK_EQ(o.applied, 1);
    end(&o);
}

/* What it returns then means nothing. */
static int fail_to_map(struct tkv_os *os, int fd, size_t size, bool writable,
                       void **ret_address)
{
    (void)fd;
    (void)size;
    (void)writable;
    *ret_address = os;
    return -ENOMEM;
}

TEST(without_a_mapping_a_failed_write_is_as_if_it_had_not_been)
{
    struct tkv_group group;
    struct owner o;

    make_disk(&o);
    o.disk->os.map = fail_to_map;
    CHECK_OK(open_log(&o, false, START + BLOCKS * BLOCK));
    CHECK(o.wal.map == NULL);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOMEM;
    o.disk->fail_at = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY); /* as the errno says */
    CHECK_EQ(o.applied, 0);
    CHECK_EQ(state_of(&o).head_position, POSITION);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START, &group));
    CHECK_EQ(group.seq, 11);
    CHECK_EQ(o.applied, 1);
    end(&o);
}

/* ---- Headers, growth, release ----------------------------------------------------------- */

TEST(a_header_goes_to_the_block_of_its_generation_with_what_the_log_knows)
{
    for (uint64_t generation = 4; generation < 6; generation++) {
        struct tkv_wal_header header = header_with(generation), back;
        uint8_t block[BLOCK];
        struct simdisk *after;
        struct owner o;

        begin(&o, true);
        CHECK_OK(commit(&o, 1, 100));
        header.ring_end = header.durable_mark = 4711; /* the log knows better */
        CHECK_OK(tkv_wal_write_header(&o.wal, &header, &err));
        CHECK_EQ(header.durable_mark, POSITION + BLOCK);
        CHECK_EQ(header.ring_end, START + BLOCKS * BLOCK);
        after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
        for (uint64_t i = 0; i < 2; i++) {
            CHECK(simdisk_file_read(after, "wal.log", block, BLOCK, i * BLOCK) == BLOCK);
            CHECK_OK(tkv_wal_header_decode(block, i * BLOCK, &back, &err));
            CHECK_EQ(back.checkpoint.generation, generation % 2 == i ? generation : 1);
        }
        simdisk_free(after);
        CHECK_EQ(state_of(&o).counters.syncs, 2);
        CHECK_EQ(state_of(&o).counters.bytes_written, 2 * BLOCK);
        end(&o);
    }
}

TEST(a_header_that_cannot_be_written_poisons_the_log)
{
    struct tkv_wal_header header = header_with(2);
    struct owner o;

    begin(&o, true);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOSPC;
    o.disk->fail_at = 1;
    memset(&err, 0, sizeof err);
    CHECK_EQ(tkv_wal_write_header(&o.wal, &header, &err), TKV_IO);
    CHECK_EQ(err.os_errno, ENOSPC);
    CHECK_EQ(tkv_wal_write_header(&o.wal, &header, &err), TKV_POISONED);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    end(&o);
}

TEST(what_a_checkpoint_released_counts_as_durable)
{
    struct owner o;
    struct tkv_ring_place first;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    first = o.wal.ring.head;
    CHECK_OK(commit(&o, 1, 100));
    tkv_wal_release(&o.wal, &first);
    CHECK_EQ(state_of(&o).durable, POSITION + 184);
    CHECK_EQ(state_of(&o).used, 184);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    tkv_wal_release(&o.wal, &first); /* what is known is not forgotten */
    CHECK_EQ(state_of(&o).durable, POSITION + 368);
    end(&o);
}

TEST(a_sync_with_nothing_to_do_lets_the_next_group_follow_at_once)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    tkv_wal_release(&o.wal, &o.wal.ring.head);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK_EQ(state_of(&o).counters.syncs, 0);
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START + 184, &group));
    CHECK_EQ(group.seq, 11);
    end(&o);
}

TEST(a_log_grows_by_zeros_that_are_on_disk)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    static uint8_t bytes[START + 2 * BLOCKS * BLOCK];
    struct simdisk *after;
    struct owner o;

    begin(&o, true);
    CHECK_OK(tkv_wal_grow(&o.wal, before + BLOCK + 1, &err));
    CHECK_EQ(state_of(&o).end, before + 2 * BLOCK);
    CHECK_EQ(state_of(&o).counters.syncs, 1);
    after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0),
             before + 2 * BLOCK);
    CHECK(tkv_is_zero(bytes + START, before + 2 * BLOCK - START));
    simdisk_free(after);
    CHECK_OK(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err)); /* to its cap */
    end(&o);
}

TEST(a_log_grows_by_as_much_as_it_is_told)
{
    static uint8_t bytes[5 * MIB];
    uint64_t ends[] = {START + BLOCKS * BLOCK + 5 * MIB / 2, 0, 0};

    ends[1] = ends[0] + BLOCK;
    ends[2] = ends[1] + MIB;
    for (int direct = 0; direct < 2; direct++) {
        struct simdisk *after;
        struct owner o;

        make_disk(&o);
        o.disk->no_direct_sync = !direct;
        CHECK_OK(open_log(&o, true, 8 * MIB));
        for (int i = 0; i < 3; i++) {
            CHECK_OK(tkv_wal_grow(&o.wal, ends[i], &err));
            CHECK_EQ(simdisk_file_size(o.disk, "wal.log"), ends[i]);
        }
        after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
        CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0), ends[2]);
        CHECK(tkv_is_zero(bytes + START, ends[2] - START));
        simdisk_free(after);
        end(&o);
    }
}

static struct tkv_os real_os;
static uint64_t read_from, read_to; /* one read after another */
static unsigned reads;

static int64_t note_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    reads++;
    CHECK(size > 0 && size <= MIB);
    CHECK_EQ(offset, reads == 1 ? read_from : read_to);
    read_to = offset + size;
    return real_os.read(os, fd, buffer, size, offset);
}

/* Else the first store into each of its pages would wait for the device. */
TEST(what_a_mapped_log_grew_by_is_in_the_cache)
{
    const uint64_t before = START + BLOCKS * BLOCK;

    for (int mapped = 0; mapped < 2; mapped++) {
        struct owner o;

        make_disk(&o);
        CHECK_OK(open_log(&o, !mapped, 8 * MIB));
        CHECK_EQ(o.wal.map != NULL, mapped);
        real_os = o.disk->os;
        o.disk->os.read = note_read;
        reads = 0;
        read_from = before;
        CHECK_OK(tkv_wal_grow(&o.wal, before + 2 * MIB, &err));
        CHECK_EQ(reads, mapped ? 2 : 0);
        CHECK_EQ(read_to, mapped ? before + 2 * MIB : 0);
        reads = 0;
        read_from = read_to;
        CHECK_OK(tkv_wal_grow(&o.wal, before + 2 * MIB + BLOCK, &err));
        CHECK_EQ(reads, mapped);
        CHECK_EQ(read_to, mapped ? before + 2 * MIB + BLOCK : 0);
        o.disk->os.read = real_os.read;
        end(&o);
    }
}

static void refuse_growth(bool direct, int error, enum tkv_status expected)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    struct owner o;

    make_disk(&o);
    o.disk->no_direct_sync = !direct;
    CHECK_OK(open_log(&o, true, START + 2 * BLOCKS * BLOCK));
    o.disk->io_size_max = 5000; /* a part is written before it fails */
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = error;
    o.disk->fail_at = 2;
    CHECK_EQ(tkv_wal_grow(&o.wal, before + 8 * BLOCK, &err), expected);
    CHECK_EQ(state_of(&o).end, before);
    CHECK_EQ(simdisk_file_size(o.disk, "wal.log"), before);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    end(&o);
}

TEST(a_log_that_cannot_grow_stays_as_it_is)
{
    for (int direct = 0; direct < 2; direct++) {
        refuse_growth(direct, ENOSPC, TKV_NO_SPACE);
        refuse_growth(direct, EDQUOT, TKV_NO_SPACE);
        refuse_growth(direct, EFBIG, TKV_IO);
        refuse_growth(direct, ENOMEM, TKV_NO_MEMORY);
    }
    refuse_growth(false, EIO, TKV_IO); /* written, not synced: nothing was said of it */
}

TEST(a_growth_whose_fate_is_unknown_poisons_the_log)
{
    const uint64_t before = START + BLOCKS * BLOCK;

    for (int direct = 0; direct < 2; direct++) {
        struct owner o;

        make_disk(&o);
        o.disk->no_direct_sync = !direct;
        CHECK_OK(open_log(&o, true, START + 2 * BLOCKS * BLOCK));
        o.disk->fail_kinds = direct ? SIMDISK_WRITE : SIMDISK_SYNC;
        o.disk->fail_count = 0;
        o.disk->fail_errno = EIO;
        o.disk->fail_at = 1;
        CHECK_EQ(tkv_wal_grow(&o.wal, before + 8 * BLOCK, &err), TKV_IO);
        CHECK_EQ(state_of(&o).end, before);
        CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
        end(&o);
    }
}

/* Another thread of the parent held the lock, and closing is left to the parent. */
TEST(the_locks_of_an_abandoned_log_are_left_as_they_are)
{
    static struct tkv_wal abandoned;
    struct owner o;

    begin(&o, true);
    tkv_mutex_lock(o.wal.lock);
    tkv_wal_abandon(&o.wal);
    memcpy(&abandoned, &o.wal, sizeof abandoned);
    tkv_wal_close(&o.wal);
    CHECK(memcmp(&o.wal, &abandoned, sizeof abandoned) == 0);
    tkv_mutex_unlock(o.wal.lock);
    end(&o);
}

TEST(a_closed_log_is_as_if_zeroed_and_may_be_closed_again)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        CHECK_OK(commit(&o, 1, 100));
        tkv_wal_close(&o.wal);
        CHECK(tkv_is_zero((const uint8_t *)&o.wal, sizeof o.wal));
        CHECK_EQ(simdisk_open_count(o.disk), 1); /* the directory */
        end(&o);
    }
}

TEST(an_abandoned_log_closes_what_it_has_open)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        CHECK_OK(commit(&o, 1, 100));
        tkv_wal_abandon(&o.wal);
        tkv_wal_abandon(&o.wal);
        end(&o);
    }
}
