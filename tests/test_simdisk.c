/* SPDX-License-Identifier: MIT */
/*
 * The simulated disk takes exactly the liberties that lib/os.h leaves, no more and no fewer.
 * The crash tests of the engine are worth what this file is worth, so each model is checked
 * against states worked out by hand, and the whole against a plain array of bytes.
 */
#include "simdisk.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>

TEST_MAIN

static alignas(4096) uint8_t block_a[2 * 4096], block_b[2 * 4096];

__attribute__((constructor)) static void fill_blocks(void)
{
    memset(block_a, 'a', sizeof block_a);
    memset(block_b, 'b', sizeof block_b);
}

struct fixture {
    struct simdisk *disk;
    struct tkv_os *os;
    int dir;
};

static struct fixture open_disk(struct simdisk *disk)
{
    struct fixture f = {disk, &disk->os, -1};

    f.dir = f.os->open_dir(f.os, "store", true);
    CHECK(f.dir >= 3);
    return f;
}

static struct fixture new_disk(void)
{
    return open_disk(simdisk_new(1));
}

static int create(struct fixture *f, const char *name)
{
    const int fd = f->os->open(f->os, f->dir, name, TKV_OS_WRITE | TKV_OS_CREATE);

    CHECK(fd >= 3);
    return fd;
}

static void write_at(struct fixture *f, int fd, const void *data, size_t size,
                     uint64_t offset)
{
    CHECK_EQ(f->os->write(f->os, fd, data, size, offset), size);
}

static void sync_all(struct fixture *f, int fd)
{
    CHECK_EQ(f->os->sync(f->os, fd), 0);
    CHECK_EQ(f->os->sync_dir(f->os, f->dir), 0);
}

/* A durable file of `size` bytes of 'a', open. */
static int durable_file(struct fixture *f, const char *name, size_t size)
{
    const int fd = create(f, name);

    write_at(f, fd, block_a, size, 0);
    sync_all(f, fd);
    return fd;
}

static char text_buffer[64 << 10];

/* A file's content as text; "(none)" when there is no such file. */
static const char *text_of(const struct simdisk *disk, const char *name)
{
    const int64_t n = simdisk_file_read(disk, name, text_buffer, sizeof text_buffer - 1, 0);

    if (n < 0)
        return "(none)";
    text_buffer[n] = 0;
    return text_buffer;
}

static const char *text_after(struct simdisk *disk, enum simdisk_model model,
                              uint64_t choice, size_t unit, const char *name)
{
    struct simdisk *after = simdisk_survivor(disk, model, choice, unit);

    (void)text_of(after, name);
    if (simdisk_file_size(after, name) < 0)
        strcpy(text_buffer, "(none)");
    simdisk_free(after);
    return text_buffer;
}

static const char *after_power_cut(struct fixture *f, const char *name)
{
    return text_after(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE, name);
}

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

/* Crashes and faults ------------------------------------------------------------------- */

TEST(the_world_stops_at_the_chosen_call_and_a_write_is_cut_at_every_byte)
{
    for (size_t cut = 0; cut <= 5; cut++) {
        struct fixture f = new_disk();
        const int fd = durable_file(&f, "x", 3);
        f.disk->crash_kinds = SIMDISK_WRITE;
        f.disk->crash_count = 0;
        f.disk->crash_at = 2;
        f.disk->crash_cut = cut;
        write_at(&f, fd, "123", 3, 0);
        CHECK_EQ(f.os->write(f.os, fd, "45678", 5, 3), -EIO);
        CHECK_EQ(f.os->write(f.os, fd, "9", 1, 0), -EIO);
        CHECK_EQ(f.os->unlink(f.os, f.dir, "x"), -EIO);
        CHECK_EQ(f.os->sync(f.os, fd), -EIO);
        CHECK(f.disk->crashed);
        CHECK_EQ(f.disk->crashed_size, 5);
        (void)text_after(f.disk, SIMDISK_KILLED, 0, 0, "x");
        CHECK_EQ(strlen(text_buffer), 3 + cut);
        CHECK(memcmp(text_buffer, "12345678", 3 + cut) == 0);
        /* The medium may have received all of the cut write, whatever the process saw. */
        CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 2, SIMDISK_PAGE, "x"), "12345678");
        CHECK_STR(after_power_cut(&f, "x"), "aaa");
        simdisk_free(f.disk);
    }
}

