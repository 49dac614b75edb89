/* SPDX-License-Identifier: MIT */
/*
 * What the simulated disk lets survive: exactly what lib/os.h leaves open, no more and no less.
 * The crash tests of the engine are worth what this file is worth, so each model is checked
 * against states worked out by hand.
 */
#include "simdisk_fixture.h"

#include <errno.h>

TEST_MAIN

/* What is durable ---------------------------------------------------------------------- */

TEST(unsynced_bytes_are_gone_after_a_power_cut)
{
    struct fixture f = new_disk();
    const int fd = create(&f, "x");

    write_at(&f, fd, "one", 3, 0);
    sync_all(&f, fd);
    write_at(&f, fd, "TWO!", 4, 0);
    CHECK_STR(text_of(f.disk, "x"), "TWO!");
    CHECK_STR(after_power_cut(&f, "x"), "one");
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(after_power_cut(&f, "x"), "TWO!");
    simdisk_free(f.disk);
}

TEST(unsynced_bytes_survive_a_killed_process_and_are_still_not_durable)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);
    struct simdisk *after;

    write_at(&f, fd, "new", 3, 0);
    after = simdisk_clone(f.disk);
    CHECK_STR(text_of(after, "x"), "new");
    CHECK_EQ(simdisk_pending_count(after, SIMDISK_PAGE), 1);
    CHECK_STR(text_after(after, SIMDISK_NOTHING_PENDING, 0, 0, "x"), "aaa");
    simdisk_free(after);
    simdisk_free(f.disk);
}

TEST(a_file_is_lost_until_the_directory_is_synced)
{
    struct fixture f = new_disk();
    const int fd = create(&f, "x");

    write_at(&f, fd, "data", 4, 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(after_power_cut(&f, "x"), "(none)");
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(after_power_cut(&f, "x"), "data");
    simdisk_free(f.disk);
}

TEST(a_rename_is_lost_until_the_directory_is_synced)
{
    struct fixture f = new_disk();

    (void)durable_file(&f, "old", 1);
    (void)durable_file(&f, "new", 2);
    CHECK_EQ(f.os->rename(f.os, f.dir, "new", "old"), 0);
    CHECK_STR(text_of(f.disk, "old"), "aa");
    CHECK_STR(after_power_cut(&f, "old"), "a");
    CHECK_STR(after_power_cut(&f, "new"), "aa");
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(after_power_cut(&f, "old"), "aa");
    CHECK_STR(after_power_cut(&f, "new"), "(none)");
    simdisk_free(f.disk);
}

TEST(an_unlinked_file_is_back_until_the_directory_is_synced)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);

    CHECK_EQ(f.os->unlink(f.os, f.dir, "x"), 0);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    CHECK_STR(text_of(f.disk, "x"), "(none)");
    CHECK_STR(after_power_cut(&f, "x"), "aaa");
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(after_power_cut(&f, "x"), "(none)");
    CHECK_EQ(f.disk->used_bytes, 0);
    simdisk_free(f.disk);
}

TEST(a_nested_directory_is_lost_with_its_files_until_its_parent_is_synced)
{
    struct fixture f = new_disk();
    const int inner = f.os->open_dir_at(f.os, f.dir, "quarantine", true);
    const int fd = f.os->open(f.os, inner, "x", TKV_OS_WRITE | TKV_OS_CREATE);

    write_at(&f, fd, "cut", 3, 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->sync_dir(f.os, inner), 0);
    CHECK_STR(text_of(f.disk, "quarantine/x"), "cut");
    CHECK_STR(after_power_cut(&f, "quarantine/x"), "(none)");
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(after_power_cut(&f, "quarantine/x"), "cut");
    simdisk_free(f.disk);
}

TEST(direct_sync_writes_survive_and_bring_their_size_along)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 0);
    const int direct = f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);
    struct simdisk *after;

    write_at(&f, fd, "lost", 4, 8192);
    write_at(&f, direct, block_b, 4096, 4096);
    after = simdisk_survivor(f.disk, SIMDISK_NOTHING_PENDING, 0, 0);
    CHECK_EQ(simdisk_file_size(after, "x"), 8192);
    CHECK_EQ(simdisk_file_read(after, "x", text_buffer, 8192, 0), 8192);
    CHECK_EQ(text_buffer[0], 0);
    CHECK(memcmp(text_buffer + 4096, block_b, 4096) == 0);
    simdisk_free(after);
    simdisk_free(f.disk);
}

