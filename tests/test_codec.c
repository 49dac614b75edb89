/* SPDX-License-Identifier: MIT */
/*
 * Values survive compression, whichever library made the stream and whichever reads it; a
 * damaged stream is refused; and checksums are zlib's, whoever computes them.
 *
 * Method: three kinds of bytes in sizes around every boundary that the codec knows (its
 * switches between libraries, zlib's windows), each with all levels. The libraries are also
 * called directly, on the other side of our functions.
 */
#include "checksum.h"
#include "codec.h"
#include "test.h"

#include <zlib.h>

#if defined(TKV_HAVE_LIBDEFLATE)
#include <libdeflate.h>
#endif

TEST_MAIN

enum { SIZE_MAX_TESTED = 1 << 20, STREAM_MAX = SIZE_MAX_TESTED + SIZE_MAX_TESTED / 8 + 64 };

static const size_t sizes[] = {1,     2,     3,     7,      100,
                               255,   256,   257,   511,    512,
                               513,   1000,  4095,  4096,   4097,
                               5000,  16384, 32767, 32768,  32769,
                               65535, 65536, 65537, 300000, SIZE_MAX_TESTED};

enum content { ZEROS, TEXT, NOISE, CONTENTS };

static uint8_t raw_bytes[CONTENTS][SIZE_MAX_TESTED];
static uint8_t stream_bytes[STREAM_MAX];
static uint8_t back_bytes[SIZE_MAX_TESTED + 16];

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static struct tkv_slice content_of(enum content content, size_t size)
{
    static const char words[] =
        "the quick brown fox jumps over the lazy dog and then some ";
    static bool made;
    uint32_t state = 1;

    for (size_t i = 0; !made && i < SIZE_MAX_TESTED; i++) {
        raw_bytes[NOISE][i] = (uint8_t)next_random(&state);
        raw_bytes[TEXT][i] =
            (uint8_t)words[(i + next_random(&state) % 3) % (sizeof words - 1)];
    }
    made = true;
    return tkv_bytes(raw_bytes[content], size);
}

static struct tkv_slice deflated(struct tkv_slice raw, unsigned level)
{
    const size_t size = tkv_codec_deflate(raw, level, stream_bytes, sizeof stream_bytes);

    CHECK(size != 0);
    return tkv_bytes(stream_bytes, size);
}

/* Our inflate, which must neither fail nor touch the bytes behind the value. */
static void check_inflates_to(struct tkv_slice stream, struct tkv_slice raw)
{
    memset(back_bytes, 0xa5, raw.size + 16);
    CHECK_EQ(tkv_codec_inflate(stream, back_bytes, raw.size), TKV_OK);
    CHECK(memcmp(back_bytes, raw.data, raw.size) == 0);
    for (size_t i = 0; i < 16; i++)
        CHECK_EQ(back_bytes[raw.size + i], 0xa5);
}

#define FOR_EACH_VALUE(raw)                                                            \
    for (unsigned content_ = 0; content_ < CONTENTS; content_++)                       \
        for (size_t i_ = 0; i_ < sizeof sizes / sizeof sizes[0]; i_++)                 \
            for (struct tkv_slice raw = content_of((enum content)content_, sizes[i_]), \
                                  *once_ = &raw;                                       \
                 once_ != NULL; once_ = NULL)

/* All nine levels where that is quick; the extremes and the usual one elsewhere. */
static unsigned next_level(unsigned level, size_t size)
{
    return size <= 5000 ? level + 1 : level + 4 + (level > 1 ? 0u : 1u);
}

TEST(every_value_comes_back_at_every_level)
{
    FOR_EACH_VALUE(raw)
    {
        for (unsigned level = 1; level <= 9; level = next_level(level, raw.size))
            check_inflates_to(deflated(raw, level), raw);
    }
}

