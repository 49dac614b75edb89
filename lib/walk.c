/* SPDX-License-Identifier: MIT */
#include "walk.h"

#include "bytes.h"
#include "error.h"
#include "give_way.h"

#include <stdlib.h>

#define CHUNK_SIZE (256u * 1024)

void tkv_walk_begin(struct tkv_walk *walk, struct tkv_datafile *file, uint64_t end)
{
    memset(walk, 0, sizeof *walk);
    walk->file = file;
    tkv_datafile_reference(file); /* keeps its memory tail as well */
    walk->next = walk->offset = TKV_DATA_HEADER_SIZE;
    walk->end = end;
}

void tkv_walk_end(struct tkv_walk *walk)
{
    free(walk->buffer);
    walk->buffer = NULL;
    tkv_datafile_release(walk->file);
    walk->file = NULL;
}

/* Nothing is copied of a file that is mapped, or of a memory tail: the reference keeps both. */
static bool find_in_memory(struct tkv_walk *walk, size_t left)
{
    bool outside;
    const uint8_t *bytes = tkv_datafile_view(walk->file, walk->next, left, &outside);

    if (bytes == NULL)
        return false;
    walk->bytes = bytes;
    walk->bytes_offset = walk->next;
    walk->bytes_size = left;
    return true;
}

static bool stop(struct tkv_walk *walk, enum tkv_status status)
{
    walk->status = status;
    return false;
}

/* Have [next, next + size) in `bytes`; `size` is within the file. */
static bool load(struct tkv_walk *walk, size_t size)
{
    const uint64_t left = walk->end - walk->next;
    size_t want = size < CHUNK_SIZE ? CHUNK_SIZE : size;
    enum tkv_status status;

    if (walk->next >= walk->bytes_offset &&
        walk->next + size <= walk->bytes_offset + walk->bytes_size)
        return true;
    if (find_in_memory(walk, (size_t)left))
        return true;
    if (want > left)
        want = (size_t)left;
    if (want > walk->buffer_capacity) {
        free(walk->buffer);
        walk->buffer_capacity = want < CHUNK_SIZE ? CHUNK_SIZE : want;
        walk->bytes_size = 0;
        walk->buffer = malloc(walk->buffer_capacity);
        if (walk->buffer == NULL) {
            walk->buffer_capacity = 0;
            return stop(walk,
                        tkv_fail_memory(&walk->error, want, "a walk over a data file"));
        }
    }
    status = tkv_datafile_read(walk->file, walk->next, walk->buffer, want, &walk->error);
    if (status != TKV_OK)
        return stop(walk, status);
    walk->bytes = walk->buffer;
    walk->bytes_offset = walk->next;
    walk->bytes_size = want;
    return true;
}

static const uint8_t *at_next(const struct tkv_walk *walk)
{
    return walk->bytes + (walk->next - walk->bytes_offset);
}

/* The record at `next` is whole and verified. */
static bool decode(struct tkv_walk *walk, uint64_t left)
{
    const size_t header =
        left < TKV_RECORD_HEADER_SIZE ? (size_t)left : TKV_RECORD_HEADER_SIZE;
    size_t size;

    if (!load(walk, header))
        return false;
    size = tkv_record_claimed_size(tkv_bytes(at_next(walk), header));
    if (size == 0 || size > left)
        return false;
    if (!load(walk, size))
        return false;
    if (tkv_record_decode(tkv_bytes(at_next(walk), size), &walk->record) != TKV_RECORD_GOOD)
        return false;
    walk->size = size;
    return true;
}

/* Zeros up to the next block boundary separate what two checkpoints have made durable; a block
 * that begins with them was lost, and so was what they leave short of a boundary at the file's
 * end. Only asked where no record is: a record may begin with zeros when its checksum does.
 * Records that were lost up to their padding look like it: only record_sum tells. */
static bool skip_padding(struct tkv_walk *walk)
{
    const uint64_t boundary = tkv_round_up(walk->next, TKV_BLOCK_SIZE);

    if (boundary == walk->next || boundary > walk->end)
        return false;
    if (!load(walk, (size_t)(boundary - walk->next)))
        return false;
    if (!tkv_is_zero(at_next(walk), (size_t)(boundary - walk->next)))
        return false;
    if (walk->padding == 0)
        walk->padding = walk->next;
    walk->next = boundary;
    return true;
}

bool tkv_walk_glimpse(const struct tkv_walk *walk, uint64_t *offset,
                      struct tkv_record *ret_record)
{
    const uint64_t end = walk->bytes_offset + walk->bytes_size;

    if (*offset < walk->bytes_offset || *offset >= end ||
        tkv_record_parse(tkv_bytes(walk->bytes + (*offset - walk->bytes_offset),
                                   (size_t)(end - *offset)),
                         ret_record) != TKV_RECORD_GOOD)
        return false;
    *offset += tkv_record_size(ret_record);
    return true;
}

bool tkv_walk_next(struct tkv_walk *walk)
{
    while (walk->next < walk->end) {
        walk->offset = walk->next;
        if (decode(walk, walk->end - walk->next)) {
            tkv_give_way_at(&walk->gave_way_at, walk->next);
            walk->next += walk->size;
            return true;
        }
        if (walk->status != TKV_OK)
            return false;
        if (!skip_padding(walk)) {
            if (walk->status == TKV_OK)
                (void)stop(walk,
                           tkv_fail_corrupt(&walk->error, walk->file->name, walk->offset, 0,
                                            "neither a valid record nor padding"));
            return false;
        }
    }
    return false;
}
