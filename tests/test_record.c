/* SPDX-License-Identifier: MIT */
/*
 * A record is what its encoder was given, or it is not taken for one.
 *
 * Method: a grid of every kind, codec and flag with sizes around each boundary. Small records
 * are cut at every byte and flipped at every bit. What this version does not write, a later
 * one might: such records are made by hand, with a right checksum.
 */
#include "bytes.h"
#include "checksum.h"
#include "record.h"
#include "test.h"

TEST_MAIN

/* Offsets of the picture in record.h, spelled a second time on purpose. */
enum {
    AT_V = 4,
    AT_SEQ = 8,
    AT_K = 16,
    AT_KIND = 18,
    AT_CODEC = 19,
    AT_MUST = 20,
    AT_IGNORE = 21,
    AT_E = 22,
    AT_BODY = 24
};

enum { VALUE_SIZE_TESTED = 70000 };

static uint8_t noise[VALUE_SIZE_TESTED];

static const uint8_t *noisy(void)
{
    for (size_t i = 0; noise[1] == 0 && i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 131 + (i >> 8) + 7);
    return noise;
}

/* In memory of exactly its size, so that a sanitizer sees reads beyond it. */
static struct tkv_slice encoded(const struct tkv_record *r)
{
    const size_t size = tkv_record_size(r);
    uint8_t *bytes = malloc(size);
    const uint32_t sum = tkv_record_encode(r, bytes);

    tkv_record_seal(bytes, sum, r->seq);
    return tkv_bytes(bytes, size);
}

static void release(struct tkv_slice bytes)
{
    free((void *)(uintptr_t)bytes.data);
}

static uint8_t *writable(struct tkv_slice bytes)
{
    return (uint8_t *)(uintptr_t)bytes.data;
}

/* As a writer of another version would: bytes [24, end) first, then [4, 24). */
static void sum_again(struct tkv_slice bytes)
{
    uint8_t *p = writable(bytes);
    uint32_t sum = tkv_crc32(0, p + AT_BODY, bytes.size - AT_BODY);

    tkv_put_le32(p, tkv_crc32(sum, p + AT_V, AT_BODY - AT_V));
}

static void check_same(const struct tkv_record *a, const struct tkv_record *b)
{
    CHECK_EQ(a->kind, b->kind);
    CHECK_EQ(a->codec, b->codec);
    CHECK_EQ(a->seq, b->seq);
    CHECK_EQ(a->expires_at_ms, b->expires_at_ms);
    CHECK_EQ(a->raw_size, b->raw_size);
    CHECK_EQ(a->unknown_size, b->unknown_size);
    CHECK_EQ(a->key.size, b->key.size);
    CHECK_EQ(a->value.size, b->value.size);
    CHECK(a->key.size == 0 || memcmp(a->key.data, b->key.data, a->key.size) == 0);
    CHECK(a->value.size == 0 || memcmp(a->value.data, b->value.data, a->value.size) == 0);
}

static struct tkv_record make(enum tkv_record_kind kind, enum tkv_record_codec codec,
                              uint64_t expires_at_ms, size_t key_size, size_t value_size)
{
    struct tkv_record r = {
        .kind = kind,
        .codec = codec,
        .seq = 0x0102030405060708,
        .expires_at_ms = expires_at_ms,
        .raw_size = (uint32_t)value_size,
        .key = tkv_bytes(key_size == 0 ? NULL : noisy(), key_size),
        .value = tkv_bytes(value_size == 0 ? NULL : noisy() + 1, value_size),
    };
    if (codec == TKV_CODEC_ZLIB)
        r.raw_size = (uint32_t)value_size + 1;
    return r;
}

/* Calls `check` with every combination that an encoder may write, in these sizes. */
static void for_each_record(const size_t *key_sizes, const size_t *value_sizes,
                            size_t count, void (*check)(const struct tkv_record *r))
{
    static const uint64_t expiries[] = {0, 1, 1700000000000, INT64_MAX};

    for (size_t k = 0; k < count; k++) {
        struct tkv_record r = make(TKV_RECORD_DELETE, TKV_CODEC_STORED, 0, key_sizes[k], 0);

        check(&r);
        for (size_t v = 0; v < count; v++) {
            for (size_t e = 0; e < 4; e++) {
                r = make(TKV_RECORD_PUT, TKV_CODEC_STORED, expiries[e], key_sizes[k],
                         value_sizes[v]);
                check(&r);
                r.kind = TKV_RECORD_LARGE;
                check(&r);
                r = make(TKV_RECORD_PUT, TKV_CODEC_ZLIB, expiries[e], key_sizes[k],
                         value_sizes[v]);
                check(&r);
                r.raw_size = TKV_VALUE_SIZE_MAX;
                check(&r);
            }
        }
    }
}

