/* SPDX-License-Identifier: MIT */
/*
 * What an opening makes of wal.log as a file: missing, too short, too long, of another store,
 * unreadable, or not as its headers and the manifest say.
 *
 * Method: a small store's log is changed from outside, and the calls that read it are
 * exchanged.
 */
#include "killed_store.h"

#include <errno.h>

TEST_MAIN

#define MEMORY_MAX ((size_t)1 << 30) /* at once */

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    return size >= MEMORY_MAX ? NULL : __real_malloc(size);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return size >= MEMORY_MAX ? NULL : __real_aligned_alloc(alignment, size);
}

/* ---- What cannot be a log -------------------------------------------------------------- */

TEST(a_log_that_ends_in_its_header_is_damaged_there)
{
    static const uint64_t sizes[] = {0, 1, TKV_BLOCK_SIZE, TKV_WAL_RING_START - 1};

    for (unsigned i = 0; i < 4; i++) {
        struct fixture f;

        begin_killed(&f);
        CHECK(simdisk_file_truncate(f.disk, "wal.log", sizes[i]) >= 0);
        memset(&err, 0xee, sizeof err);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.offset, sizes[i]);
        CHECK_EQ(err.seq, 0);
        CHECK(strstr(err.message, "ends in its header") != NULL);
        end(&f);
    }
}

TEST(a_log_that_is_shorter_than_its_header_says_is_damaged_there)
{
    struct tkv_wal_header h;
    struct fixture f;
    char why[64];

    begin_killed(&f);
    read_header(&f, &h);
    CHECK(simdisk_file_truncate(f.disk, "wal.log", h.ring_end - 1) >= 0);
    memset(&err, 0xee, sizeof err);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, h.ring_end - 1);
    CHECK_EQ(err.seq, 0);
    snprintf(why, sizeof why, "had %u bytes", (unsigned)h.ring_end);
    CHECK(strstr(err.message, why) != NULL);
    end(&f);
}

TEST(a_log_without_a_readable_header_is_damaged)
{
    struct fixture f;

    begin_killed(&f);
    for (unsigned i = 0; i < 2; i++)
        CHECK(simdisk_file_write(f.disk, "wal.log", "?", 1, 1536 + i * TKV_BLOCK_SIZE) > 0);
    expect_refused(&f, "wal.log", "neither header block is readable");
    end(&f);
}

TEST(a_log_that_is_missing_is_damage)
{
    struct fixture f;

    begin_killed(&f);
    CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
    expect_refused(&f, "wal.log", "missing");
    end(&f);
}

TEST(a_log_of_another_store_is_refused)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    for (unsigned i = 0; i < 2; i++) {
        h.uuid[15]++;
        h.checkpoint.generation++;
        write_header(&f, &h);
    }
    memset(&err, 0xee, sizeof err);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, 16);
    CHECK_EQ(err.seq, 0);
    CHECK(strstr(err.message, "another store") != NULL);
    end(&f);
}

TEST(with_a_damaged_manifest_no_log_is_looked_at)
{
    struct fixture f;

    for (unsigned damage = TKV_DAMAGE_REFUSE; damage <= TKV_DAMAGE_CERTAIN; damage++) {
        begin_killed(&f);
        CHECK(simdisk_file_truncate(f.disk, "MANIFEST", 0) >= 0);
        CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
        f.options.read_only = damage != TKV_DAMAGE_REFUSE;
        f.options.damage = (enum tkv_damage)damage;
        expect_refused(&f, "MANIFEST", "the file ends within its header");
        end(&f);
    }
}

/* ---- A log that the system is asked for ------------------------------------------------ */

static struct tkv_os *real_os;
static int log_fd = -1;
static uint64_t pretended_size;
static bool log_is_dropped; /* from the cache */

static int note_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    const int fd = real_os->open(os, dir, name, flags);

    if (strcmp(name, "wal.log") == 0)
        log_fd = fd;
    return fd;
}

static int pretend_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    if (fd != log_fd)
        return real_os->file_size(os, fd, ret_size);
    *ret_size = pretended_size;
    return 0;
}

/* A killed store, and its disk's calls for a test to exchange. */
static void begin_intercepted(struct fixture *f, struct tkv_os *ret_os)
{
    begin_killed(f);
    *ret_os = f->disk->os;
    real_os = ret_os;
    log_fd = -1;
    f->disk->os.open = note_open;
    memset(&err, 0xee, sizeof err);
}

/* The disk is as it was, and so is the store. */
static void end_intercepted(struct fixture *f)
{
    f->disk->os = *real_os;
    CHECK_OK(try_open(f));
    expect_both(f);
    end(f);
}

