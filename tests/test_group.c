/* SPDX-License-Identifier: MIT */
/*
 * The bytes of wal.log: a group or a header block is read as it was written, where it was
 * written, or not at all.
 *
 * Method: encode, change one thing - every bit, every field with the checksums right again -
 * and decode.
 */
#include "group.h"

#include "bytes.h"
#include "checksum.h"
#include "record.h"
#include "test.h"

TEST_MAIN

static const uint8_t uuid[16] = "sixteen bytes...";

#define GROUP_AT UINT64_C(8192)

/* ---- Groups -------------------------------------------------------------------------- */

struct written {
    struct tkv_group group;
    uint8_t bytes[512];
    uint32_t chain;
};

static size_t add_record(uint8_t *out, uint64_t seq, const char *key, const char *value)
{
    const struct tkv_record record = {
        .kind = TKV_RECORD_PUT, .key = tkv_text(key), .value = tkv_text(value)};

    tkv_record_seal(out, tkv_record_encode(&record, out), seq);
    return tkv_record_size(&record);
}

/* Two records, with sequence numbers from 7 on. */
static struct written write_group(void)
{
    struct written w = {
        .group = {.salt = 0x1122334455667788,
                  .position = 4096,
                  .seq = 7,
                  .durable = 4088,
                  .count = 2,
                  .chain = 0xabcdef01,
                  .ends_at_block = true}
    };
    size_t size = add_record(w.bytes + TKV_GROUP_HEADER_SIZE, 7, "a", "1");

    size += add_record(w.bytes + TKV_GROUP_HEADER_SIZE + size, 8, "bb", "22");
    w.group.payload_size = (uint32_t)size;
    w.chain = tkv_group_encode(&w.group, tkv_group_seed(uuid, GROUP_AT), w.bytes);
    return w;
}

static bool reads(const struct written *w, uint64_t offset, struct tkv_group *ret_group,
                  uint32_t *ret_chain)
{
    const uint32_t seed = tkv_group_seed(uuid, offset);

    return tkv_group_decode_header(w->bytes, seed, ret_group) &&
           ret_group->payload_size <= sizeof w->bytes - TKV_GROUP_HEADER_SIZE &&
           tkv_group_check_payload(ret_group, w->bytes, w->bytes + TKV_GROUP_HEADER_SIZE,
                                   seed, ret_chain);
}

static bool is_readable(const struct written *w, uint64_t offset)
{
    struct tkv_group group;
    uint32_t chain;

    return reads(w, offset, &group, &chain);
}

/* Both checksums right again, whatever the bytes are now. */
static void seal_again(struct written *w, uint32_t payload_size)
{
    const uint32_t seed = tkv_group_seed(uuid, GROUP_AT);

    tkv_put_le32(w->bytes + 52,
                 tkv_crc32(seed, w->bytes + TKV_GROUP_HEADER_SIZE, payload_size));
    tkv_put_le32(w->bytes + 8, tkv_crc32(tkv_crc32(seed, w->bytes, 8), w->bytes + 12,
                                         TKV_GROUP_HEADER_SIZE - 12));
}

TEST(a_group_is_read_as_it_was_written)
{
    for (int ends_at_block = 0; ends_at_block < 2; ends_at_block++) {
        struct written w = write_group();
        struct tkv_group g;
        uint32_t chain;

        w.group.ends_at_block = ends_at_block;
        w.chain = tkv_group_encode(&w.group, tkv_group_seed(uuid, GROUP_AT), w.bytes);
        CHECK(reads(&w, GROUP_AT, &g, &chain));
        CHECK_EQ(g.salt, w.group.salt);
        CHECK_EQ(g.position, w.group.position);
        CHECK_EQ(g.seq, 7);
        CHECK_EQ(g.durable, w.group.durable);
        CHECK_EQ(g.payload_size, w.group.payload_size);
        CHECK_EQ(g.count, 2);
        CHECK_EQ(g.chain, w.group.chain);
        CHECK_EQ(g.ends_at_block, ends_at_block);
        CHECK_EQ(chain, w.chain);
        CHECK_EQ(chain, tkv_get_le32(w.bytes + 8) ^ tkv_get_le32(w.bytes + 52));
    }
}

