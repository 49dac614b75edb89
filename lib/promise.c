/* SPDX-License-Identifier: MIT */
/*
 * promise.c - space that a write is told it may take, before it takes any: so that two that come
 * at once are not told of the same, nor is who writes a hint or lets the log grow meanwhile.
 *
 *     promised  ->  written (a large value at once, the rest with its memory tail)  ->  settled
 *
 * In between it counts twice, a large value for as long as it is being written, and never not at
 * all. Small writes are not counted: all that are on their way together fit into what the reserve
 * has to spare.
 *
 * Threads: any.
 */
#include "draft.h"
#include "store.h"

static bool is_within(struct tkv_store *store, uint64_t bytes, _Atomic uint64_t *space_left)
{
    return tkv_space_wanted(store) + bytes <
           atomic_load_explicit(space_left, memory_order_relaxed);
}

/* What is larger goes to files of its own. */
static bool makes_longest_file(struct tkv_store *store, uint64_t bytes)
{
    return !tkv_draft_is_large(store, bytes) && tkv_space_note_file(store, bytes);
}

/* What is refused is not counted for a moment either: others would be refused for it. */
static bool TKV_COLD promise_large(struct tkv_store *store, uint64_t bytes,
                                   _Atomic uint64_t *space_left)
{
    uint64_t promised;

    if (is_within(store, bytes, space_left) && makes_longest_file(store, bytes))
        tkv_upkeep_flush(store); /* which looks */
    promised = atomic_load(&store->promised_bytes);
    while (promised + tkv_space_unflushed(store) + bytes < atomic_load(space_left)) {
        if (atomic_compare_exchange_weak(&store->promised_bytes, &promised,
                                         promised + bytes))
            return true;
    }
    return false;
}

static bool promise(struct tkv_store *store, uint64_t bytes, _Atomic uint64_t *space_left)
{
    return bytes < TKV_PROMISE_SIZE_MIN ? is_within(store, bytes, space_left)
                                        : promise_large(store, bytes, space_left);
}

/* After what is in memory was written, and what was removed has given its room back. */
static bool TKV_COLD promise_after_look(struct tkv_store *store, uint64_t bytes,
                                        _Atomic uint64_t *space_left)
{
    tkv_removed_finish(store);
    tkv_upkeep_flush(store);
    return promise(store, bytes, space_left);
}

void tkv_promise_settle_large(struct tkv_store *store, uint64_t bytes, bool is_on_disk)
{
    if (is_on_disk) {
        tkv_mutex_lock(&store->upkeep);
        if (!tkv_space_look(store, 0))
            tkv_space_exhausted(store);
        tkv_mutex_unlock(&store->upkeep);
    }
    if (bytes >= TKV_PROMISE_SIZE_MIN)
        atomic_fetch_sub(&store->promised_bytes, bytes);
}

/* ---- For puts -------------------------------------------------------------------- */

/* Perhaps there is room again. */
static enum tkv_status TKV_COLD promise_on_full_disk(struct tkv_store *store,
                                                     uint64_t bytes, struct tkv_error *err)
{
    tkv_upkeep_after_write(store);
    if (!atomic_load(&store->disk_full) && promise(store, bytes, &store->put_space_left))
        return TKV_OK;
    return tkv_fail(err, TKV_NO_SPACE,
                    "the disk is full: delete something, or make room and try again");
}

static enum tkv_status TKV_COLD refuse(struct tkv_store *store, uint64_t bytes,
                                       struct tkv_error *err)
{
    if (atomic_load(&store->disk_full))
        return promise_on_full_disk(store, bytes, err);
    return tkv_fail(err, TKV_NO_SPACE, "the disk is full: no space for %llu bytes",
                    (unsigned long long)bytes);
}

enum tkv_status tkv_promise_puts(struct tkv_store *store, uint64_t bytes,
                                 struct tkv_error *err)
{
    if (!promise(store, bytes, &store->put_space_left) &&
        !promise_after_look(store, bytes, &store->put_space_left))
        return refuse(store, bytes, err);
    if (!atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        return TKV_OK;
    tkv_promise_settle(store, bytes, false);
    return promise_on_full_disk(store, bytes, err);
}

/* ---- For deletes ----------------------------------------------------------------- */

#define MAKE_ROOM_STEPS 16u /* compactions that one delete waits for */

/* One compaction may gain less than a delete needs, or others may be faster. */
static bool TKV_COLD make_room(struct tkv_store *store, uint64_t bytes)
{
    bool is_promised = promise_after_look(store, bytes, &store->delete_space_left);
    bool did = true;

    for (unsigned i = 0; i < MAKE_ROOM_STEPS && did && !is_promised; i++) {
        did = tkv_upkeep_make_room(store, bytes);
        is_promised = promise_after_look(store, bytes, &store->delete_space_left);
    }
    return is_promised;
}

enum tkv_status tkv_promise_deletes(struct tkv_store *store, uint64_t bytes,
                                    struct tkv_error *err)
{
    enum tkv_status status;

    if (promise(store, bytes, &store->delete_space_left) || make_room(store, bytes))
        return TKV_OK;
    status = tkv_store_check_writable(store, err); /* it may have been poisoned by now */
    if (status != TKV_OK)
        return status;
    return tkv_fail(err, TKV_NO_SPACE,
                    "the disk is full, and what is left is for a compaction: make room, or "
                    "compact, and try again");
}

bool tkv_promise_last(struct tkv_store *store, uint64_t bytes)
{
    return promise(store, bytes, &store->last_space_left);
}
