/* SPDX-License-Identifier: MIT */
/*
 * The file of the log: how it is made and opened, what its headers say, how it grows, how it is
 * closed, and what every failure on the way leaves behind.
 */
#include "bytes.h"
#include "scarce_memory.h"
#include "wal_fixture.h"

TEST_MAIN

/* ---- Making and opening ----------------------------------------------------------------- */

TEST(a_new_log_is_zeros_behind_two_headers_and_on_disk)
{
    static uint8_t bytes[START + BLOCKS * BLOCK];
    const struct tkv_wal_header header = header_with(1);
    uint8_t block[BLOCK];
    struct simdisk *after;
    struct owner o;

    make_disk(&o);
    after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    CHECK_EQ(simdisk_file_size(after, "wal.log"), sizeof bytes);
    CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0), sizeof bytes);
    tkv_wal_header_encode(&header, block);
    CHECK(memcmp(bytes, block, BLOCK) == 0);
    CHECK(memcmp(bytes + BLOCK, block, BLOCK) == 0);
    CHECK(tkv_is_zero(bytes + START, sizeof bytes - START));
    simdisk_free(after);
    end(&o);
}

TEST(a_log_is_made_of_zeros_first_and_synced_last)
{
    const struct tkv_wal_header header = header_with(1);
    struct owner o;

    make_disk(&o);
    simdisk_trace(o.disk);
    CHECK_OK(tkv_wal_create(&o.disk->os, o.dir, &header, &err));
    CHECK_STR(o.disk->trace, "truncate wal.log 0\n"
                             "write wal.log 0 73728\n"
                             "write wal.log 0 4096\n"
                             "write wal.log 4096 4096\n"
                             "sync wal.log\n");
    end(&o);
}

TEST(a_log_that_cannot_be_made_or_opened_leaves_nothing_open)
{
    const struct tkv_wal_header header = header_with(1);

    for (int opening = 0; opening < 2; opening++) {
        unsigned failures = 0;

        for (uint64_t at = 1; at < 20; at++) {
            enum tkv_status status;
            struct owner o;

            make_disk(&o);
            o.disk->fail_kinds = SIMDISK_OPEN | SIMDISK_WRITE | SIMDISK_SYNC;
            o.disk->fail_count = 0;
            o.disk->fail_errno = EIO;
            o.disk->fail_at = at;
            memset(&err, 0, sizeof err);
            status = opening ? open_log(&o, true, START + BLOCKS * BLOCK)
                             : tkv_wal_create(&o.disk->os, o.dir, &header, &err);
            CHECK_EQ(status != TKV_OK, o.disk->faults > 0);
            if (status != TKV_OK) {
                CHECK_STR(err.file, "wal.log");
                CHECK_EQ(err.os_errno, EIO);
                CHECK_EQ(simdisk_open_count(o.disk), 1); /* the directory */
                CHECK(tkv_is_zero((const uint8_t *)&o.wal, sizeof o.wal));
                failures++;
            }
            o.disk->fail_at = 0;
            end(&o);
        }
        CHECK_EQ(failures, opening ? 2 : 5); /* open twice; open, zeros, 2 headers, sync */
    }
}

TEST(the_first_write_of_a_new_log_that_fails_is_the_last)
{
    const struct tkv_wal_header header = header_with(1);

    for (uint64_t at = 1; at <= 3; at++) { /* zeros, two headers */
        struct owner o;

        make_disk(&o);
        o.disk->fail_kinds = SIMDISK_WRITE;
        o.disk->fail_count = 0;
        o.disk->fail_errno = ENOSPC;
        o.disk->fail_at = at;
        CHECK_EQ(tkv_wal_create(&o.disk->os, o.dir, &header, &err), TKV_NO_SPACE);
        CHECK_EQ(o.disk->fail_count, at);
        end(&o);
    }
}

/* ---- Headers ---------------------------------------------------------------------------- */

