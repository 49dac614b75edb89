/* SPDX-License-Identifier: MIT */
/*
 * The order verifier sees an engine that leaves out a call, or makes one too many; the engine
 * as it is does nothing that it sees.
 */
#include "order_fixture.h"

/* ---- Calls that are left out ------------------------------------------------------------- */

TEST(a_data_file_that_is_not_synced_is_seen_when_a_header_relies_on_it)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 100);
    checkpoint(f);
    CHECK_STR(f->message, "");
    f->lost_sync = ".data";
    put(f, "a", 100);
    checkpoint(f);
    end_broken(f, "is not synced that far");
}

TEST(a_data_file_that_is_not_synced_is_seen_when_a_manifest_lists_it)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->lost_sync = ".data";
    put(f, "a", 100);
    checkpoint(f);
    end_broken(f, "rename of MANIFEST.tmp, 0 bytes at 0: 0000000001.data is said");
}

TEST(a_name_that_is_not_durable_is_seen_when_a_manifest_lists_it)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->loses_directory_syncs = true;
    put(f, "a", 100);
    checkpoint(f);
    end_broken(f, "the name of 0000000001.data is not durable yet");
}

TEST(a_manifest_that_is_not_synced_is_seen_when_it_is_renamed)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->lost_sync = "MANIFEST.tmp";
    put(f, "a", 100);
    checkpoint(f);
    end_broken(f, "it is renamed to MANIFEST before it is synced");
}

TEST(a_log_that_is_not_settled_is_seen_when_an_opening_writes_its_header)
{
    struct order_fixture *f = new_fixture(TKV_DURABILITY_ALWAYS);

    open_store(f);
    open_again(f);
    f->lost_sync = TKV_WAL_NAME;
    open_store(f);
    end_broken(f, "the other header is not durable yet");
}

TEST(names_that_may_come_and_go_are_seen_when_an_opening_writes_its_header)
{
    struct order_fixture *f = new_fixture(TKV_DURABILITY_ALWAYS);

    open_store(f);
    open_again(f);
    f->loses_directory_syncs = true;
    open_store(f);
    end_broken(f, "the log's name is not durable yet");
}

TEST(a_header_that_is_not_written_is_seen_when_a_group_relies_on_it)
{
    struct order_fixture *f = new_fixture(TKV_DURABILITY_ALWAYS);

    open_store(f);
    open_again(f);
    f->loses_headers = true;
    open_store(f);
    put(f, "a", 10);
    end_broken(f, "a group is logged before header 0 with its salt is durable");
}

TEST(an_acknowledgement_before_the_group_is_durable_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 10);
    CHECK_STR(f->message, "");
    f->loses_groups = true;
    put(f, "b", 10);
    end_broken(f, "2 records are acknowledged, 1 are durable");
}

TEST(an_acknowledgement_of_a_group_that_lies_in_the_cache_is_seen)
{
    struct order_fixture *f = new_fixture(TKV_DURABILITY_ALWAYS);

    f->disk->no_direct_sync = true; /* then a write and a sync do */
    open_store(f);
    put(f, "a", 10);
    CHECK_STR(f->message, "");
    f->lost_sync = TKV_WAL_NAME;
    put(f, "b", 10);
    end_broken(f, "2 records are acknowledged, 1 are durable");
}

TEST(a_sync_that_does_nothing_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_NONE);
    uint64_t groups;

    put(f, "a", 10);
    groups = order_verifier_groups(f->verifier);
    CHECK_EQ(groups, 1);
    f->lost_sync = TKV_WAL_NAME;
    CHECK_EQ(tkv_sync(f->store, NULL), TKV_OK);
    CHECK_STR(f->message, "");
    order_verifier_synced(f->verifier, groups);
    end_broken(f, "of 1 groups 0 are durable");
}

TEST(a_large_value_that_is_not_synced_is_seen_when_a_record_refers_to_it)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->lost_sync = ".data";
    put(f, "a", 32 * 1024);
    end_broken(f, "refers to data file 2, which is not durable");
}

TEST(a_large_value_without_a_durable_name_is_seen_when_a_record_refers_to_it)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_NONE);

    f->loses_directory_syncs = true;
    put(f, "a", 32 * 1024);
    end_broken(f, "refers to data file 2, which is not durable");
}

/* ---- Calls that are one too many --------------------------------------------------------- */

TEST(unlinking_what_the_manifest_lists_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 10);
    checkpoint(f);
    (void)f->os->unlink(f->os, f->dir, "0000000001.data");
    end_broken(f, "the newest durable manifest lists it");
}

TEST(unlinking_the_manifest_or_the_log_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    (void)f->os->unlink(f->os, f->dir, "wal.log");
    expect_broken(f, "wal.log");
    (void)f->os->unlink(f->os, f->dir, "MANIFEST");
    end_broken(f, "unlink of MANIFEST, 0 bytes at 0: a store is nothing without it");
}

TEST(cutting_what_is_durable_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 10);
    checkpoint(f);
    (void)f->os->truncate(f->os, f->data_fd, 4095);
    expect_broken(f, "what is durable in it is cut away");
    (void)f->os->truncate(f->os, f->log_fd, 8192);
    expect_broken(f, "truncate of wal.log");
    (void)f->os->open(f->os, f->dir, "0000000001.data", TKV_OS_WRITE | TKV_OS_TRUNCATE);
    expect_broken(f, "open of 0000000001.data");
    (void)f->os->open(f->os, f->dir, "MANIFEST", TKV_OS_WRITE | TKV_OS_TRUNCATE);
    end_broken(f, "open of MANIFEST, 0 bytes at 0: what is durable in it is cut away");
}

