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

static void link(struct line *line, UT_hash_handle *hh, uint32_t node)
{
    hh->hh_prev = NULL;
    hh->hh_next = line->bucket.hh_head;
    if (hh->hh_next != NULL)
        hh->hh_next->hh_prev = hh;
    line->bucket.hh_head = hh;
    note_linked(line, entry_at(hh), node);
}

/* Into `count` empty buckets. */
static void relink(const struct tkv_index *index, struct shard *shard,
                   UT_hash_bucket *buckets, unsigned count)
{
    UT_hash_bucket *old = shard->table.buckets;
    const unsigned old_count = shard->table.num_buckets;

    for (unsigned i = 0; i < old_count; i += LINE_BUCKETS) {
        const struct line *line = line_at(old, i);

        if (i + AHEAD < old_count)
            prefetch_entries(index, line_at(old, i + AHEAD));
        for (UT_hash_handle *hh = line->bucket.hh_head, *next; hh != NULL; hh = next) {
            next = hh->hh_next;
            link(line_at(buckets, hh->hashv & (count - 1)), hh,
                 number_in(index, line, entry_at(hh)));
        }
    }
}

/* Of empty lines, in `first` or of its own; NULL: there is no memory. */
static UT_hash_bucket *new_buckets(struct shard *shard, unsigned log2)
{
    const size_t size = sizeof(UT_hash_bucket) << log2;
    UT_hash_bucket *buckets = shard->first;

    if (log2 > FIRST_LOG2)
        buckets = aligned_alloc(LINE, size);
    if (buckets != NULL)
        memset(buckets, 0, size);
    return buckets;
}

static void move_to(struct tkv_index *index, struct shard *shard, UT_hash_bucket *buckets,
                    unsigned log2) TKV_REQUIRES(shard->lock)
{
    UT_hash_table *table = &shard->table;
    UT_hash_bucket *old = table->buckets;
    const unsigned count = 1u << log2;
    const size_t old_size = buckets_size(shard);

    relink(index, shard, buckets, count);
    table->buckets = buckets;
    table->num_buckets = count;
    table->log2_num_buckets = log2;
    publish_table(shard);
    add_bytes(shard, buckets_size(shard) - old_size);
    if (old != shard->first) /* last: a forked child may free what it finds */
        free(old);
}

void tkv_index_resize(struct tkv_index *index, struct shard *shard, unsigned log2)
{
    UT_hash_bucket *buckets = new_buckets(shard, log2);

    if (buckets != NULL)
        move_to(index, shard, buckets, log2);
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
    UT_hash_bucket *buckets;
    unsigned log2;

    tkv_latch_take(&shard->lock);
    log2 = next_log2(index, shard);
    tkv_latch_release(&shard->lock);
    buckets = log2 != 0 ? new_buckets(shard, log2) : NULL;
    if (buckets == NULL)
        return;
    tkv_latch_take(&shard->lock);
    if (shard->table.log2_num_buckets == log2 - 1) {
        move_to(index, shard, buckets, log2);
        buckets = NULL;
    }
    tkv_latch_release(&shard->lock);
    free(buckets); /* somebody was faster */
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
    shard->table.tail = &shard->sentinel.hh;
    shard->table.hho = offsetof(struct entry, hh);
    shard->table.signature = HASH_SIGNATURE;
    shard->table.noexpand = 1;
    shard->sentinel.hh.tbl = &shard->table;
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

        if (shard->table.buckets != shard->first)
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
