/* SPDX-License-Identifier: MIT */
/*
 * A hint gives back what was put into it, or it is refused: it is a cache, and any doubt is
 * enough. It is never synced.
 *
 * Method: a small hint is cut at every byte and flipped at every bit; entries are broken one
 * field at a time with every checksum right; hints of many blocks have blocks swapped, lost
 * and repeated. Files live in a disk of two files in memory, which notes the calls that
 * change something and can fail any one call.
 */
#include "bytes.h"
#include "checksum.h"
#include "file_name.h"
#include "hint.h"
#include "test.h"

#include <errno.h>

TEST_MAIN

/* ---- A disk of two files ---- */

struct disk {
    struct tkv_os os; /* first, so that a call finds its disk */
    struct {
        char name[TKV_FILE_NAME_SIZE];
        uint8_t bytes[1 << 20];
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

/* Without sync and sync_dir: a call of either would be a crash. */
static struct disk *new_disk(void)
{
    struct disk *d = calloc(1, sizeof *d);

    d->os.open = disk_open;
    d->os.close = disk_close;
    d->os.read = disk_read;
    d->os.write = disk_write;
    d->os.file_size = disk_file_size;
    d->os.rename = disk_rename;
    d->os.unlink = disk_unlink;
    return d;
}

/* ---- Hints ---- */

/* Offsets of the picture in hint.h, spelled a second time on purpose. */
enum {
    AT_VERSION = 8,
    AT_PRELUDE_CRC = 12,
    AT_UUID = 16,
    AT_NUMBER = 32,
    AT_DATA_SIZE = 40,
    AT_HEADER_CRC = 48,
    AT_BLOCKS = 52,
    BLOCK_HEADER_SIZE = 12,
    FOOTER_SIZE = 24,
    AT_ENTRIES = AT_BLOCKS + BLOCK_HEADER_SIZE,
    ENTRY_AT_OFFSET = 8,
    ENTRY_AT_SIZE = 16,
    ENTRY_AT_KEY_SIZE = 20,
    ENTRY_AT_KIND = 22,
    ENTRY_AT_FLAGS = 23,
    ENTRY_AT_EXPIRY = 24
};

#define HINT_NAME "0000000042.hint"

enum { DATA_SIZE = 1 << 20 };

static const struct tkv_hint_identity identity = {
    .uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .number = 42,
    .data_size = DATA_SIZE,
};

static uint8_t key_bytes[TKV_KEY_SIZE_MAX];

static struct tkv_hint_entry entry(enum tkv_record_kind kind, uint64_t offset,
                                   size_t key_size, uint64_t expires_at_ms)
{
    for (size_t i = 0; key_bytes[0] == 0 && i < sizeof key_bytes; i++)
        key_bytes[i] = (uint8_t)(i % 251 + 1);
    return (struct tkv_hint_entry){
        .kind = kind,
        .seq = 1000000 + offset,
        .offset = offset,
        .size = (uint32_t)(TKV_RECORD_HEADER_SIZE + key_size + 40),
        .expires_at_ms = expires_at_ms,
        .large_number = kind == TKV_RECORD_LARGE ? 17 : 0,
        .key = tkv_bytes(key_size == 0 ? NULL : key_bytes + offset % 7, key_size),
    };
}

/* One of each sort. */
static struct tkv_hint_entry small_entry(size_t i)
{
    switch (i) {
    case 0:
        return entry(TKV_RECORD_PUT, 0, 3, 1700000000000);
    case 1:
        return entry(TKV_RECORD_PUT, 600, 0, 0);
    case 2:
        return entry(TKV_RECORD_DELETE, 500, 16, 0);
    case 3:
        return entry(TKV_RECORD_LARGE, 5000, 5, INT64_MAX);
    default:
        return entry(TKV_RECORD_LARGE, DATA_SIZE - 24 - 1 - 40, 1, 0);
    }
}

enum { SMALL_COUNT = 5 };

/* Keys of every size class, so that blocks close in all sorts of places. */
static struct tkv_hint_entry many_entry(size_t i)
{
    return entry(i % 5 == 4 ? TKV_RECORD_DELETE : TKV_RECORD_PUT, i * 50, i * 37 % 600,
                 i % 5 == 2 ? i + 1 : 0);
}

enum { MANY_COUNT = 1500 };

static void write_hint(struct disk *d, struct tkv_hint_entry (*get)(size_t i), size_t count)
{
    struct tkv_hint_writer *writer;
    struct tkv_error err;

    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    for (size_t i = 0; i < count; i++) {
        const struct tkv_hint_entry e = get(i);

        CHECK_OK(tkv_hint_writer_add(writer, &e, &err));
    }
    CHECK_OK(tkv_hint_writer_write(writer, &d->os, 7, &identity, &err));
    tkv_hint_writer_free(writer);
}

static void check_same(const struct tkv_hint_entry *a, const struct tkv_hint_entry *b)
{
    CHECK_EQ(a->kind, b->kind);
    CHECK_EQ(a->seq, b->seq);
    CHECK_EQ(a->offset, b->offset);
    CHECK_EQ(a->size, b->size);
    CHECK_EQ(a->expires_at_ms, b->expires_at_ms);
    CHECK_EQ(a->large_number, b->large_number);
    CHECK_EQ(a->key.size, b->key.size);
    CHECK(a->key.size == 0 || memcmp(a->key.data, b->key.data, a->key.size) == 0);
}

static void check_holds(struct disk *d, struct tkv_hint_entry (*get)(size_t i),
                        size_t count)
{
    struct tkv_hint_entry e;
    struct tkv_hint *hint;
    struct tkv_error err;

    CHECK_OK(tkv_hint_open(&d->os, 7, &identity, &hint, &err));
    for (size_t i = 0; i < count; i++) {
        const struct tkv_hint_entry expected = get(i);

        CHECK(tkv_hint_next(hint, &e));
        check_same(&e, &expected);
    }
    CHECK(!tkv_hint_next(hint, &e));
    CHECK(!tkv_hint_next(hint, &e));
    tkv_hint_free(hint);
    CHECK_EQ(d->open_count, 0);
}

static enum tkv_status open_as(struct disk *d, const struct tkv_hint_identity *other)
{
    struct tkv_hint *const untouched = (struct tkv_hint *)d, *hint = untouched;
    struct tkv_error err;
    const enum tkv_status status = tkv_hint_open(&d->os, 7, other, &hint, &err);

