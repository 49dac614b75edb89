/* SPDX-License-Identifier: MIT */
/*
 * opening_memory.c - most of the time of a small recovery would go into fresh pages. What is kept:
 *
 *   - A chunk of the index's arena, mapped twice as large and cut to be aligned. The arena promises
 *     nothing about what is in it, so it comes back as it was left.
 *   - The page that a forked child sees as zeros.
 *   - The file table, 8 MiB of which the first 64 KiB may be touched here: 8,192 files. It
 *     comes back as zeros.
 */
#include "opening_memory.h"

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
    base = mmap(NULL, size, PROT_READ | PROT_WRITE,
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

void *opening_take_table(size_t count, size_t size)
{
    uint8_t *table =
        count == TABLE_ENTRIES && size == sizeof(void *) ? take(&tables) : NULL;

    if (table == NULL)
        return NULL;
    if (mprotect(table + TABLE_USED, TABLE_SIZE - TABLE_USED, PROT_NONE) != 0)
        abort();
    return table;
}

bool opening_give_table(void *memory)
{
    if (!is_of(&tables, memory))
        return false;
    memset(memory, 0, TABLE_USED);
    (void)give(&tables, memory);
    return true;
}

void *opening_take_pages(size_t size)
{
    void *block = NULL;

    for (size_t i = 0; i < MAPPED && block == NULL; i++) {
        if (mapped[i].block_size == size)
            block = take(&mapped[i]);
    }
    if (block != NULL && size == PAGE_SIZE)
        memset(block, 0, PAGE_SIZE);
    return block;
}

bool opening_give_pages(void *memory)
{
    for (size_t i = 0; i < MAPPED; i++) {
        if (is_of(&mapped[i], memory)) {
            (void)give(&mapped[i], memory);
            return true;
        }
    }
    return false;
}
