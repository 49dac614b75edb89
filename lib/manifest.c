/* SPDX-License-Identifier: MIT */
#include "manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "checksum.h"
#include "error.h"

static const uint8_t magic[8] = {'T', 'K', 'V', 'M', 'A', 'N', 'I', 'F'};

/* Where things are; the picture is in manifest.h. */
enum {
    AT_VERSION = 8,
    AT_PRELUDE_CRC = 12,
    AT_SIZE = 16,
    AT_UUID = 24,
    AT_EPOCH = 40,
    AT_NEXT_NUMBER = 48,
    AT_GENERATION = 56,
    AT_SALT = 64,
    AT_POSITION = 72,
    AT_FILE_OFFSET = 80,
    AT_SEQ_NEXT = 88,
    AT_CHAIN = 96,
    AT_FILE_COUNT = 100,
    AT_DURABLE = 104,
    AT_HEADER_CRC = 108,
    HEADER_SIZE = 112,

    ENTRY_AT_NUMBER = 0,
    ENTRY_AT_DURABLE_SIZE = 8,
    ENTRY_AT_SEQ_BASE = 16,
    ENTRY_AT_CLASS = 24,
    ENTRY_AT_FLAGS = 25,
    ENTRY_AT_RESERVED = 26,
    ENTRY_AT_RECORD_SUM = 32,
    ENTRY_AT_RESERVED_TOO = 40,
    ENTRY_SIZE = 48,

    CRC_SIZE = 4
};

static_assert(AT_UUID + sizeof((struct tkv_manifest){0}).uuid == AT_EPOCH,
              "no gap, no overlap");
static_assert(AT_EPOCH % 8 == 0 && HEADER_SIZE % 8 == 0 && ENTRY_SIZE % 8 == 0,
              "every u64 is aligned when the file is");

enum { FLAG_SEALED = 1 };

#define FILE_COUNT_MAX   ((TKV_MANIFEST_SIZE_MAX - HEADER_SIZE - CRC_SIZE) / ENTRY_SIZE)
#define NUMBER_END       ((uint64_t)1 << 63)
#define DURABLE_SIZE_END ((uint64_t)1 << 40)
#define SEQ_SPAN         ((uint64_t)1 << 32)
#define WAL_HEADERS_SIZE (2u * TKV_BLOCK_SIZE)

size_t tkv_manifest_size(size_t file_count)
{
    return HEADER_SIZE + file_count * ENTRY_SIZE + CRC_SIZE;
}

/* ---- What no encoder writes: decode rejects it, and encode asserts that it is not asked.
 * Each returns NULL, or what is wrong. */

static const char *wrong_with_header(const struct tkv_manifest *m)
{
    if (m->epoch == 0)
        return "the epoch is zero";
    if (m->next_number == 0 || m->next_number > NUMBER_END)
        return "the next file number is out of range";
    if (m->checkpoint.salt == 0)
        return "the salt of the log is zero";
    if (m->checkpoint.seq_next == 0)
        return "the next sequence number is zero";
    if (m->checkpoint.position % 8 != 0)
        return "the log position is not a multiple of 8";
    if (m->checkpoint.file_offset % 8 != 0 || m->checkpoint.file_offset < WAL_HEADERS_SIZE)
        return "the log offset is impossible";
    return NULL;
}

static const char *wrong_with_file(const struct tkv_manifest_file *f,
                                   uint64_t number_before, uint64_t next_number)
{
    if (f->number <= number_before)
        return "the file numbers do not ascend from 1";
    if (f->number >= next_number)
        return "a file number is not below the next one";
    if (f->durable_size >= DURABLE_SIZE_END)
        return "a file is impossibly large";
    if (f->seq_base > UINT64_MAX - (SEQ_SPAN - 1))
        return "a base of sequence numbers is out of range";
    if (f->file_class < TKV_FILE_FRESH || f->file_class > TKV_FILE_LARGE)
        return "a file has an unknown class";
    return NULL;
}

/* ---- Encode ---- */

static void put_header(const struct tkv_manifest *m, size_t size, uint8_t *p)
{
    memcpy(p, magic, sizeof magic);
    tkv_put_le32(p + AT_VERSION, TKV_FORMAT_VERSION);
    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
    tkv_put_le64(p + AT_SIZE, size);
    memcpy(p + AT_UUID, m->uuid, sizeof m->uuid);
    tkv_put_le64(p + AT_EPOCH, m->epoch);
    tkv_put_le64(p + AT_NEXT_NUMBER, m->next_number);
    tkv_put_le64(p + AT_GENERATION, m->checkpoint.generation);
    tkv_put_le64(p + AT_SALT, m->checkpoint.salt);
    tkv_put_le64(p + AT_POSITION, m->checkpoint.position);
    tkv_put_le64(p + AT_FILE_OFFSET, m->checkpoint.file_offset);
    tkv_put_le64(p + AT_SEQ_NEXT, m->checkpoint.seq_next);
    tkv_put_le32(p + AT_CHAIN, m->checkpoint.chain);
    tkv_put_le32(p + AT_FILE_COUNT, (uint32_t)m->file_count);
    tkv_put_le32(p + AT_DURABLE,
                 (uint32_t)((m->durable_mark - m->checkpoint.position) / 8));
    tkv_put_le32(p + AT_HEADER_CRC, tkv_crc32(0, p, AT_HEADER_CRC));
}

