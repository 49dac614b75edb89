/* SPDX-License-Identifier: MIT */
/*
 * wal.c - the log as a file: opened, synced, and its checkpoint header written. grow.c gives it
 * blocks; writes get into it in commit.c and lead.c.
 *
 * Invariant: everything before `durable` is on disk.
 *
 * When something fails: a failed sync or header poisons the log.
 *
 * Threads: any; the owner sees to it that headers are written one at a time.
 */
#include "wal_private.h"

#include "error.h"
#include "file_name.h"
#include "give_way.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define GROUP_SIZE_MAX (1024u * 1024)

/* ---- Poison ---------------------------------------------------------------------- */

void tkv_wal_poison_locked(struct tkv_wal *wal, enum tkv_status status)
{
    if (wal->poisoned == TKV_OK)
        wal->poisoned = status;
}

void tkv_wal_poison(struct tkv_wal *wal, enum tkv_status status)
{
    tkv_mutex_lock(wal->lock);
    tkv_wal_poison_locked(wal, status);
    tkv_mutex_unlock(wal->lock);
}

enum tkv_status tkv_wal_fail_poisoned(const struct tkv_wal *wal, struct tkv_error *err)
{
    return tkv_fail(err, TKV_POISONED,
                    "an earlier write or sync failed (%s); open the store again to write",
                    tkv_status_text(wal->poisoned));
}

/* ---- Opening and closing --------------------------------------------------------- */

static void init_buffers(struct tkv_wal *wal)
{
    (void)pthread_cond_init(&wal->can_join, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_wal_group_buffer *b = &wal->buffers[i];

        tkv_gate_init(&b->gate);
        b->last = &b->first;
    }
}

/* An empty ring, and no file yet. */
static void init_fields(struct tkv_wal *wal, const struct tkv_wal_config *config)
{
    const struct tkv_ring_place start = {config->position, TKV_WAL_RING_START, 0};

    memset(wal, 0, sizeof *wal);
    wal->os = config->os;
    wal->owner = config->owner;
    memcpy(wal->uuid, config->uuid, sizeof wal->uuid);
    wal->always = config->always;
    wal->size_max = config->size_max;
    /* An empty ring takes any group of a quarter of it, wherever its head is. */
    wal->group_size_max = config->size_max / 4 < GROUP_SIZE_MAX
                              ? (size_t)(config->size_max / 4)
                              : GROUP_SIZE_MAX;
    wal->salt = config->salt;
    wal->seq_next = config->seq_next;
    wal->durable = config->position;
    wal->ring.end = config->ring_end;
    wal->ring.head = wal->ring.tail = start;
    wal->fd = wal->direct_fd = -1;
    tkv_mutex_init(&wal->own_lock);
    wal->lock = config->always || config->lock == NULL ? &wal->own_lock : config->lock;
    tkv_mutex_init(&wal->sync_lock);
    init_buffers(wal);
}

static enum tkv_status open_file(struct tkv_wal *wal, int dir, struct tkv_error *err)
{
    struct tkv_os *os = wal->os;

