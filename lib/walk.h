/* SPDX-License-Identifier: MIT */
/*
 * walk.h - every record of a data file in the order of the file, dead ones and deletes
 * included, verified where they lie in memory or read in large chunks. Recovery, compaction and
 * verify share it, so they cannot disagree about what a file holds.
 *
 *     tkv_walk_begin(&walk, file, end);
 *     while (tkv_walk_next(&walk))
 *         use(&walk.record, walk.offset, walk.size);
 *     if (walk.status != TKV_OK) ...             TKV_CORRUPT, TKV_IO or TKV_NO_MEMORY
 *     tkv_walk_end(&walk);
 *
 * walk.record borrows from the walk until the next call. The walk holds a reference to the file;
 * the caller makes sure that it is there when the walk begins. A walk gives way to other threads.
 */
#ifndef TKV_WALK_H
#define TKV_WALK_H

#include "datafile.h"
#include "record.h"

struct tkv_walk {
    struct tkv_record record;
    uint64_t offset;  /* of the record, or of the damage */
    size_t size;      /* of the record */
    uint64_t padding; /* where the first zeros were skipped; 0: none were yet */
    enum tkv_status status;
    struct tkv_error error; /* meaningful with a status other than TKV_OK */

    struct tkv_datafile *file;
    uint64_t next, end;
    uint64_t gave_way_at; /* give_way.h */
    const uint8_t *bytes; /* of the file: where they lie in memory, or in `buffer` */
    uint64_t bytes_offset;
    size_t bytes_size;
    uint8_t *buffer;
    size_t buffer_capacity;
};

/* From the first record to `end`, a record's boundary (the file's size, or its durable size). */
void tkv_walk_begin(struct tkv_walk *walk, struct tkv_datafile *file, uint64_t end);
bool tkv_walk_next(struct tkv_walk *walk);
void tkv_walk_end(struct tkv_walk *walk);

/* What seems to be the record at `*offset`, which is moved behind it: for fetching ahead what
 * belongs to it, nothing else, because nothing of it is verified. False: it is not in memory, or
 * does not look like a record. */
bool tkv_walk_glimpse(const struct tkv_walk *walk, uint64_t *offset,
                      struct tkv_record *ret_record);

#endif