static void put_file(const struct tkv_manifest_file *f, uint8_t *p)
{
    memset(p, 0, ENTRY_SIZE);
    tkv_put_le64(p + ENTRY_AT_NUMBER, f->number);
    tkv_put_le64(p + ENTRY_AT_DURABLE_SIZE, f->durable_size);
    tkv_put_le64(p + ENTRY_AT_SEQ_BASE, f->seq_base);
    p[ENTRY_AT_CLASS] = (uint8_t)f->file_class;
    p[ENTRY_AT_FLAGS] = f->sealed ? FLAG_SEALED : 0;
    tkv_put_le64(p + ENTRY_AT_RECORD_SUM, f->record_sum);
}

enum tkv_status tkv_manifest_encode(const struct tkv_manifest *manifest,
                                    uint8_t **ret_bytes, size_t *ret_size,
                                    struct tkv_error *err)
{
    uint64_t number_before = 0;
    uint8_t *bytes;
    size_t size;

    if (manifest->file_count > FILE_COUNT_MAX) {
        return tkv_fail(err, TKV_TOO_BIG,
                        "%zu data files are more than the %u that %s can list",
                        manifest->file_count, FILE_COUNT_MAX, TKV_MANIFEST_NAME);
    }
    size = tkv_manifest_size(manifest->file_count);
    bytes = malloc(size);
    if (bytes == NULL)
        return tkv_fail_memory(err, size, "the manifest");

    assert(manifest->durable_mark % 8 == 0);
    assert(manifest->durable_mark - manifest->checkpoint.position <= TKV_MANIFEST_MARK_MAX);
    assert(wrong_with_header(manifest) == NULL);
    put_header(manifest, size, bytes);
    for (size_t i = 0; i < manifest->file_count; i++) {
        const struct tkv_manifest_file *f = &manifest->files[i];

        assert(wrong_with_file(f, number_before, manifest->next_number) == NULL);
        put_file(f, bytes + HEADER_SIZE + i * ENTRY_SIZE);
        number_before = f->number;
    }
    (void)number_before;
    tkv_put_le32(bytes + size - CRC_SIZE, tkv_crc32(0, bytes, size - CRC_SIZE));
    *ret_bytes = bytes;
    *ret_size = size;
    return TKV_OK;
}

/* ---- Decode: each step trusts only what the steps before it have verified. ---- */

static enum tkv_status refuse(uint64_t offset, const char *what, struct tkv_error *err)
{
    return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, offset, 0, "%s", what);
}

/* Of the fields before AT_SIZE only, which no later version may move: so a newer version is
 * told from damage. */
static enum tkv_status check_version(struct tkv_slice in, struct tkv_error *err)
{
    const uint8_t *p = in.data;
    uint32_t version;

    if (in.size < AT_SIZE)
        return refuse(in.size, "the file ends within its header", err);
    if (memcmp(p, magic, sizeof magic) != 0)
        return refuse(0, "this is not a manifest", err);
    if (tkv_crc32(0, p, AT_PRELUDE_CRC) != tkv_get_le32(p + AT_PRELUDE_CRC))
        return refuse(AT_VERSION, "the version fails its checksum", err);
    version = tkv_get_le32(p + AT_VERSION);
    if (version == 0)
        return refuse(AT_VERSION, "the version is zero", err);
    if (version <= TKV_FORMAT_VERSION)
        return TKV_OK;

    (void)tkv_fail(err, TKV_UNSUPPORTED,
                   "%s has format version %" PRIu32 ", and this build knows none above %u",
                   TKV_MANIFEST_NAME, version, TKV_FORMAT_VERSION);
    if (err != NULL) {
        snprintf(err->file, sizeof err->file, "%s", TKV_MANIFEST_NAME);
        err->offset = AT_VERSION;
    }
    return TKV_UNSUPPORTED;
}

static enum tkv_status check_sums_and_size(struct tkv_slice in, struct tkv_error *err)
{
    const uint8_t *p = in.data;
    uint32_t file_count;

