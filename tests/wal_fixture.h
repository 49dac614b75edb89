/* SPDX-License-Identifier: MIT */
/*
 * wal_fixture.h - a log on the simulated disk with an owner that only takes notes, refuses, or
 * holds the leader in prepare() until others have joined; and writes of a few records. Whoever
 * unlocks must have locked (held_locks.h).
 *
 *     struct owner o;
 *
 *     begin(&o, true);
 *     CHECK_OK(commit(&o, 2, 100));
 *     CHECK_EQ(state_of(&o).seq_next, 12);
 *     end(&o);
 */
#ifndef TKV_WAL_FIXTURE_H
#define TKV_WAL_FIXTURE_H

#include "error.h"
#include "held_locks.h"
#include "record.h"
#include "simdisk.h"
#include "test.h"
#include "wal.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#define START    TKV_WAL_RING_START
#define BLOCK    TKV_BLOCK_SIZE
#define POSITION (100 * (uint64_t)BLOCK)
#define BLOCKS   16u
#define MIB      (UINT64_C(1) << 20)

static struct tkv_error err;

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

static inline enum tkv_status prepare(void *context, size_t size, struct tkv_error *ret_err)
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
static inline void check_writes(const struct tkv_wal_applied *group)
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

static inline void apply(void *context, const struct tkv_wal_applied *group)
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

static inline enum tkv_status make_room(void *context, uint64_t extent,
                                        struct tkv_error *ret_err)
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

static inline struct tkv_wal_header header_with(uint64_t generation)
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

static inline enum tkv_status open_log(struct owner *o, bool always, uint64_t size_max)
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

static inline void make_disk(struct owner *o)
{
    const struct tkv_wal_header header = header_with(1);

    memset(o, 0, sizeof *o);
    o->disk = simdisk_new(5);
    o->dir = o->disk->os.open_dir(&o->disk->os, "", false);
    CHECK(o->dir >= 0);
    CHECK_OK(tkv_wal_create(&o->disk->os, o->dir, &header, &err));
    CHECK_EQ(o->disk->os.sync_dir(&o->disk->os, o->dir), 0);
}

static inline void begin(struct owner *o, bool always)
{
    make_disk(o);
    CHECK_OK(open_log(o, always, START + 2 * BLOCKS * BLOCK));
}

static inline void end(struct owner *o)
{
    tkv_wal_close(&o->wal);
    CHECK_EQ(o->disk->os.close(&o->disk->os, o->dir), 0);
    CHECK_EQ(simdisk_open_count(o->disk), 0);
    simdisk_free(o->disk);
}

/* ---- Committing ------------------------------------------------------------------------- */

struct write {
    struct tkv_wal_write w;
    struct tkv_wal_item items[4];
    uint8_t *bytes;
};

/* `count` records, each with a value of `size` bytes. */
static inline void make_write(struct write *write, unsigned count, size_t size)
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

static inline enum tkv_status commit(struct owner *o, unsigned count, size_t size)
{
    struct write write;
    enum tkv_status status;

    make_write(&write, count, size);
    status = tkv_wal_commit(&o->wal, &write.w, &err);
    free(write.bytes);
    return status;
}

static inline struct tkv_wal_state state_of(struct owner *o)
{
    struct tkv_wal_state state;

    memset(&state, 0xee, sizeof state); /* every field is filled in */
    tkv_wal_state(&o->wal, &state);
    return state;
}

#endif
