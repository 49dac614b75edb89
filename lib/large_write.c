/* SPDX-License-Identifier: MIT */
/*
 * large_write.c - a large value into a file of its own, on its way to the log.
 *
 * Invariant: before the log refers to it, the file and its name are durable, and it counts as
 * live.
 *
 * When something fails the file is removed again, by the next opening if not here. A sync that
 * failed poisons the store.
 *
 * Threads: any, with none of the store's locks held.
 */
#include "large.h"

#include "checksum.h"
#include "codec.h"
#include "store.h"

#include <stdlib.h>

#define CHUNKS_MAX (TKV_VALUE_SIZE_MAX / TKV_LARGE_CHUNK_SIZE)

/* ---- The bytes ------------------------------------------------------------------- */

struct writer {
    struct tkv_store *store;
    struct tkv_datafile *file;
    uint64_t offset;
    uint8_t *table;
    uint8_t *scratch; /* one compressed chunk; NULL when compression is off */
    struct tkv_large_reference reference;
};

static enum tkv_status write_bytes(struct writer *w, const void *bytes, size_t size,
                                   struct tkv_error *err)
{
    const int result = tkv_os_write_all(w->store->os, w->file->fd, bytes, size, w->offset);

    if (result < 0)
        return tkv_fail_os(err, result, w->file->name,
                           "write %zu bytes at offset %llu of %s", size,
                           (unsigned long long)w->offset, w->file->name);
    w->offset += size;
    tkv_usage_add(&w->store->counters.data_bytes_written, size);
    return TKV_OK;
}

static enum tkv_status write_chunk(struct writer *w, struct tkv_slice raw,
                                   struct tkv_error *err)
{
    struct tkv_slice stored = raw;
    enum tkv_record_codec codec = TKV_CODEC_STORED;

    if (w->scratch != NULL) {
        const size_t size = tkv_codec_deflate(raw, w->store->options.compress_level,
                                              w->scratch, raw.size - 1);
        if (size != 0) {
            stored = tkv_bytes(w->scratch, size);
            codec = TKV_CODEC_ZLIB;
        }
    }
    tkv_large_put_entry(
        &(struct tkv_large_entry){
            .crc = tkv_crc32(0, stored.data, stored.size),
            .stored_size = (uint32_t)stored.size,
            .raw_size = (uint32_t)raw.size,
            .codec = codec,
        },
        w->table + w->reference.chunk_count * TKV_LARGE_ENTRY_SIZE);
    w->reference.chunk_count++;
    w->reference.stored_size += stored.size;
    return write_bytes(w, stored.data, stored.size, err);
}

static enum tkv_status write_value(struct writer *w, struct tkv_slice value,
                                   struct tkv_error *err)
{
    static const uint8_t zeros[TKV_LARGE_AT_CHUNKS - TKV_DATA_HEADER_SIZE];
    enum tkv_status status =
        write_bytes(w, atomic_load(&w->file->tail), TKV_DATA_HEADER_SIZE, err);

    if (status == TKV_OK)
        status = write_bytes(w, zeros, sizeof zeros, err);
    for (size_t at = 0; at < value.size && status == TKV_OK; at += TKV_LARGE_CHUNK_SIZE) {
        const size_t left = value.size - at;
        const size_t size = left < TKV_LARGE_CHUNK_SIZE ? left : TKV_LARGE_CHUNK_SIZE;

        status = write_chunk(w, tkv_bytes((const uint8_t *)value.data + at, size), err);
    }
    if (status == TKV_OK)
        status =
            write_bytes(w, w->table, w->reference.chunk_count * TKV_LARGE_ENTRY_SIZE, err);
    w->reference.table_crc =
        tkv_crc32(0, w->table, w->reference.chunk_count * TKV_LARGE_ENTRY_SIZE);
    w->reference.raw_size = (uint32_t)value.size;
    return status;
}

/* ---- The file -------------------------------------------------------------------- */

/* The file and its name must be durable before the log refers to it. */
static enum tkv_status make_durable(struct tkv_store *store, struct tkv_datafile *file,
                                    struct tkv_error *err)
{
    enum tkv_status status = tkv_datafile_sync(file, err);
    int result;

    tkv_usage_add(&store->counters.data_syncs, 2);
    if (status == TKV_OK) {
        result = store->os->sync_dir(store->os, store->dir);
        if (result == 0)
            return TKV_OK;
        status =
            tkv_fail_lost(err, result, file->name, "sync the directory for %s", file->name);
    }
    tkv_store_poison(store, status);
    return status;
}