TEST(a_direct_sync_write_settles_the_cached_page_below_it)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 8192);
    const int direct = f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);

    write_at(&f, fd, "12", 2, 4095);
    write_at(&f, direct, block_b, 4096, 0);
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_PAGE), 1);
    (void)text_after(f.disk, SIMDISK_PREFIX, 1, SIMDISK_PAGE, "x");
    CHECK_EQ(text_buffer[4095], 'b');
    CHECK_EQ(text_buffer[4096], '2');
    (void)after_power_cut(&f, "x");
    CHECK_EQ(text_buffer[4095], 'b');
    CHECK_EQ(text_buffer[4096], 'a');
    simdisk_free(f.disk);
}

TEST(a_truncate_is_pending_and_what_it_cut_can_come_back)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 9);

    CHECK_EQ(f.os->truncate(f.os, fd, 2), 0);
    write_at(&f, fd, "X", 1, 3);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), 4);
    CHECK_STR(after_power_cut(&f, "x"), "aaaaaaaaa");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 1, SIMDISK_PAGE, "x"), "aa");
    (void)text_after(f.disk, SIMDISK_PREFIX, 2, SIMDISK_PAGE, "x");
    CHECK(memcmp(text_buffer, "aa\0X", 5) == 0);
    /* Only the write: nothing was cut in front of it. */
    CHECK_STR(text_after(f.disk, SIMDISK_MASK, 2, SIMDISK_PAGE, "x"), "aaaXaaaaa");
    simdisk_free(f.disk);
}

TEST(an_allocation_is_zeros_and_durable_with_a_sync_or_with_a_direct_write_behind_it)
{
    for (int direct = 0; direct < 2; direct++) {
        struct fixture f = new_disk();
        const int fd = durable_file(&f, "x", 2);
        const int direct_fd =
            f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);

        CHECK(direct_fd >= 0);
        CHECK_EQ(f.os->allocate(f.os, fd, 2 * SIMDISK_PAGE), 0);
        CHECK_EQ(f.os->allocate(f.os, fd, 1), 0); /* cuts nothing */
        write_at(&f, fd, "lost", 4, 100);
        CHECK_EQ(simdisk_file_size(f.disk, "x"), 2 * SIMDISK_PAGE);
        CHECK_STR(after_power_cut(&f, "x"), "aa");
        if (direct)
            write_at(&f, direct_fd, block_b, SIMDISK_PAGE, SIMDISK_PAGE);
        else
            sync_all(&f, fd);
        CHECK_STR(after_power_cut(&f, "x"), "aa");
        CHECK_EQ(text_buffer[100], direct ? '\0' : 'l');
        CHECK_EQ(text_buffer[SIMDISK_PAGE], direct ? 'b' : '\0');
        simdisk_free(f.disk);
    }
}

TEST(an_allocation_that_a_full_disk_refuses_has_taken_what_there_was)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 2);
    struct simdisk *after;

    f.disk->capacity = 3 * SIMDISK_PAGE;
    CHECK_EQ(f.os->allocate(f.os, fd, 4 * SIMDISK_PAGE), -ENOSPC);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), 3 * SIMDISK_PAGE);
    CHECK_STR(after_power_cut(&f, "x"), "aa");
    CHECK_EQ(f.os->allocate(f.os, fd, 3 * SIMDISK_PAGE), 0);
    f.disk->no_allocation = true;
    CHECK_EQ(f.os->allocate(f.os, fd, 3 * SIMDISK_PAGE), -EOPNOTSUPP);
    after = simdisk_clone(f.disk);
    CHECK(after->no_allocation);
    simdisk_free(after);
    simdisk_free(f.disk);
}

