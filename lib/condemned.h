/* SPDX-License-Identifier: MIT */
/*
 * condemned.h - how a data file leaves the store: marked as condemned, left out of the next
 * manifest, then unlinked, and released when its last reader has left.
 *
 * Invariant: what made its records dead is durable before the manifest without it is. Until
 * then the file stays where it is, and after a failure it stays in the store.
 *
 * Threads: all with `compact` and `upkeep` held, and without `apply`.
 */
#ifndef TKV_CONDEMNED_H
#define TKV_CONDEMNED_H

#include "datafile.h"
#include "garbage.h"

/* Write a manifest without the files that are condemned. */
enum tkv_status tkv_condemned_leave_out(struct tkv_store *store, struct tkv_error *err);

/* Remove a file that the manifest does not list any more: its name, its place in the table, and
 * what it kept from being garbage. */
void tkv_condemned_remove(struct tkv_store *store, struct tkv_datafile *file);

/* Condemn and remove all files of the list that are dead, with one manifest; when that fails they
 * stay. *ret_did says whether they are gone, and is left alone where there were none;
 * *ret_reclaimed grows by their sizes. */
enum tkv_status tkv_condemned_remove_dead(struct tkv_store *store,
                                          const struct tkv_garbage_list *list,
                                          bool *ret_did, uint64_t *ret_reclaimed,
                                          struct tkv_error *err);

#endif