    if (in.size < HEADER_SIZE + CRC_SIZE)
        return refuse(in.size, "the file ends within its header", err);
    if (tkv_crc32(0, p, AT_HEADER_CRC) != tkv_get_le32(p + AT_HEADER_CRC))
        return refuse(AT_HEADER_CRC, "the header fails its checksum", err);
    file_count = tkv_get_le32(p + AT_FILE_COUNT);
    if (file_count > FILE_COUNT_MAX)
        return refuse(AT_FILE_COUNT, "the header counts too many files", err);
    if (tkv_get_le64(p + AT_SIZE) != tkv_manifest_size(file_count))
        return refuse(AT_SIZE, "the size in the header does not fit its count of files",
                      err);
    if (in.size != tkv_manifest_size(file_count))
        return refuse(in.size, "the file is not as long as its header says", err);
    if (tkv_crc32(0, p, in.size - CRC_SIZE) != tkv_get_le32(p + in.size - CRC_SIZE))
        return refuse(in.size - CRC_SIZE, "the list of files fails its checksum", err);
    return TKV_OK;
}

static enum tkv_status get_header(const uint8_t *p, struct tkv_manifest *m,
                                  struct tkv_error *err)
{
    const char *wrong;

    memcpy(m->uuid, p + AT_UUID, sizeof m->uuid);
    m->epoch = tkv_get_le64(p + AT_EPOCH);
    m->next_number = tkv_get_le64(p + AT_NEXT_NUMBER);
    m->checkpoint.generation = tkv_get_le64(p + AT_GENERATION);
    m->checkpoint.salt = tkv_get_le64(p + AT_SALT);
    m->checkpoint.position = tkv_get_le64(p + AT_POSITION);
    m->checkpoint.file_offset = tkv_get_le64(p + AT_FILE_OFFSET);
    m->checkpoint.seq_next = tkv_get_le64(p + AT_SEQ_NEXT);
    m->checkpoint.chain = tkv_get_le32(p + AT_CHAIN);
    m->durable_mark = m->checkpoint.position + UINT64_C(8) * tkv_get_le32(p + AT_DURABLE);
    m->file_count = tkv_get_le32(p + AT_FILE_COUNT);
    wrong = wrong_with_header(m);
    return wrong == NULL ? TKV_OK : refuse(AT_EPOCH, wrong, err);
}

static enum tkv_status get_files(const uint8_t *bytes, struct tkv_manifest *m,
                                 struct tkv_error *err)
{
    uint64_t number_before = 0;

    for (size_t i = 0; i < m->file_count; i++) {
        const uint8_t *p = bytes + HEADER_SIZE + i * ENTRY_SIZE;
        struct tkv_manifest_file *f = &m->files[i];
        const char *wrong;

        f->number = tkv_get_le64(p + ENTRY_AT_NUMBER);
        f->durable_size = tkv_get_le64(p + ENTRY_AT_DURABLE_SIZE);
        f->seq_base = tkv_get_le64(p + ENTRY_AT_SEQ_BASE);
        f->file_class = (enum tkv_file_class)p[ENTRY_AT_CLASS];
        f->sealed = (p[ENTRY_AT_FLAGS] & FLAG_SEALED) != 0;
        f->record_sum = tkv_get_le64(p + ENTRY_AT_RECORD_SUM);
        wrong = wrong_with_file(f, number_before, m->next_number);
        if (wrong == NULL && (p[ENTRY_AT_FLAGS] & ~FLAG_SEALED) != 0)
            wrong = "a file has an unknown flag";
        if (wrong == NULL &&
            !(tkv_is_zero(p + ENTRY_AT_RESERVED, ENTRY_AT_RECORD_SUM - ENTRY_AT_RESERVED) &&
              tkv_is_zero(p + ENTRY_AT_RESERVED_TOO, ENTRY_SIZE - ENTRY_AT_RESERVED_TOO)))
            wrong = "reserved bytes are not zero";
        if (wrong != NULL)
            return refuse((uint64_t)(p - bytes), wrong, err);
        number_before = f->number;
    }
    return TKV_OK;
}

enum tkv_status TKV_COLD tkv_manifest_decode(struct tkv_slice bytes,
                                             struct tkv_manifest *ret_manifest,
                                             struct tkv_error *err)
{
    struct tkv_manifest m = {.files = NULL};
    enum tkv_status status;

    status = check_version(bytes, err);
    if (status != TKV_OK)
        return status;
    status = check_sums_and_size(bytes, err);
    if (status != TKV_OK)
        return status;
    status = get_header(bytes.data, &m, err);
    if (status != TKV_OK)
        return status;

    if (m.file_count != 0) {
        m.files = calloc(m.file_count, sizeof *m.files);
        if (m.files == NULL)
            return tkv_fail_memory(err, m.file_count * sizeof *m.files,
                                   "the list of files");
    }
    status = get_files(bytes.data, &m, err);
    if (status != TKV_OK) {
        tkv_manifest_release(&m);
        return status;
    }
    *ret_manifest = m;
    return TKV_OK;
}

void tkv_manifest_release(struct tkv_manifest *manifest)
{
    free(manifest->files);
    manifest->files = NULL;
    manifest->file_count = 0;
}
