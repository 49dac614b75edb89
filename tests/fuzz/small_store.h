/* SPDX-License-Identifier: MIT */
/*
 * small_store.h - small, real stores: what the engine leaves on a disk after a fixed workload
 * that has all kinds of records and files. Fuzz targets start from them, and seeds.c cuts the
 * seed corpora out of them.
 *
 * A value says which write of which key it belongs to, so that it is known whether what a
 * damaged store returns was ever written for that key.
 */
#ifndef TKV_SMALL_STORE_H
#define TKV_SMALL_STORE_H

#include "memory_disk.h"
#include "tinykv.h"

enum small_store_kind {
    SMALL_STORE_NEW,       /* one put, killed */
    SMALL_STORE_CLOSED,    /* puts, deletes, a batch, expiry, compression; closed */
    SMALL_STORE_KILLED,    /* the same, killed with groups in the log */
    SMALL_STORE_RELAXED,   /* the same in mode NONE, whose groups share blocks */
    SMALL_STORE_COMPACTED, /* several data files, hints, survivors; killed */
    SMALL_STORE_LARGE,     /* values in files of their own; killed */
    SMALL_STORE_WRAPPED,   /* the log has begun another lap; killed */
    SMALL_STORE_KINDS
};

struct small_file {
    char name[MEMORY_DISK_NAME_SIZE];
    uint8_t *bytes;
    size_t size;
};

struct small_store {
    struct small_file files[16];
    size_t file_count;
};

/* Options for stores of this size: no threads, files that rotate at 64 KiB. */
struct tkv_options small_store_options(void);

/* Made once; what the disk holds is lost. */
const struct small_store *small_store(struct memory_disk *disk, enum small_store_kind kind);

/* Make it the content of the disk, which is cleared. */
void small_store_put(const struct small_store *store, struct memory_disk *disk);

/* Was this value written for this key once? */
bool small_store_is_true(struct tkv_slice key, struct tkv_slice value);

#endif
