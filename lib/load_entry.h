/* SPDX-License-Identifier: MIT */
/* load_entry.h - one record of a data file on its way into the index. Private to load.c. */
#ifndef TKV_LOAD_ENTRY_H
#define TKV_LOAD_ENTRY_H

#include "hint.h"
#include "store.h"

/* What a file's own records say is checked against what its header promised, and against the
 * checkpoint: a record from beyond it would win over all writes to come. TKV_CORRUPT. */
enum tkv_status tkv_load_check(struct tkv_store *store, struct tkv_datafile *file,
                               const struct tkv_hint_entry *entry, struct tkv_error *err);

/* Account for a record, and point its key at it if none of the key is newer. `hash` is its
 * tkv_index_hash(). TKV_NO_MEMORY. */
enum tkv_status tkv_load_entry(struct tkv_store *store, struct tkv_datafile *file,
                               const struct tkv_hint_entry *entry, uint64_t hash,
                               struct tkv_error *err);

#endif
