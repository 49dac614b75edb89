/* SPDX-License-Identifier: MIT */
/*
 * upkeep.c - what must happen besides the writes themselves, and who does it: the flusher
 * (memory tails to disk, checkpoints, interval syncs, marks) and the compactor, each a thread;
 * or, without threads, the calls that find something due. Also starts and stops the thread that
 * keeps a processor awake (idle_poll.h). By hand: maintenance.c.
 */
#include "store.h"

#include "garbage.h"

#define IDLE_MS      100u  /* an idle log is marked after this long */
#define SWEEP_MS     1000u /* expired keys are looked for this often */
#define RETRY_MS     100u  /* a full disk is probed this often */
#define EXPIRE_BATCH 256u

/* ---- Expiry ---------------------------------------------------------------------- */

void tkv_upkeep_expire(struct tkv_store *store)
{
    struct tkv_location locations[EXPIRE_BATCH];
    const uint64_t now_ms = tkv_store_now_ms(store);
    size_t count;

    do {
        tkv_mutex_lock(&store->apply);
        count = tkv_index_expire(store->index, now_ms, locations, EXPIRE_BATCH);
        for (size_t i = 0; i < count; i++)
            tkv_files_expired(store, &locations[i]);
        tkv_mutex_unlock(&store->apply);
    } while (count == EXPIRE_BATCH);
}

/* ---- The flusher ----------------------------------------------------------------- */

void tkv_upkeep_flush(struct tkv_store *store)
{
    tkv_mutex_lock(&store->upkeep);
    (void)tkv_flush(store, NULL); /* the checkpoint judges what failed */
    tkv_mutex_unlock(&store->upkeep);
}

static void flush(struct tkv_store *store)
{
    if (tkv_space_unflushed(store) >= TKV_FLUSH_SIZE)
        tkv_upkeep_flush(store);
}

#define TOUCH_SIZE (2u * 1024 * 1024) /* what is written while the flusher is busy */

/* For a store that writes much. */
static void touch_ahead(struct tkv_store *store)
{
    struct tkv_datafile *file;

    tkv_mutex_lock(&store->apply);
    file = store->active;
    tkv_datafile_reference(file);
    tkv_mutex_unlock(&store->apply);
    if (atomic_load(&file->size) - file->tail_start >= TKV_FLUSH_SIZE)
        tkv_datafile_touch(file, TOUCH_SIZE);
    tkv_datafile_release(file);
}

/* A checkpoint takes the rest of a block, so it is not tried before there is room. */
static void heal(struct tkv_store *store)
{
    tkv_mutex_lock(&store->upkeep);
    if (tkv_space_look(store, 0) &&
        tkv_checkpoint_locked(store, false, NULL) == TKV_OK) /* clears disk_full */
        tkv_retire(store);
    tkv_mutex_unlock(&store->upkeep);
}

static void checkpoint(struct tkv_store *store)
{
    if (atomic_load(&store->disk_full))
        heal(store);
    (void)tkv_log_room_maintain(store, NULL);
}

static void retire_if_asked(struct tkv_store *store)
{
    if (!atomic_exchange(&store->retire_asked, false))
        return;
    tkv_mutex_lock(&store->upkeep);
    tkv_retire(store);
    tkv_mutex_unlock(&store->upkeep);
}

static void sync_if_due(struct tkv_store *store)
{
    const uint64_t now_us = tkv_store_now_us(store);
    uint64_t synced_us = atomic_load(&store->synced_us);

    if (store->options.durability != TKV_DURABILITY_INTERVAL || now_us < synced_us ||
        now_us - synced_us < (uint64_t)store->options.interval_ms * 1000)
        return;
    /* Without a flusher several writers come here at once: one of them syncs. */
    if (!atomic_compare_exchange_strong(&store->synced_us, &synced_us, now_us))
        return;
    (void)tkv_flush_log(store, NULL); /* poisons when it must */
}

/* True when nothing has been written since the last look and the log says so. */
static bool mark_if_idle(struct tkv_store *store)
{
    const uint64_t seq = atomic_load(&store->seq_last);
    const bool idle = seq == store->idle_seq;

    store->idle_seq = seq;
    if (!idle)
        return false;
    tkv_mutex_lock(&store->upkeep);
    (void)tkv_checkpoint_mark(store, NULL); /* poisons when it must */
    tkv_mutex_unlock(&store->upkeep);
    return true;
}

static bool interval_is_pending(struct tkv_store *store)
{
    struct tkv_wal_state state;

    if (store->options.durability != TKV_DURABILITY_INTERVAL)
        return false;
    tkv_wal_state(&store->wal, &state);
    return state.poisoned == TKV_OK && state.durable < state.head_position;
}

/* Under the lock of whoever applies: a write is seen here, or comes later and sees what was
 * stored before this. */
static uint64_t newest_write(struct tkv_store *store)
{
    uint64_t seq;

    tkv_mutex_lock(&store->apply);
    seq = atomic_load(&store->seq_last);
    tkv_mutex_unlock(&store->apply);
    return seq;
}

static uint32_t flusher_pause(struct tkv_store *store)
{
    if (atomic_load(&store->disk_full))
        return RETRY_MS;
    if (interval_is_pending(store) && store->options.interval_ms < IDLE_MS)
        return store->options.interval_ms;
    return IDLE_MS;
}

