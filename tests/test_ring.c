/* SPDX-License-Identifier: MIT */
/*
 * The ring never hands out bytes that replay may still need, and a reader finds every group
 * where it looks for it.
 *
 * Method: single cases, and a long seeded run against a model that colours each 8 bytes of the
 * file as free or in use.
 */
#include "ring.h"

#include "bytes.h"
#include "group.h"
#include "test.h"

TEST_MAIN

#define START TKV_WAL_RING_START
#define BLOCK TKV_BLOCK_SIZE

static struct tkv_ring empty_ring(uint64_t blocks)
{
    const struct tkv_ring_place start = {10 * BLOCK, START, 0};

    return (struct tkv_ring){START + blocks * BLOCK, start, start};
}

/* Place a group and return its file offset; 0: there is no room. */
static uint64_t put(struct tkv_ring *ring, uint64_t extent, bool aligned)
{
    struct tkv_ring_place place;

    if (!tkv_ring_fit(ring, extent, aligned, &place))
        return 0;
    tkv_ring_advance(ring, &place, extent);
    return place.file_offset;
}

TEST(groups_follow_each_other_to_the_last_byte)
{
    struct tkv_ring ring = empty_ring(2);

    CHECK_EQ(tkv_ring_capacity(&ring), 2 * BLOCK);
    CHECK_EQ(tkv_ring_used(&ring), 0);
    CHECK_EQ(put(&ring, 64, false), START);
    CHECK_EQ(put(&ring, 72, false), START + 64);
    CHECK_EQ(ring.head.position, 10 * BLOCK + 136);
    CHECK_EQ(tkv_ring_used(&ring), 136);
    CHECK_EQ(put(&ring, 2 * BLOCK - 136, false), START + 136);
    CHECK_EQ(tkv_ring_used(&ring), 2 * BLOCK);
    CHECK_EQ(put(&ring, 8, false), 0);
}

TEST(an_aligned_group_begins_at_the_next_block_and_its_position_tells)
{
    struct tkv_ring ring = empty_ring(4);

    CHECK_EQ(put(&ring, 64, false), START);
    CHECK_EQ(put(&ring, BLOCK, true), START + BLOCK);
    CHECK_EQ(ring.head.position, 12 * BLOCK);
    CHECK_EQ(put(&ring, BLOCK, true), START + 2 * BLOCK);
    CHECK_EQ(ring.head.position, 13 * BLOCK);
}

TEST(the_next_lap_begins_at_the_start_and_at_a_block_of_the_log)
{
    struct tkv_ring ring = empty_ring(4);

    CHECK_EQ(put(&ring, 3 * BLOCK + 64, false), START);
    tkv_ring_release(&ring, &ring.head);
    CHECK_EQ(put(&ring, BLOCK, false), START);
    CHECK_EQ(ring.head.lap, 1);
    CHECK_EQ(ring.head.position, 10 * BLOCK + 4 * BLOCK + BLOCK);
    /* From the tail in the middle of the last block to its end, and the first block. */
    CHECK_EQ(tkv_ring_used(&ring), 4 * BLOCK - (3 * BLOCK + 64 - BLOCK));
    CHECK_EQ(put(&ring, 2 * BLOCK, false), START + BLOCK); /* up to the tail's block */
    CHECK_EQ(put(&ring, 8, false), 0);
}

TEST(the_block_of_the_tail_is_never_touched)
{
    for (uint64_t at = 64; at <= BLOCK; at += BLOCK - 64) {
        struct tkv_ring ring = empty_ring(4);

        CHECK_EQ(put(&ring, BLOCK + at, false), START);
        tkv_ring_release(&ring, &ring.head);
        CHECK_EQ(put(&ring, 3 * BLOCK - at, false), START + BLOCK + at);
        if (at == BLOCK) {
            CHECK_EQ(put(&ring, 2 * BLOCK + 8, false), 0);
            CHECK_EQ(put(&ring, 2 * BLOCK, false), START);
        } else {
            CHECK_EQ(put(&ring, BLOCK + 8, false), 0);
            CHECK_EQ(put(&ring, BLOCK, false), START);
        }
        CHECK_EQ(put(&ring, 8, false), 0);
    }
}

/* Positions that a reader tries after a group that ended at `end`: wal/replay.h. */
static bool reader_looks_at(struct tkv_ring_place end, struct tkv_ring_place place)
{
    const uint64_t skip = tkv_round_up(end.file_offset, BLOCK) - end.file_offset;

    if (place.file_offset == end.file_offset && place.position == end.position)
        return true;
    return place.position == end.position + skip &&
           (place.file_offset == end.file_offset + skip || place.file_offset == START);
}

TEST(no_group_ever_overlaps_one_that_replay_may_need)
{
    enum { BLOCKS = 9, GROUPS = 64 };
    uint64_t state = 1;
    struct tkv_ring ring = empty_ring(BLOCKS - 2);
    uint64_t from[GROUPS], to[GROUPS];
    struct tkv_ring_place ends[GROUPS];
    size_t first = 0, count = 0; /* groups from the tail on */
    unsigned placed = 0, laps = 0;

    for (unsigned step = 0; step < 200000; step++) {
        struct tkv_ring_place place, before = ring.head;
        bool aligned;
        uint64_t extent;

        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        aligned = (state >> 60) % 2 == 0;
        extent = aligned ? BLOCK * (1 + (state >> 40) % 3) : 8 * (8 + (state >> 40) % 900);
        if (count > 0 && (state >> 33) % 3 == 0) {
            const size_t drop = 1 + (state >> 20) % count;

            tkv_ring_release(&ring, &ends[(first + drop - 1) % GROUPS]);
            first = (first + drop) % GROUPS;
            count -= drop;
            continue;
        }
        if (step == 100000)
            ring.end += 2 * BLOCK;
        if (count == GROUPS || !tkv_ring_fit(&ring, extent, aligned, &place))
            continue;
        CHECK(reader_looks_at(before, place));
        CHECK(place.file_offset >= START);
        CHECK(place.file_offset + extent <= ring.end);
        CHECK(!aligned || place.file_offset % BLOCK == 0);
        for (size_t i = 0; i < count; i++) {
            const size_t at = (first + i) % GROUPS;

            CHECK(place.file_offset + extent <= from[at] / BLOCK * BLOCK ||
                  place.file_offset >= to[at]);
        }
        tkv_ring_advance(&ring, &place, extent);
        laps += ring.head.lap != before.lap;
        from[(first + count) % GROUPS] = place.file_offset;
        to[(first + count) % GROUPS] = place.file_offset + extent;
        ends[(first + count) % GROUPS] = ring.head;
        count++;
        placed++;
        CHECK(tkv_ring_used(&ring) <= tkv_ring_capacity(&ring));
    }
    CHECK(placed > 50000);
    CHECK(laps > 5000);
}
