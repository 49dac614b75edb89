/* SPDX-License-Identifier: MIT */
/*
 * large.c - a value too large for the log lives in a data file of its own, written and synced
 * before the small record that refers to it is committed. No other record is in that file; it
 * is never copied, and removed when the record that refers to it is dead.
 *
 *     0       64      4096                       4096+S             4096+S+16n
 *     +-------+-------+--------------------------+------------------+
 *     | header| zeros | chunks, one after another| table: n entries |
 *     +-------+-------+--------------------------+------------------+
 *
 *   A chunk is 1 MiB of the value (the last one what is left), stored or zlib-compressed.
 *   Table entry: crc32 u32 of the stored bytes | stored size u32 | raw size u32 | codec u32.
 *   The reference in the log and in ordinary data files: number u64 | S u64 | raw size u32 |
 *   n u32 | crc32 u32 of the table | 0 u32.
 *
 * Chunks have checksums of their own because a CRC-32 tells single bits apart up to some
 * 512 MiB only, and so that neither writing nor reading needs memory for more than one.
 */
#include "store.h"

#include "bytes.h"
#include "checksum.h"
#include "codec.h"

#include <stdlib.h>

#define CHUNK_SIZE (1024u * 1024)
#define ENTRY_SIZE 16u
#define CHUNKS_AT  TKV_BLOCK_SIZE
#define CHUNKS_MAX (TKV_VALUE_SIZE_MAX / CHUNK_SIZE)

/* ---- The reference --------------------------------------------------------------- */

static void encode_reference(const struct tkv_large_reference *reference,
                             uint8_t out[TKV_LARGE_REFERENCE_SIZE])
{
    tkv_put_le64(out, reference->number);
    tkv_put_le64(out + 8, reference->stored_size);
    tkv_put_le32(out + 16, reference->raw_size);
    tkv_put_le32(out + 20, reference->chunk_count);
    tkv_put_le32(out + 24, reference->table_crc);
    tkv_put_le32(out + 28, 0);
}

bool tkv_large_decode(struct tkv_slice value, struct tkv_large_reference *ret_reference)
{
    const uint8_t *p = value.data;
    struct tkv_large_reference r;

    if (value.size != TKV_LARGE_REFERENCE_SIZE)
        return false;
    r.number = tkv_get_le64(p);
    r.stored_size = tkv_get_le64(p + 8);
    r.raw_size = tkv_get_le32(p + 16);
    r.chunk_count = tkv_get_le32(p + 20);
    r.table_crc = tkv_get_le32(p + 24);
    if (r.number == 0 || r.number > INT64_MAX || tkv_get_le32(p + 28) != 0 ||
        r.raw_size > TKV_VALUE_SIZE_MAX || r.stored_size > r.raw_size)
        return false;
    if (r.chunk_count != (r.raw_size + (uint64_t)CHUNK_SIZE - 1) / CHUNK_SIZE)
        return false;
    *ret_reference = r;
    return true;
}

uint64_t tkv_large_file_size(const struct tkv_large_reference *r)
{
    return CHUNKS_AT + r->stored_size + (uint64_t)r->chunk_count * ENTRY_SIZE;
}

/* ---- Writing --------------------------------------------------------------------- */

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
    uint8_t *entry = w->table + w->reference.chunk_count * ENTRY_SIZE;
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
    tkv_put_le32(entry, tkv_crc32(0, stored.data, stored.size));
    tkv_put_le32(entry + 4, (uint32_t)stored.size);
    tkv_put_le32(entry + 8, (uint32_t)raw.size);
    tkv_put_le32(entry + 12, codec);
    w->reference.chunk_count++;
    w->reference.stored_size += stored.size;
    return write_bytes(w, stored.data, stored.size, err);
}

static enum tkv_status write_value(struct writer *w, struct tkv_slice value,
                                   struct tkv_error *err)
{
    static const uint8_t zeros[CHUNKS_AT - TKV_DATA_HEADER_SIZE];
    enum tkv_status status =
        write_bytes(w, atomic_load(&w->file->tail), TKV_DATA_HEADER_SIZE, err);

    if (status == TKV_OK)
        status = write_bytes(w, zeros, sizeof zeros, err);
    for (size_t at = 0; at < value.size && status == TKV_OK; at += CHUNK_SIZE) {
        const size_t left = value.size - at;

        status = write_chunk(w,
                             tkv_bytes((const uint8_t *)value.data + at,
                                       left < CHUNK_SIZE ? left : CHUNK_SIZE),
                             err);
    }
    if (status == TKV_OK)
        status = write_bytes(w, w->table, w->reference.chunk_count * ENTRY_SIZE, err);
    w->reference.table_crc = tkv_crc32(0, w->table, w->reference.chunk_count * ENTRY_SIZE);
    w->reference.raw_size = (uint32_t)value.size;
    return status;
}

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
                              CHUNKS_AT, store->options.read_mode == TKV_READ_MMAP,
                              ret_file, err);
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
    w.table = malloc(CHUNKS_MAX * ENTRY_SIZE);
    if (store->options.compress_level > 0)
        w.scratch = malloc(CHUNK_SIZE); /* without it chunks are stored as they are */
    if (w.table == NULL)
        status = tkv_fail_memory(err, CHUNKS_MAX * ENTRY_SIZE, "a large value's table");
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
    encode_reference(&w.reference, reference);
    *ret_file = w.file;
    return TKV_OK;
}

