/* SPDX-License-Identifier: MIT */
/*
 * The manifest is read as it was written or not at all, and replacing it leaves the old one
 * or the new one behind, whatever call fails.
 *
 * Method: a small manifest is cut at every byte and flipped at every bit; each range is
 * broken with every checksum right. Files live in a disk of two files in memory, which notes
 * the calls that change something and can fail any one call.
 */
#include "bytes.h"
#include "checksum.h"
#include "manifest.h"
#include "test.h"

#include <errno.h>

TEST_MAIN

/* ---- Memory that fails on demand ---- */

static bool memory_is_gone;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_malloc(size_t size)
{
    return memory_is_gone ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return memory_is_gone ? NULL : __real_calloc(count, size);
}

/* ---- A disk of two files ---- */

struct disk {
    struct tkv_os os; /* first, so that a call finds its disk */
    struct {
        char name[TKV_FILE_NAME_SIZE];
        uint8_t bytes[1024];
        uint64_t size;
        uint64_t pretended_size; /* when not 0 */
    } files[2];
    int calls, fail_at; /* fail_at 0: never */
    int open_count;
    char trace[512];
};

static bool fails(struct disk *d)
{
    return ++d->calls == d->fail_at;
}

static void note(struct disk *d, const char *text)
{
    strncat(d->trace, text, sizeof d->trace - strlen(d->trace) - 1);
    strncat(d->trace, "\n", sizeof d->trace - strlen(d->trace) - 1);
}

static int find(struct disk *d, const char *name)
{
    for (int i = 0; i < 2; i++) {
        if (strcmp(d->files[i].name, name) == 0)
            return i;
    }
    return -ENOENT;
}

static int disk_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct disk *d = (struct disk *)os;
    int fd = find(d, name);
    char text[64];

    CHECK_EQ(dir, 7);
    if (fails(d))
        return -EMFILE;
    if (fd < 0 && (flags & TKV_OS_CREATE) == 0)
        return -ENOENT;
    if (fd >= 0 && (flags & TKV_OS_EXCLUSIVE) != 0)
        return -EEXIST;
    if (fd < 0) {
        fd = find(d, "");
        snprintf(d->files[fd].name, sizeof d->files[fd].name, "%s", name);
    }
    if ((flags & TKV_OS_TRUNCATE) != 0)
        d->files[fd].size = 0;
    if ((flags & TKV_OS_WRITE) != 0) {
        snprintf(text, sizeof text, "create %s", name);
        note(d, text);
    }
    d->open_count++;
    return fd;
}

static int disk_close(struct tkv_os *os, int fd)
{
    struct disk *d = (struct disk *)os;

    (void)fd;
    d->open_count--; /* also when it fails */
    return fails(d) ? -EIO : 0;
}

static int64_t disk_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    struct disk *d = (struct disk *)os;

    if (fails(d))
        return -EIO;
    if (offset >= d->files[fd].size)
        return 0;
    if (size > d->files[fd].size - offset)
        size = (size_t)(d->files[fd].size - offset);
    memcpy(buffer, d->files[fd].bytes + offset, size);
    return (int64_t)size;
}

static int64_t disk_write(struct tkv_os *os, int fd, const void *data, size_t size,
                          uint64_t offset)
{
    struct disk *d = (struct disk *)os;
    char text[64];

    if (fails(d))
        return -ENOSPC;
    CHECK(offset + size <= sizeof d->files[fd].bytes);
    memcpy(d->files[fd].bytes + offset, data, size);
    d->files[fd].size = offset + size;
    snprintf(text, sizeof text, "write %zu", size);
    note(d, text);
    return (int64_t)size;
}

static int disk_sync(struct tkv_os *os, int fd)
{
    struct disk *d = (struct disk *)os;

    (void)fd;
    if (fails(d))
        return -EIO;
    note(d, "sync");
    return 0;
}

static int disk_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    struct disk *d = (struct disk *)os;

    if (fails(d))
        return -EIO;
    *ret_size = d->files[fd].size;
    if (d->files[fd].pretended_size != 0)
        *ret_size = d->files[fd].pretended_size;
    return 0;
}

