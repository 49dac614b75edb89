/* SPDX-License-Identifier: MIT */
/*
 * sequence.h - all short sequences of operations: 11 operations, up to 4 of them.
 */
#ifndef CRASH_SEQUENCE_H
#define CRASH_SEQUENCE_H

#include "program.h"

#define SEQUENCE_OPERATIONS 11u
#define SEQUENCE_SHORT      (11u + 11 * 11)                       /* of one or two */
#define SEQUENCE_COUNT      (SEQUENCE_SHORT + 11u * 11 * 11 * 12) /* of up to four */

/* Sequence number `number`: the short ones first, in order, then the others in an order that
 * follows from the seed, so that the first ones are a sample. Only the last operation is
 * looked at; the others were, in the shorter sequences. */
struct program sequence_program(const struct workload *workload, uint64_t seed,
                                unsigned number);

#endif
