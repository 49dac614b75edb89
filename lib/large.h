/* SPDX-License-Identifier: MIT */
/*
 * large.h - a value too large for the log lives in a data file of its own, written and synced
 * before the small record that refers to it is committed. No other record is in that file; it
 * is never copied, and removed when the record that refers to it is dead.
 *
 *     0        64      4096     4096+S  4096+S+16n
 *     +--------+-------+--------+-------+
 *     | header | zeros | chunks | table |   the file: n chunks, a table of n entries
 *     +--------+-------+--------+-------+
 *
 *     0        8   16    20  24    28  32
 *     +--------+---+-----+---+-----+---+
 *     | number | S | raw | n | crc | 0 |    the reference: what the record has as its value
 *     +--------+---+-----+---+-----+---+
 *
 *     0     4        8     12      16
 *     +-----+--------+-----+-------+
 *     | crc | stored | raw | codec |        an entry of the table
 *     +-----+--------+-----+-------+
 *
 *   - Integers are little-endian, of the width that the picture shows. The sums are crc32. The
 *     header is that of every data file (datafile.h).
 *   - A chunk is 1 MiB of the value, the last one what is left, stored or zlib-compressed. Its
 *     entry has the sum and the number of its bytes in the file, its size in the value, and
 *     the codec, as in a record. S is what all chunks occupy.
 *   - The reference has the file's number, the size of the value, and the sum of the table.
 *
 * Chunks have checksums of their own because a CRC-32 tells single bits apart up to some
 * 512 MiB only, and so that neither writing nor reading needs memory for more than one.
 *
 * Invariant: a file is live from before its record is committed until that record is dead.
 *
 * When something fails, a file that was being written is removed again. Damage in a file costs
 * its value.
 *
 * Threads: any; accounts and opening as said below.
 */
#ifndef TKV_LARGE_H
#define TKV_LARGE_H

#include "bytes.h"
#include "error.h"

struct tkv_datafile;

/* Where things are: in the file, in the reference, in an entry. */
enum {
    TKV_LARGE_AT_CHUNKS = TKV_BLOCK_SIZE,
    TKV_LARGE_CHUNK_SIZE = 1024 * 1024,

    TKV_LARGE_AT_NUMBER = 0,
    TKV_LARGE_AT_STORED_SIZE = 8,
    TKV_LARGE_AT_RAW_SIZE = 16,
    TKV_LARGE_AT_CHUNK_COUNT = 20,
    TKV_LARGE_AT_TABLE_CRC = 24,
    TKV_LARGE_AT_ZERO = 28,
    TKV_LARGE_REFERENCE_SIZE = 32,

    TKV_LARGE_ENTRY_AT_CRC = 0,
    TKV_LARGE_ENTRY_AT_STORED_SIZE = 4,
    TKV_LARGE_ENTRY_AT_RAW_SIZE = 8,
    TKV_LARGE_ENTRY_AT_CODEC = 12,
    TKV_LARGE_ENTRY_SIZE = 16
};

struct tkv_large_reference {
    uint64_t number;      /* of the data file */
    uint64_t stored_size; /* of its payload */
    uint32_t raw_size;
    uint32_t chunk_count;
    uint32_t table_crc;
};

/* What the table says of a chunk. */
struct tkv_large_entry {
    uint32_t crc; /* of the stored bytes */
    uint32_t stored_size;
    uint32_t raw_size;
    uint32_t codec; /* enum tkv_record_codec, if the table is right */
};

/* ---- large.c: bytes and accounts ------------------------------------------------- */

void tkv_large_encode(const struct tkv_large_reference *reference,
                      uint8_t out[TKV_LARGE_REFERENCE_SIZE]);
/* False: no writer has written that. */
bool tkv_large_decode(struct tkv_slice value, struct tkv_large_reference *ret_reference);
uint64_t tkv_large_file_size(const struct tkv_large_reference *reference);

void tkv_large_put_entry(const struct tkv_large_entry *entry, uint8_t *p);
struct tkv_large_entry tkv_large_get_entry(const uint8_t *p);

/* Count the file of a reference as live or dead. With `apply` held, or while a store is being
 * opened. */
void tkv_large_referenced(struct tkv_store *store,
                          const struct tkv_large_reference *reference);
void tkv_large_unreferenced(struct tkv_store *store,
                            const struct tkv_large_reference *reference);
/* A file that counted as live is dead. Likewise. */
void tkv_large_dead(struct tkv_store *store, struct tkv_datafile *file);

/* ---- large_write.c --------------------------------------------------------------- */

/* Write the value to a file of its own and sync it; *ret_file is in the table then, and
 * `reference` is the value for the log. */
enum tkv_status tkv_large_write(struct tkv_store *store, struct tkv_slice value,
                                uint8_t reference[TKV_LARGE_REFERENCE_SIZE],
                                struct tkv_datafile **ret_file,
                                struct tkv_error *err) TKV_COLD;
/* The log did not take it: remove the file again. */
void tkv_large_abandon(struct tkv_store *store, struct tkv_datafile *file) TKV_COLD;

/* ---- large_read.c ---------------------------------------------------------------- */

/* Read the whole value into `out`, raw_size bytes, verifying every chunk. Inside an epoch or
 * with a reference to `file`. */
enum tkv_status tkv_large_read(struct tkv_datafile *file,
                               const struct tkv_large_reference *reference, uint8_t *out,
                               struct tkv_error *err) TKV_COLD;

/* ---- large_adopt.c --------------------------------------------------------------- */

/* Files of large values are live when a live record refers to them: count those, and
 * open what the manifest does not list. */
enum tkv_status tkv_large_adopt(struct tkv_store *store, struct tkv_open_report *report,
                                struct tkv_error *err);

#endif