static int disk_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct disk *d = (struct disk *)os;
    const int source = find(d, from), target = find(d, to);
    char text[128];

    (void)dir;
    if (fails(d))
        return -EIO;
    CHECK(source >= 0);
    if (target >= 0)
        d->files[target].name[0] = '\0';
    snprintf(d->files[source].name, sizeof d->files[source].name, "%s", to);
    snprintf(text, sizeof text, "rename %s %s", from, to);
    note(d, text);
    return 0;
}

static int disk_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct disk *d = (struct disk *)os;
    const int fd = find(d, name);
    char text[64];

    (void)dir;
    if (fails(d))
        return -EIO;
    if (fd < 0)
        return -ENOENT;
    d->files[fd].name[0] = '\0';
    snprintf(text, sizeof text, "unlink %s", name);
    note(d, text);
    return 0;
}

static int disk_sync_dir(struct tkv_os *os, int dir)
{
    struct disk *d = (struct disk *)os;

    CHECK_EQ(dir, 7);
    if (fails(d))
        return -EIO;
    note(d, "sync-dir");
    return 0;
}

static struct disk empty_disk(void)
{
    return (struct disk){
        .os = {
               .open = disk_open,
               .close = disk_close,
               .read = disk_read,
               .write = disk_write,
               .sync = disk_sync,
               .file_size = disk_file_size,
               .rename = disk_rename,
               .unlink = disk_unlink,
               .sync_dir = disk_sync_dir,
               }
    };
}

/* ---- Manifests ---- */

/* Offsets of the picture in manifest.h, spelled a second time on purpose. */
enum {
    AT_VERSION = 8,
    AT_PRELUDE_CRC = 12,
    AT_SIZE = 16,
    AT_EPOCH = 40,
    AT_NEXT_NUMBER = 48,
    AT_SALT = 64,
    AT_POSITION = 72,
    AT_FILE_OFFSET = 80,
    AT_SEQ_NEXT = 88,
    AT_FILE_COUNT = 100,
    AT_HEADER_CRC = 108,
    AT_FILES = 112,
    FILE_SIZE = 48,
    AT_NUMBER = 0,
    AT_DURABLE_SIZE = 8,
    AT_SEQ_BASE = 16,
    AT_CLASS = 24,
    AT_FLAGS = 25,
    AT_ZEROS = 26,
    AT_RECORD_SUM = 32
};

static struct tkv_manifest_file three_files[] = {
    {1, 5000000,          1,                       TKV_FILE_FRESH,     true,  UINT64_MAX        },
    {4, (1ull << 40) - 1, 1ull << 40,              TKV_FILE_LARGE,     true,  0                 },
    {5, 0,                UINT64_MAX - UINT32_MAX, TKV_FILE_COMPACTED, false, 0x0102030405060708},
};

static struct tkv_manifest make(size_t file_count)
{
    return (struct tkv_manifest){
        .uuid = {1,  2, 3,  4,  5,  6,  7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
        .epoch = 9,
        .next_number = 6,
        .checkpoint = {.generation = 77,
                 .salt = 0xfedcba9876543210,
                 .position = 1 << 20,
                 .file_offset = 8192,
                 .seq_next = 123456,
                 .chain = 0xdeadbeef},
        .durable_mark = (1 << 20) + 8 * 4711,
        .files = file_count == 0 ? NULL : three_files,
        .file_count = file_count,
    };
}

static struct tkv_slice encoded(const struct tkv_manifest *m)
{
    struct tkv_error err;
    uint8_t *bytes;
    size_t size;