    if (status == TKV_OK)
        tkv_hint_free(hint);
    else
        CHECK(hint == untouched && err.status == status && err.message[0] != '\0');
    CHECK_EQ(d->open_count, 0);
    return status;
}

static enum tkv_status open_hint(struct disk *d)
{
    return open_as(d, &identity);
}

/* The file's bytes and size, for a test to damage. */
static unsigned hint_at(struct disk *d)
{
    const int i = find(d, HINT_NAME);

    CHECK(i >= 0);
    return (unsigned)i;
}

static uint8_t *bytes_of(struct disk *d)
{
    return d->files[hint_at(d)].bytes;
}

static uint64_t *size_of(struct disk *d)
{
    return &d->files[hint_at(d)].size;
}

/* Make all checksums right again, of a hint with sane block sizes. */
static void sum_again(struct disk *d)
{
    uint8_t *const p = bytes_of(d), *const footer = p + *size_of(d) - FOOTER_SIZE;
    uint32_t blocks_sum = 0;

    tkv_put_le32(p + AT_PRELUDE_CRC, tkv_crc32(0, p, AT_PRELUDE_CRC));
    tkv_put_le32(p + AT_HEADER_CRC, tkv_crc32(0, p, AT_HEADER_CRC));
    for (uint8_t *block = p + AT_BLOCKS; block < footer;) {
        const uint32_t size = tkv_get_le32(block);

        tkv_put_le32(block + 8,
                     tkv_crc32(tkv_crc32(0, block, 8), block + BLOCK_HEADER_SIZE, size));
        blocks_sum = tkv_crc32(blocks_sum, block + 8, 4);
        block += BLOCK_HEADER_SIZE + size;
    }
    tkv_put_le32(footer + 16, blocks_sum);
    tkv_put_le32(footer + 20, tkv_crc32(0, footer, 20));
}

TEST(every_entry_comes_back_as_it_was)
{
    for (size_t count = 0; count <= SMALL_COUNT; count++) {
        struct disk *d = new_disk();

        write_hint(d, small_entry, count);
        check_holds(d, small_entry, count);
        free(d);
    }
}

TEST(many_blocks_come_back_in_order)
{
    struct disk *d = new_disk();

    write_hint(d, many_entry, MANY_COUNT);
    CHECK(*size_of(d) > 5 * 65536);
    check_holds(d, many_entry, MANY_COUNT);
    free(d);
}

static struct tkv_hint_entry longest_entry(size_t i)
{
    struct tkv_hint_entry e = entry(TKV_RECORD_LARGE, 0, TKV_KEY_SIZE_MAX, 5);

