/* SPDX-License-Identifier: MIT */
#include "checksums.h"

#include "bytes.h"
#include "checksum.h"

#define RECORD_HEADER ((size_t)24)
#define GROUP_HEADER  ((size_t)56)
#define LOG_START     ((size_t)8192)

static void put_crc(uint8_t *bytes, size_t at, size_t from, size_t to)
{
    tkv_put_le32(bytes + at, tkv_crc32(0, bytes + from, to - from));
}

/* ---- Records ------------------------------------------------------------------------ */

static uint64_t record_size(const uint8_t *p)
{
    return RECORD_HEADER + tkv_get_le16(p + 22) + tkv_get_le16(p + 16) +
           tkv_get_le32(p + 4);
}

static bool looks_like_record(const uint8_t *p, size_t left)
{
    return left >= RECORD_HEADER && p[18] >= 1 && p[18] <= 3 && record_size(p) <= left;
}

size_t fix_records(uint8_t *bytes, size_t size, uint64_t seq_first)
{
    size_t at = 0, end = 0;

    while (at < size) {
        uint8_t *p = bytes + at;

        if (looks_like_record(p, size - at)) {
            const size_t length = (size_t)record_size(p);

            if (seq_first != 0)
                tkv_put_le64(p + 8, seq_first++);
            tkv_put_le32(p,
                         tkv_crc32(tkv_crc32(0, p + RECORD_HEADER, length - RECORD_HEADER),
                                   p + 4, RECORD_HEADER - 4));
            at += length;
            end = at;
        } else if (p[0] == 0) {
            at++; /* padding */
        } else {
            break;
        }
    }
    return end;
}

void fix_data_file(uint8_t *bytes, size_t size)
{
    if (size < 64)
        return;
    put_crc(bytes, 8, 12, 64);
    (void)fix_records(bytes + 64, size - 64, 0);
}

/* ---- MANIFEST ------------------------------------------------------------------------ */

void fix_manifest(uint8_t *bytes, size_t size, bool with_size)
{
    if (size >= 16)
        put_crc(bytes, 12, 0, 12);
    if (size < 116)
        return;
    if (with_size) {
        tkv_put_le64(bytes + 16, size);
        tkv_put_le32(bytes + 100, (uint32_t)((size - 116) / 48));
    }
    put_crc(bytes, 108, 0, 108);
    put_crc(bytes, size - 4, 0, size - 4);
}

/* ---- Hints --------------------------------------------------------------------------- */

/* A hint's blocks; returns the checksum of their checksums and counts them. */
static uint32_t fix_blocks(uint8_t *bytes, size_t begin, size_t end, uint32_t *ret_blocks)
{
    uint32_t sum = 0, blocks = 0;
    size_t at = begin;

    while (end - at > 12) {
        uint8_t *block = bytes + at;
        const size_t size = tkv_get_le32(block);

        if (size == 0 || size > end - at - 12)
            break;
        tkv_put_le32(block + 8, tkv_crc32(tkv_crc32(0, block, 8), block + 12, size));
        sum = tkv_crc32(sum, block + 8, 4);
        blocks++;
        at += 12 + size;
    }
    *ret_blocks = blocks;
    return sum;
}

void fix_hint(uint8_t *bytes, size_t size)
{
    uint32_t blocks, sum;

    if (size < 52 + 24)
        return;
    put_crc(bytes, 12, 0, 12);
    put_crc(bytes, 48, 0, 48);
    sum = fix_blocks(bytes, 52, size - 24, &blocks);
    tkv_put_le32(bytes + size - 20, blocks);
    tkv_put_le32(bytes + size - 8, sum);
    put_crc(bytes, size - 4, size - 24, size - 4);
}

/* ---- wal.log ------------------------------------------------------------------------- */

void fix_log_header(uint8_t *bytes, size_t size)
{
    if (size >= TKV_BLOCK_SIZE)
        put_crc(bytes, 8, 12, TKV_BLOCK_SIZE);
}

