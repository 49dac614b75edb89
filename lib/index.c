/* SPDX-License-Identifier: MIT */
/*
 * index.c - lookups and changes of single keys; lib/index_table.h has the picture, and how a
 * lookup stays short. What they call for every key is in this file, or in line.
 *
 * When something fails: only a reservation can, and tkv_index_add(), which makes one.
 *
 * Threads: every call locks the shards it touches, one at a time.
 */
#include "index_table.h"

#include "chunks.h"
#include "error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- Entries --------------------------------------------------------------------- */

static size_t key_offset(bool expires)
{
    return sizeof(struct entry) + (expires ? sizeof(struct expiry) : 0);
}

static size_t entry_size(size_t key_size, bool expires)
{
    return key_offset(expires) + key_size;
}

/* ---- The arena, shared by all shards --------------------------------------------- */

/* Both counts have one writer at a time, so no read-modify-write is needed. */
static void publish_arena(struct tkv_index *index, uint64_t count)
    TKV_REQUIRES(index->arena_lock)
{
    atomic_store_explicit(&index->arena_bytes, tkv_arena_bytes(index->arena),
                          memory_order_relaxed);
    atomic_store_explicit(&index->count, count, memory_order_relaxed);
}

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

void tkv_index_prepare(struct tkv_index *index)
{
    struct tkv_chunk *chunk = NULL;
    bool wanted;

    tkv_latch_take(&index->arena_lock);
    wanted = tkv_chunks_want_more(tkv_arena_chunks(index->arena));
    tkv_latch_release(&index->arena_lock);
    if (wanted)
        chunk = tkv_chunk_new();
    if (chunk == NULL)
        return;
    tkv_latch_take(&index->arena_lock);
    tkv_chunks_add(tkv_arena_chunks(index->arena), chunk);
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

void tkv_index_trim(struct tkv_index *index)
{
    tkv_latch_take(&index->arena_lock);
    tkv_chunks_trim(tkv_arena_chunks(index->arena));
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

/* ---- Tables ---------------------------------------------------------------------- */

static struct shard *shard_of(struct tkv_index *index, uint64_t hash)
{
    return &index->shards[hash >> 56];
}

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

static void rebuild_filter(UT_hash_bucket *bucket)
{
    bucket->expand_mult = 0;
    for (const UT_hash_handle *hh = bucket->hh_head; hh != NULL; hh = hh->hh_next)
        bucket->expand_mult |= filter_bit(hh->hashv);
}

static UT_hash_bucket *bucket_of(struct shard *shard, uint64_t hash)
    TKV_REQUIRES(shard->lock)
{
    return &shard->table.buckets[(uint32_t)hash & (shard->table.num_buckets - 1)];
}

static void set_place(struct shard *shard, struct entry *entry, uint64_t place)
    TKV_REQUIRES(shard->lock)
{
    entry->place = place;
    bucket_of(shard, entry->hh.hashv)->count = guess_of(place);
}

static void set_location(struct shard *shard, struct entry *entry,
                         const struct tkv_location *location) TKV_REQUIRES(shard->lock)
{
    const bool expires = location->expires_at_ms != 0;

    set_place(shard, entry,
              without_expires(location->place) | (expires ? TKV_PLACE_EXPIRES : 0));
    fill_entry(entry, location->size, location->seq_low);
}

/* The address may be out of date or mixed from two tables: it is good for a prefetch only. */
static uintptr_t guess_bucket(struct shard *shard, uint64_t hash)
{
    const unsigned count = atomic_load_explicit(&shard->bucket_count, memory_order_relaxed);
    const UT_hash_bucket *buckets =
        atomic_load_explicit(&shard->buckets, memory_order_relaxed);

    return (uintptr_t)buckets + ((uint32_t)hash & (count - 1)) * sizeof *buckets;
}

/* `fetch` may be NULL. */
static struct entry *find_fetching(struct shard *shard, struct tkv_slice key, uint64_t hash,
                                   tkv_index_fetch *fetch, void *context)
    TKV_REQUIRES(shard->lock)
{
    const uint32_t hashv = (uint32_t)hash;
    UT_hash_bucket *bucket = bucket_of(shard, hash);
    struct entry *entry;

    if ((bucket->expand_mult & filter_bit(hashv)) == 0)
        return NULL;
    prefetch_entry(bucket->hh_head);
    if (fetch != NULL)
        fetch(context, place_of_guess(bucket->count));
    HASH_FIND_IN_BKT(&shard->table, hh, *bucket, key.data, key.size, hashv, entry);
    if (entry == NULL)
        rebuild_filter(bucket);
    return entry;
}

static struct entry *find_locked(struct shard *shard, struct tkv_slice key, uint64_t hash)
    TKV_REQUIRES(shard->lock)
{
    return find_fetching(shard, key, hash, NULL, NULL);
}

static void add_to_table(struct shard *shard, struct entry *entry, const void *key,
                         size_t key_size, uint64_t hash) TKV_REQUIRES(shard->lock)
{
    struct entry *head = &shard->sentinel;

    HASH_ADD_KEYPTR_BYHASHVALUE(hh, head, key, key_size, (uint32_t)hash, entry);
    bucket_of(shard, hash)->expand_mult |= filter_bit((uint32_t)hash);
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
        tkv_arena_give(index->arena, replaced,
                       entry_size(replaced->hh.keylen, entry_expires(replaced)));
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
    add_to_table(shard, entry, key_copy, key.size, hash);
    set_location(shard, entry, location); /* not before: adding reads hh.tbl */
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
    struct entry *head = &shard->sentinel;
    UT_hash_bucket *bucket = bucket_of(shard, entry->hh.hashv);

    if (entry_expires(entry))
        tkv_index_due_remove(index, shard, entry);
    HASH_DELETE(hh, head, entry);
    assert(head == &shard->sentinel);
    if (bucket->hh_head == NULL)
        bucket->expand_mult = 0;
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
    set_location(shard, entry, location);
    if (expires) {
        tkv_index_due_move(shard, entry, location->expires_at_ms);
        tkv_index_due_unreserve(index, shard);
    }
    unreserve_entry(index, entry_size(key.size, expires));
}

void tkv_index_remove_entry(struct tkv_index *index, struct shard *shard,
                            struct entry *entry)
{
    detach_locked(index, shard, entry);
    tkv_latch_take(&index->arena_lock);
    tkv_arena_give(index->arena, entry, entry_size(entry->hh.keylen, entry_expires(entry)));
    publish_arena(index, index->count - 1);
    tkv_latch_release(&index->arena_lock);
    shrink_if_sparse(index, shard);
}

/* ---- Looking up ------------------------------------------------------------------ */

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

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_fetching(shard, key, hash, fetch, context);
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

/* uthash links all entries of a shard in the order in which they were added. Either may be
 * NULL, which a prefetch ignores. */
static void prefetch_neighbours(const struct entry *entry)
{
    const uintptr_t before = (uintptr_t)entry->hh.prev, after = (uintptr_t)entry->hh.next;

    PREFETCH((const void *)(before + offsetof(struct entry, hh.next)));
    PREFETCH((const void *)(after + offsetof(struct entry, hh.prev)));
}

bool tkv_index_find_to_remove(struct tkv_index *index, struct tkv_slice key, uint64_t hash)
{
    struct shard *shard = shard_of(index, hash);
    const struct entry *entry;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_locked(shard, key, hash);
    if (entry != NULL)
        prefetch_neighbours(entry);
    tkv_latch_release(&shard->lock);
    return entry != NULL;
}

void tkv_index_prefetch(struct tkv_index *index, uint64_t hash)
{
    PREFETCH((const void *)guess_bucket(shard_of(index, hash), hash));
}

/* Chains change at any time: only the lock makes them safe to read, even for a prefetch. */
bool tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess)
{
    struct shard *shard = shard_of(index, hash);
    const UT_hash_bucket *bucket;
    bool possible;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    bucket = bucket_of(shard, hash);
    possible = (bucket->expand_mult & filter_bit((uint32_t)hash)) != 0;
    prefetch_entry(bucket->hh_head);
    *ret_guess = place_of_guess(bucket->count);
    tkv_latch_release(&shard->lock);
    return possible;
}

/* Is it the first of its chain? If not, fetch the second. */
static bool find_first(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                       struct tkv_location *ret_location)
{
    struct shard *shard = shard_of(index, hash);
    const UT_hash_handle *hh;
    bool found;

    tkv_latch_take(&shard->lock);
    hh = bucket_of(shard, hash)->hh_head;
    found = hh != NULL && hh->hashv == (uint32_t)hash && hh->keylen == key.size &&
            !keys_differ(hh->key, key.data, key.size);
    if (found)
        *ret_location = location_of(entry_at(hh));
    else if (hh != NULL && hh->hh_next != NULL)
        prefetch_entry(hh->hh_next);
    tkv_latch_release(&shard->lock);
    return found;
}

void tkv_index_find_many(struct tkv_index *index, const struct tkv_slice *keys,
                         const uint64_t *hashes, size_t count,
                         struct tkv_location *locations, bool *found)
{
    bool later[GROUP];

    for (size_t from = 0; from < count; from += GROUP) {
        const size_t end = count - from < GROUP ? count : from + GROUP;

        for (size_t i = from; i < end; i++) {
            later[i - from] =
                found[i] && !find_first(index, keys[i], hashes[i], &locations[i]);
        }
        for (size_t i = from; i < end; i++) {
            if (later[i - from])
                found[i] = tkv_index_find(index, keys[i], hashes[i], &locations[i]);
        }
    }
}

/* ---- Changing -------------------------------------------------------------------- */

enum tkv_status tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                  uint64_t hash, bool expires, struct tkv_error *err)
{
    const size_t size = entry_size(key.size, expires);

