/* SPDX-License-Identifier: MIT */
/*
 * index.c - changes of single keys; lib/index_table.h has the picture. What they call for every
 * key is in this file or in line, but for the lookup of index_find.c.
 *
 * When something fails: only a reservation can, and tkv_index_add(), which makes one.
 *
 * Threads: every call locks the shards it touches, one at a time.
 */
#include "index_line.h"

#include "error.h"

/* ---- The arena, shared by all shards --------------------------------------------- */

static bool reserve_entry(struct tkv_index *index, size_t size)
{
    bool reserved;

    tkv_latch_take(&index->arena_lock);
    reserved = tkv_arena_reserve(index->arena, size);
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
    return reserved;
}

static void unreserve_entry(struct tkv_index *index, size_t size)
{
    tkv_latch_take(&index->arena_lock);
    tkv_arena_unreserve(index->arena, size);
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

/* ---- Tables ---------------------------------------------------------------------- */

static void grow_if_crowded(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    const UT_hash_table *table = &shard->table;

    if (tkv_index_is_filled(table))
        shard->floor_log2 = FIRST_LOG2;
    if (tkv_index_is_crowded(index, shard, table->num_items, table->log2_num_buckets) &&
        table->log2_num_buckets < LOG2_MAX)
        tkv_index_resize(index, shard, table->log2_num_buckets + 1);
}

static void shrink_if_sparse(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    const UT_hash_table *table = &shard->table;

    if (table->num_items < table->num_buckets / 8 &&
        table->log2_num_buckets > shard->floor_log2)
        tkv_index_resize(index, shard, table->log2_num_buckets - 1);
}

static void set_place(struct tkv_index *index, struct shard *shard, struct entry *entry,
                      uint64_t place) TKV_REQUIRES(shard->lock)
{
    struct line *line = line_of(shard, entry->hh.hashv);
    const unsigned slot = slot_of(index, line, entry);

    entry->place = place;
    if (slot != NO_SLOT)
        line->slots[slot].guess = guess_of(place);
}

static uint64_t flagged_place(const struct tkv_location *location)
{
    return without_expires(location->place) |
           (location->expires_at_ms != 0 ? TKV_PLACE_EXPIRES : 0);
}

/* entry->place is set. */
static void add_to_table(struct shard *shard, struct entry *entry, const void *key,
                         size_t key_size, uint64_t hash) TKV_REQUIRES(shard->lock)
{
    entry->hh.hashv = hashv_of(hash);
    entry->hh.key = key;
    entry->hh.keylen = (unsigned)key_size;
    link_entry(line_of(shard, entry->hh.hashv), entry, number_of_entry(entry));
    shard->table.num_items++;
}

/* ---- One key --------------------------------------------------------------------- */

/* Take the memory of the new entry and give back that of the `replaced` one, if any. */
static struct entry *exchange_memory(struct tkv_index *index, size_t size,
                                     struct entry *replaced)
{
    struct entry *entry;

    tkv_latch_take(&index->arena_lock);
    entry = tkv_arena_take(index->arena, size);
    if (replaced != NULL)
        tkv_arena_give(index->arena, replaced, size_of_entry(replaced));
    publish_arena(index, index->count + (replaced == NULL));
    tkv_latch_release(&index->arena_lock);
    return entry;
}

/* NULL: there is no memory. */
static struct entry *new_entry(struct tkv_index *index, size_t size)
{
    struct entry *entry = NULL;

    tkv_latch_take(&index->arena_lock);
    if (tkv_arena_reserve(index->arena, size)) {
        entry = tkv_arena_take(index->arena, size);
        publish_arena(index, index->count + 1);
    }
    tkv_latch_release(&index->arena_lock);
    return entry;
}

static void link_locked(struct tkv_index *index, struct shard *shard, struct entry *entry,
                        struct tkv_slice key, uint64_t hash,
                        const struct tkv_location *location) TKV_REQUIRES(shard->lock)
{
    const bool expires = location->expires_at_ms != 0;
    uint8_t *key_copy = (uint8_t *)entry + key_offset(expires);

    if (key.size > 0)
        memcpy(key_copy, key.data, key.size);
    entry->place = flagged_place(location);
    fill_entry(entry, location->size, location->seq_low);
    add_to_table(shard, entry, key_copy, key.size, hash);
    if (expires)
        tkv_index_due_add(shard, entry, location->expires_at_ms);
    grow_if_crowded(index, shard);
}

static void insert_locked(struct tkv_index *index, struct shard *shard,
                          struct tkv_slice key, uint64_t hash,
                          const struct tkv_location *location, struct entry *replaced)
    TKV_REQUIRES(shard->lock)
{
    const size_t size = entry_size(key.size, location->expires_at_ms != 0);

    link_locked(index, shard, exchange_memory(index, size, replaced), key, hash, location);
}

static void detach_locked(struct tkv_index *index, struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock)
{
    if (entry_expires(entry))
        tkv_index_due_remove(shard, entry);
    unlink_entry(index, line_of(shard, entry->hh.hashv), entry);
    shard->table.num_items--;
}

static void update_locked(struct tkv_index *index, struct shard *shard, struct entry *entry,
                          struct tkv_slice key, uint64_t hash,
                          const struct tkv_location *location) TKV_REQUIRES(shard->lock)
{
    const bool expires = location->expires_at_ms != 0;

    if (expires != entry_expires(entry)) { /* an entry of another size */
        detach_locked(index, shard, entry);
        insert_locked(index, shard, key, hash, location, entry);
        return;
    }
    set_place(index, shard, entry, flagged_place(location));
    fill_entry(entry, location->size, location->seq_low);
    if (expires) {
        tkv_index_due_move(shard, entry, location->expires_at_ms);
        tkv_index_due_unreserve(shard);
    }
    unreserve_entry(index, entry_size(key.size, expires));
}

/* The table stays as large as it is. */
static void remove_locked(struct tkv_index *index, struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock)
{
    detach_locked(index, shard, entry);
    tkv_latch_take(&index->arena_lock);
    tkv_arena_give(index->arena, entry, size_of_entry(entry));
    publish_arena(index, index->count - 1);
    tkv_latch_release(&index->arena_lock);
}

void tkv_index_remove_entry(struct tkv_index *index, struct shard *shard,
                            struct entry *entry)
{
    remove_locked(index, shard, entry);
    shrink_if_sparse(index, shard);
}

/* ---- Changing -------------------------------------------------------------------- */

enum tkv_status tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                  uint64_t hash, bool expires, struct tkv_error *err)
{
    const size_t size = entry_size(key.size, expires);

