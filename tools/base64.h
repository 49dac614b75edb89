/* SPDX-License-Identifier: MIT */
/*
 * base64.h - RFC 4648, the standard alphabet, with padding. Decoding is strict: no white
 * space, the padding complete and the bits under it zero, so that every byte string has
 * exactly one form.
 */
#ifndef TINYKV_BASE64_H
#define TINYKV_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

void base64_write(FILE *out, const void *bytes, size_t size);

/* Decode `size` characters of `text` in place; false when they are not base64. */
bool base64_decode(char *text, size_t size, size_t *ret_size);

#endif
