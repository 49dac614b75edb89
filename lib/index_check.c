/* SPDX-License-Identifier: MIT */
/*
 * index_check.c - do the invariants of the index hold? Every line, chain, heap and sum is
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

/* What the lines of a shard hold. */
struct sums {
    uint64_t entries, expiring;
};

/* Every slot says where the entry's record is, and no other slot leads to it. */
static bool check_slots(const struct tkv_index *index, const struct line *line)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        const struct entry *entry;

        if (slot_is_free(line, slot))
            continue;
        entry = entry_in(index, &line->slots[slot]);
        if (slot_of(index, line, entry) != slot ||
            line->slots[slot].guess != guess_of(entry->place))
            return false;
    }
    return true;
}

/* The filter knows all that it holds, and nothing if it is empty. */
static bool check_chain(const struct tkv_index *index, const struct line *line)
{
    const UT_hash_handle *before = NULL;

    for (UT_hash_handle *hh = line->bucket.hh_head; hh != NULL; hh = hh->hh_next) {
        if (hh->hh_prev != before || !has_other(line, hh->hashv) ||
            slot_of(index, line, entry_at(hh)) != NO_SLOT)
            return false;
        before = hh;
    }
    return before != NULL || (line->bucket.count & FILTER_MAX) == 0;
}

static bool check_line(const struct tkv_index *index, const struct shard *shard,
                       unsigned number, struct sums *sums)
{
    const unsigned mask = shard->table.num_buckets - 1;
    const struct line *line = line_at(shard->table.buckets, number);
    struct line_walk walk = {0};
    struct entry *entry;

    if (!check_chain(index, line)) /* it may have no end */
        return false;
    while ((entry = next_entry(index, line, &walk)) != NULL) {
        if ((entry->hh.hashv & mask) != number || !check_entry(index, shard, entry))
            return false;
        sums->entries++;
        sums->expiring += entry_expires(entry);
    }
    return check_slots(index, line);
}

static bool check_table(const struct tkv_index *index, const struct shard *shard)
{
    const UT_hash_table *table = &shard->table;
    struct sums sums = {0};

    for (unsigned i = 0; i < table->num_buckets; i += LINE_BUCKETS) {
        if (!check_line(index, shard, i, &sums))
            return false;
    }
    return sums.entries == table->num_items && sums.expiring == shard->due_count &&
           table->num_buckets == 1u << table->log2_num_buckets &&
           shard->buckets == table->buckets && shard->bucket_count == table->num_buckets;
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
            check_table(index, shard) && check_due(shard) &&
            shard->bytes == buckets_size(shard) + shard->due_capacity * sizeof *shard->due;
        count += shard->table.num_items;
        tkv_latch_release(&shard->lock);
    }
    tkv_latch_take(&index->arena_lock);
    good = good && tkv_arena_bytes(index->arena) == index->arena_bytes;
    tkv_latch_release(&index->arena_lock);
    return good && count == index->count;
}
