/* SPDX-License-Identifier: MIT */
/*
 * hint_writer.c - a hint is collected in memory, block by block, and written in one go.
 *
 * Invariant: bytes[0..size) are the header's room, closed blocks, and the open one if any.
 *
 * When something fails the writer stays usable: what was added is kept, and to add or to write
 * may be tried again. The hint that was there before stays until the new one is written.
 *
 * Threads: a writer belongs to one thread.
 */
#include "hint_format.h"

#include <stdlib.h>

#include "bytes.h"
#include "error.h"
#include "file_name.h"

/* Small enough that the bytes are still in the second-level cache when they are parsed after
 * they were summed. A block is closed by the entry that makes it this large. */
enum { BLOCK_SIZE_WANTED = 64 * 1024 };

/* ---- Blocks ---- */

struct tkv_hint_writer {
    uint8_t *bytes; /* the file so far; its header is filled in last */
    size_t size, capacity;
    size_t block;           /* where the open block begins; `size` when none is open */
    uint32_t block_count;   /* entries in the open block */
    uint32_t blocks;        /* closed ones */
    uint32_t blocks_sum;    /* of their checksums */
    uint64_t count;         /* entries in all */
    uint64_t data_size_min; /* where the last of the records ends */
};

enum tkv_status tkv_hint_writer_new(struct tkv_hint_writer **ret_writer,
                                    struct tkv_error *err)
{
    struct tkv_hint_writer *w = calloc(1, sizeof *w);

    if (w == NULL)
        return tkv_fail_memory(err, sizeof *w, "a hint writer");
    w->capacity = BLOCK_SIZE_WANTED;
    w->bytes = malloc(w->capacity);
    if (w->bytes == NULL) {
        free(w);
        return tkv_fail_memory(err, BLOCK_SIZE_WANTED, "a hint");
    }
    w->size = w->block = HEADER_SIZE;
    *ret_writer = w;
    return TKV_OK;
}

void tkv_hint_writer_free(struct tkv_hint_writer *writer)
{
    if (writer == NULL)
        return;
    free(writer->bytes);
    free(writer);
}

static enum tkv_status reserve(struct tkv_hint_writer *w, size_t more,
                               struct tkv_error *err)
{
    size_t capacity = w->capacity;
    uint8_t *bytes;

    while (capacity - w->size < more)
        capacity *= 2;
    if (capacity == w->capacity)
        return TKV_OK;
    bytes = realloc(w->bytes, capacity);
    if (bytes == NULL)
        return tkv_fail_memory(err, capacity, "a hint");
    w->bytes = bytes;
    w->capacity = capacity;
    return TKV_OK;
}

static void close_block(struct tkv_hint_writer *w)
{
    uint8_t *block = w->bytes + w->block;
    const size_t entries_size = w->size - w->block - BLOCK_HEADER_SIZE;

    tkv_put_le32(block + BLOCK_AT_SIZE, (uint32_t)entries_size);
    tkv_put_le32(block + BLOCK_AT_COUNT, w->block_count);
    tkv_put_le32(block + BLOCK_AT_CRC, sum_block(block, entries_size));
    w->blocks_sum = tkv_crc32(w->blocks_sum, block + BLOCK_AT_CRC, 4);
    w->blocks++;
    w->block = w->size;
    w->block_count = 0;
}

static size_t put_entry(const struct tkv_hint_entry *e, uint8_t *p)
{
    uint8_t *const start = p;

    tkv_put_le64(p + ENTRY_AT_SEQ, e->seq);
    tkv_put_le64(p + ENTRY_AT_OFFSET, e->offset);
    tkv_put_le32(p + ENTRY_AT_SIZE, e->size);
    tkv_put_le16(p + ENTRY_AT_KEY_SIZE, (uint16_t)e->key.size);
    p[ENTRY_AT_KIND] = (uint8_t)e->kind;
    p[ENTRY_AT_FLAGS] = e->expires_at_ms != 0 ? FLAG_EXPIRY : 0;
    p += ENTRY_HEADER_SIZE;
    if (e->expires_at_ms != 0) {
        tkv_put_le64(p, e->expires_at_ms);
        p += 8;
    }
    if (e->kind == TKV_RECORD_LARGE) {
        tkv_put_le64(p, e->large_number);
        p += 8;
    }
    if (e->key.size != 0)
        memcpy(p, e->key.data, e->key.size);
    return (size_t)(p - start) + e->key.size;
}

