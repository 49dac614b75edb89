/* SPDX-License-Identifier: MIT */
/*
 * One commit after another: what each writes, when it is durable, why it is refused, and what a
 * failure leaves behind; in mode ALWAYS and in the relaxed modes, with their syncs.
 *
 * Method: what was written is read back group by group.
 */
#include "bytes.h"
#include "scarce_memory.h"
#include "wal_fixture.h"

TEST_MAIN

/* The group at `offset` as it is on the disk, or as the file shows it. */
static bool read_group(const struct simdisk *disk, uint64_t offset, struct tkv_group *ret)
{
    static uint8_t bytes[2 * BLOCKS * BLOCK];
    const uint32_t seed = tkv_group_seed(uuid, offset);
    uint32_t chain;

    if (simdisk_file_read(disk, "wal.log", bytes, sizeof bytes, offset) < 64)
        return false;
    return tkv_group_decode_header(bytes, seed, ret) && ret->payload_size < sizeof bytes &&
           tkv_group_check_payload(ret, bytes, bytes + TKV_GROUP_HEADER_SIZE, seed, &chain);
}

static bool is_on_disk(const struct owner *o, uint64_t offset)
{
    struct simdisk *after =
        simdisk_survivor(o->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    struct tkv_group group;
    const bool found = read_group(after, offset, &group);

    simdisk_free(after);
    return found;
}

/* ---- Mode ALWAYS ------------------------------------------------------------------------ */

TEST(a_durable_commit_is_one_write_of_whole_blocks_and_on_disk)
{
    struct tkv_group group;
    struct tkv_wal_state s;
    struct owner o;

    begin(&o, true);
    simdisk_trace(o.disk);
    CHECK_OK(commit(&o, 2, 100));
    CHECK_STR(o.disk->trace, "write-sync wal.log 8192 4096\n");
    CHECK(is_on_disk(&o, START));
    CHECK(read_group(o.disk, START, &group));
    CHECK_EQ(group.salt, 77);
    CHECK_EQ(group.position, POSITION);
    CHECK_EQ(group.durable, POSITION);
    CHECK_EQ(group.seq, 10);
    CHECK_EQ(group.count, 2);
    CHECK_EQ(group.chain, 0);
    CHECK(group.ends_at_block);
    CHECK_EQ(o.prepared_size, 254);
    CHECK_EQ(o.last.payload_size, 254);
    CHECK_EQ(o.last.seq_first, 10);
    CHECK_EQ(o.last.seq_next, 12);
    CHECK_EQ(o.last.end.position, POSITION + BLOCK);
    CHECK_EQ(o.last.chain, o.wal.chain);

    CHECK_OK(commit(&o, 1, 5000));
    CHECK(read_group(o.disk, START + BLOCK, &group));
    CHECK_EQ(group.position, POSITION + BLOCK);
    CHECK_EQ(group.durable, POSITION + BLOCK);
    CHECK_EQ(group.seq, 12);
    CHECK(group.chain != 0);
    s = state_of(&o);
    CHECK_EQ(s.used, 3 * BLOCK);
    CHECK_EQ(s.capacity, BLOCKS * BLOCK);
    CHECK_EQ(s.end, START + BLOCKS * BLOCK);
    CHECK_EQ(s.head_position, POSITION + 3 * BLOCK);
    CHECK_EQ(s.durable, POSITION + 3 * BLOCK);
    CHECK_EQ(s.seq_next, 13);
    CHECK_EQ(s.poisoned, TKV_OK);
    CHECK_EQ(s.counters.groups, 2);
    CHECK_EQ(s.counters.records, 3);
    CHECK_EQ(s.counters.records_max, 2);
    CHECK_EQ(s.counters.syncs, 2);
    CHECK_EQ(s.counters.bytes_written, 3 * BLOCK);
    CHECK_EQ(o.applied, 2);
    end(&o);
}

/* Whatever the group before has left in the memory. */
TEST(what_lies_between_the_groups_is_zeros)
{
    static uint8_t bytes[START + BLOCKS * BLOCK];

    for (int always = 0; always < 2; always++) {
        uint64_t at = START;
        struct owner o;

        begin(&o, always);
        for (size_t size = 4000; size > 3900; size -= 33) {
            const size_t used = TKV_GROUP_HEADER_SIZE + 27 + size;

            CHECK_OK(commit(&o, 1, size));
            CHECK_EQ(simdisk_file_read(o.disk, "wal.log", bytes, sizeof bytes, 0),
                     sizeof bytes);
            CHECK(tkv_is_zero(bytes + at + used, sizeof bytes - at - used));
            at = o.wal.ring.head.file_offset;
        }
        end(&o);
    }
}

TEST(a_failed_write_poisons_the_log_and_nothing_is_applied)
{
    struct owner o;

    begin(&o, true);
    o.fail_group = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_IO);
    CHECK_EQ(err.status, TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(o.applied, 0);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
    CHECK_EQ(state_of(&o).poisoned, TKV_IO);
    CHECK_EQ(state_of(&o).head_position, POSITION);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_POISONED);
    CHECK_EQ(o.prepared, 1);
    tkv_wal_poison(&o.wal, TKV_NO_SPACE); /* the first one counts */
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_IO);
    end(&o);
}

