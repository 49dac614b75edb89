/* SPDX-License-Identifier: MIT */
/*
 * survivors.h - the compactor's output files: where the records go that outlive their file.
 *
 * Invariant: until the index is repointed nothing refers to what was appended, and outputs[i]
 * says how that file was before. The outputs that are open belong to the store and are filled
 * by one compaction after another.
 *
 * There are two: one for what outlives a file that puts wrote, one for what outlives a file of
 * survivors. Records that stay are so kept apart from those that only stayed a while, and are
 * not copied again and again together with them. One compaction appends to one of the two.
 *
 * When something fails, tkv_survivors_undo() takes back what was appended. A failed sync
 * poisons the store, like any other.
 *
 * The flusher may write what was appended before it is settled (tkv_flush()); that makes nothing
 * durable, and is taken back with the rest.
 *
 * Threads: with `compact` held; what needs `upkeep` as well says so.
 */
#ifndef TKV_SURVIVORS_H
#define TKV_SURVIVORS_H

#include "datafile.h"
#include "record.h"

/* A file that this compaction appends to, and how it was before. */
struct tkv_survivors_output {
    struct tkv_datafile *file;
    bool is_new;
    uint64_t size, records, record_sum; /* before */
    uint64_t tombstone_bytes;           /* that came to it; others expire meanwhile */
    uint64_t puts_bytes, puts;          /* likewise */
};

struct tkv_survivors {
    struct tkv_store *store;
    const struct tkv_datafile *source;
    bool is_paced; /* by the compactor's thread: not faster than the store needs */
    uint64_t paced_bytes, paced_from_us;
    struct tkv_survivors_output *outputs;
    size_t output_count;
};

/* struct tkv_copy_job.append, with a struct tkv_survivors as its context. */
enum tkv_status tkv_survivors_append(void *context, const struct tkv_record *record,
                                     const uint8_t *bytes, size_t size, uint64_t *ret_place,
                                     struct tkv_error *err);

/* Write and sync all of the compactor's files, those of an earlier step that failed half-way
 * included. With `upkeep` held. */
enum tkv_status tkv_survivors_settle(struct tkv_store *store, struct tkv_error *err);

/* Nothing points at what was appended: take it back, lest a full disk fill up with attempts.
 * A poisoned store is left as it is. Takes `upkeep`. */
void tkv_survivors_undo(struct tkv_survivors *survivors);

void tkv_survivors_release(struct tkv_survivors *survivors);

#endif
