/* SPDX-License-Identifier: MIT */
/*
 * index_find.c - lookups of single keys, and fetching what a later one will touch.
 * lib/index_table.h has the picture, and how a lookup stays short.
 *
 * Threads: every call but tkv_index_find_entry() locks the shard it touches.
 */
#include "index_line.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

static bool has_key(const struct entry *entry, struct tkv_slice key, uint32_t hashv)
{
    return entry->hh.hashv == hashv && entry->hh.keylen == key.size &&
           !keys_differ(entry->hh.key, key.data, key.size);
}

/* One that has no slot, and gets one if one has become free. */
static struct entry *find_other(struct line *line, struct tkv_slice key, uint32_t hashv)
{
    UT_hash_handle *hh = line->bucket.hh_head;

    while (hh != NULL && !has_key(entry_at(hh), key, hashv))
        hh = hh->hh_next;
    if (hh == NULL)
        return NULL;
    if (take_slot(line, entry_at(hh), number_of_entry(entry_at(hh))))
        unchain(line, entry_at(hh));
    return entry_at(hh);
}

/* `fetch` may be NULL. */
static inline struct entry *find_fetching(const struct tkv_index *index,
                                          struct shard *shard, struct tkv_slice key,
                                          uint64_t hash, tkv_index_fetch *fetch,
                                          void *context) TKV_REQUIRES(shard->lock)
{
    const uint32_t hashv = hashv_of(hash);
    struct line *line = line_of(shard, hashv);

    for (uint64_t tagged = slots_tagged(line, tag_of(hashv)); tagged != 0;
         tagged &= tagged - 1) {
        const struct slot *slot = &line->slots[first_slot(tagged)];
        struct entry *entry = entry_in(index, slot);

        prefetch_entry(&entry->hh);
        if (fetch != NULL)
            fetch(context, place_of_guess(slot->guess));
        if (has_key(entry, key, hashv))
            return entry;
    }
    return has_other(line, hashv) ? find_other(line, key, hashv) : NULL;
}

struct entry *tkv_index_find_entry(const struct tkv_index *index, struct shard *shard,
                                   struct tkv_slice key, uint64_t hash)
{
    return find_fetching(index, shard, key, hash, NULL, NULL);
}

uint64_t tkv_index_hash(const struct tkv_index *index, struct tkv_slice key)
{
    return XXH3_64bits_withSeed(key.data, key.size, index->seed);
}

bool tkv_index_find_fetching(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                             tkv_index_fetch *fetch, void *context,
                             struct tkv_location *ret_location)
{
    struct shard *shard = shard_of(index, hash);
    const struct entry *entry;

    PREFETCH((const void *)guess_line(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_fetching(index, shard, key, hash, fetch, context);
    if (entry != NULL)
        *ret_location = location_of(entry);
    tkv_latch_release(&shard->lock);
    return entry != NULL;
}

bool tkv_index_find(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                    struct tkv_location *ret_location)
{
    return tkv_index_find_fetching(index, key, hash, NULL, NULL, ret_location);
}

void tkv_index_prefetch(struct tkv_index *index, uint64_t hash)
{
    PREFETCH((const void *)guess_line(shard_of(index, hash), hash));
}

/* A line changes at any time: only the lock makes it safe to read, even for a prefetch. */
bool tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess)
{
    struct shard *shard = shard_of(index, hash);
    const struct line *line;
    uint64_t tagged;
    bool possible;

    PREFETCH((const void *)guess_line(shard, hash));
    tkv_latch_take(&shard->lock);
    line = line_of(shard, hashv_of(hash));
    tagged = slots_tagged(line, tag_of(hashv_of(hash)));
    possible = tagged != 0 || has_other(line, hashv_of(hash));
    *ret_guess = 0;
    if (tagged != 0) {
        const struct slot *slot = &line->slots[first_slot(tagged)];

        prefetch_entry(&entry_in(index, slot)->hh);
        *ret_guess = place_of_guess(slot->guess);
    } else if (possible) {
        prefetch_entry(line->bucket.hh_head);
    }
    tkv_latch_release(&shard->lock);
    return possible;
}