    e.seq += i;
    return e;
}

TEST(keys_as_long_as_a_block_fit)
{
    struct disk *d = new_disk();

    write_hint(d, longest_entry, 7);
    check_holds(d, longest_entry, 7);
    free(d);
}

TEST(writing_renames_and_never_syncs)
{
    struct disk *d = new_disk();

    write_hint(d, small_entry, 1);
    CHECK_STR(d->trace, "create 0000000042.hint.tmp\n"
                        "write 123\n"
                        "rename 0000000042.hint.tmp 0000000042.hint\n");
    free(d);
}

TEST(every_truncation_is_refused)
{
    struct disk *d = new_disk();

    write_hint(d, small_entry, SMALL_COUNT);
    for (uint64_t size = *size_of(d); size-- > 0;) {
        *size_of(d) = size;
        CHECK_EQ(open_hint(d), TKV_CORRUPT);
    }
    free(d);
}

TEST(a_truncation_with_the_footer_moved_along_is_refused)
{
    struct disk *d = new_disk();
    uint8_t footer[FOOTER_SIZE], *whole = malloc(DATA_SIZE);
    uint64_t size;

    write_hint(d, many_entry, MANY_COUNT);
    size = *size_of(d);
    memcpy(whole, bytes_of(d), size);
    memcpy(footer, bytes_of(d) + size - FOOTER_SIZE, FOOTER_SIZE);
    for (uint64_t at = AT_BLOCKS; at < size - FOOTER_SIZE; at += 97) {
        memcpy(bytes_of(d) + at, footer, FOOTER_SIZE);
        *size_of(d) = at + FOOTER_SIZE;
        CHECK_EQ(open_hint(d), TKV_CORRUPT);
        memcpy(bytes_of(d), whole, size);
    }
    for (uint64_t at = AT_BLOCKS; at < size - FOOTER_SIZE;) { /* exactly between blocks */
        memcpy(bytes_of(d) + at, footer, FOOTER_SIZE);
        *size_of(d) = at + FOOTER_SIZE;
        CHECK_EQ(open_hint(d), TKV_CORRUPT);
        memcpy(bytes_of(d), whole, size);
        at += BLOCK_HEADER_SIZE + tkv_get_le32(whole + at);
    }
    *size_of(d) = size;
    check_holds(d, many_entry, MANY_COUNT);
    free(whole);
    free(d);
}

TEST(every_flipped_bit_is_refused)
{
    struct disk *d = new_disk();

    write_hint(d, small_entry, SMALL_COUNT);
    for (uint64_t bit = 0; bit < *size_of(d) * 8; bit++) {
        bytes_of(d)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(open_hint(d), TKV_CORRUPT);
        bytes_of(d)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    check_holds(d, small_entry, SMALL_COUNT);
    free(d);
}

TEST(blocks_swapped_lost_or_repeated_are_refused)
{
    struct disk *d = new_disk();
    uint8_t *p, *copy = malloc(DATA_SIZE);
    size_t first, second, rest;

    write_hint(d, many_entry, MANY_COUNT);
    p = bytes_of(d);
    memcpy(copy, p, *size_of(d));
    first = BLOCK_HEADER_SIZE + tkv_get_le32(p + AT_BLOCKS);
    second = BLOCK_HEADER_SIZE + tkv_get_le32(p + AT_BLOCKS + first);
    rest = *size_of(d) - AT_BLOCKS - first - second;

    memcpy(p + AT_BLOCKS, copy + AT_BLOCKS + first, second);
    memcpy(p + AT_BLOCKS + second, copy + AT_BLOCKS, first);
    CHECK_EQ(open_hint(d), TKV_CORRUPT);

    memcpy(p, copy, *size_of(d));
    memcpy(p + AT_BLOCKS, copy + AT_BLOCKS + first, second + rest);
    *size_of(d) -= first;
    CHECK_EQ(open_hint(d), TKV_CORRUPT);

    *size_of(d) += 2 * first;
    memcpy(p + AT_BLOCKS, copy + AT_BLOCKS, first);
    memcpy(p + AT_BLOCKS + first, copy + AT_BLOCKS, first + second + rest);
    CHECK_EQ(open_hint(d), TKV_CORRUPT);
    free(copy);
    free(d);
}

TEST(a_hint_of_something_else_is_refused)
{
    struct disk *d = new_disk();
    struct tkv_hint_identity other;

    write_hint(d, small_entry, SMALL_COUNT);
    CHECK_EQ(open_hint(d), TKV_OK);
    for (size_t i = 0; i < sizeof other.uuid; i++) {
        other = identity;
        other.uuid[i] ^= 1;
        CHECK_EQ(open_as(d, &other), TKV_CORRUPT);
    }
    other = identity;
    other.data_size++;
    CHECK_EQ(open_as(d, &other), TKV_CORRUPT);
    other.data_size -= 2;
    CHECK_EQ(open_as(d, &other), TKV_CORRUPT);

    other = identity;
    other.number = 43;
    CHECK_EQ(open_as(d, &other), TKV_NOT_FOUND);
    snprintf(d->files[find(d, HINT_NAME)].name, TKV_FILE_NAME_SIZE, "0000000043.hint");
    CHECK_EQ(open_as(d, &other), TKV_CORRUPT);
    CHECK_EQ(open_hint(d), TKV_NOT_FOUND);
    free(d);
}

/* A newer hint is one doubt more: the data file is read instead, and opening goes on. */
TEST(a_newer_version_is_refused)
{
    struct disk *d = new_disk();

    write_hint(d, small_entry, SMALL_COUNT);
    tkv_put_le32(bytes_of(d) + AT_VERSION, 2);
    sum_again(d);
    CHECK_EQ(open_hint(d), TKV_CORRUPT);
    tkv_put_le32(bytes_of(d) + AT_VERSION, 1);
    sum_again(d);
    check_holds(d, small_entry, SMALL_COUNT);
    free(d);
}

/* The first small entry (a put of 3 bytes of key that expires) with `size` bytes at `offset`
 * replaced, and all checksums right. */
static enum tkv_status open_changed(size_t offset, size_t size, uint64_t value)
{
    struct disk *d = new_disk();
    enum tkv_status status;
    uint8_t integer[8];

    write_hint(d, small_entry, SMALL_COUNT);
    tkv_put_le64(integer, value);
    memcpy(bytes_of(d) + offset, integer, size);
    sum_again(d);
    status = open_hint(d);
    free(d);
    return status;
}

TEST(what_no_writer_writes_is_refused_even_with_right_checksums)
{
    const size_t e = AT_ENTRIES;

    CHECK_EQ(open_changed(e, 8, 5), TKV_OK);
    CHECK_EQ(open_changed(e, 8, 0), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_OFFSET, 8, DATA_SIZE - 67), TKV_OK);
    CHECK_EQ(open_changed(e + ENTRY_AT_OFFSET, 8, DATA_SIZE - 66), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_OFFSET, 8, UINT64_MAX), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_OFFSET, 8, UINT64_MAX - 66), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_SIZE, 4, 27), TKV_OK);
    CHECK_EQ(open_changed(e + ENTRY_AT_SIZE, 4, 26), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_SIZE, 4, DATA_SIZE + 1), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_SIZE, 4, UINT32_MAX), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_KEY_SIZE, 2, 65535), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_KIND, 1, 0), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_KIND, 1, TKV_RECORD_DELETE), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_KIND, 1, 4), TKV_CORRUPT);
    for (unsigned bit = 1; bit < 8; bit++)
        CHECK_EQ(open_changed(e + ENTRY_AT_FLAGS, 1, 1u | 1u << bit), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_EXPIRY, 8, 1), TKV_OK);
    CHECK_EQ(open_changed(e + ENTRY_AT_EXPIRY, 8, 0), TKV_CORRUPT);
    CHECK_EQ(open_changed(e + ENTRY_AT_EXPIRY, 8, 1ull << 63), TKV_CORRUPT);
    CHECK_EQ(open_changed(AT_BLOCKS + 4, 4, SMALL_COUNT - 1), TKV_CORRUPT);
    CHECK_EQ(open_changed(AT_BLOCKS + 4, 4, SMALL_COUNT + 1), TKV_CORRUPT);
    CHECK_EQ(open_changed(AT_BLOCKS + 4, 4, UINT32_MAX), TKV_CORRUPT);
}

