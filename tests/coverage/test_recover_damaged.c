/* SPDX-License-Identifier: MIT */
/* Recovery where damage may hide writes: what is left is read, and it is said what is not. */
#include "killed_store.h"

#include <errno.h>

TEST_MAIN

static void open_damaged(struct fixture *f)
{
    CHECK_EQ(try_open(f), TKV_CORRUPT);
    f->options.read_only = true;
    f->options.damage = TKV_DAMAGE_NEWEST;
    CHECK_OK(try_open(f));
    CHECK(f->report.gaps > 0);
}

TEST(without_a_log_the_manifests_checkpoint_is_what_is_left)
{
    struct tkv_manifest m;
    struct tkv_stats stats;
    struct fixture f;

    begin_killed(&f);
    read_manifest(&f, &m);
    CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
    open_damaged(&f);
    check_byte(&f, "a", 1);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.seq_last, m.checkpoint.seq_next - 1);
    CHECK_EQ(f.report.seq_last, m.checkpoint.seq_next - 1);
    tkv_manifest_release(&m);
    end(&f);
}

TEST(without_a_log_no_answer_is_certain_and_the_error_names_its_first_byte)
{
    struct fixture f;
    uint8_t byte;

    begin_killed(&f);
    CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
    f.options.read_only = true;
    f.options.damage = TKV_DAMAGE_CERTAIN;
    CHECK_OK(try_open(&f));
    CHECK_EQ(get(&f, "a", &byte), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, 0);
    end(&f);
}

TEST(a_log_that_breaks_gives_what_lies_before_the_break)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    put_bytes(&f, "b", 2, 100);
    put_bytes(&f, "c", 3, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    read_header(&f, &h);
    CHECK(simdisk_file_write(f.disk, "wal.log", "????", 4,
                             h.checkpoint.file_offset + TKV_BLOCK_SIZE + 60) > 0);
    open_damaged(&f);
    check_byte(&f, "a", 1);
    end(&f);
}

TEST(a_data_file_that_breaks_gives_what_lies_before_the_break)
{
    struct fixture f;

    begin_killed(&f);
    CHECK(simdisk_file_write(f.disk, "0000000001.data", "????", 4, 80) > 0);
    (void)simdisk_file_unlink(f.disk, "0000000001.hint");
    open_damaged(&f);
    check_byte(&f, "b", 2);
    end(&f);
}

TEST(a_damaged_store_is_refused_though_nobody_asks_why)
{
    struct fixture f;

    begin_killed(&f);
    CHECK(simdisk_file_write(f.disk, "0000000001.data", "????", 4, 80) > 0);
    (void)simdisk_file_unlink(f.disk, "0000000001.hint");
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, NULL), TKV_CORRUPT);
    end(&f);
}

TEST(with_an_unreadable_reference_no_large_value_is_thrown_away)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "large", 1, 32000);
    put_bytes(&f, "gone", 2, 32000);
    del(&f, "gone");
    open_again(&f); /* its hint knows the keys */
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    /* The value of the first record of the first file: the reference. */
    CHECK(simdisk_file_write(f.disk, "0000000001.data", "????", 4, 64 + 24 + 5) > 0);
    CHECK_OK(try_open(&f));
    CHECK(f.store->keeps_large);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") > 0);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(simdisk_file_size(f.disk, "0000000002.data") > 0);
    end(&f);
}

/* Nothing but references says that files of large values belong to the store. */
static void forget_large_files(struct fixture *f)
{
    struct tkv_manifest m;
    size_t kept = 0;

    read_manifest(f, &m);
    for (size_t i = 0; i < m.file_count; i++) {
        if (m.files[i].file_class != TKV_FILE_LARGE)
            m.files[kept++] = m.files[i];
    }
    m.file_count = kept;
    write_manifest(f, &m);
}

TEST(with_an_unreadable_reference_no_large_value_is_thrown_away_though_no_list_has_it)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "large", 1, 32000);
    open_again(&f); /* its hint knows the key */
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    forget_large_files(&f);
    CHECK(simdisk_file_write(f.disk, "0000000001.data", "????", 4, 64 + 24 + 5) > 0);
    CHECK_OK(try_open(&f));
    CHECK(f.store->keeps_large);
    CHECK(tkv_files_find(f.store, 2) == NULL);
    CHECK(simdisk_file_size(f.disk, "0000000002.data") > 0);
    end(&f);
}

