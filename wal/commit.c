/* SPDX-License-Identifier: MIT */
/*
 * commit.c - how writes get into the log: what every group goes through, and the relaxed
 * modes, where each write is a group of its own and is stored into the mapping. In mode ALWAYS
 * many share a group, in lead.c; wal.h has the life of a commit.
 *
 * Invariant: sequence numbers are given in the order of the log, and groups are applied in
 * that order, each when it is as durable as the mode demands.
 *
 * When something fails, wal.h says what that does to the group and to the log.
 *
 * Threads: any.
 */
#include "wal_private.h"

#include "error.h"
#include "file_name.h"
#include "record.h"

#include <assert.h>
#include <stdlib.h>

#define BUFFER_SIZE_FIRST (64u * 1024)
#define BUFFER_SIZE_KEPT  (4u * 1024 * 1024)

/* ---- A group, in every mode ------------------------------------------------------ */

static enum tkv_status reserve(struct tkv_wal_group_buffer *b, size_t more,
                               struct tkv_error *err)
{
    const size_t need = (size_t)tkv_round_up(TKV_GROUP_HEADER_SIZE + b->payload_size + more,
                                             TKV_BLOCK_SIZE);
    size_t capacity = b->capacity < BUFFER_SIZE_FIRST ? BUFFER_SIZE_FIRST : b->capacity;
    uint8_t *bytes;

    if (need <= b->capacity)
        return TKV_OK;
    while (capacity < need)
        capacity *= 2;
    bytes = aligned_alloc(TKV_BLOCK_SIZE, capacity);
    if (bytes == NULL)
        return tkv_fail_memory(err, capacity, "a commit group");
    if (b->payload_size > 0)
        memcpy(bytes + TKV_GROUP_HEADER_SIZE, b->bytes + TKV_GROUP_HEADER_SIZE,
               b->payload_size);
    free(b->bytes);
    b->bytes = bytes;
    b->capacity = capacity;
    return TKV_OK;
}

enum tkv_status tkv_wal_join_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   struct tkv_wal_write *write, struct tkv_error *err)
{
    uint8_t *at;
    enum tkv_status status = reserve(b, write->size, err);

    if (status != TKV_OK)
        return status;
    if (b->first == NULL)
        b->seq_first = wal->seq_next;
    write->payload_offset = b->payload_size;
    at = b->bytes + TKV_GROUP_HEADER_SIZE + b->payload_size;
    memcpy(at, write->bytes, write->size);
    for (size_t i = 0; i < write->count; i++)
        tkv_record_seal(at + write->items[i].offset, write->items[i].body_sum,
                        wal->seq_next++);
    b->payload_size += write->size;
    b->count += (uint32_t)write->count;
    b->writers++;
    *b->last = write;
    b->last = &write->next;
    return TKV_OK;
}

void tkv_wal_empty_group(struct tkv_wal_group_buffer *b)
{
    b->payload_size = 0;
    b->count = 0;
    b->writers = 0;
    b->first = NULL;
    b->last = &b->first;
    if (b->capacity > BUFFER_SIZE_KEPT) {
        free(b->bytes);
        b->bytes = NULL;
        b->capacity = 0;
    }
}

uint32_t tkv_wal_stamp_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                             const struct tkv_ring_place *place, uint64_t extent)
{
    const size_t used = TKV_GROUP_HEADER_SIZE + b->payload_size;
    const struct tkv_group group = {
        .salt = wal->salt,
        .position = place->position,
        .seq = b->seq_first,
        .durable = wal->durable,
        .payload_size = (uint32_t)b->payload_size,
        .count = b->count,
        .chain = wal->chain,
        .ends_at_block = wal->always,
    };

    memset(b->bytes + used, 0, (size_t)extent - used);
    return tkv_group_encode(&group, tkv_group_seed(wal->uuid, place->file_offset),
                            b->bytes);
}

void tkv_wal_count_group(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                         const struct tkv_ring_place *place, uint64_t extent,
                         uint32_t chain)
{
    tkv_ring_advance(&wal->ring, place, extent);
    wal->chain = chain;
    if (wal->always) {
        wal->durable = wal->ring.head.position;
        wal->counters.syncs++;
    }
    wal->counters.groups++;
    wal->counters.records += b->count;
    if (b->count > wal->counters.records_max)
        wal->counters.records_max = b->count;
    wal->counters.bytes_written += extent;
}

struct tkv_wal_applied tkv_wal_describe_applied(const struct tkv_wal *wal,
                                                const struct tkv_wal_group_buffer *b)
{
    return (struct tkv_wal_applied){
        .payload = b->bytes + TKV_GROUP_HEADER_SIZE,
        .payload_size = b->payload_size,
        .writes = b->first,
        .seq_first = b->seq_first,
        .seq_next = b->seq_first + b->count,
        .chain = wal->chain,
        .end = wal->ring.head,
    };
}

