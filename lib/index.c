/* SPDX-License-Identifier: MIT */
/*
 * index.c - 256 tables of uthash, one for each value of the top byte of the hash.
 *
 *     shard -> bucket (16 bytes) -> entry (72 bytes and the key)
 *
 *     0       8              64     68        72 or 88
 *     +-------+--------------+------+---------+- - - - - - - - - - - - - - - -+-----+
 *     | place | uthash's hh  | size | seq_low | expires_at_ms:u64 slot:u32 -  | key |
 *     +-------+--------------+------+---------+- - - - - - - - - - - - - - - -+-----+
 *                                              (only if place has EXPIRES)
 *
 * A lookup of a random key is a chain of cache misses, and nothing else counts. So the key
 * lies right behind the node, where it can be prefetched before the node has arrived, and a
 * bucket knows most absent keys by itself (see filter_bit()).
 *
 * What is left of uthash is its structures and its find, add and delete. It never allocates:
 *
 *   - Every shard has a sentinel as the first element of uthash's list of all elements, in
 *     no bucket and in no count. So a shard's table exists from the start, is part of the
 *     shard, and no deletion frees it.
 *   - noexpand is set from the start. Tables are resized here, by explicit rules: double
 *     above a load of 2, halve below 1/8. Failing to resize only costs speed.
 *
 * Entries come from one arena, whose lock is taken inside of a shard's lock. No thread holds
 * two shards' locks.
 */
#include "index.h"

#include "arena.h"
#include "error.h"
#include "lock.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* In line, because for short keys memcmp() is mostly its call; and an empty key may be NULL. */
static inline bool keys_differ(const void *left, const void *right, size_t size)
{
    const uint8_t *a = left, *b = right;
    uint64_t x, y;

    if (size < sizeof x)
        return size > 0 && memcmp(a, b, size) != 0;
    for (size_t i = 0; i < size - sizeof x; i += sizeof x) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        if (x != y)
            return true;
    }
    memcpy(&x, a + size - sizeof x, sizeof x);
    memcpy(&y, b + size - sizeof y, sizeof y);
    return x != y;
}

/* Both are only in branches of uthash that are never taken, see above. */
#define uthash_malloc(size)     NULL
#define uthash_free(from, size) ((void)0)
#define HASH_NONFATAL_OOM       1
#define HASH_KEYCMP(a, b, size) keys_differ(a, b, size)
#include <uthash.h>

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

#define SHARD_COUNT    256u
#define LINE           64u
#define GROUP          16u /* lookups whose cache misses overlap */
#define FIRST_LOG2     2u
#define FIRST_BUCKETS  (1u << FIRST_LOG2)
#define LOG2_MAX       28u
#define STEP_KEYS      64u   /* a step ends at about so many keys, */
#define STEP_BUCKETS   1024u /* or after so many buckets */
#define FIRST_DUE_SIZE 8u
#define EXPIRE_AT_ONCE 16u /* removals for each time that a shard is locked */

/* Followed by a struct expiry if `place` has TKV_PLACE_EXPIRES, and by the key. */
struct entry {
    uint64_t place;
    UT_hash_handle hh;
    uint32_t size;
    uint32_t seq_low;
};

struct expiry {
    uint64_t expires_at_ms;
    uint32_t slot; /* in shard->due */
    uint32_t unused;
};

static_assert(offsetof(struct entry, size) == LINE, "a node is as long as a cache line");
static_assert(sizeof(struct entry) + 16 == 88, "with a 16-byte key, without buckets");

/* Of a binary heap with the earliest expiry at slot 0; children of i are 2i+1 and 2i+2. */
struct due {
    uint64_t expires_at_ms;
    struct entry *entry;
};

struct shard {
    _Alignas(LINE) struct tkv_mutex lock;
    /* Copies of the table's fields for those who prefetch without the lock. */
    _Atomic(UT_hash_bucket *) buckets;
    atomic_uint bucket_count;
    atomic_uint_least64_t earliest; /* expiry in the shard; UINT64_MAX: none expires */

    _Alignas(LINE) UT_hash_table table TKV_GUARDED_BY(lock);
    _Alignas(LINE) struct entry sentinel TKV_GUARDED_BY(lock);
    UT_hash_bucket first[FIRST_BUCKETS]; /* the buckets of a small table */
    struct due *due TKV_GUARDED_BY(lock);
    uint32_t due_count, due_capacity, due_reserved; /* count + reserved <= capacity */
    uint32_t floor_log2; /* not halved below: presized, and not yet filled */
};