enum tkv_status tkv_hint_writer_add(struct tkv_hint_writer *writer,
                                    const struct tkv_hint_entry *entry,
                                    struct tkv_error *err)
{
    enum tkv_status status;

    assert(entry->key.size <= TKV_KEY_SIZE_MAX);
    assert(entry_is_sane(entry));

    status = reserve(writer, BLOCK_HEADER_SIZE + ENTRY_SIZE_MAX, err);
    if (status != TKV_OK)
        return status;
    if (writer->block == writer->size)
        writer->size += BLOCK_HEADER_SIZE;
    writer->size += put_entry(entry, writer->bytes + writer->size);
    writer->block_count++;
    writer->count++;
    if (writer->data_size_min < entry->offset + entry->size)
        writer->data_size_min = entry->offset + entry->size;
    if (writer->size - writer->block >= BLOCK_SIZE_WANTED)
        close_block(writer);
    return TKV_OK;
}

/* ---- The file ---- */

static const uint8_t magic[8] = {'T', 'K', 'V', 'H', 'I', 'N', 'T', 'S'};

static void put_prelude(uint8_t *p)
{
    memcpy(p, magic, sizeof magic);
    tkv_put_le32(p + AT_VERSION, TKV_HINT_VERSION);
    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
}

void tkv_hint_put_header(const struct tkv_hint_identity *identity, uint8_t *p)
{
    put_prelude(p);
    memcpy(p + AT_UUID, identity->uuid, sizeof identity->uuid);
    tkv_put_le64(p + AT_NUMBER, identity->number);
    tkv_put_le64(p + AT_DATA_SIZE, identity->data_size);
    tkv_put_le32(p + AT_HEADER_CRC, tkv_crc32(0, p, AT_HEADER_CRC));
}

static void put_footer(struct tkv_hint_writer *w)
{
    uint8_t *p = w->bytes + w->size;

    tkv_put_le32(p + FOOTER_AT_ZERO, 0);
    tkv_put_le32(p + FOOTER_AT_BLOCK_COUNT, w->blocks);
    tkv_put_le64(p + FOOTER_AT_ENTRY_COUNT, w->count);
    tkv_put_le32(p + FOOTER_AT_BLOCKS_CRC, w->blocks_sum);
    tkv_put_le32(p + FOOTER_AT_CRC, tkv_crc32(0, p, FOOTER_AT_CRC));
}

/* No sync anywhere: after a power cut the hint may be empty or torn, and is then refused. */
static enum tkv_status publish(struct tkv_os *os, int dir, uint64_t number,
                               struct tkv_slice bytes, struct tkv_error *err)
{
    char temporary[TKV_FILE_NAME_SIZE], name[TKV_FILE_NAME_SIZE];
    const char *step = "create";
    int fd, result;

    tkv_hint_temporary_name(number, temporary);
    tkv_hint_name(number, name);
    fd = os->open(os, dir, temporary, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    result = fd;
    if (fd >= 0) {
        step = "write";
        result = tkv_os_write_all(os, fd, bytes.data, bytes.size, 0);
        if (result >= 0) {
            step = "close";
            result = os->close(os, fd);
        } else {
            (void)os->close(os, fd); /* the first failure is the one to report */
        }
    }
    if (result >= 0) {
        step = "rename";
        result = os->rename(os, dir, temporary, name);
    }
    if (result >= 0)
        return TKV_OK;
    (void)os->unlink(os, dir, temporary); /* best effort; opening a store removes it too */
    return tkv_fail_os(err, result, name, "%s %s", step, temporary);
}

size_t tkv_hint_writer_size(const struct tkv_hint_writer *writer)
{
    return writer->size + FOOTER_SIZE;
}

enum tkv_status tkv_hint_writer_write(struct tkv_hint_writer *writer, struct tkv_os *os,
                                      int dir, const struct tkv_hint_identity *identity,
                                      struct tkv_error *err)
{
    enum tkv_status status;

    assert(writer->data_size_min <= identity->data_size);

    status = reserve(writer, FOOTER_SIZE, err);
    if (status != TKV_OK)
        return status;
    if (writer->block != writer->size)
        close_block(writer);
    tkv_hint_put_header(identity, writer->bytes);
    put_footer(writer); /* not counted in `size`, so that a failed write may be repeated */
    return publish(os, dir, identity->number,
                   tkv_bytes(writer->bytes, writer->size + FOOTER_SIZE), err);
}
