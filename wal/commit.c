/* SPDX-License-Identifier: MIT */
/*
 * commit.c - how writes get into the log: group commit in mode ALWAYS, and one by one into the
 * mapping in the relaxed modes; wal.h has the life of a commit.
 *
 * Invariant: sequence numbers are given in the order of the log, and groups are applied in
 * that order, each when it is as durable as the mode demands.
 *
 * When something fails, wal.h says what that does to the group and to the log.
 *
 * Threads: any.
 */
#include "wal_private.h"

#include "error.h"
#include "file_name.h"
#include "record.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>

#define BUFFER_SIZE_FIRST (64u * 1024)
#define BUFFER_SIZE_KEPT  (4u * 1024 * 1024)

/* Wait for writers who have just been served while more than a sixth of them is missing, not
 * longer than so many turns of the processor. */
#define GATHER_SHARE 6u
#define GATHER_TURNS 8u

/* A turn that took longer went to somebody with much to do, a compactor say, and while the
 * leader has no processor nobody commits. Then nobody is waited for, for a while. */
#define GATHER_MICROS_MAX   1000u
#define GATHER_MICROS_PAUSE 200000u

/* A leader is missing in the group that it leads for others, and its own caller waits meanwhile.
 * Among so many writers the first is a small share, the second hits few, and both are cheaper
 * than to wake somebody else while the device is idle. */
#define LEAD_WRITERS_MIN 32u
#define LEAD_GROUPS_MAX  4u

/* ---- Filling a group ------------------------------------------------------------- */

static enum tkv_status reserve(struct tkv_wal_group_buffer *b, size_t more,
                               struct tkv_error *err)
{
    const size_t need = (size_t)tkv_round_up(TKV_GROUP_HEADER_SIZE + b->payload_size + more,
                                             TKV_BLOCK_SIZE);
    size_t capacity = b->capacity < BUFFER_SIZE_FIRST ? BUFFER_SIZE_FIRST : b->capacity;
    uint8_t *bytes;

    if (need <= b->capacity)
        return TKV_OK;
    while (capacity < need)
        capacity *= 2;
    bytes = aligned_alloc(TKV_BLOCK_SIZE, capacity);
    if (bytes == NULL)
        return tkv_fail_memory(err, capacity, "a commit group");
    if (b->payload_size > 0)
        memcpy(bytes + TKV_GROUP_HEADER_SIZE, b->bytes + TKV_GROUP_HEADER_SIZE,
               b->payload_size);
    free(b->bytes);
    b->bytes = bytes;
    b->capacity = capacity;
    return TKV_OK;
}

/* Copy the records into the group and give them the next sequence numbers. */
static enum tkv_status join_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                  struct tkv_wal_write *write, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    uint8_t *at;
    enum tkv_status status = reserve(b, write->size, err);

    if (status != TKV_OK)
        return status;
    if (b->first == NULL)
        b->seq_first = wal->seq_next;
    write->payload_offset = b->payload_size;
    at = b->bytes + TKV_GROUP_HEADER_SIZE + b->payload_size;
    memcpy(at, write->bytes, write->size);
    for (size_t i = 0; i < write->count; i++)
        tkv_record_seal(at + write->items[i].offset, write->items[i].body_sum,
                        wal->seq_next++);
    b->payload_size += write->size;
    b->count += (uint32_t)write->count;
    b->writers++;
    *b->last = write;
    b->last = &write->next;
    return TKV_OK;
}

static void empty_group(struct tkv_wal_group_buffer *b)
{
    b->payload_size = 0;
    b->count = 0;
    b->writers = 0;
    b->first = NULL;
    b->last = &b->first;
    if (b->capacity > BUFFER_SIZE_KEPT) {
        free(b->bytes);
        b->bytes = NULL;
        b->capacity = 0;
    }
}

/* Stamp the header. Returns what the next group must name as its predecessor. */
static uint32_t stamp_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                            const struct tkv_ring_place *place, uint64_t extent)
    TKV_REQUIRES(wal->lock)
{
    const size_t used = TKV_GROUP_HEADER_SIZE + b->payload_size;
    const struct tkv_group group = {
        .salt = wal->salt,
        .position = place->position,
        .seq = b->seq_first,
        .durable = wal->durable,
        .payload_size = (uint32_t)b->payload_size,
        .count = b->count,
        .chain = wal->chain,
        .ends_at_block = wal->always,
    };

    memset(b->bytes + used, 0, (size_t)extent - used);
    return tkv_group_encode(&group, tkv_group_seed(wal->uuid, place->file_offset),
                            b->bytes);
}

