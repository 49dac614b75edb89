/* SPDX-License-Identifier: MIT */
/*
 * reading.h - everything that a damaged store answers: each key has a value, is absent, or is
 * an error that is the same in every way of asking. oracle.h reads stores that are whole.
 */
#ifndef READING_H
#define READING_H

#include "oracle.h"

struct reading {
    struct oracle_found found;
    bool unreadable[ORACLE_KEYS];
    size_t unreadable_count;
    struct tkv_error error; /* the first key's; meaningful when there is one */
};

/* False: two ways of asking disagree, or an error says nothing. `is_quick`: in one way only. */
bool reading_take(struct tkv_store *store, bool is_quick, struct reading *ret_reading,
                  struct oracle_report *ret_why);

/* Keys that can be read are as after `least` to `most` writes; *ret_prefix: after how many,
 * the most that fit. */
bool reading_matches(const struct oracle *oracle, const struct reading *reading,
                     size_t least, size_t most, uint64_t now_ms, size_t *ret_prefix,
                     struct oracle_report *ret_why);

#endif
