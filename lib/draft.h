/* SPDX-License-Identifier: MIT */
/*
 * draft.h - encoded records on their way to the log: of a put, a delete or a batch.
 *
 * Invariant: items[0..count) say where in bytes[0..size) each record begins, in the order of
 * the calls; `large` are the files that were written for some of them and that no log refers
 * to yet. A small record allocates nothing.
 *
 * When something fails the draft stays as it is: what never reached the log is given back with
 * tkv_draft_abandon(), and tkv_draft_release() is due in any case.
 *
 * Threads: a draft belongs to the thread that fills it.
 */
#ifndef TKV_DRAFT_H
#define TKV_DRAFT_H

#include "record.h"
#include "wal.h"

struct tkv_datafile;

struct tkv_draft {
    uint8_t *bytes;
    size_t size, capacity;
    struct tkv_wal_item *items;
    size_t count, item_capacity;
    size_t deletes;              /* how many of them */
    uint64_t user_bytes;         /* keys and values, as given */
    struct tkv_datafile **large; /* files written for it */
    size_t large_count;
    tkv_wal_is_wanted *is_wanted; /* NULL, or of a single delete: see wal/wal.h */

    /* Enough for one small record, so that a put allocates nothing. */
    uint8_t first_bytes[1024];
    struct tkv_wal_item first_item;
};

void tkv_draft_init(struct tkv_draft *draft);
void tkv_draft_release(struct tkv_draft *draft);

/* Encode `record`, which may still change before it is sealed in the log. */
enum tkv_status tkv_draft_add(struct tkv_draft *draft, const struct tkv_record *record,
                              struct tkv_error *err);
/* Encode a put as the store's options say: compressed, or the value in a file of its own. */
enum tkv_status tkv_draft_put(struct tkv_store *store, struct tkv_draft *draft,
                              struct tkv_slice key, struct tkv_slice value,
                              uint64_t expires_at_ms, struct tkv_error *err);
/* Is a record of that size too much for the log, so that its value goes beside it? */
bool tkv_draft_is_large(const struct tkv_store *store, size_t record_size);
void tkv_draft_record(const struct tkv_draft *draft, size_t i, struct tkv_record *ret);

/* Reserve index memory, commit to the log, which applies it, and wake who has work now. Keys are
 * hashed unless their items say how. TKV_NOT_FOUND: draft->is_wanted said no. */
enum tkv_status tkv_draft_commit(struct tkv_store *store, struct tkv_draft *draft,
                                 struct tkv_error *err);
/* It was not committed: remove the files that were written for it. */
void tkv_draft_abandon(struct tkv_store *store, struct tkv_draft *draft);

#endif
