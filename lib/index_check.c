/* SPDX-License-Identifier: MIT */
/*
 * index_check.c - do the invariants of the index hold? Every line, list, heap and sum is
 * gone through, one shard locked at a time.
 */
#include "index_line.h"

/* A key's entry, wherever it is reached from. */
static bool check_entry(const struct tkv_index *index, const struct shard *shard,
                        struct entry *entry)
{
    const uint64_t hash = tkv_index_hash(index, tkv_bytes(entry->hh.key, entry->hh.keylen));
    const struct expiry *expiry;

    if (entry->hh.hashv != hashv_of(hash) || &index->shards[hash >> 56] != shard)
        return false;
    if (!entry_expires(entry))
        return true;
    expiry = expiry_of(entry);
    return expiry->slot < shard->due_count && shard->due[expiry->slot].entry == entry &&
           shard->due[expiry->slot].expires_at_ms == expiry->expires_at_ms &&
           expiry->expires_at_ms != 0;
}

static unsigned count_slots(const struct line *line)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SLOT_COUNT; i++)
        count += !slot_is_free(line, i);
    return count;
}

/* An entry's slot knows its place; if it has none, the filter knows the entry. */
static bool check_slot(const struct tkv_index *index, const struct line *line,
                       const struct entry *entry, unsigned *slots)
{
    const unsigned slot = slot_of(index, line, entry);

    *slots += slot != NO_SLOT;
    return slot == NO_SLOT ? has_other(line, entry->hh.hashv)
                           : line->slots[slot].guess == guess_of(entry->place);
}

/* *count grows by the number of its entries. */
static bool check_line(const struct tkv_index *index, const struct line *line,
                       unsigned number, unsigned mask, uint64_t *count)
{
    const UT_hash_handle *before = NULL;
    unsigned entries = 0, slots = 0;

    for (UT_hash_handle *hh = line->bucket.hh_head; hh != NULL; hh = hh->hh_next) {
        if (hh->hh_prev != before || (hh->hashv & mask) != number ||
            !check_slot(index, line, entry_at(hh), &slots))
            return false;
        before = hh;
        entries++;
    }
    *count += entries;
    if (others_of(line) == 0 && line->bucket.count >> FILTER_AT & FILTER_MAX)
        return false;
    return slots == count_slots(line) &&
           (others_of(line) == OTHERS_MAX || others_of(line) == entries - slots);
}

static bool check_table(const struct tkv_index *index, const struct shard *shard)
{
    const UT_hash_table *table = &shard->table;
    uint64_t count = 0;

    for (unsigned i = 0; i < table->num_buckets; i += LINE_BUCKETS) {
        if (!check_line(index, line_at(table->buckets, i), i, table->num_buckets - 1,
                        &count))
            return false;
    }
    return count == table->num_items && table->noexpand == 1 &&
           table->num_buckets == 1u << table->log2_num_buckets &&
           shard->buckets == table->buckets && shard->bucket_count == table->num_buckets;
}

static bool check_list(const struct tkv_index *index, struct shard *shard)
{
    struct entry *before = &shard->sentinel;
    uint64_t count = 0, expiring = 0;

    for (struct entry *entry = before->hh.next; entry != NULL; entry = entry->hh.next) {
        if (entry->hh.prev != before || !check_entry(index, shard, entry))
            return false;
        before = entry;
        count++;
        expiring += entry_expires(entry);
    }
    return count == shard->table.num_items && expiring == shard->due_count &&
           shard->table.tail == &before->hh && shard->sentinel.hh.prev == NULL &&
           shard->sentinel.hh.tbl == &shard->table;
}

static bool check_due(const struct shard *shard)
{
    for (uint32_t i = 1; i < shard->due_count; i++)
        if (shard->due[i].expires_at_ms < shard->due[(i - 1) / 2].expires_at_ms)
            return false;
    return shard->earliest ==
               (shard->due_count > 0 ? shard->due[0].expires_at_ms : UINT64_MAX) &&
           shard->due_count + shard->due_reserved <= shard->due_capacity;
}

bool tkv_index_check(struct tkv_index *index)
{
    uint64_t count = 0;
    bool good = true;

    for (unsigned i = 0; i < SHARD_COUNT && good; i++) {
        struct shard *shard = &index->shards[i];

        tkv_latch_take(&shard->lock);
        good =
            check_table(index, shard) && check_due(shard) && check_list(index, shard) &&
            shard->bytes == buckets_size(shard) + shard->due_capacity * sizeof *shard->due;
        count += shard->table.num_items;
        tkv_latch_release(&shard->lock);
    }
    tkv_latch_take(&index->arena_lock);
    good = good && tkv_arena_bytes(index->arena) == index->arena_bytes;
    tkv_latch_release(&index->arena_lock);
    return good && count == index->count;
}
