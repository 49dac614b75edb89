/* SPDX-License-Identifier: MIT */
/*
 * memory.c - what an opening asks of the system's memory, kept for the next opening: most of
 * the time of a small recovery would else go into fresh pages. The linker puts these functions
 * in place of calloc, free, mmap and munmap (see meson.build); with
 * offsets of 64 bits, mmap() is called mmap64().
 *
 *   - A chunk of the index's arena, mapped twice as large and cut to be aligned. The arena promises
 *     nothing about what is in it, so it comes back as it was left.
 *   - The page that a forked child sees as zeros.
 *   - The file table, 8 MiB of which the first 64 KiB may be touched here: 8,192 files. It
 *     comes back as zeros.
 */
#include "store.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_SIZE    ((size_t)128 << 10) /* and twice, and four times so much */
#define CHUNK_COUNT   256u
#define PAGE_SIZE     ((size_t)4096)
#define TABLE_ENTRIES TKV_SLOT_COUNT
#define TABLE_SIZE    (TABLE_ENTRIES * sizeof(void *))
#define TABLE_USED    ((size_t)64 << 10)
#define TABLE_COUNT   16u

void *__real_calloc(size_t count, size_t size);
void __real_free(void *memory);
void *__real_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *memory);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *memory, size_t size);

/* Blocks of one size, one behind the other. */
struct pool {
    uint8_t *base;
    size_t block_size, count;
    bool used[CHUNK_COUNT];
};

static struct pool mapped[] = {
    {.block_size = PAGE_SIZE,      .count = CHUNK_COUNT},
    {.block_size = CHUNK_SIZE,     .count = CHUNK_COUNT},
    {.block_size = 2 * CHUNK_SIZE, .count = CHUNK_COUNT},
    {.block_size = 4 * CHUNK_SIZE, .count = CHUNK_COUNT},
};
static struct pool tables = {.block_size = TABLE_SIZE, .count = TABLE_COUNT};

#define MAPPED (sizeof mapped / sizeof mapped[0])

/* Aligned to the size of a block; memory is taken as it is touched. */
static bool reserve(struct pool *pool)
{
    const size_t size = pool->block_size * (pool->count + 1);
    uint8_t *base;

    if (pool->base != NULL)
        return true;
    base = __real_mmap64(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return false;
    pool->base = base + (-(uintptr_t)base & (pool->block_size - 1));
    return true;
}

static void *take(struct pool *pool)
{
    if (!reserve(pool))
        return NULL;
    for (size_t i = 0; i < pool->count; i++) {
        if (!pool->used[i]) {
            pool->used[i] = true;
            return pool->base + i * pool->block_size;
        }
    }
    return NULL;
}

static bool is_of(const struct pool *pool, const void *memory)
{
    const uintptr_t at = (uintptr_t)memory, base = (uintptr_t)pool->base;

    return pool->base != NULL && at >= base && at < base + pool->count * pool->block_size;
}

/* False: a piece from the middle of a block, which goes with the block. */
static bool give(struct pool *pool, const void *memory)
{
    const size_t at = (uintptr_t)memory - (uintptr_t)pool->base;

    if (at % pool->block_size != 0)
        return false;
    pool->used[at / pool->block_size] = false;
    return true;
}

void *__wrap_calloc(size_t count, size_t size)
{
    uint8_t *table =
        count == TABLE_ENTRIES && size == sizeof(void *) ? take(&tables) : NULL;

    if (table == NULL)
        return __real_calloc(count, size);
    if (mprotect(table + TABLE_USED, TABLE_SIZE - TABLE_USED, PROT_NONE) != 0)
        abort();
    return table;
}

void __wrap_free(void *memory)
{
    if (!is_of(&tables, memory)) {
        __real_free(memory);
        return;
    }
    memset(memory, 0, TABLE_USED);
    (void)give(&tables, memory);
}

void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *block = NULL;

    for (size_t i = 0; i < MAPPED && fd == -1 && block == NULL; i++) {
        if (mapped[i].block_size == size)
            block = take(&mapped[i]);
    }
    if (block == NULL)
        return __real_mmap64(at, size, protection, flags, fd, offset);
    if (size == PAGE_SIZE)
        memset(block, 0, PAGE_SIZE);
    return block;
}

int __wrap_munmap(void *memory, size_t size)
{
    for (size_t i = 0; i < MAPPED; i++) {
        if (is_of(&mapped[i], memory)) {
            (void)give(&mapped[i], memory);
            return 0;
        }
    }
    return __real_munmap(memory, size);
}
