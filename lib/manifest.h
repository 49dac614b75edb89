/* SPDX-License-Identifier: MIT */
/*
 * manifest.h - which data files the store consists of, and the checkpoint that they were at
 * when the set last changed. The whole file is replaced at each change: MANIFEST.tmp, sync,
 * rename, sync of the directory. It is small (48 bytes a file) and written rarely: once for
 * every new set of files, never for a put.
 *
 * A checkpoint has two homes. Most are written to a header block of wal.log only (wal/wal.h)
 * and name the manifest epoch they build upon; a change of the file set writes one here.
 * Recovery takes the newer of the two.
 *
 *     0       8         12    16     24     40      48            56           104   108   112
 *     +-------+---------+-----+------+------+-------+-------------+------------+-----+-----+
 *     | magic | version | pre | size | uuid | epoch | next number | checkpoint | d   | hdr |
 *     +-------+---------+-----+------+------+-------+-------------+------------+-----+-----+
 *     |<--- pre sums -->|
 *     |<---------------------------------- hdr sums ---------------------------->|
 *
 *     56           64     72         80            88         96      100     104
 *     +------------+------+----------+-------------+----------+-------+-------+
 *     | generation | salt | position | file_offset | seq_next | chain | files |   checkpoint,
 *     +------------+------+----------+-------------+----------+-------+-------+   count of files
 *
 *     d: the log was on disk for at least 8 d bytes behind the position
 *
 *     112 + 48 i   8              16         24      25      26      32           40      48
 *     +------------+--------------+----------+-------+-------+-------+------------+-------+
 *     | number     | durable_size | seq_base | class | flags | zeros | record_sum | zeros |
 *     +------------+--------------+----------+-------+-------+-------+------------+-------+
 *                                                                             file i of n
 *
 *     112 + 48 n
 *     +-------+
 *     | crc32 |   of everything before it; here the file ends
 *     +-------+
 *
 *   - Integers are little-endian: u64 where eight bytes are shown, u32 where four are, class
 *     and flags u8. magic is "TKVMANIF"; size is that of the whole file. The sums are crc32.
 *   - Bytes [0, 16) keep their meaning in every version, so that a newer version is told from
 *     damage. The header's own sum is checked before its count of files is believed.
 *   - flags: bit 0 sealed. Other flags and the zeros are for later versions: refused here.
 *   - epoch, salt and seq_next are never 0; position and file_offset are multiples of 8, and
 *     file_offset is at least 8192, where the log proper begins. Numbers are at least 1 and
 *     ascend; next number is above all of them and at most 2^63. durable_size is below 2^40,
 *     seq_base at most 2^64 - 2^32.
 *
 * Invariant: decode(encode(m)) == m, and no prefix of a manifest and none with a flipped bit
 * decodes. tests/test_manifest.c checks every prefix and every bit.
 */
#ifndef TKV_MANIFEST_H
#define TKV_MANIFEST_H

#include "file_name.h"
#include "os.h"
#include "tinykv.h"

#define TKV_FORMAT_VERSION 1u

/* No manifest is larger. */
#define TKV_MANIFEST_SIZE_MAX (16u * 1024 * 1024)

/* So far behind the checkpoint a durable mark may lie: 32 GiB, without the last 8 bytes. */
#define TKV_MANIFEST_MARK_MAX (UINT64_C(8) * UINT32_MAX)

/* "Everything before `position` in the log is in the data files." */
struct tkv_checkpoint {
    uint64_t generation;  /* in a log header: of that header; the highest is the newest. In
                             a manifest: of the newest header that was durable before it */
    uint64_t salt;        /* identity of the log it belongs to */
    uint64_t position;    /* where in the log replay begins ... */
    uint64_t file_offset; /* ... and where in wal.log that is */
    uint64_t seq_next;    /* no record at or after `position` has a lower one */
    uint32_t chain;       /* what the first group there must name as its predecessor */
};

enum tkv_file_class {
    TKV_FILE_FRESH = 1,     /* written by puts */
    TKV_FILE_COMPACTED = 2, /* written by the compactor */
    TKV_FILE_LARGE = 3      /* holds one large value */
};

struct tkv_manifest_file {
    uint64_t number;
    uint64_t durable_size; /* bytes beyond it do not exist */
    uint64_t seq_base;     /* every record's seq is in [seq_base, seq_base + 2^32) */
    enum tkv_file_class file_class;
    bool sealed;         /* nothing will be appended; durable_size is final */
    uint64_t record_sum; /* which records lie where below durable_size, as
                            tkv_datafile_record_share() adds up; 0: not known */
};

struct tkv_manifest {
    uint8_t uuid[16];
    uint64_t epoch;       /* counts manifests; each is one more than the last */
    uint64_t next_number; /* no data file has this number or a higher one */
    struct tkv_checkpoint checkpoint;
    uint64_t durable_mark; /* the log was on disk up to this position: a multiple of 8, from
                              checkpoint.position to 32 GiB behind it */
    struct tkv_manifest_file *files; /* owned; in ascending order of number */
    size_t file_count;
};

/* Bytes of one that lists so many files. */
size_t tkv_manifest_size(size_t file_count);

/* Serialise; *ret_bytes is malloc()ed. Pure otherwise. TKV_TOO_BIG above 349,522 files, whose
 * manifest tkv_manifest_read() would refuse. */
enum tkv_status tkv_manifest_encode(const struct tkv_manifest *manifest,
                                    uint8_t **ret_bytes, size_t *ret_size,
                                    struct tkv_error *err);

/* Check everything (magic, version, checksum, every range, order of numbers) before trusting
 * anything. TKV_CORRUPT, TKV_UNSUPPORTED (newer version) or TKV_NO_MEMORY, with the file name
 * MANIFEST and the offset in *err. The caller releases ret_manifest. */
enum tkv_status tkv_manifest_decode(struct tkv_slice bytes,
                                    struct tkv_manifest *ret_manifest,
                                    struct tkv_error *err);

/* Free the list of files and leave it empty; harmless twice. */
void tkv_manifest_release(struct tkv_manifest *manifest);

/* ---- On disk: manifest_file.c ---- */

/* Read it from `dir`. TKV_NOT_FOUND when there is none. A file larger than 16 MiB is refused
 * as damaged before anything is allocated. */
enum tkv_status tkv_manifest_read(struct tkv_os *os, int dir,
                                  struct tkv_manifest *ret_manifest, struct tkv_error *err);

/*
 * Replace the manifest. *ret_unknown is always written, and tells how a failure left the
 * world: false, the old manifest stands as if nothing had been tried (the temporary file is
 * removed, its failed sync included); true, the rename or the sync of the directory failed,
 * and nobody knows which manifest is on disk: stop writing.
 */
enum tkv_status tkv_manifest_write(struct tkv_os *os, int dir,
                                   const struct tkv_manifest *manifest, bool *ret_unknown,
                                   struct tkv_error *err);

#endif
