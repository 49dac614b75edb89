/* SPDX-License-Identifier: MIT */
/*
 * Puts reach their data file in whole pieces where nobody waits for them and the disk has room,
 * and what waits for the rest of its piece is room that no put is promised.
 *
 * Method: data files of 5 MiB on the simulated disk, without threads; every write to a data file
 * is looked at on its way.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

#define MIB              ((uint64_t)1024 * 1024)
#define FILE_BYTES       (5 * MIB)
#define CHANGE_BYTES_MAX (MIB / 2) /* for names, manifests and last blocks */

static int64_t (*simdisk_write)(struct tkv_os *os, int fd, const void *data, size_t size,
                                uint64_t offset);
static struct tkv_store *watched;
static unsigned whole_pieces, crossings; /* writes of just one, and of parts of two */

static bool is_data(int fd)
{
    for (uint32_t slot = 0; slot < atomic_load(&watched->slots_used); slot++) {
        const struct tkv_datafile *file = tkv_files_at(watched, slot);

        if (file != NULL && file->fd == fd)
            return true;
    }
    return false;
}

static int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    if (watched != NULL && is_data(fd)) {
        crossings += offset / TKV_PIECE_SIZE != (offset + size - 1) / TKV_PIECE_SIZE;
        whole_pieces += offset % TKV_PIECE_SIZE == 0 && size == TKV_PIECE_SIZE;
    }
    return simdisk_write(os, fd, data, size, offset);
}

