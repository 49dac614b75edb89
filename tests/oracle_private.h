/* SPDX-License-Identifier: MIT */
/*
 * oracle_private.h - what the files of the oracle share.
 */
#ifndef TKV_ORACLE_PRIVATE_H
#define TKV_ORACLE_PRIVATE_H

#include "oracle.h"

/* Which item each key has: its number plus one, 0 for none. */
struct oracle_state {
    size_t items[ORACLE_KEYS];
};

void oracle_apply(const struct oracle *oracle, size_t op, struct oracle_state *state);
/* Is this key as these writes leave it? */
bool oracle_key_is(const struct oracle *oracle, const struct oracle_state *state,
                   const struct oracle_found *found, unsigned key, uint64_t now_ms);
/* ORACLE_KEYS for a key that no test writes. */
unsigned oracle_key_number(struct tkv_slice key);
uint64_t oracle_hash(const void *bytes, size_t size);
/* Fill in the report; always false. */
__attribute__((format(printf, 2, 3))) bool oracle_refuse(struct oracle_report *why,
                                                         const char *format, ...);

#endif