/* What was written and not synced is not saved by a direct write elsewhere in the file. */
TEST(a_direct_write_commits_a_pending_truncate_and_no_bytes_beside_its_own)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 9);
    const int direct_fd = f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);

    CHECK(direct_fd >= 0);
    write_at(&f, fd, "lost", 4, 0);
    CHECK_EQ(f.os->allocate(f.os, fd, 3 * SIMDISK_PAGE), 0);
    write_at(&f, fd, "gone", 4, 2 * SIMDISK_PAGE);
    CHECK_EQ(f.os->truncate(f.os, fd, 8), 0);
    write_at(&f, direct_fd, block_b, SIMDISK_PAGE, SIMDISK_PAGE);
    CHECK_STR(after_power_cut(&f, "x"), "aaaaaaaa");
    CHECK_EQ(text_buffer[SIMDISK_PAGE], 'b');
    for (uint64_t choice = 0; choice < 20; choice++) {
        struct simdisk *after =
            simdisk_survivor(f.disk, SIMDISK_SUBSET, choice, SIMDISK_PAGE);

        CHECK_EQ(simdisk_file_size(after, "x"), 2 * SIMDISK_PAGE);
        simdisk_free(after);
    }
    simdisk_free(f.disk);
}

/* Mappings ----------------------------------------------------------------------------- */

TEST(a_store_is_a_pending_write_that_reads_and_mappings_see_at_once)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 8);
    char buffer[8];
    void *map;

    CHECK_EQ(f.os->map(f.os, fd, 4096, true, &map), 0);
    f.os->store(f.os, fd, map, 2, "XY", 2);
    CHECK(memcmp(map, "aaXYaaaa", 8) == 0);
    CHECK_EQ(f.os->read(f.os, fd, buffer, 8, 0), 8);
    CHECK(memcmp(buffer, "aaXYaaaa", 8) == 0);
    CHECK_STR(after_power_cut(&f, "x"), "aaaaaaaa");
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(after_power_cut(&f, "x"), "aaXYaaaa");
    CHECK_EQ(f.os->unmap(f.os, map, 4096), 0);
    simdisk_free(f.disk);
}

TEST(a_mapping_stays_in_place_while_the_file_grows_and_after_close_and_unlink)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 4096);
    void *map, *larger;

    CHECK_EQ(f.os->map(f.os, fd, 4096, false, &map), 0);
    for (uint64_t i = 1; i < 1000; i++)
        write_at(&f, fd, block_b, 4096, i * 4096);
    CHECK_EQ(f.os->map(f.os, fd, 1000 * 4096, false, &larger), 0);
    CHECK_EQ(f.os->unmap(f.os, map, 4096), 0);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "x"), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK(memcmp(larger, block_a, 4096) == 0);
    CHECK(memcmp((uint8_t *)larger + 999 * 4096, block_b, 4096) == 0);
    CHECK_EQ(simdisk_open_count(f.disk), 2); /* the mapping and the directory */
    CHECK_EQ(f.os->unmap(f.os, larger, 1000 * 4096), 0);
    CHECK_EQ(f.os->close(f.os, f.dir), 0);
    CHECK_EQ(simdisk_open_count(f.disk), 0);
    CHECK_EQ(f.disk->used_bytes, 0);
    simdisk_free(f.disk);
}

/* Models ------------------------------------------------------------------------------- */

TEST(every_prefix_of_sectors_is_reachable_in_order)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 4096);

    write_at(&f, fd, block_b, 3000, 1000); /* sectors 1 to 7 */
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_SECTOR), 7);
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_PAGE), 1);
    for (uint64_t k = 0; k <= 7; k++) {
        const size_t end = k == 0 ? 1000 : k == 7 ? 4000 : 512 * (k + 1);
        (void)text_after(f.disk, SIMDISK_PREFIX, k, SIMDISK_SECTOR, "x");
        for (size_t i = 0; i < 4096; i++)
            CHECK_EQ(text_buffer[i], i >= 1000 && i < end ? 'b' : 'a');
    }
    simdisk_free(f.disk);
}