TEST(a_header_goes_to_the_block_of_its_generation_with_what_the_log_knows)
{
    for (uint64_t generation = 4; generation < 6; generation++) {
        struct tkv_wal_header header = header_with(generation), back;
        uint8_t block[BLOCK];
        struct simdisk *after;
        struct owner o;

        begin(&o, true);
        CHECK_OK(commit(&o, 1, 100));
        header.ring_end = header.durable_mark = 4711; /* the log knows better */
        CHECK_OK(tkv_wal_write_header(&o.wal, &header, &err));
        CHECK_EQ(header.durable_mark, POSITION + BLOCK);
        CHECK_EQ(header.ring_end, START + BLOCKS * BLOCK);
        after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
        for (uint64_t i = 0; i < 2; i++) {
            CHECK(simdisk_file_read(after, "wal.log", block, BLOCK, i * BLOCK) == BLOCK);
            CHECK_OK(tkv_wal_header_decode(block, i * BLOCK, &back, &err));
            CHECK_EQ(back.checkpoint.generation, generation % 2 == i ? generation : 1);
        }
        simdisk_free(after);
        CHECK_EQ(state_of(&o).counters.syncs, 2);
        CHECK_EQ(state_of(&o).counters.bytes_written, 2 * BLOCK);
        end(&o);
    }
}

TEST(a_header_that_cannot_be_written_poisons_the_log)
{
    struct tkv_wal_header header = header_with(2);
    struct owner o;

    begin(&o, true);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOSPC;
    o.disk->fail_at = 1;
    memset(&err, 0, sizeof err);
    CHECK_EQ(tkv_wal_write_header(&o.wal, &header, &err), TKV_IO);
    CHECK_EQ(err.os_errno, ENOSPC);
    CHECK_EQ(tkv_wal_write_header(&o.wal, &header, &err), TKV_POISONED);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    end(&o);
}

/* ---- Growing ---------------------------------------------------------------------------- */

TEST(a_log_grows_by_zeros_that_are_on_disk)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    static uint8_t bytes[START + 2 * BLOCKS * BLOCK];
    struct simdisk *after;
    struct owner o;

    begin(&o, true);
    CHECK_OK(tkv_wal_grow(&o.wal, before + BLOCK + 1, &err));
    CHECK_EQ(state_of(&o).end, before + 2 * BLOCK);
    CHECK_EQ(state_of(&o).counters.syncs, 1);
    after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0),
             before + 2 * BLOCK);
    CHECK(tkv_is_zero(bytes + START, before + 2 * BLOCK - START));
    simdisk_free(after);
    CHECK_OK(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err)); /* to its cap */
    end(&o);
}

TEST(a_log_grows_by_as_much_as_it_is_told)
{
    static uint8_t bytes[5 * MIB];
    uint64_t ends[] = {START + BLOCKS * BLOCK + 5 * MIB / 2, 0, 0};

    ends[1] = ends[0] + BLOCK;
    ends[2] = ends[1] + MIB;
    for (int direct = 0; direct < 2; direct++) {
        struct simdisk *after;
        struct owner o;

        make_disk(&o);
        o.disk->no_direct_sync = !direct;
        CHECK_OK(open_log(&o, true, 8 * MIB));
        for (int i = 0; i < 3; i++) {
            CHECK_OK(tkv_wal_grow(&o.wal, ends[i], &err));
            CHECK_EQ(simdisk_file_size(o.disk, "wal.log"), ends[i]);
        }
        after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
        CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0), ends[2]);
        CHECK(tkv_is_zero(bytes + START, ends[2] - START));
        simdisk_free(after);
        end(&o);
    }
}

/* A mapped log of `size_max` bytes at most, on a disk of its own. */
static void begin_mapped(struct owner *o, bool allocates, bool direct)
{
    make_disk(o);
    o->disk->no_allocation = !allocates;
    o->disk->no_direct_sync = !direct;
    CHECK_OK(open_log(o, false, 8 * MIB));
    CHECK(o->wal.map != NULL);
}

/* Nobody waits for the device but for one block, and no store has to read what it stores into:
 * all of it is written to the cache. */
TEST(a_mapped_log_grows_by_blocks_that_exist_and_are_in_the_cache)
{
    struct owner o;

    begin_mapped(&o, true, true);
    simdisk_trace(o.disk);
    CHECK_OK(tkv_wal_grow(&o.wal, 2 * MIB, &err));
    CHECK_STR(o.disk->trace, "allocate wal.log 2097152\n"
                             "write-sync wal.log 2093056 4096\n"
                             "write wal.log 73728 1048576\n"
                             "write wal.log 1122304 974848\n");
    CHECK_EQ(state_of(&o).end, 2 * MIB);
    CHECK_EQ(state_of(&o).counters.syncs, 1);
    end(&o);
}