struct tkv_index {
    uint64_t seed;
    atomic_size_t table_bytes; /* of buckets and heaps outside of shards */

    _Alignas(LINE) struct tkv_mutex arena_lock;
    struct tkv_arena *arena TKV_GUARDED_BY(arena_lock);
    atomic_size_t arena_bytes;   /* written under arena_lock */
    atomic_uint_least64_t count; /* written under arena_lock */

    struct shard shards[SHARD_COUNT];
};

/* ---- Entries ------------------------------------------------------------------------- */

static size_t key_offset(bool expires)
{
    return sizeof(struct entry) + (expires ? sizeof(struct expiry) : 0);
}

static size_t entry_size(size_t key_size, bool expires)
{
    return key_offset(expires) + key_size;
}

static bool entry_expires(const struct entry *entry)
{
    return (entry->place & TKV_PLACE_EXPIRES) != 0;
}

static struct expiry *expiry_of(const struct entry *entry)
{
    return (struct expiry *)(uintptr_t)(entry + 1);
}

static uint64_t without_expires(uint64_t place)
{
    return place & ~(uint64_t)TKV_PLACE_EXPIRES;
}

static struct tkv_location location_of(const struct entry *entry)
{
    return (struct tkv_location){
        .place = without_expires(entry->place),
        .size = entry->size,
        .seq_low = entry->seq_low,
        .expires_at_ms = entry_expires(entry) ? expiry_of(entry)->expires_at_ms : 0,
    };
}

static void set_location(struct entry *entry, const struct tkv_location *location)
{
    const bool expires = location->expires_at_ms != 0;

    entry->place = without_expires(location->place) | (expires ? TKV_PLACE_EXPIRES : 0);
    entry->size = location->size;
    entry->seq_low = location->seq_low;
}

/* ---- The arena, shared by all shards ------------------------------------------------- */

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

    tkv_mutex_lock(&index->arena_lock);
    reserved = tkv_arena_reserve(index->arena, size);
    publish_arena(index, index->count);
    tkv_mutex_unlock(&index->arena_lock);
    return reserved;
}

static void unreserve_entry(struct tkv_index *index, size_t size)
{
    tkv_mutex_lock(&index->arena_lock);
    tkv_arena_unreserve(index->arena, size);
    publish_arena(index, index->count);
    tkv_mutex_unlock(&index->arena_lock);
}

/* ---- Tables -------------------------------------------------------------------------- */

static struct shard *shard_of(struct tkv_index *index, uint64_t hash)
{
    return &index->shards[hash >> 56];
}

static void publish_table(struct shard *shard) TKV_REQUIRES(shard->lock)
{
    atomic_store_explicit(&shard->buckets, shard->table.buckets, memory_order_relaxed);
    atomic_store_explicit(&shard->bucket_count, shard->table.num_buckets,
                          memory_order_relaxed);
}

static size_t buckets_size(const struct shard *shard)
{
    if (shard->table.buckets == shard->first)
        return 0;
    return shard->table.num_buckets * sizeof(UT_hash_bucket);
}

/*
 * Nobody else uses expand_mult, which is for expanding by uthash's rule: here it is a filter
 * of a bucket's keys, a bit for each. Most lookups of absent keys end at the bucket. Bits of
 * deleted keys stay until they mislead a lookup, which has then read the chain anyway, or
 * until the bucket is empty: a bucket with a bit has an entry.
 */
static uint32_t filter_bit(uint32_t hashv)
{
    return UINT32_C(1) << (hashv >> 27);
}

static void relink(struct shard *shard, UT_hash_bucket *buckets, unsigned count)
{
    const UT_hash_bucket *old = shard->table.buckets;
    const unsigned old_count = shard->table.num_buckets;

    for (unsigned i = 0; i < old_count; i++) {
        if (i + GROUP < old_count)
            PREFETCH(old[i + GROUP].hh_head);
        for (UT_hash_handle *hh = old[i].hh_head, *next; hh != NULL; hh = next) {
            UT_hash_bucket *bucket = &buckets[hh->hashv & (count - 1)];

            next = hh->hh_next;
            hh->hh_prev = NULL;
            hh->hh_next = bucket->hh_head;
            if (bucket->hh_head != NULL)
                bucket->hh_head->hh_prev = hh;
            bucket->hh_head = hh;
            bucket->count++;
            bucket->expand_mult |= filter_bit(hh->hashv);
        }
    }
}

