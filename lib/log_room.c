/* SPDX-License-Identifier: MIT */
/*
 * log_room.c - room in the log: when a checkpoint is due, and when the log grows instead.
 * It never grows into the disk's reserve (space.c). A store that is closed gives most of it back.
 *
 * When something fails: shrinking is an improvement only. Growing is one as long as a checkpoint
 * makes room; without either, the writer that asked is refused. A growth of unknown fate poisons
 * the store.
 *
 * Threads: any; all but tkv_log_room_is_low() may take `upkeep`.
 */
#include "store.h"

#include "bytes.h"

static uint64_t longer_end(const struct tkv_store *store, uint64_t end, uint64_t extent,
                           unsigned factor)
{
    const uint64_t needed = end + extent + TKV_BLOCK_SIZE;

    do
        end *= factor;
    while (end < needed);
    return end < store->wal.size_max
               ? end
               : store->wal.size_max / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
}

static enum tkv_status grow_to(struct tkv_store *store, uint64_t from, uint64_t end,
                               struct tkv_error *err)
{
    enum tkv_status status;

    if (end <= from)
        return TKV_OK;
    if (!tkv_space_permits(store, end - from))
        return tkv_fail(err, TKV_NO_SPACE, "no space to let %s grow by %llu bytes",
                        TKV_WAL_NAME, (unsigned long long)(end - from));
    tkv_space_take(store, end - from);
    status = tkv_wal_grow(&store->wal, end, err);
    if (tkv_wal_poisoned(&store->wal) != TKV_OK) /* its fate is unknown */
        tkv_store_poison(store, tkv_wal_poisoned(&store->wal));
    (void)tkv_space_look(store, 0);
    return status;
}

#define SMALL_END (8u * 1024 * 1024)

/* A writer who need not wait for the device would stand at each doubling of a small log. */
static enum tkv_status grow_log(struct tkv_store *store, uint64_t extent,
                                struct tkv_error *err)
{
    struct tkv_wal_state state;
    struct tkv_error reason;
    enum tkv_status status;

    tkv_wal_state(&store->wal, &state);
    if (store->wal.map != NULL && state.end < SMALL_END) {
        status =
            grow_to(store, state.end, longer_end(store, state.end, extent, 4), &reason);
        if (status != TKV_NO_SPACE) {
            if (status != TKV_OK)
                tkv_error_copy(err, &reason);
            return status;
        }
    }
    return grow_to(store, state.end, longer_end(store, state.end, extent, 2), err);
}

static void note_capacity(struct tkv_store *store)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    atomic_store(&store->log_capacity, state.capacity);
}

static uint64_t used_bytes(struct tkv_store *store)
{
    return atomic_load(&store->log_head) - atomic_load(&store->log_released);
}

/* At such a pace there would be four checkpoints a second, each with half of the log. */
#define QUARTER_US_MIN 125000u

static bool is_quarter_full(struct tkv_store *store)
{
    return used_bytes(store) > atomic_load(&store->log_capacity) / 4;
}

static bool fills_fast(struct tkv_store *store)
{
    return is_quarter_full(store) &&
           tkv_store_now_us(store) - store->checkpoint_us < QUARTER_US_MIN;
}

/* Growing is an improvement only; a full disk may refuse, and is asked again a quarter later.
 * It comes before the checkpoint: the writers go on in the room that is left meanwhile. */
static void grow_if_busy(struct tkv_store *store)
{
    struct tkv_wal_state state;

    if (!fills_fast(store) || atomic_load(&store->log_head) - store->growth_tried <
                                  atomic_load(&store->log_capacity) / 4)
        return;
    tkv_wal_state(&store->wal, &state);
    if (state.wrapped || state.poisoned != TKV_OK)
        return;
    store->growth_tried = atomic_load(&store->log_head);
    (void)grow_log(store, 0, NULL);
    note_capacity(store);
}

void tkv_log_room_grow(struct tkv_store *store)
{
    if (!is_quarter_full(store))
        return;
    tkv_mutex_lock(&store->upkeep);
    grow_if_busy(store);
    tkv_mutex_unlock(&store->upkeep);
}

enum tkv_status tkv_log_room_maintain(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    tkv_mutex_lock(&store->upkeep);
    grow_if_busy(store);
    if (tkv_log_room_is_low(store)) {
        status = tkv_checkpoint_locked(store, false, err);
        if (status == TKV_OK)
            tkv_retire(store);
    }
    tkv_mutex_unlock(&store->upkeep);
    return status;
}

/* A log that has grown is read whole by the next opening, from the device: 64 MiB take longer
 * than the index of a million keys. */
#define KEPT_SHARE 8u /* of the cap */

static uint64_t kept_end(const struct tkv_store *store)
{
    const uint64_t share =
        store->options.wal_size_max / KEPT_SHARE / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;

    return share > TKV_WAL_SIZE_FIRST ? share : TKV_WAL_SIZE_FIRST;
}

static enum tkv_status shrink_ring(struct tkv_store *store)
{
    struct tkv_ring_place place;

    tkv_wal_restart(&store->wal, kept_end(store), &place);
    return tkv_checkpoint_restarted(store, &place, NULL);
}

void tkv_log_room_shrink(struct tkv_store *store)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    if (state.end > kept_end(store) && state.used == 0 && shrink_ring(store) != TKV_OK)
        return;
    tkv_wal_cut(&store->wal);
}

bool tkv_log_room_is_low(struct tkv_store *store)
{
    return used_bytes(store) > atomic_load(&store->log_capacity) / 2;
}

/* An empty ring that cannot take the group never will: better refused than asked for ever. */
static enum tkv_status check_fits(struct tkv_store *store, uint64_t extent,
                                  struct tkv_error *err)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    if (state.used > 0 || tkv_wal_has_room(&store->wal, extent))
        return TKV_OK;
    return tkv_fail(err, TKV_TOO_BIG,
                    "a group of %llu bytes does not fit into the log's %llu",
                    (unsigned long long)extent, (unsigned long long)state.capacity);
}

/* Where the flusher was asked before and has not come, memory would pile up. */
static void retire(struct tkv_store *store)
{
    if (atomic_load(&store->retire_asked))
        tkv_retire(store);
    else
        tkv_retire_soon(store);
}

/* The leader of a group found the ring full and is the one who makes room: whoever is at work
 * on a checkpoint is waited for, and then there often is room already. */
enum tkv_status tkv_log_room_make(void *context, uint64_t extent, struct tkv_error *err)
{
    struct tkv_store *store = context;
    enum tkv_status status = TKV_OK;

    tkv_mutex_lock(&store->upkeep);
    if (!tkv_wal_has_room(&store->wal, extent))
        grow_if_busy(store);
    if (!tkv_wal_has_room(&store->wal, extent)) {
        status = tkv_checkpoint_locked(store, false, err);
        if (status == TKV_OK)
            retire(store);
    }
    if (status == TKV_OK && !tkv_wal_has_room(&store->wal, extent))
        status = grow_log(store, extent, err);
    if (status == TKV_OK)
        status = check_fits(store, extent, err);
    if (status == TKV_OK)
        note_capacity(store);
    tkv_mutex_unlock(&store->upkeep);
    return status;
}
