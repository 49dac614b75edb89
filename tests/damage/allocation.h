/* SPDX-License-Identifier: MIT */
/*
 * allocation.h - how much memory is in use, and was at most. The linker wraps malloc, calloc,
 * realloc, aligned_alloc, free, mmap and munmap of whatever is linked into the program.
 */
#ifndef ALLOCATION_H
#define ALLOCATION_H

#include <stddef.h>

/* Begin to count: in use now is zero. */
void allocation_begin(void);
/* The most that was in use at once since then. */
size_t allocation_peak(void);

#endif