    wal->fd = os->open(os, dir, TKV_WAL_NAME, TKV_OS_WRITE);
    if (wal->fd < 0)
        return tkv_fail_os(err, wal->fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    wal->direct_fd = os->open(os, dir, TKV_WAL_NAME, TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);
    if (wal->direct_fd < 0 && wal->direct_fd != -EINVAL)
        return tkv_fail_os(err, wal->direct_fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    if (!wal->always) {
        /* Without a mapping each commit is a write, which promises the same. */
        if (tkv_os_map(os, wal->fd, wal->size_max, true, &wal->map) < 0)
            wal->map = NULL;
    }
    return TKV_OK;
}

enum tkv_status tkv_wal_open(struct tkv_wal *wal, const struct tkv_wal_config *config,
                             struct tkv_error *err)
{
    enum tkv_status status;

    init_fields(wal, config);
    if (wal->always)
        tkv_give_way_begin();
    wal->block = aligned_alloc(TKV_BLOCK_SIZE, TKV_BLOCK_SIZE);
    status = wal->block != NULL ? open_file(wal, config->dir, err)
                                : tkv_fail_memory(err, TKV_BLOCK_SIZE, "a header block");
    if (status != TKV_OK)
        tkv_wal_close(wal);
    return status;
}

void tkv_wal_abandon(struct tkv_wal *wal)
{
    if (wal->os == NULL)
        return;
    if (wal->map != NULL)
        tkv_os_unmap(wal->os, wal->map, wal->size_max);
    if (wal->direct_fd >= 0)
        (void)wal->os->close(wal->os, wal->direct_fd);
    if (wal->fd >= 0)
        (void)wal->os->close(wal->os, wal->fd);
    for (unsigned i = 0; i < 2; i++)
        free(wal->buffers[i].bytes);
    free(wal->block);
    if (wal->always)
        tkv_give_way_end();
    wal->os = NULL;
}

void tkv_wal_close(struct tkv_wal *wal)
{
    if (wal->os == NULL)
        return;
    tkv_wal_abandon(wal);
    for (unsigned i = 0; i < 2; i++)
        tkv_gate_destroy(&wal->buffers[i].gate);
    (void)pthread_cond_destroy(&wal->can_join);
    tkv_mutex_destroy(&wal->sync_lock);
    tkv_mutex_destroy(&wal->own_lock);
    memset(wal, 0, sizeof *wal);
}

/* ---- Sync, checkpoint header, state ---------------------------------------------- */

/* The system tells one of those who sync a descriptor that pages of it were lost: the next one
 * must find the log poisoned. */
int tkv_wal_sync_file(struct tkv_wal *wal)
{
    int result = -EIO;

    tkv_mutex_lock(&wal->sync_lock);
    if (tkv_wal_poisoned(wal) == TKV_OK)
        result = wal->os->sync(wal->os, wal->fd);
    if (result < 0)
        tkv_wal_poison(wal, TKV_IO);
    tkv_mutex_unlock(&wal->sync_lock);
    return result;
}

static enum tkv_status sync_to_head(struct tkv_wal *wal, struct tkv_error *err)
    TKV_REQUIRES(wal->sync_lock)
{
    enum tkv_status status = TKV_OK;
    uint64_t target;
    bool is_needed;
    int result;

    tkv_mutex_lock(wal->lock);
    target = wal->ring.head.position;
    is_needed = target > wal->durable;
    if (wal->poisoned != TKV_OK)
        status = tkv_wal_fail_poisoned(wal, err);
    else if (is_needed)
        wal->align_next = true;
    tkv_mutex_unlock(wal->lock);
    if (status != TKV_OK || !is_needed)
        return status;

    tkv_give_way_begin();
    result = wal->os->sync(wal->os, wal->fd);
    tkv_give_way_end();
    tkv_mutex_lock(wal->lock);
    wal->counters.syncs++;
    if (result < 0)
        tkv_wal_poison_locked(wal, TKV_IO);
    else if (target > wal->durable)
        wal->durable = target;
    tkv_mutex_unlock(wal->lock);
    return result < 0 ? tkv_fail_lost(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME)
                      : TKV_OK;
}

enum tkv_status tkv_wal_sync(struct tkv_wal *wal, struct tkv_error *err)
{
    enum tkv_status status;

    tkv_mutex_lock(&wal->sync_lock);
    status = sync_to_head(wal, err);
    tkv_mutex_unlock(&wal->sync_lock);
    return status;
}

int tkv_wal_write_durably(struct tkv_wal *wal, const void *bytes, size_t size,
                          uint64_t offset)
{
    struct tkv_os *os = wal->os;
    int result;

    if (wal->direct_fd >= 0)
        return tkv_os_write_all(os, wal->direct_fd, bytes, size, offset);
    result = tkv_os_write_all(os, wal->fd, bytes, size, offset);
    return result < 0 ? result : tkv_wal_sync_file(wal);
}

enum tkv_status tkv_wal_write_header(struct tkv_wal *wal, struct tkv_wal_header *header,
                                     struct tkv_error *err)
{
    const uint64_t offset = header->checkpoint.generation % 2 * TKV_BLOCK_SIZE;
    enum tkv_status status;
    int result;

    tkv_mutex_lock(wal->lock);
    status = wal->poisoned == TKV_OK ? TKV_OK : tkv_wal_fail_poisoned(wal, err);
    if (status != TKV_OK) {
        tkv_mutex_unlock(wal->lock);
        return status;
    }
    header->ring_end = wal->ring.end;
    header->durable_mark = wal->durable;
    wal->counters.syncs++;
    wal->counters.bytes_written += TKV_BLOCK_SIZE;
    tkv_mutex_unlock(wal->lock);

    tkv_wal_header_encode(header, wal->block);
    result = tkv_wal_write_durably(wal, wal->block, TKV_BLOCK_SIZE, offset);
    if (result < 0) {
        tkv_wal_poison(wal, TKV_IO);
        return tkv_fail_lost(err, result, TKV_WAL_NAME,
                             "write the checkpoint at offset %llu of %s",
                             (unsigned long long)offset, TKV_WAL_NAME);
    }
    return TKV_OK;
}

bool tkv_wal_has_room(struct tkv_wal *wal, uint64_t extent)
{
    struct tkv_ring_place place;
    bool fits;

    tkv_mutex_lock(wal->lock);
    fits = tkv_ring_fit(&wal->ring, extent, wal->always || wal->align_next, &place);
    tkv_mutex_unlock(wal->lock);
    return fits;
}

void tkv_wal_release(struct tkv_wal *wal, const struct tkv_ring_place *place)
{
    tkv_mutex_lock(wal->lock);
    tkv_ring_release(&wal->ring, place);
    /* What lies before is on disk, in the data files: were it missed, the groups that follow
     * must say that it was there. */
    if (place->position > wal->durable)
        wal->durable = place->position;
    tkv_mutex_unlock(wal->lock);
}

enum tkv_status tkv_wal_poisoned(struct tkv_wal *wal)
{
    enum tkv_status status;

    tkv_mutex_lock(wal->lock);
    status = wal->poisoned;
    tkv_mutex_unlock(wal->lock);
    return status;
}

void tkv_wal_state(struct tkv_wal *wal, struct tkv_wal_state *ret_state)
{
    tkv_mutex_lock(wal->lock);
    ret_state->used = tkv_ring_used(&wal->ring);
    ret_state->capacity = tkv_ring_capacity(&wal->ring);
    ret_state->end = wal->ring.end;
    ret_state->wrapped = wal->ring.head.lap != wal->ring.tail.lap;
    ret_state->head_position = wal->ring.head.position;
    ret_state->durable = wal->durable;
    ret_state->seq_next = wal->seq_next;
    ret_state->poisoned = wal->poisoned;
    ret_state->counters = wal->counters;
    tkv_mutex_unlock(wal->lock);
}