TEST(a_direct_sync_write_in_flight_is_torn_by_sectors)
{
    struct fixture f = new_disk();
    int direct;

    (void)durable_file(&f, "x", 8192);
    direct = f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC);
    f.disk->crash_kinds = SIMDISK_WRITE;
    f.disk->crash_count = 0;
    f.disk->crash_at = 1;
    CHECK_EQ(f.os->write(f.os, direct, block_b, 8192, 0), -EIO);
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_SECTOR), 16);
    for (uint64_t k = 0; k <= 16; k++) {
        const char *text = text_after(f.disk, SIMDISK_PREFIX, k, SIMDISK_SECTOR, "x");
        CHECK(memcmp(text, block_b, k * 512) == 0);
        CHECK(memcmp(text + k * 512, block_a, 8192 - k * 512) == 0);
    }
    CHECK(memcmp(text_after(f.disk, SIMDISK_KILLED, 0, 0, "x"), block_a, 8192) == 0);
    simdisk_free(f.disk);
}

TEST(a_store_is_cut_too_and_close_and_unmap_still_release)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 4);
    void *map;

    CHECK_EQ(f.os->map(f.os, fd, 4, true, &map), 0);
    f.disk->crash_at = f.disk->crash_count + 1;
    f.disk->crash_cut = 2;
    f.os->store(f.os, fd, map, 0, "1234", 4);
    CHECK_EQ(f.os->unmap(f.os, map, 4), -EIO);
    CHECK_EQ(f.os->close(f.os, fd), -EIO);
    CHECK_EQ(f.os->close(f.os, f.dir), -EIO);
    CHECK_EQ(simdisk_open_count(f.disk), 0);
    CHECK_STR(text_after(f.disk, SIMDISK_KILLED, 0, 0, "x"), "12aa");
    simdisk_free(f.disk);
}

TEST(a_chosen_call_fails_once_or_for_ever_and_changes_nothing)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);

    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 2;
    f.disk->fail_errno = ENOSPC;
    write_at(&f, fd, "1", 1, 0);
    CHECK_EQ(f.os->write(f.os, fd, "2", 1, 1), -ENOSPC);
    write_at(&f, fd, "3", 1, 2);
    CHECK_STR(text_of(f.disk, "x"), "1a3");
    f.disk->fail_sticky = true;
    CHECK_EQ(f.os->write(f.os, fd, "2", 1, 1), -ENOSPC);
    CHECK_EQ(f.os->write(f.os, fd, "2", 1, 1), -ENOSPC);
    CHECK_EQ(f.disk->faults, 3);
    simdisk_free(f.disk);
}

TEST(after_a_failed_sync_no_later_sync_makes_the_bytes_durable)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);
    const int lock = create(&f, "LOCK");

    CHECK_EQ(f.os->lock(f.os, f.dir, lock, false), 0);
    write_at(&f, fd, "1", 1, 0);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_EQ(f.os->close(f.os, lock), 0); /* the store is closed and opened again */
    write_at(&f, fd, "2", 1, 1);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(text_of(f.disk, "x"), "12a");
    CHECK_STR(after_power_cut(&f, "x"), "a2a");
    write_at(&f, fd, "1", 1, 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(after_power_cut(&f, "x"), "12a");
    simdisk_free(f.disk);
}

TEST(what_a_failed_sync_lost_does_not_come_back_over_what_was_synced_later)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);
    const int lock = create(&f, "LOCK");
    uint64_t all;

    CHECK_EQ(f.os->lock(f.os, f.dir, lock, false), 0);
    write_at(&f, fd, "111", 3, 0);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_at = f.disk->fail_count + 1;
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_EQ(f.os->close(f.os, lock), 0);
    write_at(&f, fd, "2", 1, 1);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(after_power_cut(&f, "x"), "a2a");
    all = simdisk_pending_count(f.disk, SIMDISK_PAGE);
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, all, SIMDISK_PAGE, "x"), "121");
    CHECK_EQ(f.os->truncate(f.os, fd, 2), 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, all, SIMDISK_PAGE, "x"), "12");
    simdisk_free(f.disk);
}

