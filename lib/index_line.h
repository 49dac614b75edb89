/* SPDX-License-Identifier: MIT */
/*
 * index_line.h - what a lookup reads first: a cache line with a bucket of uthash and, where
 * its next three buckets would be, six slots that say where an entry and its record lie. It is
 * private to lib/index*.c, hence the short names.
 *
 *     0         8                 10       16                              64
 *     +---------+--------+--------+--------+--------+--------+- - -+--------+
 *     | hh_head | filter          | 6 tags | slot 0 | slot 1 |     | slot 5 |
 *     +---------+--------+--------+--------+--------+--------+- - -+--------+
 *     slot: node:u32 (number of an object in the arena) guess:u32 (of the record's place)
 *
 * The low two bits of a hash in uthash are zero: it uses every fourth bucket. To follow its
 * chain costs a cache miss for each entry, and then one for the record; a slot leads to both
 * at once. A tag, eight bits of the hash, tells most other keys. An entry that found no slot
 * is in uthash's chain; the filter has a bit for it, which stays until the chain is empty.
 * One that has a slot is linked to nothing: to remove it touches no other entry.
 *
 * Filter and tags are where uthash counts the entries of a bucket for its own rule of
 * expansion, which is not used: what its macros do to them is undone.
 *
 * With pointers of 32 bits a line has 48 bytes and four slots.
 */
#ifndef TKV_INDEX_LINE_H
#define TKV_INDEX_LINE_H

#include "index_table.h"

#include "chunks.h"

#define FILTER_MAX 0xffffu
#define TAG_MAX    255u
#define TAGS_AT    16u /* bits in a line's word */
#define EVERY_TAG  (UINT64_C(0x010101010101) << TAGS_AT)
#define NO_SLOT    SLOT_COUNT

/* ---- Bytes ----------------------------------------------------------------------- */

static inline uint64_t word_of(const struct line *line)
{
    return (uint64_t)line->bucket.expand_mult << 32 | line->bucket.count;
}

static inline void set_word(struct line *line, uint64_t word)
{
    line->bucket.count = (uint32_t)word;
    line->bucket.expand_mult = (uint32_t)(word >> 32);
}

static inline unsigned filter_bit(uint32_t hashv)
{
    return 1u << (hashv >> 20 & 15);
}

/* Whether one that has no slot may have this hash. */
static inline bool has_other(const struct line *line, uint32_t hashv)
{
    return (line->bucket.count & filter_bit(hashv)) != 0;
}

/* 0 is the tag of a free slot. */
static inline unsigned tag_of(uint32_t hashv)
{
    const unsigned tag = hashv >> 24;

    return tag != 0 ? tag : TAG_MAX;
}

static inline void set_tag(struct line *line, unsigned slot, unsigned tag)
{
    const unsigned at = TAGS_AT + slot * 8;

    set_word(line, (word_of(line) & ~((uint64_t)TAG_MAX << at)) | (uint64_t)tag << at);
}

/* A bit for each slot that has the tag, and no other: what a free slot says is stale. Adding
 * 0x7f to the low seven bits of a byte never carries into the next. */
static inline uint64_t slots_tagged(const struct line *line, unsigned tag)
{
    const uint64_t differences = word_of(line) ^ EVERY_TAG * tag;
    const uint64_t low_bits = EVERY_TAG * 0x7f;

    return ~(((differences & low_bits) + low_bits) | differences) & EVERY_TAG << 7;
}

static inline unsigned first_slot(uint64_t tagged)
{
#if defined(__GNUC__)
    return ((unsigned)__builtin_ctzll(tagged) - TAGS_AT) / 8;
#else
    unsigned slot = 0;

    while ((tagged >> (TAGS_AT + slot * 8) & TAG_MAX) == 0)
        slot++;
    return slot;
#endif
}

/*
 * The line of a record's place: a reader fetches the record together with the node. It is a
 * guess because slots above 1023 and offsets beyond 256 MiB of a file do not fit.
 *
 *     31     22 21               0
 *     +--------+-----------------+
 *     | slot   | offset / 64     |
 *     +--------+-----------------+
 */
#define GUESS_OFFSET_BITS 22u

static inline uint32_t guess_of(uint64_t place)
{
    const uint32_t line = (uint32_t)(tkv_place_offset(place) / LINE);

    return tkv_place_slot(place) << GUESS_OFFSET_BITS |
           (line & ((UINT32_C(1) << GUESS_OFFSET_BITS) - 1));
}

static inline uint64_t place_of_guess(uint32_t guess)
{
    const uint64_t line = guess & ((UINT32_C(1) << GUESS_OFFSET_BITS) - 1);

    return tkv_place(guess >> GUESS_OFFSET_BITS, line * LINE, 0);
}