static const size_t small_sizes[] = {0, 1, 17};

static void comes_back(const struct tkv_record *r)
{
    const struct tkv_slice bytes = encoded(r);
    struct tkv_record back;

    CHECK_EQ(tkv_record_claimed_size(bytes), bytes.size);
    CHECK_EQ(tkv_record_decode(bytes, &back), TKV_RECORD_GOOD);
    check_same(&back, r);
    CHECK_EQ(tkv_record_parse(bytes, &back), TKV_RECORD_GOOD);
    check_same(&back, r);
    CHECK_EQ(tkv_record_size(&back), bytes.size);
    release(bytes);
}

TEST(every_record_comes_back_as_it_was)
{
    const size_t key_sizes[] = {0, 1, 16, 255, 256, 65535};
    const size_t value_sizes[] = {0, 1, 100, 255, 65536, VALUE_SIZE_TESTED - 1};

    for_each_record(key_sizes, value_sizes, 6, comes_back);
}

TEST(a_record_is_decoded_from_the_front_of_more_bytes)
{
    struct tkv_record r = make(TKV_RECORD_PUT, TKV_CODEC_STORED, 5, 3, 4), back;
    uint8_t bytes[256];
    const size_t size = tkv_record_size(&r);

    memset(bytes, 0xff, sizeof bytes);
    tkv_record_seal(bytes, tkv_record_encode(&r, bytes), r.seq);
    CHECK_EQ(bytes[size], 0xff);
    CHECK_EQ(tkv_record_claimed_size(tkv_bytes(bytes, sizeof bytes)), size);
    CHECK_EQ(tkv_record_decode(tkv_bytes(bytes, sizeof bytes), &back), TKV_RECORD_GOOD);
    check_same(&back, &r);
}

static void prefixes_are_short(const struct tkv_record *r)
{
    const struct tkv_slice bytes = encoded(r);

    for (size_t size = 0; size < bytes.size; size++) {
        const struct tkv_record before = make(TKV_RECORD_DELETE, TKV_CODEC_STORED, 0, 9, 0);
        struct tkv_record back = before;
        uint8_t *exact = malloc(size + 1);
        const struct tkv_slice prefix = tkv_bytes(exact + 1, size);

        memcpy(exact + 1, bytes.data, size);
        CHECK_EQ(tkv_record_decode(prefix, &back), TKV_RECORD_SHORT);
        CHECK_EQ(tkv_record_parse(prefix, &back), TKV_RECORD_SHORT);
        check_same(&back, &before);
        CHECK_EQ(tkv_record_claimed_size(prefix),
                 size < TKV_RECORD_HEADER_SIZE ? 0 : bytes.size);
        free(exact);
    }
    release(bytes);
}

TEST(every_strict_prefix_is_short)
{
    for_each_record(small_sizes, small_sizes, 3, prefixes_are_short);
}

static void flips_are_noticed(const struct tkv_record *r)
{
    const struct tkv_slice bytes = encoded(r);
    uint8_t *p = writable(bytes);

    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        const struct tkv_record before = make(TKV_RECORD_DELETE, TKV_CODEC_STORED, 0, 9, 0);
        struct tkv_record back = before;

        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(tkv_record_decode(bytes, &back) != TKV_RECORD_GOOD);
        check_same(&back, &before);
        /* Whatever these say of damaged bytes, they must not read beyond them. */
        (void)tkv_record_parse(bytes, &back);
        CHECK(tkv_record_claimed_size(bytes) <= TKV_RECORD_SIZE_MAX);
        p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    release(bytes);
}

TEST(every_flipped_bit_is_noticed)
{
    for_each_record(small_sizes, small_sizes, 3, flips_are_noticed);
}

TEST(zeros_and_ones_are_not_a_record)
{
    uint8_t bytes[512];
    struct tkv_record back;

    for (int fill = 0; fill <= 0xff; fill += 0xff) {
        memset(bytes, fill, sizeof bytes);
        CHECK_EQ(tkv_record_decode(tkv_bytes(bytes, sizeof bytes), &back), TKV_RECORD_BAD);
        CHECK_EQ(tkv_record_claimed_size(tkv_bytes(bytes, sizeof bytes)), 0);
    }
    CHECK_EQ(tkv_record_decode(tkv_bytes(NULL, 0), &back), TKV_RECORD_SHORT);
    CHECK_EQ(tkv_record_claimed_size(tkv_bytes(NULL, 0)), 0);
}

