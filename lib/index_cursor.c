/* SPDX-License-Identifier: MIT */
/*
 * index_cursor.c - visit every key in small steps, while the tables change between them.
 *
 * When something fails: without memory for the page a step changes nothing, and can be tried
 * again.
 *
 * Threads: a shard is locked for a group of lines at a time.
 */
#include "index_line.h"

#include "error.h"

#include <stdlib.h>

#define LINES_AT_ONCE 8u   /* while a shard is locked */
#define STEP_KEYS     64u  /* a step ends at about so many keys, */
#define STEP_LINES    512u /* or after so many lines */

/* Of bit-reversed hashes, whose highest bits are those that lead to a line's other buckets. */
#define POSITIONS_END (UINT32_C(1) << 30)

/*
 * The cursor is a position among bit-reversed hashes: in a table of 2^n lines, a line is a
 * range of them, and bigger or smaller tables only cut the same ranges finer or coarser.
 * Keys below the position were visited. After a table has shrunk, the position may be in the
 * middle of a line, which is why keys are compared with it.
 */
static uint32_t reverse_bits(uint32_t v)
{
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    v = (v >> 8 & 0x00ff00ffu) | (v & 0x00ff00ffu) << 8;
    return v >> 16 | v << 16;
}

static const struct line *line_there(const struct shard *shard, uint32_t position)
{
    return line_at(shard->table.buckets,
                   reverse_bits(position) & (shard->table.num_buckets - 1));
}

/* The first position of the next line; 0 after the last. */
static uint32_t next_position(const struct shard *shard, uint32_t position)
{
    const uint32_t next = (position | UINT32_MAX >> shard->table.log2_num_buckets) + 1;

    return next < POSITIONS_END ? next : 0;
}

static bool grow_array(void *array_pointer, size_t *capacity, size_t needed,
                       size_t item_size)
{
    void *array;
    size_t grown = *capacity * 2;

    if (needed <= *capacity)
        return true;
    if (grown < needed)
        grown = needed;
    memcpy(&array, array_pointer, sizeof array);
    array = realloc(array, grown * item_size);
    if (array == NULL)
        return false;
    memcpy(array_pointer, &array, sizeof array);
    *capacity = grown;
    return true;
}

static bool grow_page(struct tkv_index_page *page, size_t key_size)
{
    size_t ends_capacity = page->capacity;

    /* One byte more, so that a page of nothing but the empty key has bytes to point at. */
    if (!grow_array(&page->bytes, &page->bytes_capacity, page->bytes_size + key_size + 1,
                    1))
        return false;
    return grow_array(&page->ends, &ends_capacity, page->count + 1, sizeof *page->ends) &&
           grow_array(&page->locations, &page->capacity, page->count + 1,
                      sizeof *page->locations);
}

static bool copy_line(const struct tkv_index *index, const struct line *line,
                      uint32_t position, struct tkv_index_page *page)
{
    struct line_walk walk = {0};
    const struct entry *entry;

    while ((entry = next_entry(index, line, &walk)) != NULL) {
        const UT_hash_handle *hh = &entry->hh;

        if (reverse_bits(hh->hashv) < position)
            continue;
        if (!grow_page(page, hh->keylen))
            return false;
        if (hh->keylen > 0)
            memcpy(page->bytes + page->bytes_size, hh->key, hh->keylen);
        page->bytes_size += hh->keylen;
        page->ends[page->count] = page->bytes_size;
        page->locations[page->count] = location_of(entry);
        page->count++;
    }
    return true;
}

/* Copy the next LINES_AT_ONCE lines of one shard, or fewer: the rest of it. */
static bool copy_group(const struct tkv_index *index, struct shard *shard,
                       uint32_t *position, struct tkv_index_page *page)
    TKV_REQUIRES(shard->lock)
{
    uint32_t at[LINES_AT_ONCE];
    unsigned count = 0;
    uint32_t next = *position;

    do {
        at[count] = next;
        PREFETCH(line_there(shard, next));
        next = next_position(shard, next);
    } while (++count < LINES_AT_ONCE && next != 0);
    for (unsigned i = 0; i < count; i++)
        prefetch_entries(index, line_there(shard, at[i]));
    for (unsigned i = 0; i < count; i++)
        if (!copy_line(index, line_there(shard, at[i]), at[i], page))
            return false;
    *position = next;
    return true;
}

enum tkv_status tkv_index_step(struct tkv_index *index, struct tkv_index_cursor *cursor,
                               struct tkv_index_page *page, struct tkv_error *err)
{
    uint32_t number = cursor->shard, position = cursor->bucket;
    bool copied = true;

    page->count = 0;
    page->bytes_size = 0;
    for (unsigned lines = 0;
         number < SHARD_COUNT && page->count < STEP_KEYS && lines < STEP_LINES && copied;
         lines += LINES_AT_ONCE) {
        struct shard *shard = &index->shards[number];

        tkv_latch_take(&shard->lock);
        if (shard->table.num_items == 0)
            position = 0; /* no key that stays is here */
        else
            copied = copy_group(index, shard, &position, page);
        tkv_latch_release(&shard->lock);
        if (copied && position == 0)
            number++;
    }
    if (!copied) {
        page->count = 0;
        page->bytes_size = 0;
        return tkv_fail(err, TKV_NO_MEMORY, "out of memory for a page of keys");
    }
    cursor->shard = number;
    cursor->bucket = position;
    cursor->done = number == SHARD_COUNT;
    return TKV_OK;
}

void tkv_index_page_release(struct tkv_index_page *page)
{
    free(page->bytes);
    free(page->ends);
    free(page->locations);
    memset(page, 0, sizeof *page);
}