TEST(without_direct_io_a_write_is_followed_by_a_sync)
{
    struct owner o;

    make_disk(&o);
    o.disk->no_direct_sync = true;
    CHECK_OK(open_log(&o, true, START + BLOCKS * BLOCK));
    simdisk_trace(o.disk);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_STR(o.disk->trace, "write wal.log 8192 4096\nsync wal.log\n");
    o.disk->fail_kinds = SIMDISK_SYNC;
    o.disk->fail_count = 0;
    o.disk->fail_errno = EIO;
    o.disk->fail_at = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_IO);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    end(&o);
}

/* ---- What is refused, in all modes ------------------------------------------------------ */

TEST(an_owner_that_cannot_prepare_refuses_the_group_and_nothing_is_logged)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        begin(&o, always);
        o.refuse_prepare = TKV_NO_MEMORY;
        simdisk_trace(o.disk);
        CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY);
        CHECK_STR(o.disk->trace, "");
        CHECK_EQ(o.applied, 0);
        CHECK_EQ(state_of(&o).used, 0);
        o.refuse_prepare = TKV_OK;
        CHECK_OK(commit(&o, 1, 100));
        CHECK_EQ(o.applied, 1);
        CHECK_EQ(o.last.payload_size, 127);
        end(&o);
    }
}

TEST(without_memory_a_write_is_refused_and_uses_no_sequence_number)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;

        make_disk(&o);
        memory_is_gone = true;
        CHECK_EQ(open_log(&o, always, START + BLOCKS * BLOCK), TKV_NO_MEMORY);
        memory_is_gone = false;
        CHECK_OK(open_log(&o, always, START + BLOCKS * BLOCK));
        memory_is_gone = true;
        CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY);
        memory_is_gone = false;
        CHECK_EQ(o.applied, 0);
        CHECK_EQ(state_of(&o).seq_next, 10);
        CHECK_OK(commit(&o, 1, 100));
        CHECK_OK(commit(&o, 1, 100)); /* there are two buffers */
        CHECK_EQ(o.applied, 2);
        memory_is_gone = true; /* what it has is enough for a small one */
        CHECK_OK(commit(&o, 1, 100));
        memory_is_gone = false;
        CHECK_OK(commit(&o, 1, 40000));
        end(&o);
    }
}

