/* SPDX-License-Identifier: MIT */
/*
 * workload.h - kinds of workloads: options of the store, a mix of operations, and how closely
 * their crashes are looked at.
 */
#ifndef CRASH_WORKLOAD_H
#define CRASH_WORKLOAD_H

#include "tinykv.h"

enum workload_kind {
    SEEDED,     /* long: drawn from a seed */
    EXHAUSTIVE, /* short: all sequences, see sequence.h */
};

/* Shares of each kind of operation; the rest of 100 are puts. */
struct workload {
    const char *name;
    enum workload_kind kind;
    enum tkv_durability durability;
    unsigned operations;
    unsigned deletes, batches, syncs, checkpoints, compactions, reopens, crashes, expiring,
        ticks, rotations, large;
    uint32_t value_size_max;
    unsigned compress_level;
    unsigned share;   /* of the states, in percent of what others get; 0: 100 */
    unsigned density; /* of a hundred derived disks at each point, so many are looked at */
    uint64_t wal_size_max, data_file_size; /* 0: 64 KiB */
    bool every_byte;                       /* cut small writes at every byte */
    bool from_nothing;                     /* look at the creation of the store as well */
    bool no_direct_sync, no_allocation;    /* what the file system lacks */
};

extern const struct workload workloads[];
extern const size_t workload_count;

struct tkv_options workload_options(const struct workload *workload);

#endif
