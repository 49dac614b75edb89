/* SPDX-License-Identifier: MIT */
/*
 * codec.c - compressors live for one call: there is no state to share between threads, to
 * warm up or to free at exit. That makes the price of setting one up part of every call, so
 * small values take zlib, whose tables can be made as small as the value, even where
 * libdeflate does the rest (microseconds, level 6, compressible text):
 *
 *     bytes   deflate: zlib  libdeflate   inflate: zlib  libdeflate
 *       100            1.9         6.0             0.22        1.42
 *      1024            4.8         8.2             1.71        1.69
 *     16384             46          50              13         5.5
 *     65536            310         279              47          16
 */
#include "codec.h"

#include <assert.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>

static_assert(TKV_VALUE_SIZE_MAX <= UINT_MAX, "zlib counts a call's bytes in unsigned int");

/* A window as large as the value finds every match that a larger one would; zlib's other
 * tables follow in the proportion of its defaults (window 15, memory level 8). */
static int window_bits(size_t raw_size)
{
    int bits = 9; /* zlib cannot really do 8 */

    while (bits < 15 && ((size_t)1 << bits) < raw_size)
        bits++;
    return bits;
}

static size_t deflate_by_zlib(struct tkv_slice raw, unsigned level, void *out,
                              size_t capacity)
{
    const int bits = window_bits(raw.size);
    size_t size = 0;
    z_stream z;

    memset(&z, 0, sizeof z);
    if (deflateInit2(&z, (int)level, Z_DEFLATED, bits, bits - 7, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return 0;
    z.next_in = (z_const Bytef *)raw.data;
    z.avail_in = (uInt)raw.size;
    z.next_out = out;
    z.avail_out = capacity < UINT_MAX ? (uInt)capacity : UINT_MAX;
    if (deflate(&z, Z_FINISH) == Z_STREAM_END)
        size = (size_t)(z.next_out - (Bytef *)out);
    (void)deflateEnd(
        &z); /* complains when the stream did not fit, and frees it all the same */
    return size;
}

static enum tkv_status inflate_by_zlib(struct tkv_slice stream, void *out, size_t raw_size)
{
    int result;
    bool exact;
    z_stream z;

    memset(&z, 0, sizeof z);
    result = inflateInit(&z);
    if (result != Z_OK)
        return TKV_NO_MEMORY;
    z.next_in = (z_const Bytef *)stream.data;
    z.avail_in = (uInt)stream.size;
    z.next_out = out;
    z.avail_out = (uInt)raw_size;
    result = inflate(&z, Z_FINISH);
    exact = result == Z_STREAM_END && z.avail_in == 0 && z.avail_out == 0;
    (void)inflateEnd(&z); /* cannot fail: `z` was initialised */
    if (result == Z_MEM_ERROR)
        return TKV_NO_MEMORY;
    return exact ? TKV_OK : TKV_CORRUPT;
}

#if defined(TKV_HAVE_LIBDEFLATE)
#include <libdeflate.h>

enum { DEFLATE_BY_ZLIB_BELOW = 4096, INFLATE_BY_ZLIB_BELOW = 512 };

static size_t deflate_by_libdeflate(struct tkv_slice raw, unsigned level, void *out,
                                    size_t capacity)
{
    struct libdeflate_compressor *compressor = libdeflate_alloc_compressor((int)level);
    size_t size;

    if (compressor == NULL)
        return 0;
    size = libdeflate_zlib_compress(compressor, raw.data, raw.size, out, capacity);
    libdeflate_free_compressor(compressor);
    return size;
}

static enum tkv_status inflate_by_libdeflate(struct tkv_slice stream, void *out,
                                             size_t raw_size)
{
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
    enum libdeflate_result result;
    size_t taken = 0, made = 0;

    if (decompressor == NULL)
        return TKV_NO_MEMORY;
    result = libdeflate_zlib_decompress_ex(decompressor, stream.data, stream.size, out,
                                           raw_size, &taken, &made);
    libdeflate_free_decompressor(decompressor);
    if (result != LIBDEFLATE_SUCCESS || taken != stream.size || made != raw_size)
        return TKV_CORRUPT;
    return TKV_OK;
}
#endif

size_t tkv_codec_deflate(struct tkv_slice raw, unsigned level, void *out, size_t capacity)
{
    assert(level >= 1 && level <= 9);
    assert(raw.size <= TKV_VALUE_SIZE_MAX);

    /* No stream is shorter than nothing; and `raw.size - 1` would be a huge capacity. */
    if (raw.size == 0)
        return 0;
#if defined(TKV_HAVE_LIBDEFLATE)
    if (raw.size >= DEFLATE_BY_ZLIB_BELOW)
        return deflate_by_libdeflate(raw, level, out, capacity);
#endif
    return deflate_by_zlib(raw, level, out, capacity);
}

enum tkv_status tkv_codec_inflate(struct tkv_slice stream, void *out, size_t raw_size)
{
    uint8_t nothing[1]; /* both libraries want a place, even for no bytes */

    /* Neither size is one that tkv_codec_deflate() takes or is asked to make. */
    if (raw_size > TKV_VALUE_SIZE_MAX || stream.size > TKV_VALUE_SIZE_MAX ||
        stream.size == 0)
        return TKV_CORRUPT;
    if (raw_size == 0)
        out = nothing;
#if defined(TKV_HAVE_LIBDEFLATE)
    if (raw_size >= INFLATE_BY_ZLIB_BELOW)
        return inflate_by_libdeflate(stream, out, raw_size);
#endif
    return inflate_by_zlib(stream, out, raw_size);
}