TEST(a_mapped_log_grows_by_synced_zeros_where_nothing_can_be_allocated)
{
    for (int direct = 0; direct < 2; direct++) {
        struct owner o;

        begin_mapped(&o, false, direct);
        simdisk_trace(o.disk);
        CHECK_OK(tkv_wal_grow(&o.wal, 2 * MIB, &err));
        CHECK_STR(o.disk->trace, direct ? "write-sync wal.log 73728 1048576\n"
                                          "write-sync wal.log 1122304 974848\n"
                                          "write wal.log 73728 1048576\n"
                                          "write wal.log 1122304 974848\n"
                                        : "write wal.log 73728 1048576\n"
                                          "write wal.log 1122304 974848\n"
                                          "sync wal.log\n"
                                          "write wal.log 73728 1048576\n"
                                          "write wal.log 1122304 974848\n");
        CHECK_EQ(state_of(&o).end, 2 * MIB);
        end(&o);
    }
}

/* A header may say it, and the next life stores up to there. */
TEST(a_power_cut_leaves_a_mapped_log_the_size_that_it_grew_to)
{
    static uint8_t bytes[2 * MIB];

    for (int kind = 0; kind < 3; kind++) {
        struct simdisk *after;
        struct owner o;

        begin_mapped(&o, kind != 2, kind != 0);
        CHECK_OK(tkv_wal_grow(&o.wal, 2 * MIB, &err));
        after = simdisk_survivor(o.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
        CHECK_EQ(simdisk_file_read(after, "wal.log", bytes, sizeof bytes, 0), 2 * MIB);
        CHECK(tkv_is_zero(bytes + START, 2 * MIB - START));
        simdisk_free(after);
        end(&o);
    }
}

static void refuse_mapped_growth(unsigned call, int error, bool direct,
                                 enum tkv_status expected, enum tkv_status poison)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    struct owner o;

    begin_mapped(&o, true, direct);
    o.disk->fail_kinds = SIMDISK_ALLOCATE | SIMDISK_WRITE | SIMDISK_SYNC;
    o.disk->fail_count = 0;
    o.disk->fail_errno = error;
    o.disk->fail_at = call;
    CHECK_EQ(tkv_wal_grow(&o.wal, 2 * MIB, &err), expected);
    CHECK_EQ(state_of(&o).end, before);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), poison);
    if (poison == TKV_OK)
        CHECK_EQ(simdisk_file_size(o.disk, "wal.log"), before);
    end(&o);
}

TEST(a_mapped_log_that_cannot_grow_stays_as_it_is)
{
    refuse_mapped_growth(1, ENOSPC, true, TKV_NO_SPACE, TKV_OK); /* nothing allocated */
    refuse_mapped_growth(1, EIO, true, TKV_IO, TKV_OK);
    refuse_mapped_growth(2, ENOSPC, true, TKV_NO_SPACE, TKV_OK); /* the block on disk */
    refuse_mapped_growth(2, ENOSPC, false, TKV_NO_SPACE, TKV_OK);
    refuse_mapped_growth(3, ENOSPC, true, TKV_NO_SPACE, TKV_OK); /* the cache */
    refuse_mapped_growth(4, EIO, true, TKV_IO, TKV_OK);
}

TEST(a_mapped_growth_whose_fate_is_unknown_poisons_the_log)
{
    refuse_mapped_growth(2, EIO, true, TKV_IO, TKV_IO);
    refuse_mapped_growth(2, EOPNOTSUPP, true, TKV_IO, TKV_IO); /* not tried another way */
    refuse_mapped_growth(3, EOPNOTSUPP, false, TKV_IO, TKV_IO);
    refuse_mapped_growth(3, ENOSPC, false, TKV_IO, TKV_IO); /* the sync of that block */
}

static void refuse_growth(bool direct, int error, enum tkv_status expected)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    struct owner o;

    make_disk(&o);
    o.disk->no_direct_sync = !direct;
    CHECK_OK(open_log(&o, true, START + 2 * BLOCKS * BLOCK));
    o.disk->io_size_max = 5000; /* a part is written before it fails */
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = error;
    o.disk->fail_at = 2;
    CHECK_EQ(tkv_wal_grow(&o.wal, before + 8 * BLOCK, &err), expected);
    CHECK_EQ(state_of(&o).end, before);
    CHECK_EQ(simdisk_file_size(o.disk, "wal.log"), before);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    end(&o);
}