TEST(zlib_reads_our_streams_and_we_read_zlibs)
{
    FOR_EACH_VALUE(raw)
    {
        for (unsigned level = 1; level <= 9; level = next_level(level, raw.size)) {
            const struct tkv_slice ours = deflated(raw, level);
            uLongf size = sizeof back_bytes;

            CHECK_EQ(uncompress(back_bytes, &size, ours.data, (uLong)ours.size), Z_OK);
            CHECK_EQ(size, raw.size);
            CHECK(memcmp(back_bytes, raw.data, raw.size) == 0);

            size = sizeof stream_bytes;
            CHECK_EQ(compress2(stream_bytes, &size, raw.data, (uLong)raw.size, (int)level),
                     Z_OK);
            check_inflates_to(tkv_bytes(stream_bytes, size), raw);
        }
    }
}

#if defined(TKV_HAVE_LIBDEFLATE)
TEST(libdeflate_reads_our_streams_and_we_read_libdeflates)
{
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();

    FOR_EACH_VALUE(raw)
    {
        for (unsigned level = 1; level <= 9; level = next_level(level, raw.size)) {
            struct libdeflate_compressor *compressor =
                libdeflate_alloc_compressor((int)level);
            const struct tkv_slice ours = deflated(raw, level);
            size_t size;

            CHECK_EQ(libdeflate_zlib_decompress(decompressor, ours.data, ours.size,
                                                back_bytes, raw.size, NULL),
                     LIBDEFLATE_SUCCESS);
            CHECK(memcmp(back_bytes, raw.data, raw.size) == 0);

            size = libdeflate_zlib_compress(compressor, raw.data, raw.size, stream_bytes,
                                            sizeof stream_bytes);
            CHECK(size != 0);
            check_inflates_to(tkv_bytes(stream_bytes, size), raw);
            libdeflate_free_compressor(compressor);
        }
    }
    libdeflate_free_decompressor(decompressor);
}
#endif

/* One size for each library, on either side of both switches. */
static const size_t one_of_each[] = {100, 600, 5000};

TEST(every_truncated_stream_is_refused)
{
    for (size_t i = 0; i < 3; i++) {
        const struct tkv_slice raw = content_of(TEXT, one_of_each[i]);
        const struct tkv_slice stream = deflated(raw, 6);

        for (size_t size = 0; size < stream.size; size++) {
            uint8_t *exact =
                malloc(size + 1); /* so that a sanitizer sees reads beyond it */

            memcpy(exact + 1, stream.data, size);
            CHECK_EQ(tkv_codec_inflate(tkv_bytes(exact + 1, size), back_bytes, raw.size),
                     TKV_CORRUPT);
            free(exact);
        }
    }
}

TEST(bytes_behind_the_end_of_a_stream_are_refused)
{
    for (size_t i = 0; i < 3; i++) {
        const struct tkv_slice raw = content_of(TEXT, one_of_each[i]);
        const struct tkv_slice stream = deflated(raw, 6);

        stream_bytes[stream.size] = 0;
        CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream.data, stream.size + 1), back_bytes,
                                   raw.size),
                 TKV_CORRUPT);
    }
}

/* Adler-32 does not catch every flip in a short stream: that is the record's checksum's task.
 * Here, damage must do no harm. */
TEST(a_flipped_bit_does_no_harm_and_is_nearly_always_refused)
{
    for (size_t i = 0; i < 3; i++) {
        const struct tkv_slice raw = content_of(TEXT, one_of_each[i]);
        const struct tkv_slice stream = deflated(raw, 6);
        size_t refused = 0;

        for (size_t bit = 0; bit < stream.size * 8; bit++) {
            uint8_t *exact = malloc(raw.size);

            stream_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            refused += tkv_codec_inflate(stream, exact, raw.size) != TKV_OK;
            stream_bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            free(exact);
        }
        CHECK(refused >= stream.size * 8 - 16);
    }
}