    PREFETCH((const void *)guess_bucket(shard_of(index, hash), hash)); /* for the put */
    if (!reserve_entry(index, size))
        return tkv_fail_memory(err, size, "index");
    if (expires && !tkv_index_due_reserve(index, shard_of(index, hash))) {
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
    tkv_index_due_unreserve(index, shard);
    tkv_latch_release(&shard->lock);
}

bool tkv_index_put(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                   const struct tkv_location *location, struct tkv_location *ret_old)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_locked(shard, key, hash);
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
    is_there = find_locked(shard, key, hash) != NULL;
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

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_locked(shard, key, hash);
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

bool tkv_index_move(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                    uint64_t from, uint64_t to)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;
    bool moved;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_latch_take(&shard->lock);
    entry = find_locked(shard, key, hash);
    moved = entry != NULL && without_expires(entry->place) == without_expires(from);
    if (moved)
        set_place(shard, entry, without_expires(to) | (entry->place & TKV_PLACE_EXPIRES));
    tkv_latch_release(&shard->lock);
    return moved;
}

/* Places are unique: the key need not be compared. */
static struct entry *find_place(struct shard *shard, uint64_t hash, uint64_t place)
    TKV_REQUIRES(shard->lock)
{
    for (UT_hash_handle *hh = bucket_of(shard, hash)->hh_head; hh != NULL;
         hh = hh->hh_next) {
        struct entry *entry = ELMT_FROM_HH(&shard->table, hh);

        if (hh->hashv == (uint32_t)hash && without_expires(entry->place) == place)
            return entry;
    }
    return NULL;
}

