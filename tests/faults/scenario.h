/* SPDX-License-Identifier: MIT */
/*
 * scenario.h - what a store is doing while faults strike. A scenario prepares a disk once,
 * without faults, and then acts on a copy of it for every fault.
 */
#ifndef FAULTS_SCENARIO_H
#define FAULTS_SCENARIO_H

#include "run.h"

struct scenario {
    const char *name;
    /* May be NULL: the harness's small options, mode ALWAYS. */
    void (*set_options)(struct tkv_options *options);
    /* May be NULL: an empty disk. A store that is left open has been killed. */
    void (*prepare)(struct run *run);
    void (*act)(struct run *run); /* arms */
    unsigned flags;
};

enum {
    SCENARIO_IS_QUICK = 1,     /* of the short run */
    SCENARIO_MAY_COMPOUND = 2, /* crash it anywhere, and fault the recovery */
    /* With threads: which call is the N-th depends on them, so only threads that cannot be
     * started, and memory that has run out for good. Closes the store itself. */
    SCENARIO_IS_THREADED = 4
};

extern const struct scenario scenarios_of_opening[], scenarios_of_writing[],
    scenarios_of_upkeep[], scenarios_of_reading[];
extern const size_t scenarios_of_opening_count, scenarios_of_writing_count,
    scenarios_of_upkeep_count, scenarios_of_reading_count;

size_t scenario_count(void);
const struct scenario *scenario_at(size_t number);
const struct scenario *scenario_find(const char *name); /* or NULL */

struct tkv_options scenario_options(const struct scenario *scenario);

/* ---- States to begin with (states.c) ------------------------------------------------- */

/* Options. */
void options_relaxed(struct tkv_options *options);
void options_interval(struct tkv_options *options);
void options_pread(struct tkv_options *options);
void options_compressed(struct tkv_options *options);
void options_automatic(struct tkv_options *options);

/* Closed properly. */
void state_some(struct run *run);         /* a dozen keys in one file */
void state_files(struct run *run);        /* several data files, most of them half dead */
void state_tombstones(struct run *run);   /* deletes that hide older values elsewhere */
void state_large(struct run *run);        /* two large values, one of them overwritten */
void state_compressible(struct run *run); /* some keys, a large one among them */
void state_no_direct_sync(struct run *run);
void state_expiring(struct run *run); /* keys whose time will come */

/* Killed. */
void state_killed(struct run *run);       /* with writes that only the log has */
void state_killed_large(struct run *run); /* a large value that no manifest lists */
void state_torn(struct run *run);         /* in the middle of a write */

/* Open the store in `run`, put `count` keys from `first` on, of `size` bytes. */
void state_fill(struct run *run, unsigned first, unsigned count, uint32_t size);

#endif
