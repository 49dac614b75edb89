/* SPDX-License-Identifier: MIT */
#include "parts.h"

#include "group.h"
#include "manifest.h"
#include "record.h"
#include "sample.h"
#include "test.h"

#define DATA_HEADER_SIZE 64u
#define DATA_AT_CLASS    48u
#define DATA_CLASS_LARGE 3u
#define LARGE_CHUNKS_AT  4096u
#define LARGE_ENTRY_SIZE 16u

static struct part *add(struct parts *parts, enum part_kind kind, size_t offset,
                        size_t size)
{
    struct part *part;

    if (parts->count == parts->capacity) {
        parts->capacity = parts->capacity * 2 + 64;
        parts->items = realloc(parts->items, parts->capacity * sizeof *parts->items);
        CHECK(parts->items != NULL);
    }
    part = &parts->items[parts->count++];
    memset(part, 0, sizeof *part);
    part->kind = kind;
    part->offset = offset;
    part->size = size;
    return part;
}

/* ---- Data files ------------------------------------------------------------------------ */

static void read_large(const struct sample_file *file, struct parts *parts)
{
    /* Samples have values of one chunk: the table has one entry. */
    const size_t table = file->size - LARGE_ENTRY_SIZE;

    (void)add(parts, PART_VALUE, LARGE_CHUNKS_AT, table - LARGE_CHUNKS_AT);
    (void)add(parts, PART_TABLE, table, LARGE_ENTRY_SIZE);
}

static enum part_kind kind_of(enum tkv_record_kind kind)
{
    if (kind == TKV_RECORD_DELETE)
        return PART_DELETE;
    return kind == TKV_RECORD_LARGE ? PART_LARGE : PART_PUT;
}

static void read_data(const struct sample_file *file, struct parts *parts)
{
    size_t at = DATA_HEADER_SIZE;

    (void)add(parts, PART_HEADER, 0, DATA_HEADER_SIZE);
    if (file->bytes[DATA_AT_CLASS] == DATA_CLASS_LARGE) {
        read_large(file, parts);
        return;
    }
    while (at < file->size) {
        struct tkv_record record;
        struct part *part;

        if (tkv_record_decode(tkv_bytes(file->bytes + at, file->size - at), &record) !=
            TKV_RECORD_GOOD) {
            at = (at / TKV_BLOCK_SIZE + 1) * TKV_BLOCK_SIZE;
            continue;
        }
        part = add(parts, kind_of(record.kind), at, tkv_record_size(&record));
        part->seq = record.seq;
        part->is_compressed = record.codec == TKV_CODEC_ZLIB;
        part->is_expiring = record.expires_at_ms != 0;
        part->is_compacted = file->bytes[DATA_AT_CLASS] == TKV_FILE_COMPACTED;
        at += part->size;
    }
}

/* ---- The log ---------------------------------------------------------------------------- */

static void read_log_headers(const struct sample_file *file, struct parts *parts)
{
    for (size_t offset = 0; offset < TKV_WAL_RING_START; offset += TKV_BLOCK_SIZE) {
        struct tkv_wal_header header;
        struct part *part = add(parts, PART_HEADER, offset, TKV_BLOCK_SIZE);

        if (tkv_wal_header_decode(file->bytes + offset, offset, &header, NULL) != TKV_OK)
            continue;
        part->generation = header.checkpoint.generation;
        part->seq_next = header.checkpoint.seq_next;
        part->salt = header.checkpoint.salt;
        part->position = header.checkpoint.position;
        part->durable = header.durable_mark;
    }
}

static enum part_kind kind_of_group(const struct part headers[2],
                                    const struct tkv_group *group)
{
    const struct part *newest = &headers[headers[1].generation > headers[0].generation];

    if (group->salt != newest->salt)
        return PART_STALE_GROUP;
    return group->position >= newest->position ? PART_GROUP : PART_OLD_GROUP;
}

static void read_log(const struct sample_file *file, struct parts *parts)
{
    uint8_t uuid[16];

    read_log_headers(file, parts);
    memcpy(uuid, file->bytes + 16, sizeof uuid);
    for (size_t at = TKV_WAL_RING_START; at + TKV_GROUP_HEADER_SIZE <= file->size;
         at += 8) {
        struct tkv_group group;
        struct part *part;
        uint64_t extent;

        if (!tkv_group_decode_header(file->bytes + at, tkv_group_seed(uuid, at), &group))
            continue;
        extent = tkv_group_extent(group.payload_size, group.ends_at_block);
        part = add(parts, kind_of_group(parts->items, &group), at,
                   TKV_GROUP_HEADER_SIZE + group.payload_size);
        part->seq = group.seq;
        part->count = group.count;
        part->salt = group.salt;
        part->position = group.position;
        part->durable = group.durable;
        part->end = group.position + extent;
    }
}

/* ---- Manifest and hints --------------------------------------------------------------------- */

static void read_manifest(const struct sample_file *file, struct parts *parts)
{
    struct tkv_manifest manifest;
    struct tkv_error err;
    struct part *part;

    CHECK_OK(tkv_manifest_decode(tkv_bytes(file->bytes, file->size), &manifest, &err));
    part = add(parts, PART_HEADER, 0, 112);
    part->seq_next = manifest.checkpoint.seq_next;
    part->salt = manifest.checkpoint.salt;
    part->position = manifest.checkpoint.position;
    part->generation = manifest.checkpoint.generation;
    for (size_t i = 0; i < manifest.file_count; i++)
        (void)add(parts, PART_ENTRY, 112 + 48 * i, 48);
    (void)add(parts, PART_FOOTER, file->size - 4, 4);
    tkv_manifest_release(&manifest);
}

static void read_hint(const struct sample_file *file, struct parts *parts)
{
    const size_t footer = file->size - 24;
    size_t at = 52;

    (void)add(parts, PART_HEADER, 0, at);
    while (at < footer) {
        const size_t end = at + 12 + tkv_get_le32(file->bytes + at);

        for (at += 12; at < end;) {
            const uint8_t *entry = file->bytes + at;
            const size_t size = 24u + tkv_get_le16(entry + 20) + (entry[23] != 0 ? 8 : 0) +
                                (entry[22] == TKV_RECORD_LARGE ? 8 : 0);

            (void)add(parts, PART_ENTRY, at, size);
            at += size;
        }
    }
    (void)add(parts, PART_FOOTER, footer, 24);
}

/* ---- Any of them --------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) &&
           strcmp(name + strlen(name) - strlen(end), end) == 0;
}

void parts_read(const struct sample_file *file, struct parts *ret_parts)
{
    memset(ret_parts, 0, sizeof *ret_parts);
    if (ends_with(file->name, ".data"))
        read_data(file, ret_parts);
    else if (ends_with(file->name, ".hint"))
        read_hint(file, ret_parts);
    else if (strcmp(file->name, TKV_WAL_NAME) == 0)
        read_log(file, ret_parts);
    else if (strcmp(file->name, TKV_MANIFEST_NAME) == 0)
        read_manifest(file, ret_parts);
    else if (file->size > 0)
        (void)add(ret_parts, PART_HEADER, 0, file->size);
}

void parts_release(struct parts *parts)
{
    free(parts->items);
    memset(parts, 0, sizeof *parts);
}

const struct part *parts_at(const struct parts *parts, size_t offset)
{
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = &parts->items[i];

        if (offset >= part->offset && offset - part->offset < part->size)
            return part;
    }
    return NULL;
}