enum tkv_status tkv_wal_find_room(struct tkv_wal *wal, uint64_t extent,
                                  struct tkv_ring_place *ret_place, struct tkv_error *err)
{
    while (!tkv_ring_fit(&wal->ring, extent, wal->always || wal->align_next, ret_place)) {
        enum tkv_status status;

        tkv_mutex_unlock(wal->lock);
        status = wal->owner.make_room(wal->owner.context, extent, err);
        tkv_mutex_lock(wal->lock);
        if (status != TKV_OK)
            return status;
        if (wal->poisoned != TKV_OK)
            return tkv_wal_fail_poisoned(wal, err);
    }
    return TKV_OK;
}

enum tkv_status tkv_wal_check_usable(const struct tkv_wal *wal,
                                     const struct tkv_wal_write *write,
                                     struct tkv_error *err)
{
    if (wal->poisoned != TKV_OK)
        return tkv_wal_fail_poisoned(wal, err);
    if (wal->seq_next > (uint64_t)INT64_MAX - write->count)
        return tkv_fail(err, TKV_TOO_BIG, "sequence number %llu: the store is used up",
                        (unsigned long long)wal->seq_next);
    return TKV_OK;
}

/* ---- Relaxed modes: store and apply under the lock ------------------------------- */

static enum tkv_status put_bytes(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                                 uint64_t offset, size_t size, struct tkv_error *err)
{
    int result;

    if (wal->map != NULL) {
        wal->os->store(wal->os, wal->fd, wal->map, offset, b->bytes, size);
        tkv_fetch_to_write((uintptr_t)wal->map + (uintptr_t)offset + size);
        return TKV_OK;
    }
    result = tkv_os_write_all(wal->os, wal->fd, b->bytes, size, offset);
    if (result == 0)
        return TKV_OK;
    /* The head has not moved: the next group overwrites what this one left, and were it only
     * in part, chain and checksums tell. */
    return tkv_fail_os(err, result, TKV_WAL_NAME, "write a group at offset %llu of %s",
                       (unsigned long long)offset, TKV_WAL_NAME);
}

static bool is_wanted(const struct tkv_wal *wal, const struct tkv_wal_write *write)
{
    return write->is_wanted == NULL || write->is_wanted(wal->owner.context, write);
}

/* The owner has prepared for it. */
static enum tkv_status store_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   const struct tkv_ring_place *place, uint64_t extent,
                                   struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    const uint32_t chain = tkv_wal_stamp_group(wal, b, place, extent);
    struct tkv_wal_applied applied;
    enum tkv_status status;

    if (!is_wanted(wal, b->first)) {
        wal->seq_next = b->seq_first;
        return TKV_NOT_FOUND;
    }
    status = put_bytes(wal, b, place->file_offset, (size_t)extent, err);
    if (status != TKV_OK)
        return status;
    wal->align_next = false;
    tkv_wal_count_group(wal, b, place, extent, chain);
    applied = tkv_wal_describe_applied(wal, b);
    wal->owner.apply(wal->owner.context, &applied);
    return TKV_OK;
}

static enum tkv_status commit_relaxed(struct tkv_wal *wal, struct tkv_wal_write *write,
                                      struct tkv_error *err) TKV_REQUIRES(wal->lock)
{
    struct tkv_wal_group_buffer *b = &wal->buffers[0];
    const uint64_t extent = tkv_group_extent((uint32_t)write->size, false);
    struct tkv_ring_place place;
    enum tkv_status status;

    status = tkv_wal_check_usable(wal, write, err);
    if (status != TKV_OK)
        return status;
    /* Others may take the room while it is being made: whoever looks first after that gets
     * it, and `place` is only valid until the lock is dropped. */
    status = tkv_wal_find_room(wal, extent, &place, err);
    if (status != TKV_OK)
        return status;
    status = wal->owner.prepare(wal->owner.context, write->size, err);
    if (status != TKV_OK)
        return status;
    status = tkv_wal_join_group(wal, b, write, err);
    if (status == TKV_OK)
        status = store_group(wal, b, &place, extent, err);
    tkv_wal_empty_group(b);
    return status;
}

enum tkv_status tkv_wal_commit(struct tkv_wal *wal, struct tkv_wal_write *write,
                               struct tkv_error *err)
{
    enum tkv_status status;

    assert(write->count > 0);
    write->next = NULL;
    write->done = false;
    write->status = TKV_OK;
    if (!wal->always) {
        tkv_mutex_lock(wal->lock);
        status = commit_relaxed(wal, write, err);
        tkv_mutex_unlock(wal->lock);
        return status;
    }
    if (!is_wanted(wal, write))
        return TKV_NOT_FOUND;
    (void)sem_init(&write->woken, 0, 0);
    status = tkv_wal_commit_durably(wal, write, err);
    (void)sem_destroy(&write->woken);
    return status;
}
