/* SPDX-License-Identifier: MIT */
#include "group.h"

#include "checksum.h"
#include "error.h"
#include "file_name.h"
#include "record.h"

#include <assert.h>

enum {
    AT_SALT = 0,
    AT_HEADER_CRC = 8,
    AT_PAYLOAD_SIZE = 12,
    AT_POSITION = 16,
    AT_SEQ = 24,
    AT_DURABLE = 32,
    AT_COUNT = 40,
    AT_TYPE = 44,
    AT_FLAGS = 45,
    AT_ZERO = 46,
    AT_CHAIN = 48,
    AT_PAYLOAD_CRC = 52
};

static_assert(AT_PAYLOAD_CRC + 4 == TKV_GROUP_HEADER_SIZE, "the picture in group.h");
static_assert(TKV_GROUP_HEADER_SIZE % 8 == 0, "no header word straddles a sector");

uint64_t tkv_group_extent(uint32_t payload_size, bool ends_at_block)
{
    const uint64_t size = TKV_GROUP_HEADER_SIZE + (uint64_t)payload_size;

    return tkv_round_up(size, ends_at_block ? TKV_BLOCK_SIZE : 8);
}

uint32_t tkv_group_seed(const uint8_t uuid[16], uint64_t file_offset)
{
    uint8_t identity[24];

    memcpy(identity, uuid, 16);
    tkv_put_le64(identity + 16, file_offset);
    return tkv_crc32(0, identity, sizeof identity);
}

static uint32_t header_crc(const uint8_t *header, uint32_t seed)
{
    const uint32_t crc = tkv_crc32(seed, header, AT_HEADER_CRC);

    return tkv_crc32(crc, header + AT_PAYLOAD_SIZE,
                     TKV_GROUP_HEADER_SIZE - AT_PAYLOAD_SIZE);
}

uint32_t tkv_group_encode(const struct tkv_group *group, uint32_t seed, uint8_t *out)
{
    uint32_t payload_crc, crc;

    assert(group->salt != 0);
    assert(group->seq != 0);
    assert(group->position % 8 == 0);
    assert(group->durable <= group->position);
    assert(group->count > 0);

    payload_crc = tkv_crc32(seed, out + TKV_GROUP_HEADER_SIZE, group->payload_size);
    tkv_put_le64(out + AT_SALT, group->salt);
    tkv_put_le32(out + AT_PAYLOAD_SIZE, group->payload_size);
    tkv_put_le64(out + AT_POSITION, group->position);
    tkv_put_le64(out + AT_SEQ, group->seq);
    tkv_put_le64(out + AT_DURABLE, group->durable);
    tkv_put_le32(out + AT_COUNT, group->count);
    out[AT_TYPE] = TKV_GROUP_TYPE_RECORDS;
    out[AT_FLAGS] = group->ends_at_block ? TKV_GROUP_FLAG_BLOCKS : 0;
    tkv_put_le16(out + AT_ZERO, 0);
    tkv_put_le32(out + AT_CHAIN, group->chain);
    tkv_put_le32(out + AT_PAYLOAD_CRC, payload_crc);
    crc = header_crc(out, seed);
    tkv_put_le32(out + AT_HEADER_CRC, crc);
    return crc ^ payload_crc;
}

bool tkv_group_decode_header(const uint8_t bytes[TKV_GROUP_HEADER_SIZE], uint32_t seed,
                             struct tkv_group *ret_group)
{
    struct tkv_group g;

    g.salt = tkv_get_le64(bytes + AT_SALT);
    if (g.salt == 0 || header_crc(bytes, seed) != tkv_get_le32(bytes + AT_HEADER_CRC))
        return false;

    g.payload_size = tkv_get_le32(bytes + AT_PAYLOAD_SIZE);
    g.position = tkv_get_le64(bytes + AT_POSITION);
    g.seq = tkv_get_le64(bytes + AT_SEQ);
    g.durable = tkv_get_le64(bytes + AT_DURABLE);
    g.count = tkv_get_le32(bytes + AT_COUNT);
    g.chain = tkv_get_le32(bytes + AT_CHAIN);
    g.ends_at_block = (bytes[AT_FLAGS] & TKV_GROUP_FLAG_BLOCKS) != 0;

    if (bytes[AT_TYPE] != TKV_GROUP_TYPE_RECORDS ||
        (bytes[AT_FLAGS] & ~TKV_GROUP_FLAG_BLOCKS) != 0 ||
        tkv_get_le16(bytes + AT_ZERO) != 0)
        return false;
    if (g.position % 8 != 0 || g.durable > g.position || g.seq == 0 || g.count == 0)
        return false;
    *ret_group = g;
    return true;
}

