/* SPDX-License-Identifier: MIT */
/*
 * Compression where a compressor has no memory: a value that cannot be compressed is stored as
 * it is, one that cannot be inflated now is no damage.
 *
 * Method: the linker puts this file's functions in place of the libraries'.
 */
#include "codec.h"
#include "test.h"

#include <zlib.h>

TEST_MAIN

static bool memory_is_gone;
static int inflate_result = Z_OK;

int __real_deflateInit2_(z_stream *z, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __real_inflateInit_(z_stream *z, const char *version, int size);
int __wrap_inflateInit_(z_stream *z, const char *version, int size);
int __real_inflate(z_stream *z, int flush);
int __wrap_inflate(z_stream *z, int flush);
void *__real_libdeflate_alloc_compressor(int level);
void *__wrap_libdeflate_alloc_compressor(int level);
void *__real_libdeflate_alloc_decompressor(void);
void *__wrap_libdeflate_alloc_decompressor(void);

int __wrap_deflateInit2_(z_stream *z, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size)
{
    return memory_is_gone ? Z_MEM_ERROR
                          : __real_deflateInit2_(z, level, method, bits, memory, strategy,
                                                 version, size);
}

int __wrap_inflateInit_(z_stream *z, const char *version, int size)
{
    return memory_is_gone ? Z_MEM_ERROR : __real_inflateInit_(z, version, size);
}

int __wrap_inflate(z_stream *z, int flush)
{
    return inflate_result != Z_OK ? inflate_result : __real_inflate(z, flush);
}

#if defined(TKV_HAVE_LIBDEFLATE)
void *__wrap_libdeflate_alloc_compressor(int level)
{
    return memory_is_gone ? NULL : __real_libdeflate_alloc_compressor(level);
}

void *__wrap_libdeflate_alloc_decompressor(void)
{
    return memory_is_gone ? NULL : __real_libdeflate_alloc_decompressor();
}
#endif

static uint8_t raw[100000], stream[100000], back[100000];

/* Below and above the sizes from which the other library serves. */
static const size_t sizes[] = {100, 3000, 100000};

TEST(without_memory_nothing_is_compressed_and_nothing_is_called_damaged)
{
    for (unsigned i = 0; i < 3; i++) {
        const struct tkv_slice value = tkv_bytes(raw, sizes[i]);
        size_t size;

        memory_is_gone = true;
        CHECK_EQ(tkv_codec_deflate(value, 1, stream, sizes[i] - 1), 0);
        memory_is_gone = false;
        size = tkv_codec_deflate(value, 1, stream, sizes[i] - 1);
        CHECK(size > 0);
        memory_is_gone = true;
        CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, size), back, sizes[i]), TKV_NO_MEMORY);
        memory_is_gone = false;
        CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, size), back, sizes[i]), TKV_OK);
    }
}

TEST(memory_that_ends_while_inflating_is_no_damage)
{
    const size_t size = tkv_codec_deflate(tkv_bytes(raw, 100), 1, stream, 99);

    inflate_result = Z_MEM_ERROR;
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, size), back, 100), TKV_NO_MEMORY);
    inflate_result = Z_DATA_ERROR;
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, size), back, 100), TKV_CORRUPT);
    inflate_result = Z_OK;
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, size), back, 100), TKV_OK);
}

TEST(sizes_that_no_value_has_are_damage_before_anything_is_read)
{
    const size_t beyond = (size_t)TKV_VALUE_SIZE_MAX + 1;

    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, beyond), back, 100), TKV_CORRUPT);
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, 100), back, beyond), TKV_CORRUPT);
    CHECK_EQ(tkv_codec_inflate(tkv_bytes(stream, 0), back, 100), TKV_CORRUPT);
}