TEST(a_size_is_checked_before_memory_is_taken_for_it)
{
    struct disk *d = new_disk();

    write_hint(d, small_entry, SMALL_COUNT);
    d->files[find(d, HINT_NAME)].pretended_size = 1ull << 60;
    d->calls = 0;
    CHECK_EQ(open_hint(d), TKV_CORRUPT);
    CHECK_EQ(d->calls, 3); /* open, size, close */
    free(d);
}

static struct tkv_hint_entry densest_entry(size_t i)
{
    struct tkv_hint_entry e = entry(TKV_RECORD_LARGE, i * 33, 1, 1);

    e.size = 33; /* header, expiry and key; no reference could be so short */
    return e;
}

TEST(the_largest_possible_hint_is_within_the_limit)
{
    struct disk *d = new_disk();
    struct tkv_hint_writer *writer;
    struct tkv_hint_identity tight = identity;
    struct tkv_error err;

    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    for (size_t i = 0; i < 20000; i++) {
        const struct tkv_hint_entry e = densest_entry(i);

        CHECK_OK(tkv_hint_writer_add(writer, &e, &err));
    }
    tight.data_size = 20000 * 33;
    CHECK_OK(tkv_hint_writer_write(writer, &d->os, 7, &tight, &err));
    tkv_hint_writer_free(writer);
    CHECK_EQ(open_as(d, &tight), TKV_OK);
    free(d);
}