/* The group is as durable as the mode demands: account for it. */
static void count_group(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                        const struct tkv_ring_place *place, uint64_t extent, uint32_t chain)
    TKV_REQUIRES(wal->lock)
{
    tkv_ring_advance(&wal->ring, place, extent);
    wal->chain = chain;
    if (wal->always) {
        wal->durable = wal->ring.head.position;
        wal->counters.syncs++;
    }
    wal->counters.groups++;
    wal->counters.records += b->count;
    if (b->count > wal->counters.records_max)
        wal->counters.records_max = b->count;
    wal->counters.bytes_written += extent;
}

/* What the owner applies; read without the lock by the one who leads. */
static struct tkv_wal_applied describe_applied(const struct tkv_wal *wal,
                                               const struct tkv_wal_group_buffer *b)
{
    return (struct tkv_wal_applied){
        .payload = b->bytes + TKV_GROUP_HEADER_SIZE,
        .payload_size = b->payload_size,
        .writes = b->first,
        .seq_first = b->seq_first,
        .seq_next = b->seq_first + b->count,
        .chain = wal->chain,
        .end = wal->ring.head,
    };
}

/* Wait until the ring has room. The lock is dropped meanwhile; the caller is the only one who
 * takes room. */
static enum tkv_status find_room(struct tkv_wal *wal, uint64_t extent,
                                 struct tkv_ring_place *ret_place, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    while (!tkv_ring_fit(&wal->ring, extent, wal->always || wal->align_next, ret_place)) {
        enum tkv_status status;

        tkv_mutex_unlock(wal->lock);
        status = wal->owner.make_room(wal->owner.context, extent, err);
        tkv_mutex_lock(wal->lock);
        if (status != TKV_OK)
            return status;
        if (wal->poisoned != TKV_OK)
            return tkv_wal_fail_poisoned(wal, err);
    }
    return TKV_OK;
}

/* ---- Mode ALWAYS: lead a group, or wait for a leader ----------------------------- */

/* Write the group in `b`, which nobody joins any more. */
static enum tkv_status write_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    const uint64_t extent = tkv_group_extent((uint32_t)b->payload_size, true);
    struct tkv_ring_place place;
    enum tkv_status status;
    uint32_t chain;
    int result;

    status = find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    chain = stamp_group(wal, b, &place, extent);
    tkv_mutex_unlock(wal->lock);

    status = wal->owner.prepare(wal->owner.context, b->payload_size, err);
    if (status != TKV_OK) {
        tkv_mutex_lock(wal->lock);
        return status;
    }
    if (wal->owner.before_wait != NULL)
        wal->owner.before_wait(wal->owner.context, b->writers);
    result = tkv_wal_write_durably(wal, b->bytes, (size_t)extent, place.file_offset);

    tkv_mutex_lock(wal->lock);
    if (result < 0) {
        tkv_wal_poison_locked(wal, TKV_IO);
        return tkv_fail_lost(err, result, TKV_WAL_NAME,
                             "write a group at offset %llu of %s",
                             (unsigned long long)place.file_offset, TKV_WAL_NAME);
    }
    count_group(wal, b, &place, extent, chain);
    return TKV_OK;
}

/* From here on the writes belong to their callers again. The first one waits apart, because it
 * may have to lead. */
static void release_writers(struct tkv_wal_group_buffer *b, struct tkv_wal_write *first,
                            enum tkv_status status)
{
    for (struct tkv_wal_write *w = first; w != NULL; w = w->next)
        w->status = status;
    first->done = true;
    (void)sem_post(&first->woken);
    tkv_gate_open(&b->gate);
}

/* Write the group, apply it and let its writers go. */
static enum tkv_status commit_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                    struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    enum tkv_status status = wal->poisoned != TKV_OK ? tkv_wal_fail_poisoned(wal, err)
                                                     : write_group(wal, b, err);
    const struct tkv_wal_applied applied = describe_applied(wal, b);

    /* Without the lock, so that those who are woken do not run into it. */
    tkv_mutex_unlock(wal->lock);
    if (status == TKV_OK)
        wal->owner.apply(wal->owner.context, &applied);
    release_writers(b, applied.writes, status);
    tkv_mutex_lock(wal->lock);
    return status;
}

static bool many_are_missing(const struct tkv_wal *wal,
                             const struct tkv_wal_group_buffer *b)
{
    return b->writers < wal->expected &&
           (wal->expected - b->writers) * GATHER_SHARE > wal->expected;
}

