/* SPDX-License-Identifier: MIT */
#include "allocation.h"

#include "opening_memory.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

static ptrdiff_t in_use, peak;

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);

static void *took(void *memory, size_t size)
{
    if (memory != NULL)
        in_use += (ptrdiff_t)size;
    if (in_use > peak)
        peak = in_use;
    return memory;
}

static void gave(size_t size)
{
    in_use -= (ptrdiff_t)size;
}

void *__wrap_malloc(size_t size)
{
    void *memory = __real_malloc(size);

    return took(memory, malloc_usable_size(memory));
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *memory = opening_take_table(count, size);

    if (memory != NULL)
        return memory; /* address space, hardly touched */
    memory = __real_calloc(count, size);
    return took(memory, malloc_usable_size(memory));
}

void *__wrap_realloc(void *memory, size_t size)
{
    const size_t before = malloc_usable_size(memory);
    void *moved = __real_realloc(memory, size);

    if (moved == NULL)
        return NULL;
    gave(before);
    return took(moved, malloc_usable_size(moved));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *memory = __real_aligned_alloc(alignment, size);

    return took(memory, malloc_usable_size(memory));
}

void __wrap_free(void *memory)
{
    if (opening_give_table(memory))
        return;
    gave(malloc_usable_size(memory));
    __real_free(memory);
}

/* The simulated disk reserves address space, without memory. */
static int is_address_space(int flags)
{
    return (flags & MAP_NORESERVE) != 0;
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *memory = fd == -1 ? opening_take_pages(size) : NULL;

    if (memory == NULL)
        memory = __real_mmap(at, size, protection, flags, fd, offset);
    if (memory == MAP_FAILED || is_address_space(flags))
        return memory;
    return took(memory, size);
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

#define ADDRESS_SPACE ((size_t)64 << 20)

int __wrap_munmap(void *at, size_t size)
{
    if (size < ADDRESS_SPACE)
        gave(size);
    return opening_give_pages(at) ? 0 : __real_munmap(at, size);
}

void allocation_begin(void)
{
    in_use = peak = 0;
}

size_t allocation_peak(void)
{
    return (size_t)peak;
}
