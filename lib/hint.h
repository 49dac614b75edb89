/* SPDX-License-Identifier: MIT */
/*
 * hint.h - a checksummed cache of one data file's records: key, sequence number, place, kind
 * and expiry of each, deletes included, so that opening need not read the values. Any doubt
 * about a hint means reading the data file instead; a hint is never needed and never synced.
 *
 * A hint is bound to the store (uuid), the data file (number) and that file's length. It is
 * written as <number>.hint.tmp and renamed. Entries lie in blocks of about 64 KiB, each with
 * its own checksum, and a footer holds the count of entries and a checksum of the block
 * checksums, so that a truncated hint is never taken for a short one.
 *
 *     0       8         12    16     32       40          48    52
 *     +-------+---------+-----+------+--------+-----------+-----+
 *     | magic | version | pre | uuid | number | data_size | hdr |   header
 *     +-------+---------+-----+------+--------+-----------+-----+
 *     |<--- pre sums -->|
 *     |<----------------- hdr sums ---------------------->|
 *
 *     0      4       8     12        12+B
 *     +------+-------+-----+---------+
 *     | B    | count | crc | entries |   block, any number of them
 *     +------+-------+-----+---------+
 *     |<-- crc sums ->|    |<- and ->|
 *
 *     0     8        16     20  22     23      24       24 or 32   .. or 40   .. + K
 *     +-----+--------+------+---+------+-------+--------+----------+----------+
 *     | seq | offset | size | K | kind | flags | expiry | large    | key K    |   entry
 *     +-----+--------+------+---+------+-------+--------+----------+----------+
 *
 *     0   4        8         16      20    24
 *     +---+--------+---------+-------+-----+
 *     | 0 | blocks | entries | chain | crc |   footer, the last 24 bytes of the file
 *     +---+--------+---------+-------+-----+
 *     |<--------- crc sums --------->|
 *
 *   - Integers are little-endian, of the width that the picture shows. magic is "TKVHINTS".
 *     The sums are crc32. Bytes [0, 16) keep their meaning in every version.
 *   - B and a block's count are never 0; its entries fill its B bytes exactly.
 *   - flags: bit 0, there is an expiry. There is a large number with kind 3 only. Both are u64.
 *   - blocks and entries are counts; chain is the crc32 of the blocks' crc fields in order.
 *   - Whatever this picture does not allow, an unknown flag and a newer version included, is a
 *     doubt.
 */
#ifndef TKV_HINT_H
#define TKV_HINT_H

#include "os.h"
#include "record.h"

struct tkv_hint_entry {
    enum tkv_record_kind kind;
    uint64_t seq;
    uint64_t offset; /* of the record in the data file */
    uint32_t size;   /* of the record */
    uint64_t expires_at_ms;
    uint64_t large_number; /* kind LARGE: the data file that holds the value; else 0 */
    struct tkv_slice key;  /* borrows from the hint; at most TKV_KEY_SIZE_MAX */
};

struct tkv_hint_identity {
    uint8_t uuid[16];
    uint64_t number;    /* of the data file */
    uint64_t data_size; /* its length, which the hint covers */
};

#define TKV_HINT_VERSION 1u

/* Writing: collect entries in memory, then write the file in one go. */
struct tkv_hint_writer; /* opaque */

enum tkv_status tkv_hint_writer_new(struct tkv_hint_writer **ret_writer,
                                    struct tkv_error *err);
enum tkv_status tkv_hint_writer_add(struct tkv_hint_writer *writer,
                                    const struct tkv_hint_entry *entry,
                                    struct tkv_error *err);
/* Bytes of the file, as it would be written now. */
size_t tkv_hint_writer_size(const struct tkv_hint_writer *writer);
/* Writes <number>.hint. On failure nothing but a removable .tmp is left, if anything. Every
 * entry must lie within identity->data_size. */
enum tkv_status tkv_hint_writer_write(struct tkv_hint_writer *writer, struct tkv_os *os,
                                      int dir, const struct tkv_hint_identity *identity,
                                      struct tkv_error *err);
void tkv_hint_writer_free(struct tkv_hint_writer *writer);

/*
 * Reading. tkv_hint_open() verifies the whole file (identity, every checksum, every length,
 * the footer's count) before the first entry is handed out; TKV_NOT_FOUND when there is none,
 * TKV_CORRUPT for any doubt at all, TKV_IO, TKV_NO_MEMORY (memory needed is the file's size,
 * which is checked against the data file's before it is believed). Entries come in the order
 * in which they were added.
 *
 *     while (tkv_hint_next(hint, &entry)) ...
 */
struct tkv_hint;

enum tkv_status tkv_hint_open(struct tkv_os *os, int dir,
                              const struct tkv_hint_identity *identity,
                              struct tkv_hint **ret_hint, struct tkv_error *err);
bool tkv_hint_next(struct tkv_hint *hint, struct tkv_hint_entry *ret_entry);
void tkv_hint_rewind(struct tkv_hint *hint); /* begin again with the first entry */
void tkv_hint_free(struct tkv_hint *hint);

#endif
