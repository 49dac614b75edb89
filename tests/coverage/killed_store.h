/* SPDX-License-Identifier: MIT */
/*
 * killed_store.h - a small store that was killed with one key in its data file and one in its
 * log only, and its log header and manifest from outside: read, changed, and written with right
 * checksums.
 */
#ifndef TKV_KILLED_STORE_H
#define TKV_KILLED_STORE_H

#include "../small_store.h"

#include "manifest.h"
#include "replay.h"

static inline void read_header(struct fixture *f, struct tkv_wal_header *ret_newest)
{
    struct tkv_wal_header header;
    bool found = false;

    keep_file(f, "wal.log", &first);
    for (unsigned i = 0; i < 2; i++) {
        if (tkv_wal_header_decode(first.bytes + i * TKV_BLOCK_SIZE, 0, &header, NULL) !=
            TKV_OK)
            continue;
        if (!found || header.checkpoint.generation > ret_newest->checkpoint.generation)
            *ret_newest = header;
        found = true;
    }
    CHECK(found);
}

static inline void write_header(struct fixture *f, const struct tkv_wal_header *header)
{
    uint8_t block[TKV_BLOCK_SIZE];

    tkv_wal_header_encode(header, block);
    CHECK(simdisk_file_write(f->disk, "wal.log", block, sizeof block,
                             header->checkpoint.generation % 2 * TKV_BLOCK_SIZE) > 0);
}

static inline void read_manifest(struct fixture *f, struct tkv_manifest *ret_manifest)
{
    keep_file(f, "MANIFEST", &first);
    CHECK_OK(tkv_manifest_decode(tkv_bytes(first.bytes, (size_t)first.size), ret_manifest,
                                 &err));
}

static inline void write_manifest(struct fixture *f, struct tkv_manifest *manifest)
{
    uint8_t *bytes;
    size_t size;

    CHECK_OK(tkv_manifest_encode(manifest, &bytes, &size, &err));
    CHECK(simdisk_file_truncate(f->disk, "MANIFEST", 0) >= 0);
    CHECK(simdisk_file_write(f->disk, "MANIFEST", bytes, size, 0) > 0);
    free(bytes);
    tkv_manifest_release(manifest);
}

/* The newest header, and make it one that has news about a data file that nobody lists. */
static inline void name_unlisted_file(struct fixture *f, struct tkv_wal_header *ret_header)
{
    read_header(f, ret_header);
    ret_header->file_count = 1;
    ret_header->files[0] = (struct tkv_wal_header_file){77, 4096, false, 0};
    write_header(f, ret_header);
}

/* With a key in the log only. */
static inline void begin_killed(struct fixture *f)
{
    begin(f);
    put_bytes(f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    put_bytes(f, "b", 2, 100);
    kill_process(f, SIMDISK_NOTHING_PENDING);
}

/* Three keys: in the data file since the manifest's checkpoint, since the header's, and in the
 * log only. */
static inline void begin_with_news(struct fixture *f)
{
    begin(f);
    put_bytes(f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    put_bytes(f, "b", 2, 100);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    put_bytes(f, "c", 3, 100);
    kill_process(f, SIMDISK_NOTHING_PENDING);
}

static inline void expect_both(struct fixture *f)
{
    check_byte(f, "a", 1);
    check_byte(f, "b", 2);
}

/* For `why`, at the beginning of `file`. */
static inline void expect_refused(struct fixture *f, const char *file, const char *why)
{
    memset(&err, 0xee, sizeof err); /* every field is filled in */
    CHECK_EQ(try_open(f), TKV_CORRUPT);
    CHECK_STR(err.file, file);
    CHECK_EQ(err.offset, 0);
    CHECK_EQ(err.seq, 0);
    CHECK(strstr(err.message, why) != NULL);
}

#endif
