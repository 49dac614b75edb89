/* SPDX-License-Identifier: MIT */
/* example.h - what the examples share: a directory to work in, and a way to give up. */
#ifndef TINYKV_EXAMPLE_H
#define TINYKV_EXAMPLE_H

#include "tinykv.h"

/* argv[1], or a new directory below TMPDIR or /tmp that is removed when the program exits. */
const char *example_directory(int argc, char **argv);

/* Print the message and exit with 1, unless `status` is TKV_OK. */
void example_check(enum tkv_status status, const struct tkv_error *err);

/* Print what was expected and exit with 1, unless it is true. */
void example_expect(bool is_true, const char *what);

#endif