TEST(a_wrong_raw_size_is_refused)
{
    FOR_EACH_VALUE(raw)
    {
        const struct tkv_slice stream = deflated(raw, 6);

        CHECK_EQ(tkv_codec_inflate(stream, back_bytes, raw.size - 1), TKV_CORRUPT);
        CHECK_EQ(tkv_codec_inflate(stream, back_bytes, raw.size + 1), TKV_CORRUPT);
        CHECK_EQ(tkv_codec_inflate(stream, back_bytes, 0), TKV_CORRUPT);
        CHECK_EQ(tkv_codec_inflate(stream, NULL, 0), TKV_CORRUPT);
        CHECK_EQ(tkv_codec_inflate(stream, back_bytes, TKV_VALUE_SIZE_MAX + (size_t)1),
                 TKV_CORRUPT);
    }
}

TEST(a_bomb_writes_no_more_than_it_was_allowed)
{
    const struct tkv_slice bomb = deflated(content_of(ZEROS, SIZE_MAX_TESTED), 9);
    const size_t allowed[] = {0, 1, 100, 511, 512, 4096, 65536};

    CHECK(bomb.size < 2000);
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        memset(back_bytes, 0xa5, sizeof back_bytes);
        CHECK_EQ(tkv_codec_inflate(bomb, back_bytes, allowed[i]), TKV_CORRUPT);
        for (size_t j = allowed[i]; j < sizeof back_bytes; j++)
            CHECK_EQ(back_bytes[j], 0xa5);
    }
}

TEST(a_stream_of_no_bytes_inflates_to_nothing)
{
    uLongf size = sizeof stream_bytes;

    CHECK_EQ(compress2(stream_bytes, &size, (const Bytef *)"", 0, 6), Z_OK);
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream_bytes, size), NULL, 0), TKV_OK);
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(NULL, 0), back_bytes, 0), TKV_CORRUPT);
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(NULL, 0), back_bytes, 1), TKV_CORRUPT);
}

TEST(what_does_not_fit_returns_zero_and_stays_in_bounds)
{
    FOR_EACH_VALUE(raw)
    {
        const size_t full = deflated(raw, 6).size;

        for (size_t short_by = 1; short_by <= full; short_by *= 2) {
            memset(stream_bytes, 0xa5, full + 16);
            CHECK_EQ(tkv_codec_deflate(raw, 6, stream_bytes, full - short_by), 0);
            for (size_t i = full - short_by; i < full + 16; i++)
                CHECK_EQ(stream_bytes[i], 0xa5);
        }
    }
}

TEST(noise_is_not_worth_compressing)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const struct tkv_slice raw = content_of(NOISE, sizes[i]);

        CHECK_EQ(tkv_codec_deflate(raw, 9, stream_bytes, raw.size - 1), 0);
    }
    CHECK_EQ(tkv_codec_deflate(tkv_bytes(NULL, 0), 9, NULL, SIZE_MAX), 0);
}

TEST(checksums_are_zlibs_at_every_size)
{
    const uint8_t *bytes = content_of(NOISE, 4096 + 8).data;

    for (size_t size = 0; size <= 4096; size++) {
        for (size_t offset = 0; offset < 8; offset++)
            CHECK_EQ(tkv_crc32(0, bytes + offset, size),
                     crc32(0, bytes + offset, (uInt)size));
    }
}

TEST(checksums_can_be_continued_at_any_point)
{
    const uint8_t *bytes = content_of(NOISE, 1000).data;
    const uint32_t whole = tkv_crc32(0, bytes, 1000);

    for (size_t cut = 0; cut <= 1000; cut++)
        CHECK_EQ(tkv_crc32(tkv_crc32(0, bytes, cut), bytes + cut, 1000 - cut), whole);
    CHECK_EQ(tkv_crc32(whole, NULL, 0), whole);
    CHECK_EQ(tkv_crc32(0, "123456789", 9), 0xcbf43926);
}
