/* SPDX-License-Identifier: MIT */
/*
 * wal_private.h - what wal.c, the log as a file, and commit.c, the log as a queue of writers,
 * share. Private to those two.
 */
#ifndef TKV_WAL_PRIVATE_H
#define TKV_WAL_PRIVATE_H

#include "wal.h"

/* tkv_wal_poison() with the lock held. */
void tkv_wal_poison_locked(struct tkv_wal *wal, enum tkv_status status)
    TKV_REQUIRES(wal->lock);
enum tkv_status tkv_wal_fail_poisoned(const struct tkv_wal *wal, struct tkv_error *err);

/* Durable when it returns 0; else a negative errno, and nobody knows what is on disk. */
int tkv_wal_write_durably(struct tkv_wal *wal, const void *bytes, size_t size,
                          uint64_t offset);

#endif