TEST(a_group_that_fills_its_memory_wants_no_more)
{
    for (int always = 0; always < 2; always++) {
        struct write fills, exceeds;
        struct owner o;

        begin(&o, always);
        CHECK_OK(tkv_wal_grow(&o.wal, START + 2 * BLOCKS * BLOCK, &err));
        CHECK_OK(commit(&o, 1, 100));
        CHECK_OK(commit(&o, 1, 100)); /* there are two buffers */
        make_write(&fills, 1, 64 * 1024 - TKV_GROUP_HEADER_SIZE - 27);
        CHECK_EQ(fills.w.size, 64 * 1024 - TKV_GROUP_HEADER_SIZE);
        make_write(&exceeds, 1, 64 * 1024 - TKV_GROUP_HEADER_SIZE - 26);
        memory_is_gone = true;
        CHECK_EQ(tkv_wal_commit(&o.wal, &exceeds.w, &err), TKV_NO_MEMORY);
        CHECK_OK(tkv_wal_commit(&o.wal, &fills.w, &err));
        memory_is_gone = false;
        CHECK_EQ(o.applied, 3);
        free(fills.bytes);
        free(exceeds.bytes);
        end(&o);
    }
}

TEST(a_full_ring_asks_its_owner_for_room)
{
    for (int always = 0; always < 2; always++) {
        struct owner o;
        unsigned count = 0;

        begin(&o, always);
        o.refuse_room = TKV_NO_SPACE;
        while (commit(&o, 1, 8000) == TKV_OK)
            count++;
        CHECK_EQ(err.status, TKV_NO_SPACE);
        CHECK_EQ(count, always ? BLOCKS / 2 : BLOCKS * BLOCK / 8088);
        CHECK_EQ(o.rooms, 1);
        CHECK_EQ(o.room_extent, always ? 2 * BLOCK : 8088);
        CHECK(!tkv_wal_has_room(&o.wal, always ? BLOCK : 8088));
        CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
        o.refuse_room = TKV_OK;
        o.release_in_room = true;
        CHECK_OK(commit(&o, 1, 8000));
        CHECK_EQ(o.rooms, 2);
        CHECK_EQ(o.last.end.lap, 1);
        CHECK(tkv_wal_has_room(&o.wal, BLOCK));
        CHECK(state_of(&o).wrapped);
        tkv_wal_release(&o.wal, &o.wal.ring.head);
        CHECK(!state_of(&o).wrapped);
        end(&o);
    }
}

TEST(poison_that_comes_while_room_is_made_is_noticed)
{
    struct owner o;

    begin(&o, true);
    while (o.rooms == 0) {
        o.poison_in_room = o.wal.ring.head.file_offset == o.wal.ring.end;
        if (commit(&o, 1, 8000) != TKV_OK)
            break;
    }
    CHECK_EQ(err.status, TKV_POISONED);
    CHECK_EQ(o.rooms, 1);
    end(&o);
}

TEST(sequence_numbers_end_before_they_wrap)
{
    struct owner o;

    begin(&o, true);
    o.wal.seq_next = INT64_MAX - 2;
    CHECK_EQ(commit(&o, 3, 10), TKV_TOO_BIG);
    CHECK_OK(commit(&o, 2, 10));
    CHECK_EQ(commit(&o, 1, 10), TKV_TOO_BIG);
    CHECK_EQ(state_of(&o).seq_next, INT64_MAX);
    end(&o);
}

/* ---- The relaxed modes ------------------------------------------------------------------ */

TEST(a_relaxed_commit_is_in_the_log_at_once_and_on_disk_after_a_sync)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK(o.wal.map != NULL);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_OK(commit(&o, 1, 100));
    CHECK_EQ(o.applied, 2);
    CHECK(read_group(o.disk, START, &group));
    CHECK(!group.ends_at_block);
    CHECK(read_group(o.disk, START + 184, &group));
    CHECK_EQ(group.durable, POSITION);
    CHECK(!is_on_disk(&o, START));
    CHECK_EQ(state_of(&o).durable, POSITION);
    simdisk_trace(o.disk);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK_OK(tkv_wal_sync(&o.wal, &err)); /* there is nothing to do */
    CHECK_STR(o.disk->trace, "sync wal.log\n");
    CHECK(is_on_disk(&o, START) && is_on_disk(&o, START + 184));
    CHECK_EQ(state_of(&o).durable, POSITION + 368);
    CHECK_EQ(state_of(&o).counters.syncs, 1);
    end(&o);
}

