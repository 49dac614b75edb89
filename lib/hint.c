/* SPDX-License-Identifier: MIT */
#include "hint.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "bytes.h"
#include "checksum.h"
#include "error.h"
#include "file_name.h"

static const uint8_t magic[8] = {'T', 'K', 'V', 'H', 'I', 'N', 'T', 'S'};

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

/* Small enough that the bytes are still in the second-level cache when they are parsed after
 * they were summed. A block is closed by the entry that makes it this large. */
enum { BLOCK_SIZE_WANTED = 64 * 1024 };

#define NUMBER_END ((uint64_t)1 << 63)
#define EXPIRY_END ((uint64_t)1 << 63)

/*
 * The largest hint that a data file of that size can have. An entry is at most 40 + K bytes
 * for a record of at least 24 + E + K: never twice as large, and the block headers (12 bytes
 * in 64 KiB) do not change that.
 */
static uint64_t hint_size_max(uint64_t data_size)
{
    return 4096 + 2 * data_size;
}

/* What no writer writes: the reader refuses it and the writer asserts it. Everything but
 * whether the record lies within the data file, whose size the writer learns last. */
static bool entry_is_sane(const struct tkv_hint_entry *e)
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

static void put_prelude(uint8_t *p)
{
    memcpy(p, magic, sizeof magic);
    tkv_put_le32(p + AT_VERSION, TKV_HINT_VERSION);
    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
}

static void put_header(const struct tkv_hint_identity *identity, uint8_t *p)
{
    put_prelude(p);
    memcpy(p + AT_UUID, identity->uuid, sizeof identity->uuid);
    tkv_put_le64(p + AT_NUMBER, identity->number);
    tkv_put_le64(p + AT_DATA_SIZE, identity->data_size);
    tkv_put_le32(p + AT_HEADER_CRC, tkv_crc32(0, p, AT_HEADER_CRC));
}

/* Of a block's size, its count and its entries; its place in the file is what the footer's
 * sum over these sums is for. */
static uint32_t sum_block(const uint8_t *block, size_t entries_size)
{
    const uint32_t sum = tkv_crc32(0, block, BLOCK_AT_CRC);

    return tkv_crc32(sum, block + BLOCK_HEADER_SIZE, entries_size);
}

/* ---- Writing ---- */

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
    put_header(identity, writer->bytes);
    put_footer(writer); /* not counted in `size`, so that a failed write may be repeated */
    return publish(os, dir, identity->number,
                   tkv_bytes(writer->bytes, writer->size + FOOTER_SIZE), err);
}

/* ---- Reading: check everything first, then hand out entries without a doubt. ---- */

struct tkv_hint {
    size_t size;
    size_t at;        /* of the next entry, or of the block header before it */
    size_t block_end; /* `at` when the next block header is due */
    uint64_t count;   /* entries in all */
    uint64_t left;    /* entries not handed out yet */
    uint8_t bytes[];
};

/* The entry at the start of `in`: its size, or 0 when it does not fit or makes no sense. */
static size_t get_entry(struct tkv_slice in, struct tkv_hint_entry *ret)
{
    const uint8_t *p = in.data;
    struct tkv_hint_entry e;
    size_t key_size, key_at;
    bool expires, large;

    if (in.size < ENTRY_HEADER_SIZE || (p[ENTRY_AT_FLAGS] & ~FLAG_EXPIRY) != 0)
        return 0;
    expires = (p[ENTRY_AT_FLAGS] & FLAG_EXPIRY) != 0;
    large = p[ENTRY_AT_KIND] == TKV_RECORD_LARGE;
    key_size = tkv_get_le16(p + ENTRY_AT_KEY_SIZE);
    key_at = ENTRY_HEADER_SIZE + (expires ? 8u : 0u) + (large ? 8u : 0u);
    if (in.size < key_at + key_size)
        return 0;

    e.kind = (enum tkv_record_kind)p[ENTRY_AT_KIND];
    e.seq = tkv_get_le64(p + ENTRY_AT_SEQ);
    e.offset = tkv_get_le64(p + ENTRY_AT_OFFSET);
    e.size = tkv_get_le32(p + ENTRY_AT_SIZE);
    e.expires_at_ms = expires ? tkv_get_le64(p + ENTRY_HEADER_SIZE) : 0;
    e.large_number = large ? tkv_get_le64(p + key_at - 8) : 0;
    e.key = tkv_bytes(p + key_at, key_size);
    if (expires && e.expires_at_ms == 0)
        return 0;
    *ret = e;
    return key_at + key_size;
}