/* ---- Slots ----------------------------------------------------------------------- */

static inline struct line *line_at(UT_hash_bucket *buckets, uint32_t number)
{
    return (struct line *)(void *)&buckets[number];
}

static inline struct line *line_of(struct shard *shard, uint32_t hashv)
    TKV_REQUIRES(shard->lock)
{
    return line_at(shard->table.buckets, hashv & (shard->table.num_buckets - 1));
}

/* The address may be out of date or mixed from two tables: it is good for a prefetch only. */
static inline uintptr_t guess_line(struct shard *shard, uint64_t hash)
{
    const unsigned count = atomic_load_explicit(&shard->bucket_count, memory_order_relaxed);
    const UT_hash_bucket *buckets =
        atomic_load_explicit(&shard->buckets, memory_order_relaxed);

    return (uintptr_t)buckets + (hashv_of(hash) & (count - 1)) * sizeof *buckets;
}

static inline struct entry *entry_in(const struct tkv_index *index, const struct slot *slot)
{
    return tkv_chunks_object(index->chunks, slot->node);
}

/* Which slot leads to the entry; NO_SLOT if none does. */
static inline unsigned slot_of(const struct tkv_index *index, const struct line *line,
                               const struct entry *entry)
{
    uint64_t tagged = slots_tagged(line, tag_of(entry->hh.hashv));

    for (; tagged != 0; tagged &= tagged - 1) {
        const unsigned slot = first_slot(tagged);

        if (entry_in(index, &line->slots[slot]) == entry)
            return slot;
    }
    return NO_SLOT;
}

static inline uint32_t number_of_entry(const struct entry *entry)
{
    return tkv_arena_number(entry, size_of_entry(entry));
}

/* Give a free slot, if there is one, to an entry whose node has a number. */
static inline bool take_slot(struct line *line, const struct entry *entry, uint32_t node)
{
    const uint64_t free_slots = slots_tagged(line, 0);
    unsigned slot;

    if (free_slots == 0 || node == 0)
        return false;
    slot = first_slot(free_slots);
    if (slot >= SLOT_COUNT)
        return false;
    line->slots[slot] = (struct slot){node, guess_of(entry->place)};
    set_tag(line, slot, tag_of(entry->hh.hashv));
    return true;
}

/* ---- The chain ------------------------------------------------------------------- */

static inline void chain(struct line *line, struct entry *entry)
{
    const uint64_t word = word_of(line);
    int failed = 0; /* to expand, which a bucket without entries never does */

    set_word(line, 0);
    HASH_ADD_TO_BKT(line->bucket, hh, &entry->hh, failed);
    assert(failed == 0);
    set_word(line, word | filter_bit(entry->hh.hashv));
}

static inline void unchain(struct line *line, struct entry *entry)
{
    const uint64_t word = word_of(line);

    HASH_DEL_IN_BKT(line->bucket, &entry->hh);
    set_word(line, line->bucket.hh_head != NULL ? word : word & ~(uint64_t)FILTER_MAX);
}

/* ---- Entries of a line ----------------------------------------------------------- */

static inline void link_entry(struct line *line, struct entry *entry, uint32_t node)
{
    if (!take_slot(line, entry, node))
        chain(line, entry);
}

static inline void unlink_entry(const struct tkv_index *index, struct line *line,
                                struct entry *entry)
{
    const unsigned slot = slot_of(index, line, entry);

    if (slot != NO_SLOT)
        set_tag(line, slot, 0);
    else
        unchain(line, entry);
}

static inline bool slot_is_free(const struct line *line, unsigned slot)
{
    return (word_of(line) >> (TAGS_AT + slot * 8) & TAG_MAX) == 0;
}

/* Those that have a slot, and the first of the others. */
static inline void prefetch_entries(const struct tkv_index *index, const struct line *line)
{
    prefetch_entry(line->bucket.hh_head);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (!slot_is_free(line, slot))
            prefetch_entry(&entry_in(index, &line->slots[slot])->hh);
}

/* All of them, one by one; begins zeroed. The one it has returned may be unlinked. */
struct line_walk {
    unsigned slot; /* the next; those of the chain come after the last */
    UT_hash_handle *other;
};

static inline struct entry *next_entry(const struct tkv_index *index,
                                       const struct line *line, struct line_walk *walk)
{
    UT_hash_handle *hh;

    while (walk->slot < SLOT_COUNT) {
        const unsigned slot = walk->slot++;

        if (!slot_is_free(line, slot))
            return entry_in(index, &line->slots[slot]);
    }
    hh = walk->slot++ == SLOT_COUNT ? line->bucket.hh_head : walk->other;
    if (hh == NULL)
        return NULL;
    walk->other = hh->hh_next;
    return entry_at(hh);
}

#endif
