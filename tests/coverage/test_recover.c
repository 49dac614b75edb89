/* SPDX-License-Identifier: MIT */
/*
 * Recovery where a header, a manifest or an option says something rare: each is taken as what
 * it is, refused, or makes no difference.
 *
 * Method: a small store's log header or manifest is changed from outside, its checksums made
 * right again.
 */
#include "killed_store.h"

#include <errno.h>

TEST_MAIN

static int reserve_left = -1; /* keys that the index has memory for; -1: any number */

enum tkv_status __real_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_reserve(index, key, hash, expires, e);
}

enum tkv_status __real_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_add(index, key, hash, location, ret_added, e);
}

/* ---- What is refused ------------------------------------------------------------------- */

TEST(a_header_with_a_data_file_that_the_manifest_does_not_list_is_refused)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    h.file_count = 1;
    h.files[0] = (struct tkv_wal_header_file){77, 4096, false, 0};
    write_header(&f, &h);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK(strstr(err.message, "data file 77") != NULL);
    end(&f);
}

static int huge_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    (void)os;
    (void)fd;
    *ret_size = (UINT64_C(16) << 30) + 1;
    return 0;
}

static struct tkv_os *real_os;
static int log_fd = -1;
static unsigned refused_opens;

static int note_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    const int fd = real_os->open(os, dir, name, flags);

    if (strcmp(name, "wal.log") == 0)
        log_fd = fd;
    return fd;
}

static int log_is_huge(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    return fd == log_fd ? huge_file_size(os, fd, ret_size)
                        : real_os->file_size(os, fd, ret_size);
}

TEST(a_log_larger_than_any_is_refused_before_memory_is_asked_for)
{
    struct tkv_os os;
    struct fixture f;

    begin_killed(&f);
    os = f.disk->os;
    real_os = &os;
    f.disk->os.open = note_open;
    f.disk->os.file_size = log_is_huge;
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK(strstr(err.message, "more than any log") != NULL);
    f.disk->os = os;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

TEST(a_store_that_may_not_be_made_is_not_found_though_a_directory_is_there)
{
    struct fixture f;

    begin_closed(&f);
    f.options.read_only = true;
    CHECK_EQ(try_open(&f), TKV_NOT_FOUND);
    f.options.create = false;
    CHECK_EQ(try_open(&f), TKV_NOT_FOUND);
    end(&f);
}

TEST(without_memory_for_what_the_log_has_a_store_does_not_open_and_loses_nothing)
{
    struct fixture f;

    begin_killed(&f);
    reserve_left = 0;
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = 1; /* one key of a data file, none of the log */
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
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

/* The newest header is lost where it should be, and has hit the one before it. */
TEST(a_log_whose_newest_opening_no_header_knows_is_damaged)
{
    struct tkv_wal_header h;
    struct fixture f;
    uint8_t block[TKV_BLOCK_SIZE];

    begin_killed(&f);
    CHECK_OK(try_open(&f));
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    read_header(&f, &h);
    tkv_wal_header_encode(&h, block);
    CHECK_OK(try_open(&f));
    put_bytes(&f, "c", 3, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    CHECK(simdisk_file_write(f.disk, "wal.log", block, sizeof block,
                             h.checkpoint.generation % 2 * TKV_BLOCK_SIZE) > 0);
    CHECK(simdisk_file_write(f.disk, "wal.log", "?", 1,
                             1536 + (h.checkpoint.generation + 1) % 2 * TKV_BLOCK_SIZE) >
          0);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, TKV_WAL_RING_START);
    end(&f);
}

/* ---- What makes no difference ---------------------------------------------------------- */

TEST(a_log_that_is_nothing_but_headers_is_an_empty_log)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    read_header(&f, &h);
    h.checkpoint.file_offset = h.ring_end = TKV_WAL_RING_START;
    write_header(&f, &h);
    h.checkpoint.generation--;
    write_header(&f, &h);
    CHECK(simdisk_file_truncate(f.disk, "wal.log", TKV_WAL_RING_START) >= 0);
    CHECK_OK(try_open(&f));
    check_byte(&f, "a", 1);
    put_bytes(&f, "b", 2, 100);
    end(&f);
}

TEST(a_header_that_says_closed_over_a_log_with_groups_is_not_believed)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    CHECK(!h.clean);
    h.clean = true;
    write_header(&f, &h);
    CHECK_OK(try_open(&f));
    CHECK(!f.report.clean);
    CHECK_EQ(f.report.groups_replayed, 1);
    expect_both(&f);
    end(&f);
}

