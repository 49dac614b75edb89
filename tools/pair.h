/* SPDX-License-Identifier: MIT */
/*
 * pair.h - a key and its value as a line of text. A line that begins with '{' is JSON:
 *
 *     {"k":"text","v":"text"}      either may be "k64" or "v64" with base64 instead, and
 *                                  "ttl_ms":N says that it expires in N milliseconds
 *
 * any other line is the key, a tab and the value, with the escapes of tsv.h.
 */
#ifndef TINYKV_PAIR_H
#define TINYKV_PAIR_H

#include <stdint.h>
#include <stdio.h>

#include "clock.h"
#include "tinykv.h"

struct pair {
    struct tkv_slice key, value;
    uint64_t ttl_ms; /* 0: does not expire */
};

enum { PAIR_WRONG_SIZE = 160 };

/* Parse a line, which is changed: the pair borrows it. False when it is not a pair;
 * `ret_wrong` (PAIR_WRONG_SIZE bytes) then says why. */
bool pair_parse(char *line, size_t size, struct pair *ret_pair, char *ret_wrong);

void pair_write_json(FILE *out, const struct pair *pair);
void pair_write_tsv(FILE *out, const struct pair *pair);

/* A whole number from 1 to TTL_MS_MAX in decimal digits. */
bool pair_parse_ttl(struct tkv_slice text, uint64_t *ret_ttl_ms);

#endif