TEST(writing_to_a_durable_block_of_a_data_file_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 10);
    checkpoint(f);
    (void)f->os->write(f->os, f->data_fd, "x", 1, 4095);
    end_broken(f, "the block is durable up to 4096 by a checkpoint");
}

TEST(syncing_again_after_a_failed_sync_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->disk->fail_kinds = SIMDISK_SYNC | SIMDISK_SYNC_DIR;
    f->disk->fail_count = 0;
    f->disk->fail_at = 1;
    CHECK(f->os->sync(f->os, f->log_fd) < 0);
    CHECK_STR(f->message, "");
    (void)f->os->sync(f->os, f->log_fd);
    expect_broken(f, "synced again after a write or sync of it failed");
    put(f, "a", 10);
    expect_broken(f, "the log is written after");
    checkpoint(f);
    expect_broken(f, "a header is written after");
    f->disk->fail_count = 0;
    CHECK(f->os->sync_dir(f->os, f->dir) < 0);
    (void)f->os->sync_dir(f->os, f->dir);
    end_broken(f, "the directory is synced again after a failed sync");
}

TEST(syncing_what_was_closed_before_it_was_synced_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);
    int fd = f->os->open(f->os, f->dir, "0000000009.data", TKV_OS_WRITE | TKV_OS_CREATE);

    CHECK_EQ(f->os->write(f->os, fd, "x", 1, 0), 1);
    CHECK_EQ(f->os->sync(f->os, fd), 0);
    CHECK_EQ(f->os->close(f->os, fd), 0); /* synced: another may go on */
    fd = f->os->open(f->os, f->dir, "0000000009.data", TKV_OS_WRITE);
    CHECK_EQ(f->os->write(f->os, fd, "x", 1, 1), 1);
    CHECK_EQ(f->os->sync(f->os, fd), 0);
    CHECK_EQ(f->os->write(f->os, fd, "x", 1, 2), 1);
    CHECK_EQ(f->os->close(f->os, fd), 0);
    fd = f->os->open(f->os, f->dir, "0000000009.data", TKV_OS_WRITE);
    CHECK_STR(f->message, "");
    CHECK_EQ(f->os->sync(f->os, fd), 0);
    expect_broken(f, "it was closed with unsynced bytes");
    CHECK_EQ(f->os->close(f->os, fd), 0);
    end_broken(f, "");
}

TEST(writing_after_a_durable_write_failed_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    put(f, "a", 10);
    f->disk->fail_kinds = SIMDISK_WRITE;
    f->disk->fail_count = 0;
    f->disk->fail_at = 1;
    put(f, "b", 10);
    CHECK_STR(f->message, "");
    f->disk->fail_at = 0;
    (void)f->os->write(f->os, f->log_fd, f->group, f->group_size, f->group_offset);
    end_broken(f, "the log is written after a write or sync of it failed");
}

TEST(a_direct_write_that_is_not_aligned_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    (void)f->os->write(f->os, f->log_direct_fd, f->group + 1, 100, 8192);
    end_broken(f, "a write that bypasses the cache is not aligned");
}

TEST(changing_anything_in_a_read_only_store_is_seen)
{
    struct order_fixture *f = open_fixture(TKV_DURABILITY_ALWAYS);

    f->verifier->read_only = true;
    (void)f->os->unlink(f->os, f->dir, "LOCK");
    end_broken(f, "the store is open for reading only");
}

/* ---- The engine as it is ----------------------------------------------------------------- */

/* Puts, batches, large values, deletes, compaction, checkpoints, kills and power cuts. */
static void live(struct order_fixture *f, unsigned round)
{
    struct tkv_error err;
    char key[16];

    for (unsigned i = 0; i < 120; i++) {
        snprintf(key, sizeof key, "k%u", (i * 7 + round) % 40);
        put(f, key, i % 40 == 39 ? 32 * 1024 : 50 + i * 13 % 3000);
        if (i % 30 == 17)
            CHECK_OK(tkv_checkpoint(f->store, &err));
        if (i % 50 == 33)
            CHECK_OK(tkv_compact(f->store, NULL, &err));
        if (i % 25 == 11)
            CHECK_OK(tkv_sync(f->store, &err));
    }
}

static void next_life(struct order_fixture *f, unsigned round)
{
    struct simdisk *after = simdisk_survivor(
        f->disk, round % 2 == 0 ? SIMDISK_KILLED : SIMDISK_SUBSET, round, SIMDISK_PAGE);

    CHECK_EQ(tkv_close(f->store, NULL), TKV_OK);
    order_verifier_free(f->verifier);
    simdisk_free(f->disk);
    f->disk = after;
    verify(f);
    open_store(f);
}

TEST(the_engine_breaks_no_rule_over_many_lives_in_any_mode)
{
    for (unsigned mode = 0; mode < 3; mode++) {
        struct order_fixture *f = new_fixture((enum tkv_durability)mode);

        f->options.data_file_size_min = 1024 * 1024;
        open_store(f);
        for (unsigned round = 0; round < 12; round++) {
            live(f, round);
            CHECK(f->verifier->checks > 200);
            next_life(f, round);
        }
        CHECK_STR(f->message, "");
        end_broken(f, "");
    }
}

TEST(every_store_that_a_test_opens_is_watched)
{
    struct simdisk *disk = simdisk_new(1);
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    const uint64_t before = order_checks();
    struct tkv_store *store;
    struct tkv_error err;

    (void)order_watch(true);
    CHECK_OK(tkv_open_on(&disk->os, "", &options, &store, NULL, &err));
    CHECK(store->os != &disk->os);
    CHECK_OK(tkv_put(store, tkv_text("a"), tkv_text("b"), &err));
    CHECK_OK(tkv_close(store, &err));
    CHECK(order_checks() > before + 10);
    simdisk_free(disk);
}

TEST_MAIN