TEST(a_failed_write_leaves_the_old_hint_and_no_leftover)
{
    static const char *const steps[] = {"create", "write", "close", "rename"};

    for (int fail_at = 1; fail_at <= 4; fail_at++) {
        struct disk *d = new_disk();
        struct tkv_hint_writer *writer;
        struct tkv_error err;

        write_hint(d, small_entry, SMALL_COUNT);
        CHECK_OK(tkv_hint_writer_new(&writer, &err));
        d->calls = 0;
        d->fail_at = fail_at;
        CHECK_EQ(tkv_hint_writer_write(writer, &d->os, 7, &identity, &err),
                 fail_at == 2 ? TKV_NO_SPACE : TKV_IO);
        CHECK(strncmp(err.message, steps[fail_at - 1], strlen(steps[fail_at - 1])) == 0);
        CHECK_STR(err.file, HINT_NAME);
        CHECK_EQ(d->open_count, 0);
        CHECK_EQ(find(d, "0000000042.hint.tmp"), -ENOENT);
        check_holds(d, small_entry, SMALL_COUNT);

        CHECK_OK(tkv_hint_writer_write(writer, &d->os, 7, &identity, &err)); /* once more */
        check_holds(d, small_entry, 0);
        tkv_hint_writer_free(writer);
        free(d);
    }
}