/* Change `size` bytes at `offset`, make the checksum right again, and decode. */
static enum tkv_record_result decode_changed(const struct tkv_record *r, size_t offset,
                                             size_t size, uint64_t value)
{
    const struct tkv_slice bytes = encoded(r);
    enum tkv_record_result decoded, parsed;
    struct tkv_record back;
    uint8_t integer[8];

    tkv_put_le64(integer, value);
    memcpy(writable(bytes) + offset, integer, size);
    sum_again(bytes);
    decoded = tkv_record_decode(bytes, &back);
    parsed = tkv_record_parse(bytes, &back);
    CHECK_EQ(parsed, offset == AT_SEQ ? TKV_RECORD_GOOD : decoded);
    release(bytes);
    return decoded;
}

TEST(what_no_encoder_writes_is_bad_even_with_a_right_checksum)
{
    const struct tkv_record put = make(TKV_RECORD_PUT, TKV_CODEC_STORED, 0, 4, 8);
    const struct tkv_record expiring = make(TKV_RECORD_PUT, TKV_CODEC_STORED, 7, 4, 8);
    const struct tkv_record zipped = make(TKV_RECORD_PUT, TKV_CODEC_ZLIB, 0, 4, 8);
    const struct tkv_record large = make(TKV_RECORD_LARGE, TKV_CODEC_STORED, 0, 4, 8);
    const struct tkv_record gone = make(TKV_RECORD_DELETE, TKV_CODEC_STORED, 0, 12, 0);

    CHECK_EQ(decode_changed(&put, AT_KIND, 1, TKV_RECORD_PUT), TKV_RECORD_GOOD);
    CHECK_EQ(decode_changed(&put, AT_KIND, 1, 0), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&put, AT_KIND, 1, 4), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&put, AT_KIND, 1, TKV_RECORD_DELETE),
             TKV_RECORD_BAD); /* value */
    CHECK_EQ(decode_changed(&put, AT_SEQ, 8, 0), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&put, AT_CODEC, 1, 2), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&put, AT_CODEC, 1, 1),
             TKV_RECORD_BAD);                                      /* no raw size: E is 0 */
    CHECK_EQ(decode_changed(&put, AT_MUST, 1, 1), TKV_RECORD_BAD); /* no expiry: E is 0 */
    CHECK_EQ(decode_changed(&put, AT_V, 4, TKV_VALUE_SIZE_MAX + 1), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&put, AT_V, 4, UINT32_MAX), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&expiring, AT_E, 2, 7), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&expiring, AT_BODY, 8, 0), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&expiring, AT_BODY, 8, (uint64_t)1 << 63), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&expiring, AT_BODY, 8, INT64_MAX), TKV_RECORD_GOOD);
    CHECK_EQ(decode_changed(&zipped, AT_BODY, 4, 8), TKV_RECORD_BAD); /* no gain */
    CHECK_EQ(decode_changed(&zipped, AT_BODY, 4, 9), TKV_RECORD_GOOD);
    CHECK_EQ(decode_changed(&zipped, AT_BODY, 4, 0), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&zipped, AT_BODY, 4, TKV_VALUE_SIZE_MAX), TKV_RECORD_GOOD);
    CHECK_EQ(decode_changed(&zipped, AT_BODY, 4, TKV_VALUE_SIZE_MAX + 1), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&zipped, AT_KIND, 1, TKV_RECORD_LARGE), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&large, AT_CODEC, 1, 1), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&gone, AT_CODEC, 1, 1), TKV_RECORD_BAD);
    CHECK_EQ(decode_changed(&gone, AT_MUST, 1, 1), TKV_RECORD_BAD);
}

TEST(a_flag_that_a_reader_must_know_is_refused)
{
    const struct tkv_record r = make(TKV_RECORD_PUT, TKV_CODEC_STORED, 9, 4, 8);

    for (unsigned bit = 1; bit < 8; bit++)
        CHECK_EQ(decode_changed(&r, AT_MUST, 1, 1u | 1u << bit), TKV_RECORD_BAD);
}

static void flags_may_be_ignored(const struct tkv_record *r)
{
    const struct tkv_slice bytes = encoded(r);
    struct tkv_record back;

    for (unsigned flags = 1; flags <= 0xff; flags++) {
        writable(bytes)[AT_IGNORE] = (uint8_t)flags;
        CHECK(tkv_record_decode(bytes, &back) != TKV_RECORD_GOOD);
        sum_again(bytes);
        CHECK_EQ(tkv_record_decode(bytes, &back), TKV_RECORD_GOOD);
        check_same(&back, r);
    }
    release(bytes);
}

TEST(flags_that_may_be_ignored_are_ignored_but_summed)
{
    for_each_record(small_sizes, small_sizes, 3, flags_may_be_ignored);
}

