/* SPDX-License-Identifier: MIT */
/*
 * flush.c - memory tails to disk: written in large pieces, and in the relaxed modes long before
 * somebody has to wait for them. Nothing here makes a record durable for anybody who counts on
 * it; that is said by a checkpoint or by a manifest.
 *
 * When something fails:
 *   - A write: the tail keeps its bytes. It is tried again by whoever needs them on disk, and
 *     judged there.
 *   - A sync, or pages that the system could not write back: poison.
 *
 * Threads: with `upkeep` held.
 */
#include "store.h"

#include <errno.h>

enum tkv_status tkv_flush_note_sync(struct tkv_store *store, enum tkv_status status)
{
    if (status != TKV_OK)
        tkv_store_poison(store, status);
    return status;
}

enum tkv_status tkv_flush_sync(struct tkv_store *store, struct tkv_datafile *file,
                               struct tkv_error *err)
{
    tkv_usage_add(&store->counters.data_syncs, 1);
    return tkv_flush_note_sync(store, tkv_datafile_sync(file, err));
}

enum tkv_status tkv_flush_directory(struct tkv_store *store, struct tkv_error *err)
{
    int result;

    if (!store->dir_changed)
        return TKV_OK;
    result = store->os->sync_dir(store->os, store->dir);
    tkv_usage_add(&store->counters.data_syncs, 1);
    if (result < 0)
        return tkv_flush_note_sync(
            store, tkv_fail_lost(err, result, "", "sync the store's directory"));
    store->dir_changed = false;
    return TKV_OK;
}

enum tkv_status tkv_flush_log(struct tkv_store *store, struct tkv_error *err)
{
    const enum tkv_status status = tkv_wal_sync(&store->wal, err);

    if (status == TKV_IO) /* else it was poisoned before, with its own reason */
        tkv_store_poison(store, status);
    return status;
}

enum tkv_status tkv_flush_file(struct tkv_store *store, struct tkv_datafile *file,
                               uint64_t target, struct tkv_error *err)
{
    const bool is_waited_for = store->options.durability == TKV_DURABILITY_ALWAYS;
    const uint64_t before = atomic_load(&file->written);
    enum tkv_status status = TKV_OK;
    uint64_t at = before;

    while (status == TKV_OK && at < target) {
        const bool is_step = is_waited_for && target - at > TKV_FLUSH_SIZE;
        const uint64_t end = at + TKV_FLUSH_SIZE - at % TKV_BLOCK_SIZE;

        status = tkv_datafile_write(file, store->dir, is_step ? end : target,
                                    &store->dir_changed, err);
        if (status == TKV_OK && is_step)
            status = tkv_flush_sync(store, file, err);
        at = atomic_load(&file->written);
    }
    tkv_usage_add(&store->counters.data_bytes_written, at - before);
    if (file->file_class == TKV_FILE_COMPACTED)
        tkv_usage_add(&store->counters.compaction_bytes_written, at - before);
    return status;
}

/* Not being heard is no failure; pages that could not be written are one, and whether the next
 * sync says so as well is up to the file system. */
static enum tkv_status begin_write_back(struct tkv_store *store, struct tkv_datafile *file,
                                        struct tkv_error *err)
{
    const int result = store->os->advise(store->os, file->fd, TKV_OS_WRITE_BACK);

    if (result != -EIO && result != -ENOSPC && result != -EDQUOT)
        return TKV_OK;
    return tkv_flush_note_sync(
        store, tkv_fail_lost(err, result, file->name, "write %s back", file->name));
}

/* Nobody waits for these bytes before a checkpoint or a compaction syncs them. In the relaxed
 * modes the device begins with them now, so that such a sync finds little left to wait for. */
static enum tkv_status flush_ahead(struct tkv_store *store, struct tkv_datafile *file,
                                   uint64_t target, struct tkv_error *err)
{
    const enum tkv_status status = tkv_flush_file(store, file, target, err);

    if (status != TKV_OK || store->options.durability == TKV_DURABILITY_ALWAYS)
        return status;
    return begin_write_back(store, file, err);
}

/* Up to where it is worth writing a file of `size` bytes. A remainder waits for more: space.c
 * keeps room for it. */
static uint64_t end_worth_writing(struct tkv_datafile *file, uint64_t size, bool by_pieces)
{
    const uint64_t written = atomic_load(&file->written);

    if (atomic_load(&file->sealed))
        return size;
    if (by_pieces)
        return size - size % TKV_PIECE_SIZE;
    return size - written >= TKV_FLUSH_SIZE ? size : written;
}

static enum tkv_status flush_puts(struct tkv_store *store, bool by_pieces,
                                  struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);
    enum tkv_status status = TKV_OK;
    uint64_t kept = 0;

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);
        uint64_t size, end;

        if (file == NULL || !tkv_flush_is_fed_by_log(file))
            continue;
        size = atomic_load_explicit(&file->size, memory_order_acquire);
        end = end_worth_writing(file, size, by_pieces);
        if (status == TKV_OK && end > atomic_load(&file->written))
            status = flush_ahead(store, file, end, err);
        kept += size - atomic_load(&file->written);
    }
    atomic_store(&store->flush_kept, kept);
    return status;
}

/* While the compactor copies. A write that fails is tried again when it settles, and judged
 * there. */
static void flush_survivors(struct tkv_store *store)
{
    const uint32_t used = atomic_load(&store->slots_used);

    for (uint32_t slot = 0; slot < used && atomic_load(&store->poisoned) == TKV_OK;
         slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);
        uint64_t size;

        if (file == NULL || file->file_class != TKV_FILE_COMPACTED)
            continue;
        size = atomic_load_explicit(&file->size, memory_order_acquire);
        if (size - atomic_load(&file->written) >= TKV_FLUSH_SIZE)
            (void)flush_ahead(store, file, size, NULL);
    }
}

/* The next look at the disk must not find it full because of bytes that a compaction is about to
 * trade for more. */
static bool may_write_ahead(struct tkv_store *store)
{
    return store->options.durability != TKV_DURABILITY_ALWAYS &&
           tkv_space_permits(store, 2 * tkv_files_capacity(store));
}

enum tkv_status tkv_flush_begin(struct tkv_store *store, struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);

    if (!may_write_ahead(store))
        return TKV_OK;
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);
        enum tkv_status status;
        struct tkv_error reason;
        uint64_t size;

        if (file == NULL || file->file_class == TKV_FILE_LARGE)
            continue;
        size = atomic_load_explicit(&file->size, memory_order_acquire);
        if (size <= TKV_DATA_HEADER_SIZE || size == file->durable)
            continue;
        status = flush_ahead(store, file, size, &reason);
        if (status != TKV_OK && atomic_load(&store->poisoned) != TKV_OK) {
            tkv_error_copy(err, &reason);
            return status;
        }
    }
    return TKV_OK;
}

enum tkv_status tkv_flush(struct tkv_store *store, struct tkv_error *err)
{
    const uint64_t flushing = tkv_space_unflushed(store);
    enum tkv_status status = tkv_store_check_writable(store, err);
    bool is_ahead;

    if (status != TKV_OK)
        return status; /* a failed sync is never followed by another */
    is_ahead = may_write_ahead(store);
    status = flush_puts(store, is_ahead, err);
    if (status == TKV_OK && is_ahead)
        flush_survivors(store);
    /* A write that failed for another reason than a full disk is tried again by the
     * checkpoint, which decides. */
    if (!tkv_space_look(store, flushing) || status == TKV_NO_SPACE)
        tkv_space_exhausted(store);
    return status;
}
