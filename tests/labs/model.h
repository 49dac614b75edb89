/* SPDX-License-Identifier: MIT */
/*
 * model.h - which states a store may have after a power cut.
 *
 *     base state of this life                        issued
 *     +-----------------------+------------------------+
 *     | durable: must be there | may be there, in order |      for each thread
 *     +-----------------------+------------------------+
 *
 * The keys of each thread must hold what they hold after some number of its steps. Steps that
 * change nothing leave several numbers possible: a range. Between threads: what was
 * acknowledged before a surviving step began must have survived too, or there is a hole.
 */
#ifndef LAB_MODEL_H
#define LAB_MODEL_H

#include "board.h"

struct lab_state {
    struct lab_stamp keys[LAB_THREADS][LAB_KEYS]; /* life 0: absent */
};

/* The numbers of steps, lowest and highest, after which a thread's keys are as found. */
struct lab_range {
    uint64_t least, most;
};

struct lab_report {
    char text[400];
};

/* False: the keys of `thread` are as after no number of steps up to `issued`. */
bool lab_model_match(uint64_t seed, uint32_t life, unsigned thread,
                     const struct lab_state *base, const struct lab_state *found,
                     uint64_t issued, struct lab_range *ret_range,
                     struct lab_report *ret_why);

/* How many steps that had to survive did not. */
uint64_t lab_model_lost(const struct lab_range *range, uint64_t durable);

/* Did a step survive that began after one that did not survive was acknowledged? */
bool lab_model_has_hole(const struct lab_tickets tickets[][LAB_STEPS_MAX + 1],
                        const struct lab_range ranges[LAB_THREADS],
                        const uint64_t issued[LAB_THREADS], struct lab_report *ret_why);

/* "thread 1 key 2 holds life 3 step 4" */
bool lab_state_equal(const struct lab_state *left, const struct lab_state *right,
                     struct lab_report *ret_why);

#endif
