/* SPDX-License-Identifier: MIT */
#include "checksum.h"

#if defined(TKV_HAVE_LIBDEFLATE)
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

uint32_t tkv_crc32(uint32_t crc, const void *data, size_t size)
{
    /* Both libraries take a null pointer for "begin again" and forget `crc`. */
    if (size == 0)
        return crc;
#if defined(TKV_HAVE_LIBDEFLATE)
    return libdeflate_crc32(crc, data, size);
#else
    return (uint32_t)crc32_z(crc, data, size); /* crc32() counts in 32 bits */
#endif
}