/* Does nothing when there is no memory. */
static void resize_table(struct tkv_index *index, struct shard *shard, unsigned log2)
    TKV_REQUIRES(shard->lock)
{
    UT_hash_table *table = &shard->table;
    const unsigned count = 1u << log2;
    const size_t old_size = buckets_size(shard);
    UT_hash_bucket *buckets = shard->first;

    if (log2 > FIRST_LOG2)
        buckets = calloc(count, sizeof *buckets);
    else
        memset(shard->first, 0, sizeof shard->first);
    if (buckets == NULL)
        return;
    relink(shard, buckets, count);
    if (table->buckets != shard->first)
        free(table->buckets);
    table->buckets = buckets;
    table->num_buckets = count;
    table->log2_num_buckets = log2;
    publish_table(shard);
    atomic_fetch_add_explicit(&index->table_bytes, buckets_size(shard) - old_size,
                              memory_order_relaxed);
}

static void grow_if_crowded(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    const UT_hash_table *table = &shard->table;

    if (table->num_items > table->num_buckets / 2)
        shard->floor_log2 = FIRST_LOG2;
    if (table->num_items > 2 * table->num_buckets && table->log2_num_buckets < LOG2_MAX)
        resize_table(index, shard, table->log2_num_buckets + 1);
}

static void shrink_if_sparse(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    const UT_hash_table *table = &shard->table;

    if (table->num_items < table->num_buckets / 8 &&
        table->log2_num_buckets > shard->floor_log2)
        resize_table(index, shard, table->log2_num_buckets - 1);
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

/* Its two lines: what a lookup compares, and key and location. */
static void prefetch_entry(const UT_hash_handle *hh)
{
    PREFETCH(&hh->hh_next);
    PREFETCH(hh + 1);
}

/* The address may be out of date or mixed from two tables: it is good for a prefetch only. */
static uintptr_t guess_bucket(struct shard *shard, uint64_t hash)
{
    const unsigned count = atomic_load_explicit(&shard->bucket_count, memory_order_relaxed);
    const UT_hash_bucket *buckets =
        atomic_load_explicit(&shard->buckets, memory_order_relaxed);

    return (uintptr_t)buckets + ((uint32_t)hash & (count - 1)) * sizeof *buckets;
}

static struct entry *find_locked(struct shard *shard, struct tkv_slice key, uint64_t hash)
    TKV_REQUIRES(shard->lock)
{
    const uint32_t hashv = (uint32_t)hash;
    UT_hash_bucket *bucket = bucket_of(shard, hash);
    struct entry *entry;

    if ((bucket->expand_mult & filter_bit(hashv)) == 0)
        return NULL;
    PREFETCH(bucket->hh_head + 1);
    HASH_FIND_IN_BKT(&shard->table, hh, *bucket, key.data, key.size, hashv, entry);
    if (entry == NULL)
        rebuild_filter(bucket);
    return entry;
}

static void add_to_table(struct shard *shard, struct entry *entry, const void *key,
                         size_t key_size, uint64_t hash) TKV_REQUIRES(shard->lock)
{
    struct entry *head = &shard->sentinel;

    HASH_ADD_KEYPTR_BYHASHVALUE(hh, head, key, key_size, (uint32_t)hash, entry);
    bucket_of(shard, hash)->expand_mult |= filter_bit((uint32_t)hash);
}

/* ---- Expiry -------------------------------------------------------------------------- */

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

static void resize_due(struct tkv_index *index, struct shard *shard, uint32_t capacity)
    TKV_REQUIRES(shard->lock)
{
    const size_t old_size = shard->due_capacity * sizeof *shard->due;
    struct due *due = realloc(shard->due, capacity * sizeof *due);

    if (due == NULL)
        return;
    shard->due = due;
    shard->due_capacity = capacity;
    atomic_fetch_add_explicit(&index->table_bytes, capacity * sizeof *due - old_size,
                              memory_order_relaxed);
}

static bool reserve_due(struct tkv_index *index, struct shard *shard)
{
    bool reserved;

    tkv_mutex_lock(&shard->lock);
    if (shard->due_count + shard->due_reserved == shard->due_capacity)
        resize_due(index, shard,
                   shard->due_capacity == 0 ? FIRST_DUE_SIZE : 2 * shard->due_capacity);
    reserved = shard->due_count + shard->due_reserved < shard->due_capacity;
    if (reserved)
        shard->due_reserved++;
    tkv_mutex_unlock(&shard->lock);
    return reserved;
}

static void shrink_due(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    const uint32_t used = shard->due_count + shard->due_reserved;

    if (used == 0 && shard->due != NULL) {
        atomic_fetch_sub_explicit(&index->table_bytes,
                                  shard->due_capacity * sizeof *shard->due,
                                  memory_order_relaxed);
        free(shard->due);
        shard->due = NULL;
        shard->due_capacity = 0;
    } else if (used < shard->due_capacity / 4 && shard->due_capacity > FIRST_DUE_SIZE) {
        resize_due(index, shard, shard->due_capacity / 2);
    }
}

static void unreserve_due(struct tkv_index *index, struct shard *shard)
    TKV_REQUIRES(shard->lock)
{
    assert(shard->due_reserved > 0);
    shard->due_reserved--;
    shrink_due(index, shard);
}

/* Uses up a reservation. */
static void add_due(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
    TKV_REQUIRES(shard->lock)
{
    assert(shard->due_reserved > 0);
    shard->due_reserved--;
    shard->due_count++;
    expiry_of(entry)->expires_at_ms = expires_at_ms;
    sift_due(shard, shard->due_count - 1, (struct due){expires_at_ms, entry});
}

static void move_due(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
    TKV_REQUIRES(shard->lock)
{
    expiry_of(entry)->expires_at_ms = expires_at_ms;
    sift_due(shard, expiry_of(entry)->slot, (struct due){expires_at_ms, entry});
}

static void remove_due(struct tkv_index *index, struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock)
{
    const uint32_t slot = expiry_of(entry)->slot;

    shard->due_count--;
    if (slot < shard->due_count)
        sift_due(shard, slot, shard->due[shard->due_count]);
    if (shard->due_count == 0)
        atomic_store_explicit(&shard->earliest, UINT64_MAX, memory_order_relaxed);
    shrink_due(index, shard);
}

/* ---- One key ------------------------------------------------------------------------- */

/* Take the memory of the new entry and give back that of the `replaced` one, if any. */
static struct entry *exchange_memory(struct tkv_index *index, size_t size,
                                     struct entry *replaced)
{
    struct entry *entry;

    tkv_mutex_lock(&index->arena_lock);
    entry = tkv_arena_take(index->arena, size);
    if (replaced != NULL)
        tkv_arena_give(index->arena, replaced,
                       entry_size(replaced->hh.keylen, entry_expires(replaced)));
    publish_arena(index, index->count + (replaced == NULL));
    tkv_mutex_unlock(&index->arena_lock);
    return entry;
}

static void insert_locked(struct tkv_index *index, struct shard *shard,
                          struct tkv_slice key, uint64_t hash,
                          const struct tkv_location *location, struct entry *replaced)
    TKV_REQUIRES(shard->lock)
{
    const bool expires = location->expires_at_ms != 0;
    struct entry *entry = exchange_memory(index, entry_size(key.size, expires), replaced);
    uint8_t *key_copy = (uint8_t *)entry + key_offset(expires);

    if (key.size > 0)
        memcpy(key_copy, key.data, key.size);
    set_location(entry, location);
    add_to_table(shard, entry, key_copy, key.size, hash);
    if (expires)
        add_due(shard, entry, location->expires_at_ms);
    grow_if_crowded(index, shard);
}

static void detach_locked(struct tkv_index *index, struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock)
{
    struct entry *head = &shard->sentinel;
    UT_hash_bucket *bucket = bucket_of(shard, entry->hh.hashv);

    if (entry_expires(entry))
        remove_due(index, shard, entry);
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
    set_location(entry, location);
    if (expires) {
        move_due(shard, entry, location->expires_at_ms);
        unreserve_due(index, shard);
    }
    unreserve_entry(index, entry_size(key.size, expires));
}

static void remove_locked(struct tkv_index *index, struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock)
{
    detach_locked(index, shard, entry);
    tkv_mutex_lock(&index->arena_lock);
    tkv_arena_give(index->arena, entry, entry_size(entry->hh.keylen, entry_expires(entry)));
    publish_arena(index, index->count - 1);
    tkv_mutex_unlock(&index->arena_lock);
    shrink_if_sparse(index, shard);
}

/* ---- The index as a whole ------------------------------------------------------------ */

/* Spins a little before it sleeps: locks are held for about 100 ns. */
static void init_lock(struct tkv_mutex *mutex)
{
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    pthread_mutexattr_t attributes;

    if (pthread_mutexattr_init(&attributes) == 0) {
        (void)pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
        (void)pthread_mutex_init(&mutex->handle, &attributes);
        (void)pthread_mutexattr_destroy(&attributes);
        return;
    }
#endif
    tkv_mutex_init(mutex);
}

static void init_shard(struct shard *shard) TKV_NO_ANALYSIS
{
    init_lock(&shard->lock);
    shard->table.buckets = shard->first;
    shard->table.num_buckets = FIRST_BUCKETS;
    shard->table.log2_num_buckets = FIRST_LOG2;
    shard->table.tail = &shard->sentinel.hh;
    shard->table.hho = offsetof(struct entry, hh);
    shard->table.signature = HASH_SIGNATURE;
    shard->table.noexpand = 1;
    shard->sentinel.hh.tbl = &shard->table;
    shard->floor_log2 = FIRST_LOG2;
    atomic_init(&shard->earliest, UINT64_MAX);
    publish_table(shard);
}

enum tkv_status tkv_index_new(uint64_t seed, uint64_t expected_keys,
                              struct tkv_index **ret_index, struct tkv_error *err)
{
    struct tkv_index *index = aligned_alloc(_Alignof(struct tkv_index), sizeof *index);
    struct tkv_arena *arena = tkv_arena_new();

    if (index == NULL || arena == NULL) {
        tkv_arena_free(arena);
        free(index);
        return tkv_fail_memory(err, sizeof *index, "an empty index");
    }
    memset(index, 0, sizeof *index);
    index->seed = seed;
    init_lock(&index->arena_lock);
    index->arena = arena;
    atomic_init(&index->arena_bytes, tkv_arena_bytes(arena));
    for (unsigned i = 0; i < SHARD_COUNT; i++)
        init_shard(&index->shards[i]);
    tkv_index_presize(index, expected_keys);
    *ret_index = index;
    return TKV_OK;
}

void tkv_index_free(struct tkv_index *index)
{
    if (index == NULL)
        return;
    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];

        if (shard->table.buckets != shard->first)
            free(shard->table.buckets);
        free(shard->due);
        tkv_mutex_destroy(&shard->lock);
    }
    tkv_arena_free(index->arena);
    tkv_mutex_destroy(&index->arena_lock);
    free(index);
}

void tkv_index_presize(struct tkv_index *index, uint64_t expected_keys)
{
    /* Shards do not fill evenly: 3 % of room, so that most never grow. */
    const uint64_t expected =
        expected_keys / SHARD_COUNT + expected_keys / SHARD_COUNT / 32;
    unsigned log2 = FIRST_LOG2;

    while (log2 < LOG2_MAX && expected > UINT64_C(2) << log2)
        log2++;
    for (unsigned i = 0; i < SHARD_COUNT && log2 > FIRST_LOG2; i++) {
        struct shard *shard = &index->shards[i];

        tkv_mutex_lock(&shard->lock);
        if (shard->table.log2_num_buckets < log2)
            resize_table(index, shard, log2);
        if (shard->table.num_items <= shard->table.num_buckets / 2)
            shard->floor_log2 = log2;
        tkv_mutex_unlock(&shard->lock);
    }
}

uint64_t tkv_index_hash(const struct tkv_index *index, struct tkv_slice key)
{
    return XXH3_64bits_withSeed(key.data, key.size, index->seed);
}

bool tkv_index_find(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                    struct tkv_location *ret_location)
{
    struct shard *shard = shard_of(index, hash);
    const struct entry *entry;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_mutex_lock(&shard->lock);
    entry = find_locked(shard, key, hash);
    if (entry != NULL)
        *ret_location = location_of(entry);
    tkv_mutex_unlock(&shard->lock);
    return entry != NULL;
}

void tkv_index_prefetch(struct tkv_index *index, uint64_t hash)
{
    PREFETCH((const void *)guess_bucket(shard_of(index, hash), hash));
}

/* False: the key is absent. Chains change at any time: only the lock makes them safe to read,
 * even for a prefetch. */
static bool prefetch_first(struct shard *shard, uint64_t hash)
{
    const UT_hash_bucket *bucket;
    bool possible;

    tkv_mutex_lock(&shard->lock);
    bucket = bucket_of(shard, hash);
    possible = (bucket->expand_mult & filter_bit((uint32_t)hash)) != 0;
    if (possible)
        prefetch_entry(bucket->hh_head);
    tkv_mutex_unlock(&shard->lock);
    return possible;
}

static void prefetch_second(struct shard *shard, uint64_t hash)
{
    const UT_hash_handle *hh;

    tkv_mutex_lock(&shard->lock);
    hh = bucket_of(shard, hash)->hh_head;
    if (hh != NULL && hh->hashv != (uint32_t)hash && hh->hh_next != NULL)
        prefetch_entry(hh->hh_next);
    tkv_mutex_unlock(&shard->lock);
}

static void find_group(struct tkv_index *index, const struct tkv_slice *keys,
                       const uint64_t *hashes, size_t count, struct tkv_location *locations,
                       bool *found)
{
    for (size_t i = 0; i < count; i++)
        PREFETCH((const void *)guess_bucket(shard_of(index, hashes[i]), hashes[i]));
    for (size_t i = 0; i < count; i++)
        found[i] = prefetch_first(shard_of(index, hashes[i]), hashes[i]);
    for (size_t i = 0; i < count; i++)
        if (found[i])
            prefetch_second(shard_of(index, hashes[i]), hashes[i]);
    for (size_t i = 0; i < count; i++)
        if (found[i])
            found[i] = tkv_index_find(index, keys[i], hashes[i], &locations[i]);
}

void tkv_index_find_many(struct tkv_index *index, const struct tkv_slice *keys,
                         const uint64_t *hashes, size_t count,
                         struct tkv_location *locations, bool *found)
{
    for (size_t i = 0; i < count; i += GROUP) {
        const size_t group = count - i < GROUP ? count - i : GROUP;

        find_group(index, keys + i, hashes + i, group, locations + i, found + i);
    }
}

enum tkv_status tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                  uint64_t hash, bool expires, struct tkv_error *err)
{
    const size_t size = entry_size(key.size, expires);