TEST(a_failed_sync_can_be_told_at_the_next_sync)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);

    write_at(&f, fd, "1", 1, 0);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_at = f.disk->fail_count + 1;
    f.disk->failed_sync_is_late = true;
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(text_of(f.disk, "x"), "1aa");
    CHECK_STR(after_power_cut(&f, "x"), "aaa");
    f.disk->drops_cache = true;
    CHECK_EQ(f.os->advise(f.os, fd, TKV_OS_DROP_CACHE), 0);
    CHECK_STR(text_of(f.disk, "x"), "aaa");
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    simdisk_free(f.disk);
}

TEST(a_stale_sector_is_read_until_somebody_writes_it)
{
    struct fixture f = new_disk();
    const int fd = durable_file(&f, "x", 3);
    char read[4] = "";

    simdisk_serve_stale(f.disk, "x", 1, "9", 1);
    CHECK_EQ(f.os->read(f.os, fd, read, 3, 0), 3);
    CHECK_STR(read, "a9a");
    write_at(&f, fd, "2", 1, 1);
    CHECK_EQ(f.os->read(f.os, fd, read, 3, 0), 3);
    CHECK_STR(read, "a2a");
    simdisk_free(f.disk);
}

TEST(a_failed_sync_can_keep_the_bytes_pending_or_take_them_back)
{
    struct fixture f = new_disk();
    int fd = durable_file(&f, "x", 3);

    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->failed_sync = SIMDISK_FAILED_SYNC_KEEPS;
    write_at(&f, fd, "1", 1, 0);
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    CHECK_STR(text_of(f.disk, "x"), "1aa");
    CHECK_STR(text_after(f.disk, SIMDISK_PREFIX, 1, SIMDISK_PAGE, "x"), "1aa");
    simdisk_free(f.disk);

    f = new_disk();
    f.disk->failed_sync = SIMDISK_FAILED_SYNC_REVERTS;
    fd = durable_file(&f, "x", 3);
    write_at(&f, fd, block_b, 8192 - 1, 1);
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_STR(text_of(f.disk, "x"), "aaa");
    CHECK_EQ(simdisk_pending_count(f.disk, SIMDISK_PAGE), 0);
    simdisk_free(f.disk);
}

TEST(a_full_disk_takes_what_fits_and_room_comes_back_by_unlinking)
{
    struct fixture f = new_disk();
    const int x = create(&f, "x"), y = create(&f, "y");
    struct tkv_os_fs_info info;

    f.disk->capacity = 3 * 4096;
    write_at(&f, x, block_a, 8192, 0);
    CHECK_EQ(f.os->write(f.os, y, block_a, 8192, 0), 4096);
    CHECK_EQ(f.os->write(f.os, y, block_a, 4096, 4096), -ENOSPC);
    CHECK_EQ(f.os->truncate(f.os, y, 8192), -ENOSPC);
    write_at(&f, y, block_b, 4096, 0); /* no growth */
    CHECK_EQ(f.os->unlink(f.os, f.dir, "x"), 0);
    CHECK_EQ(f.os->close(f.os, x), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_EQ(f.os->fs_info(f.os, f.dir, &info), 0);
    CHECK_EQ(info.free_bytes, 8192);
    simdisk_free(f.disk);
}

/* The rest of the contract ------------------------------------------------------------- */

TEST(open_obeys_its_flags)
{
    struct fixture f = new_disk();
    struct tkv_os *os = f.os;
    int fd = durable_file(&f, "x", 3);

    CHECK_EQ(os->open(os, f.dir, "none", TKV_OS_WRITE), -ENOENT);
    CHECK_EQ(os->open(os, f.dir, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_EXCLUSIVE),
             -EEXIST);
    CHECK(os->open_dir_at(os, f.dir, "quarantine", true) >= 3);
    CHECK_EQ(os->open(os, f.dir, "quarantine", TKV_OS_READ), -EINVAL);
    CHECK_EQ(os->unlink(os, f.dir, "quarantine"), -EISDIR);
    CHECK_EQ(os->close(os, fd), 0);
    fd = os->open(os, f.dir, "x", TKV_OS_READ);
    CHECK_EQ(os->write(os, fd, "1", 1, 0), -EBADF);
    CHECK(os->open(os, f.dir, "x", TKV_OS_WRITE | TKV_OS_TRUNCATE) >= 3);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), 0);
    CHECK_STR(after_power_cut(&f, "x"), "aaa");
    f.disk->no_direct_sync = true;
    CHECK_EQ(os->open(os, f.dir, "x", TKV_OS_WRITE | TKV_OS_DIRECT_SYNC), -EINVAL);
    simdisk_free(f.disk);
}

