/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - examine many wounds in several processes. A process that dies in the engine is
 * counted, reported and replaced.
 */
#ifndef SWEEP_H
#define SWEEP_H

#include "examine.h"

#define SWEEP_SAMPLES_MAX 8u

struct sweep_options {
    uint64_t seed;
    uint64_t bits;    /* how many to flip in all, seeded; 0: every one */
    const char *only; /* SAMPLE, KIND, SAMPLE:KIND or SAMPLE:KIND:NUMBER; or NULL */
    unsigned processes;
    bool verbose; /* a line for every wound */
};

struct sweep_totals {
    uint64_t damages, bits, wrong, crashes, later_refused;
    uint64_t with_gaps, certain_keys, salvaged_keys;
    uint64_t outcomes[SWEEP_SAMPLES_MAX][WOUND_KINDS][OUTCOMES];
};

/* Each sample's files may be replaced by those of the next one. */
void sweep_run(struct sample *const *samples, size_t count,
               const struct sweep_options *options, struct sweep_totals *ret_totals);

#endif