bool tkv_index_move_place(struct tkv_index *index, uint64_t hash, uint64_t from,
                          uint64_t to)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;

    tkv_latch_take(&shard->lock);
    entry = find_place(shard, hash, without_expires(from));
    if (entry != NULL)
        set_place(shard, entry, without_expires(to) | (entry->place & TKV_PLACE_EXPIRES));
    tkv_latch_release(&shard->lock);
    return entry != NULL;
}

uint64_t tkv_index_drop_tombstones(struct tkv_index *index)
{
    uint64_t dropped = 0;

    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];

        tkv_latch_take(&shard->lock);
        for (struct entry *entry = shard->sentinel.hh.next, *next; entry != NULL;
             entry = next) {
            next = entry->hh.next;
            if ((entry->place & TKV_PLACE_TOMBSTONE) == 0)
                continue;
            tkv_index_remove_entry(index, shard, entry);
            dropped++;
        }
        tkv_latch_release(&shard->lock);
    }
    return dropped;
}

/* ---- Sums ------------------------------------------------------------------------ */

uint64_t tkv_index_count(const struct tkv_index *index)
{
    return atomic_load_explicit(&index->count, memory_order_relaxed);
}

size_t tkv_index_bytes(const struct tkv_index *index)
{
    return sizeof *index + atomic_load_explicit(&index->arena_bytes, memory_order_relaxed) +
           atomic_load_explicit(&index->table_bytes, memory_order_relaxed);
}