TEST(a_second_exclusive_lock_waits_for_nobody_until_the_first_is_closed)
{
    struct fixture f = new_disk();
    struct tkv_os *os = f.os;
    const int first = create(&f, "LOCK"), second = create(&f, "LOCK");
    const int again = os->open_dir(os, "another/path", false);

    CHECK_EQ(os->lock(os, f.dir, first, false), 0);
    CHECK_EQ(os->lock(os, again, second, false), -EWOULDBLOCK);
    CHECK_EQ(os->lock(os, again, second, true), -EWOULDBLOCK);
    CHECK_EQ(os->close(os, first), 0);
    CHECK_EQ(os->lock(os, again, second, true), 0);
    CHECK_EQ(os->lock(os, f.dir, create(&f, "LOCK"), true), 0);
    CHECK_EQ(os->lock(os, f.dir, create(&f, "LOCK"), false), -EWOULDBLOCK);
    simdisk_free(f.disk);
}

static void unlink_listed(void *context, const char *name)
{
    struct fixture *f = context;

    CHECK_EQ(f->os->unlink(f->os, f->dir, name), 0);
}

TEST(the_function_given_to_list_may_unlink)
{
    struct fixture f = new_disk();

    (void)create(&f, "x");
    (void)create(&f, "y");
    CHECK_EQ(f.os->list(f.os, f.dir, unlink_listed, &f), 0);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), -ENOENT);
    CHECK_EQ(simdisk_file_size(f.disk, "y"), -ENOENT);
    simdisk_free(f.disk);
}

TEST(the_trace_tells_the_order_of_changes)
{
    struct fixture f = new_disk();
    int fd;

    simdisk_trace(f.disk);
    fd = create(&f, "a.tmp");
    write_at(&f, fd, "12345", 5, 7);
    CHECK_EQ(f.os->truncate(f.os, fd, 3), 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "a.tmp", "MANIFEST"), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "MANIFEST"), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "MANIFEST"), -ENOENT);
    CHECK_STR(f.disk->trace, "create a.tmp\n"
                             "write a.tmp 7 5\n"
                             "truncate a.tmp 3\n"
                             "sync a.tmp\n"
                             "rename a.tmp MANIFEST\n"
                             "sync-dir\n"
                             "unlink MANIFEST\n");
    simdisk_free(f.disk);
}

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

/* Rules -------------------------------------------------------------------------------- */

static void remember_violation(struct simdisk *disk, const char *message)
{
    snprintf(disk->context, 256, "%s", message);
}

static struct fixture forgiving_disk(char message[256])
{
    struct fixture f = new_disk();

    message[0] = 0;
    f.disk->violated = remember_violation;
    f.disk->context = message;
    return f;
}

TEST(the_naive_program_that_renames_before_it_syncs_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "MANIFEST.tmp");

    write_at(&f, fd, "files", 5, 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "MANIFEST.tmp", "MANIFEST"), 0);
    CHECK_STR(message, "MANIFEST.tmp is renamed to MANIFEST before it is synced");
    simdisk_free(f.disk);
}

TEST(the_careful_program_breaks_no_rule)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "MANIFEST.tmp");

    write_at(&f, fd, "files", 5, 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "MANIFEST.tmp", "MANIFEST"), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(message, "");
    simdisk_free(f.disk);
}

TEST(a_sync_that_is_tried_again_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = durable_file(&f, "x", 1);

    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_STR(message, "");
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(message, "x is synced again after a failed sync");
    simdisk_free(f.disk);
}

TEST(a_misaligned_direct_write_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd =
        f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_DIRECT_SYNC);

    CHECK_EQ(f.os->write(f.os, fd, block_a, 4096, 512), -EINVAL);
    CHECK(strstr(message, "misaligned direct write to x") != NULL);
    message[0] = 0;
    CHECK_EQ(f.os->write(f.os, fd, block_a + 512, 4096, 0), -EINVAL);
    CHECK(message[0] != 0);
    message[0] = 0;
    write_at(&f, fd, block_a, 4096, 0);
    CHECK_STR(message, "");
    simdisk_free(f.disk);
}

