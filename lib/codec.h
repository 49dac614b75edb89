/* SPDX-License-Identifier: MIT */
/*
 * codec.h - zlib streams of whole values, by libdeflate when the build found it and by zlib
 * otherwise. Either inflates what the other deflated.
 */
#ifndef TKV_CODEC_H
#define TKV_CODEC_H

#include "tinykv.h"

/* Deflate at `level` [1, 9] into `out`, which has room for `capacity` bytes. Returns the
 * size, or 0 when it does not fit (so: pass raw.size - 1 to insist on a gain), when `raw` is
 * empty, or when there is no memory for the compressor. In each case the value can simply be
 * stored as it is. */
size_t tkv_codec_deflate(struct tkv_slice raw, unsigned level, void *out, size_t capacity);

/* Inflate exactly `raw_size` bytes into `out`. TKV_CORRUPT when the stream is damaged, ends
 * early or late, or holds more or less than that; never writes beyond `raw_size`.
 * TKV_NO_MEMORY when there is none for the decompressor. */
enum tkv_status tkv_codec_inflate(struct tkv_slice stream, void *out, size_t raw_size);

#endif