static uint32_t flusher_step(void *context, bool woken)
{
    struct tkv_store *store = context;
    bool removes;

    atomic_store(&store->flush_asked, false);
    tkv_log_room_grow(store); /* first: writers may be faster than all that follows */
    tkv_index_prepare(store->index);
    touch_ahead(store);
    if (atomic_load(&store->disk_full))
        tkv_removed_finish(store);
    removes = tkv_removed_step(store);
    flush(store);
    checkpoint(store);
    retire_if_asked(store);
    sync_if_due(store);
    if (tkv_garbage_wanted(store))
        tkv_worker_wake(&store->compactor);
    if (removes)
        return 0;
    if (!woken && mark_if_idle(store) && !interval_is_pending(store) &&
        !atomic_load(&store->disk_full)) {
        tkv_index_trim(store->index);
        atomic_store(&store->flusher_sleeps, true);
        if (newest_write(store) == store->idle_seq)
            return TKV_WORKER_FOREVER;
        atomic_store(&store->flusher_sleeps, false);
    }
    return flusher_pause(store);
}

/* ---- The compactor --------------------------------------------------------------- */

static uint32_t compactor_step(void *context, bool woken)
{
    struct tkv_store *store = context;
    bool did = false;

    (void)woken;
    atomic_store(&store->reclaim_asked, false);
    tkv_upkeep_expire(store);
    if (store->options.auto_compact && tkv_garbage_wanted(store)) {
        /* What fails here is told by an event, and tried again when there is more to gain. */
        if (tkv_reclaim_step(store, TKV_RECLAIM_AUTOMATIC, &did, NULL, NULL) == TKV_OK &&
            did)
            return 0;
    }
    return tkv_index_has_expiring(store->index) ? SWEEP_MS : TKV_WORKER_FOREVER;
}

/* ---- Starting and stopping ------------------------------------------------------- */

void tkv_upkeep_start(struct tkv_store *store)
{
    atomic_store(&store->log_head, store->checkpoint.position);
    atomic_store(&store->log_released, store->checkpoint.position);
    if (store->options.read_only)
        return;
    atomic_store(&store->log_capacity, store->wal.ring.end - TKV_WAL_RING_START);
    atomic_store(&store->synced_us, tkv_store_now_us(store));
    if (!store->options.background ||
        tkv_worker_start(&store->flusher, flusher_step, store) != 0)
        return;
    (void)tkv_worker_start(&store->compactor, compactor_step, store);
    tkv_worker_wake(&store->flusher);
    tkv_worker_wake(&store->compactor);
    /* Without it writes are slower, and that is all. */
    if (store->wal.always && store->options.idle_poll_us > 0)
        (void)tkv_idle_poll_start(&store->idle_poll, (uint32_t)store->options.idle_poll_us);
}

void tkv_upkeep_stop(struct tkv_store *store)
{
    tkv_worker_join(&store->flusher); /* they wake each other */
    tkv_worker_join(&store->compactor);
    tkv_worker_stop(&store->flusher);
    tkv_worker_stop(&store->compactor);
    tkv_removed_abandon(store);
    tkv_idle_poll_stop(&store->idle_poll);
}

/* ---- Around a write --------------------------------------------------------------- */

void tkv_upkeep_before_wait(void *context, unsigned writers)
{
    struct tkv_store *store = context;

    tkv_idle_poll_nudge(&store->idle_poll, writers);
}

static bool flusher_has_work(struct tkv_store *store)
{
    return tkv_space_unflushed(store) >= TKV_FLUSH_SIZE || tkv_log_room_is_low(store) ||
           atomic_load(&store->flusher_sleeps);
}

static void wake_who_is_needed(struct tkv_store *store)
{
    if (flusher_has_work(store) && !atomic_load(&store->flush_asked) &&
        !atomic_exchange(&store->flush_asked, true)) {
        atomic_store(&store->flusher_sleeps, false);
        tkv_worker_wake(&store->flusher);
    }
    if (store->options.auto_compact && tkv_garbage_wanted(store) &&
        !atomic_exchange(&store->reclaim_asked, true))
        tkv_worker_wake(&store->compactor);
}

static void drop_hints(struct tkv_store *store)
{
    tkv_mutex_lock(&store->upkeep);
    if (tkv_store_check_writable(store, NULL) == TKV_OK) {
        tkv_files_unlink_hints(store);
        (void)tkv_files_sync_names(store, NULL); /* poisons when it must */
    }
    tkv_mutex_unlock(&store->upkeep);
}

bool tkv_upkeep_make_room(struct tkv_store *store, uint64_t bytes)
{
    bool did = false;

    if (store->options.auto_compact) {
        tkv_upkeep_expire(store);
        if (tkv_garbage_wanted(store))
            (void)tkv_reclaim_step(store, TKV_RECLAIM_AUTOMATIC, &did, NULL, NULL);
    }
    if (!did && tkv_space_is_short(store, bytes))
        drop_hints(store);
    return did;
}

static void reclaim_inline(struct tkv_store *store)
{
    bool did = true;

    while (did && tkv_garbage_wanted(store)) {
        did = false;
        if (tkv_reclaim_step(store, TKV_RECLAIM_AUTOMATIC, &did, NULL, NULL) != TKV_OK)
            break;
    }
}

void tkv_upkeep_after_write(struct tkv_store *store)
{
    if (store->flusher.started) {
        wake_who_is_needed(store);
        if (store->compactor.started)
            return;
    } else {
        flush(store);
        checkpoint(store);
        sync_if_due(store);
    }
    if (!store->options.auto_compact)
        return;
    if (atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        tkv_upkeep_expire(store); /* that is garbage as well */
    if (tkv_garbage_wanted(store)) {
        tkv_upkeep_expire(store);
        reclaim_inline(store);
    }
}
