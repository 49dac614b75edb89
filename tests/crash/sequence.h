/* SPDX-License-Identifier: MIT */
/*
 * sequence.h - all short sequences of operations: 11 operations, up to 4 of them.
 */
#ifndef CRASH_SEQUENCE_H
#define CRASH_SEQUENCE_H

#include "program.h"

#define SEQUENCE_OPERATIONS 11u
#define SEQUENCE_COUNT      (11u + 11 * 11 + 11 * 11 * 11 + 11 * 11 * 11 * 11)

/* Sequence number `number`: single operations first, then the others in an order that follows
 * from the seed, so that the first ones are a sample. Only the last
 * operation is looked at; the others were, in the shorter sequences. */
struct program sequence_program(const struct workload *workload, uint64_t seed,
                                unsigned number);

#endif
