/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as MANIFEST.
 *
 *     control u8 | bytes          control bit 0: make the checksums right, bit 1: and the size
 *                                 and the count of files, bit 2: read it from a disk
 *
 * What is accepted encodes to the very same bytes; memory follows from the file's size.
 */
#include "checksums.h"
#include "fuzz.h"
#include "manifest.h"
#include "memory.h"
#include "memory_disk.h"

static void check_sane(const struct tkv_manifest *m)
{
    uint64_t before = 0;

    FUZZ_CHECK(m->epoch != 0 && m->next_number != 0);
    FUZZ_CHECK(m->checkpoint.salt != 0 && m->checkpoint.file_offset >= 8192);
    for (size_t i = 0; i < m->file_count; i++) {
        FUZZ_CHECK(m->files[i].number > before && m->files[i].number < m->next_number);
        before = m->files[i].number;
    }
}

static void check_encodes_back(const struct tkv_manifest *m, struct tkv_slice bytes)
{
    struct tkv_error err;
    uint8_t *again;
    size_t size;

    FUZZ_CHECK(tkv_manifest_encode(m, &again, &size, &err) == TKV_OK);
    FUZZ_CHECK(fuzz_same(tkv_bytes(again, size), bytes));
    free(again);
}

/* The way by the disk must agree with the way by memory. */
static void check_from_disk(struct tkv_slice bytes, enum tkv_status expected)
{
    struct memory_disk *disk = memory_disk();
    struct tkv_manifest m;
    struct tkv_error err;
    bool unknown;
    int dir;

    memory_disk_clear(disk);
    if (memory_disk_put(disk, TKV_MANIFEST_NAME, bytes.data, bytes.size) == NULL)
        return;
    dir = disk->os.open_dir(&disk->os, "", false);
    FUZZ_CHECK(tkv_manifest_read(&disk->os, dir, &m, &err) == expected);
    if (expected == TKV_OK) {
        FUZZ_CHECK(tkv_manifest_write(&disk->os, dir, &m, &unknown, &err) == TKV_OK);
        FUZZ_CHECK(fuzz_same(tkv_bytes(memory_disk_find(disk, TKV_MANIFEST_NAME)->content,
                                       memory_disk_find(disk, TKV_MANIFEST_NAME)->size),
                             bytes));
        tkv_manifest_release(&m);
    }
    (void)disk->os.close(&disk->os, dir);
    FUZZ_CHECK(disk->open_count == 0);
}

static void check_manifest(struct tkv_slice bytes, bool from_disk)
{
    struct tkv_manifest m;
    struct tkv_error err;
    const enum tkv_status status = tkv_manifest_decode(bytes, &m, &err);

    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT || status == TKV_UNSUPPORTED);
    if (status == TKV_OK) {
        check_sane(&m);
        check_encodes_back(&m, bytes);
        tkv_manifest_release(&m);
    }
    if (from_disk)
        check_from_disk(bytes, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    uint8_t *bytes;

    if (size == 0)
        return 0;
    memory_begin();
    bytes = malloc(in.left == 0 ? 1 : in.left);
    FUZZ_CHECK(bytes != NULL);
    if (in.left > 0)
        memcpy(bytes, in.at, in.left);
    if ((control & 1) != 0)
        fix_manifest(bytes, in.left, (control & 2) != 0);
    check_manifest(tkv_bytes(bytes, in.left), (control & 4) != 0);
    free(bytes);
    memory_end(4 * size + 4096);
    return 0;
}
