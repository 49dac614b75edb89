/* SPDX-License-Identifier: MIT */
/*
 * chunks.c - a chunk is a mapping, described outside of it so that its pages keep their
 * alignment, with a bit for each page that is free.
 */
#include "chunks.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

/* More is wanted below so many free pages, some 16,000 objects of 80 bytes or 8 ms of puts, and
 * once a chunk is a small share of the whole. */
#define AHEAD_PAGES     20u
#define AHEAD_BYTES_MIN (4 * TKV_CHUNK_BYTES_MAX)
#define TOUCH_BYTES     4096u

struct tkv_chunk {
    struct tkv_link link; /* first: a link is its chunk */
    uint8_t *base;
    size_t size;
    uint32_t free_pages; /* one bit for each */
    uint32_t all_pages;
    uint32_t number; /* TKV_NUMBERED_CHUNKS: none */
};

static_assert(TKV_RUN_PAGES_MAX == 32, "free_pages has a bit for every page");
static_assert(TKV_CHUNK_BYTES_MAX / 8 == 1u << TKV_NUMBER_OFFSET_BITS,
              "a number has room for every object of a chunk");

/* ---- Numbers ------------------------------------------------------------------------- */

static void number_chunk(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    uint32_t number = 0;

    while (number < TKV_NUMBERED_CHUNKS && chunks->bases[number] != NULL)
        number++;
    if (number < TKV_NUMBERED_CHUNKS)
        chunks->bases[number] = chunk->base;
    chunk->number = number;
}

uint32_t tkv_chunk_number(const struct tkv_chunk *chunk, const void *object)
{
    const size_t offset = (size_t)((const uint8_t *)object - chunk->base);

    if (chunk->number == TKV_NUMBERED_CHUNKS)
        return 0;
    return chunk->number << TKV_NUMBER_OFFSET_BITS | (uint32_t)(offset / 8);
}

/* ---- Mapping ------------------------------------------------------------------------- */

/* Memory aligned to `size`, a power of two: map more and cut it to fit. */
static uint8_t *map_aligned(size_t size)
{
    const size_t mapped_size = 2 * size;
    uint8_t *mapped =
        mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (mapped == MAP_FAILED)
        return NULL;
    before = (size_t)(-(uintptr_t)mapped & (size - 1));
    /* What cannot be cut off is address space that is never touched. */
    if (before > 0)
        (void)munmap(mapped, before);
    (void)munmap(mapped + before + size, size - before);
    return mapped + before;
}

static struct tkv_chunk *map_chunk(size_t size)
{
    struct tkv_chunk *chunk = malloc(sizeof *chunk);

    if (chunk == NULL)
        return NULL;
    chunk->base = map_aligned(size);
    if (chunk->base == NULL) {
        free(chunk);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (size == TKV_CHUNK_BYTES_MAX)
        (void)madvise(chunk->base, size, MADV_HUGEPAGE); /* only a wish */
#endif
    chunk->size = size;
    chunk->all_pages = (uint32_t)((UINT64_C(1) << size / TKV_PAGE_BYTES) - 1);
    chunk->free_pages = chunk->all_pages;
    return chunk;
}

static void adopt(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    chunks->bytes += chunk->size + sizeof *chunk;
    number_chunk(chunks, chunk);
}

/* Of the size that there are enough others for, or just for the run. */
static struct tkv_chunk *next_chunk(struct tkv_chunks *chunks, size_t run_size)
{
    struct tkv_chunk *chunk;
    size_t size = run_size;

