/* SPDX-License-Identifier: MIT */
/*
 * seen.h - a set of hashes: the crash states that were looked at.
 */
#ifndef CRASH_SEEN_H
#define CRASH_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {
    uint64_t *slots; /* open addressing; 0 is empty */
    size_t count, capacity;
};

/* Enter it; true when it was there. */
bool seen_before(struct seen *seen, uint64_t hash);
void seen_free(struct seen *seen);

/* All hashes to and from a file, so that processes can be counted together. Adding counts a
 * hash that is there already once. */
bool seen_write(const struct seen *seen, int fd);
bool seen_add(struct seen *seen, int fd);

#endif
