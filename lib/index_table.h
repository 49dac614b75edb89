/* SPDX-License-Identifier: MIT */
/*
 * index_table.h - 256 tables of uthash, one for each value of the top byte of the hash. It is
 * private to lib/index*.c, hence the short names.
 *
 *     shard -> line (64 bytes: a bucket and six slots) -> entry (64 bytes and the key)
 *
 *     0       8                             64                              64 or 80
 *     +-------+-----------------------------+- - - - - - - - - - - - - - - -+-----+
 *     | place | uthash's hh (see below)     | expires_at_ms:u64 slot:u32 -  | key |
 *     +-------+-----------------------------+- - - - - - - - - - - - - - - -+-----+
 *                                           (only if place has EXPIRES)
 *
 * A lookup of a random key is a chain of cache misses, and nothing else counts. So the key
 * lies right behind the node, where it can be prefetched before the node has arrived, and a
 * line leads to entries and records without a walk along the chain (index_line.h).
 *
 * What is left of uthash is its structures, and what adds to a bucket and deletes in one, for
 * the entries that find no slot in their line. It never allocates:
 *
 *   - A shard's table is part of the shard. uthash's list of all elements is not used: to
 *     remove one would touch those that happened to be added before and after it.
 *   - Tables are resized here, by explicit rules, not by uthash's: double above 3.2 to 6.4
 *     entries a line, halve below 1/2. Each shard has a limit of its own, so that they do not
 *     all double at once, and memory a key stays the same while an index grows. Failing to
 *     resize only costs speed.
 *   - uthash's pointer to the table, hh.tbl, is never read: there is what else there is to know
 *     of the record (see fill_entry()).
 *
 * Entries come from one arena, whose lock is taken inside of a shard's lock, and tables of
 * 64 KiB to 2 MiB from the arena's chunks, for the sake of their huge pages. No thread holds
 * two shards' locks.
 *
 * Failing to get memory for an entry or a heap is told when it is reserved or added, never
 * later.
 */
#ifndef TKV_INDEX_TABLE_H
#define TKV_INDEX_TABLE_H

#include "index.h"

#include "arena.h"
#include "chunks.h"
#include "latch.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
#include <uthash.h>

/* gcc 12 drops the calls of a function that does nothing but prefetch: hence the statement. */
#if defined(__GNUC__)
#define PREFETCH(address)            \
    do {                             \
        __builtin_prefetch(address); \
        __asm__ volatile("");        \
    } while (0)
#else
#define PREFETCH(address) ((void)(address))
#endif

#define SHARD_COUNT  256u
#define LINE         64u
#define LINE_BUCKETS 4u
#define FIRST_LOG2   2u /* of buckets: one line */
#define LOG2_MAX     28u

/* Followed by a struct expiry if `place` has TKV_PLACE_EXPIRES, and by the key. */
struct entry {
    uint64_t place;
    UT_hash_handle hh;
#if UINTPTR_MAX < UINT64_MAX
    uint64_t record;
#endif
};

struct expiry {
    uint64_t expires_at_ms;
    uint32_t slot; /* in shard->due */
    uint32_t unused;
};

#if UINTPTR_MAX >= UINT64_MAX
static_assert(sizeof(struct entry) == LINE, "a node is as long as a cache line");
#endif

/* Of a binary heap with the earliest expiry at slot 0; children of i are 2i+1 and 2i+2. */
struct due {
    uint64_t expires_at_ms;
    struct entry *entry;
};

/* How an entry is found without the chain, see index_line.h. */
struct slot {
    uint32_t node;
    uint32_t guess;
};

#define SLOT_COUNT \
    ((unsigned)((LINE_BUCKETS - 1) * sizeof(UT_hash_bucket) / sizeof(struct slot)))

struct line {
    UT_hash_bucket bucket;
    struct slot slots[SLOT_COUNT];
};

static_assert(sizeof(struct line) <= LINE_BUCKETS * sizeof(UT_hash_bucket),
              "a line takes the place of its buckets");

struct shard {
    _Alignas(LINE) struct tkv_latch lock;

