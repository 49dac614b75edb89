/* SPDX-License-Identifier: MIT */
/*
 * datafile.h - one data file: records, appended in memory, written in large chunks, and read
 * from wherever they are.
 *
 *     0         64                durable        written          size      capacity
 *     +---------+------------------+--------------+---------------+............+
 *     | header  | records          | records      | memory only   |            |
 *     +---------+------------------+--------------+---------------+............+
 *                                  ^ a multiple of 4096: what a checkpoint has made durable
 *                                    never shares a block with what is written later
 *
 *   header: 0 magic u64 | 8 crc32 u32 of [12, 64) | 12 version u32 | 16 uuid | 32 number u64 |
 *           40 seq base u64 | 48 class u8 | zeros to 64
 *   A zero byte where a record would begin means zeros up to the next multiple of 4096.
 *
 * Bytes beyond `durable` do not exist as far as recovery is concerned: it re-creates them from
 * the log. So a torn data file cannot occur, and nothing here is ever synced for a put.
 *
 * The memory tail holds everything from `tail_start` on until the file is sealed and durable;
 * then the file is mapped (or read with pread) and the tail is freed once no reader is left.
 *
 * Threads: appending is serialised by the owner (its apply lock), writing and syncing too (its
 * upkeep lock). Reads need neither; they happen inside an epoch or hold a reference.
 */
#ifndef TKV_DATAFILE_H
#define TKV_DATAFILE_H

#include "file_name.h"
#include "manifest.h"
#include "os.h"
#include "superseded.h"
#include "usage.h"

#define TKV_DATA_HEADER_SIZE 64u

/* A file is written in pieces that begin at multiples of this. A file system with large folios
 * (ext4 on Linux 6.18) keeps a piece that one call wrote in one folio of the page cache, and
 * maps that as one huge page: gets of random records of 100 bytes are then 5 % faster, of 1 kB
 * 10 %. */
#define TKV_PIECE_SIZE (2u * 1024 * 1024)

struct tkv_datafile {
    /* Constant. */
    struct tkv_os *os;
    char name[TKV_FILE_NAME_SIZE];
    uint64_t number;
    uint64_t seq_base;
    enum tkv_file_class file_class;
    bool use_map;
    bool lost;           /* see tkv_datafile_lost() */
    uint32_t slot;       /* in the owner's table */
    uint64_t tail_start; /* offset of the first byte of the tail's memory */
    uint64_t capacity;   /* no append goes beyond */

    /* Changed by who appends. */
    _Atomic uint64_t size;
    _Atomic(uint8_t *) tail;
    atomic_bool sealed;
    _Atomic uint64_t seq_min, seq_max; /* of all records; 0 in an empty file */
    _Atomic uint64_t seq_min_put; /* oldest record that is not a delete; UINT64_MAX: none */
    _Atomic uint64_t record_sum;  /* which records lie where, see below */
    struct tkv_usage usage;
    struct tkv_superseded superseded;
    _Atomic uint64_t pinned_by; /* the file that holds an older record which this file's
                                   tombstones hide, as far as known; 0: unknown */

    _Atomic uint64_t pinned_bytes; /* what of its tombstones is accounted as needed */
    atomic_bool damaged;           /* compaction met damage: left alone from then on */

    /* Changed by who writes to disk. */
    int fd; /* -1: not created yet, or closed because mapped */
    bool exists;
    _Atomic uint64_t written;
    uint64_t durable;     /* as of the last checkpoint, ... */
    uint64_t durable_sum; /* ... record_sum at that size (0: not known), ... */
    bool durable_sealed;  /* ... and whether it was sealed then */
    bool is_being_listed; /* in a manifest that is being written */
    bool listed;          /* the manifest has it ... */
    bool listed_sealed;   /* ... as sealed, ... */
    uint64_t listed_size; /* ... with this durable size */
    uint64_t hinted_size; /* so much of it the hint file covers, as far as known */
    bool
        is_from_hint; /* what the index knows of it was taken from its hint, on trust ... */
    uint64_t hint_sum; /* ... and this is the sum of what that said, see below */
    _Atomic(uint8_t *) map;
    size_t map_size;
    uint64_t touched;      /* memory up to here is there; see tkv_datafile_touch() */
    uint8_t *retired_tail; /* freed by tkv_datafile_free_tail() */

    int cut_fd;    /* of a removed file, to give its space back in steps, or -1 */
    uint64_t left; /* what it still has */

    atomic_uint references; /* the owner's table has one, each pin one */
    atomic_bool condemned;  /* no longer in the set: the next manifest leaves it out */
};

/* A new, empty file in memory. The disk learns of it when it is first written. */
enum tkv_status tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16], uint64_t number,
                                 uint64_t seq_base, enum tkv_file_class file_class,
                                 uint64_t capacity, bool use_map,
                                 struct tkv_datafile **ret_file, struct tkv_error *err);

/* For a file that the log knows and the manifest does not yet. */
#define TKV_SEQ_BASE_ANY UINT64_MAX

/* One that the manifest lists, for reading; its header and length are checked. */
enum tkv_status tkv_datafile_open(struct tkv_os *os, int dir, const uint8_t uuid[16],
                                  const struct tkv_manifest_file *entry, bool use_map,
                                  struct tkv_datafile **ret_file, struct tkv_error *err);

