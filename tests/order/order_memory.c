/* SPDX-License-Identifier: MIT */
/*
 * order_memory.c - memory that no test's failing malloc() reaches: tests replace malloc() when
 * they are linked, so the library's own is asked for by name.
 *
 * When something fails: a test without memory stops.
 */
#include "order_private.h"

#include <dlfcn.h>
#include <stdlib.h>

typedef void *realloc_fn(void *memory, size_t size);
typedef void free_fn(void *memory);

static realloc_fn *real_realloc;
static free_fn *real_free;
static pthread_once_t found = PTHREAD_ONCE_INIT;

static void find(void)
{
    /* As POSIX has it: a function pointer through a pointer to an object pointer. */
    *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real_free = dlsym(RTLD_NEXT, "free");
    if (real_realloc == NULL || real_free == NULL)
        abort();
}

static void *resize(void *memory, size_t size)
{
    (void)pthread_once(&found, find);
    memory = real_realloc(memory, size);
    if (memory == NULL)
        abort();
    return memory;
}

void *order_grow(void *memory, size_t *capacity, size_t count, size_t item_size)
{
    if (count <= *capacity)
        return memory;
    *capacity = count < 8 ? 8 : count + count / 2;
    return resize(memory, *capacity * item_size);
}

void *order_zeroed(size_t size)
{
    return memset(resize(NULL, size), 0, size);
}

void order_release(void *memory)
{
    if (memory != NULL)
        real_free(memory);
}