    PREFETCH((const void *)guess_bucket(shard_of(index, hash), hash)); /* for the put */
    if (!reserve_entry(index, size))
        return tkv_fail_memory(err, size, "index");
    if (expires && !reserve_due(index, shard_of(index, hash))) {
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
    tkv_mutex_lock(&shard->lock);
    unreserve_due(index, shard);
    tkv_mutex_unlock(&shard->lock);
}

bool tkv_index_put(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                   const struct tkv_location *location, struct tkv_location *ret_old)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_mutex_lock(&shard->lock);
    entry = find_locked(shard, key, hash);
    if (entry == NULL) {
        insert_locked(index, shard, key, hash, location, NULL);
    } else {
        *ret_old = location_of(entry);
        update_locked(index, shard, entry, key, hash, location);
    }
    tkv_mutex_unlock(&shard->lock);
    return entry != NULL;
}

/* `place` is NULL for any place. */
static bool remove_if_at(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         const uint64_t *place, struct tkv_location *ret_old)
{
    struct shard *shard = shard_of(index, hash);
    struct entry *entry;
    bool removed;

    PREFETCH((const void *)guess_bucket(shard, hash));
    tkv_mutex_lock(&shard->lock);
    entry = find_locked(shard, key, hash);
    removed = entry != NULL &&
              (place == NULL || without_expires(entry->place) == without_expires(*place));
    if (removed) {
        *ret_old = location_of(entry);
        remove_locked(index, shard, entry);
    }
    tkv_mutex_unlock(&shard->lock);
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
    tkv_mutex_lock(&shard->lock);
    entry = find_locked(shard, key, hash);
    moved = entry != NULL && without_expires(entry->place) == without_expires(from);
    if (moved)
        entry->place = without_expires(to) | (entry->place & TKV_PLACE_EXPIRES);
    tkv_mutex_unlock(&shard->lock);
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

    tkv_mutex_lock(&shard->lock);
    entry = find_place(shard, hash, without_expires(from));
    if (entry != NULL)
        entry->place = without_expires(to) | (entry->place & TKV_PLACE_EXPIRES);
    tkv_mutex_unlock(&shard->lock);
    return entry != NULL;
}

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
    tkv_mutex_lock(&shard->lock);
    while (count < capacity && shard->due_count > 0 &&
           shard->due[0].expires_at_ms <= now_ms) {
        struct entry *entry = shard->due[0].entry;

        locations[count++] = location_of(entry);
        remove_locked(index, shard, entry);
    }
    tkv_mutex_unlock(&shard->lock);
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

