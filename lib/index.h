/* SPDX-License-Identifier: MIT */
/*
 * index.h - key -> where its latest record lies, in memory. Only lib/index*.c know
 * uthash.
 *
 *   shard = high bits of a seeded 64-bit XXH3 of the key (256 shards, each with its own padded
 *   lock), line of the shard's table = low 32 bits. A key costs 64 bytes (8-byte place and the
 *   56-byte uthash handle, which has room for the record's size), its own bytes in the same
 *   object, 16 more if it expires, and some 20 of a line: 102 in all for 16-byte keys. Tables
 *   double above 3.2 to 6.4 keys a line, a different limit in each shard, halve below 1/2, and
 *   never by uthash's own rule.
 *
 * Memory first, log second: tkv_index_reserve() before a write is logged, then exactly one
 * tkv_index_put() or tkv_index_unreserve(), of which neither can fail.
 *
 * Thread-safe: every call locks the shards it touches, for the length of one lookup or one
 * update. Nothing is called back while a shard is locked, but a tkv_index_fetch.
 */
#ifndef TKV_INDEX_H
#define TKV_INDEX_H

#include "tinykv.h"

/*
 * A place is a data file's slot in the store's file table, an offset in that file, and flags:
 *
 *     63       44 43                     4 3    0
 *     +----------+------------------------+------+
 *     | slot: 20 | offset: 40             | flags|
 *     +----------+------------------------+------+
 */
#define TKV_PLACE_LARGE 1u /* the record refers to a value in a file of its own */
#define TKV_PLACE_TOMBSTONE \
    2u /* the record is a delete; only while a store is being opened */
#define TKV_PLACE_EXPIRES    4u /* kept by the index itself; callers never set or see it */
#define TKV_PLACE_SLOT_MAX   ((1u << 20) - 1)
#define TKV_PLACE_OFFSET_MAX ((UINT64_C(1) << 40) - 1)

static inline uint64_t tkv_place(uint32_t slot, uint64_t offset, unsigned flags)
{
    return (uint64_t)slot << 44 | offset << 4 | flags;
}

static inline uint32_t tkv_place_slot(uint64_t place)
{
    return (uint32_t)(place >> 44);
}

static inline uint64_t tkv_place_offset(uint64_t place)
{
    return place >> 4 & TKV_PLACE_OFFSET_MAX;
}

/* What the index knows about one key. */
struct tkv_location {
    uint64_t place;
    uint32_t size;          /* of the record */
    uint32_t seq_low;       /* low 32 bits of its sequence number */
    uint64_t expires_at_ms; /* 0: never */
};

struct tkv_index;

/* `expected_keys` presizes the tables; 0 does not. */
enum tkv_status tkv_index_new(uint64_t seed, uint64_t expected_keys,
                              struct tkv_index **ret_index, struct tkv_error *err);
void tkv_index_free(struct tkv_index *index);

/* Grow the tables for so many keys at once; failing to is harmless. */
void tkv_index_presize(struct tkv_index *index, uint64_t expected_keys);

/* Have memory and larger tables ready for the keys that are being added: for one thread that
 * calls it often and has time. Trimming gives back memory that was got ready and not needed. */
void tkv_index_prepare(struct tkv_index *index);
void tkv_index_trim(struct tkv_index *index);

uint64_t tkv_index_hash(const struct tkv_index *index, struct tkv_slice key);

/* Every function below takes the key with its tkv_index_hash(). */

/* A key of this hash will be asked for soon: fetch its line. */
void tkv_index_prefetch(struct tkv_index *index, uint64_t hash);

/* Fetch the rest of what a lookup or an update of it touches. False: there is no such key. True:
 * there may be one, and *ret_guess is where its record may lie, as a place without flags, or 0;
 * good for fetching it ahead, and for nothing else. */
bool tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess);

bool tkv_index_find(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                    struct tkv_location *ret_location);

/* Called by a lookup that is about to wait for memory, with a guess as tkv_index_peek() has
 * it and with the shard locked: it may fetch the record, and must neither wait nor call the
 * index. */
typedef void tkv_index_fetch(void *context, uint64_t guess);

bool tkv_index_find_fetching(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                             tkv_index_fetch *fetch, void *context,
                             struct tkv_location *ret_location);

/* Make sure that one later tkv_index_put() of such a key cannot run out of memory. */
enum tkv_status tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                  uint64_t hash, bool expires, struct tkv_error *err);
void tkv_index_unreserve(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         bool expires);

/* Point `key` at `location` and use up one reservation made with the same `expires`
 * (== location->expires_at_ms != 0). Returns true when the key was there, and then
 * *ret_old is where it pointed: the caller owes those bytes to that file's dead count. */
bool tkv_index_put(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                   const struct tkv_location *location, struct tkv_location *ret_old);

/* Reserve and put in one, for a key that does not expire; *ret_added is false, and nothing
 * happens, when the key is there already, nor on failure (TKV_NO_MEMORY). */
enum tkv_status tkv_index_add(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                              const struct tkv_location *location, bool *ret_added,
                              struct tkv_error *err);

/* True when the key was there; *ret_old as above. */
bool tkv_index_remove(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                      struct tkv_location *ret_old);

/* Remove the key only while it still points at `place` (flag EXPIRES ignored). */
bool tkv_index_remove_at(struct tkv_index *index, struct tkv_slice key, uint64_t hash,
                         uint64_t place, struct tkv_location *ret_old);

/* Repoint whichever key of that hash points at place `from` to place `to`, keeping all else (flag
 * EXPIRES ignored in both); false when none does any more: a concurrent write has won. */
bool tkv_index_move(struct tkv_index *index, uint64_t hash, uint64_t from, uint64_t to);

/* Is there any key that will expire? */
bool tkv_index_has_expiring(const struct tkv_index *index);

/* Remove keys that expired at or before `now_ms`, at most `capacity` of them, and return how
 * many; locations[i] is where each pointed. O(shards) when there is nothing to do. */
size_t tkv_index_expire(struct tkv_index *index, uint64_t now_ms,
                        struct tkv_location *locations, size_t capacity);

/* Remove every key whose place has flag TKV_PLACE_TOMBSTONE; returns how many. */
uint64_t tkv_index_drop_tombstones(struct tkv_index *index);

/*
 * Visit every key in small steps. Keys that stay in the index from the first step to the last
 * are visited exactly once, whatever is put, removed or resized between the steps; others at
 * most once for each time that they are added.
 */
struct tkv_index_cursor {
    uint32_t shard;
    uint32_t bucket; /* bits reversed, as in Redis' SCAN */
    bool done;
};

/* Keys copied out by one step: key i is bytes[ends[i-1] .. ends[i]) (ends[-1] is 0). */
struct tkv_index_page {
    uint8_t *bytes;
    size_t bytes_size, bytes_capacity;
    size_t *ends;
    struct tkv_location *locations;
    size_t count, capacity;
};

/* Fill `page` (zeroed before the first call; memory is reused) with the keys of the next
 * lines, about 64. cursor->done is set when none is left; page->count may be 0 before. */
enum tkv_status tkv_index_step(struct tkv_index *index, struct tkv_index_cursor *cursor,
                               struct tkv_index_page *page, struct tkv_error *err);
void tkv_index_page_release(struct tkv_index_page *page);

uint64_t tkv_index_count(const struct tkv_index *index); /* tombstones included */
size_t tkv_index_bytes(const struct tkv_index *index);   /* all memory of the index */

/* Sum everything from scratch and compare; for tests and verify. False alarms are possible
 * while other threads write. */
bool tkv_index_check(struct tkv_index *index);

#endif
