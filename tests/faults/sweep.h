/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - every fault of one scenario: the N-th call of every kind fails, with each errno,
 * once and for good, for N = 1, 2, ... until the scenario does not get so far; every request
 * for memory likewise; and reads and writes move less than asked for.
 */
#ifndef FAULTS_SWEEP_H
#define FAULTS_SWEEP_H

#include "scenario.h"

struct sweep {
    const struct scenario *scenario;
    bool is_quick;
    uint64_t seed;
    const char *only_fault, *only_crash; /* as written in a violation; NULL: all */
    /* Told of each run before it begins, in case the engine takes the process down. */
    void (*begin)(const char *crash, const struct fault *fault);

    uint64_t faults, violations; /* results */
};

/* The state that the scenario begins with. */
struct run *sweep_prepare(const struct sweep *sweep);
/* False: the fault was not reached. */
bool sweep_run(struct sweep *sweep, const struct run *base, const struct fault *fault);

/* Faults in the scenario. */
void sweep_faults(struct sweep *sweep);
/* Faults in the recovery from its crashes (compound.c). */
void sweep_compounds(struct sweep *sweep);

#endif
