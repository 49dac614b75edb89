/* SPDX-License-Identifier: MIT */
/*
 * run.h - one run of one scenario with one fault. The scenario calls the functions below
 * instead of the store's own: each does the same, keeps the oracle, and judges what the store
 * answers:
 *
 *   - nothing fails before the fault has struck;
 *   - what fails then fails in a way that this fault explains, with a message that names the
 *     thing: an error of the disk is never called damage, and lack of memory never poisons;
 *   - what is read is right, or an error.
 */
#ifndef FAULTS_RUN_H
#define FAULTS_RUN_H

#include "fault.h"
#include "oracle.h"
#include "simdisk.h"
#include "tinykv.h"

#define RUN_WRITES_MAX 1024u

struct scenario;

struct run {
    const struct scenario *scenario;
    struct fault fault;
    const char *crash; /* what came before, as --crash names it; or NULL */
    struct simdisk *disk;
    struct oracle *oracle;
    struct tkv_options options;
    struct tkv_store *store; /* NULL: not open */

    bool armed;
    bool crashes; /* the disk will stop: nothing is judged until it is looked at again */
    bool disk_is_full;            /* the scenario has filled it ... */
    bool disk_was_full;           /* ... and what ends that may be what fails */
    bool unknown[RUN_WRITES_MAX]; /* writes that failed and may be there all the same */
    unsigned violations;
};

/* Both from memory that the faults do not reach. */
struct run *run_new(const struct scenario *scenario, struct simdisk *disk,
                    struct oracle *oracle, const struct tkv_options *options);
/* Another one from the same state, with a disk and an oracle of its own. */
struct run *run_copy(const struct run *base, const struct fault *fault);
/* Frees disk and oracle, too. NULL is allowed. */
void run_free(struct run *run);

/* From here on calls are counted, and the fault strikes. Where an operation begins that the
 * scenario is about. */
void run_arm(struct run *run);
/* The fault is over. */
void run_disarm(struct run *run);
/* Calls of the harness itself are not counted meanwhile. */
void run_pause(struct run *run, bool paused);
bool run_is_hit(const struct run *run);

__attribute__((format(printf, 2, 3))) void run_violation(struct run *run,
                                                         const char *format, ...);
/* Was it to be `expected`, or is it a failure that the fault explains? */
void run_judge(struct run *run, const char *what, enum tkv_status status,
               enum tkv_status expected, const struct tkv_error *err);

/* ---- Operations -------------------------------------------------------------------- */

bool run_open(struct run *run);
void run_close(struct run *run);
void run_put(struct run *run, unsigned key, uint32_t size);
void run_put_squeezable(struct run *run, unsigned key, uint32_t size);
void run_put_expiring(struct run *run, unsigned key, uint32_t size, uint64_t expires_at_ms);
void run_delete(struct run *run, unsigned key);
void run_batch(struct run *run, const struct oracle_item *items, size_t count);
void run_sync(struct run *run);
void run_checkpoint(struct run *run);
void run_compact(struct run *run);

/* ---- Reads (run_read.c) ------------------------------------------------------------ */

/* What the live store must say: NULL for absent. */
const struct oracle_item *run_expects(const struct run *run, unsigned key);
void run_get(struct run *run, unsigned key);
void run_get_pinned(struct run *run, unsigned key);
void run_multi_get(struct run *run);
void run_iterate(struct run *run, bool keys_only);
void run_verify(struct run *run);
void run_stats(struct run *run);
/* Every key, once. */
void run_get_all(struct run *run);

/* ---- Comparing (run_match.c) --------------------------------------------------------- */

/* Is this the state after `least` or more of the writes, with those of unknown outcome in or
 * out, each whole? `settle`: note which it was, for good. */
bool run_match(struct run *run, const struct oracle_found *found, size_t least, bool settle,
               struct oracle_report *why);

#endif