static bool records_are_as_announced(const struct tkv_group *group, const uint8_t *payload)
{
    struct tkv_slice rest = tkv_bytes(payload, group->payload_size);
    struct tkv_record record;

    for (uint32_t i = 0; i < group->count; i++) {
        size_t size;

        if (tkv_record_decode(rest, &record) != TKV_RECORD_GOOD)
            return false;
        if (record.seq != group->seq + i)
            return false;
        size = tkv_record_size(&record);
        rest = tkv_bytes((const uint8_t *)rest.data + size, rest.size - size);
    }
    return rest.size == 0;
}

bool tkv_group_check_payload(const struct tkv_group *group, const uint8_t *header,
                             const uint8_t *payload, uint32_t seed, uint32_t *ret_chain)
{
    const uint32_t payload_crc = tkv_get_le32(header + AT_PAYLOAD_CRC);

    if (tkv_crc32(seed, payload, group->payload_size) != payload_crc)
        return false;
    if (!records_are_as_announced(group, payload))
        return false;
    *ret_chain = tkv_get_le32(header + AT_HEADER_CRC) ^ payload_crc;
    return true;
}

/* ---- Header blocks ------------------------------------------------------------------- */

static const uint8_t magic[8] = {'T', 'K', 'V', 'W', 'A', 'L', '\r', '\n'};

enum {
    HEADER_AT_CRC = 8,
    HEADER_AT_VERSION = 12,
    HEADER_AT_UUID = 16,
    HEADER_AT_GENERATION = 32,
    HEADER_AT_SALT = 40,
    HEADER_AT_POSITION = 48,
    HEADER_AT_FILE_OFFSET = 56,
    HEADER_AT_SEQ_NEXT = 64,
    HEADER_AT_CHAIN = 72,
    HEADER_AT_FILE_COUNT = 76,
    HEADER_AT_EPOCH = 80,
    HEADER_AT_DURABLE_MARK = 88,
    HEADER_AT_RING_END = 96,
    HEADER_AT_FLAGS = 104,
    HEADER_AT_FILES = 112,
    HEADER_FILE_SIZE = 16,
    HEADER_AT_SUMS = 2768,
    HEADER_SUM_SIZE = 8
};

#define HEADER_FLAG_CLEAN 1u
#define FILE_IS_SEALED    (UINT64_C(1) << 63)

static_assert(HEADER_AT_FILES + TKV_WAL_HEADER_FILES_MAX * HEADER_FILE_SIZE ==
                  HEADER_AT_SUMS,
              "no gap, no overlap");
static_assert(
    HEADER_AT_SUMS + TKV_WAL_HEADER_FILES_MAX * HEADER_SUM_SIZE == TKV_BLOCK_SIZE,
    "a header is one block, which a crash tears as a whole or the checksum tells");

void tkv_wal_header_encode(const struct tkv_wal_header *header, uint8_t out[TKV_BLOCK_SIZE])
{
    const struct tkv_checkpoint *c = &header->checkpoint;

    assert(header->file_count <= TKV_WAL_HEADER_FILES_MAX);
    assert(c->salt != 0);
    assert(c->seq_next != 0);

    memset(out, 0, TKV_BLOCK_SIZE);
    memcpy(out, magic, sizeof magic);
    tkv_put_le32(out + HEADER_AT_VERSION, TKV_FORMAT_VERSION);
    memcpy(out + HEADER_AT_UUID, header->uuid, 16);
    tkv_put_le64(out + HEADER_AT_GENERATION, c->generation);
    tkv_put_le64(out + HEADER_AT_SALT, c->salt);
    tkv_put_le64(out + HEADER_AT_POSITION, c->position);
    tkv_put_le64(out + HEADER_AT_FILE_OFFSET, c->file_offset);
    tkv_put_le64(out + HEADER_AT_SEQ_NEXT, c->seq_next);
    tkv_put_le32(out + HEADER_AT_CHAIN, c->chain);
    tkv_put_le32(out + HEADER_AT_FILE_COUNT, header->file_count);
    tkv_put_le64(out + HEADER_AT_EPOCH, header->manifest_epoch);
    tkv_put_le64(out + HEADER_AT_DURABLE_MARK, header->durable_mark);
    tkv_put_le64(out + HEADER_AT_RING_END, header->ring_end);
    tkv_put_le32(out + HEADER_AT_FLAGS, header->clean ? HEADER_FLAG_CLEAN : 0);
    for (uint32_t i = 0; i < header->file_count; i++) {
        const struct tkv_wal_header_file *f = &header->files[i];
        uint8_t *at = out + HEADER_AT_FILES + i * HEADER_FILE_SIZE;

        tkv_put_le64(at, f->number | (f->sealed ? FILE_IS_SEALED : 0));
        tkv_put_le64(at + 8, f->durable_size);
        tkv_put_le64(out + HEADER_AT_SUMS + i * HEADER_SUM_SIZE, f->record_sum);
    }
    tkv_put_le32(out + HEADER_AT_CRC,
                 tkv_crc32(0, out + HEADER_AT_VERSION, TKV_BLOCK_SIZE - HEADER_AT_VERSION));
}