/* With `apply` held. */
static void count_dead(struct tkv_store *store, struct tkv_datafile *file)
{
    const uint64_t size = atomic_load(&file->size);

    tkv_usage_dead(&file->usage, size, 1);
    tkv_usage_sub_alone(&store->live_bytes, size);
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
    count_dead(store, file);
    tkv_mutex_unlock(&store->apply);
    if (!file->listed) { /* else the compactor removes it like any dead file */
        remove_name(store, file);
        tkv_files_remove(store, file);
    }
    tkv_mutex_unlock(&store->upkeep);
    tkv_mutex_unlock(&store->compact);
}

/* ---- Accounts -------------------------------------------------------------------- */

void tkv_large_referenced(struct tkv_store *store,
                          const struct tkv_large_reference *reference)
{
    struct tkv_datafile *file = tkv_files_find(store, reference->number);

    if (file != NULL)
        tkv_files_live(store, file, atomic_load(&file->size));
}

void tkv_large_unreferenced(struct tkv_store *store,
                            const struct tkv_large_reference *reference)
{
    struct tkv_datafile *file = tkv_files_find(store, reference->number);

    if (file == NULL || tkv_usage_get(&file->usage.live_records) == 0)
        return;
    count_dead(store, file);
}

/* ---- Reading --------------------------------------------------------------------- */

struct reader {
    struct tkv_datafile *file;
    const struct tkv_large_reference *reference;
    uint8_t *table;
    uint8_t *scratch; /* one compressed chunk */
};

static enum tkv_status fail_chunk(const struct reader *r, uint64_t offset, const char *what,
                                  struct tkv_error *err)
{
    return tkv_fail_corrupt(err, r->file->name, offset, 0, "large value: %s", what);
}

static enum tkv_status load_table(struct reader *r, struct tkv_error *err)
{
    const uint64_t offset = CHUNKS_AT + r->reference->stored_size;
    const size_t size = r->reference->chunk_count * ENTRY_SIZE;
    enum tkv_status status;

    if (atomic_load(&r->file->size) != tkv_large_file_size(r->reference))
        return fail_chunk(r, 0, "the file's size is not the one referred to", err);
    r->table = malloc(size + 1);
    if (r->table == NULL)
        return tkv_fail_memory(err, size, "a large value's table");
    status = tkv_datafile_read(r->file, offset, r->table, size, err);
    if (status != TKV_OK)
        return status;
    if (tkv_crc32(0, r->table, size) != r->reference->table_crc)
        return fail_chunk(r, offset, "table checksum", err);
    return TKV_OK;
}

static enum tkv_status inflate_chunk(struct reader *r, uint64_t offset, size_t stored,
                                     uint32_t crc, uint8_t *out, size_t raw,
                                     struct tkv_error *err)
{
    enum tkv_status status;

    if (r->scratch == NULL)
        r->scratch = malloc(CHUNK_SIZE);
    if (r->scratch == NULL)
        return tkv_fail_memory(err, CHUNK_SIZE, "a large value's chunk");
    status = tkv_datafile_read(r->file, offset, r->scratch, stored, err);
    if (status != TKV_OK)
        return status;
    if (tkv_crc32(0, r->scratch, stored) != crc)
        return fail_chunk(r, offset, "chunk checksum", err);
    status = tkv_codec_inflate(tkv_bytes(r->scratch, stored), out, raw);
    if (status == TKV_NO_MEMORY)
        return tkv_fail_memory(err, raw, "decompression");
    return status == TKV_OK ? TKV_OK : fail_chunk(r, offset, "compressed chunk", err);
}

static enum tkv_status read_chunk(struct reader *r, uint32_t i, uint64_t *offset,
                                  uint8_t *out, size_t *done, struct tkv_error *err)
{
    const uint8_t *entry = r->table + (size_t)i * ENTRY_SIZE;
    const uint32_t crc = tkv_get_le32(entry), stored = tkv_get_le32(entry + 4);
    const uint32_t raw = tkv_get_le32(entry + 8), codec = tkv_get_le32(entry + 12);
    const size_t left = r->reference->raw_size - *done;
    enum tkv_status status;

    if (raw != (left < CHUNK_SIZE ? left : CHUNK_SIZE) || stored > raw ||
        (codec == TKV_CODEC_STORED && stored != raw) || codec > TKV_CODEC_ZLIB)
        return fail_chunk(r, *offset, "table entry out of range", err);
    if (codec == TKV_CODEC_ZLIB) {
        status = inflate_chunk(r, *offset, stored, crc, out + *done, raw, err);
    } else {
        status = tkv_datafile_read(r->file, *offset, out + *done, stored, err);
        if (status == TKV_OK && tkv_crc32(0, out + *done, stored) != crc)
            status = fail_chunk(r, *offset, "chunk checksum", err);
    }
    *offset += stored;
    *done += raw;
    return status;
}

enum tkv_status tkv_large_read(struct tkv_datafile *file,
                               const struct tkv_large_reference *reference, uint8_t *out,
                               struct tkv_error *err)
{
    struct reader r = {.file = file, .reference = reference};
    enum tkv_status status = load_table(&r, err);
    uint64_t offset = CHUNKS_AT;
    size_t done = 0;

    for (uint32_t i = 0; i < reference->chunk_count && status == TKV_OK; i++)
        status = read_chunk(&r, i, &offset, out, &done, err);
    free(r.table);
    free(r.scratch);
    return status;
}
