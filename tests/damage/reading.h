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

enum reading_way {
    READING_WHOLE,
    READING_QUICK, /* with get and the iterator only */
    READING_GAPS   /* keys may be unreadable that the store does not know */
};

/* False: two ways of asking disagree, or an error says nothing. */
bool reading_take(struct tkv_store *store, enum reading_way way,
                  struct reading *ret_reading, struct oracle_report *ret_why);

/* Keys that can be read are as after `least` to `most` writes; *ret_prefix: after how many,
 * the most that fit. */
bool reading_matches(const struct oracle *oracle, const struct reading *reading,
                     size_t least, size_t most, uint64_t now_ms, size_t *ret_prefix,
                     struct oracle_report *ret_why);

/* Every value that can be read was written for its key at some time. */
bool reading_is_of_its_keys(const struct oracle *oracle, const struct reading *reading,
                            struct oracle_report *ret_why);

#endif
