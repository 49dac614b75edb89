/* SPDX-License-Identifier: MIT */
/*
 * board.h - what the writers of a power-cut run have reached, in memory that outlives them: a
 * mapped file outside the disk under test.
 *
 *     +----------------------------+ 0
 *     | positions, one page        |  copied by the driver before each cut
 *     +----------------------------+ LAB_POSITIONS_SIZE
 *     | tickets: thread 0, 1, ...  |  two for each step: drawn before and after the call
 *     +----------------------------+
 *
 * Tickets come from one counter. A step whose second ticket is lower than another's first one
 * was acknowledged before that other began, whichever threads they are of.
 */
#ifndef LAB_BOARD_H
#define LAB_BOARD_H

#include "plan.h"

#include <stdatomic.h>

#define LAB_POSITIONS_SIZE 4096u
#define LAB_STEPS_MAX      (1u << 18) /* of a thread in one life */

struct lab_positions {
    _Atomic uint64_t clock;  /* the last ticket */
    _Atomic uint64_t opened; /* 1 after tkv_open() */
    struct {
        _Atomic uint64_t issued, acked;
        _Atomic uint64_t durable; /* what a power cut must leave */
    } threads[LAB_THREADS];
};

struct lab_tickets {
    _Atomic uint64_t issue, ack; /* ack is 0 until the call has returned */
};

struct lab_board {
    union {
        struct lab_positions positions;
        uint8_t page[LAB_POSITIONS_SIZE];
    };
    struct lab_tickets tickets[LAB_THREADS][LAB_STEPS_MAX + 1]; /* by step */
};

#endif
