/* SPDX-License-Identifier: MIT */
/*
 * chunks.h - memory from the system by pages of 64 KiB, which an arena cuts into objects.
 * Pages come from chunks that grow from 64 KiB to 2 MiB and then ask for transparent huge
 * pages. A chunk whose last page is given back goes back to the system, except for one.
 *
 * Not thread-safe but for tkv_chunk_new(); the owner serialises.
 */
#ifndef TKV_CHUNKS_H
#define TKV_CHUNKS_H

#include "list.h"

#include <stddef.h>
#include <stdint.h>

#define TKV_PAGE_BYTES ((size_t)64 * 1024)

struct tkv_chunk;

struct tkv_chunks {
    struct tkv_link list;    /* those with a free page are first */
    struct tkv_chunk *spare; /* a chunk without a page in use; in no list */
    size_t bytes;            /* obtained from the system */
    size_t free_pages;       /* of those in the list */
    uint64_t taken;          /* pages, ever */
    uint64_t taken_before;   /* when tkv_chunks_want_more() was last asked */
};

void tkv_chunks_init(struct tkv_chunks *chunks);
void tkv_chunks_release(struct tkv_chunks *chunks); /* and every page, taken or not */

/* A page, aligned to its size. NULL: out of memory. *ret_chunk is what it is given back to. */
void *tkv_chunks_take(struct tkv_chunks *chunks, struct tkv_chunk **ret_chunk);
void tkv_chunks_give(struct tkv_chunks *chunks, struct tkv_chunk *chunk, void *page);

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