static void begin_large(struct fixture *f, enum tkv_durability durability)
{
    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = 32 * MIB;
    f->options.data_file_size_min = f->options.data_file_size_max = FILE_BYTES;
    f->disk->capacity = 256 * MIB;
    simdisk_write = f->disk->os.write;
    f->disk->os.write = watch_write;
    watched = NULL;
    whole_pieces = crossings = 0;
    open_again(f);
    watched = f->store;
    while (f->store->wal.ring.end < 16 * MIB) /* so that checkpoints are rare */
        put_bytes(f, "key", 1, 16000);
    CHECK_OK(tkv_compact(f->store, NULL, &err)); /* what is there from now on stays */
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

static void end_large(struct fixture *f)
{
    watched = NULL;
    f->options.durability = TKV_DURABILITY_NONE;
    open_again(f);
    check_byte(f, "key", 1);
    CHECK_OK(tkv_verify(f->store, NULL, NULL, NULL, &err));
    end(f);
}

static void put_and_flush(struct fixture *f)
{
    put_bytes(f, "key", 1, 16000);
    tkv_upkeep_flush(f->store);
}

static uint64_t size_of(const struct tkv_datafile *file)
{
    return atomic_load(&file->size);
}

static uint64_t unwritten(const struct tkv_datafile *file)
{
    return size_of(file) - atomic_load(&file->written);
}

/* Into a fresh file. */
static void begin_file(struct fixture *f)
{
    const struct tkv_datafile *before = f->store->active;

    while (f->store->active == before)
        put_and_flush(f);
}

static void check_pieces(enum tkv_durability durability)
{
    struct fixture f;
    struct tkv_datafile *file;
    uint64_t checkpoints;

    begin_large(&f, durability);
    begin_file(&f);
    file = f.store->active;
    checkpoints = tkv_usage_get(&f.store->counters.checkpoints);
    whole_pieces = 0;
    while (f.store->active == file) {
        CHECK_EQ(atomic_load(&file->written),
                 size_of(file) - size_of(file) % TKV_PIECE_SIZE);
        put_and_flush(&f);
    }
    CHECK_EQ(tkv_usage_get(&f.store->counters.checkpoints), checkpoints);
    CHECK_EQ(unwritten(file), 0); /* it is sealed */
    CHECK_EQ(whole_pieces, 2);
    CHECK_EQ(crossings, 0);
    end_large(&f);
}

TEST(in_the_relaxed_modes_a_file_is_written_in_whole_pieces_and_then_the_rest)
{
    check_pieces(TKV_DURABILITY_NONE);
    check_pieces(TKV_DURABILITY_INTERVAL);
}

TEST(what_was_left_in_the_middle_of_a_piece_goes_on_to_its_end)
{
    struct tkv_datafile *file;
    struct fixture f;

    begin_large(&f, TKV_DURABILITY_NONE);
    begin_file(&f);
    file = f.store->active;
    while (size_of(file) < MIB)
        put_and_flush(&f);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(atomic_load(&file->written) >= MIB);
    crossings = 0;
    while (size_of(file) < 2 * MIB) {
        CHECK(atomic_load(&file->written) < MIB + 40000);
        put_and_flush(&f);
        CHECK_EQ(atomic_load(&f.store->flush_kept), unwritten(file));
    }
    CHECK_EQ(atomic_load(&file->written), 2 * MIB);
    CHECK_EQ(crossings, 0);
    end_large(&f);
}

static void check_steps(struct fixture *f)
{
    for (unsigned i = 0; i < 100; i++) {
        put_and_flush(f);
        CHECK(unwritten(f->store->active) < TKV_FLUSH_SIZE);
    }
}

TEST(where_commits_wait_or_the_disk_is_nearly_full_there_are_smaller_steps)
{
    struct tkv_os_fs_info info;
    struct fixture f;

    begin_large(&f, TKV_DURABILITY_ALWAYS);
    check_steps(&f);
    end_large(&f);
    begin_large(&f, TKV_DURABILITY_NONE);
    CHECK_EQ(f.disk->os.fs_info(&f.disk->os, f.store->dir, &info), 0);
    f.disk->capacity = info.total_bytes - info.free_bytes + 6 * MIB;
    check_steps(&f);
    f.disk->capacity = 256 * MIB;
    end_large(&f);
}

/* A file's worth is kept for deletes and one for a compaction, and room for what is in memory. */
static void check_promised(const struct fixture *f, uint64_t free_bytes, uint64_t kept)
{
    const uint64_t most =
        free_bytes - 2 * FILE_BYTES - (kept > TKV_FLUSH_SIZE ? kept : TKV_FLUSH_SIZE);
    const uint64_t promised = atomic_load(&f->store->put_space_left);

    CHECK(promised <= most);
    CHECK(promised >= most - CHANGE_BYTES_MAX);
}

TEST(what_waits_for_the_rest_of_its_piece_is_not_promised_to_puts)
{
    struct tkv_os_fs_info info;
    struct fixture f;
    uint64_t kept_most = 0;

    begin_large(&f, TKV_DURABILITY_NONE);
    begin_file(&f);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t kept;

        put_and_flush(&f);
        kept = unwritten(f.store->active);
        if (kept > kept_most)
            kept_most = kept;
        CHECK_EQ(f.disk->os.fs_info(&f.disk->os, f.store->dir, &info), 0);
        check_promised(&f, info.free_bytes, kept);
    }
    CHECK(kept_most > MIB);
    end_large(&f);
}

TEST(what_could_not_be_written_is_not_promised_either_and_is_tried_again)
{
    struct tkv_datafile *file;
    struct fixture f;

    begin_large(&f, TKV_DURABILITY_NONE);
    begin_file(&f);
    file = f.store->active;
    while (size_of(file) < 2 * MIB - 20000)
        put_and_flush(&f);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_at = 1;
    while (f.disk->faults == 0)
        put_and_flush(&f);
    CHECK(unwritten(file) >= 2 * MIB);
    CHECK_EQ(atomic_load(&f.store->flush_kept), unwritten(file));
    put_and_flush(&f);
    CHECK_EQ(atomic_load(&file->written), 2 * MIB);
    end_large(&f);
}

TEST(after_a_checkpoint_nothing_waits_and_its_room_is_there_for_puts)
{
    struct tkv_os_fs_info info;
    struct fixture f;

    begin_large(&f, TKV_DURABILITY_NONE);
    begin_file(&f);
    while (unwritten(f.store->active) < MIB)
        put_and_flush(&f);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_EQ(f.disk->os.fs_info(&f.disk->os, f.store->dir, &info), 0);
    /* Hints have been written since it looked. */
    CHECK(atomic_load(&f.store->put_space_left) >=
          info.free_bytes - 2 * FILE_BYTES - TKV_FLUSH_SIZE - CHANGE_BYTES_MAX);
    end_large(&f);
}
