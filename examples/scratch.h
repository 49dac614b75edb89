/* SPDX-License-Identifier: MIT */
/* scratch.h - a temporary directory, and its end. */
#ifndef TINYKV_SCRATCH_H
#define TINYKV_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/* Make a directory below TMPDIR or /tmp; false when that fails, and errno says why. */
bool scratch_make(char *ret_path, size_t size);

/* Remove the directory and everything in it, as far as possible. */
void scratch_remove(const char *path);

#endif