uint64_t tkv_index_drop_tombstones(struct tkv_index *index)
{
    uint64_t dropped = 0;

    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];

        tkv_mutex_lock(&shard->lock);
        for (struct entry *entry = shard->sentinel.hh.next, *next; entry != NULL;
             entry = next) {
            next = entry->hh.next;
            if ((entry->place & TKV_PLACE_TOMBSTONE) == 0)
                continue;
            remove_locked(index, shard, entry);
            dropped++;
        }
        tkv_mutex_unlock(&shard->lock);
    }
    return dropped;
}

/* ---- Visiting every key -------------------------------------------------------------- */

/*
 * The cursor is a position among bit-reversed hashes: in a table of 2^n buckets, a bucket is
 * a range of them, and bigger or smaller tables only cut the same ranges finer or coarser.
 * Keys below the position were visited. After a table has shrunk, the position may be in the
 * middle of a bucket, which is why keys are compared with it.
 */
static uint32_t reverse_bits(uint32_t v)
{
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    v = (v >> 8 & 0x00ff00ffu) | (v & 0x00ff00ffu) << 8;
    return v >> 16 | v << 16;
}

static const UT_hash_bucket *bucket_at(const struct shard *shard, uint32_t position)
{
    return &shard->table.buckets[reverse_bits(position) & (shard->table.num_buckets - 1)];
}