static void longer_extensions_are_skipped(const struct tkv_record *r)
{
    static const size_t extras[] = {1, 8, 1000, 65535 - 12};
    const struct tkv_slice plain = encoded(r);
    const size_t known = plain.size - TKV_RECORD_HEADER_SIZE - r->key.size - r->value.size;
    const size_t head = TKV_RECORD_HEADER_SIZE + known;

    for (size_t i = 0; i < 4; i++) {
        const struct tkv_slice bytes =
            tkv_bytes(malloc(plain.size + extras[i]), plain.size + extras[i]);
        uint8_t *p = writable(bytes);
        struct tkv_record back;

        memcpy(p, plain.data, head);
        memset(p + head, 0xee, extras[i]);
        memcpy(p + head + extras[i], writable(plain) + head, plain.size - head);
        tkv_put_le16(p + AT_E, (uint16_t)(known + extras[i]));
        sum_again(bytes);
        CHECK_EQ(tkv_record_claimed_size(bytes), bytes.size);
        CHECK_EQ(tkv_record_decode(bytes, &back), TKV_RECORD_GOOD);
        CHECK_EQ(tkv_record_size(&back), bytes.size);
        CHECK_EQ(back.unknown_size, extras[i]);
        back.unknown_size = 0;
        check_same(&back, r);
        CHECK_EQ(tkv_record_decode(tkv_bytes(p, bytes.size - 1), &back), TKV_RECORD_SHORT);
        release(bytes);
    }
    release(plain);
}

TEST(an_extension_of_a_later_version_is_skipped)
{
    for_each_record(small_sizes, small_sizes, 3, longer_extensions_are_skipped);
}

static void sealing_changes_seq_and_crc_only(const struct tkv_record *r)
{
    const struct tkv_slice direct = encoded(r);
    uint8_t *late = malloc(direct.size);
    struct tkv_record other = *r, back;
    uint32_t sum;

    memset(late, 0x5a, direct.size);
    other.seq = 99; /* not looked at before sealing */
    sum = tkv_record_encode(&other, late);
    CHECK_EQ(tkv_get_le32(late), 0);
    CHECK_EQ(tkv_get_le64(late + AT_SEQ), 0);
    CHECK_EQ(tkv_record_claimed_size(tkv_bytes(late, direct.size)), direct.size);
    CHECK_EQ(tkv_record_decode(tkv_bytes(late, direct.size), &back), TKV_RECORD_BAD);
    CHECK_EQ(tkv_record_parse(tkv_bytes(late, direct.size), &back), TKV_RECORD_GOOD);
    back.seq = r->seq;
    check_same(&back, r);

    tkv_record_seal(late, sum, 1); /* sealing again replaces the number */
    tkv_record_seal(late, sum, r->seq);
    CHECK(memcmp(late, direct.data, direct.size) == 0);
    free(late);
    release(direct);
}

TEST(sealing_later_gives_the_same_bytes)
{
    for_each_record(small_sizes, small_sizes, 3, sealing_changes_seq_and_crc_only);
}

TEST(claimed_sizes_are_believed_up_to_the_limits_only)
{
    struct tkv_record r = make(TKV_RECORD_PUT, TKV_CODEC_STORED, 0, 0, 0);
    const struct tkv_slice bytes = encoded(&r);
    uint8_t *p = writable(bytes);

    tkv_put_le16(p + AT_K, 65535);
    tkv_put_le16(p + AT_E, 65535);
    tkv_put_le32(p + AT_V, TKV_VALUE_SIZE_MAX);
    CHECK_EQ(tkv_record_claimed_size(bytes), TKV_RECORD_SIZE_MAX);
    CHECK_EQ(tkv_record_decode(bytes, &r), TKV_RECORD_SHORT);
    tkv_put_le32(p + AT_V, TKV_VALUE_SIZE_MAX + 1);
    CHECK_EQ(tkv_record_claimed_size(bytes), 0);
    release(bytes);
}

TEST(the_bytes_of_a_record_never_change)
{
    static const uint8_t golden[] = {
        0x03, 0x80, 0x9c, 0xc1, 0x05, 0x00, 0x00, 0x00, /* crc, V = 5 */
        0x2a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* seq = 42 */
        0x04, 0x00, 0x01, 0x00, 0x01, 0x00, 0x08, 0x00, /* K = 4, put, stored, expiry, E = 8 */
        0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, /* 1700000000000 */
        'n',  'a',  'm',  'e',  'v',  'a',  'l',  'u',  'e',
    };
    const struct tkv_record r = {
        .kind = TKV_RECORD_PUT,
        .codec = TKV_CODEC_STORED,
        .seq = 42,
        .expires_at_ms = 1700000000000,
        .key = tkv_text("name"),
        .value = tkv_text("value"),
    };
    const struct tkv_slice bytes = encoded(&r);

    CHECK_EQ(bytes.size, sizeof golden);
    CHECK(memcmp(bytes.data, golden, sizeof golden) == 0);
    release(bytes);
}
