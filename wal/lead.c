/* SPDX-License-Identifier: MIT */
/*
 * lead.c - group commit, which is mode ALWAYS: writers join the group that fills, the first of
 * them leads it unless somebody leads already, and the others wait; wal.h has the life of a
 * commit.
 *
 * Invariants: one leads at a time (`leader_active`), so groups reach the device and are
 * applied in the order in which they filled. A group that was taken is joined by nobody. Once
 * its writers were released they may be gone, and only its buffer is looked at.
 *
 * When something fails, every writer of the group is told, and nothing of it is applied; wal.h
 * says what that does to the log.
 *
 * Threads: any.
 */
#include "wal_private.h"

#include "error.h"
#include "file_name.h"

#include <sched.h>

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

/* ---- Committing a group ---------------------------------------------------------- */

/* Write the group in `b`, which nobody joins any more. */
static enum tkv_status write_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    const uint64_t extent = tkv_group_extent((uint32_t)b->payload_size, true);
    struct tkv_ring_place place;
    enum tkv_status status;
    uint32_t chain;
    int result;

    status = tkv_wal_find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    chain = tkv_wal_stamp_group(wal, b, &place, extent);
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
    tkv_wal_count_group(wal, b, &place, extent, chain);
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
    const struct tkv_wal_applied applied = tkv_wal_describe_applied(wal, b);

    /* Without the lock, so that those who are woken do not run into it. */
    tkv_mutex_unlock(wal->lock);
    if (status == TKV_OK)
        wal->owner.apply(wal->owner.context, &applied);
    release_writers(b, applied.writes, status);
    tkv_mutex_lock(wal->lock);
    return status;
}

/* ---- Leading --------------------------------------------------------------------- */

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
    tkv_wal_empty_group(b);
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

/* ---- Joining, and waiting for who leads ------------------------------------------ */

static void wait_to_join(struct tkv_wal *wal) TKV_REQUIRES(wal->lock) TKV_NO_ANALYSIS
{
    (void)pthread_cond_wait(&wal->can_join, &wal->lock->handle);
}

static bool group_is_full(const struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                          size_t more)
{
    return b->first != NULL && b->payload_size + more > wal->group_size_max;
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
    enum tkv_status status = tkv_wal_check_usable(wal, write, err);

    while (status == TKV_OK &&
           group_is_full(wal, &wal->buffers[wal->filling], write->size)) {
        wal->waiting_to_join++;
        wait_to_join(wal);
        wal->waiting_to_join--;
        status = tkv_wal_check_usable(wal, write, err);
    }
    if (status != TKV_OK)
        return status;
    ret_seat->group = &wal->buffers[wal->filling];
    ret_seat->turn = tkv_gate_turn(&ret_seat->group->gate);
    ret_seat->is_first = ret_seat->group->first == NULL;
    return tkv_wal_join_group(wal, ret_seat->group, write, err);
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

enum tkv_status tkv_wal_commit_durably(struct tkv_wal *wal, struct tkv_wal_write *write,
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