static const char *wrong_with_header(const uint8_t *p,
                                     const struct tkv_hint_identity *identity)
{
    uint8_t expected[HEADER_SIZE];

    if (tkv_crc32(0, p, AT_HEADER_CRC) != tkv_get_le32(p + AT_HEADER_CRC))
        return "the header fails its checksum";
    put_header(identity, expected);
    if (memcmp(p, expected, AT_UUID) != 0)
        return "this is not a hint of this version";
    if (memcmp(p + AT_UUID, expected + AT_UUID, AT_NUMBER - AT_UUID) != 0)
        return "it belongs to another store";
    if (memcmp(p + AT_NUMBER, expected + AT_NUMBER, AT_DATA_SIZE - AT_NUMBER) != 0)
        return "it belongs to another data file";
    if (memcmp(p + AT_DATA_SIZE, expected + AT_DATA_SIZE, AT_HEADER_CRC - AT_DATA_SIZE) !=
        0)
        return "the data file had another size";
    return NULL;
}

static const char *wrong_with_entries(struct tkv_slice entries, uint32_t count,
                                      uint64_t data_size)
{
    const uint8_t *p = entries.data;
    size_t left = entries.size;

    for (uint32_t i = 0; i < count; i++) {
        struct tkv_hint_entry e;
        const size_t size = get_entry(tkv_bytes(p, left), &e);

        if (size == 0 || !entry_is_sane(&e))
            return "an entry makes no sense";
        if (e.offset > data_size || e.size > data_size - e.offset)
            return "an entry lies outside its data file";
        p += size;
        left -= size;
    }
    return left == 0 ? NULL : "a block holds more than its entries";
}

/* Walks the blocks; *ret_at is where the trouble is, or the number of entries when there is
 * none. `bytes` is known to hold a header and a footer. */
static const char *wrong_with_blocks(struct tkv_slice bytes, uint64_t data_size,
                                     size_t *ret_at, uint64_t *ret_count)
{
    const uint8_t *const p = bytes.data;
    const size_t end = bytes.size - FOOTER_SIZE;
    const uint8_t *const footer = p + end;
    uint32_t blocks = 0, blocks_sum = 0;
    uint64_t count = 0;
    size_t at = end;

    *ret_at = at;
    if (tkv_get_le32(footer + FOOTER_AT_ZERO) != 0 ||
        tkv_crc32(0, footer, FOOTER_AT_CRC) != tkv_get_le32(footer + FOOTER_AT_CRC))
        return "the footer fails its checksum";

    for (at = HEADER_SIZE; at < end; blocks++) {
        const uint8_t *block = p + at;
        const char *wrong;
        uint32_t size, block_count;

        *ret_at = at;
        if (end - at < BLOCK_HEADER_SIZE)
            return "a block is cut off";
        size = tkv_get_le32(block + BLOCK_AT_SIZE);
        block_count = tkv_get_le32(block + BLOCK_AT_COUNT);
        if (size == 0 || size > end - at - BLOCK_HEADER_SIZE)
            return "a block has an impossible size";
        if (sum_block(block, size) != tkv_get_le32(block + BLOCK_AT_CRC))
            return "a block fails its checksum";
        wrong = wrong_with_entries(tkv_bytes(block + BLOCK_HEADER_SIZE, size), block_count,
                                   data_size);
        if (wrong != NULL)
            return wrong;
        blocks_sum = tkv_crc32(blocks_sum, block + BLOCK_AT_CRC, 4);
        count += block_count;
        at += BLOCK_HEADER_SIZE + size;
    }
    *ret_at = end;
    if (blocks != tkv_get_le32(footer + FOOTER_AT_BLOCK_COUNT) ||
        count != tkv_get_le64(footer + FOOTER_AT_ENTRY_COUNT) ||
        blocks_sum != tkv_get_le32(footer + FOOTER_AT_BLOCKS_CRC))
        return "the blocks are not those that the footer counts";
    *ret_count = count;
    return NULL;
}

