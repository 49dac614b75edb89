/* SPDX-License-Identifier: MIT */
/*
 * The calls of the simulated disk: at which the world stops, which fail, which syncs lose what
 * they were given, when the disk is full, and the rest of what lib/os.h says of them.
 */
#include "simdisk_fixture.h"

#include <errno.h>

TEST_MAIN

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
    CHECK_EQ(f.os->allocate(f.os, fd, 9), 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "a.tmp", "MANIFEST"), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "MANIFEST"), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "MANIFEST"), -ENOENT);
    CHECK_STR(f.disk->trace, "create a.tmp\n"
                             "write a.tmp 7 5\n"
                             "truncate a.tmp 3\n"
                             "allocate a.tmp 9\n"
                             "sync a.tmp\n"
                             "rename a.tmp MANIFEST\n"
                             "sync-dir\n"
                             "unlink MANIFEST\n");
    simdisk_free(f.disk);
}