TEST(a_commit_into_a_mapped_log_is_no_write)
{
    struct owner o;

    begin(&o, false);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = EIO;
    o.disk->fail_at = 1;
    CHECK_OK(commit(&o, 1, 100));
    CHECK_EQ(o.disk->fail_count, 0);
    end(&o);
}

TEST(after_a_sync_the_next_group_leaves_the_block_alone_and_says_what_is_durable)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK(tkv_wal_has_room(&o.wal, (BLOCKS - 1) * BLOCK));
    CHECK(!tkv_wal_has_room(&o.wal, (BLOCKS - 1) * BLOCK + 8)); /* it begins at a block */
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START + BLOCK, &group));
    CHECK_EQ(group.position, POSITION + BLOCK);
    CHECK_EQ(group.durable, POSITION + 184);
    CHECK_OK(commit(&o, 1, 100)); /* and then they share blocks again */
    CHECK(read_group(o.disk, START + BLOCK + 184, &group));
    end(&o);
}

TEST(a_failed_sync_poisons_the_log)
{
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    o.disk->fail_kinds = SIMDISK_SYNC;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOSPC; /* whatever it says, nobody knows what is on disk */
    o.disk->fail_at = 1;
    memset(&err, 0, sizeof err);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_IO);
    CHECK_EQ(err.os_errno, ENOSPC);
    CHECK_EQ(state_of(&o).durable, POSITION);
    CHECK_EQ(tkv_wal_sync(&o.wal, &err), TKV_POISONED);
    CHECK_EQ(commit(&o, 1, 100), TKV_POISONED);
    CHECK_EQ(o.applied, 1);
    end(&o);
}

/* What it returns then means nothing. */
static int fail_to_map(struct tkv_os *os, int fd, size_t size, bool writable,
                       void **ret_address)
{
    (void)fd;
    (void)size;
    (void)writable;
    *ret_address = os;
    return -ENOMEM;
}

TEST(without_a_mapping_a_failed_write_is_as_if_it_had_not_been)
{
    struct tkv_group group;
    struct owner o;

    make_disk(&o);
    o.disk->os.map = fail_to_map;
    CHECK_OK(open_log(&o, false, START + BLOCKS * BLOCK));
    CHECK(o.wal.map == NULL);
    o.disk->fail_kinds = SIMDISK_WRITE;
    o.disk->fail_count = 0;
    o.disk->fail_errno = ENOMEM;
    o.disk->fail_at = 1;
    CHECK_EQ(commit(&o, 1, 100), TKV_NO_MEMORY); /* as the errno says */
    CHECK_EQ(o.applied, 0);
    CHECK_EQ(state_of(&o).head_position, POSITION);
    CHECK_EQ(tkv_wal_poisoned(&o.wal), TKV_OK);
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START, &group));
    CHECK_EQ(group.seq, 11);
    CHECK_EQ(o.applied, 1);
    end(&o);
}

TEST(what_a_checkpoint_released_counts_as_durable)
{
    struct owner o;
    struct tkv_ring_place first;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    first = o.wal.ring.head;
    CHECK_OK(commit(&o, 1, 100));
    tkv_wal_release(&o.wal, &first);
    CHECK_EQ(state_of(&o).durable, POSITION + 184);
    CHECK_EQ(state_of(&o).used, 184);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    tkv_wal_release(&o.wal, &first); /* what is known is not forgotten */
    CHECK_EQ(state_of(&o).durable, POSITION + 368);
    end(&o);
}

TEST(a_sync_with_nothing_to_do_lets_the_next_group_follow_at_once)
{
    struct tkv_group group;
    struct owner o;

    begin(&o, false);
    CHECK_OK(commit(&o, 1, 100));
    tkv_wal_release(&o.wal, &o.wal.ring.head);
    CHECK_OK(tkv_wal_sync(&o.wal, &err));
    CHECK_EQ(state_of(&o).counters.syncs, 0);
    CHECK_OK(commit(&o, 1, 100));
    CHECK(read_group(o.disk, START + 184, &group));
    CHECK_EQ(group.seq, 11);
    end(&o);
}
