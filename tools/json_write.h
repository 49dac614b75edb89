/* SPDX-License-Identifier: MIT */
/* json_write.h - JSON on a stream: strings, and members whose bytes may be any. */
#ifndef TINYKV_JSON_WRITE_H
#define TINYKV_JSON_WRITE_H

#include <stdio.h>

#include "tinykv.h"

/* A string with its quotes. `text` must be valid UTF-8. */
void json_write_string(FILE *out, struct tkv_slice text);

/* "name":"text" when the bytes are valid UTF-8, else "name64":"base64". */
void json_write_bytes(FILE *out, const char *name, struct tkv_slice bytes);

/* Like json_write_string(), but invalid UTF-8 is replaced by U+FFFD: for messages only. */
void json_write_message(FILE *out, const char *text);

#endif
