/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a data file, read from its beginning to its end, and as one that holds a large
 * value.
 *
 *     control u8 | reference, 32 bytes | bytes
 *
 *     control bit 0: checksums right     bit 3: the file is what the reference refers to,
 *             bit 1: header right               checksums of chunks and table right
 *             bit 2: read, do not map    bit 4: not sealed
 *
 * Records are handed out as they lie in the file; a large value is whole or refused. Memory:
 * the walk's buffer, the file's size, and the size of the value that was asked for.
 */
#include "checksum.h"
#include "checksums.h"
#include "datafile.h"
#include "fuzz.h"
#include "large.h"
#include "memory.h"
#include "memory_disk.h"
#include "walk.h"

#define WALK_BUFFER_SIZE ((size_t)256 * 1024)
#define VALUE_SIZE_MAX   ((size_t)2 * 1024 * 1024)

static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static void check_view(struct tkv_datafile *file, const struct memory_file *bytes,
                       uint64_t offset, size_t size)
{
    const bool inside = offset <= bytes->size && size <= bytes->size - offset;
    bool outside;
    const uint8_t *view = tkv_datafile_view(file, offset, size, &outside);
    uint8_t copy[64];
    struct tkv_error err;

    if (!inside)
        FUZZ_CHECK(view == NULL && outside);
    if (view != NULL)
        FUZZ_CHECK(memcmp(view, bytes->content + offset, size) == 0);
    if (size <= sizeof copy)
        FUZZ_CHECK((tkv_datafile_read(file, offset, copy, size, &err) == TKV_OK) ==
                   (offset <= atomic_load(&file->size) &&
                    size <= atomic_load(&file->size) - offset));
}

static void check_walk(struct tkv_datafile *file, const struct memory_file *bytes)
{
    uint64_t end = TKV_DATA_HEADER_SIZE;
    struct tkv_walk walk;

    tkv_walk_begin(&walk, file, atomic_load(&file->size));
    while (tkv_walk_next(&walk)) {
        FUZZ_CHECK(walk.offset >= end && walk.size == tkv_record_size(&walk.record));
        end = walk.offset + walk.size;
        FUZZ_CHECK(end <= bytes->size);
        FUZZ_CHECK(
            memcmp(walk.record.key.data,
                   bytes->content + end - walk.record.value.size - walk.record.key.size,
                   walk.record.key.size) == 0);
        check_view(file, bytes, walk.offset, walk.size);
    }
    FUZZ_CHECK(walk.status == TKV_OK || walk.status == TKV_CORRUPT);
    tkv_walk_end(&walk);
}

static void check_large(struct tkv_datafile *file,
                        const struct tkv_large_reference *reference)
{
    struct tkv_error err;
    enum tkv_status status;
    uint8_t *out;

    out = malloc(reference->raw_size + 1);
    FUZZ_CHECK(out != NULL);
    status = tkv_large_read(file, reference, out, &err);
    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT);
    free(out);
}

/* Chunks and table as the reference places them. */
static void fix_large(struct memory_file *file, uint8_t reference[32])
{
    const uint32_t raw = tkv_get_le32(reference + 16);
    const uint32_t count = (uint32_t)(((uint64_t)raw + (1u << 20) - 1) >> 20);
    const size_t table_size = (size_t)count * 16;
    size_t table, at = 4096;

    if (file->size < 4096 + table_size)
        return;
    table = file->size - table_size;
    tkv_put_le64(reference + 8, table - 4096);
    tkv_put_le32(reference + 20, count);
    tkv_put_le32(reference + 28, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *entry = file->content + table + (size_t)i * 16;
        const uint32_t stored = tkv_get_le32(entry + 4);

        if (stored > table - at)
            break;
        tkv_put_le32(entry, tkv_crc32(0, file->content + at, stored));
        at += stored;
    }
    tkv_put_le32(reference + 24, tkv_crc32(0, file->content + table, table_size));
}

static void fix_header(struct memory_file *file, uint64_t number)
{
    static const uint8_t magic[8] = {'T', 'K', 'V', 'D', 'A', 'T', '\r', '\n'};

    if (file->size < TKV_DATA_HEADER_SIZE)
        return;
    memcpy(file->content, magic, sizeof magic);
    tkv_put_le32(file->content + 12, 1);
    memcpy(file->content + 16, uuid, sizeof uuid);
    tkv_put_le64(file->content + 32, number);
}

static size_t check_file(struct memory_disk *disk, const struct memory_file *bytes,
                         unsigned control, const uint8_t reference[32])
{
    const struct tkv_manifest_file entry = {
        .number = 7,
        .durable_size = bytes->size,
        .seq_base = bytes->size < 48 ? 0 : tkv_get_le64(bytes->content + 40),
        .file_class = (control & 8) != 0 ? TKV_FILE_LARGE : TKV_FILE_FRESH,
        .sealed = (control & 16) == 0};
    struct tkv_large_reference large = {0};
    const bool is_large =
        tkv_large_decode(tkv_bytes(reference, TKV_LARGE_REFERENCE_SIZE), &large) &&
        large.raw_size <= VALUE_SIZE_MAX;
    const int dir = disk->os.open_dir(&disk->os, "", false);
    struct tkv_datafile *file;
    struct tkv_error err;
    const enum tkv_status status =
        tkv_datafile_open(&disk->os, dir, uuid, &entry, (control & 4) == 0, &file, &err);

    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT || status == TKV_UNSUPPORTED);
    if (status == TKV_OK) {
        check_walk(file, bytes);
        check_view(file, bytes, bytes->size - 1, 2);
        check_view(file, bytes, UINT64_MAX - 4, 8);
        if (is_large)
            check_large(file, &large);
        tkv_datafile_release(file);
    }
    (void)disk->os.close(&disk->os, dir);
    FUZZ_CHECK(disk->open_count == 0);
    return is_large ? large.raw_size + (size_t)2 * 1024 * 1024 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    const struct tkv_slice given = fuzz_take(&in, TKV_LARGE_REFERENCE_SIZE);
    struct memory_disk *disk = memory_disk();
    uint8_t reference[TKV_LARGE_REFERENCE_SIZE] = {0};
    char name[TKV_FILE_NAME_SIZE];
    struct memory_file *file;
    size_t for_large;

    if (size < 1)
        return 0;
    if (given.size > 0)
        memcpy(reference, given.data, given.size);
    memory_disk_clear(disk);
    tkv_data_name(7, name);
    file = memory_disk_put(disk, name, in.at, in.left);
    if (file == NULL)
        return 0;
    if ((control & 2) != 0)
        fix_header(file, 7);
    if ((control & 8) != 0)
        fix_large(file, reference);
    if ((control & 1) != 0)
        fix_data_file(file->content, file->size);
    memory_begin();
    for_large = check_file(disk, file, control, reference);
    memory_end(size + 4096 + WALK_BUFFER_SIZE + for_large);
    return 0;
}