/* What a file that nobody lists is. */
enum tkv_leftover {
    TKV_LEFTOVER_RECORDS, /* this store's, of records */
    TKV_LEFTOVER_VALUE,   /* a large value, or nobody knows: without a whole header */
    TKV_LEFTOVER_FOREIGN  /* its header is of another store, or cannot be read now */
};
enum tkv_leftover tkv_datafile_leftover(struct tkv_os *os, int dir, const char *name,
                                        const uint8_t uuid[16]);

/* One that cannot be opened: it has its number and its size, and every read of it is
 * TKV_CORRUPT. NULL without memory. */
struct tkv_datafile *tkv_datafile_lost(struct tkv_os *os,
                                       const struct tkv_manifest_file *entry);

/* Let an opened, unsealed file grow again, up to `capacity`: in memory ... */
enum tkv_status tkv_datafile_reopen_tail(struct tkv_datafile *file, uint64_t capacity,
                                         struct tkv_error *err);
/* ... and on disk, once it is certain that what lies beyond its durable size is not needed. */
enum tkv_status tkv_datafile_reopen_file(struct tkv_datafile *file, int dir,
                                         struct tkv_error *err);

void tkv_datafile_reference(struct tkv_datafile *file);
void tkv_datafile_release(struct tkv_datafile *file); /* the last one closes and frees */

/* Map the first `size` bytes, if the file is to be mapped and is not yet. A matter of speed:
 * without a mapping, pread serves. */
void tkv_datafile_map(struct tkv_datafile *file, uint64_t size);
/* By the last one who has a reference. */
void tkv_datafile_unmap(struct tkv_datafile *file);

uint64_t tkv_datafile_room(const struct tkv_datafile *file);

/* Append bytes that fit; returns their offset. */
uint64_t tkv_datafile_append(struct tkv_datafile *file, const void *bytes, size_t size);

/* Have the system map the memory that the next so many bytes will need, so that who appends them
 * does not have to wait for it. Nothing is written; one thread at a time, which holds a
 * reference. */
void tkv_datafile_touch(struct tkv_datafile *file, size_t bytes);

/* Keep the account of one record that was appended. */
void tkv_datafile_note_record(struct tkv_datafile *file, uint64_t offset, uint64_t seq,
                              bool is_delete);

/* A record's whole sequence number from its lower half, all that the index has. It suffices:
 * no record of a file is 2^32 or more above seq_base. */
static inline uint64_t tkv_datafile_seq(const struct tkv_datafile *file, uint32_t seq_low)
{
    return file->seq_base + (uint32_t)(seq_low - (uint32_t)file->seq_base);
}

/* One record's share of record_sum. A file whose records add up to another sum is not the one
 * that the index was made from: some are missing, twice there, or elsewhere. */
static inline uint64_t tkv_datafile_record_share(uint64_t offset, uint64_t seq)
{
    uint64_t x = offset * UINT64_C(0x9e3779b97f4a7c15) + seq;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Likewise of hint_sum: where its record lies is not all that a hint can have wrong. */
static inline uint64_t tkv_datafile_hint_share(uint64_t offset, uint64_t key_hash,
                                               unsigned kind, uint64_t expires_at_ms)
{
    return tkv_datafile_record_share(offset, key_hash + kind + 4 * expires_at_ms);
}

/* Forget what was appended after `size`, a durable size, and to which nothing points. */
void tkv_datafile_rewind(struct tkv_datafile *file, uint64_t size, uint64_t records,
                         uint64_t record_sum);

/* Zeros up to the next block boundary. Returns the size then. */
uint64_t tkv_datafile_pad(struct tkv_datafile *file);

/* Write what is in memory up to `target`, creating the file if need be (*ret_created). */
enum tkv_status tkv_datafile_write(struct tkv_datafile *file, int dir, uint64_t target,
                                   bool *ret_created, struct tkv_error *err);

enum tkv_status tkv_datafile_sync(struct tkv_datafile *file, struct tkv_error *err);

/* Map a file whose bytes are final and close its descriptor; without a mapping it keeps that. */
void tkv_datafile_settle(struct tkv_datafile *file);

/* Sealed and durable, both known to whoever makes it durable, but its tail is in memory. */
bool tkv_datafile_is_settled(struct tkv_datafile *file);

/* A sealed, durable file needs no tail any more: map it and retire the tail's memory, which
 * tkv_datafile_free_tail() frees, to be called after an epoch, and again later when pins were
 * in the way. Harmless when there is nothing to do. True when a tail was retired. */
bool tkv_datafile_retire_tail(struct tkv_datafile *file);
void tkv_datafile_free_tail(struct tkv_datafile *file);

/* The bytes where they lie, or NULL when they must be read. The range is checked first:
 * *ret_outside is true when the file has no such bytes. */
const uint8_t *tkv_datafile_view(struct tkv_datafile *file, uint64_t offset, size_t size,
                                 bool *ret_outside);

/* Copy or read the bytes. TKV_CORRUPT when the file has no such bytes, TKV_IO. */
enum tkv_status tkv_datafile_read(struct tkv_datafile *file, uint64_t offset, void *buffer,
                                  size_t size, struct tkv_error *err);

#endif
