/* SPDX-License-Identifier: MIT */
/*
 * examine.h - open a damaged store, read it in every way, verify, compact, write, close and
 * open it again; and judge. What is allowed: every key right or an error, never another value,
 * an older one or a deleted key; never more memory than the files explain.
 */
#ifndef EXAMINE_H
#define EXAMINE_H

#include "wound.h"

enum outcome {
    OUTCOME_RIGHT,       /* every key is what it must be */
    OUTCOME_KEY_ERRORS,  /* some keys are errors, the others are right */
    OUTCOME_REFUSED,     /* the store does not open, and says where the damage is */
    OUTCOME_UNSYNCED,    /* a suffix that was not promised to be durable is cut */
    OUTCOME_WINDOW,      /* the newest writes are cut, and nothing is left that tells */
    OUTCOME_ROLLED_BACK, /* the same because an older log was put in the log's place */
    OUTCOME_WRONG,
    OUTCOMES
};

extern const char *const outcome_names[OUTCOMES];

struct verdict {
    enum outcome outcome;
    bool later_refused;     /* it opened once, and not again */
    bool has_gaps;          /* refused, but it opens with its gaps; then ... */
    unsigned certain_keys;  /* ... so many keys have an answer, of all that there are ... */
    unsigned salvaged_keys; /* ... and so many values can be saved */
    char text[512];         /* what is wrong, or how it was refused */
};

/* The most memory that the undamaged sample needs; to be measured before it is examined. */
size_t examine_memory(const struct sample *sample);

void examine(const struct sample *sample, const struct wound *wound, size_t memory_max,
             struct verdict *ret_verdict);

#endif
