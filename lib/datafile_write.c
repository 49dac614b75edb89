/* SPDX-License-Identifier: MIT */
/*
 * datafile_write.c - a data file on its way to disk: created, written in pieces, synced, and
 * mapped in place of its memory tail once its bytes are final.
 *
 * When something fails: what was written counts only when a checkpoint has synced it; `written`
 * says how far the last write came, and the next one goes on there.
 *
 * Threads: one at a time, with the owner's upkeep lock.
 */
#include "datafile.h"

#include "datafile_header.h"
#include "error.h"

#include <assert.h>
#include <stdlib.h>

static enum tkv_status create(struct tkv_datafile *file, int dir, bool *ret_created,
                              struct tkv_error *err)
{
    if (file->fd >= 0)
        return TKV_OK;
    assert(!file->exists); /* a descriptor is closed only when nothing will be written */
    file->fd = file->os->open(file->os, dir, file->name,
                              TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    if (file->fd < 0) {
        const int result = file->fd;

        file->fd = -1;
        return tkv_fail_os(err, result, file->name, "create %s", file->name);
    }
    (void)file->os->advise(file->os, file->fd, TKV_OS_RANDOM); /* advice only */
    file->exists = true;
    *ret_created = true;
    return TKV_OK;
}

enum tkv_status tkv_datafile_write(struct tkv_datafile *file, int dir, uint64_t target,
                                   bool *ret_created, struct tkv_error *err)
{
    uint64_t at = atomic_load(&file->written);
    const uint8_t *tail = atomic_load(&file->tail);
    enum tkv_status status;

    if (at >= target)
        return TKV_OK;
    status = create(file, dir, ret_created, err);
    while (status == TKV_OK && at < target) {
        const uint64_t end = at + TKV_PIECE_SIZE - at % TKV_PIECE_SIZE;
        const size_t size = (size_t)((target < end ? target : end) - at);
        const int result =
            tkv_os_write_all(file->os, file->fd, tail + (at - file->tail_start), size, at);

        if (result < 0)
            return tkv_fail_os(err, result, file->name,
                               "write %zu bytes at offset %llu of %s", size,
                               (unsigned long long)at, file->name);
        at += size;
        atomic_store_explicit(&file->written, at, memory_order_release);
    }
    return status;
}

enum tkv_status tkv_datafile_sync(struct tkv_datafile *file, struct tkv_error *err)
{
    const int result = file->os->sync(file->os, file->fd);

    return result < 0 ? tkv_fail_lost(err, result, file->name, "sync %s", file->name)
                      : TKV_OK;
}

static void close_if_mapped(struct tkv_datafile *file)
{
    if (file->fd < 0 || !atomic_load(&file->sealed) || atomic_load(&file->tail) != NULL)
        return;
    if (atomic_load(&file->map) == NULL || file->map_size < atomic_load(&file->size))
        return;
    (void)file->os->close(file->os, file->fd); /* durable, and the mapping stays */
    file->fd = -1;
}

void tkv_datafile_settle(struct tkv_datafile *file)
{
    tkv_datafile_map(file, atomic_load(&file->size));
    close_if_mapped(file);
}

bool tkv_datafile_is_settled(struct tkv_datafile *file)
{
    return atomic_load(&file->tail) != NULL && atomic_load(&file->sealed) &&
           file->durable_sealed && file->durable == atomic_load(&file->size);
}

bool tkv_datafile_retire_tail(struct tkv_datafile *file)
{
    uint8_t *tail = atomic_load(&file->tail);

    if (!tkv_datafile_is_settled(file))
        return false;
    tkv_datafile_map(file, atomic_load(&file->size));
    file->retired_tail = tail;
    atomic_store(&file->tail, NULL);
    return true;
}

void tkv_datafile_free_tail(struct tkv_datafile *file)
{
    /* Pins may lend bytes of it, and a walk may be reading by the descriptor; nobody new can,
     * so the next attempt is as good. */
    if (atomic_load(&file->references) != 1)
        return;
    free(file->retired_tail);
    file->retired_tail = NULL;
    close_if_mapped(file);
}
