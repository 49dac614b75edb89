/* SPDX-License-Identifier: MIT */
/*
 * record.h - the on-disk form of one write. Pure functions over bytes: no files, no locks, no
 * allocation. The log and the data files hold the same records, so compaction moves bytes
 * without decoding values, and one decoder serves recovery, reads and tools.
 *
 *     0       4            8         16         18     19      20     21       22
 *     +-------+------------+---------+----------+------+-------+------+--------+-----------+
 *     | crc32 | V: u32     | seq:u64 | K: u16   | kind | codec | must | ignore | E: u16    |
 *     +-------+------------+---------+----------+------+-------+------+--------+-----------+
 *     24            24+E       24+E+K       24+E+K+V
 *     +-------------+----------+------------+
 *     | extension E | key K    | value V    |
 *     +-------------+----------+------------+
 *
 *   - Integers are little-endian; records follow each other without padding.
 *   - crc32 covers bytes [24, end) first and then bytes [4, 24), so that everything but the
 *     sequence number can be summed before the commit order is known.
 *   - kind: 1 put, 2 delete (V = 0), 3 large: the value is a reference to a value stored in a
 *     data file of its own (docs/format.md). Zero is never valid, so zeros are not a record.
 *   - codec: 0 stored, 1 zlib. seq orders all writes of a store; a later one wins. Never 0.
 *   - must: flag bits that a reader must know, else it refuses the record; bit 0 expiry.
 *     ignore: flag bits that a reader may ignore. Writers of this version write none. Both
 *     are covered by the checksum like everything else.
 *   - The extension holds, in this order: expiry u64 (with flag bit 0), raw size u32 (with
 *     codec 1), then whatever a later version adds, which E lets a reader skip.
 *   - Only a put is ever compressed, and only when that makes it smaller: raw size > V. A
 *     delete has no value and no expiry. An expiry is never 0 and below 2^63. Anything else
 *     is not a record, whatever its checksum says.
 *
 * Invariant: decode(encode(r)) == r, every strict prefix of a record is SHORT, and no record
 * with a flipped bit is GOOD. tests/test_record.c checks every prefix and every bit.
 */
#ifndef TKV_RECORD_H
#define TKV_RECORD_H

#include "tinykv.h"

enum tkv_record_kind { TKV_RECORD_PUT = 1, TKV_RECORD_DELETE = 2, TKV_RECORD_LARGE = 3 };
enum tkv_record_codec { TKV_CODEC_STORED = 0, TKV_CODEC_ZLIB = 1 };

#define TKV_RECORD_HEADER_SIZE 24u
#define TKV_RECORD_SIZE_MAX    (TKV_RECORD_HEADER_SIZE + 65535u + 65535u + TKV_VALUE_SIZE_MAX)

struct tkv_record {
    enum tkv_record_kind kind;
    enum tkv_record_codec codec;
    uint64_t seq;
    uint64_t expires_at_ms; /* 0: never */
    /* Of the value before compression: decoding sets it to value.size when nothing was
     * compressed, and encoding then does not look at it. */
    uint32_t raw_size;
    uint16_t unknown_size; /* of what a later version added to the extension; encoding: 0 */
    struct tkv_slice key;
    struct tkv_slice value; /* as stored */
};

enum tkv_record_result {
    TKV_RECORD_GOOD,
    TKV_RECORD_SHORT, /* the bytes end before the record does */
    TKV_RECORD_BAD    /* no encoder wrote this */
};

/* How many bytes tkv_record_encode() writes, and how many a decoded record lies in. */
size_t tkv_record_size(const struct tkv_record *record);

/* Write the record without its place and checksum; returns the sum that tkv_record_seal()
 * wants. Until then seq and crc are zero, so that it is never taken for a record. */
uint32_t tkv_record_encode(const struct tkv_record *record, uint8_t *out);

/* Give an encoded record its place in the commit order and its checksum. */
void tkv_record_seal(uint8_t *bytes, uint32_t body_sum, uint64_t seq);

/* The size a record claims in its header, without trusting anything else; 0 when `in` is
 * shorter than a header or the header is one that no encoder writes. Never above
 * TKV_RECORD_SIZE_MAX. It looks at neither seq nor crc, so it also measures records that are
 * encoded but not sealed. */
size_t tkv_record_claimed_size(struct tkv_slice in);

/* Decode and verify the record at the start of `in`. *ret is written only with GOOD and
 * borrows `in`. */
enum tkv_record_result tkv_record_decode(struct tkv_slice in, struct tkv_record *ret);

/* The same without looking at crc and seq, for bytes that were verified already or are not
 * sealed yet. Every size is checked against `in` all the same: it never reads beyond it,
 * whatever the bytes are. */
enum tkv_record_result tkv_record_parse(struct tkv_slice in, struct tkv_record *ret);

#endif