TEST(a_header_of_a_log_that_is_too_short_is_not_believed_when_it_contradicts_the_manifest)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    name_unlisted_file(&f, &h);
    CHECK(simdisk_file_truncate(f.disk, "wal.log", h.ring_end - TKV_BLOCK_SIZE) >= 0);
    open_damaged(&f);
    check_byte(&f, "a", 1); /* as of the manifest's checkpoint */
    end(&f);
}

/* And the log is too short. */
static void begin_with_short_log(struct fixture *f, struct tkv_wal_header *ret_header)
{
    begin_with_news(f);
    read_header(f, ret_header);
    CHECK(simdisk_file_truncate(f->disk, "wal.log",
                                ret_header->ring_end - TKV_BLOCK_SIZE) >= 0);
}

TEST(a_header_of_a_log_that_is_too_short_is_news_about_the_data_files)
{
    struct tkv_wal_header h;
    struct fixture f;
    uint8_t byte;

    begin_with_short_log(&f, &h);
    open_damaged(&f);
    CHECK_EQ(f.report.gaps, 1);
    CHECK_EQ(f.report.gap_bytes, h.ring_end - TKV_BLOCK_SIZE);
    CHECK_EQ(f.report.seq_last, h.checkpoint.seq_next - 1);
    check_byte(&f, "a", 1);
    check_byte(&f, "b", 2);
    CHECK_EQ(get(&f, "c", &byte), TKV_NOT_FOUND);
    end(&f);
}

/* Not even its counters are looked at. */
TEST(a_header_of_another_store_is_none_of_a_log_that_is_too_short)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;
    struct fixture f;
    uint8_t byte;

    begin_with_short_log(&f, &h);
    read_manifest(&f, &m);
    for (uint64_t i = 0; i < 2; i++) {
        h.uuid[0]++;
        h.checkpoint.generation = (UINT64_C(1) << 62) + i;
        write_header(&f, &h);
    }
    open_damaged(&f);
    CHECK_EQ(f.report.gaps, 1);
    CHECK(m.checkpoint.seq_next < h.checkpoint.seq_next);
    CHECK_EQ(f.report.seq_last, m.checkpoint.seq_next - 1);
    check_byte(&f, "a", 1);
    CHECK_EQ(get(&f, "b", &byte), TKV_NOT_FOUND);
    tkv_manifest_release(&m);
    end(&f);
}

TEST(without_a_log_counters_at_their_end_are_refused_all_the_same)
{
    struct tkv_manifest m;
    struct fixture f;

    begin_killed(&f);
    CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
    read_manifest(&f, &m);
    m.next_number = UINT64_C(1) << 62;
    write_manifest(&f, &m);
    f.options.read_only = true;
    f.options.damage = TKV_DAMAGE_NEWEST;
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "MANIFEST");
    CHECK(strstr(err.message, "its next number is") != NULL);
    end(&f);
}

static struct tkv_os real_os;

/* Of all files the log alone is as large as that. */
static int64_t read_no_log(struct tkv_os *os, int fd, void *buffer, size_t size,
                           uint64_t offset)
{
    uint64_t all;

    if (size > TKV_BLOCK_SIZE && real_os.file_size(os, fd, &all) == 0 && all == size)
        return -EIO;
    return real_os.read(os, fd, buffer, size, offset);
}

TEST(a_log_that_cannot_be_read_is_one_gap)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    f.options.read_only = true;
    f.options.damage = TKV_DAMAGE_NEWEST;
    real_os = f.disk->os;
    f.disk->os.read = read_no_log;
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.report.gaps, 1);
    CHECK_EQ(f.report.gap_bytes, h.ring_end);
    CHECK_EQ(f.report.groups_replayed, 0);
    check_byte(&f, "a", 1);
    f.disk->os = real_os;
    end(&f);
}

TEST(several_gaps_are_counted_and_what_is_between_them_is_read)
{
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 16; i++) {
        char key[2] = {(char)('a' + i), 0};

        put_bytes(&f, key, (uint8_t)i, 12000);
    }
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    for (unsigned i = 1; i <= 3; i += 2) {
        char name[32];

        snprintf(name, sizeof name, "000000000%u.data", i);
        CHECK(simdisk_file_write(f.disk, name, "????", 4, 80) > 0);
        snprintf(name, sizeof name, "000000000%u.hint", i);
        (void)simdisk_file_unlink(f.disk, name);
    }
    open_damaged(&f);
    CHECK_EQ(f.report.gaps, 2);
    check_byte(&f, "h", 7); /* in the second file */
    end(&f);
}
