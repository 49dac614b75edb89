/* SPDX-License-Identifier: MIT */
/*
 * grow.c - the blocks of the log: written when it is made, added when it grows, cut off when it is
 * closed.
 *
 * Invariant: the ring never reaches beyond blocks that exist, in a file whose size is durable.
 * Those that it grew by in mode ALWAYS were written and synced.
 *
 * When something fails: a growth that the disk or a limit refused leaves the log as it was, one
 * of unknown fate poisons it.
 *
 * Threads: any; the owner sees to it that the file grows in one at a time.
 */
#include "wal_private.h"

#include "error.h"
#include "file_name.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ZERO_CHUNK_SIZE (1024u * 1024)

static size_t chunk_size(uint64_t from, uint64_t to)
{
    return to - from < ZERO_CHUNK_SIZE ? (size_t)(to - from) : ZERO_CHUNK_SIZE;
}

/* Blocks that were written once can be overwritten without any change of metadata, which a
 * merely allocated extent cannot; hence real zeros wherever a commit waits for the device. */
static int write_zeros(struct tkv_os *os, int fd, uint64_t from, uint64_t to)
{
    const size_t size = chunk_size(from, to);
    uint8_t *zeros = aligned_alloc(TKV_BLOCK_SIZE, size);
    int result = 0;

    if (zeros == NULL)
        return -ENOMEM;
    memset(zeros, 0, size);
    for (uint64_t at = from; at < to && result == 0; at += ZERO_CHUNK_SIZE)
        result = tkv_os_write_all(os, fd, zeros, chunk_size(at, to), at);
    free(zeros);
    return result;
}

static enum tkv_status fail_extend(struct tkv_error *err, int result, uint64_t end)
{
    return tkv_fail_os(err, result, TKV_WAL_NAME, "extend %s to %llu bytes", TKV_WAL_NAME,
                       (unsigned long long)end);
}

enum tkv_status tkv_wal_create(struct tkv_os *os, int dir,
                               const struct tkv_wal_header *header, struct tkv_error *err)
{
    uint8_t block[TKV_BLOCK_SIZE];
    enum tkv_status status = TKV_OK;
    int fd, result;

    fd = os->open(os, dir, TKV_WAL_NAME, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "create %s", TKV_WAL_NAME);

    result = write_zeros(os, fd, 0, header->ring_end);
    if (result < 0) {
        status = fail_extend(err, result, header->ring_end);
        goto out;
    }
    tkv_wal_header_encode(header, block);
    for (uint64_t offset = 0; offset < TKV_WAL_RING_START; offset += TKV_BLOCK_SIZE) {
        result = tkv_os_write_all(os, fd, block, sizeof block, offset);
        if (result < 0) {
            status = tkv_fail_os(err, result, TKV_WAL_NAME, "write %s", TKV_WAL_NAME);
            goto out;
        }
    }
    result = os->sync(os, fd);
    if (result < 0)
        status = tkv_fail_os(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME);
out:
    (void)os->close(os, fd); /* synced, or abandoned */
    return status;
}

static void count_sync(struct tkv_wal *wal)
{
    tkv_mutex_lock(wal->lock);
    wal->counters.syncs++;
    tkv_mutex_unlock(wal->lock);
}

/* Nothing was written, or nothing that counts: the disk had no room, or a limit stood in the
 * way. Any other failure may be the loss of what was believed to be durable. */
static bool is_refusal(int result)
{
    return result == -ENOSPC || result == -EDQUOT || result == -EFBIG || result == -ENOMEM;
}

/* Writes that are durable by themselves leave what else is dirty in the cache alone, which a sync
 * would write as well. */
static int write_zeros_durably(struct tkv_wal *wal, uint64_t from, uint64_t to,
                               bool *ret_lost)
{
    const bool is_direct = wal->direct_fd >= 0;
    int result = write_zeros(wal->os, is_direct ? wal->direct_fd : wal->fd, from, to);

    *ret_lost = is_direct && !is_refusal(result);
    if (result == 0 && !is_direct) {
        result = tkv_wal_sync_file(wal);
        *ret_lost = true;
    }
    count_sync(wal);
    return result;
}

/* A log that is mapped needs no written blocks, which a commit would wait for, but blocks that
 * exist, and a durable size. *ret_from: from where on they are to be written for that. */
static int allocate_if_mapped(struct tkv_wal *wal, uint64_t end, uint64_t *ret_from)
{
    const int result =
        wal->map != NULL ? wal->os->allocate(wal->os, wal->fd, end) : -EOPNOTSUPP;

    *ret_from = result == 0 ? end - TKV_BLOCK_SIZE : wal->ring.end;
    return result == -EOPNOTSUPP ? 0 : result;
}

static int extend(struct tkv_wal *wal, uint64_t end, bool *ret_lost)
{
    uint64_t from;
    int result = allocate_if_mapped(wal, end, &from);

    *ret_lost = false;
    if (result == 0)
        result = write_zeros_durably(wal, from, end, ret_lost);
    if (result < 0 || wal->map == NULL)
        return result;
    *ret_lost = false;
    /* A store into a page that is not in the cache would wait for the device. */
    return write_zeros(wal->os, wal->fd, wal->ring.end, end);
}

enum tkv_status TKV_COLD tkv_wal_grow(struct tkv_wal *wal, uint64_t end,
                                      struct tkv_error *err)
{
    bool is_lost;
    int result;

    end = tkv_round_up(end, TKV_BLOCK_SIZE);
    assert(end > wal->ring.end); /* its owner calls one at a time */
    assert(end <= wal->size_max);
    result = extend(wal, end, &is_lost);
    if (result < 0 && is_lost) {
        tkv_wal_poison(wal, TKV_IO);
        return tkv_fail_lost(err, result, TKV_WAL_NAME, "extend %s to %llu bytes",
                             TKV_WAL_NAME, (unsigned long long)end);
    }
    if (result < 0) {
        /* Half a growth is harmless: the ring ends where it did. Give the space back. */
        (void)wal->os->truncate(wal->os, wal->fd, wal->ring.end);
        return fail_extend(err, result, end);
    }
    tkv_mutex_lock(wal->lock);
    wal->ring.end = end;
    tkv_mutex_unlock(wal->lock);
    return TKV_OK;
}

void tkv_wal_restart(struct tkv_wal *wal, uint64_t end, struct tkv_ring_place *ret_place)
{
    tkv_mutex_lock(wal->lock);
    assert(end > TKV_WAL_RING_START && end % TKV_BLOCK_SIZE == 0);
    tkv_ring_restart(&wal->ring, end);
    *ret_place = wal->ring.head;
    tkv_mutex_unlock(wal->lock);
}

void tkv_wal_cut(struct tkv_wal *wal)
{
    uint64_t size;

    if (wal->os->file_size(wal->os, wal->fd, &size) >= 0 && size > wal->ring.end)
        (void)wal->os->truncate(wal->os, wal->fd, wal->ring.end);
}
