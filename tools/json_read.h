/* SPDX-License-Identifier: MIT */
/*
 * json_read.h - one flat JSON object: {"name": "text", "other": 17}. Strict (RFC 8259): the
 * text must be valid UTF-8, surrogates paired, control characters escaped, and nothing may
 * follow the object. Members that are neither strings nor numbers are refused.
 *
 * Strings are decoded in place, where they always fit: no escape is shorter than what it
 * stands for. So the slices borrow the caller's bytes, and nothing is allocated.
 */
#ifndef TINYKV_JSON_READ_H
#define TINYKV_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

#include "tinykv.h"

struct json_reader {
    char *begin, *at, *end;
    const char *wrong; /* what, after JSON_WRONG; a static text */
};

struct json_member {
    struct tkv_slice name;
    bool is_number;
    struct tkv_slice text; /* of a string, decoded; of a number, as it stands */
};

enum json_step { JSON_MEMBER, JSON_END, JSON_WRONG };

void json_begin(struct json_reader *reader, char *bytes, size_t size);
enum json_step json_next(struct json_reader *reader, struct json_member *ret_member);

/* Where the reader stands: the byte's number in the line, from 1. */
static inline size_t json_column(const struct json_reader *reader)
{
    return (size_t)(reader->at - reader->begin) + 1;
}

#endif