/* The first position of the next bucket; 0 after the last. */
static uint32_t next_position(const struct shard *shard, uint32_t position)
{
    return (position | UINT32_MAX >> shard->table.log2_num_buckets) + 1;
}

static bool grow_array(void *array_pointer, size_t *capacity, size_t needed,
                       size_t item_size)
{
    void *array;
    size_t grown = *capacity * 2;

    if (needed <= *capacity)
        return true;
    if (grown < needed)
        grown = needed;
    memcpy(&array, array_pointer, sizeof array);
    array = realloc(array, grown * item_size);
    if (array == NULL)
        return false;
    memcpy(array_pointer, &array, sizeof array);
    *capacity = grown;
    return true;
}

static bool grow_page(struct tkv_index_page *page, size_t key_size)
{
    size_t ends_capacity = page->capacity;

    if (!grow_array(&page->bytes, &page->bytes_capacity, page->bytes_size + key_size, 1))
        return false;
    return grow_array(&page->ends, &ends_capacity, page->count + 1, sizeof *page->ends) &&
           grow_array(&page->locations, &page->capacity, page->count + 1,
                      sizeof *page->locations);
}

static bool copy_bucket(const UT_hash_bucket *bucket, uint32_t position,
                        struct tkv_index_page *page)
{
    for (const UT_hash_handle *hh = bucket->hh_head; hh != NULL; hh = hh->hh_next) {
        const struct entry *entry =
            (const struct entry *)(const void *)((const char *)hh -
                                                 offsetof(struct entry, hh));

        if (reverse_bits(hh->hashv) < position)
            continue;
        if (!grow_page(page, hh->keylen))
            return false;
        if (hh->keylen > 0)
            memcpy(page->bytes + page->bytes_size, hh->key, hh->keylen);
        page->bytes_size += hh->keylen;
        page->ends[page->count] = page->bytes_size;
        page->locations[page->count] = location_of(entry);
        page->count++;
    }
    return true;
}