TEST(a_header_that_says_closed_over_a_torn_tail_is_not_believed)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    h.clean = true;
    h.durable_mark = h.checkpoint.position;
    write_header(&f, &h);
    /* Its first bytes are there, the rest is not. */
    CHECK(simdisk_file_write(f.disk, "wal.log", "????", 4, h.checkpoint.file_offset + 60) >
          0);
    CHECK_OK(try_open(&f));
    CHECK(!f.report.clean);
    CHECK_EQ(f.report.groups_replayed, 0);
    CHECK(f.report.bytes_cut > 0);
    check_byte(&f, "a", 1);
    end(&f);
}

TEST(of_several_files_that_were_growing_the_newest_grows_on)
{
    struct tkv_manifest m;
    struct tkv_wal_header h;
    struct fixture f;
    uint64_t newest;

    begin(&f);
    for (unsigned i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i), 0};

        put_bytes(&f, key, (uint8_t)i, 12000);
        CHECK_OK(tkv_checkpoint(f.store, &err));
    }
    newest = f.store->active->number;
    CHECK(newest > 1);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    read_header(&f, &h);
    for (uint32_t i = 0; i < h.file_count; i++)
        h.files[i].sealed = false;
    write_header(&f, &h);
    read_manifest(&f, &m);
    for (size_t i = 0; i < m.file_count; i++)
        m.files[i].sealed = false;
    write_manifest(&f, &m);
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.store->active->number, newest);
    for (unsigned i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i), 0};

        check_byte(&f, key, (uint8_t)i);
    }
    end(&f);
}

TEST(a_log_that_is_larger_than_the_option_stays_and_works)
{
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 256 * 1024;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    f.options.wal_size_max = 64 * 1024;
    open_again(&f);
    CHECK(f.store->log_bytes > 64 * 1024);
    put_bytes(&f, "b", 2, 100);
    open_again(&f);
    expect_both(&f);
    end(&f);
}

TEST(a_store_opens_the_same_with_an_index_sized_in_advance)
{
    struct fixture f;

    begin_killed(&f);
    f.options.expected_keys = 1000;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

/* No descriptor for the first file that is to grow. */
static int refuse_to_grow(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    if (strstr(name, ".data") != NULL && flags & TKV_OS_WRITE) {
        refused_opens++;
        return -EMFILE;
    }
    return real_os->open(os, dir, name, flags);
}

/* Both that were growing, the one of puts and the compactor's. */
TEST(a_file_that_cannot_be_opened_for_growing_ends_the_opening)
{
    struct fixture f;
    struct tkv_os os;

    begin(&f);
    for (unsigned i = 0; i < 20; i++)
        put_bytes(&f, i % 2 == 0 ? "a" : "b", (uint8_t)(1 + i % 2), 8000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put_bytes(&f, "b", 2, 8000); /* after the compactor's file */
    CHECK(f.store->outputs[TKV_OUTPUT_YOUNG] != NULL && f.store->active != NULL);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    os = f.disk->os;
    real_os = &os;
    refused_opens = 0;
    f.disk->os.open = refuse_to_grow;
    CHECK_EQ(try_open(&f), TKV_IO);
    CHECK_EQ(err.os_errno, EMFILE);
    CHECK_EQ(refused_opens, 1); /* the second is not tried */
    f.disk->os = os;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

TEST(a_header_whose_checkpoint_lies_before_the_manifests_is_refused)
{
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;

        begin_killed(&f);
        read_header(&f, &h);
        read_manifest(&f, &m);
        CHECK_EQ(h.manifest_epoch, m.epoch);
        if (i == 0)
            h.checkpoint.position = m.checkpoint.position - 8;
        else
            h.checkpoint.seq_next = m.checkpoint.seq_next - 1;
        write_header(&f, &h);
        tkv_manifest_release(&m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK(strstr(err.message, "lies before") != NULL);
        end(&f);
    }
}
