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
    t->items[t->count++] = (struct tkv_tombstone){
        .hash = hash, .seq = seq, .at = (uint32_t)t->bytes_size, .size = size};
    memcpy(t->bytes + t->bytes_size, record, size);
    t->bytes_size += size;
    t->undecided++;
    if (seq > t->seq_max)
        t->seq_max = seq;
    return TKV_OK;
}

/* Hashes are evenly spread: their high bits say in which list, and with three more at which bit
 * of the filter. */
static uint32_t *list_of(const struct tkv_tombstones *t, uint64_t hash)
{
    return &t->lists[hash >> (64 - t->lists_log2)];
}

static uint8_t *filter_byte(const struct tkv_tombstones *t, uint64_t hash, uint8_t *ret_bit)
{
    const uint64_t bit = hash >> (61 - t->lists_log2);

    *ret_bit = (uint8_t)(1u << bit % 8);
    return &t->filter[bit / 8];
}

static enum tkv_status new_lists(struct tkv_tombstones *t, struct tkv_error *err)
{
    const size_t item_size = sizeof *t->lists + sizeof *t->filter;

    t->lists_log2 = 1;
    while (t->count >> t->lists_log2 != 0)
        t->lists_log2++;
    t->lists = calloc((size_t)1 << t->lists_log2, item_size);
    if (t->lists == NULL)
        return tkv_fail_memory(err, item_size << t->lists_log2, "deletes in a compaction");
    t->filter = (uint8_t *)(t->lists + ((size_t)1 << t->lists_log2));
    return TKV_OK;
}

enum tkv_status tkv_tombstones_list(struct tkv_tombstones *t, struct tkv_error *err)
{
    enum tkv_status status = new_lists(t, err);

    for (size_t i = 0; status == TKV_OK && i < t->count; i++) {
        uint32_t *list = list_of(t, t->items[i].hash);
        uint8_t bit, *byte = filter_byte(t, t->items[i].hash, &bit);

        t->items[i].next = *list;
        *list = (uint32_t)i + 1;
        *byte |= bit;
    }
    return status;
}

bool tkv_tombstones_note(struct tkv_tombstones *t, uint64_t hash, uint64_t seq)
{
    bool any = false;
    uint8_t bit;

    if ((*filter_byte(t, hash, &bit) & bit) == 0)
        return false;
    for (uint32_t i = *list_of(t, hash); i != 0; i = t->items[i - 1].next) {
        struct tkv_tombstone *item = &t->items[i - 1];

        if (item->hash != hash || item->seq < seq || item->needed)
            continue;
        item->needed = true;
        t->undecided--;
        any = true;
    }
    return any;
}

void tkv_tombstones_release(struct tkv_tombstones *t)
{
    free(t->items);
    free(t->bytes);
    free(t->lists);
    memset(t, 0, sizeof *t);
}