    /* Read without the lock, and in a line that taking it does not claim: copies of the table's
     * fields for those who prefetch. */
    _Alignas(LINE) _Atomic(UT_hash_bucket *) buckets;
    atomic_uint bucket_count;
    atomic_uint_least64_t earliest; /* expiry in the shard; UINT64_MAX: none expires */

    _Alignas(LINE) UT_hash_table table TKV_GUARDED_BY(lock);
    _Alignas(LINE) UT_hash_bucket first[LINE_BUCKETS]; /* the line of a small table */
    struct tkv_chunk *chunk TKV_GUARDED_BY(lock); /* of a table in the arena, or NULL */
    atomic_size_t bytes; /* of buckets and heap outside of both; written under lock */
    struct due *due TKV_GUARDED_BY(lock);
    uint32_t due_count, due_capacity, due_reserved; /* count + reserved <= capacity */
    uint32_t floor_log2; /* not halved below: presized, and not yet filled */
};

struct tkv_index {
    uint64_t seed;
    const struct tkv_chunks *chunks; /* the arena's, to be read without its lock */

    _Alignas(LINE) struct tkv_latch arena_lock;
    struct tkv_arena *arena TKV_GUARDED_BY(arena_lock);
    atomic_size_t arena_bytes;   /* written under arena_lock */
    atomic_uint_least64_t count; /* written under arena_lock */
    unsigned looked_at;          /* shards, by who grows them ahead */

    struct shard shards[SHARD_COUNT];
};

/* ---- Entries and buckets --------------------------------------------------------- */

static inline bool entry_expires(const struct entry *entry)
{
    return (entry->place & TKV_PLACE_EXPIRES) != 0;
}

static inline size_t key_offset(bool expires)
{
    return sizeof(struct entry) + (expires ? sizeof(struct expiry) : 0);
}

static inline size_t entry_size(size_t key_size, bool expires)
{
    return key_offset(expires) + key_size;
}

static inline size_t size_of_entry(const struct entry *entry)
{
    return entry_size(entry->hh.keylen, entry_expires(entry));
}

static inline struct expiry *expiry_of(const struct entry *entry)
{
    return (struct expiry *)(uintptr_t)(entry + 1);
}

static inline uint64_t without_expires(uint64_t place)
{
    return place & ~(uint64_t)TKV_PLACE_EXPIRES;
}

/* Of the record: its size above the low half of its sequence number. */
static inline void fill_entry(struct entry *entry, uint32_t size, uint32_t seq_low)
{
    const uint64_t record = (uint64_t)size << 32 | seq_low;

#if UINTPTR_MAX >= UINT64_MAX
    entry->hh.tbl = (UT_hash_table *)(uintptr_t)record;
#else
    entry->record = record;
#endif
}

static inline uint64_t record_of(const struct entry *entry)
{
#if UINTPTR_MAX >= UINT64_MAX
    return (uintptr_t)entry->hh.tbl;
#else
    return entry->record;
#endif
}

static inline struct tkv_location location_of(const struct entry *entry)
{
    return (struct tkv_location){
        .place = without_expires(entry->place),
        .size = (uint32_t)(record_of(entry) >> 32),
        .seq_low = (uint32_t)record_of(entry),
        .expires_at_ms = entry_expires(entry) ? expiry_of(entry)->expires_at_ms : 0,
    };
}

static inline struct shard *shard_of(struct tkv_index *index, uint64_t hash)
{
    return &index->shards[hash >> 56];
}

/* How many pages a table of 2^log2 buckets takes of the arena's chunks; 0: it is not in there,
 * as none is with pointers of 32 bits, where a bucket has 12 bytes. */
static inline unsigned pages_of_table(unsigned log2)
{
    const size_t bucket = sizeof(UT_hash_bucket);
    const size_t pages = (bucket << log2) / TKV_PAGE_BYTES;

    if ((bucket & (bucket - 1)) != 0 || pages > TKV_RUN_PAGES_MAX)
        return 0;
    return (unsigned)pages;
}

