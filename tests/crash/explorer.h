/* SPDX-License-Identifier: MIT */
/*
 * explorer.h - one program running on the simulated disk, and what is derived from it:
 *
 *   explorer.c    runs the program, and goes on after its own crashes
 *   watch.c       stands between the store and the disk, and stops before every call
 *   derive.c      makes the disks that a kill or a power cut could leave there (P0 to P7)
 *   examine.c     recovers each, and compares it with the oracle
 *   nested.c      crashes a recovery
 *   failed_sync.c runs the program again with a sync that fails (P8)
 *   silent.c      damages what is durable (P9)
 *   violation.c   says what went wrong
 *   shrink.c      looks for a shorter program that goes wrong in the same way
 *
 * Everything follows from workload, seed and program. What is drawn for a derived disk follows
 * from its image, so that it does not matter what was seen before.
 */
#ifndef CRASH_EXPLORER_H
#define CRASH_EXPLORER_H

#include "oracle.h"
#include "program.h"
#include "seen.h"
#include "settings.h"
#include "simdisk.h"

#include <stdarg.h>

#define HANDLES_MAX       64u
#define GROUPS_MAX        256u
#define NESTED_DEPTH_MAX  5u
#define FAULT_PROGRAM_MAX 12u /* operations; a program is run again for every sync */
#define VIOLATIONS_MAX    20u
#define WALL_MS_FIRST     UINT64_C(1700000000000)

struct totals {
    uint64_t states, unique, opens, violations, runs, trace;
    uint64_t models[MODEL_COUNT]; /* unique states of each */
    uint64_t
        depths[NESTED_DEPTH_MAX + 1]; /* and by how many recoveries were crashed before */
};

/* What one process has in common for all of its programs. */
struct tally {
    const struct settings *settings;
    struct seen seen;
    struct totals totals;  /* of the workload that runs */
    uint64_t unique_limit; /* for this program: stop when totals.unique gets there */
    double deadline;       /* monotonic seconds; 0: none */
    bool is_late;
    bool is_silent;   /* stop at the first violation, print nothing */
    bool is_thorough; /* look at every derived disk, and check everything of each */
    bool has_nested;  /* thorough: crash every recovery as well */
    /* The first violation of the program that ran last. */
    char violation[96];
    enum model violated;
    bool is_nested_violation;
};

/* One derived disk. */
struct derived {
    enum model model;
    const char *name;
    const struct simdisk *from; /* the disk that it survives of */
    enum simdisk_model survivor;
    uint64_t choice;
    size_t unit;
    size_t cut;         /* of a write that was in flight: bytes that arrived */
    bool killed;        /* everything acknowledged must be there */
    const char *damage; /* P9 and late P8: what was done to it; errors are allowed then */
    size_t least;       /* and so many writes must be there, if anything is */
};

/* Where a write lies in the log, and what it says was durable before. */
struct logged {
    size_t operation; /* of the oracle */
    size_t durable_before;
    uint64_t from, to;
};

struct sync_fault {
    unsigned at; /* which sync of the program, from 1; 0: none */
    enum simdisk_failed_sync how;
    bool is_late;    /* it succeeds, the next one fails */
    bool drop_cache; /* the system forgets clean pages when it is asked to */
    bool happened;
    bool is_harmless;      /* of a file that is abandoned then, as a new manifest */
    size_t durable_before; /* when it happened */
};

#define MANIFEST_DRAFT "MANIFEST.tmp"

#define FAULT_DUE_WRITE     1u
#define FAULT_DUE_DIRECTORY 2u

struct explorer {
    struct tally *tally;
    const struct program *program;
    const struct workload *workload;
    uint64_t random; /* for choices that no image is at hand for */
    unsigned operation;
    const char *operation_name;
    struct tkv_options options;
    struct simdisk *disk;
    struct oracle *oracle;
    struct tkv_store *store;
    unsigned density;
    bool every_byte;
    bool busy; /* looking at a derived disk, or not looking at all */
    uint64_t last_point;
    const char *call; /* kind of the call that comes next */

