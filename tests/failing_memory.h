/* SPDX-License-Identifier: MIT */
/*
 * failing_memory.h - for programs that are linked with -Wl,--wrap=malloc,--wrap=calloc,
 * --wrap=realloc,--wrap=aligned_alloc,--wrap=mmap,--wrap=mmap64: any of these calls can fail.
 */
#ifndef TKV_FAILING_MEMORY_H
#define TKV_FAILING_MEMORY_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

static atomic_uint_least64_t calls, fail_at; /* 0: never; UINT64_MAX: from now on */
static atomic_bool fail_once;                /* or from then on */

static inline bool fails_now(void)
{
    const uint64_t call = ++calls, at = fail_at;

    return at == UINT64_MAX || (at != 0 && (fail_once ? call == at : call >= at));
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *from, size_t size);
void *__wrap_realloc(void *from, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *from, size_t size)
{
    return fails_now() ? NULL : __real_realloc(from, size);
}

static size_t largest_aligned; /* that was asked for */

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (size > largest_aligned)
        largest_aligned = size;
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!fails_now())
        return __real_mmap(at, size, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* What glibc makes of it with offsets of 64 bits. */
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

#endif