static bool header_is_sane(const struct tkv_wal_header *h)
{
    const struct tkv_checkpoint *c = &h->checkpoint;

    return c->salt != 0 && c->seq_next != 0 && c->position % 8 == 0 &&
           c->file_offset % 8 == 0 && c->file_offset >= TKV_WAL_RING_START &&
           c->file_offset <= h->ring_end && h->ring_end % TKV_BLOCK_SIZE == 0 &&
           h->file_count <= TKV_WAL_HEADER_FILES_MAX;
}

enum tkv_status tkv_wal_header_decode(const uint8_t bytes[TKV_BLOCK_SIZE], uint64_t offset,
                                      struct tkv_wal_header *ret_header,
                                      struct tkv_error *err)
{
    struct tkv_wal_header h;

    if (memcmp(bytes, magic, sizeof magic) != 0)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, offset, 0, "no header block");
    if (tkv_crc32(0, bytes + HEADER_AT_VERSION, TKV_BLOCK_SIZE - HEADER_AT_VERSION) !=
        tkv_get_le32(bytes + HEADER_AT_CRC))
        return tkv_fail_corrupt(err, TKV_WAL_NAME, offset, 0, "header block checksum");
    if (tkv_get_le32(bytes + HEADER_AT_VERSION) != TKV_FORMAT_VERSION)
        return tkv_fail(err, TKV_UNSUPPORTED,
                        "%s has format version %lu, this is version %u", TKV_WAL_NAME,
                        (unsigned long)tkv_get_le32(bytes + HEADER_AT_VERSION),
                        TKV_FORMAT_VERSION);

    memset(&h, 0, sizeof h);
    memcpy(h.uuid, bytes + HEADER_AT_UUID, 16);
    h.checkpoint.generation = tkv_get_le64(bytes + HEADER_AT_GENERATION);
    h.checkpoint.salt = tkv_get_le64(bytes + HEADER_AT_SALT);
    h.checkpoint.position = tkv_get_le64(bytes + HEADER_AT_POSITION);
    h.checkpoint.file_offset = tkv_get_le64(bytes + HEADER_AT_FILE_OFFSET);
    h.checkpoint.seq_next = tkv_get_le64(bytes + HEADER_AT_SEQ_NEXT);
    h.checkpoint.chain = tkv_get_le32(bytes + HEADER_AT_CHAIN);
    h.file_count = tkv_get_le32(bytes + HEADER_AT_FILE_COUNT);
    h.manifest_epoch = tkv_get_le64(bytes + HEADER_AT_EPOCH);
    h.durable_mark = tkv_get_le64(bytes + HEADER_AT_DURABLE_MARK);
    h.ring_end = tkv_get_le64(bytes + HEADER_AT_RING_END);
    h.clean = (tkv_get_le32(bytes + HEADER_AT_FLAGS) & HEADER_FLAG_CLEAN) != 0;
    if (!header_is_sane(&h))
        return tkv_fail_corrupt(err, TKV_WAL_NAME, offset, 0, "header block out of range");
    for (uint32_t i = 0; i < h.file_count; i++) {
        const uint8_t *at = bytes + HEADER_AT_FILES + i * HEADER_FILE_SIZE;
        const uint64_t number = tkv_get_le64(at);

        h.files[i].number = number & ~FILE_IS_SEALED;
        h.files[i].sealed = (number & FILE_IS_SEALED) != 0;
        h.files[i].durable_size = tkv_get_le64(at + 8);
        h.files[i].record_sum = tkv_get_le64(bytes + HEADER_AT_SUMS + i * HEADER_SUM_SIZE);
    }
    *ret_header = h;
    return TKV_OK;
}
