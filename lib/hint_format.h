/* SPDX-License-Identifier: MIT */
/*
 * hint_format.h - where things are in a hint, and what no hint holds: what its writer
 * (hint_writer.c) and its reader (hint.c) share. Private to those two, hence the short names.
 *
 * Invariant: whatever entry_is_sane() refuses is never written.
 *
 * What is done with each entry is in line: an opening does it with every record of a store.
 */
#ifndef TKV_HINT_FORMAT_H
#define TKV_HINT_FORMAT_H

#include "hint.h"

#include "checksum.h"

#include <assert.h>

/* Where things are; the picture is in hint.h. */
enum {
    AT_VERSION = 8,
    AT_PRELUDE_CRC = 12,
    AT_UUID = 16,
    AT_NUMBER = 32,
    AT_DATA_SIZE = 40,
    AT_HEADER_CRC = 48,
    HEADER_SIZE = 52,

    BLOCK_AT_SIZE = 0,
    BLOCK_AT_COUNT = 4,
    BLOCK_AT_CRC = 8,
    BLOCK_HEADER_SIZE = 12,

    ENTRY_AT_SEQ = 0,
    ENTRY_AT_OFFSET = 8,
    ENTRY_AT_SIZE = 16,
    ENTRY_AT_KEY_SIZE = 20,
    ENTRY_AT_KIND = 22,
    ENTRY_AT_FLAGS = 23,
    ENTRY_HEADER_SIZE = 24,
    ENTRY_SIZE_MAX = ENTRY_HEADER_SIZE + 8 + 8 + TKV_KEY_SIZE_MAX,

    FOOTER_AT_ZERO = 0, /* where a block would have its size */
    FOOTER_AT_BLOCK_COUNT = 4,
    FOOTER_AT_ENTRY_COUNT = 8,
    FOOTER_AT_BLOCKS_CRC = 16,
    FOOTER_AT_CRC = 20,
    FOOTER_SIZE = 24
};

static_assert(sizeof((struct tkv_hint_identity){0}).uuid == AT_NUMBER - AT_UUID, "no gap");
static_assert((uint64_t)TKV_RECORD_SIZE_MAX <= UINT32_MAX,
              "an entry keeps the size in u32");

enum { FLAG_EXPIRY = 1 };

#define NUMBER_END ((uint64_t)1 << 63)
#define EXPIRY_END ((uint64_t)1 << 63)

/* What no writer writes: the reader refuses it and the writer asserts it. Everything but
 * whether the record lies within the data file, whose size the writer learns last. */
static inline bool entry_is_sane(const struct tkv_hint_entry *e)
{
    if (e->kind < TKV_RECORD_PUT || e->kind > TKV_RECORD_LARGE || e->seq == 0)
        return false;
    if (e->size < TKV_RECORD_HEADER_SIZE + e->key.size || e->size > TKV_RECORD_SIZE_MAX)
        return false;
    if (e->expires_at_ms >= EXPIRY_END)
        return false;
    if (e->kind == TKV_RECORD_DELETE && e->expires_at_ms != 0)
        return false;
    if (e->kind == TKV_RECORD_LARGE)
        return e->large_number != 0 && e->large_number < NUMBER_END;
    return e->large_number == 0;
}

/* Of a block's size, its count and its entries; its place in the file is what the footer's
 * sum over these sums is for. */
static inline uint32_t sum_block(const uint8_t *block, size_t entries_size)
{
    const uint32_t sum = tkv_crc32(0, block, BLOCK_AT_CRC);

    return tkv_crc32(sum, block + BLOCK_HEADER_SIZE, entries_size);
}

/* The whole header of that data file's hint: the writer writes it, the reader expects it. */
void tkv_hint_put_header(const struct tkv_hint_identity *identity, uint8_t *p);

#endif