TEST(a_log_larger_than_any_is_refused_before_memory_is_asked_for)
{
    struct tkv_os os;
    struct fixture f;

    begin_intercepted(&f, &os);
    f.disk->os.file_size = pretend_size;
    pretended_size = (UINT64_C(16) << 30) + 1;
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK(strstr(err.message, "17179869185 bytes, more than any log") != NULL);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, UINT64_C(16) << 30);
    CHECK_EQ(err.seq, 0);
    end_intercepted(&f);
}

TEST(a_log_for_which_there_is_no_memory_says_how_much_it_wants)
{
    struct tkv_os os;
    struct fixture f;

    begin_intercepted(&f, &os);
    f.disk->os.file_size = pretend_size;
    pretended_size = UINT64_C(16) << 30; /* the largest that there is */
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    CHECK(strstr(err.message, "17179869184 bytes") != NULL);
    CHECK(strstr(err.message, "the log") != NULL);
    end_intercepted(&f);
}

static int log_has_no_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    return fd == log_fd ? -EIO : real_os->file_size(os, fd, ret_size);
}

static int64_t read_headers_only(struct tkv_os *os, int fd, void *buffer, size_t size,
                                 uint64_t offset)
{
    return fd == log_fd && size > TKV_BLOCK_SIZE
               ? -EIO
               : real_os->read(os, fd, buffer, size, offset);
}

static int refuse_log(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    return strcmp(name, "wal.log") == 0 ? -EIO : real_os->open(os, dir, name, flags);
}

TEST(a_log_that_cannot_be_opened_measured_or_read_is_an_error_and_no_damage)
{
    for (unsigned call = 0; call < 3; call++) {
        struct tkv_os os;
        struct fixture f;

        begin_intercepted(&f, &os);
        if (call == 0)
            f.disk->os.open = refuse_log;
        else if (call == 1)
            f.disk->os.file_size = log_has_no_size;
        else
            f.disk->os.read = read_headers_only;
        CHECK_EQ(try_open(&f), TKV_IO);
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.os_errno, EIO);
        end_intercepted(&f);
    }
}

static int note_advice(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    if (fd == log_fd && advice == TKV_OS_DROP_CACHE)
        log_is_dropped = true;
    return real_os->advise(os, fd, advice);
}

static int measure_after_drop(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    CHECK(fd != log_fd || log_is_dropped);
    return real_os->file_size(os, fd, ret_size);
}

TEST(of_a_log_counts_what_the_disk_has_and_not_the_cache)
{
    struct tkv_os os;
    struct fixture f;

    begin_intercepted(&f, &os);
    log_is_dropped = false;
    f.disk->os.advise = note_advice;
    f.disk->os.file_size = measure_after_drop;
    CHECK_OK(try_open(&f));
    CHECK(log_is_dropped);
    CHECK_OK(tkv_close(f.store, &err));
    end_intercepted(&f);
}

/* A file that it leaves out may have been superseded by what only the log had. */
TEST(a_log_that_ends_before_what_the_manifest_knew_as_durable_is_damaged)
{
    struct tkv_manifest m;
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    read_manifest(&f, &m);
    CHECK_EQ(m.checkpoint.salt, h.checkpoint.salt);
    m.durable_mark = m.checkpoint.position + 64 * 1024;
    write_manifest(&f, &m);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    end(&f);
}

/* The newest header is lost where it should be, and has hit the one before it. Of the ring as
 * many blocks are there, 0: all. */
static void lose_newest_header(uint64_t blocks)
{
    struct tkv_wal_header h;
    struct fixture f;
    uint8_t block[TKV_BLOCK_SIZE];

    begin_killed(&f);
    CHECK_OK(try_open(&f));
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    read_header(&f, &h);
    if (blocks > 0)
        h.ring_end = TKV_WAL_RING_START + blocks * TKV_BLOCK_SIZE;
    tkv_wal_header_encode(&h, block);
    CHECK_OK(try_open(&f));
    put_bytes(&f, "c", 3, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    CHECK(simdisk_file_write(f.disk, "wal.log", block, sizeof block,
                             h.checkpoint.generation % 2 * TKV_BLOCK_SIZE) > 0);
    CHECK(simdisk_file_write(f.disk, "wal.log", "?", 1,
                             1536 + (h.checkpoint.generation + 1) % 2 * TKV_BLOCK_SIZE) >
          0);
    if (blocks > 0)
        CHECK(simdisk_file_truncate(f.disk, "wal.log", h.ring_end) >= 0);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, TKV_WAL_RING_START);
    end(&f);
}

TEST(a_log_whose_newest_opening_no_header_knows_is_damaged)
{
    lose_newest_header(0);
    lose_newest_header(1);
}