    CHECK_OK(tkv_manifest_encode(m, &bytes, &size, &err));
    return tkv_bytes(bytes, size);
}

static uint8_t *writable(struct tkv_slice bytes)
{
    return (uint8_t *)(uintptr_t)bytes.data;
}

static void release(struct tkv_slice bytes)
{
    free(writable(bytes));
}

static void check_same(const struct tkv_manifest *a, const struct tkv_manifest *b)
{
    CHECK(memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0);
    CHECK_EQ(a->epoch, b->epoch);
    CHECK_EQ(a->next_number, b->next_number);
    CHECK_EQ(a->checkpoint.generation, b->checkpoint.generation);
    CHECK_EQ(a->checkpoint.salt, b->checkpoint.salt);
    CHECK_EQ(a->checkpoint.position, b->checkpoint.position);
    CHECK_EQ(a->checkpoint.file_offset, b->checkpoint.file_offset);
    CHECK_EQ(a->checkpoint.seq_next, b->checkpoint.seq_next);
    CHECK_EQ(a->checkpoint.chain, b->checkpoint.chain);
    CHECK_EQ(a->durable_mark, b->durable_mark);
    CHECK_EQ(a->file_count, b->file_count);
    for (size_t i = 0; i < a->file_count; i++) {
        CHECK_EQ(a->files[i].number, b->files[i].number);
        CHECK_EQ(a->files[i].durable_size, b->files[i].durable_size);
        CHECK_EQ(a->files[i].seq_base, b->files[i].seq_base);
        CHECK_EQ(a->files[i].file_class, b->files[i].file_class);
        CHECK_EQ(a->files[i].sealed, b->files[i].sealed);
        CHECK_EQ(a->files[i].record_sum, b->files[i].record_sum);
    }
}

/* Decode bytes that must be refused, in memory of exactly their size. */
static enum tkv_status refused(struct tkv_slice bytes, struct tkv_error *ret_err)
{
    struct tkv_manifest m = {.epoch = 4711};
    uint8_t *exact = malloc(bytes.size + 1);
    enum tkv_status status;

