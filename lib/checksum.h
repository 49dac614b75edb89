/* SPDX-License-Identifier: MIT */
/* checksum.h - CRC-32 with zlib's polynomial, by libdeflate when the build found it and by
 * zlib otherwise, of long data by ISA-L when the build found that: the same numbers. Pure. */
#ifndef TKV_CHECKSUM_H
#define TKV_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 to begin) over `size` bytes; crc32(crc32(0, a), b) == crc32(0, ab). */
uint32_t tkv_crc32(uint32_t crc, const void *data, size_t size);

#endif
