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
 *               |<--- put_space_left -------->|               |
 *               |<--- delete_space_left --------------------->|
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

static uint64_t share_of(struct tkv_store *store, uint64_t disk_bytes)
{
    const uint64_t capacity = tkv_files_capacity(store);

    return capacity < disk_bytes / 16 ? capacity : disk_bytes / 16;
}

static uint64_t beyond(uint64_t bytes, uint64_t reserve)
{
    return bytes > reserve ? bytes - reserve : 0;
}

/* For whom how much is left; all UINT64_MAX when the file system does not say: then a write will
 * tell. */
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

    if (store->os->fs_info(store->os, store->dir, &info) < 0)
        return (struct space){UINT64_MAX, UINT64_MAX, UINT64_MAX};
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
    atomic_fetch_add_explicit(&store->flushed_bytes, flushed, memory_order_release);
    return tkv_space_unflushed(store) < space.puts;
}

bool tkv_space_permits(struct tkv_store *store, uint64_t bytes)
{
    const uint64_t needed = tkv_space_unflushed(store) + bytes;

    return measure_for(store, needed).puts > needed;
}

uint64_t tkv_space_for_compaction(struct tkv_store *store)
{
    const uint64_t left = measure(store).compaction;

    return left != UINT64_MAX ? beyond(left, tkv_space_unflushed(store)) : UINT64_MAX;
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
}

void tkv_space_note(struct tkv_store *store)
{
    if (tkv_space_look(store, 0))
        atomic_store(&store->disk_full, false);
    else
        tkv_space_exhausted(store);
}

/* ---- Before a write -------------------------------------------------------------- */

static bool is_within(struct tkv_store *store, uint64_t bytes, _Atomic uint64_t *space_left)
{
    return tkv_space_unflushed(store) + bytes <
           atomic_load_explicit(space_left, memory_order_relaxed);
}

/* Likewise, after what is in memory and what was removed have been brought to the disk. */
static bool is_within_now(struct tkv_store *store, uint64_t bytes,
                          _Atomic uint64_t *space_left)
{
    tkv_removed_finish(store);
    tkv_upkeep_flush(store);
    return is_within(store, bytes, space_left);
}

bool tkv_space_is_short(struct tkv_store *store)
{
    return atomic_load(&store->disk_full) &&
           !is_within(store, 0, &store->delete_space_left);
}

enum tkv_status tkv_space_check(struct tkv_store *store, uint64_t bytes,
                                struct tkv_error *err)
{
    if (!is_within(store, bytes, &store->put_space_left) &&
        !is_within_now(store, bytes, &store->put_space_left) &&
        !atomic_load(&store->disk_full))
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

#define MAKE_ROOM_STEPS 16u /* compactions that one delete waits for */

/* One compaction may gain less than a delete needs, or others may be faster. */
static bool TKV_COLD make_room_for_deletes(struct tkv_store *store, uint64_t bytes)
{
    bool is_within = is_within_now(store, bytes, &store->delete_space_left), did = true;

    for (unsigned i = 0; i < MAKE_ROOM_STEPS && did && !is_within; i++) {
        did = tkv_upkeep_make_room(store);
        is_within = is_within_now(store, bytes, &store->delete_space_left);
    }
    return is_within;
}

enum tkv_status tkv_space_check_deletes(struct tkv_store *store, uint64_t bytes,
                                        struct tkv_error *err)
{
    if (is_within(store, bytes, &store->delete_space_left) ||
        make_room_for_deletes(store, bytes))
        return TKV_OK;
    return tkv_fail(err, TKV_NO_SPACE,
                    "the disk is full, and what is left is for a compaction: make room, or "
                    "compact, and try again");
}
