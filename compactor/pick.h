/* SPDX-License-Identifier: MIT */
/*
 * pick.h - which data file to compact next. Pure arithmetic over counters; never looks at a
 * file or an index.
 *
 * Victims are chosen by cost-benefit: the bytes that become free, times the file's age, over
 * the bytes that must be written for it. That is (1 - u) * age / u, with u the share of the
 * file that is kept: Rosenblum and Ousterhout, "The Design and Implementation of a
 * Log-Structured File System", SOSP 1991, without what reading costs. An old file's garbage is
 * worth more than a young one's, because a young file will yet lose more by itself.
 *
 * A file's age counts from its beginning and not from its newest record: one that holds what
 * outlived another file is as young as that, whatever it holds.
 */
#ifndef TKV_PICK_H
#define TKV_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tkv_pick_file {
    uint64_t size;
    uint64_t kept_bytes; /* live records, and tombstones known to be needed */
    uint64_t age;        /* data files begun after it */
    bool eligible;       /* sealed, durable, not damaged, not in use */
};

struct tkv_pick_policy {
    uint64_t size_min;   /* no compaction while the total is below */
    double space_factor; /* keep the total below this x live */
    bool everything;     /* asked by hand: whatever is worth at least a block */
};

#define TKV_PICK_NONE SIZE_MAX

/* Is there so much beside the live records that a compaction should run? */
bool tkv_pick_wanted(uint64_t total_bytes, uint64_t live_bytes,
                     const struct tkv_pick_policy *policy);

/* The file to compact, or TKV_PICK_NONE when none is worth it. */
size_t tkv_pick(const struct tkv_pick_file *files, size_t count,
                const struct tkv_pick_policy *policy);

#endif
