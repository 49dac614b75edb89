/* SPDX-License-Identifier: MIT */
/*
 * directory.h - which of a store's files lie in its directory, by their names alone.
 *
 * When something fails: a listing that fails is to be released all the same; a leftover that
 * cannot be removed is harmless.
 *
 * Threads: only while a store is being opened.
 */
#ifndef TKV_DIRECTORY_H
#define TKV_DIRECTORY_H

#include "store.h"

struct tkv_directory {
    bool has_manifest, has_wal;
    uint64_t *data_numbers;
    size_t data_count, data_capacity;
    uint64_t *hint_numbers;
    size_t hint_count, hint_capacity;
    uint64_t highest_number;
    bool has_temporaries;
    bool out_of_memory;
};

enum tkv_status tkv_directory_list(struct tkv_store *store, struct tkv_directory *directory,
                                   struct tkv_error *err);
void tkv_directory_release(struct tkv_directory *directory);

/* Remove files of records that no manifest lists, and hints of such. What is in them is in the log
 * or in files that are listed, by a manifest whose name is durable. Failing to is harmless. */
void tkv_directory_clean_records(struct tkv_store *store,
                                 const struct tkv_directory *directory,
                                 struct tkv_open_report *report) TKV_COLD;
/* Likewise what is left of values and temporary files, once what no longer refers to them is
 * durable. */
void tkv_directory_clean(struct tkv_store *store, const struct tkv_directory *directory,
                         struct tkv_open_report *report) TKV_COLD;

#endif
