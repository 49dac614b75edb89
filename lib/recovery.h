/* SPDX-License-Identifier: MIT */
/*
 * recovery.h - a recovery in progress, shared by its steps: the state that was durable
 * (recover_state.c), the data files (recover_files.c), and the log with what follows
 * (recover.c, which has the picture). Private to them.
 */
#ifndef TKV_RECOVERY_H
#define TKV_RECOVERY_H

#include "store.h"

#include "directory.h"

/* What the directory holds, and what is known about it so far. */
struct tkv_recovery {
    struct tkv_store *store;
    struct tkv_open_report *report;

    struct tkv_directory directory;
    struct tkv_manifest manifest;
    struct tkv_wal_header header;
    struct tkv_checkpoint from;

    uint8_t *log;
    bool is_log_empty; /* and was given back for it; `replay` says what there is to say */
    uint64_t log_size;
    struct tkv_replay replay;
};

/* MANIFEST and wal.log into `r`: which data files there are, and from where the log counts. */
enum tkv_status tkv_recovery_read_state(struct tkv_recovery *r,
                                        struct tkv_error *err) TKV_COLD;

/* The data files' headers, then their records into the index. */
enum tkv_status tkv_recovery_open_files(struct tkv_recovery *r, struct tkv_error *err);
enum tkv_status tkv_recovery_load_files(struct tkv_recovery *r, struct tkv_error *err);

/* The files that were being written go on growing: the active one, and the compactor's unless
 * the store is read-only. */
enum tkv_status tkv_recovery_reopen(struct tkv_recovery *r, struct tkv_error *err);

#endif
