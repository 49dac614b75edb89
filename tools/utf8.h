/* SPDX-License-Identifier: MIT */
/* utf8.h - what is valid UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef TINYKV_UTF8_H
#define TINYKV_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that `bytes` begins with, 1 to 4; 0 when they are not valid. */
size_t utf8_sequence(const uint8_t *bytes, size_t size);

bool utf8_valid(const void *bytes, size_t size);

/* Write one code point, which is not a surrogate; returns its size, 1 to 4. */
size_t utf8_encode(uint32_t code_point, uint8_t *ret_bytes);

#endif