static uint64_t now_us(const struct tkv_wal *wal)
{
    uint64_t us = 0;

    (void)wal->os->monotonic_us(wal->os, &us); /* without a clock every turn is short */
    return us;
}

/* Those who were in the last group are about to write again, most likely. A group costs a
 * write of the device however many it serves, so it pays to let them come. */
static void gather(struct tkv_wal *wal) TKV_REQUIRES(wal->lock)
{
    const struct tkv_wal_group_buffer *b = &wal->buffers[wal->filling];
    uint64_t from_us, to_us;

    if (!many_are_missing(wal, b))
        return;
    to_us = now_us(wal);
    for (unsigned turns = 0;
         turns < GATHER_TURNS && many_are_missing(wal, b) && to_us >= wal->gather_again_us;
         turns++) {
        from_us = to_us;
        tkv_mutex_unlock(wal->lock);
        (void)sched_yield();
        tkv_mutex_lock(wal->lock);
        to_us = now_us(wal);
        if (to_us > from_us + GATHER_MICROS_MAX)
            wal->gather_again_us = to_us + GATHER_MICROS_PAUSE;
    }
}

/* Nobody joins the group that was filling any more. */
static struct tkv_wal_group_buffer *take_group(struct tkv_wal *wal) TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b = &wal->buffers[wal->filling];

    wal->filling ^= 1;
    if (wal->waiting_to_join > 0)
        (void)pthread_cond_broadcast(&wal->can_join);
    return b;
}

static enum tkv_status lead_group(struct tkv_wal *wal, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b;
    enum tkv_status status;

    gather(wal);
    b = take_group(wal);
    status = commit_group(wal, b, err);
    wal->expected = b->writers + wal->buffers[wal->filling].writers;
    empty_group(b);
    return status;
}

/* Commit the group that the caller was the first to join, perhaps some more, and leave the next
 * one to its own first writer. */
static enum tkv_status lead(struct tkv_wal *wal, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    enum tkv_status status = lead_group(wal, err);
    unsigned groups = 1;

    while (groups++ < LEAD_GROUPS_MAX &&
           wal->buffers[wal->filling].writers >= LEAD_WRITERS_MIN)
        (void)lead_group(wal, NULL);
    wal->leader_active = wal->buffers[wal->filling].first != NULL;
    if (wal->leader_active)
        (void)sem_post(&wal->buffers[wal->filling].first->woken);
    return status;
}

static void wait_to_join(struct tkv_wal *wal) TKV_REQUIRES(wal->lock) TKV_NO_ANALYSIS
{
    (void)pthread_cond_wait(&wal->can_join, &wal->lock->handle);
}

static bool group_is_full(const struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                          size_t more)
{
    return b->first != NULL && b->payload_size + more > wal->group_size_max;
}

static enum tkv_status check_usable(const struct tkv_wal *wal,
                                    const struct tkv_wal_write *write,
                                    struct tkv_error *err)
{
    if (wal->poisoned != TKV_OK)
        return tkv_wal_fail_poisoned(wal, err);
    if (wal->seq_next > INT64_MAX - write->count)
        return tkv_fail(err, TKV_TOO_BIG, "sequence number %llu: the store is used up",
                        (unsigned long long)wal->seq_next);
    return TKV_OK;
}

/* A write's place in a group. */
struct seat {
    struct tkv_wal_group_buffer *group;
    unsigned turn; /* of its gate */
    bool is_first;
};

/* Get into the filling group. A full one has writers who will lead it; there is another one to
 * join as soon as one of them does. */
static enum tkv_status join(struct tkv_wal *wal, struct tkv_wal_write *write,
                            struct seat *ret_seat, struct tkv_error *err)
    TKV_REQUIRES(wal->lock)
{
    enum tkv_status status = check_usable(wal, write, err);

    while (status == TKV_OK &&
           group_is_full(wal, &wal->buffers[wal->filling], write->size)) {
        wal->waiting_to_join++;
        wait_to_join(wal);
        wal->waiting_to_join--;
        status = check_usable(wal, write, err);
    }
    if (status != TKV_OK)
        return status;
    ret_seat->group = &wal->buffers[wal->filling];
    ret_seat->turn = tkv_gate_turn(&ret_seat->group->gate);
    ret_seat->is_first = ret_seat->group->first == NULL;
    return join_group(wal, ret_seat->group, write, err);
}

static enum tkv_status follow(const struct tkv_wal_write *write, struct tkv_error *err)
{
    if (write->status == TKV_OK)
        return TKV_OK;
    return tkv_fail(err, write->status, "the commit group failed: %s",
                    tkv_status_text(write->status));
}

