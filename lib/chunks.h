/* SPDX-License-Identifier: MIT */
/*
 * chunks.h - memory from the system by pages of 64 KiB, which an arena cuts into objects and
 * tables take by the run. Pages come from chunks that grow from 64 KiB to 2 MiB and then ask
 * for transparent huge pages. A chunk whose last page is given back goes back to the system,
 * except for one.
 *
 * Not thread-safe but for tkv_chunk_new(), and for tkv_chunks_object() of an object that is
 * taken; the owner serialises.
 */
#ifndef TKV_CHUNKS_H
#define TKV_CHUNKS_H

#include "list.h"

#include <stddef.h>
#include <stdint.h>

#define TKV_PAGE_BYTES ((size_t)64 * 1024)

#define TKV_CHUNK_BYTES_MAX ((size_t)2 * 1024 * 1024)
#define TKV_RUN_PAGES_MAX   ((unsigned)(TKV_CHUNK_BYTES_MAX / TKV_PAGE_BYTES))

/*
 * An object in a chunk has a number that is shorter than its address. 0 is none's: the first
 * bytes of a page are nobody's object. Chunks above 32 GiB have no numbers.
 *
 *     31       18 17               0
 *     +----------+-----------------+
 *     | chunk    | offset / 8      |
 *     +----------+-----------------+
 */
#define TKV_NUMBER_OFFSET_BITS 18u
#define TKV_NUMBERED_CHUNKS    (1u << (32u - TKV_NUMBER_OFFSET_BITS))

struct tkv_chunk;

struct tkv_chunks {
    struct tkv_link list;    /* those with a free page are first */
    struct tkv_chunk *spare; /* a chunk without a page in use; in no list */
    size_t bytes;            /* obtained from the system */
    size_t free_pages;       /* of those in the list */
    uint64_t taken;          /* pages, ever */
    uint64_t taken_before;   /* when tkv_chunks_want_more() was last asked */
    /* By number; those that were never used are untouched. */
    uint8_t *bases[TKV_NUMBERED_CHUNKS];
};

static inline void *tkv_chunks_object(const struct tkv_chunks *chunks, uint32_t number)
{
    return chunks->bases[number >> TKV_NUMBER_OFFSET_BITS] +
           (size_t)(number & ((UINT32_C(1) << TKV_NUMBER_OFFSET_BITS) - 1)) * 8;
}

/* 0: it has none. `object` is aligned to 8 and inside of the chunk. */
uint32_t tkv_chunk_number(const struct tkv_chunk *chunk, const void *object);

void tkv_chunks_init(struct tkv_chunks *chunks);    /* of zeroed memory */
void tkv_chunks_release(struct tkv_chunks *chunks); /* and every page, taken or not */

/* A run of `count` pages, a power of two and no more than TKV_RUN_PAGES_MAX, aligned to a
 * page. NULL: out of memory. *ret_chunk is what it is given back to, whole. */
void *tkv_chunks_take(struct tkv_chunks *chunks, unsigned count,
                      struct tkv_chunk **ret_chunk);
void tkv_chunks_give(struct tkv_chunks *chunks, struct tkv_chunk *chunk, void *run,
                     unsigned count);

/*
 * The system clears a chunk when it is first touched, which takes longer than filling it.
 * Somebody with time can have that done ahead, in three steps, of which the second needs none
 * of this and nobody serialises it:
 *
 *     if (tkv_chunks_want_more(chunks))       asked now and then
 *         chunk = tkv_chunk_new();            touched; NULL: out of memory
 *     tkv_chunks_add(chunks, chunk);          which then owns it
 *
 * More is wanted where pages were taken since the last time, and soon none will be left.
 */
bool tkv_chunks_want_more(struct tkv_chunks *chunks);
struct tkv_chunk *tkv_chunk_new(void);
void tkv_chunks_add(struct tkv_chunks *chunks, struct tkv_chunk *chunk);

/* Give the spare chunk back to the system. */
void tkv_chunks_trim(struct tkv_chunks *chunks);

#endif
