/* SPDX-License-Identifier: MIT */
/*
 * copy.h - carry what is still needed of one data file elsewhere, and repoint the index.
 *
 *   copy      reads one sealed file and appends to another. Changes no shared state but that
 *             file's end; a crash or a failure here costs bytes that nobody refers to.
 *   install   repoints the index, one compare-and-move for each copied record.
 *
 * Why copying needs no lock: data files are immutable once sealed, and install moves a key
 * only if it still points at the record that was copied. A concurrent put simply wins.
 *
 * Every record is verified on the way. Records keep their bytes and their sequence numbers, so
 * two copies of one, after a crash between copy and install, are the same write twice.
 */
#ifndef TKV_COPY_H
#define TKV_COPY_H

#include "datafile.h"
#include "index.h"
#include "record.h"
#include "tombstones.h"

struct tkv_move {
    uint64_t hash;
    uint64_t from, to; /* places */
    uint32_t size;
    bool expires;
};

struct tkv_copy_job {
    /* In. */
    struct tkv_datafile *source;
    struct tkv_index *index;
    uint64_t now_ms; /* keys that expired by then are treated as deleted */
    /* Take one record's bytes; *ret_place is where it lies then. */
    enum tkv_status (*append)(void *context, const struct tkv_record *record,
                              const uint8_t *bytes, size_t size, uint64_t *ret_place,
                              struct tkv_error *err);
    /* A key's record has turned out to be expired: it is not in the index any more. */
    void (*expired)(void *context, const struct tkv_location *location);
    void *context;

    /* Out; released by tkv_copy_release(). */
    struct tkv_move *moves;
    size_t move_count, move_capacity;
    struct tkv_tombstones tombstones; /* for the caller to judge, then append */
    uint64_t records_in, records_dropped, record_sum, hint_sum;
    uint64_t bytes_in, bytes_out;
};

/* TKV_CORRUPT when the file is damaged: nothing must be installed then. */
enum tkv_status tkv_copy_run(struct tkv_copy_job *job, struct tkv_error *err);

/* Append the tombstones that are needed, after they were judged. */
enum tkv_status tkv_copy_tombstones(struct tkv_copy_job *job, struct tkv_error *err);

/* Every record of the source is accounted for: moved, kept as a tombstone, or dropped; and
 * they, their keys and their kinds are those that the index was made from. */
bool tkv_copy_balances(const struct tkv_copy_job *job);

/* Repoint move `i`; false when a later write has won. */
bool tkv_copy_install(struct tkv_copy_job *job, size_t i);

void tkv_copy_release(struct tkv_copy_job *job);

#endif
