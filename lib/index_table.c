/* SPDX-License-Identifier: MIT */
/*
 * index_table.c - the tables themselves: made, presized, resized, freed.
 *
 * When something fails: without memory a table stays as large as it is, which costs speed only.
 *
 * Threads: a table is resized with its shard's lock held.
 */
#include "index_line.h"

#include "error.h"

#include <stdlib.h>

#define AHEAD (8 * LINE_BUCKETS) /* buckets: their entries are fetched */

/* ---- Resizing -------------------------------------------------------------------- */

static void publish_table(struct shard *shard) TKV_REQUIRES(shard->lock)
{
    atomic_store_explicit(&shard->buckets, shard->table.buckets, memory_order_relaxed);
    atomic_store_explicit(&shard->bucket_count, shard->table.num_buckets,
                          memory_order_relaxed);
}

/* Into `count` empty buckets. */
static void relink_line(const struct tkv_index *index, struct line *line,
                        UT_hash_bucket *buckets, unsigned count)
{
    struct line_walk walk = {0};
    struct entry *entry;

    while ((entry = next_entry(index, line, &walk)) != NULL)
        link_entry(line_at(buckets, entry->hh.hashv & (count - 1)), entry,
                   walk.slot <= SLOT_COUNT ? line->slots[walk.slot - 1].node
                                           : number_of_entry(entry));
}

static void relink(const struct tkv_index *index, struct shard *shard,
                   UT_hash_bucket *buckets, unsigned count)
{
    UT_hash_bucket *old = shard->table.buckets;
    const unsigned old_count = shard->table.num_buckets;

    for (unsigned i = 0; i < old_count; i += LINE_BUCKETS) {
        if (i + AHEAD < old_count)
            prefetch_entries(index, line_at(old, i + AHEAD));
        relink_line(index, line_at(old, i), buckets, count);
    }
}

/* 2^log2 buckets and where they come from. */
struct memory {
    UT_hash_bucket *buckets;
    struct tkv_chunk *chunk; /* NULL: malloc, or the shard's first line */
    unsigned log2;
};

static void *take_pages(struct tkv_index *index, unsigned count,
                        struct tkv_chunk **ret_chunk)
{
    void *pages;

    tkv_latch_take(&index->arena_lock);
    pages = tkv_chunks_take(tkv_arena_chunks(index->arena), count, ret_chunk);
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
    return pages;
}

static void give_pages(struct tkv_index *index, const struct memory *memory)
{
    tkv_latch_take(&index->arena_lock);
    tkv_chunks_give(tkv_arena_chunks(index->arena), memory->chunk, memory->buckets,
                    pages_of_table(memory->log2));
    publish_arena(index, index->count);
    tkv_latch_release(&index->arena_lock);
}

/* Of empty lines; buckets are NULL: there is no memory. */
static struct memory new_memory(struct tkv_index *index, struct shard *shard, unsigned log2)
{
    const size_t size = sizeof(UT_hash_bucket) << log2;
    const unsigned pages = pages_of_table(log2);
    struct memory memory = {.buckets = shard->first, .log2 = log2};

    if (pages != 0)
        memory.buckets = take_pages(index, pages, &memory.chunk);
    else if (log2 > FIRST_LOG2)
        memory.buckets = aligned_alloc(LINE, (size + LINE - 1) / LINE * LINE);
    if (memory.buckets != NULL)
        memset(memory.buckets, 0, size);
    return memory;
}

static void free_memory(struct tkv_index *index, const struct shard *shard,
                        const struct memory *memory)
{
    if (memory->chunk != NULL)
        give_pages(index, memory);
    else if (memory->buckets != shard->first)
        free(memory->buckets);
}

static struct memory memory_of(const struct shard *shard) TKV_REQUIRES(shard->lock)
{
    return (struct memory){.buckets = shard->table.buckets,
                           .chunk = shard->chunk,
                           .log2 = shard->table.log2_num_buckets};
}

static void move_to(struct tkv_index *index, struct shard *shard,
                    const struct memory *memory) TKV_REQUIRES(shard->lock)
{
    UT_hash_table *table = &shard->table;
    const struct memory old = memory_of(shard);
    const size_t old_size = buckets_size(shard);

    relink(index, shard, memory->buckets, 1u << memory->log2);
    /* A child that is forked meanwhile may free what it finds: what has a chunk is never taken
     * for memory from malloc. */
    if (memory->chunk != NULL)
        shard->chunk = memory->chunk;
    atomic_signal_fence(memory_order_seq_cst);
    table->buckets = memory->buckets;
    table->num_buckets = 1u << memory->log2;
    table->log2_num_buckets = memory->log2;
    publish_table(shard);
    add_bytes(shard, buckets_size(shard) - old_size);
    atomic_signal_fence(memory_order_seq_cst);
    shard->chunk = memory->chunk;
    free_memory(index, shard, &old); /* last, for the same reason */
}

