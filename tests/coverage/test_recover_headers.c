/* SPDX-License-Identifier: MIT */
/*
 * What an opening believes of log header and manifest, each beside the other: what is older,
 * missing or impossible is refused by name, or makes no difference.
 *
 * Method: a small store's log header or manifest is changed from outside, its checksums made
 * right again.
 */
#include "killed_store.h"

TEST_MAIN

/* ---- Refused by themselves -------------------------------------------------------- */

TEST(a_header_with_a_data_file_that_the_manifest_does_not_list_is_refused)
{
    for (unsigned lists_none = 0; lists_none < 2; lists_none++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;

        begin_killed(&f);
        name_unlisted_file(&f, &h);
        read_manifest(&f, &m);
        if (lists_none) {
            free(m.files);
            m.files = NULL;
            m.file_count = 0;
        }
        write_manifest(&f, &m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK(strstr(err.message, "data file 77") != NULL);
        CHECK_EQ(err.seq, 0);
        CHECK_EQ(err.offset, 0);
        end(&f);
    }
}

/* The least that no store ever counts to. */
TEST(a_counter_at_its_end_is_refused_by_name)
{
    static const struct {
        const char *file, *name;
    } counters[] = {
        {"MANIFEST", "epoch"      },
        {"MANIFEST", "next number"},
        {"MANIFEST", "generation" },
        {"wal.log",  "generation" },
        {"wal.log",  "position"   },
        {"wal.log",  "seq next"   },
    };

    for (unsigned i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;
        char text[64];

        begin_killed(&f);
        read_header(&f, &h);
        read_manifest(&f, &m);
        *(uint64_t *[]){&m.epoch,
                        &m.next_number,
                        &m.checkpoint.generation,
                        &h.checkpoint.generation,
                        &h.checkpoint.position,
                        &h.checkpoint.seq_next}[i] = UINT64_C(1) << 62;
        if (m.checkpoint.generation > h.checkpoint.generation)
            h.checkpoint.generation = m.checkpoint.generation;
        write_header(&f, &h);
        write_manifest(&f, &m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_STR(err.file, counters[i].file);
        CHECK_EQ(err.offset, 0);
        CHECK_EQ(err.seq, 0);
        snprintf(text, sizeof text, "its %s is 4611686018427387904", counters[i].name);
        CHECK(strstr(err.message, text) != NULL);
        end(&f);
    }
}

/* With data files, and with a log that was written to. */
TEST(a_store_without_its_manifest_is_refused_and_not_made_anew)
{
    for (unsigned has_data = 0; has_data < 2; has_data++) {
        struct fixture f;
        uint64_t hash;

        begin_killed(&f);
        CHECK(simdisk_file_unlink(f.disk, "MANIFEST") >= 0);
        if (!has_data)
            CHECK(simdisk_file_unlink(f.disk, DATA) >= 0);
        hash = simdisk_hash(f.disk);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_STR(err.file, "MANIFEST");
        CHECK(strstr(err.message, "it is missing") != NULL);
        f.options.create = false;
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_EQ(simdisk_hash(f.disk), hash);
        end(&f);
    }
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

/* ---- Manifest and header of different times --------------------------------------- */

TEST(a_manifest_older_than_the_one_that_the_log_knows_is_refused)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;
    struct fixture f;
    char why[64];

    begin_killed(&f);
    read_header(&f, &h);
    read_manifest(&f, &m);
    CHECK_EQ(h.manifest_epoch, m.epoch);
    snprintf(why, sizeof why, "it is number %u, but wal.log knows number %u",
             (unsigned)m.epoch, (unsigned)m.epoch + 1);
    h.manifest_epoch++;
    write_header(&f, &h);
    tkv_manifest_release(&m);
    expect_refused(&f, "MANIFEST", why);
    end(&f);
}

/* The manifest knows a header that is `newer` generations newer than the newest one. */
static void forget_headers(struct fixture *f, uint64_t newer, bool one_is_unreadable)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;

    begin_killed(f);
    read_header(f, &h);
    read_manifest(f, &m);
    m.checkpoint.generation = h.checkpoint.generation + newer;
    write_manifest(f, &m);
    if (one_is_unreadable)
        CHECK(simdisk_file_write(f->disk, "wal.log", "?", 1,
                                 1536 + (h.checkpoint.generation + 1) % 2 *
                                            TKV_BLOCK_SIZE) > 0);
}

TEST(a_header_older_than_the_one_that_the_manifest_knows_is_refused)
{
    struct tkv_wal_header h;
    struct fixture f;
    char why[80];

    for (unsigned unreadable = 0; unreadable < 2; unreadable++) {
        forget_headers(&f, 1 + unreadable, unreadable);
        read_header(&f, &h);
        snprintf(why, sizeof why, "its header is number %u, but MANIFEST knows number %u",
                 (unsigned)h.checkpoint.generation,
                 (unsigned)h.checkpoint.generation + 1 + unreadable);
        expect_refused(&f, "wal.log", why);
        end(&f);
    }
}

/* It may be the one that the manifest knows. */
TEST(an_unreadable_header_may_have_been_the_next_one)
{
    for (uint64_t newer = 0; newer < 2; newer++) {
        struct fixture f;

        forget_headers(&f, newer, true);
        CHECK_OK(try_open(&f));
        expect_both(&f);
        end(&f);
    }
}

/* What it says of a file that is not listed any more does not matter either. */
TEST(a_header_older_than_the_manifest_is_no_news_about_its_files)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;
    struct fixture f;

    begin_with_news(&f);
    name_unlisted_file(&f, &h);
    read_manifest(&f, &m);
    m.epoch++;
    write_manifest(&f, &m);
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.report.groups_replayed, 2); /* from the manifest's checkpoint on */
    check_byte(&f, "c", 3);
    expect_both(&f);
    end(&f);
}

TEST(every_file_of_a_header_must_be_listed_and_not_only_the_first)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_with_news(&f);
    read_header(&f, &h);
    CHECK_EQ(h.file_count, 1);
    h.files[h.file_count++] = (struct tkv_wal_header_file){77, 4096, false, 0};
    write_header(&f, &h);
    expect_refused(&f, "wal.log", "its header has data file 77, MANIFEST does not");
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
        CHECK_EQ(err.seq, 0);
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.offset, 0);
        end(&f);
    }
}

/* ---- Headers that are not believed ------------------------------------------------ */

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
