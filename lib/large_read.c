/* SPDX-License-Identifier: MIT */
/*
 * large_read.c - a large value out of its file: the table first, then chunk after chunk.
 *
 * When something fails, what `out` holds is of no use: a value is verified whole or refused.
 *
 * Threads: any; who reads holds the file, by an epoch or a reference.
 */
#include "large.h"

#include "checksum.h"
#include "codec.h"
#include "datafile.h"
#include "error.h"
#include "record.h"

#include <stdlib.h>

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
    const uint64_t offset = TKV_LARGE_AT_CHUNKS + r->reference->stored_size;
    const size_t size = r->reference->chunk_count * TKV_LARGE_ENTRY_SIZE;
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

static enum tkv_status inflate_chunk(struct reader *r, const struct tkv_large_entry *entry,
                                     uint64_t offset, uint8_t *out, struct tkv_error *err)
{
    enum tkv_status status;

    if (r->scratch == NULL)
        r->scratch = malloc(TKV_LARGE_CHUNK_SIZE);
    if (r->scratch == NULL)
        return tkv_fail_memory(err, TKV_LARGE_CHUNK_SIZE, "a large value's chunk");
    status = tkv_datafile_read(r->file, offset, r->scratch, entry->stored_size, err);
    if (status != TKV_OK)
        return status;
    if (tkv_crc32(0, r->scratch, entry->stored_size) != entry->crc)
        return fail_chunk(r, offset, "chunk checksum", err);
    status =
        tkv_codec_inflate(tkv_bytes(r->scratch, entry->stored_size), out, entry->raw_size);
    if (status == TKV_NO_MEMORY)
        return tkv_fail_memory(err, entry->raw_size, "decompression");
    return status == TKV_OK ? TKV_OK : fail_chunk(r, offset, "compressed chunk", err);
}

static enum tkv_status read_chunk(struct reader *r, uint32_t i, uint64_t *offset,
                                  uint8_t *out, size_t *done, struct tkv_error *err)
{
    const struct tkv_large_entry e =
        tkv_large_get_entry(r->table + (size_t)i * TKV_LARGE_ENTRY_SIZE);
    const size_t left = r->reference->raw_size - *done;
    enum tkv_status status;

    if (e.raw_size != (left < TKV_LARGE_CHUNK_SIZE ? left : TKV_LARGE_CHUNK_SIZE) ||
        e.stored_size > e.raw_size ||
        (e.codec == TKV_CODEC_STORED && e.stored_size != e.raw_size) ||
        e.codec > TKV_CODEC_ZLIB)
        return fail_chunk(r, *offset, "table entry out of range", err);
    if (e.codec == TKV_CODEC_ZLIB) {
        status = inflate_chunk(r, &e, *offset, out + *done, err);
    } else {
        status = tkv_datafile_read(r->file, *offset, out + *done, e.stored_size, err);
        if (status == TKV_OK && tkv_crc32(0, out + *done, e.stored_size) != e.crc)
            status = fail_chunk(r, *offset, "chunk checksum", err);
    }
    *offset += e.stored_size;
    *done += e.raw_size;
    return status;
}

enum tkv_status tkv_large_read(struct tkv_datafile *file,
                               const struct tkv_large_reference *reference, uint8_t *out,
                               struct tkv_error *err)
{
    struct reader r = {.file = file, .reference = reference};
    enum tkv_status status = load_table(&r, err);
    uint64_t offset = TKV_LARGE_AT_CHUNKS;
    size_t done = 0;

    for (uint32_t i = 0; i < reference->chunk_count && status == TKV_OK; i++)
        status = read_chunk(&r, i, &offset, out, &done, err);
    free(r.table);
    free(r.scratch);
    return status;
}