    memset(ret_err, 0, sizeof *ret_err);
    if (bytes.size != 0)
        memcpy(exact + 1, bytes.data, bytes.size);
    status = tkv_manifest_decode(tkv_bytes(exact + 1, bytes.size), &m, ret_err);
    free(exact);
    CHECK(status != TKV_OK);
    CHECK_EQ(m.epoch, 4711); /* untouched */
    CHECK_EQ(ret_err->status, status);
    CHECK_STR(ret_err->file, "MANIFEST");
    CHECK(ret_err->message[0] != '\0');
    return status;
}

static void sum_again(struct tkv_slice bytes)
{
    uint8_t *p = writable(bytes);

    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
    tkv_put_le32(p + AT_HEADER_CRC, tkv_crc32(0, p, AT_HEADER_CRC));
    tkv_put_le32(p + bytes.size - 4, tkv_crc32(0, p, bytes.size - 4));
}

TEST(every_manifest_comes_back_as_it_was)
{
    for (size_t count = 0; count <= 3; count++) {
        const struct tkv_manifest m = make(count);
        const struct tkv_slice bytes = encoded(&m);
        struct tkv_manifest back;
        struct tkv_error err;

        CHECK_EQ(bytes.size, 112 + 48 * count + 4);
        CHECK_OK(tkv_manifest_decode(bytes, &back, &err));
        check_same(&back, &m);
        tkv_manifest_release(&back);
        CHECK(back.files == NULL && back.file_count == 0);
        tkv_manifest_release(&back);
        release(bytes);
    }
}

TEST(every_truncation_and_every_addition_is_refused)
{
    const struct tkv_manifest m = make(3);
    const struct tkv_slice bytes = encoded(&m);
    struct tkv_error err;
    uint8_t longer[1024] = {0};

    for (size_t size = 0; size < bytes.size; size++) {
        CHECK_EQ(refused(tkv_bytes(bytes.data, size), &err), TKV_CORRUPT);
        CHECK_EQ(err.offset, size);
        CHECK_EQ(strstr(err.message, "ends within its header") != NULL, size < 116);
    }
    memcpy(longer, bytes.data, bytes.size);
    for (size_t size = bytes.size + 1; size < sizeof longer; size++) {
        CHECK_EQ(refused(tkv_bytes(longer, size), &err), TKV_CORRUPT);
        CHECK_EQ(err.offset, size);
    }
    /* Not even with a checksum over all of it. */
    tkv_put_le32(longer + bytes.size + 44, tkv_crc32(0, longer, bytes.size + 44));
    CHECK_EQ(refused(tkv_bytes(longer, bytes.size + 48), &err), TKV_CORRUPT);
    release(bytes);
}

/* Nothing that lies behind the bytes is taken for a part of them. */
TEST(a_manifest_ends_where_its_bytes_end_whatever_follows_in_memory)
{
    const struct tkv_manifest m = make(0);
    const struct tkv_slice bytes = encoded(&m);
    struct tkv_manifest back;
    struct tkv_error err;

    for (size_t size = 0; size < bytes.size; size++) {
        memset(&err, 0, sizeof err);
        CHECK_EQ(tkv_manifest_decode(tkv_bytes(bytes.data, size), &back, &err),
                 TKV_CORRUPT);
        CHECK_EQ(err.offset, size);
        CHECK(strstr(err.message, "ends within its header") != NULL);
    }
    release(bytes);
}

/* Of the version, the header or the list: of the first whose sum does not fit. */
static uint64_t damaged_place(size_t byte, size_t size)
{
    if (byte < AT_VERSION)
        return 0;
    if (byte < AT_SIZE)
        return AT_VERSION;
    return byte < AT_FILES ? AT_HEADER_CRC : size - 4;
}

TEST(every_flipped_bit_is_refused_as_damage)
{
    const struct tkv_manifest m = make(3);
    const struct tkv_slice bytes = encoded(&m);
    struct tkv_error err;

    for (size_t bit = 0; bit < bytes.size * 8; bit++) {
        writable(bytes)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(refused(bytes, &err), TKV_CORRUPT);
        CHECK_EQ(err.offset, damaged_place(bit / 8, bytes.size));
        writable(bytes)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    release(bytes);
}

TEST(a_newer_version_is_unsupported_whatever_follows_its_first_bytes)
{
    const struct tkv_manifest m = make(3);
    const struct tkv_slice bytes = encoded(&m);
    uint8_t *p = writable(bytes);
    struct tkv_error err;

    tkv_put_le32(p + AT_VERSION, 2);
    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
    CHECK_EQ(refused(bytes, &err), TKV_UNSUPPORTED);
    CHECK_EQ(err.offset, AT_VERSION);
    CHECK_EQ(refused(tkv_bytes(p, 16), &err), TKV_UNSUPPORTED);
    CHECK_EQ(tkv_manifest_decode(tkv_bytes(p, 15), &(struct tkv_manifest){0}, &err),
             TKV_CORRUPT); /* though the rest of it lies behind */
    CHECK_EQ(tkv_manifest_decode(bytes, &(struct tkv_manifest){0}, NULL), TKV_UNSUPPORTED);
    tkv_put_le32(p + AT_VERSION, 0);
    sum_again(bytes);
    CHECK_EQ(refused(bytes, &err), TKV_CORRUPT);
    release(bytes);
}

/* The manifest of three files with `size` bytes at `offset` replaced and all sums right: refused
 * at `place`. */
static void check_refused(size_t offset, size_t size, uint64_t value, uint64_t place)
{
    const struct tkv_manifest m = make(3);
    const struct tkv_slice bytes = encoded(&m);
    struct tkv_error err;
    uint8_t integer[8];

    tkv_put_le64(integer, value);
    memcpy(writable(bytes) + offset, integer, size);
    sum_again(bytes);
    CHECK_EQ(refused(bytes, &err), TKV_CORRUPT);
    CHECK_EQ(err.offset, place);
    CHECK_EQ(err.seq, 0);
    release(bytes);
}

static void check_header_refused(size_t offset, uint64_t value)
{
    check_refused(offset, 8, value, AT_EPOCH);
}

/* A field of the second of three files, whose numbers are 1, 4 and 5. */
static void check_file_refused(size_t offset, size_t size, uint64_t value)
{
    check_refused(AT_FILES + FILE_SIZE + offset, size, value, AT_FILES + FILE_SIZE);
}

TEST(what_no_encoder_writes_is_refused_even_with_right_checksums)
{
    const uint64_t last = AT_FILES + 2 * FILE_SIZE;

    check_refused(0, 1, 't', 0);
    check_refused(AT_SIZE, 8, 0, AT_SIZE);
    check_header_refused(AT_EPOCH, 0);
    check_header_refused(AT_NEXT_NUMBER, 0);
    check_refused(AT_NEXT_NUMBER, 8, 5, last);
    check_header_refused(AT_NEXT_NUMBER, (1ull << 63) + 1);
    check_header_refused(AT_SALT, 0);
    check_header_refused(AT_POSITION, 4100);
    check_header_refused(AT_FILE_OFFSET, 8196);
    check_header_refused(AT_FILE_OFFSET, 8184);
    check_header_refused(AT_SEQ_NEXT, 0);
    check_refused(AT_FILE_COUNT, 4, 2, AT_SIZE);
    check_refused(AT_FILE_COUNT, 4, 4, AT_SIZE);
    check_refused(AT_FILE_COUNT, 4, UINT32_MAX, AT_FILE_COUNT);
    check_refused(AT_FILES + AT_NUMBER, 8, 0, AT_FILES);
    check_file_refused(AT_NUMBER, 8, 1);
    check_refused(AT_FILES + FILE_SIZE + AT_NUMBER, 8, 5, last);
    check_file_refused(AT_NUMBER, 8, 6);
    check_file_refused(AT_DURABLE_SIZE, 8, 1ull << 40);
    check_file_refused(AT_SEQ_BASE, 8, UINT64_MAX - UINT32_MAX + 1);
    check_file_refused(AT_CLASS, 1, 0);
    check_file_refused(AT_CLASS, 1, 4);
    for (unsigned bit = 1; bit < 8; bit++)
        check_file_refused(AT_FLAGS, 1, 1u << bit);
    for (size_t at = AT_ZEROS; at < FILE_SIZE; at++) {
        if (at < AT_RECORD_SUM || at >= AT_RECORD_SUM + 8)
            check_file_refused(at, 1, 0x80);
    }
}

TEST(the_next_number_may_be_the_first_and_the_last)
{
    const uint64_t numbers[] = {1, 1ull << 63};

    for (int i = 0; i < 2; i++) {
        struct tkv_manifest m = make(0), back;
        struct tkv_slice bytes;
        struct tkv_error err;

        m.next_number = numbers[i];
        bytes = encoded(&m);
        CHECK_OK(tkv_manifest_decode(bytes, &back, &err));
        check_same(&back, &m);
        release(bytes);
    }
}

TEST(a_manifest_too_large_to_be_read_is_not_written)
{
    struct tkv_manifest m = make(0), back;
    struct tkv_error err;
    uint8_t *bytes;
    size_t size;

    m.file_count = 349522;
    m.next_number = m.file_count + 1;
    m.files = calloc(m.file_count, sizeof *m.files);
    for (size_t i = 0; i < m.file_count; i++)
        m.files[i] = (struct tkv_manifest_file){i + 1, 0, 0, TKV_FILE_FRESH, false, i};
    CHECK_OK(tkv_manifest_encode(&m, &bytes, &size, &err));
    CHECK(size <= 16u * 1024 * 1024);
    CHECK_OK(tkv_manifest_decode(tkv_bytes(bytes, size), &back, &err));
    check_same(&back, &m);
    tkv_manifest_release(&back);
    free(bytes);
    m.file_count++;
    CHECK_EQ(tkv_manifest_encode(&m, &bytes, &size, &err), TKV_TOO_BIG);
    free(m.files);
}

/* The same bytes as in docs/format.md. */
TEST(the_bytes_of_a_manifest_never_change)
{
    static const uint8_t golden[] = {
        0x54, 0x4b, 0x56, 0x4d, 0x41, 0x4e, 0x49, 0x46, 0x01, 0x00, 0x00, 0x00, 0x97, 0x76,
        0x4d, 0x9c, 0xd4, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6f, 0x1d, 0xa5, 0x3c,
        0x92, 0x07, 0x4e, 0x8b, 0xb1, 0x40, 0x5a, 0xc7, 0x13, 0xd8, 0x66, 0x2e, 0x03, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5a, 0xf6, 0xc8, 0x31, 0x7d, 0x40,
        0xe2, 0x9b, 0x00, 0x00, 0x60, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x04, 0x00,
        0x00, 0x00, 0x00, 0x00, 0xf9, 0xa7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0e, 0xa9,
        0x15, 0x7c, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9f, 0x62, 0x70, 0xd5,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x50, 0x4c, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x70, 0x40, 0xa3, 0x23, 0x03, 0x22, 0x3b, 0x0d, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x8d, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x21, 0xf5, 0x33, 0xc9,
        0x4c, 0x1e, 0x7b, 0xf0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc1, 0xfa,
        0xf4, 0xe5,
    };
    struct tkv_manifest_file files[] = {
        {1, 5001216, 1,     TKV_FILE_FRESH, true,  0x0d3b220323a34070},
        {3, 1048576, 36101, TKV_FILE_FRESH, false, 0xf07b1e4cc933f521},
    };
    const struct tkv_manifest m = {
        .uuid = {0x6f,  0x1d, 0xa5, 0x3c, 0x92, 0x07, 0x4e, 0x8b, 0xb1, 0x40, 0x5a, 0xc7,
                 0x13, 0xd8, 0x66, 0x2e},
        .epoch = 3,
        .next_number = 4,
        .checkpoint = {.generation = 5,
                 .salt = 0x9be2407d31c8f65a,
                 .position = 6291456,
                 .file_offset = 270336,
                 .seq_next = 43001,
                 .chain = 0x7c15a90e                               },
        .durable_mark = 6291456,
        .files = files,
        .file_count = 2,
    };
    const struct tkv_slice bytes = encoded(&m);

    CHECK_EQ(bytes.size, sizeof golden);
    CHECK(memcmp(bytes.data, golden, sizeof golden) == 0);
    release(bytes);
}

/* ---- In a directory ---- */

TEST(what_was_written_is_read_back)
{
    struct disk d = empty_disk();
    struct tkv_manifest m = make(3), back;
    bool unknown = true;
    struct tkv_error err;

    for (int i = 0; i < 3; i++) {
        m.epoch++;
        CHECK_OK(tkv_manifest_write(&d.os, 7, &m, &unknown, &err));
        CHECK(!unknown);
        CHECK_OK(tkv_manifest_read(&d.os, 7, &back, &err));
        check_same(&back, &m);
        tkv_manifest_release(&back);
        CHECK_EQ(find(&d, "MANIFEST.tmp"), -ENOENT);
    }
    CHECK_EQ(d.open_count, 0);
}

TEST(writing_syncs_the_contents_before_the_rename_and_the_directory_after)
{
    struct disk d = empty_disk();
    const struct tkv_manifest m = make(3);
    struct tkv_error err;
    bool unknown;

    CHECK_OK(tkv_manifest_write(&d.os, 7, &m, &unknown, &err));
    CHECK_STR(d.trace, "create MANIFEST.tmp\n"
                       "write 260\n"
                       "sync\n"
                       "rename MANIFEST.tmp MANIFEST\n"
                       "sync-dir\n");
}

TEST(a_leftover_of_a_crash_is_replaced_by_a_new_file)
{
    struct disk d = empty_disk();
    const struct tkv_manifest m = make(0);
    struct tkv_manifest back;
    struct tkv_error err;
    bool unknown;

    snprintf(d.files[0].name, sizeof d.files[0].name, "MANIFEST.tmp");
    d.files[0].size = 1000;
    CHECK_OK(tkv_manifest_write(&d.os, 7, &m, &unknown, &err));
    CHECK(strncmp(d.trace, "unlink MANIFEST.tmp\ncreate MANIFEST.tmp\n", 40) == 0);
    CHECK_OK(tkv_manifest_read(&d.os, 7, &back, &err));
    check_same(&back, &m);
    tkv_manifest_release(&back);
}

TEST(a_failed_write_says_whether_the_old_manifest_stands)
{
    /* open, write, sync, close: the old one stands. rename, sync-dir: unknown. */
    static const char *const steps[] = {"create", "write",  "sync",
                                        "close",  "rename", "sync"};
    const struct tkv_manifest old = make(1), new = make(3);

    for (int fail_at = 1; fail_at <= 6; fail_at++) {
        struct disk d = empty_disk();
        struct tkv_manifest back;
        bool unknown = true;
        struct tkv_error err;

        CHECK_OK(tkv_manifest_write(&d.os, 7, &old, &unknown, &err));
        d.calls = 0;
        d.fail_at = fail_at;
        CHECK_EQ(tkv_manifest_write(&d.os, 7, &new, &unknown, &err),
                 fail_at == 2 ? TKV_NO_SPACE : TKV_IO);
        CHECK(strncmp(err.message, steps[fail_at - 1], strlen(steps[fail_at - 1])) == 0);
        CHECK_STR(err.file, "MANIFEST");
        CHECK_EQ(unknown, fail_at >= 5);
        CHECK_EQ(d.open_count, 0);
        if (fail_at < 5)
            CHECK_EQ(find(&d, "MANIFEST.tmp"), -ENOENT);

        CHECK_OK(tkv_manifest_read(&d.os, 7, &back, &err));
        check_same(&back, fail_at == 6 ? &new : &old);
        tkv_manifest_release(&back);
    }
}

TEST(without_memory_no_manifest_is_written_and_none_is_read)
{
    struct disk d = empty_disk();
    const struct tkv_manifest m = make(3);
    struct tkv_manifest back;
    struct tkv_error err;
    uint8_t *bytes;
    size_t size;
    bool unknown = true;
    char text[32];

    CHECK_OK(tkv_manifest_encode(&m, &bytes, &size, &err));
    snprintf(text, sizeof text, " %zu bytes", 3 * sizeof *m.files);
    memory_is_gone = true;
    CHECK_EQ(tkv_manifest_write(&d.os, 7, &m, &unknown, &err), TKV_NO_MEMORY);
    CHECK_EQ(tkv_manifest_decode(tkv_bytes(bytes, size), &back, &err), TKV_NO_MEMORY);
    CHECK(strstr(err.message, text) != NULL);
    CHECK(!unknown);
    CHECK_STR(d.trace, "");
    CHECK_EQ(d.calls, 0);
    memory_is_gone = false;
    CHECK_OK(tkv_manifest_write(&d.os, 7, &m, &unknown, &err));
    memory_is_gone = true;
    CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_NO_MEMORY);
    memory_is_gone = false;
    snprintf(text, sizeof text, " %zu bytes", size + 1);
    CHECK(strstr(err.message, text) != NULL);
    CHECK_EQ(d.open_count, 0);
    free(bytes);
}

TEST(a_failed_sync_is_not_repeated_and_nothing_is_renamed)
{
    struct disk d = empty_disk();
    const struct tkv_manifest m = make(0);
    struct tkv_error err;
    bool unknown;

    d.fail_at = 3;
    CHECK_EQ(tkv_manifest_write(&d.os, 7, &m, &unknown, &err), TKV_IO);
    CHECK_STR(d.trace, "create MANIFEST.tmp\n"
                       "write 116\n"
                       "unlink MANIFEST.tmp\n");
}

TEST(nothing_is_cleaned_up_after_a_failed_rename)
{
    struct disk d = empty_disk();
    const struct tkv_manifest m = make(0);
    struct tkv_error err;
    bool unknown;

    d.fail_at = 5;
    CHECK_EQ(tkv_manifest_write(&d.os, 7, &m, &unknown, &err), TKV_IO);
    CHECK(unknown);
    CHECK_STR(d.trace, "create MANIFEST.tmp\n"
                       "write 116\n"
                       "sync\n");
}

TEST(a_failed_read_is_reported_and_closes_the_file)
{
    const struct tkv_manifest m = make(3);

    for (int fail_at = 1; fail_at <= 3; fail_at++) { /* open, size, read */
        struct disk d = empty_disk();
        struct tkv_manifest back;
        struct tkv_error err;
        bool unknown;

        CHECK_OK(tkv_manifest_write(&d.os, 7, &m, &unknown, &err));
        d.calls = 0;
        d.fail_at = fail_at;
        CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_IO);
        CHECK_STR(err.file, "MANIFEST");
        CHECK_EQ(d.open_count, 0);
    }
}

TEST(no_manifest_an_empty_one_and_a_huge_one_are_told_apart)
{
    struct disk d = empty_disk();
    struct tkv_manifest back;
    struct tkv_error err;

    CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_NOT_FOUND);
    snprintf(d.files[0].name, sizeof d.files[0].name, "MANIFEST");
    CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_CORRUPT);
    d.files[0].pretended_size = 1ull << 50; /* never allocated, never read */
    d.calls = 0;
    CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_CORRUPT);
    CHECK_EQ(d.calls, 3); /* open, size, close */
    CHECK_EQ(err.offset, 1ull << 50);
    CHECK_EQ(err.seq, 0);
    d.files[0].pretended_size = 16u * 1024 * 1024; /* tried, but there is no such file */
    CHECK_EQ(tkv_manifest_read(&d.os, 7, &back, &err), TKV_IO);
    CHECK_EQ(err.os_errno, ENODATA);
    CHECK_EQ(d.open_count, 0);
}
