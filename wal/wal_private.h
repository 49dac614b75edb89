/* SPDX-License-Identifier: MIT */
/*
 * wal_private.h - what wal.c, the log as a file, grow.c, its blocks, commit.c, the log as a row
 * of groups, and lead.c, the log as a queue of writers, share. Private to those four.
 */
#ifndef TKV_WAL_PRIVATE_H
#define TKV_WAL_PRIVATE_H

#include "wal.h"

/* ---- wal.c ----------------------------------------------------------------------- */

/* tkv_wal_poison() with the lock held. */
void tkv_wal_poison_locked(struct tkv_wal *wal, enum tkv_status status)
    TKV_REQUIRES(wal->lock);
enum tkv_status tkv_wal_fail_poisoned(const struct tkv_wal *wal, struct tkv_error *err);

/* Sync the file, unless the log is poisoned; a failure poisons it. Returns a negative errno then. */
int tkv_wal_sync_file(struct tkv_wal *wal);
/* Durable when it returns 0; else a negative errno, and nobody knows what is on disk. */
int tkv_wal_write_durably(struct tkv_wal *wal, const void *bytes, size_t size,
                          uint64_t offset);

/* ---- commit.c -------------------------------------------------------------------- */

/* May a write still be committed? */
enum tkv_status tkv_wal_check_usable(const struct tkv_wal *wal,
                                     const struct tkv_wal_write *write,
                                     struct tkv_error *err) TKV_REQUIRES(wal->lock);
/* Copy the records into the group and give them the next sequence numbers. */
enum tkv_status tkv_wal_join_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                                   struct tkv_wal_write *write, struct tkv_error *err)
    TKV_REQUIRES(wal->lock);
void tkv_wal_empty_group(struct tkv_wal_group_buffer *b);
/* Wait until the ring has room. The lock is dropped meanwhile, and others may take room then;
 * *ret_place is good until the lock is dropped again. */
enum tkv_status tkv_wal_find_room(struct tkv_wal *wal, uint64_t extent,
                                  struct tkv_ring_place *ret_place, struct tkv_error *err)
    TKV_REQUIRES(wal->lock);
/* Stamp the header. Returns what the next group must name as its predecessor. */
uint32_t tkv_wal_stamp_group(struct tkv_wal *wal, struct tkv_wal_group_buffer *b,
                             const struct tkv_ring_place *place, uint64_t extent)
    TKV_REQUIRES(wal->lock);
/* The group is as durable as the mode demands: account for it. */
void tkv_wal_count_group(struct tkv_wal *wal, const struct tkv_wal_group_buffer *b,
                         const struct tkv_ring_place *place, uint64_t extent,
                         uint32_t chain) TKV_REQUIRES(wal->lock);
/* What the owner applies; read without the lock by the one who leads. */
struct tkv_wal_applied tkv_wal_describe_applied(const struct tkv_wal *wal,
                                                const struct tkv_wal_group_buffer *b);

/* ---- lead.c ---------------------------------------------------------------------- */

/* Commit in mode ALWAYS: lead a group, or wait for who does. */
enum tkv_status tkv_wal_commit_durably(struct tkv_wal *wal, struct tkv_wal_write *write,
                                       struct tkv_error *err);

#endif
