/* SPDX-License-Identifier: MIT */
/*
 * tombstones.h - the deletes that a compaction meets, and which of them are still needed.
 *
 * A delete with sequence number s of key k may be dropped exactly when no other data file
 * holds a record of k with a lower number: dropped earlier, recovery would resurrect the value
 * that it hides. Whether one does is answered by looking through the older files' hints, so a
 * cold file that never held the key pins nothing, and no memory per key is needed for it. The
 * record of an expired key is a delete in this sense.
 *
 * Keys are compared by their 64-bit hash: a collision keeps a delete that could have gone.
 */
#ifndef TKV_TOMBSTONES_H
#define TKV_TOMBSTONES_H

#include "error.h"

struct tkv_tombstone {
    uint64_t hash;
    uint64_t seq;
    uint32_t at, size; /* of the record in `bytes` */
    uint32_t next;     /* in its list: an item's number and 1, or 0 */
    bool needed;
};

/* Zeroed, it is empty. */
struct tkv_tombstones {
    struct tkv_tombstone *items;
    size_t count, capacity;
    uint8_t *bytes; /* the encoded records, one after another */
    size_t bytes_size, bytes_capacity;
    uint64_t seq_max;
    size_t undecided; /* not known to be needed yet */
    uint32_t *lists;  /* items by hash, 2^lists_log2 lists, once all are there */
    uint8_t *filter; /* a bit for each hash, 8 to 16 bits an item: what fits into a cache */
    unsigned lists_log2;
};

/* Collect one delete record, sealed, of the key with that hash. */
enum tkv_status tkv_tombstones_add(struct tkv_tombstones *tombstones, uint64_t hash,
                                   uint64_t seq, const uint8_t *record, uint32_t size,
                                   struct tkv_error *err);

/* After the last add and before the first note, once. */
enum tkv_status tkv_tombstones_list(struct tkv_tombstones *tombstones,
                                    struct tkv_error *err);

/* Another file holds a record of this key that is not a delete. True when it made a delete
 * needed. */
bool tkv_tombstones_note(struct tkv_tombstones *tombstones, uint64_t hash, uint64_t seq);

void tkv_tombstones_release(struct tkv_tombstones *tombstones);

#endif
