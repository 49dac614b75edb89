/* SPDX-License-Identifier: MIT */
/*
 * group.h - the bytes of wal.log. Pure functions: no files, no locks, no allocation. Writer
 * and reader share this one header.
 *
 *     0          4096       8192                                              end of file
 *     +----------+----------+--------------------------------------------------+
 *     | header A | header B | ring of commit groups                            |
 *     +----------+----------+--------------------------------------------------+
 *
 * A group is what one commit wrote: the unit of atomicity, of acknowledgement and of replay.
 *
 *     0        8       12      16         24      32         40      44    45     46
 *     +--------+-------+-------+----------+-------+----------+-------+-----+------+-------+
 *     | salt   | hcrc  | P     | position | seq   | durable  | count |type |flags | 0:u16 |
 *     | u64    | u32   | u32   | u64      | u64   | u64      | u32   | u8  | u8   |       |
 *     +--------+-------+-------+----------+-------+----------+-------+-----+------+-------+
 *     48       52      56               56+P
 *     +--------+-------+----------------+-----------------+
 *     | chain  | pcrc  | payload P      | zeros to 8/4096 |
 *     | u32    | u32   |                |                 |
 *     +--------+-------+----------------+-----------------+
 *
 *   - salt: random and new each time the store is opened; compared exactly, so that nothing
 *     written in an earlier life can be taken for a group of this one. Never 0.
 *   - position: absolute place in the log, a multiple of 8 that never repeats in the life of a
 *     store. Together with the salt it tells a group from those of earlier laps of the ring.
 *   - chain: hcrc ^ pcrc of the group before; removed, swapped or stale groups break it.
 *   - durable: everything before this position was known to be on disk when the group was
 *     built. It tells a torn tail (nothing acknowledged is lost) from damage (something is).
 *   - hcrc covers bytes [0, 8) and [12, 56), pcrc the payload; both begin with the CRC-32 of
 *     the store's uuid and the group's offset in the file (misdirected writes do not match).
 *     hcrc is checked before P is believed.
 *   - payload: `count` records (lib/record.h) with ascending sequence numbers from `seq` on.
 *   - type: 1. flags bit 0: the group ends at a 4096-byte boundary of the file, else at the
 *     next multiple of 8.
 *
 * A header block (both have this form; the valid one with the higher generation counts):
 *
 *     0        8     12       16     32          40     48         56           64
 *     +--------+-----+--------+------+-----------+------+----------+------------+----------+
 *     | magic  | crc | version| uuid | generation| salt | position | file offset| seq next |
 *     +--------+-----+--------+------+-----------+------+----------+------------+----------+
 *     72      76         80             88            96          104     108
 *     +-------+----------+--------------+-------------+-----------+-------+-------+---------+
 *     | chain | files n  | manifest     | durable     | ring end  | flags | 0:u32 | n x 16  |
 *     | u32   | u32      | epoch u64    | mark u64    | u64       | u32   |       |         |
 *     +-------+----------+--------------+-------------+-----------+-------+-------+---------+
 *     2768
 *     +--------+
 *     | n x 8  |
 *     +--------+
 *
 *   - crc covers bytes [12, 4096); unused bytes are zero.
 *   - position .. chain: the checkpoint (lib/manifest.h). Each file entry is the number of a
 *     data file of the manifest with that epoch, with bit 63 set when it is sealed, and its
 *     durable size; files that are not listed are as in the manifest. At 2768 are the sums of
 *     the same files' records below those sizes, in the same order.
 *   - durable mark: like a group's `durable`; written when the log has been idle for a while.
 *   - ring end: the file was at least this long. flags bit 0: the store was closed properly.
 */
#ifndef TKV_GROUP_H
#define TKV_GROUP_H

#include "bytes.h"
#include "manifest.h"

#define TKV_GROUP_HEADER_SIZE    56u
#define TKV_WAL_RING_START       8192u
#define TKV_WAL_HEADER_FILES_MAX 166u

#define TKV_GROUP_TYPE_RECORDS 1u
#define TKV_GROUP_FLAG_BLOCKS  1u

struct tkv_group {
    uint64_t salt;
    uint64_t position;
    uint64_t seq;
    uint64_t durable;
    uint32_t payload_size;
    uint32_t count;
    uint32_t chain;
    bool ends_at_block;
};

/* Where the group after this one may begin, as a distance from this one's start. */
uint64_t tkv_group_extent(uint32_t payload_size, bool ends_at_block);

/* The CRC that both checksums of a group at `file_offset` begin with. */
uint32_t tkv_group_seed(const uint8_t uuid[16], uint64_t file_offset);

/* Write the 56 bytes before the payload at `out`; the payload lies behind them already.
 * Returns what the next group must have as its `chain`. */
uint32_t tkv_group_encode(const struct tkv_group *group, uint32_t seed, uint8_t *out);

/* The header alone, which is all that its sizes and watermark need. False: not a group that
 * was written at the offset of `seed`. */
bool tkv_group_decode_header(const uint8_t bytes[TKV_GROUP_HEADER_SIZE], uint32_t seed,
                             struct tkv_group *ret_group);

/* The payload behind a header that decoded: `payload` is payload_size bytes. Every record is
 * verified and their sequence numbers ascend from group->seq. *ret_chain as above. */
bool tkv_group_check_payload(const struct tkv_group *group, const uint8_t *header,
                             const uint8_t *payload, uint32_t seed, uint32_t *ret_chain);

struct tkv_wal_header_file {
    uint64_t number;
    uint64_t durable_size;
    bool sealed;
    uint64_t record_sum; /* as in the manifest */
};

struct tkv_wal_header {
    uint8_t uuid[16];
    struct tkv_checkpoint checkpoint;
    uint64_t manifest_epoch;
    uint64_t durable_mark;
    uint64_t ring_end;
    bool clean;
    bool is_next_best; /* as read: the other block is unreadable, and was perhaps newer */
    uint32_t file_count;
    struct tkv_wal_header_file files[TKV_WAL_HEADER_FILES_MAX];
};

void tkv_wal_header_encode(const struct tkv_wal_header *header,
                           uint8_t out[TKV_BLOCK_SIZE]);

/* TKV_CORRUPT when it is not a header block, TKV_UNSUPPORTED when it is one of a newer
 * format. Fills in *err, with `offset` as the place. */
enum tkv_status tkv_wal_header_decode(const uint8_t bytes[TKV_BLOCK_SIZE], uint64_t offset,
                                      struct tkv_wal_header *ret_header,
                                      struct tkv_error *err);

#endif