TEST(a_failed_read_is_reported_and_closes_the_file)
{
    for (int fail_at = 1; fail_at <= 3; fail_at++) { /* open, size, read */
        struct disk *d = new_disk();

        write_hint(d, small_entry, SMALL_COUNT);
        d->calls = 0;
        d->fail_at = fail_at;
        CHECK_EQ(open_hint(d), TKV_IO);
        free(d);
    }
}

/* The same bytes as in docs/format.md. */
TEST(the_bytes_of_a_hint_never_change)
{
    static const uint8_t golden[] = {
        0x54, 0x4b, 0x56, 0x48, 0x49, 0x4e, 0x54, 0x53, 0x01, 0x00, 0x00, 0x00, 0xda, 0x21,
        0x77, 0x12, 0x6f, 0x1d, 0xa5, 0x3c, 0x92, 0x07, 0x4e, 0x8b, 0xb1, 0x40, 0x5a, 0xc7,
        0x13, 0xd8, 0x66, 0x2e, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x50,
        0x4c, 0x00, 0x00, 0x00, 0x00, 0x00, 0xdf, 0xff, 0x73, 0x8e, 0x40, 0x00, 0x00, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x8d, 0xa4, 0xa2, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x29, 0x00, 0x00, 0x00,
        0x04, 0x00, 0x01, 0x01, 0x00, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, 0x6e, 0x61,
        0x6d, 0x65, 0x2b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x69, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x04, 0x00, 0x02, 0x00, 0x6e, 0x61,
        0x6d, 0x65, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x2d, 0x9a, 0x37, 0x7c, 0x65, 0x43, 0xee, 0x26,
    };
    const struct tkv_hint_identity golden_identity = {
        .uuid = {0x6f, 0x1d, 0xa5, 0x3c, 0x92, 0x07, 0x4e, 0x8b, 0xb1, 0x40, 0x5a, 0xc7,
                 0x13, 0xd8, 0x66, 0x2e},
        .number = 1,
        .data_size = 5001216,
    };
    const struct tkv_hint_entry entries[] = {
        {TKV_RECORD_PUT,    42, 64,  41, 1700000000000, 0, tkv_text("name")},
        {TKV_RECORD_DELETE, 43, 105, 28, 0,             0, tkv_text("name")},
    };
    struct disk *d = new_disk();
    struct tkv_hint_writer *writer;
    struct tkv_error err;
    int fd;

    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    CHECK_OK(tkv_hint_writer_add(writer, &entries[0], &err));
    CHECK_OK(tkv_hint_writer_add(writer, &entries[1], &err));
    CHECK_OK(tkv_hint_writer_write(writer, &d->os, 7, &golden_identity, &err));
    tkv_hint_writer_free(writer);
    fd = find(d, "0000000001.hint");
    CHECK_EQ(d->files[fd].size, sizeof golden);
    CHECK(memcmp(d->files[fd].bytes, golden, sizeof golden) == 0);
    free(d);
}

TEST(null_may_be_freed)
{
    tkv_hint_free(NULL);
    tkv_hint_writer_free(NULL);
}
