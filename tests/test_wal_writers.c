/* SPDX-License-Identifier: MIT */
/*
 * Writers who share groups: how large a group grows, who leads and who follows, how many groups
 * one leads, and who is told what.
 *
 * Method: threads. The leader is held in prepare() until the others have joined.
 */
#include "wal_fixture.h"

TEST_MAIN

/* ---- What is shared --------------------------------------------------------------------- */

/* An empty ring takes any group of a quarter of it. */
TEST(a_group_grows_to_a_quarter_of_the_log_but_not_beyond_a_mebibyte)
{
    static const uint64_t sizes[][2] = {
        {START + BLOCKS * BLOCK, (START + BLOCKS * BLOCK) / 4},
        {4 * MIB - BLOCK,        MIB - BLOCK / 4             },
        {4 * MIB,                MIB                         },
        {4 * MIB + BLOCK,        MIB                         },
        {64 * MIB,               MIB                         },
    };

    for (unsigned i = 0; i < 5; i++) {
        struct owner o;

        make_disk(&o);
        CHECK_OK(open_log(&o, true, sizes[i][0]));
        CHECK_EQ(o.wal.group_size_max, sizes[i][1]);
        end(&o);
    }
}

TEST(what_a_write_held_before_makes_no_difference)
{
    static struct tkv_wal_write stale;
    struct write write;
    struct owner o;

    begin(&o, true);
    make_write(&write, 1, 100);
    stale.status = TKV_BUSY;
    write.w.next = &stale;
    write.w.status = TKV_IO;
    write.w.done = true;
    write.w.payload_offset = 4711;
    CHECK_OK(tkv_wal_commit(&o.wal, &write.w, &err));
    CHECK_EQ(write.w.status, TKV_OK);
    CHECK_EQ(stale.status, TKV_BUSY); /* no part of the group */
    free(write.bytes);
    end(&o);
}

/* ---- Leaders and followers -------------------------------------------------------------- */

struct writer {
    struct owner *owner;
    size_t value_size;
    pthread_t thread;
    enum tkv_status status;
};

static void *write_one(void *argument)
{
    struct writer *w = argument;
    struct tkv_error own = {.status = TKV_BUSY};
    struct write write;

    make_write(&write, 1, w->value_size);
    write.w.done = true; /* whatever was there */
    write.w.payload_offset = 4711;
    memset(&write.w.woken, 0xee, sizeof write.w.woken);
    w->status = tkv_wal_commit(&w->owner->wal, &write.w, &own);
    CHECK_EQ(own.status, w->status == TKV_OK ? TKV_BUSY : w->status);
    CHECK_EQ(own.message[0] != 0, w->status != TKV_OK);
    free(write.bytes);
    return NULL;
}

/* The first leads and is held until the others wait. */
static void write_together(struct owner *o, struct writer *writers, unsigned count,
                           size_t value_size)
{
    o->hold_until = count - 1;
    for (unsigned i = 0; i < count; i++) {
        const unsigned prepared = o->prepared;

        writers[i].owner = o;
        writers[i].value_size = value_size;
        CHECK_EQ(pthread_create(&writers[i].thread, NULL, write_one, &writers[i]), 0);
        while (i == 0 && o->prepared == prepared)
            (void)usleep(100);
    }
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(pthread_join(writers[i].thread, NULL), 0);
}

/* A few are left to the first of them, many are led by who led before. */
static void share_the_next_group(unsigned count)
{
    struct writer writers[40];
    struct owner o;

    begin(&o, true);
    write_together(&o, writers, count, 100);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(o.applied, 2);
    CHECK_EQ(state_of(&o).counters.records_max, count - 1);
    CHECK_EQ(state_of(&o).counters.records, count);
    CHECK_EQ(state_of(&o).seq_next, 10 + count);
    CHECK(!o.wal.leader_active);
    CHECK_OK(commit(&o, 1, 10));
    end(&o);
}

TEST(writers_who_wait_share_the_next_group)
{
    share_the_next_group(2);
    share_the_next_group(12);
    share_the_next_group(40);
}

/* One writer alone, then four groups of so many. Its own write was in the first. */
static void lead_five_groups(unsigned size, unsigned led)
{
    struct writer writers[1 + 4 * 32];
    const unsigned count = 1 + 4 * size;
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = size * 127; /* exactly */
    o.full = size;
    o.full_groups = 4;
    write_together(&o, writers, count, 100);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(o.applied, 5);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(pthread_equal(o.leaders[i], writers[0].thread) != 0, i < led);
    CHECK_EQ(state_of(&o).counters.records_max, size);
    CHECK(!o.wal.leader_active);
    end(&o);
}

TEST(a_leader_among_many_leads_four_groups_and_then_hands_over)
{
    lead_five_groups(32, 4);
}

TEST(a_leader_among_few_leads_its_own_group_only)
{
    lead_five_groups(31, 1);
    lead_five_groups(6, 1);
}

TEST(writers_who_do_not_fit_together_are_served_group_by_group)
{
    struct writer writers[14];
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = 2 * 1027; /* two of them, exactly */
    o.release_in_room = true;
    write_together(&o, writers, 14, 1000);
    for (unsigned i = 0; i < 14; i++)
        CHECK_EQ(writers[i].status, TKV_OK);
    CHECK_EQ(state_of(&o).counters.records, 14);
    CHECK_EQ(state_of(&o).counters.records_max, 2);
    CHECK(!o.wal.leader_active);
    CHECK_EQ(o.wal.waiting_to_join, 0);
    end(&o);
}

/* Two wait for a group to join, and there is one number left. */
TEST(a_writer_who_waited_to_join_is_refused_when_the_numbers_have_ended_meanwhile)
{
    struct writer writers[4];
    unsigned refused = 0;
    struct owner o;

    begin(&o, true);
    o.wal.group_size_max = 1100; /* one of them */
    o.wal.seq_next = INT64_MAX - 3;
    write_together(&o, writers, 4, 1000);
    for (unsigned i = 0; i < 4; i++) {
        CHECK(writers[i].status == TKV_OK || writers[i].status == TKV_TOO_BIG);
        refused += writers[i].status == TKV_TOO_BIG;
    }
    CHECK_EQ(refused, 1);
    CHECK_EQ(o.applied, 3);
    CHECK_EQ(state_of(&o).seq_next, INT64_MAX);
    end(&o);
}

TEST(when_a_group_fails_every_writer_in_it_is_told)
{
    for (unsigned count = 6; count <= 12; count += 6) {
        struct writer writers[12];
        struct owner o;

        begin(&o, true);
        o.fail_group = 2;
        write_together(&o, writers, count, 1000);
        CHECK_EQ(writers[0].status, TKV_OK);
        for (unsigned i = 1; i < count; i++)
            CHECK_EQ(writers[i].status, TKV_IO);
        CHECK_EQ(o.applied, 1);
        CHECK_EQ(commit(&o, 1, 10), TKV_POISONED);
        end(&o);
    }
}