void tkv_index_resize(struct tkv_index *index, struct shard *shard, unsigned log2)
{
    const struct memory memory = new_memory(index, shard, log2);

    if (memory.buckets != NULL)
        move_to(index, shard, &memory);
}

/* ---- Ahead of those who add ------------------------------------------------------- */

#define SHARDS_LOOKED_AT 64u /* in one call: each costs a writer its line */

/* To how many buckets it will soon have grown; 0: it is not near its limit. */
static unsigned next_log2(const struct tkv_index *index, struct shard *shard)
{
    const uint64_t count = shard->table.num_items;
    const unsigned log2 = shard->table.log2_num_buckets;
    const bool is_near =
        log2 < LOG2_MAX && tkv_index_is_crowded(index, shard, count + count / 16, log2);

    return is_near ? log2 + 1 : 0;
}

static void grow_ahead(struct tkv_index *index, struct shard *shard)
{
    struct memory memory = {.buckets = NULL};
    bool was_used = false;
    unsigned log2;

    tkv_latch_take(&shard->lock);
    log2 = next_log2(index, shard);
    tkv_latch_release(&shard->lock);
    if (log2 != 0)
        memory = new_memory(index, shard, log2);
    if (memory.buckets == NULL)
        return;
    tkv_latch_take(&shard->lock);
    if (shard->table.log2_num_buckets == log2 - 1) {
        move_to(index, shard, &memory);
        was_used = true;
    }
    tkv_latch_release(&shard->lock);
    if (!was_used) /* somebody was faster */
        free_memory(index, shard, &memory);
}

void tkv_index_grow_ahead(struct tkv_index *index)
{
    for (unsigned i = 0; i < SHARDS_LOOKED_AT; i++) {
        grow_ahead(index, &index->shards[index->looked_at]);
        index->looked_at = (index->looked_at + 1) % SHARD_COUNT;
    }
}

/* ---- The index as a whole -------------------------------------------------------- */

static void init_shard(struct shard *shard) TKV_NO_ANALYSIS
{
    tkv_latch_init(&shard->lock);
    shard->table.buckets = shard->first;
    shard->table.num_buckets = LINE_BUCKETS;
    shard->table.log2_num_buckets = FIRST_LOG2;
    shard->floor_log2 = FIRST_LOG2;
    atomic_init(&shard->earliest, UINT64_MAX);
    publish_table(shard);
}

enum tkv_status tkv_index_new(uint64_t seed, uint64_t expected_keys,
                              struct tkv_index **ret_index, struct tkv_error *err)
{
    struct tkv_index *index = aligned_alloc(_Alignof(struct tkv_index), sizeof *index);
    struct tkv_arena *arena = tkv_arena_new();

    if (index == NULL || arena == NULL) {
        tkv_arena_free(arena);
        free(index);
        return tkv_fail_memory(err, sizeof *index, "an empty index");
    }
    memset(index, 0, sizeof *index);
    index->seed = seed;
    tkv_latch_init(&index->arena_lock);
    index->arena = arena;
    index->chunks = tkv_arena_chunks(arena);
    atomic_init(&index->arena_bytes, tkv_arena_bytes(arena));
    for (unsigned i = 0; i < SHARD_COUNT; i++)
        init_shard(&index->shards[i]);
    tkv_index_presize(index, expected_keys);
    *ret_index = index;
    return TKV_OK;
}

void tkv_index_free(struct tkv_index *index)
{
    if (index == NULL)
        return;
    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];

        if (shard->chunk == NULL && shard->table.buckets != shard->first)
            free(shard->table.buckets);
        free(shard->due);
    }
    tkv_arena_free(index->arena);
    free(index);
}

void tkv_index_presize(struct tkv_index *index, uint64_t expected_keys)
{
    /* Shards do not fill evenly: 3 % of room, so that most never grow. */
    const uint64_t expected =
        expected_keys / SHARD_COUNT + expected_keys / SHARD_COUNT / 32;

    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        struct shard *shard = &index->shards[i];
        unsigned log2 = FIRST_LOG2;

        while (log2 < LOG2_MAX && tkv_index_is_crowded(index, shard, expected, log2))
            log2++;
        tkv_latch_take(&shard->lock);
        if (shard->table.log2_num_buckets < log2)
            tkv_index_resize(index, shard, log2);
        if (!tkv_index_is_filled(&shard->table))
            shard->floor_log2 = log2;
        tkv_latch_release(&shard->lock);
    }
}