static enum tkv_status create_file(struct tkv_store *store, struct tkv_datafile **ret_file,
                                   struct tkv_error *err)
{
    enum tkv_status status;
    uint64_t number, seq_base;

    tkv_mutex_lock(&store->apply);
    number = store->next_number++;
    seq_base = store->applied_seq_next;
    tkv_mutex_unlock(&store->apply);
    status = tkv_datafile_new(store->os, store->uuid, number, seq_base, TKV_FILE_LARGE,
                              TKV_LARGE_AT_CHUNKS,
                              store->options.read_mode == TKV_READ_MMAP, ret_file, err);
    if (status != TKV_OK)
        return status;
    (*ret_file)->fd = store->os->open(store->os, store->dir, (*ret_file)->name,
                                      TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    if ((*ret_file)->fd < 0) {
        status = tkv_fail_os(err, (*ret_file)->fd, (*ret_file)->name, "create %s",
                             (*ret_file)->name);
        tkv_datafile_release(*ret_file);
        return status;
    }
    (*ret_file)->exists = true;
    return TKV_OK;
}

/* Its bytes are on disk and final: enter it into the table. It counts as live from now on,
 * lest the compactor take it before the record that refers to it is committed. */
static enum tkv_status enter_file(struct tkv_store *store, struct tkv_datafile *file,
                                  uint64_t size, struct tkv_error *err)
{
    uint8_t *tail = atomic_load(&file->tail);
    enum tkv_status status;

    atomic_store(&file->tail, NULL);
    free(tail);
    atomic_store(&file->size, size);
    atomic_store(&file->written, size);
    atomic_store(&file->sealed, true);
    file->tail_start = size;
    file->durable = size;
    file->durable_sealed = true;
    tkv_datafile_settle(file);
    tkv_mutex_lock(&store->apply);
    status = tkv_files_add(store, file, err);
    if (status == TKV_OK)
        tkv_files_live(store, file, size);
    tkv_mutex_unlock(&store->apply);
    return status;
}

static void remove_name(struct tkv_store *store, struct tkv_datafile *file)
{
    (void)store->os->unlink(store->os, store->dir, file->name); /* else open() removes it */
}

enum tkv_status tkv_large_write(struct tkv_store *store, struct tkv_slice value,
                                uint8_t reference[TKV_LARGE_REFERENCE_SIZE],
                                struct tkv_datafile **ret_file, struct tkv_error *err)
{
    struct writer w = {.store = store};
    enum tkv_status status = create_file(store, &w.file, err);

    if (status != TKV_OK)
        return status;
    w.reference.number = w.file->number;
    w.table = malloc(CHUNKS_MAX * TKV_LARGE_ENTRY_SIZE);
    if (store->options.compress_level > 0)
        w.scratch =
            malloc(TKV_LARGE_CHUNK_SIZE); /* without it chunks are stored as they are */
    if (w.table == NULL)
        status = tkv_fail_memory(err, CHUNKS_MAX * TKV_LARGE_ENTRY_SIZE,
                                 "a large value's table");
    else
        status = write_value(&w, value, err);
    if (status == TKV_OK)
        status = make_durable(store, w.file, err);
    if (status == TKV_OK)
        status = enter_file(store, w.file, w.offset, err);
    free(w.scratch);
    free(w.table);
    if (status != TKV_OK) {
        remove_name(store, w.file);
        tkv_datafile_release(w.file);
        return status;
    }
    tkv_large_encode(&w.reference, reference);
    *ret_file = w.file;
    return TKV_OK;
}

void tkv_large_abandon(struct tkv_store *store, struct tkv_datafile *file)
{
    /* When the commit failed in the middle of a write the log may hold the reference all the
     * same: then the store is poisoned, and the file stays for the next recovery to judge. */
    if (atomic_load(&store->poisoned) != TKV_OK)
        return;
    tkv_mutex_lock(&store->compact); /* which looks at files without holding them */
    tkv_mutex_lock(&store->upkeep);
    tkv_mutex_lock(&store->apply);
    tkv_large_dead(store, file);
    tkv_mutex_unlock(&store->apply);
    if (!file->listed) { /* else the compactor removes it like any dead file */
        remove_name(store, file);
        tkv_files_remove(store, file);
    }
    tkv_mutex_unlock(&store->upkeep);
    tkv_mutex_unlock(&store->compact);
}
