/* SPDX-License-Identifier: MIT */
/* memory_codec.c - the compression libraries take memory of their own, inside one call of the
 * engine each: that call is refused as one request. */
#include "memory_private.h"

#include <zlib.h>

int __real_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __wrap_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __real_inflateInit_(z_streamp stream, const char *version, int size);
int __wrap_inflateInit_(z_streamp stream, const char *version, int size);

int __wrap_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size)
{
    if (memory_request_is_refused())
        return Z_MEM_ERROR;
    return __real_deflateInit2_(stream, level, method, bits, memory, strategy, version,
                                size);
}

int __wrap_inflateInit_(z_streamp stream, const char *version, int size)
{
    return memory_request_is_refused() ? Z_MEM_ERROR
                                       : __real_inflateInit_(stream, version, size);
}

#if defined(TKV_HAVE_LIBDEFLATE)
#include <libdeflate.h>

struct libdeflate_compressor *__real_libdeflate_alloc_compressor(int level);
struct libdeflate_compressor *__wrap_libdeflate_alloc_compressor(int level);
struct libdeflate_decompressor *__real_libdeflate_alloc_decompressor(void);
struct libdeflate_decompressor *__wrap_libdeflate_alloc_decompressor(void);

struct libdeflate_compressor *__wrap_libdeflate_alloc_compressor(int level)
{
    return memory_request_is_refused() ? NULL : __real_libdeflate_alloc_compressor(level);
}

struct libdeflate_decompressor *__wrap_libdeflate_alloc_decompressor(void)
{
    return memory_request_is_refused() ? NULL : __real_libdeflate_alloc_decompressor();
}
#endif
