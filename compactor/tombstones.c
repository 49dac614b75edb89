/* SPDX-License-Identifier: MIT */
#include "tombstones.h"

#include <stdlib.h>

static enum tkv_status reserve(struct tkv_tombstones *t, uint32_t size,
                               struct tkv_error *err)
{
    if (t->count == t->capacity) {
        const size_t capacity = t->capacity * 2 + 64;
        struct tkv_tombstone *items = realloc(t->items, capacity * sizeof *items);

        if (items == NULL)
            return tkv_fail_memory(err, capacity * sizeof *items,
                                   "deletes in a compaction");
        t->items = items;
        t->capacity = capacity;
    }
    if (size > t->bytes_capacity - t->bytes_size) {
        const size_t capacity = t->bytes_capacity * 2 + size + 4096;
        uint8_t *bytes = realloc(t->bytes, capacity);

        if (bytes == NULL)
            return tkv_fail_memory(err, capacity, "deletes in a compaction");
        t->bytes = bytes;
        t->bytes_capacity = capacity;
    }
    return TKV_OK;
}

enum tkv_status tkv_tombstones_add(struct tkv_tombstones *t, uint64_t hash, uint64_t seq,
                                   const uint8_t *record, uint32_t size,
                                   struct tkv_error *err)
{
    enum tkv_status status = reserve(t, size, err);

    if (status != TKV_OK)
        return status;
    t->items[t->count++] =
        (struct tkv_tombstone){.hash = hash, .seq = seq, .at = t->bytes_size, .size = size};
    memcpy(t->bytes + t->bytes_size, record, size);
    t->bytes_size += size;
    t->undecided++;
    if (seq > t->seq_max)
        t->seq_max = seq;
    return TKV_OK;
}

static int by_hash(const void *left, const void *right)
{
    const struct tkv_tombstone *l = left, *r = right;

    if (l->hash != r->hash)
        return l->hash < r->hash ? -1 : 1;
    return l->seq < r->seq ? -1 : l->seq > r->seq;
}

void tkv_tombstones_sort(struct tkv_tombstones *t)
{
    if (t->count > 0)
        qsort(t->items, t->count, sizeof *t->items, by_hash);
}

static size_t first_with_hash(const struct tkv_tombstones *t, uint64_t hash)
{
    size_t low = 0, high = t->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (t->items[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool tkv_tombstones_note(struct tkv_tombstones *t, uint64_t hash, uint64_t seq)
{
    bool any = false;

    for (size_t i = first_with_hash(t, hash); i < t->count && t->items[i].hash == hash;
         i++) {
        if (t->items[i].seq < seq || t->items[i].needed)
            continue;
        t->items[i].needed = true;
        t->undecided--;
        any = true;
    }
    return any;
}

void tkv_tombstones_release(struct tkv_tombstones *t)
{
    free(t->items);
    free(t->bytes);
    memset(t, 0, sizeof *t);
}