    PREFETCH((const void *)guess_line(shard_of(index, hash), hash)); /* for the put */
    if (!reserve_entry(index, size))
        return tkv_fail_memory(err, size, "index");
    if (expires && !tkv_index_due_reserve(shard_of(index, hash))) {
        unreserve_entry(index, size);
        return tkv_fail_memory(err, sizeof(struct due), "the index of expiring keys");
    }
    return TKV_OK;
}

void tkv_index_unreserve(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         bool expires)
{
    struct shard *shard = shard_of(index, hash);

    unreserve_entry(index, entry_size(key.size, expires));
    if (!expires)
        return;
    tkv_latch_take(&shard->lock);
    tkv_index_due_unreserve(shard);
    tkv_latch_release(&shard->lock);
}

bool tkv_index_put(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                   const struct tkv_location *location, struct tkv_location *ret_old)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;

    PREFETCH((const void *)guess_line(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = tkv_index_find_entry(index, shard, key, hash);
    if (entry == NULL) {
        insert_locked(index, shard, key, hash, location, NULL);
    } else {
        *ret_old = location_of(entry);
        update_locked(index, shard, entry, key, hash, location);
    }
    tkv_latch_release(&shard->lock);
    return entry != NULL;
}

enum tkv_status tkv_index_add(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                              const struct tkv_location *location, bool *ret_added,
                              struct tkv_error *err)
{
    struct shard *shard = shard_of(index, hash);
    const size_t size = entry_size(key.size, false);
    struct entry *entry = NULL;
    bool is_there;

    assert(location->expires_at_ms == 0);
    tkv_latch_take(&shard->lock);
    is_there = tkv_index_find_entry(index, shard, key, hash) != NULL;
    if (!is_there)
        entry = new_entry(index, size);
    if (entry != NULL)
        link_locked(index, shard, entry, key, hash, location);
    tkv_latch_release(&shard->lock);
    if (!is_there && entry == NULL)
        return tkv_fail_memory(err, size, "index");
    *ret_added = !is_there;
    return TKV_OK;
}

/* `place` is NULL for any place. */
static bool remove_if_at(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         const uint64_t *place, struct tkv_location *ret_old)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;
    bool removed;

    PREFETCH((const void *)guess_line(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = tkv_index_find_entry(index, shard, key, hash);
    removed = entry != NULL &&
              (place == NULL || without_expires(entry->place) == without_expires(*place));
    if (removed) {
        *ret_old = location_of(entry);
        tkv_index_remove_entry(index, shard, entry);
    }
    tkv_latch_release(&shard->lock);
    return removed;
}

bool tkv_index_remove(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                      struct tkv_location *ret_old)
{
    return remove_if_at(index, key, hash, NULL, ret_old);
}

bool tkv_index_remove_at(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         uint64_t place, struct tkv_location *ret_old)
{
    return remove_if_at(index, key, hash, &place, ret_old);
}

/* Places are unique: the key need not be compared. */
static struct entry *find_place(const struct tkv_index *index, struct shard *shard,
                                uint64_t hash, uint64_t place) TKV_REQUIRES(shard->lock)
{
    const uint32_t hashv = hashv_of(hash);
    const struct line *line = line_of(shard, hashv);

    for (uint64_t tagged = slots_tagged(line, tag_of(hashv)); tagged != 0;
         tagged &= tagged - 1) {
        struct entry *entry = entry_in(index, &line->slots[first_slot(tagged)]);

        if (without_expires(entry->place) == place)
            return entry;
    }
    if (!has_other(line, hashv))
        return NULL;
    for (UT_hash_handle *hh = line->bucket.hh_head; hh != NULL; hh = hh->hh_next) {
        if (without_expires(entry_at(hh)->place) == place)
            return entry_at(hh);
    }
    return NULL;
}

bool tkv_index_move(struct tkv_index *index, uint64_t hash, uint64_t from, uint64_t to)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;

    tkv_latch_take(&shard->lock);
    entry = find_place(index, shard, hash, without_expires(from));
    if (entry != NULL)
        set_place(index, shard, entry,
                  without_expires(to) | (entry->place & TKV_PLACE_EXPIRES));
    tkv_latch_release(&shard->lock);
    return entry != NULL;
}

static uint64_t drop_tombstones(struct tkv_index *index, struct shard *shard,
                                const struct line *line) TKV_REQUIRES(shard->lock)
{
    struct line_walk walk = {0};
    struct entry *entry;
    uint64_t dropped = 0;

    while ((entry = next_entry(index, line, &walk)) != NULL) {
        if ((entry->place & TKV_PLACE_TOMBSTONE) == 0)
            continue;
        remove_locked(index, shard, entry);
        dropped++;
    }
    return dropped;
}

uint64_t tkv_index_drop_tombstones(struct tkv_index *index)
{
    uint64_t dropped = 0;

    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];
        unsigned log2;

        tkv_latch_take(&shard->lock);
        for (unsigned at = 0; at < shard->table.num_buckets; at += LINE_BUCKETS)
            dropped += drop_tombstones(index, shard, line_at(shard->table.buckets, at));
        do {
            log2 = shard->table.log2_num_buckets;
            shrink_if_sparse(index, shard);
        } while (shard->table.log2_num_buckets < log2);
        tkv_latch_release(&shard->lock);
    }
    return dropped;
}