/* Of the table, if it is from malloc. */
static inline size_t buckets_size(const struct shard *shard)
{
    if (shard->table.buckets == shard->first ||
        pages_of_table(shard->table.log2_num_buckets) != 0)
        return 0;
    return shard->table.num_buckets * sizeof(UT_hash_bucket);
}

/* Of what the shard has outside of itself; wraps for fewer. */
static inline void add_bytes(struct shard *shard, size_t more) TKV_REQUIRES(shard->lock)
{
    atomic_store_explicit(&shard->bytes, shard->bytes + more, memory_order_relaxed);
}

static inline struct entry *entry_at(const UT_hash_handle *hh)
{
    return (struct entry *)((uintptr_t)hh - offsetof(struct entry, hh));
}

/* What uthash has of the hash: it leads to every fourth bucket. */
static inline uint32_t hashv_of(uint64_t hash)
{
    return (uint32_t)hash & ~(LINE_BUCKETS - 1);
}

/* Its two lines, wherever they are cut: the location, what a lookup compares, and the key. It
 * may be NULL. */
static inline void prefetch_entry(const UT_hash_handle *hh)
{
    const uintptr_t at = (uintptr_t)hh - offsetof(struct entry, hh);

    PREFETCH((const void *)at);
    PREFETCH((const void *)(at + sizeof(struct entry)));
}

/* Both counts have one writer at a time, so no read-modify-write is needed. */
static inline void publish_arena(struct tkv_index *index, uint64_t count)
    TKV_REQUIRES(index->arena_lock)
{
    atomic_store_explicit(&index->arena_bytes, tkv_arena_bytes(index->arena),
                          memory_order_relaxed);
    atomic_store_explicit(&index->count, count, memory_order_relaxed);
}

/* ---- index.c --------------------------------------------------------------------- */

/* Take an entry out of the shard and give its memory back. */
void tkv_index_remove_entry(struct tkv_index *index, struct shard *shard,
                            struct entry *entry) TKV_REQUIRES(shard->lock);

/* ---- index_find.c ---------------------------------------------------------------- */

/* NULL: there is no such key. */
struct entry *tkv_index_find_entry(const struct tkv_index *index, struct shard *shard,
                                   struct tkv_slice key, uint64_t hash)
    TKV_REQUIRES(shard->lock);

/* ---- index_table.c --------------------------------------------------------------- */

/* Would so many keys in 2^log2 buckets be more than the shard's limit? */
static inline bool tkv_index_is_crowded(const struct tkv_index *index,
                                        const struct shard *shard, uint64_t count,
                                        unsigned log2)
{
    const uint64_t number = (uint64_t)(shard - index->shards);

    return count * SHARD_COUNT * 5 > (SHARD_COUNT + number) * 4 << log2;
}

/* Has a presized table been used? One that was made for its keys is filled to 0.38 at least. */
static inline bool tkv_index_is_filled(const UT_hash_table *table)
{
    return table->num_items > table->num_buckets / 3;
}

/* Make it a table of 2^log2 buckets. Does nothing when there is no memory. */
void tkv_index_resize(struct tkv_index *index, struct shard *shard, unsigned log2)
    TKV_REQUIRES(shard->lock);

/* Of some shards, others with every call, double the tables that will soon be too small. One
 * thread at a time. */
void tkv_index_grow_ahead(struct tkv_index *index);

/* ---- index_expiry.c: the heap of entries that expire ----------------------------- */

/* Make sure that one later tkv_index_due_add() has room; false when there is no memory. Takes
 * the shard's lock. */
bool tkv_index_due_reserve(struct shard *shard);
void tkv_index_due_unreserve(struct shard *shard) TKV_REQUIRES(shard->lock);
/* Uses up a reservation. */
void tkv_index_due_add(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
    TKV_REQUIRES(shard->lock);
void tkv_index_due_move(struct shard *shard, struct entry *entry, uint64_t expires_at_ms)
    TKV_REQUIRES(shard->lock);
void tkv_index_due_remove(struct shard *shard, struct entry *entry)
    TKV_REQUIRES(shard->lock);

#endif