TEST(a_group_is_laid_out_as_documented)
{
    const struct written w = write_group();

    CHECK_EQ(tkv_get_le64(w.bytes), w.group.salt);
    CHECK_EQ(tkv_get_le32(w.bytes + 12), w.group.payload_size);
    CHECK_EQ(tkv_get_le64(w.bytes + 16), 4096);
    CHECK_EQ(tkv_get_le64(w.bytes + 24), 7);
    CHECK_EQ(tkv_get_le64(w.bytes + 32), 4088);
    CHECK_EQ(tkv_get_le32(w.bytes + 40), 2);
    CHECK_EQ(w.bytes[44], 1);
    CHECK_EQ(w.bytes[45], 1);
    CHECK_EQ(tkv_get_le16(w.bytes + 46), 0);
    CHECK_EQ(tkv_get_le32(w.bytes + 48), 0xabcdef01);
}

TEST(every_byte_of_a_groups_header_is_written)
{
    const struct written w = write_group();
    struct written again = w;

    memset(again.bytes, 0xff, TKV_GROUP_HEADER_SIZE);
    CHECK_EQ(tkv_group_encode(&w.group, tkv_group_seed(uuid, GROUP_AT), again.bytes),
             w.chain);
    CHECK(memcmp(again.bytes, w.bytes, sizeof w.bytes) == 0);
}

TEST(the_first_group_of_a_store_counts_and_one_without_records_does_not)
{
    for (uint32_t count = 0; count < 2; count++) {
        struct written w = write_group();
        uint32_t size = 0;

        if (count == 1)
            size = (uint32_t)add_record(w.bytes + TKV_GROUP_HEADER_SIZE, 1, "a", "1");
        tkv_put_le32(w.bytes + 12, size);
        tkv_put_le64(w.bytes + 24, 1);
        tkv_put_le32(w.bytes + 40, count);
        seal_again(&w, size);
        CHECK_EQ(is_readable(&w, GROUP_AT), count == 1);
        w.bytes[TKV_GROUP_HEADER_SIZE + 4] ^= 1; /* and not when its record is damaged */
        seal_again(&w, size);
        CHECK(!is_readable(&w, GROUP_AT));
    }
}

/* As docs/format.md has it: files of other versions begin with the same. */
TEST(a_seed_is_the_checksum_of_the_store_and_the_place)
{
    uint8_t identity[24];

    memcpy(identity, uuid, sizeof uuid);
    tkv_put_le64(identity + 16, GROUP_AT);
    CHECK_EQ(tkv_group_seed(uuid, GROUP_AT), tkv_crc32(0, identity, sizeof identity));
}