TEST(a_prefix_runs_through_files_and_directory_operations_in_order_of_issue)
{
    struct fixture f = new_disk();
    const int x = create(&f, "x");
    const int y = create(&f, "y");

    write_at(&f, x, "1", 1, 0);
    write_at(&f, y, "2", 1, 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "y", "z"), 0);
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_PAGE), 5);
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 0, SIMDISK_PAGE, "x"), "(none)");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 1, SIMDISK_PAGE, "x"), "");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 3, SIMDISK_PAGE, "x"), "1");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 3, SIMDISK_PAGE, "y"), "");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 4, SIMDISK_PAGE, "y"), "2");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 5, SIMDISK_PAGE, "y"), "(none)");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 5, SIMDISK_PAGE, "z"), "2");
    simdisk_free(f.disk);
}

TEST(a_write_s_size_comes_with_its_first_unit)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 100);
    struct simdisk *after;

    write_at(&f, fd, block_b, 8192, 0);
    after = simdisk_survivor(f.disk, SIMDISK_PREFIX, 1, SIMDISK_SECTOR);
    CHECK_EQ(simdisk_file_size(after, "x"), 8192);
    CHECK_STR(text_of(after, "x") + 512, "");
    simdisk_free(after);
    after = simdisk_survivor(f.disk, SIMDISK_MASK, 2, SIMDISK_PAGE);
    CHECK_EQ(simdisk_file_size(after, "x"), 100);
    simdisk_free(after);
    simdisk_free(f.disk);
}

TEST(random_subsets_reach_all_states_of_independent_pages_and_entries)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 8192);
    unsigned seen = 0;

    write_at(&f, x, "1", 1, 0);
    write_at(&f, x, "2", 1, 4096);
    (void)create(&f, "y");
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct simdisk *after = simdisk_survivor(f.disk, SIMDISK_SUBSET, seed, 0);
        const char *text = text_of(after, "x");
        seen |= 1u << ((text[0] == '1') + 2 * (text[4096] == '2') +
                       4 * (simdisk_file_size(after, "y") == 0));
        simdisk_free(after);
    }
    CHECK_EQ(seen, 255);
    simdisk_free(f.disk);
}

TEST(a_surviving_write_brings_earlier_ones_in_its_page_along)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 4096);
    unsigned seen = 0;

    write_at(&f, x, "1", 1, 0);
    write_at(&f, x, "2", 1, 1);
    write_at(&f, x, "3", 1, 600);
    for (uint64_t seed = 0; seed < 300; seed++) {
        const char *text = text_after(f.disk, SIMDISK_SUBSET, seed, 0, "x");
        CHECK(text[0] == '1' || (text[1] != '2' && text[600] != '3'));
        text = text_after(f.disk, SIMDISK_TORN, seed, 0, "x");
        CHECK(text[1] != '2' || text[0] == '1');
        seen |= 1u << ((text[1] == '2') + 2 * (text[600] == '3'));
    }
    CHECK_EQ(seen, 15); /* two sectors of one page are independent */
    simdisk_free(f.disk);
}

TEST(a_torn_sector_is_new_or_old_or_zero_or_garbage_and_its_neighbours_are_whole)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 4096);
    unsigned seen = 0;

    write_at(&f, x, block_b, 512, 512);
    for (uint64_t seed = 0; seed < 300; seed++) {
        const char *text = text_after(f.disk, SIMDISK_TORN, seed, 0, "x");
        CHECK(memcmp(text, block_a, 512) == 0);
        CHECK(memcmp(text + 1024, block_a, 4096 - 1024) == 0);
        text += 512;
        seen |= memcmp(text, block_b, 512) == 0   ? 1
                : memcmp(text, block_a, 512) == 0 ? 2
                : text[0] == 0                    ? 4
                                                  : 8;
    }
    CHECK_EQ(seen, 15);
    simdisk_free(f.disk);
}

TEST(trashing_ruins_whole_sectors_of_pending_writes_and_no_others)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 4096);

    write_at(&f, x, "1", 1, 513);
    for (uint64_t seed = 0; seed < 20; seed++) {
        const char *text = text_after(f.disk, SIMDISK_TRASHED, seed, 0, "x");
        CHECK(memcmp(text, block_a, 512) == 0);
        CHECK(memcmp(text + 512, block_a, 512) != 0);
        CHECK(memcmp(text + 512, block_a, 4) != 0);
        CHECK(memcmp(text + 1024, block_a, 4096 - 1024) == 0);
    }
    simdisk_free(f.disk);
}

