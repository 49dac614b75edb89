/* SPDX-License-Identifier: MIT */
/*
 * hint.c - reading a hint: check everything first, then hand out entries without a doubt.
 *
 * When something fails nothing was handed out, and nothing is left behind.
 *
 * Threads: a hint belongs to one thread.
 */
#include "hint_format.h"

#include <errno.h>
#include <stdlib.h>

#include "bytes.h"
#include "error.h"
#include "file_name.h"

struct tkv_hint {
    size_t size;
    size_t at;        /* of the next entry, or of the block header before it */
    size_t block_end; /* `at` when the next block header is due */
    uint64_t count;   /* entries in all */
    uint64_t left;    /* entries not handed out yet */
    uint8_t bytes[];
};

/* ---- Entries ---- */

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

/* ---- Doubts: NULL, or what is wrong ---- */

static const char *wrong_with_header(const uint8_t *p,
                                     const struct tkv_hint_identity *identity)
{
    uint8_t expected[HEADER_SIZE];

    if (tkv_crc32(0, p, AT_HEADER_CRC) != tkv_get_le32(p + AT_HEADER_CRC))
        return "the header fails its checksum";
    tkv_hint_put_header(identity, expected);
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

/* Walks the blocks; *ret_at is where the trouble is, *ret_count the number of entries if there
 * is none. `bytes` is known to hold a header and a footer. */
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

/* ---- The file ---- */

/*
 * The largest hint that a data file of that size can have. An entry is at most 40 + K bytes
 * for a record of at least 24 + E + K: never twice as large, and the block headers (12 bytes
 * in 64 KiB) do not change that.
 */
static uint64_t hint_size_max(uint64_t data_size)
{
    return 4096 + 2 * data_size;
}

/* The whole file, with nothing known about it but its size. */
static enum tkv_status read_whole(struct tkv_os *os, int fd, const char *name,
                                  uint64_t data_size, struct tkv_hint **ret_hint,
                                  struct tkv_error *err)
{
    struct tkv_hint *hint;
    uint64_t size = 0;
    int result = os->file_size(os, fd, &size);

    if (result < 0)
        return tkv_fail_os(err, result, name, "size of %s", name);
    if (size < HEADER_SIZE + FOOTER_SIZE || size > hint_size_max(data_size))
        return tkv_fail_corrupt(err, name, size, 0,
                                "no hint of that data file has that size");
    hint = size < SIZE_MAX / 2 ? malloc(sizeof *hint + (size_t)size) : NULL;
    if (hint == NULL)
        return tkv_fail_memory(err, sizeof *hint + size, "a hint");
    hint->size = (size_t)size;
    result = tkv_os_read_all(os, fd, hint->bytes, hint->size, 0);
    if (result < 0) {
        free(hint);
        return tkv_fail_os(err, result, name, "read %s", name);
    }
    *ret_hint = hint;
    return TKV_OK;
}

enum tkv_status tkv_hint_open(struct tkv_os *os, int dir,
                              const struct tkv_hint_identity *identity,
                              struct tkv_hint **ret_hint, struct tkv_error *err)
{
    char name[TKV_FILE_NAME_SIZE];
    struct tkv_hint *hint = NULL;
    enum tkv_status status;
    const char *wrong;
    size_t at;
    int fd;

    tkv_hint_name(identity->number, name);
    fd = os->open(os, dir, name, TKV_OS_READ);
    if (fd == -ENOENT)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no %s", name);
    if (fd < 0)
        return tkv_fail_os(err, fd, name, "open %s", name);
    status = read_whole(os, fd, name, identity->data_size, &hint, err);
    (void)os->close(os, fd); /* it was only read */
    if (status != TKV_OK)
        return status;

    wrong = verify(hint, identity, &at);
    if (wrong != NULL) {
        free(hint);
        return tkv_fail_corrupt(err, name, at, 0, "%s", wrong);
    }
    tkv_hint_rewind(hint);
    *ret_hint = hint;
    return TKV_OK;
}

/* ---- One entry after another ---- */

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