    while (size < TKV_CHUNK_BYTES_MAX && size * 2 <= chunks->bytes)
        size *= 2;
    chunk = map_chunk(size);
    if (chunk == NULL && size > run_size)
        chunk = map_chunk(run_size);
    if (chunk != NULL)
        adopt(chunks, chunk);
    return chunk;
}

static bool unmap_chunk(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    if (munmap(chunk->base, chunk->size) != 0)
        return false; /* the system has no room to note the hole: the chunk stays usable */
    chunks->bytes -= chunk->size + sizeof *chunk;
    if (chunk->number < TKV_NUMBERED_CHUNKS)
        chunks->bases[chunk->number] = NULL;
    free(chunk);
    return true;
}

/* ---- The list and the spare one -------------------------------------------------------- */

static void enlist(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    tkv_list_insert_after(&chunks->list, &chunk->link);
    chunks->free_pages += chunk->size / TKV_PAGE_BYTES;
}

static void drop(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    if (!unmap_chunk(chunks, chunk))
        enlist(chunks, chunk);
}

/* One empty chunk is kept, the larger one, so that a count that swings around a boundary
 * does not map and unmap all the time. */
static void keep_spare(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    struct tkv_chunk *surplus = chunks->spare;

    if (surplus != NULL && surplus->size >= chunk->size)
        surplus = chunk;
    else
        chunks->spare = chunk;
    if (surplus != NULL)
        drop(chunks, surplus);
}

static void retire(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    tkv_list_remove(&chunk->link);
    chunks->free_pages -= chunk->size / TKV_PAGE_BYTES;
    keep_spare(chunks, chunk);
}

void tkv_chunks_init(struct tkv_chunks *chunks)
{
    tkv_list_init(&chunks->list);
    chunks->spare = NULL;
    chunks->bytes = 0;
    chunks->free_pages = 0;
    chunks->taken = chunks->taken_before = 0;
}

void tkv_chunks_release(struct tkv_chunks *chunks)
{
    if (chunks->spare != NULL)
        (void)unmap_chunk(chunks, chunks->spare);
    while (!tkv_list_is_empty(&chunks->list)) {
        struct tkv_chunk *chunk = (struct tkv_chunk *)chunks->list.next;

        tkv_list_remove(&chunk->link);
        (void)unmap_chunk(chunks, chunk);
    }
}

/* ---- Pages --------------------------------------------------------------------------- */

#define NO_RUN TKV_RUN_PAGES_MAX

/* The bits of a run that begins at page `at`. */
static uint32_t run_mask(unsigned at, unsigned count)
{
    return (uint32_t)((UINT64_C(1) << count) - 1) << at;
}

/* Where a chunk has such a run free. Runs begin at multiples of their length, so that small
 * ones leave room for long ones. */
static unsigned find_run(const struct tkv_chunk *chunk, unsigned count)
{
    for (unsigned at = 0; at < TKV_RUN_PAGES_MAX; at += count) {
        if ((run_mask(at, count) & ~chunk->free_pages) == 0)
            return at;
    }
    return NO_RUN;
}

/* The first chunk that has one, in the list or else the spare one; NULL: none has. */
static struct tkv_chunk *chunk_with_run(struct tkv_chunks *chunks, unsigned count)
{
    struct tkv_chunk *spare = chunks->spare;

    for (struct tkv_link *link = chunks->list.next; link != &chunks->list;
         link = link->next) {
        struct tkv_chunk *chunk = (struct tkv_chunk *)link;

        if (chunk->free_pages == 0)
            break; /* and so are all behind it */
        if (find_run(chunk, count) != NO_RUN)
            return chunk;
    }
    if (spare == NULL || find_run(spare, count) == NO_RUN)
        return NULL;
    chunks->spare = NULL;
    enlist(chunks, spare);
    return spare;
}

void *tkv_chunks_take(struct tkv_chunks *chunks, unsigned count,
                      struct tkv_chunk **ret_chunk)
{
    struct tkv_chunk *chunk = chunk_with_run(chunks, count);
    unsigned at;

    if (chunk == NULL) {
        chunk = next_chunk(chunks, count * TKV_PAGE_BYTES);
        if (chunk == NULL)
            return NULL;
        enlist(chunks, chunk);
    }
    at = find_run(chunk, count);
    chunk->free_pages &= ~run_mask(at, count);
    chunks->free_pages -= count;
    chunks->taken += count;
    if (chunk->free_pages == 0) {
        tkv_list_remove(&chunk->link);
        tkv_list_insert_after(chunks->list.prev, &chunk->link);
    }
    *ret_chunk = chunk;
    return chunk->base + at * TKV_PAGE_BYTES;
}

void tkv_chunks_give(struct tkv_chunks *chunks, struct tkv_chunk *chunk, void *run,
                     unsigned count)
{
    const size_t at = (size_t)((uint8_t *)run - chunk->base) / TKV_PAGE_BYTES;
    const bool was_full = chunk->free_pages == 0;

    chunk->free_pages |= run_mask((unsigned)at, count);
    chunks->free_pages += count;
    if (chunk->free_pages == chunk->all_pages) {
        retire(chunks, chunk);
    } else if (was_full) {
        tkv_list_remove(&chunk->link);
        tkv_list_insert_after(&chunks->list, &chunk->link);
    }
}

/* ---- Memory ahead ---------------------------------------------------------------------- */

bool tkv_chunks_want_more(struct tkv_chunks *chunks)
{
    const bool grows = chunks->taken != chunks->taken_before;

    chunks->taken_before = chunks->taken;
    return grows && chunks->spare == NULL && chunks->free_pages < AHEAD_PAGES &&
           chunks->bytes >= AHEAD_BYTES_MIN;
}

void tkv_chunks_trim(struct tkv_chunks *chunks)
{
    struct tkv_chunk *spare = chunks->spare;

    chunks->spare = NULL;
    if (spare != NULL)
        drop(chunks, spare);
}

struct tkv_chunk *tkv_chunk_new(void)
{
    struct tkv_chunk *chunk = map_chunk(TKV_CHUNK_BYTES_MAX);

    for (size_t at = 0; chunk != NULL && at < chunk->size; at += TOUCH_BYTES)
        ((volatile uint8_t *)chunk->base)[at] = 0;
    return chunk;
}

void tkv_chunks_add(struct tkv_chunks *chunks, struct tkv_chunk *chunk)
{
    adopt(chunks, chunk);
    keep_spare(chunks, chunk);
}
