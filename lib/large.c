/* SPDX-License-Identifier: MIT */
/*
 * large.c - what the reference to a large value and the table of its file are as bytes, and
 * whether the file counts as live.
 *
 * Nothing here can fail, but bytes that are no reference are refused.
 *
 * Threads: the accounts with `apply` held, or while a store is being opened.
 */
#include "large.h"

#include "store.h"

/* ---- Bytes ----------------------------------------------------------------------- */

void tkv_large_encode(const struct tkv_large_reference *reference,
                      uint8_t out[TKV_LARGE_REFERENCE_SIZE])
{
    tkv_put_le64(out + TKV_LARGE_AT_NUMBER, reference->number);
    tkv_put_le64(out + TKV_LARGE_AT_STORED_SIZE, reference->stored_size);
    tkv_put_le32(out + TKV_LARGE_AT_RAW_SIZE, reference->raw_size);
    tkv_put_le32(out + TKV_LARGE_AT_CHUNK_COUNT, reference->chunk_count);
    tkv_put_le32(out + TKV_LARGE_AT_TABLE_CRC, reference->table_crc);
    tkv_put_le32(out + TKV_LARGE_AT_ZERO, 0);
}

bool tkv_large_decode(struct tkv_slice value, struct tkv_large_reference *ret_reference)
{
    const uint8_t *p = value.data;
    struct tkv_large_reference r;

    if (value.size != TKV_LARGE_REFERENCE_SIZE)
        return false;
    r.number = tkv_get_le64(p + TKV_LARGE_AT_NUMBER);
    r.stored_size = tkv_get_le64(p + TKV_LARGE_AT_STORED_SIZE);
    r.raw_size = tkv_get_le32(p + TKV_LARGE_AT_RAW_SIZE);
    r.chunk_count = tkv_get_le32(p + TKV_LARGE_AT_CHUNK_COUNT);
    r.table_crc = tkv_get_le32(p + TKV_LARGE_AT_TABLE_CRC);
    if (r.number == 0 || r.number > INT64_MAX || tkv_get_le32(p + TKV_LARGE_AT_ZERO) != 0 ||
        r.raw_size > TKV_VALUE_SIZE_MAX || r.stored_size > r.raw_size)
        return false;
    if (r.chunk_count !=
        (r.raw_size + (uint64_t)TKV_LARGE_CHUNK_SIZE - 1) / TKV_LARGE_CHUNK_SIZE)
        return false;
    *ret_reference = r;
    return true;
}

uint64_t tkv_large_file_size(const struct tkv_large_reference *r)
{
    return TKV_LARGE_AT_CHUNKS + r->stored_size +
           (uint64_t)r->chunk_count * TKV_LARGE_ENTRY_SIZE;
}

void tkv_large_put_entry(const struct tkv_large_entry *entry, uint8_t *p)
{
    tkv_put_le32(p + TKV_LARGE_ENTRY_AT_CRC, entry->crc);
    tkv_put_le32(p + TKV_LARGE_ENTRY_AT_STORED_SIZE, entry->stored_size);
    tkv_put_le32(p + TKV_LARGE_ENTRY_AT_RAW_SIZE, entry->raw_size);
    tkv_put_le32(p + TKV_LARGE_ENTRY_AT_CODEC, entry->codec);
}

struct tkv_large_entry tkv_large_get_entry(const uint8_t *p)
{
    return (struct tkv_large_entry){
        .crc = tkv_get_le32(p + TKV_LARGE_ENTRY_AT_CRC),
        .stored_size = tkv_get_le32(p + TKV_LARGE_ENTRY_AT_STORED_SIZE),
        .raw_size = tkv_get_le32(p + TKV_LARGE_ENTRY_AT_RAW_SIZE),
        .codec = tkv_get_le32(p + TKV_LARGE_ENTRY_AT_CODEC),
    };
}

/* ---- Accounts -------------------------------------------------------------------- */

void tkv_large_dead(struct tkv_store *store, struct tkv_datafile *file)
{
    const uint64_t size = atomic_load(&file->size);

    tkv_usage_dead(&file->usage, size, 1);
    tkv_usage_sub_alone(&store->live_bytes, size);
}

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
    tkv_large_dead(store, file);
}
