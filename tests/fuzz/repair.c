/* SPDX-License-Identifier: MIT */
#include "repair.h"

#include "checksum.h"
#include "checksums.h"
#include "file_name.h"
#include "fuzz.h"
#include "manifest.h"

#define RECORD_HEADER ((size_t)24)
#define LOG_START     ((size_t)8192)

/* ---- wal.log ------------------------------------------------------------------------------- */

/* The header that recovery will believe. */
static const uint8_t *newest_header(const struct memory_file *file)
{
    const uint8_t *a = file->content, *b = a + TKV_BLOCK_SIZE;
    const bool a_is = memcmp(a, "TKVWAL\r\n", 8) == 0,
               b_is = memcmp(b, "TKVWAL\r\n", 8) == 0;

    if (a_is && b_is)
        return tkv_get_le64(a + 32) > tkv_get_le64(b + 32) ? a : b;
    return a_is ? a : b;
}

static void fix_log_file(struct memory_file *file, bool all)
{
    struct fix_log log = {.what = FIX_RECORDS | FIX_CHAIN};
    const uint8_t *header;

    if (file->size < LOG_START)
        return;
    fix_log_header(file->content, TKV_BLOCK_SIZE);
    fix_log_header(file->content + TKV_BLOCK_SIZE, TKV_BLOCK_SIZE);
    header = newest_header(file);
    memcpy(log.uuid, header + 16, 16);
    log.salt = tkv_get_le64(header + 40);
    log.position = tkv_get_le64(header + 48);
    log.file_offset = tkv_get_le64(header + 56);
    log.seq_next = tkv_get_le64(header + 64);
    log.chain = tkv_get_le32(header + 72);
    if (all)
        log.what |= FIX_POSITION | FIX_SEQ;
    fix_log_groups(file->content, file->size, &log);
}

/* ---- Large values -------------------------------------------------------------------------- */

/* Chunks of a large value's file, as its table has them; returns the table's checksum. */
static uint32_t fix_chunks(struct memory_file *file, uint64_t stored, uint32_t count)
{
    const size_t table = TKV_BLOCK_SIZE + (size_t)stored;
    size_t at = TKV_BLOCK_SIZE;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = file->content + table + (size_t)i * 16;
        const uint32_t size = tkv_get_le32(entry + 4);

        if (size > table - at)
            break;
        tkv_put_le32(entry, tkv_crc32(0, file->content + at, size));
        at += size;
    }
    return tkv_crc32(0, file->content + table, (size_t)count * 16);
}

/* References to large values anywhere in the file get their table's checksum. */
static void fix_references(struct memory_disk *disk, struct memory_file *file)
{
    for (size_t at = 64; at + RECORD_HEADER + 32 <= file->size; at++) {
        uint8_t *p = file->content + at, *value;
        char name[TKV_FILE_NAME_SIZE];
        struct memory_file *large;
        uint64_t number, stored;
        uint32_t count;
        size_t end;

        end = at + RECORD_HEADER + tkv_get_le16(p + 22) + tkv_get_le16(p + 16) + 32;
        if (p[18] != 3 || tkv_get_le32(p + 4) != 32 || end > file->size)
            continue;
        value = file->content + end - 32;
        stored = tkv_get_le64(value + 8);
        count = tkv_get_le32(value + 20);
        number = tkv_get_le64(value);
        if (number == 0 || number > 1000)
            continue;
        tkv_data_name(number, name);
        large = memory_disk_find(disk, name);
        if (large != NULL && large != file && stored < large->size && count < 64 &&
            TKV_BLOCK_SIZE + stored + (uint64_t)count * 16 <= large->size)
            tkv_put_le32(value + 24, fix_chunks(large, stored, count));
    }
}

/* ---- All together -------------------------------------------------------------------------- */

void repair(struct memory_disk *disk, bool all)
{
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        struct memory_file *file = &disk->files[i];
        uint64_t number;

        if (file->name[0] == 0)
            continue;
        switch (tkv_file_name_parse(file->name, &number)) {
        case TKV_NAME_WAL:
            fix_references(disk, file);
            fix_log_file(file, all);
            break;
        case TKV_NAME_DATA:
            if (file->size < 64 || file->content[48] == TKV_FILE_LARGE)
                break;
            fix_references(disk, file);
            fix_data_file(file->content, file->size);
            break;
        case TKV_NAME_MANIFEST:
            fix_manifest(file->content, file->size, all);
            break;
        case TKV_NAME_HINT:
            fix_hint(file->content, file->size);
            break;
        case TKV_NAME_FOREIGN:
        case TKV_NAME_LOCK:
        case TKV_NAME_QUARANTINE:
        case TKV_NAME_TEMPORARY:
            break;
        }
    }
}
