/* SPDX-License-Identifier: MIT */
/*
 * index_expiry.c - which keys have expired: each shard has a binary heap of its entries that
 * expire, and `earliest` says without the lock whether there is anything to do.
 *
 * Invariant: every entry with flag EXPIRES is in the heap, at the slot that its struct expiry
 * names; room in the heap is reserved before a write is logged.
 *
 * When something fails: only a reservation can; a heap that cannot shrink stays as it is.
 *
 * Threads: with the shard's lock, taken here by what is public.
 */
#include "index_table.h"

#include <stdlib.h>

#define FIRST_DUE_SIZE 8u
#define EXPIRE_AT_ONCE 16u /* removals for each time that a shard is locked */

/* ---- The heap -------------------------------------------------------------------- */

static void place_due(struct shard *shard, uint32_t slot, struct due due)
{
    shard->due[slot] = due;
    expiry_of(due.entry)->slot = slot;
}

/* Put `due` where it belongs; slot `slot` is free for it. */
static void sift_due(struct shard *shard, uint32_t slot, struct due due)
    TKV_REQUIRES(shard->lock)
{
    while (slot > 0 && shard->due[(slot - 1) / 2].expires_at_ms > due.expires_at_ms) {
        place_due(shard, slot, shard->due[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * slot + 1;

        if (child + 1 < shard->due_count &&
            shard->due[child + 1].expires_at_ms < shard->due[child].expires_at_ms)
            child++;
        if (child >= shard->due_count ||
            shard->due[child].expires_at_ms >= due.expires_at_ms)
            break;
        place_due(shard, slot, shard->due[child]);
        slot = child;
    }
    place_due(shard, slot, due);
    atomic_store_explicit(&shard->earliest, shard->due[0].expires_at_ms,
                          memory_order_relaxed);
}

static void resize_due(struct shard *shard, uint32_t capacity) TKV_REQUIRES(shard->lock)
{
    const size_t old_size = shard->due_capacity * sizeof *shard->due;
    struct due *due = realloc(shard->due, capacity * sizeof *due);

    if (due == NULL)
        return;
    shard->due = due;
    shard->due_capacity = capacity;
    add_bytes(shard, capacity * sizeof *due - old_size);
}

bool tkv_index_due_reserve(struct shard *shard)
{
    bool reserved;

    tkv_latch_take(&shard->lock);
    if (shard->due_count + shard->due_reserved == shard->due_capacity)
        resize_due(shard,
                   shard->due_capacity == 0 ? FIRST_DUE_SIZE : 2 * shard->due_capacity);
    reserved = shard->due_count + shard->due_reserved < shard->due_capacity;
    if (reserved)
        shard->due_reserved++;
    tkv_latch_release(&shard->lock);
    return reserved;
}

static void shrink_due(struct shard *shard) TKV_REQUIRES(shard->lock)
{
    const uint32_t used = shard->due_count + shard->due_reserved;

    if (used == 0 && shard->due != NULL) {
        add_bytes(shard, 0 - shard->due_capacity * sizeof *shard->due);
        free(shard->due);
        shard->due = NULL;
        shard->due_capacity = 0;
    } else if (used < shard->due_capacity / 4 && shard->due_capacity > FIRST_DUE_SIZE) {
        resize_due(shard, shard->due_capacity / 2);
    }
}

void tkv_index_due_unreserve(struct shard *shard)
{
    assert(shard->due_reserved > 0);
    shard->due_reserved--;
    shrink_due(shard);
}

void tkv_index_due_add(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
{
    assert(shard->due_reserved > 0);
    shard->due_reserved--;
    shard->due_count++;
    expiry_of(entry)->expires_at_ms = expires_at_ms;
    sift_due(shard, shard->due_count - 1, (struct due){expires_at_ms, entry});
}

void tkv_index_due_move(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
{
    expiry_of(entry)->expires_at_ms = expires_at_ms;
    sift_due(shard, expiry_of(entry)->slot, (struct due){expires_at_ms, entry});
}

void tkv_index_due_remove(struct shard *shard, struct entry *entry)
{
    const uint32_t slot = expiry_of(entry)->slot;

    shard->due_count--;
    if (slot < shard->due_count)
        sift_due(shard, slot, shard->due[shard->due_count]);
    if (shard->due_count == 0)
        atomic_store_explicit(&shard->earliest, UINT64_MAX, memory_order_relaxed);
    shrink_due(shard);
}

/* ---- Expired keys ---------------------------------------------------------------- */

bool tkv_index_has_expiring(const struct tkv_index *index)
{
    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        if (atomic_load_explicit(&index->shards[i].earliest, memory_order_relaxed) !=
            UINT64_MAX)
            return true;
    }
    return false;
}

static size_t expire_some(struct tkv_index *index, struct shard *shard, uint64_t now_ms,
                          struct tkv_location *locations, size_t capacity)
{
    size_t count = 0;

    if (capacity > EXPIRE_AT_ONCE)
        capacity = EXPIRE_AT_ONCE;
    tkv_latch_take(&shard->lock);
    while (count < capacity && shard->due_count > 0 &&
           shard->due[0].expires_at_ms <= now_ms) {
        struct entry *entry = shard->due[0].entry;

        locations[count++] = location_of(entry);
        tkv_index_remove_entry(index, shard, entry);
    }
    tkv_latch_release(&shard->lock);
    return count;
}

size_t tkv_index_expire(struct tkv_index *index, uint64_t now_ms,
                        struct tkv_location *locations, size_t capacity)
{
    size_t count = 0;

    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];
        size_t removed = 1;

        while (removed > 0 && count < capacity &&
               atomic_load_explicit(&shard->earliest, memory_order_relaxed) <= now_ms) {
            removed =
                expire_some(index, shard, now_ms, locations + count, capacity - count);
            count += removed;
        }
    }
    return count;
}
