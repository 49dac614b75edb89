/* SPDX-License-Identifier: MIT */
/*
 * keys.h - all keys of a store, sorted by their bytes. A store has no order of its own; the
 * keys alone are held in memory, and values are read one by one.
 */
#ifndef TINYKV_KEYS_H
#define TINYKV_KEYS_H

#include "tinykv.h"

struct keys {
    char *bytes; /* of all keys, one after another */
    size_t bytes_size, bytes_capacity;
    size_t *ends; /* key i is bytes[ends[i-1] .. ends[i]) until they are sorted */
    struct tkv_slice *sorted;
    size_t count, capacity;
};

/* `keys` must be released also after a failure. */
enum tkv_status keys_collect(struct tkv_store *store, struct keys *ret_keys,
                             struct tkv_error *err);
void keys_release(struct keys *keys);

#endif
