/* SPDX-License-Identifier: MIT */
/*
 * garbage.h - what is garbage in a store, and which file is worth compacting, by the counters
 * alone (compactor/pick.h).
 *
 * Only files that are sealed and durable in full are taken: copying a record that a power cut
 * could still take back would make it durable ahead of its predecessors.
 *
 * Threads: tkv_garbage_bytes() and tkv_garbage_wanted() from any; the others with `compact`
 * and `upkeep` held, so that no file is removed meanwhile.
 */
#ifndef TKV_GARBAGE_H
#define TKV_GARBAGE_H

#include "datafile.h"
#include "pick.h"

/* All data files, as the picker sees them and as they are. */
struct tkv_garbage_list {
    struct tkv_pick_file *files;
    struct tkv_datafile **handles;
    size_t count;
};

uint64_t tkv_garbage_bytes(struct tkv_store *store);
/* Is there so much of it that a compaction is due? */
bool tkv_garbage_wanted(struct tkv_store *store);

enum tkv_status tkv_garbage_list(struct tkv_store *store, struct tkv_garbage_list *list,
                                 struct tkv_error *err);
void tkv_garbage_release(struct tkv_garbage_list *list);
/* The next victim, or NULL; `below` as for tkv_reclaim_step(). */
struct tkv_datafile *tkv_garbage_pick(struct tkv_store *store,
                                      const struct tkv_garbage_list *list, uint64_t below);
/* Needs no reading: nothing in it is live, and no older record is left that its deletes could
 * hide. */
bool tkv_garbage_is_dead(struct tkv_store *store, struct tkv_datafile *file);

/* What is worth compacting may not be sealed or durable yet: see to it. */
enum tkv_status tkv_garbage_roll(struct tkv_store *store, uint64_t below,
                                 struct tkv_error *err);

#endif