/* Copy the next GROUP buckets of one shard, or fewer: the rest of it. */
static bool copy_group(struct shard *shard, uint32_t *position, struct tkv_index_page *page)
    TKV_REQUIRES(shard->lock)
{
    uint32_t at[GROUP];
    unsigned count = 0;
    uint32_t next = *position;

    do {
        at[count] = next;
        PREFETCH(bucket_at(shard, next));
        next = next_position(shard, next);
    } while (++count < GROUP && next != 0);
    for (unsigned i = 0; i < count; i++)
        PREFETCH(bucket_at(shard, at[i])->hh_head);
    for (unsigned i = 0; i < count; i++) {
        const UT_hash_handle *hh = bucket_at(shard, at[i])->hh_head;

        if (hh != NULL)
            PREFETCH(hh->key);
    }
    for (unsigned i = 0; i < count; i++)
        if (!copy_bucket(bucket_at(shard, at[i]), at[i], page))
            return false;
    *position = next;
    return true;
}

enum tkv_status tkv_index_step(struct tkv_index *index, struct tkv_index_cursor *cursor,
                               struct tkv_index_page *page, struct tkv_error *err)
{
    uint32_t number = cursor->shard, position = cursor->bucket;
    bool copied = true;

    page->count = 0;
    page->bytes_size = 0;
    for (unsigned buckets = 0; number < SHARD_COUNT && page->count < STEP_KEYS &&
                               buckets < STEP_BUCKETS && copied;
         buckets += GROUP) {
        struct shard *shard = &index->shards[number];

        tkv_mutex_lock(&shard->lock);
        if (shard->table.num_items == 0)
            position = 0; /* no key that stays is here */
        else
            copied = copy_group(shard, &position, page);
        tkv_mutex_unlock(&shard->lock);
        if (copied && position == 0)
            number++;
    }
    if (!copied) {
        page->count = 0;
        page->bytes_size = 0;
        return tkv_fail(err, TKV_NO_MEMORY, "out of memory for a page of keys");
    }
    cursor->shard = number;
    cursor->bucket = position;
    cursor->done = number == SHARD_COUNT;
    return TKV_OK;
}