TEST(a_log_that_cannot_grow_stays_as_it_is)
{
    for (int direct = 0; direct < 2; direct++) {
        refuse_growth(direct, ENOSPC, TKV_NO_SPACE);
        refuse_growth(direct, EDQUOT, TKV_NO_SPACE);
        refuse_growth(direct, EFBIG, TKV_IO);
        refuse_growth(direct, ENOMEM, TKV_NO_MEMORY);
    }
    refuse_growth(false, EIO, TKV_IO); /* written, not synced: nothing was said of it */
}

TEST(a_growth_whose_fate_is_unknown_poisons_the_log)
{
    const uint64_t before = START + BLOCKS * BLOCK;

    for (int direct = 0; direct < 2; direct++) {
        struct owner o;

        make_disk(&o);
        o.disk->no_direct_sync = !direct;
        CHECK_OK(open_log(&o, true, START + 2 * BLOCKS * BLOCK));
        o.disk->fail_kinds = direct ? SIMDISK_WRITE : SIMDISK_SYNC;
        o.disk->fail_count = 0;
        o.disk->fail_errno = EIO;
        o.disk->fail_at = 1;
        CHECK_EQ(tkv_wal_grow(&o.wal, before + 8 * BLOCK, &err), TKV_IO);
        CHECK_EQ(state_of(&o).end, before);
        CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
        end(&o);
    }
}

static struct tkv_wal *poisoned_meanwhile;
static int64_t (*write_below)(struct tkv_os *os, int fd, const void *data, size_t size,
                              uint64_t offset);

static int64_t write_while_a_sync_fails(struct tkv_os *os, int fd, const void *data,
                                        size_t size, uint64_t offset)
{
    tkv_wal_poison(poisoned_meanwhile, TKV_IO);
    return write_below(os, fd, data, size, offset);
}

/* The system has told the other one of the lost pages, and would call this sync a success. */
TEST(a_growth_during_which_another_sync_fails_is_not_synced)
{
    const uint64_t before = START + BLOCKS * BLOCK;
    struct owner o;

    make_disk(&o);
    o.disk->no_direct_sync = true;
    CHECK_OK(open_log(&o, true, START + 2 * BLOCKS * BLOCK));
    poisoned_meanwhile = &o.wal;
    write_below = o.disk->os.write;
    o.disk->os.write = write_while_a_sync_fails;
    simdisk_trace(o.disk);
    CHECK_EQ(tkv_wal_grow(&o.wal, before + 8 * BLOCK, &err), TKV_IO);
    CHECK(strstr(o.disk->trace, "write wal.log") != NULL);
    CHECK(strstr(o.disk->trace, "sync") == NULL);
    CHECK_EQ(state_of(&o).end, before);
    o.disk->os.write = write_below;
    end(&o);
}

TEST(without_memory_a_log_is_not_made_and_does_not_grow)
{
    const struct tkv_wal_header header = header_with(1);
    struct owner o;

    begin(&o, true);
    memory_is_gone = true;
    CHECK_EQ(tkv_wal_create(&o.disk->os, o.dir, &header, &err), TKV_NO_MEMORY);
    CHECK_EQ(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err), TKV_NO_MEMORY);
    memory_is_gone = false;
    CHECK_EQ(state_of(&o).end, START + BLOCKS * BLOCK);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    end(&o);
}

/* ---- Closing ---------------------------------------------------------------------------- */

/* Another thread of the parent held the lock, and closing is left to the parent. */
TEST(the_locks_of_an_abandoned_log_are_left_as_they_are)
{
    static struct tkv_wal abandoned;
    struct owner o;

    begin(&o, true);
    tkv_mutex_lock(o.wal.lock);
    tkv_wal_abandon(&o.wal);
    memcpy(&abandoned, &o.wal, sizeof abandoned);
    tkv_wal_close(&o.wal);
    CHECK(memcmp(&o.wal, &abandoned, sizeof abandoned) == 0);
    tkv_mutex_unlock(o.wal.lock);
    end(&o);
}

TEST(a_closed_log_is_as_if_zeroed_and_may_be_closed_again)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        CHECK_OK(commit(&o, 1, 100));
        tkv_wal_close(&o.wal);
        CHECK(tkv_is_zero((const uint8_t *)&o.wal, sizeof o.wal));
        CHECK_EQ(simdisk_open_count(o.disk), 1); /* the directory */
        end(&o);
    }
}

TEST(an_abandoned_log_closes_what_it_has_open)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        CHECK_OK(commit(&o, 1, 100));
        tkv_wal_abandon(&o.wal);
        tkv_wal_abandon(&o.wal);
        end(&o);
    }
}
