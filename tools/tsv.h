/* SPDX-License-Identifier: MIT */
/*
 * tsv.h - bytes in tab-separated text. Escapes: \t, \n, \\ and \xHH. What is written is
 * valid UTF-8 without control characters, and a line never begins with '{', which would make
 * it JSON; what is read may hold any other bytes as they are.
 */
#ifndef TINYKV_TSV_H
#define TINYKV_TSV_H

#include <stdbool.h>
#include <stdio.h>

#include "tinykv.h"

void tsv_write(FILE *out, struct tkv_slice bytes);

/* Like tsv_write(), for the first field of a line. */
void tsv_write_first(FILE *out, struct tkv_slice bytes);

/* Decode `size` bytes of `text` in place; false at a backslash that begins no escape. */
bool tsv_decode(char *text, size_t size, size_t *ret_size);

#endif
