/* SPDX-License-Identifier: MIT */
/* bytes.h - little-endian integers in byte arrays, and rounding. */
#ifndef TKV_BYTES_H
#define TKV_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t tkv_get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t tkv_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t tkv_get_le64(const uint8_t *p)
{
    return (uint64_t)tkv_get_le32(p) | (uint64_t)tkv_get_le32(p + 4) << 32;
}

static inline void tkv_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void tkv_put_le32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

static inline void tkv_put_le64(uint8_t *p, uint64_t v)
{
    tkv_put_le32(p, (uint32_t)v);
    tkv_put_le32(p + 4, (uint32_t)(v >> 32));
}

/* Round up to a multiple of `unit`, a power of two. */
static inline uint64_t tkv_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

static inline bool tkv_is_zero(const uint8_t *p, size_t size)
{
    return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

/* The cache line at `at` will be written soon and is in no cache: storing to it would be waited
 * for by the next locked instruction. It need not exist. */
static inline void tkv_fetch_line_to_write(uintptr_t at)
{
#if defined(__GNUC__)
    __builtin_prefetch((const void *)at, 1);
#else
    (void)at;
#endif
}

/* The 256 bytes from `at` on, a small record. */
static inline void tkv_fetch_to_write(uintptr_t at)
{
    for (unsigned i = 0; i < 256; i += 64)
        tkv_fetch_line_to_write(at + i);
}

/* The unit in which devices and page caches tear writes; nothing acknowledged ever shares
 * one with bytes written later. */
#define TKV_BLOCK_SIZE 4096u

#endif