/* The same bytes as in docs/format.md. */
TEST(the_bytes_of_a_group_never_change)
{
    static const uint8_t store[] = {
        0x28, 0xbd, 0x81, 0xfb, 0x2a, 0xaa, 0x3c, 0x2b,
        0xd6, 0x8c, 0xbe, 0x9e, 0x5f, 0x03, 0xdd, 0x61,
    };
    static const uint8_t golden[] = {
        0x01, 0x1b, 0xb0, 0x9e, 0x5c, 0xac, 0xd5, 0x11, 0xe5, 0x28, 0xba, 0x0e, 0x21, 0x00,
        0x00, 0x00, 0x00, 0x50, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x50, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64, 0xf6, 0x10, 0x33,
        0xb5, 0x05, 0x95, 0xfe, 0x05, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x04, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6e, 0x61, 0x6d, 0x65,
        0x76, 0x61, 0x6c, 0x75, 0x65, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    const uint32_t seed = tkv_group_seed(store, GROUP_AT);
    uint8_t bytes[sizeof golden] = {0};
    struct tkv_group g;
    uint32_t chain;

    CHECK(tkv_group_decode_header(golden, seed, &g));
    CHECK(
        tkv_group_check_payload(&g, golden, golden + TKV_GROUP_HEADER_SIZE, seed, &chain));
    CHECK_EQ(g.position, 0x205000);
    CHECK_EQ(g.durable, 0x205000);
    CHECK_EQ(g.seq, 3);
    CHECK_EQ(g.count, 1);
    CHECK_EQ(add_record(bytes + TKV_GROUP_HEADER_SIZE, 3, "name", "value"), g.payload_size);
    CHECK_EQ(tkv_group_encode(&g, seed, bytes), chain);
    CHECK(memcmp(bytes, golden, sizeof golden) == 0);
}

TEST(every_flipped_bit_of_a_group_is_noticed)
{
    const struct written good = write_group();

    for (size_t bit = 0; bit < 8 * (TKV_GROUP_HEADER_SIZE + good.group.payload_size);
         bit++) {
        struct written w = good;

        w.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(!is_readable(&w, GROUP_AT));
    }
}

TEST(a_group_counts_only_where_it_was_written_and_in_its_own_store)
{
    const struct written w = write_group();
    const uint8_t other[16] = "another store..";
    struct tkv_group g;
    uint32_t chain;

    CHECK(is_readable(&w, GROUP_AT));
    CHECK(!is_readable(&w, GROUP_AT + 8));
    CHECK(!tkv_group_decode_header(w.bytes, tkv_group_seed(other, GROUP_AT), &g));
    CHECK(tkv_group_decode_header(w.bytes, tkv_group_seed(uuid, GROUP_AT), &g));
    CHECK(!tkv_group_check_payload(&g, w.bytes, w.bytes + TKV_GROUP_HEADER_SIZE,
                                   tkv_group_seed(other, GROUP_AT), &chain));
}

/* Each value that no writer produces, with every checksum right. */
TEST(a_group_that_no_writer_produces_is_refused)
{
    static const struct {
        size_t at, size;
        uint64_t value;
        bool good;
    } cases[] = {
        {0,  8, 0,                 false}, /* salt */
        {0,  8, 1,                 true },
        {16, 8, 4100,              false}, /* position */
        {16, 8, 4104,              true },
        {16, 8, 4080,              false}, /* below what was durable */
        {16, 8, 4088,              true },
        {24, 8, 0,                 false}, /* seq */
        {32, 8, 4096,              true }, /* durable */
        {32, 8, 4097,              false},
        {40, 4, 0,                 false}, /* count */
        {40, 4, 1,                 false},
        {40, 4, 3,                 false},
        {44, 1, 0,                 false}, /* type */
        {44, 1, 2,                 false},
        {45, 1, 0,                 true }, /* flags */
        {45, 1, 2,                 false},
        {45, 1, 3,                 false},
        {46, 2, 1,                 false}, /* reserved */
        {24, 8, 6,                 false}, /* the records have others */
        {24, 8, 8,                 false},
        {24, 8, UINT64_C(1) << 63, false},
        {16, 8, UINT64_C(1) << 62, true },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct written w = write_group();

        for (size_t k = 0; k < cases[i].size; k++)
            w.bytes[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        seal_again(&w, w.group.payload_size);
        CHECK_EQ(is_readable(&w, GROUP_AT), cases[i].good);
    }
}

TEST(a_payload_is_its_records_and_nothing_else)
{
    for (int way = 0; way < 4; way++) {
        struct written w = write_group();
        uint8_t *payload = w.bytes + TKV_GROUP_HEADER_SIZE;
        uint32_t size = w.group.payload_size;

        if (way == 1)
            size++; /* a byte more */
        if (way == 2)
            payload[size - 1] ^= 1; /* the second record fails its own checksum */
        if (way == 3)
            payload[4] ^= 1; /* the first one does */
        tkv_put_le32(w.bytes + 12, size);
        seal_again(&w, size);
        CHECK_EQ(is_readable(&w, GROUP_AT), way == 0);
    }
}

TEST(a_group_ends_at_the_next_boundary)
{
    CHECK_EQ(tkv_group_extent(1, false), 64);
    CHECK_EQ(tkv_group_extent(8, false), 64);
    CHECK_EQ(tkv_group_extent(9, false), 72);
    CHECK_EQ(tkv_group_extent(1, true), 4096);
    CHECK_EQ(tkv_group_extent(4040, true), 4096);
    CHECK_EQ(tkv_group_extent(4041, true), 8192);
    CHECK_EQ(tkv_group_extent(UINT32_MAX, false), (UINT64_C(1) << 32) + 56);
}

/* ---- Header blocks ------------------------------------------------------------------- */

static struct tkv_wal_header some_header(void)
{
    static struct tkv_wal_header h; /* large; and its unused entries are zero */

    memset(&h, 0, sizeof h);
    memcpy(h.uuid, uuid, sizeof h.uuid);
    h.checkpoint = (struct tkv_checkpoint){.generation = 6,
                                           .salt = 77,
                                           .position = 81928,
                                           .file_offset = 8200,
                                           .seq_next = 4,
                                           .chain = 0x01020304};
    h.manifest_epoch = 9;
    h.durable_mark = 81928;
    h.ring_end = 65536;
    h.clean = true;
    h.file_count = 3;
    h.files[0] = (struct tkv_wal_header_file){1, 8192, true, UINT64_MAX};
    h.files[1] = (struct tkv_wal_header_file){2, 4096, false, 0};
    h.files[2] = (struct tkv_wal_header_file){INT64_MAX, UINT64_C(1) << 39, true, 3};
    return h;
}

static enum tkv_status decode(const uint8_t *block, struct tkv_wal_header *ret)
{
    struct tkv_error err;
    const enum tkv_status status = tkv_wal_header_decode(block, 4096, ret, &err);
    char version[40];

    if (status == TKV_CORRUPT) {
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.offset, 4096);
        CHECK_EQ(err.seq, 0);
    }
    if (status == TKV_UNSUPPORTED) {
        snprintf(version, sizeof version, "format version %u,",
                 (unsigned)tkv_get_le32(block + 12));
        CHECK(strstr(err.message, version) != NULL);
    }
    return status;
}

static void seal_block(uint8_t *block)
{
    tkv_put_le32(block + 8, tkv_crc32(0, block + 12, TKV_BLOCK_SIZE - 12));
}

TEST(a_header_block_is_read_as_it_was_written)
{
    const struct tkv_wal_header h = some_header();
    uint8_t block[TKV_BLOCK_SIZE];
    struct tkv_wal_header back;

    for (int clean = 0; clean < 2; clean++) {
        struct tkv_wal_header given = h;

        given.clean = clean;
        memset(block, 0xff, sizeof block);
        tkv_wal_header_encode(&given, block);
        CHECK_EQ(decode(block, &back), TKV_OK);
        CHECK(memcmp(&given, &back, sizeof given) == 0);
        CHECK(tkv_is_zero(block + 112 + 3 * 16, 2768 - 112 - 3 * 16));
        CHECK_EQ(tkv_get_le64(block + 2768 + 2 * 8), 3);
        CHECK(tkv_is_zero(block + 2768 + 3 * 8, TKV_BLOCK_SIZE - 2768 - 3 * 8));
    }
}

TEST(a_full_header_block_keeps_all_its_files)
{
    struct tkv_wal_header h = some_header(), back;
    uint8_t block[TKV_BLOCK_SIZE];

    h.file_count = TKV_WAL_HEADER_FILES_MAX;
    for (uint32_t i = 0; i < h.file_count; i++)
        h.files[i] =
            (struct tkv_wal_header_file){i + 1, 4096 * (i + 1), i % 2 == 0, ~(uint64_t)i};
    tkv_wal_header_encode(&h, block);
    CHECK_EQ(decode(block, &back), TKV_OK);
    CHECK(memcmp(&h, &back, sizeof h) == 0);
}

TEST(what_lies_behind_the_last_file_of_a_header_block_is_none)
{
    struct tkv_wal_header h = some_header(), back;
    uint8_t block[TKV_BLOCK_SIZE];

    h.files[3] = (struct tkv_wal_header_file){4, 4096, false, 4};
    h.file_count = 4;
    tkv_wal_header_encode(&h, block);
    tkv_put_le32(block + 76, 3);
    seal_block(block);
    CHECK_EQ(decode(block, &back), TKV_OK);
    CHECK_EQ(back.file_count, 3);
    CHECK(tkv_is_zero((const uint8_t *)&back.files[3], sizeof back.files[3]));
}

TEST(every_flipped_bit_of_a_header_block_is_noticed)
{
    const struct tkv_wal_header h = some_header();
    struct tkv_wal_header back;
    uint8_t block[TKV_BLOCK_SIZE];

    tkv_wal_header_encode(&h, block);
    for (size_t bit = 0; bit < 8 * sizeof block; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(decode(block, &back), TKV_CORRUPT);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

TEST(a_header_block_that_no_writer_produces_is_refused)
{
    static const struct {
        size_t at, size;
        uint64_t value;
        enum tkv_status status;
    } cases[] = {
        {12, 4, 2,                            TKV_UNSUPPORTED}, /* version */
        {12, 4, 0,                            TKV_UNSUPPORTED},
        {40, 8, 0,                            TKV_CORRUPT    }, /* salt */
        {48, 8, 81924,                        TKV_CORRUPT    }, /* position */
        {48, 8, 81936,                        TKV_OK         },
        {56, 8, 8204,                         TKV_CORRUPT    }, /* file offset */
        {56, 8, 8192,                         TKV_OK         },
        {56, 8, 8184,                         TKV_CORRUPT    },
        {56, 8, 65536,                        TKV_OK         },
        {56, 8, 65544,                        TKV_CORRUPT    },
        {64, 8, 0,                            TKV_CORRUPT    }, /* seq next */
        {76, 4, TKV_WAL_HEADER_FILES_MAX,     TKV_OK         }, /* files */
        {76, 4, TKV_WAL_HEADER_FILES_MAX + 1, TKV_CORRUPT    },
        {96, 8, 65536 + 512,                  TKV_CORRUPT    }, /* ring end */
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct tkv_wal_header h = some_header();
        struct tkv_wal_header back;
        uint8_t block[TKV_BLOCK_SIZE];

        tkv_wal_header_encode(&h, block);
        for (size_t k = 0; k < cases[i].size; k++)
            block[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        seal_block(block);
        CHECK_EQ(decode(block, &back), cases[i].status);
    }
}

/* The same bytes as in docs/format.md. */
TEST(the_bytes_of_a_header_block_never_change)
{
    static const uint8_t golden[] = {
        0x54, 0x4b, 0x56, 0x57, 0x41, 0x4c, 0x0d, 0x0a, 0xfb, 0xc7, 0x94, 0x1a, 0x01, 0x00,
        0x00, 0x00, 0x28, 0xbd, 0x81, 0xfb, 0x2a, 0xaa, 0x3c, 0x2b, 0xd6, 0x8c, 0xbe, 0x9e,
        0x5f, 0x03, 0xdd, 0x61, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x1b,
        0xb0, 0x9e, 0x5c, 0xac, 0xd5, 0x11, 0x00, 0x50, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x50, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    uint8_t block[TKV_BLOCK_SIZE] = {0}, bytes[TKV_BLOCK_SIZE];
    struct tkv_wal_header header;
    struct tkv_error err;

    memcpy(block, golden, sizeof golden); /* zeros behind them */
    CHECK_OK(tkv_wal_header_decode(block, 0, &header, &err));
    CHECK_EQ(header.checkpoint.generation, 6);
    CHECK_EQ(header.checkpoint.position, 0x205000);
    CHECK_EQ(header.checkpoint.file_offset, 8192);
    CHECK_EQ(header.checkpoint.seq_next, 3);
    CHECK_EQ(header.manifest_epoch, 2);
    CHECK_EQ(header.durable_mark, 0x205000);
    CHECK_EQ(header.ring_end, 1u << 20);
    CHECK_EQ(header.file_count, 0);
    CHECK(!header.clean);
    tkv_wal_header_encode(&header, bytes);
    CHECK(memcmp(bytes, block, sizeof block) == 0);
}