    /* In a recovery that is crashed: what it must give again. */
    unsigned depth;
    const struct oracle_found *expected;
    bool is_pinned; /* what is expected is durable: a power cut takes nothing back */
    bool all_killed;
    const struct explorer *outer;
    const struct derived *outer_derived;

    struct sync_fault fault;
    unsigned fault_is_due; /* it was late; which kind of call reports it */
    unsigned syncs;        /* seen so far */
    bool is_poisoned;      /* a failed sync was reported to the caller */

    /* For P9. */
    struct simdisk *before; /* durable image before the last operations */
    struct logged logged[GROUPS_MAX];
    size_t logged_count;
    /* Writes that are in the data files, durably, and that the last log header knows of; and
     * the one before it. */
    size_t settled, settled_before;

    /* The table. */
    struct tkv_os real;
    char names[HANDLES_MAX][SIMDISK_NAME_SIZE_MAX + 1];
    char directories[HANDLES_MAX][SIMDISK_NAME_SIZE_MAX + 1]; /* "" for the root */
    bool direct[HANDLES_MAX];
};

/* ---- explorer.c -------------------------------------------------------------------------- */

/* Run it and look at its crashes; what comes out is added to the tally. */
void explore(struct tally *tally, const struct program *program);
struct explorer *explorer_new(struct tally *tally, const struct program *program);
void explorer_free(struct explorer *e);
enum tkv_status run_operation(struct explorer *e, const struct operation *o,
                              struct tkv_error *err);
enum tkv_status open_store(struct explorer *e, struct simdisk *disk,
                           const struct tkv_options *options, struct tkv_store **ret_store,
                           struct tkv_open_report *ret_report, struct tkv_error *err);
/* No more states are wanted. */
bool is_enough(const struct tally *tally);
double now_seconds(void);

/* ---- watch.c ----------------------------------------------------------------------------- */

void watch(struct explorer *e, struct simdisk *disk);

/* ---- derive.c ---------------------------------------------------------------------------- */

struct half_write {
    int fd;
    const uint8_t *data;
    size_t size;
    uint64_t offset;
};

/* The world as it is before a call ... */
void derive_all(struct explorer *e);
/* ... and in the middle of a write. */
void derive_half_writes(struct explorer *e, const struct half_write *w);
void derive_power_cuts(struct explorer *e, const struct simdisk *disk);

/* ---- examine.c --------------------------------------------------------------------------- */

/* Takes the disk. */
void examine(struct explorer *e, struct simdisk *disk, struct derived d);
/* Open, read all, and keep open. False: a violation was reported. */
bool open_and_read(struct explorer *e, struct simdisk *disk,
                   const struct tkv_options *options, const struct derived *d,
                   const char *which, struct tkv_store **ret_store,
                   struct oracle_found *ret_found);

/* ---- nested.c ---------------------------------------------------------------------------- */

/* The same survivor once more, crashed at every call of its recovery. */
void crash_the_recovery(struct explorer *e, const struct simdisk *disk,
                        const struct derived *d, const struct oracle_found *found);

/* ---- failed_sync.c ----------------------------------------------------------------------- */

void explore_failed_syncs(struct tally *tally, const struct program *program);

/* ---- silent.c ---------------------------------------------------------------------------- */

/* Between two operations: remember the durable image, and damage it. */
void silent_note(struct explorer *e);
void silent_forget(struct explorer *e);
void silent_logged(struct explorer *e, const struct half_write *w);
/* A checkpoint or a close has made these durable; an opening says so in both headers. */
void silent_settled(struct explorer *e, size_t writes, bool is_new_life);
void derive_silent(struct explorer *e);

/* ---- violation.c ------------------------------------------------------------------------- */

void report_violation(struct explorer *e, const struct derived *d, const char *what,
                      const char *text);
/* Between the derived disks: the program itself went wrong. */
void report_program(struct explorer *e, const char *what, const char *text);

/* ---- shrink.c ---------------------------------------------------------------------------- */

/* A program that fails in the same way and is as short as could be found; to be freed. */
struct program shrink(const struct settings *settings, const struct program *program,
                      const struct tally *seen);

#endif