struct walk {
    uint8_t *bytes;
    size_t size;
    const struct fix_log *log;
    uint64_t position, seq_next;
    uint32_t chain;
};

static bool is_group(const struct walk *w, size_t offset)
{
    return offset <= w->size && w->size - offset >= GROUP_HEADER &&
           tkv_get_le64(w->bytes + offset) == w->log->salt;
}

/* Of the payload's size, what there is. */
static size_t payload_size(const struct walk *w, size_t offset)
{
    const size_t left = w->size - offset - GROUP_HEADER;
    const size_t claimed = tkv_get_le32(w->bytes + offset + 12);

    return claimed < left ? claimed : left;
}

static uint32_t seed_at(const struct walk *w, size_t offset)
{
    uint8_t place[8];

    tkv_put_le64(place, offset);
    return tkv_crc32(tkv_crc32(0, w->log->uuid, 16), place, 8);
}

static void fix_payload(struct walk *w, size_t offset)
{
    uint8_t *p = w->bytes + offset;

    if ((w->log->what & FIX_RECORDS) != 0)
        (void)fix_records(p + GROUP_HEADER, payload_size(w, offset),
                          (w->log->what & FIX_SEQ) != 0 ? tkv_get_le64(p + 24) : 0);
}

/* Returns what the next group has as its chain. */
static uint32_t fix_group(struct walk *w, size_t offset)
{
    uint8_t *p = w->bytes + offset;
    const uint32_t seed = seed_at(w, offset);

    fix_payload(w, offset);
    tkv_put_le32(p + 52, tkv_crc32(seed, p + GROUP_HEADER, payload_size(w, offset)));
    tkv_put_le32(p + 8, tkv_crc32(tkv_crc32(seed, p, 8), p + 12, GROUP_HEADER - 12));
    return tkv_get_le32(p + 8) ^ tkv_get_le32(p + 52);
}

static size_t extent_of(const uint8_t *p)
{
    return (size_t)tkv_round_up(GROUP_HEADER + (uint64_t)tkv_get_le32(p + 12),
                                (p[45] & 1) != 0 ? TKV_BLOCK_SIZE : 8);
}

/* Where the group after the one that ends at `end` is, as far as the salt tells; else size. */
static size_t next_group(const struct walk *w, size_t end)
{
    const size_t block = (size_t)tkv_round_up(end, TKV_BLOCK_SIZE);

    if (is_group(w, end))
        return end;
    return is_group(w, block) ? block : w->size;
}

static void follow(struct walk *w, size_t offset)
{
    while (is_group(w, offset)) {
        uint8_t *p = w->bytes + offset;
        const size_t end = offset + extent_of(p), next = next_group(w, end);

        if ((w->log->what & FIX_CHAIN) != 0)
            tkv_put_le32(p + 48, w->chain);
        if ((w->log->what & FIX_POSITION) != 0)
            tkv_put_le64(p + 16, w->position);
        if ((w->log->what & FIX_SEQ) != 0)
            tkv_put_le64(p + 24, w->seq_next);
        w->chain = fix_group(w, offset);
        w->position += next - offset;
        w->seq_next += tkv_get_le32(p + 40);
        offset = next;
    }
}

void fix_log_groups(uint8_t *bytes, size_t size, const struct fix_log *log)
{
    struct walk w = {bytes, size, log, log->position, log->seq_next, log->chain};
    struct fix_log others = *log;

    if (log->salt == 0 || size < LOG_START)
        return;
    /* First those that are not reached, as they are; the ones that are come out right. */
    others.what &= FIX_RECORDS;
    w.log = &others;
    for (size_t offset = LOG_START; offset + GROUP_HEADER <= size; offset += 8) {
        if (is_group(&w, offset))
            (void)fix_group(&w, offset);
    }
    w.log = log;
    if (log->file_offset % 8 == 0 && log->file_offset >= LOG_START &&
        log->file_offset < size)
        follow(&w, (size_t)log->file_offset);
}
