/* SPDX-License-Identifier: MIT */
/*
 * index_memory.c - the memory of the index: got ready, given back, and counted.
 *
 * Threads: any, but one at a time gets it ready.
 */
#include "index_table.h"

static void prepare_arena(struct tkv_index *index)
{
    struct tkv_chunk *chunk = NULL;
    bool wanted;

    tkv_latch_take(&index->arena_lock);
    wanted = tkv_chunks_want_more(tkv_arena_chunks(index->arena));
    tkv_latch_release(&index->arena_lock);
    if (wanted)
        chunk = tkv_chunk_new();
    if (chunk == NULL)
        return;
    tkv_latch_take(&index->arena_lock);
    tkv_chunks_add(tkv_arena_chunks(index->arena), chunk);
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

void tkv_index_prepare(struct tkv_index *index)
{
    prepare_arena(index); /* first: it is used up sooner */
    tkv_index_grow_ahead(index);
}

void tkv_index_trim(struct tkv_index *index)
{
    tkv_latch_take(&index->arena_lock);
    tkv_chunks_trim(tkv_arena_chunks(index->arena));
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

uint64_t tkv_index_count(const struct tkv_index *index)
{
    return atomic_load_explicit(&index->count, memory_order_relaxed);
}

size_t tkv_index_bytes(const struct tkv_index *index)
{
    size_t bytes =
        sizeof *index + atomic_load_explicit(&index->arena_bytes, memory_order_relaxed);

    for (unsigned i = 0; i < SHARD_COUNT; i++)
        bytes += atomic_load_explicit(&index->shards[i].bytes, memory_order_relaxed);
    return bytes;
}
