/* SPDX-License-Identifier: MIT */
/*
 * oracle_damaged.h - the oracle of a store whose durable bytes were damaged: every key must be
 * right, or an error.
 */
#ifndef TKV_ORACLE_DAMAGED_H
#define TKV_ORACLE_DAMAGED_H

#include "oracle.h"

struct oracle_damaged {
    struct oracle_found found;
    bool failed[ORACLE_KEYS]; /* reading it is an error */
};

/* False: two ways to read say different things, or a read fails as it must not. */
bool oracle_read_damaged(struct tkv_store *store, struct oracle_damaged *ret_found,
                         struct oracle_report *ret_why);
/* Are all keys that can be read those after some `least` to `most` writes? */
bool oracle_match_damaged(const struct oracle *oracle, const struct oracle_damaged *found,
                          size_t least, size_t most, uint64_t now_ms,
                          struct oracle_report *ret_why);

/* Equal for equal writes, up to `prefix`. */
uint64_t oracle_history(const struct oracle *oracle, size_t prefix);
uint64_t oracle_found_hash(const struct oracle_found *found);

#endif