/* Wait until somebody has led the group, or the caller is to do it. Without the lock. */
static bool is_to_lead(struct tkv_wal_write *first)
{
    while (sem_wait(&first->woken) != 0)
        ; /* a signal handler ran */
    return !first->done;
}

/* The write is in a group that somebody else leads, unless it is the first and its turn comes. */
static enum tkv_status wait_for_group(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      const struct seat *seat, struct tkv_error *err)
{
    enum tkv_status status;

    if (!seat->is_first)
        tkv_gate_wait(&seat->group->gate, seat->turn);
    if (!seat->is_first || !is_to_lead(write))
        return follow(write, err);
    tkv_mutex_lock(wal->lock);
    status = lead(wal, err);
    tkv_mutex_unlock(wal->lock);
    return status;
}

static enum tkv_status commit_durably(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      struct tkv_error *err)
{
    struct seat seat;
    enum tkv_status status;
    bool leads;

    tkv_mutex_lock(wal->lock);
    status = join(wal, write, &seat, err);
    leads = status == TKV_OK && seat.is_first && !wal->leader_active;
    if (leads) {
        wal->leader_active = true;
        status = lead(wal, err);
    }
    tkv_mutex_unlock(wal->lock);
    if (status != TKV_OK || leads)
        return status;
    return wait_for_group(wal, write, &seat, err);
}

/* ---- Relaxed modes: store and apply under the lock ------------------------------- */

static enum tkv_status put_bytes(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                                 uint64_t offset, size_t size, struct tkv_error *err)
{
    int result;

    if (wal->map != NULL) {
        wal->os->store(wal->os, wal->fd, wal->map, offset, b->bytes, size);
        tkv_fetch_to_write((uintptr_t)wal->map + offset + size);
        return TKV_OK;
    }
    result = tkv_os_write_all(wal->os, wal->fd, b->bytes, size, offset);
    if (result == 0)
        return TKV_OK;
    /* The head has not moved: the next group overwrites what this one left, and were it only
     * in part, chain and checksums tell. */
    return tkv_fail_os(err, result, TKV_WAL_NAME, "write a group at offset %llu of %s",
                       (unsigned long long)offset, TKV_WAL_NAME);
}

static bool is_wanted(const struct tkv_wal *wal, const struct tkv_wal_write *write)
{
    return write->is_wanted == NULL || write->is_wanted(wal->owner.context, write);
}

/* The owner has prepared for it. */
static enum tkv_status store_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   const struct tkv_ring_place *place, uint64_t extent,
                                   struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    const uint32_t chain = stamp_group(wal, b, place, extent);
    struct tkv_wal_applied applied;
    enum tkv_status status;

    if (!is_wanted(wal, b->first)) {
        wal->seq_next = b->seq_first;
        return TKV_NOT_FOUND;
    }
    status = put_bytes(wal, b, place->file_offset, (size_t)extent, err);
    if (status != TKV_OK)
        return status;
    wal->align_next = false;
    count_group(wal, b, place, extent, chain);
    applied = describe_applied(wal, b);
    wal->owner.apply(wal->owner.context, &applied);
    return TKV_OK;
}

static enum tkv_status commit_relaxed(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b = &wal->buffers[0];
    const uint64_t extent = tkv_group_extent((uint32_t)write->size, false);
    struct tkv_ring_place place;
    enum tkv_status status;

    status = check_usable(wal, write, err);
    if (status != TKV_OK)
        return status;
    /* Others may take the room while it is being made: whoever looks first after that gets
     * it, and `place` is only valid until the lock is dropped. */
    status = find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    status = wal->owner.prepare(wal->owner.context, write->size, err);
    if (status != TKV_OK)
        return status;
    status = join_group(wal, b, write, err);
    if (status == TKV_OK)
        status = store_group(wal, b, &place, extent, err);
    empty_group(b);
    return status;
}

enum tkv_status tkv_wal_commit(struct tkv_wal *wal, struct tkv_wal_write *write,
                               struct tkv_error *err)
{
    enum tkv_status status;

    assert(write->count > 0);
    write->next = NULL;
    write->done = false;
    write->status = TKV_OK;
    if (!wal->always) {
        tkv_mutex_lock(wal->lock);
        status = commit_relaxed(wal, write, err);
        tkv_mutex_unlock(wal->lock);
        return status;
    }
    if (!is_wanted(wal, write))
        return TKV_NOT_FOUND;
    (void)sem_init(&write->woken, 0, 0);
    status = commit_durably(wal, write, err);
    (void)sem_destroy(&write->woken);
    return status;
}
