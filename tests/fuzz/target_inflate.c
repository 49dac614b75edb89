/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a zlib stream, with any size that it is said to have.
 *
 *     control u8 | raw size u16 | bytes
 *
 *     control bit 0: the raw size times 16, so that bombs have something to fill; bit 1:
 *     deflate the bytes at level 1 + bits 2 to 4 and inflate that again
 *
 * Nothing is ever written beyond the raw size. codec.c is linked twice, with libdeflate and
 * without: where both accept a stream they agree about what is in it.
 */
#include "codec.h"
#include "fuzz.h"
#include "memory.h"

/* codec.c without libdeflate, under other names. */
size_t zlib_codec_deflate(struct tkv_slice raw, unsigned level, void *out, size_t capacity);
enum tkv_status zlib_codec_inflate(struct tkv_slice stream, void *out, size_t raw_size);

#define RAW_SIZE_MAX ((size_t)65535 * 16)

static uint8_t one[RAW_SIZE_MAX + 64], other[RAW_SIZE_MAX + 64];

/* Only `size` bytes of the buffer may be touched until it is opened again. */
static void narrow(uint8_t *buffer, size_t size)
{
    FUZZ_FORBID(buffer + size, 64);
}

static void widen(uint8_t *buffer, size_t size)
{
    FUZZ_ALLOW(buffer + size, 64);
}

static void check_inflate(struct tkv_slice stream, size_t raw_size,
                          struct tkv_slice expected)
{
    enum tkv_status status, status_of_zlib;

    narrow(one, raw_size);
    narrow(other, raw_size);
    status = tkv_codec_inflate(stream, one, raw_size);
    status_of_zlib = zlib_codec_inflate(stream, other, raw_size);
    widen(one, raw_size);
    widen(other, raw_size);
    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT);
    FUZZ_CHECK(status_of_zlib == TKV_OK || status_of_zlib == TKV_CORRUPT);
    if (status == TKV_OK && status_of_zlib == TKV_OK)
        FUZZ_CHECK(fuzz_same(tkv_bytes(one, raw_size), tkv_bytes(other, raw_size)));
    if (expected.data == NULL)
        return;
    FUZZ_CHECK(status == TKV_OK && status_of_zlib == TKV_OK);
    FUZZ_CHECK(fuzz_same(tkv_bytes(one, raw_size), expected));
}

/* A stream that is whole for another size, or not whole. */
static void check_refused(struct tkv_slice stream, size_t raw_size)
{
    FUZZ_CHECK(tkv_codec_inflate(stream, one, raw_size) == TKV_CORRUPT);
    FUZZ_CHECK(zlib_codec_inflate(stream, one, raw_size) == TKV_CORRUPT);
}

typedef size_t deflate_fn(struct tkv_slice raw, unsigned level, void *out, size_t capacity);

static void check_there_and_back(struct tkv_slice raw, unsigned level, deflate_fn *deflate)
{
    static uint8_t stream[RAW_SIZE_MAX + 64];
    size_t size;

    if (raw.size == 0 || raw.size > RAW_SIZE_MAX)
        return;
    narrow(stream, raw.size);
    size = deflate(raw, level, stream, raw.size);
    widen(stream, raw.size);
    FUZZ_CHECK(size <= raw.size);
    if (size == 0)
        return; /* it gains nothing */
    check_inflate(tkv_bytes(stream, size), raw.size, raw);
    check_refused(tkv_bytes(stream, size), raw.size - 1);
    check_refused(tkv_bytes(stream, size), raw.size + 1);
    check_refused(tkv_bytes(stream, size - 1), raw.size);
    stream[size] = 0;
    check_refused(tkv_bytes(stream, size + 1), raw.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    const size_t raw_size = (size_t)fuzz_u16(&in) * ((control & 1) != 0 ? 16 : 1);
    const unsigned level = 1 + (control >> 2 & 7);

    if (size < 3)
        return 0;
    memory_begin();
    check_inflate(tkv_bytes(in.at, in.left), raw_size, (struct tkv_slice){NULL, 0});
    if ((control & 2) != 0) {
        check_there_and_back(tkv_bytes(in.at, in.left), level, tkv_codec_deflate);
        check_there_and_back(tkv_bytes(in.at, in.left), level, zlib_codec_deflate);
    }
    memory_end(0);
    return 0;
}
