/* SPDX-License-Identifier: MIT */
/*
 * space.c - what is left of the disk, and for whom.
 *
 * The last of the disk is a reserve for deletes and for the compactor, which need room to
 * make room: a data file's worth, or an eighth of a small disk. What is in memory must fit
 * beside it at any time, or the next opening would find a log that it cannot flush.
 *
 *     |  files  |  memory tails, not flushed  |  for more puts  |  reserve  |
 *               |<--------- space_left at the last look ------->|
 *
 * Whatever else grows (the log) must leave the same alone. A full disk clears by itself: the
 * flusher, or without threads the next write, looks again.
 */
#include "store.h"

void tkv_space_exhausted(struct tkv_store *store)
{
    if (!atomic_exchange(&store->disk_full, true))
        tkv_store_emit(
            store, (struct tkv_event){.kind = TKV_EVENT_DISK_FULL, .status = TKV_NO_SPACE});
}

enum tkv_status tkv_space_note_failure(struct tkv_store *store, enum tkv_status status)
{
    if (status == TKV_NO_SPACE)
        tkv_space_exhausted(store);
    return status;
}

/* What the last flush left in memory, if no checkpoint has written it since. */
static uint64_t bytes_kept(struct tkv_store *store)
{
    const uint64_t kept = atomic_load(&store->flush_kept);

    return kept > TKV_FLUSH_SIZE ? kept : TKV_FLUSH_SIZE;
}

/* UINT64_MAX when the file system does not say: then a write will tell. */
static uint64_t bytes_beside_reserve(struct tkv_store *store)
{
    struct tkv_os_fs_info info;
    uint64_t reserve = tkv_files_capacity(store);

    if (store->os->fs_info(store->os, store->dir, &info) < 0)
        return UINT64_MAX;
    if (reserve > info.total_bytes / 8)
        reserve = info.total_bytes / 8;
    reserve += bytes_kept(store);
    return info.free_bytes > reserve ? info.free_bytes - reserve : 0;
}

/* The same, of which `needed` are wanted: what removed files still occupy is given back first. */
static uint64_t bytes_to_have(struct tkv_store *store, uint64_t needed)
{
    const uint64_t left = bytes_beside_reserve(store);

    if (left > needed || !tkv_removed_step(store))
        return left;
    tkv_removed_finish(store);
    return bytes_beside_reserve(store);
}

bool tkv_space_look(struct tkv_store *store, uint64_t flushed)
{
    const uint64_t left = bytes_to_have(store, tkv_space_unflushed(store));

    /* In this order, what was flushed counts twice for a moment, never not at all. */
    atomic_store(&store->space_left, left);
    atomic_fetch_add_explicit(&store->flushed_bytes, flushed, memory_order_release);
    return tkv_space_unflushed(store) < left;
}

bool tkv_space_permits(struct tkv_store *store, uint64_t bytes)
{
    const uint64_t needed = tkv_space_unflushed(store) + bytes;

    return bytes_to_have(store, needed) > needed;
}

void tkv_space_take(struct tkv_store *store, uint64_t bytes)
{
    const uint64_t left = atomic_load(&store->space_left);

    if (left != UINT64_MAX)
        atomic_store(&store->space_left, left > bytes ? left - bytes : 0);
}

void tkv_space_note(struct tkv_store *store)
{
    if (tkv_space_look(store, 0))
        atomic_store(&store->disk_full, false);
    else
        tkv_space_exhausted(store);
}

/* ---- Before a write -------------------------------------------------------------- */

static bool is_out_of_space(struct tkv_store *store, uint64_t bytes)
{
    return tkv_space_unflushed(store) + bytes >=
           atomic_load_explicit(&store->space_left, memory_order_relaxed);
}

enum tkv_status tkv_space_check(struct tkv_store *store, uint64_t bytes,
                                struct tkv_error *err)
{
    if (is_out_of_space(store, bytes)) {
        tkv_removed_finish(store);
        tkv_upkeep_flush(store);
    }
    if (is_out_of_space(store, bytes) && !atomic_load(&store->disk_full))
        return tkv_fail(err, TKV_NO_SPACE, "the disk is full: no space for %llu bytes",
                        (unsigned long long)bytes);
    if (!atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        return TKV_OK;
    tkv_upkeep_after_write(store); /* perhaps there is room again */
    if (!atomic_load(&store->disk_full))
        return TKV_OK;
    return tkv_fail(err, TKV_NO_SPACE,
                    "the disk is full: delete something, or make room and try again");
}
