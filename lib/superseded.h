/* SPDX-License-Identifier: MIT */
/*
 * superseded.h - which records of a data file are known to be superseded: one bit for each 16
 * bytes of it, that of the record's first byte. F2FS keeps such a map of the blocks of a segment
 * (Lee et al., "F2FS: A New File System for Flash Storage", FAST 2015), for the same reason: who
 * collects garbage then need not look up what becomes of each.
 *
 * A bit that is set is certain. One that is not says nothing for certain, because there may be
 * no memory for bits: the record is live if the index says so, at the latest when its key is
 * to be repointed. So bytes may be copied in vain, and no record is dropped for it.
 *
 * Threads: one at a time notes and forgets, any ask.
 */
#ifndef TKV_SUPERSEDED_H
#define TKV_SUPERSEDED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TKV_SUPERSEDED_UNIT 16u /* no record is that short */

struct tkv_superseded {
    _Atomic(atomic_uchar *) bits; /* NULL until one is set */
    uint64_t end;                 /* of the offsets that they cover; constant with `bits` */
    atomic_bool is_complete; /* all was noted that is noted at all: what can be live again
                                     only by being written again, see tkv_files_superseded() */
};

/* The record at `offset`, below `end`, which is the same for all records of the file. */
void tkv_superseded_note(struct tkv_superseded *superseded, uint64_t offset, uint64_t end);

/* Nobody asks meanwhile, nor later when it is done for good. */
void tkv_superseded_forget(struct tkv_superseded *superseded);

/* Where the bit of an offset lies if the bits lie at `bits`. */
static inline size_t tkv_superseded_byte(uint64_t offset)
{
    return (size_t)(offset / TKV_SUPERSEDED_UNIT / 8);
}

static inline unsigned tkv_superseded_bit(uint64_t offset)
{
    return 1u << (offset / TKV_SUPERSEDED_UNIT % 8);
}

static inline bool tkv_superseded_has(const struct tkv_superseded *superseded,
                                      uint64_t offset)
{
    const atomic_uchar *bits =
        atomic_load_explicit(&superseded->bits, memory_order_acquire);

    return bits != NULL &&
           (atomic_load_explicit(&bits[tkv_superseded_byte(offset)], memory_order_relaxed) &
            tkv_superseded_bit(offset)) != 0;
}

#endif