TEST(a_store_beyond_the_end_of_the_file_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = durable_file(&f, "x", 10);
    void *map;

    CHECK_EQ(f.os->map(f.os, fd, 4096, true, &map), 0);
    f.os->store(f.os, fd, map, 9, "1", 1);
    CHECK_STR(message, "");
    f.os->store(f.os, fd, map, 9, "12", 2);
    CHECK(strstr(message, "is outside") != NULL);
    simdisk_free(f.disk);
}

TEST(a_descriptor_that_is_closed_twice_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "x");

    CHECK_EQ(f.os->close(f.os, fd), 0);
    (void)f.os->close(f.os, fd);
    CHECK(strstr(message, "is closed but not open") != NULL);
    simdisk_free(f.disk);
}

/* Against a model ---------------------------------------------------------------------- */

#define MODEL_SIZE 20000

/* One file as plain arrays: what reads see, and what was there at the last sync. */
struct model {
    uint8_t now[MODEL_SIZE], durable[MODEL_SIZE];
    size_t size, durable_size;
};

static uint64_t step_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void model_write(struct model *m, const uint8_t *data, size_t size, size_t offset)
{
    memcpy(m->now + offset, data, size);
    if (offset + size > m->size)
        m->size = offset + size;
}

static void random_step(struct fixture *f, int fd, struct model *m, uint64_t *random)
{
    const size_t offset = step_random(random) % (MODEL_SIZE / 2);
    const size_t size = step_random(random) % (MODEL_SIZE / 2);
    uint8_t data[MODEL_SIZE];

    switch (step_random(random) % 8) {
    case 0:
        CHECK_EQ(f->os->sync(f->os, fd), 0);
        memcpy(m->durable, m->now, MODEL_SIZE);
        m->durable_size = m->size;
        break;
    case 1:
        CHECK_EQ(f->os->truncate(f->os, fd, offset), 0);
        if (offset < m->size)
            memset(m->now + offset, 0, m->size - offset);
        m->size = offset;
        break;
    default:
        memset(data, (int)(step_random(random) % 255) + 1, size);
        write_at(f, fd, data, size, offset);
        model_write(m, data, size, offset);
        break;
    }
}

static void check_file(const struct simdisk *disk, const uint8_t *data, size_t size)
{
    CHECK_EQ(simdisk_file_size(disk, "x"), size);
    CHECK_EQ(simdisk_file_read(disk, "x", text_buffer, sizeof text_buffer, 0), size);
    CHECK(memcmp(text_buffer, data, size) == 0);
}

TEST(kills_power_cuts_and_full_prefixes_agree_with_a_plain_array)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t random = seed;
        struct fixture f = new_disk();
        const int fd = durable_file(&f, "x", 0);
        struct model m = {.size = 0};

        for (int step = 0; step < 40; step++) {
            struct simdisk *killed, *cut, *full;
            random_step(&f, fd, &m, &random);
            killed = simdisk_clone(f.disk);
            check_file(killed, m.now, m.size);
            cut = simdisk_survivor(killed, SIMDISK_NOTHING_PENDING, 0, 0);
            check_file(cut, m.durable, m.durable_size);
            full = simdisk_survivor(killed, SIMDISK_PREFIX, UINT64_MAX, SIMDISK_SECTOR);
            check_file(full, m.now, m.size);
            simdisk_free(killed);
            simdisk_free(cut);
            simdisk_free(full);
        }
        simdisk_free(f.disk);
    }
}

static void *write_and_sync(void *context)
{
    struct fixture *f = context;
    const int fd = create(f, "x");

    for (int i = 0; i < 200; i++) {
        write_at(f, fd, block_b, 100, (uint64_t)i * 100);
        if (i % 16 == 0)
            CHECK_EQ(f->os->sync(f->os, fd), 0);
    }
    CHECK_EQ(f->os->close(f->os, fd), 0);
    return NULL;
}

TEST(threads_may_use_one_disk_while_survivors_are_taken)
{
    struct fixture f = new_disk();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_and_sync, &f), 0);
    for (uint64_t i = 0; i < 50; i++)
        simdisk_free(simdisk_survivor(f.disk, SIMDISK_TORN, i, 0));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), 20000);
    simdisk_free(f.disk);
}
