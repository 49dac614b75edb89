/* SPDX-License-Identifier: MIT */
/*
 * scarce_memory.h - for programs that are linked with -Wl,--wrap=aligned_alloc,--wrap=calloc:
 * memory for the log can be gone, and is not zero when it is new.
 */
#ifndef TKV_SCARCE_MEMORY_H
#define TKV_SCARCE_MEMORY_H

#include "bytes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool memory_is_gone;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *bytes = memory_is_gone ? NULL : __real_aligned_alloc(alignment, size);

    return bytes == NULL ? NULL : memset(bytes, 0xa5, size);
}

/* The disk's own memory is small. */
void *__wrap_calloc(size_t count, size_t size)
{
    return memory_is_gone && size >= TKV_BLOCK_SIZE ? NULL : __real_calloc(count, size);
}

#endif