TEST(size_only_grows_files_with_zeros_or_stale_pages_of_others)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 4096);
    unsigned seen = 0;

    (void)durable_file(&f, "y", 8192);
    write_at(&f, x, block_b, 8192, 0);
    (void)text_after(f.disk, SIMDISK_SIZE_ONLY, 0, 0, "x");
    CHECK(memcmp(text_buffer, block_a, 4096) == 0);
    CHECK(text_buffer[4096] == 0 &&
          memcmp(text_buffer + 4096, text_buffer + 4097, 4095) == 0);
    for (uint64_t seed = 1; seed < 100; seed++) {
        const char *text = text_after(f.disk, SIMDISK_SIZE_ONLY, seed, 0, "x");
        CHECK(memcmp(text, block_a, 4096) == 0);
        seen |= text[4096] == 0 ? 1 : text[4096] == 'a' ? 2 : 4;
    }
    CHECK(seen >= 3);
    simdisk_free(f.disk);
}

TEST(entries_are_lost_independently_of_data)
{
    struct fixture f = new_disk();
    const int x = durable_file(&f, "x", 1);
    unsigned seen = 0;

    write_at(&f, x, "1", 1, 0);
    (void)create(&f, "y");
    CHECK_EQ(f.os->rename(f.os, f.dir, "y", "z"), 0);
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct simdisk *after = simdisk_survivor(f.disk, SIMDISK_ENTRIES_LOST, seed, 0);
        seen |= 1u << ((text_of(after, "x")[0] == '1') +
                       2 * (simdisk_file_size(after, "y") == 0) +
                       4 * (simdisk_file_size(after, "z") == 0));
        simdisk_free(after);
    }
    CHECK_EQ(seen, 255); /* y and z both: the rename arrived before the create */
    simdisk_free(f.disk);
}

TEST(a_survivor_has_no_locks_no_open_files_and_nothing_pending)
{
    struct fixture f = new_disk(), g;
    const int fd = create(&f, "LOCK");

    CHECK_EQ(f.os->lock(f.os, f.dir, fd, false), 0);
    g = open_disk(simdisk_survivor(f.disk, SIMDISK_PREFIX, 1, SIMDISK_PAGE));
    CHECK_EQ(simdisk_pending_count(g.disk, SIMDISK_PAGE), 0);
    CHECK_EQ(simdisk_open_count(g.disk), 1);
    CHECK_EQ(g.os->lock(g.os, g.dir, create(&g, "LOCK"), false), 0);
    simdisk_free(g.disk);
    simdisk_free(f.disk);
}

/* Damage from outside ------------------------------------------------------------------ */

TEST(damage_from_outside_is_in_both_states_and_changes_the_hash)
{
    struct fixture f = new_disk();
    uint64_t before;
    struct simdisk *same;

    (void)durable_file(&f, "x", 5000);
    before = simdisk_hash(f.disk);
    same = simdisk_survivor(f.disk, SIMDISK_NOTHING_PENDING, 0, 0);
    CHECK_EQ(simdisk_hash(same), before);
    simdisk_free(same);
    CHECK_EQ(simdisk_file_write(f.disk, "x", "!", 1, 4999), 1);
    CHECK(simdisk_hash(f.disk) != before);
    CHECK_EQ(text_of(f.disk, "x")[4999], '!');
    CHECK_EQ(after_power_cut(&f, "x")[4999], '!');
    CHECK_EQ(simdisk_file_write(f.disk, "x", "a", 1, 4999), 1);
    CHECK_EQ(simdisk_hash(f.disk), before);
    CHECK_EQ(simdisk_file_truncate(f.disk, "x", 10), 10);
    CHECK_STR(after_power_cut(&f, "x"), "aaaaaaaaaa");
    CHECK_EQ(simdisk_file_write(f.disk, "planted", "p", 1, 0), 1);
    CHECK_STR(after_power_cut(&f, "planted"), "p");
    CHECK_EQ(simdisk_file_unlink(f.disk, "planted"), 0);
    CHECK_STR(after_power_cut(&f, "planted"), "(none)");
    simdisk_free(f.disk);
}
