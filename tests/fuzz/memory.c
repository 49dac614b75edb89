/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include "fuzz.h"

#include <malloc.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *block);

/* ---- The account ----------------------------------------------------------------- */

static size_t held, held_most, held_at_begin;
static uint64_t fail_countdown; /* 0: requests succeed */

static void note_taken(size_t size)
{
    held += size;
    if (held > held_most)
        held_most = held;
}

void memory_begin(void)
{
    held_at_begin = held_most = held;
}

void memory_check(size_t limit)
{
    char detail[96];

    if (held_most - held_at_begin <= limit)
        return;
    snprintf(detail, sizeof detail, "%zu bytes, the limit is %zu",
             held_most - held_at_begin, limit);
    FUZZ_CHECK_SAYING(held_most - held_at_begin <= limit, detail);
}

void memory_end(size_t limit)
{
    char detail[96];

    memory_check(limit);
    if (held == held_at_begin)
        return;
    snprintf(detail, sizeof detail, "%zu bytes then, %zu now", held_at_begin, held);
    FUZZ_CHECK_SAYING(held == held_at_begin && "nothing leaks", detail);
}

void memory_fail_at(uint64_t nth)
{
    fail_countdown = nth;
}

static bool must_fail(void)
{
    if (fail_countdown == 0)
        return false;
    if (fail_countdown == 1)
        return true;
    fail_countdown--;
    return false;
}

/* ---- Large blocks ---------------------------------------------------------------- */

#define LARGE_MIN   ((size_t)16 * 1024)
#define POOL_SIZE   ((size_t)512 << 20) /* of addresses, not of memory */
#define UNIT        ((size_t)8 * 1024)
#define FENCE       ((size_t)4096) /* forbidden bytes behind each block, at least */
#define CLASS_COUNT 28u            /* class c has blocks of 2^c bytes */
#define KEEP_ZERO   21u            /* classes from here on are given back to the system */
#define FREE_FORBID ((size_t)64 * 1024) /* of a free block, at most so much is forbidden */

struct large {
    size_t size;        /* as asked for; 0: free */
    size_t size_before; /* when it was last in use: what lies behind is forbidden */
    unsigned class_number;
    uint32_t next_free; /* unit, plus one */
};

static uint8_t *pool;
static size_t pool_used;
static struct large larges[POOL_SIZE / UNIT];
static uint32_t free_lists[CLASS_COUNT];

static struct large *large_of(const void *block)
{
    const uintptr_t at = (uintptr_t)block, begin = (uintptr_t)pool;

    if (pool == NULL || at < begin || at >= begin + POOL_SIZE)
        return NULL;
    return &larges[(at - begin) / UNIT];
}

static unsigned class_for(size_t size)
{
    unsigned class_number = 15;

    while (((size_t)1 << class_number) < size + FENCE)
        class_number++;
    return class_number;
}

static uint8_t *carve(unsigned class_number)
{
    const size_t size = (size_t)1 << class_number;
    uint8_t *block;

    if (pool == NULL) {
        void *map = mmap(NULL, POOL_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        FUZZ_CHECK(map != MAP_FAILED);
        pool = map;
    }
    FUZZ_CHECK(pool_used + size <= POOL_SIZE && "the pool of large blocks suffices");
    block = pool + pool_used;
    pool_used += size;
    large_of(block)->class_number = class_number;
    FUZZ_FORBID(block, size);
    return block;
}

static void *take_large(size_t size)
{
    const unsigned class_number = class_for(size);
    const uint32_t first = free_lists[class_number];
    uint8_t *block;

    if (first != 0) {
        block = pool + (size_t)(first - 1) * UNIT;
        free_lists[class_number] = large_of(block)->next_free;
    } else {
        block = carve(class_number);
    }
    if (large_of(block)->size_before != size) {
        FUZZ_FORBID(block, (size_t)1 << class_number);
        FUZZ_ALLOW(block, size);
    }
    FUZZ_ALLOW(block, size < FREE_FORBID ? size : FREE_FORBID);
    large_of(block)->size = large_of(block)->size_before = size;
    note_taken(size);
    return block;
}

static void give_large(void *block, struct large *large)
{
    FUZZ_CHECK(large->size != 0 && "nothing is freed twice");
    held -= large->size;
    if (large->class_number >= KEEP_ZERO)
        FUZZ_CHECK(madvise(block, (size_t)1 << large->class_number, MADV_DONTNEED) == 0);
    FUZZ_FORBID(block, large->size < FREE_FORBID ? large->size : FREE_FORBID);
    large->size = 0;
    large->next_free = free_lists[large->class_number];
    free_lists[large->class_number] =
        (uint32_t)((size_t)((uint8_t *)block - pool) / UNIT) + 1;
}

static bool is_large(size_t size)
{
    return size >= LARGE_MIN && size < ((size_t)1 << (CLASS_COUNT - 1)) - FENCE;
}

/* ---- In the place of the C library's ----------------------------------------------- */

static void *noted(void *block)
{
    if (block != NULL)
        note_taken(malloc_usable_size(block));
    return block;
}

void *__wrap_malloc(size_t size)
{
    if (must_fail())
        return NULL;
    return is_large(size) ? take_large(size) : noted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t total;
    void *block;

    if (must_fail() || __builtin_mul_overflow(count, size, &total))
        return NULL;
    if (!is_large(total))
        return noted(__real_calloc(count, size));
    block = take_large(total);
    if (large_of(block)->class_number < KEEP_ZERO)
        memset(block, 0, total);
    return block;
}

/* Large blocks begin at multiples of a page. */
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (must_fail())
        return NULL;
    if (is_large(size) && alignment <= FENCE)
        return take_large(size);
    return noted(__real_aligned_alloc(alignment, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    struct large *large = large_of(old);
    const size_t old_size =
        large != NULL ? large->size : (old == NULL ? 0 : malloc_usable_size(old));
    void *block = __wrap_malloc(size);

    if (block == NULL)
        return NULL;
    if (old_size > 0)
        memcpy(block, old, old_size < size ? old_size : size);
    __wrap_free(old);
    return block;
}

void __wrap_free(void *block)
{
    struct large *large = large_of(block);

    if (block == NULL)
        return;
    if (large != NULL) {
        give_large(block, large);
        return;
    }
    held -= malloc_usable_size(block);
    __real_free(block);
}
