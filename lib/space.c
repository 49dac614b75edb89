/* SPDX-License-Identifier: MIT */
/*
 * space.c - what is left of the disk, and for whom.
 *
 * The last of the disk is kept for what makes room: for a compaction, and above that for deletes,
 * without which there would be nothing to compact. Each has a data file's worth, or a sixteenth
 * of a small disk. What is in memory must fit beside them at any time, or the next opening would
 * find a log that it cannot flush.
 *
 *     |  files  |  memory tails  |  for puts  |  for deletes  |  for a compaction  |
 *               |<--- put_space_left -------->|               |                    |
 *               |<--- delete_space_left --------------------->|                    |
 *               |<--- last_space_left -------------------------------------------->|
 *
 * Whatever else grows (the log, hints) leaves the same alone as puts do. A full disk clears by
 * itself: the flusher, or without threads the next write, looks again.
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

/* What any change of the set of files takes: a manifest beside the old one, the rest of the last
 * blocks of files that grow, and what the file system needs for names. */
static uint64_t bytes_of_change(struct tkv_store *store)
{
    return tkv_manifest_size(tkv_usage_get(&store->file_count) + TKV_OUTPUT_COUNT) +
           16 * TKV_BLOCK_SIZE;
}

/* A commit lies in one file, however long, and a compaction has to copy what is live in it. */
static uint64_t share_of(struct tkv_store *store, uint64_t disk_bytes)
{
    const uint64_t longest = atomic_load(&store->longest_file);
    const uint64_t capacity = tkv_files_capacity(store);
    const uint64_t file = longest > capacity ? longest : capacity;

    return file < disk_bytes / TKV_DISK_SHARE ? file : disk_bytes / TKV_DISK_SHARE;
}

static uint64_t beyond(uint64_t bytes, uint64_t reserve)
{
    return bytes > reserve ? bytes - reserve : 0;
}

/* For whom how much is left; all UINT64_MAX when the file system does not say, or says that it has
 * no size: then a write will tell. */
struct space {
    uint64_t puts, deletes, compaction;
};

static struct space measure(struct tkv_store *store)
{
    /* What the last flush left in memory, if no checkpoint has written it since. */
    const uint64_t kept = atomic_load(&store->flush_kept);
    const uint64_t change = bytes_of_change(store);
    struct tkv_os_fs_info info;
    uint64_t reserve;

    if (store->os->fs_info(store->os, store->dir, &info) < 0 || info.total_bytes == 0)
        return (struct space){UINT64_MAX, UINT64_MAX, UINT64_MAX};
    atomic_store(&store->disk_bytes, info.total_bytes);
    reserve = change + share_of(store, info.total_bytes);
    return (struct space){
        .puts = beyond(info.free_bytes,
                       2 * reserve + (kept > TKV_FLUSH_SIZE ? kept : TKV_FLUSH_SIZE)),
        .deletes = beyond(info.free_bytes, reserve + change + kept),
        .compaction = beyond(info.free_bytes, change + kept),
    };
}

/* The same, when puts want `needed`: what removed files still occupy is given back first. */
static struct space measure_for(struct tkv_store *store, uint64_t needed)
{
    const struct space space = measure(store);

    if (space.puts > needed || !tkv_removed_step(store))
        return space;
    tkv_removed_finish(store);
    return measure(store);
}

bool tkv_space_look(struct tkv_store *store, uint64_t flushed)
{
    const struct space space = measure_for(store, tkv_space_unflushed(store));

    /* In this order, what was flushed counts twice for a moment, never not at all. */
    atomic_store(&store->put_space_left, space.puts);
    atomic_store(&store->delete_space_left, space.deletes);
    atomic_store(&store->last_space_left, space.compaction);
    atomic_fetch_add_explicit(&store->flushed_bytes, flushed, memory_order_release);
    return tkv_space_unflushed(store) < space.puts;
}

bool tkv_space_permits(struct tkv_store *store, uint64_t bytes)
{
    const uint64_t needed = tkv_space_wanted(store) + bytes;

    return measure_for(store, needed).puts > needed;
}

uint64_t tkv_space_for_compaction(struct tkv_store *store)
{
    const uint64_t left = measure(store).compaction;

    return left != UINT64_MAX ? beyond(left, tkv_space_wanted(store)) : UINT64_MAX;
}

static void take(_Atomic uint64_t *space_left, uint64_t bytes)
{
    const uint64_t left = atomic_load(space_left);

    if (left != UINT64_MAX)
        atomic_store(space_left, beyond(left, bytes));
}

void tkv_space_take(struct tkv_store *store, uint64_t bytes)
{
    take(&store->put_space_left, bytes);
    take(&store->delete_space_left, bytes);
    take(&store->last_space_left, bytes);
}

void tkv_space_note(struct tkv_store *store)
{
    if (tkv_space_look(store, 0))
        atomic_store(&store->disk_full, false);
    else
        tkv_space_exhausted(store);
}

bool tkv_space_is_short(struct tkv_store *store, uint64_t bytes)
{
    return tkv_space_wanted(store) + bytes >= atomic_load(&store->delete_space_left);
}

bool tkv_space_note_file(struct tkv_store *store, uint64_t bytes)
{
    uint64_t longest = atomic_load(&store->longest_file);

    while (bytes > longest) {
        if (atomic_compare_exchange_weak(&store->longest_file, &longest, bytes))
            return true;
    }
    return false;
}