static const char *verify(struct tkv_hint *hint, const struct tkv_hint_identity *identity,
                          size_t *ret_at)
{
    const char *wrong = wrong_with_header(hint->bytes, identity);

    *ret_at = 0;
    if (wrong != NULL)
        return wrong;
    return wrong_with_blocks(tkv_bytes(hint->bytes, hint->size), identity->data_size,
                             ret_at, &hint->count);
}

enum tkv_status tkv_hint_open(struct tkv_os *os, int dir,
                              const struct tkv_hint_identity *identity,
                              struct tkv_hint **ret_hint, struct tkv_error *err)
{
    char name[TKV_FILE_NAME_SIZE];
    struct tkv_hint *hint = NULL;
    enum tkv_status status;
    const char *wrong;
    uint64_t size = 0;
    size_t at = 0;
    int fd, result;

    tkv_hint_name(identity->number, name);
    fd = os->open(os, dir, name, TKV_OS_READ);
    if (fd == -ENOENT)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no %s", name);
    if (fd < 0)
        return tkv_fail_os(err, fd, name, "open %s", name);

    result = os->file_size(os, fd, &size);
    if (result < 0) {
        status = tkv_fail_os(err, result, name, "size of %s", name);
        goto out;
    }
    if (size < HEADER_SIZE + FOOTER_SIZE || size > hint_size_max(identity->data_size)) {
        status =
            tkv_fail_corrupt(err, name, size, 0, "no hint of that data file has that size");
        goto out;
    }
    hint = malloc(sizeof *hint + (size_t)size);
    if (hint == NULL) {
        status = tkv_fail_memory(err, sizeof *hint + (size_t)size, "a hint");
        goto out;
    }
    hint->size = (size_t)size;
    result = tkv_os_read_all(os, fd, hint->bytes, hint->size, 0);
    if (result < 0) {
        status = tkv_fail_os(err, result, name, "read %s", name);
        goto out;
    }
    wrong = verify(hint, identity, &at);
    if (wrong != NULL) {
        status = tkv_fail_corrupt(err, name, at, 0, "%s", wrong);
        goto out;
    }
    hint->at = hint->block_end = HEADER_SIZE;
    hint->left = hint->count;
    *ret_hint = hint;
    hint = NULL;
    status = TKV_OK;
out:
    free(hint);
    (void)os->close(os, fd); /* it was only read */
    return status;
}

uint64_t tkv_hint_count(const struct tkv_hint *hint)
{
    return hint->count;
}

bool tkv_hint_next(struct tkv_hint *hint, struct tkv_hint_entry *ret_entry)
{
    size_t size;

    if (hint->left == 0)
        return false;
    if (hint->at == hint->block_end) {
        const uint8_t *block = hint->bytes + hint->at;

        hint->at += BLOCK_HEADER_SIZE;
        hint->block_end = hint->at + tkv_get_le32(block + BLOCK_AT_SIZE);
    }
    size =
        get_entry(tkv_bytes(hint->bytes + hint->at, hint->block_end - hint->at), ret_entry);
    assert(size != 0); /* it was verified when the hint was opened */
    hint->at += size;
    hint->left--;
    return true;
}

void tkv_hint_rewind(struct tkv_hint *hint)
{
    hint->at = hint->block_end = HEADER_SIZE;
    hint->left = hint->count;
}

void tkv_hint_free(struct tkv_hint *hint)
{
    free(hint);
}
