/* SPDX-License-Identifier: MIT */
/*
 * create.c - a new store: a log and a manifest that lists no data file.
 *
 * Invariant: the manifest comes last, and everything that it needs is durable before it. A
 * crash leaves a store, or a directory in which creation can begin again.
 *
 * Threads: only while a store is being opened.
 */
#include "store.h"

enum tkv_status tkv_create_check_remains(struct tkv_store *store, size_t data_count,
                                         bool has_wal, struct tkv_error *err)
{
    struct tkv_wal_header header;
    enum tkv_status status;
    int fd;

    if (data_count > 0)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is missing, but there are %zu data files", data_count);
    if (!has_wal)
        return TKV_OK;
    fd = store->os->open(store->os, store->dir, TKV_WAL_NAME, TKV_OS_READ);
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    status = tkv_wal_read_header(store->os, fd, &header, NULL);
    (void)store->os->close(store->os, fd);
    if (status == TKV_OK && header.checkpoint.generation > 1)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is missing, but %s has been in use", TKV_WAL_NAME);
    return TKV_OK;
}

static enum tkv_status draw(struct tkv_store *store, void *bytes, size_t size,
                            struct tkv_error *err)
{
    const int result = store->os->random(store->os, bytes, size);

    return result < 0 ? tkv_fail_os(err, result, "", "random numbers") : TKV_OK;
}

enum tkv_status tkv_create_salt(struct tkv_store *store, uint64_t *ret_salt,
                                struct tkv_error *err)
{
    enum tkv_status status;

    do {
        status = draw(store, ret_salt, sizeof *ret_salt, err);
    } while (status == TKV_OK && *ret_salt == 0);
    return status;
}

static uint64_t first_ring_end(const struct tkv_options *options)
{
    const uint64_t size = options->wal_size_max < TKV_WAL_SIZE_FIRST ? options->wal_size_max
                                                                     : TKV_WAL_SIZE_FIRST;

    return size / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
}

/* wal.log is complete and durable, name included, before a manifest makes it a store. */
enum tkv_status tkv_create_store(struct tkv_store *store, struct tkv_open_report *report,
                                 struct tkv_error *err)
{
    struct tkv_checkpoint first = {.generation = 1,
                                   .position = TKV_BLOCK_SIZE,
                                   .file_offset = TKV_WAL_RING_START,
                                   .seq_next = 1};
    struct tkv_wal_header header;
    struct tkv_manifest manifest = {.epoch = 1, .next_number = 1};
    enum tkv_status status;
    bool unknown;
    int result;

    status = draw(store, manifest.uuid, sizeof manifest.uuid, err);
    if (status == TKV_OK)
        status = tkv_create_salt(store, &first.salt, err);
    if (status != TKV_OK)
        return status;
    memset(&header, 0, sizeof header);
    memcpy(header.uuid, manifest.uuid, sizeof header.uuid);
    header.checkpoint = first;
    header.manifest_epoch = 1;
    header.ring_end = first_ring_end(&store->options);
    status = tkv_wal_create(store->os, store->dir, &header, err);
    if (status != TKV_OK)
        return status;
    result = store->os->sync_dir(store->os, store->dir);
    if (result < 0)
        return tkv_fail_os(err, result, "", "sync the store's directory");
    manifest.checkpoint = first;
    manifest.durable_mark = first.position;
    report->created = true;
    return tkv_manifest_write(store->os, store->dir, &manifest, &unknown, err);
}