void tkv_index_page_release(struct tkv_index_page *page)
{
    free(page->bytes);
    free(page->ends);
    free(page->locations);
    memset(page, 0, sizeof *page);
}

/* ---- Sums ---------------------------------------------------------------------------- */

uint64_t tkv_index_count(const struct tkv_index *index)
{
    return atomic_load_explicit(&index->count, memory_order_relaxed);
}

size_t tkv_index_bytes(const struct tkv_index *index)
{
    return sizeof *index + atomic_load_explicit(&index->arena_bytes, memory_order_relaxed) +
           atomic_load_explicit(&index->table_bytes, memory_order_relaxed);
}

/* A key's entry, wherever it is reached from. */
static bool check_entry(const struct tkv_index *index, const struct shard *shard,
                        struct entry *entry)
{
    const uint64_t hash = tkv_index_hash(index, tkv_bytes(entry->hh.key, entry->hh.keylen));
    const struct expiry *expiry;

    if (entry->hh.tbl != &shard->table || entry->hh.hashv != (uint32_t)hash ||
        &index->shards[hash >> 56] != shard)
        return false;
    if (!entry_expires(entry))
        return true;
    expiry = expiry_of(entry);
    return expiry->slot < shard->due_count && shard->due[expiry->slot].entry == entry &&
           shard->due[expiry->slot].expires_at_ms == expiry->expires_at_ms &&
           expiry->expires_at_ms != 0;
}

static bool check_bucket(const UT_hash_bucket *bucket, unsigned number, unsigned mask)
{
    const UT_hash_handle *before = NULL;
    unsigned count = 0;

    for (const UT_hash_handle *hh = bucket->hh_head; hh != NULL; hh = hh->hh_next) {
        if (hh->hh_prev != before || (hh->hashv & mask) != number ||
            (bucket->expand_mult & filter_bit(hh->hashv)) == 0)
            return false;
        before = hh;
        count++;
    }
    return count == bucket->count && (count > 0 || bucket->expand_mult == 0);
}

static bool check_table(const struct shard *shard)
{
    const UT_hash_table *table = &shard->table;
    uint64_t count = 0;

    for (unsigned i = 0; i < table->num_buckets; i++) {
        if (!check_bucket(&table->buckets[i], i, table->num_buckets - 1))
            return false;
        count += table->buckets[i].count;
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
           shard->table.tail == &before->hh && shard->sentinel.hh.prev == NULL;
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
    size_t table_bytes = 0;
    bool good = true;

    for (unsigned i = 0; i < SHARD_COUNT && good; i++) {
        struct shard *shard = &index->shards[i];

        tkv_mutex_lock(&shard->lock);
        good = check_table(shard) && check_due(shard) && check_list(index, shard);
        count += shard->table.num_items;
        table_bytes += buckets_size(shard) + shard->due_capacity * sizeof *shard->due;
        tkv_mutex_unlock(&shard->lock);
    }
    tkv_mutex_lock(&index->arena_lock);
    good = good && tkv_arena_bytes(index->arena) == index->arena_bytes;
    tkv_mutex_unlock(&index->arena_lock);
    return good && count == index->count && table_bytes == index->table_bytes;
}
