/* SPDX-License-Identifier: MIT */
/* aftermath.h - what must be true after a run, whatever the fault did: of the store that is
 * still open, of what a killed process and a power cut would leave, and of the directory that
 * is opened again. */
#ifndef FAULTS_AFTERMATH_H
#define FAULTS_AFTERMATH_H

#include "run.h"

/* Closes the store, disarms, opens again, and reports violations. */
void aftermath_check(struct run *run);
/* No descriptor or mapping is left, and no more memory than before. */
void aftermath_check_leaks(struct run *run, const struct simdisk *disk, size_t held_before,
                           const char *when);
/* Open what is on `disk`, without faults: does it match at least the first `least` writes?
 * `ret_found` says what it found, as far as it got. */
bool aftermath_examine(struct run *run, struct simdisk *disk, size_t least,
                       const char *which, struct oracle_found *ret_found);

#endif
