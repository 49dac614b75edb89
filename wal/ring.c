/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include "bytes.h"
#include "group.h"

#include <assert.h>

static struct tkv_ring_place at_block(struct tkv_ring_place place)
{
    const uint64_t skip =
        tkv_round_up(place.file_offset, TKV_BLOCK_SIZE) - place.file_offset;

    place.file_offset += skip;
    place.position += skip;
    return place;
}

/* The next lap begins at a block boundary of the log as well as of the file, so that a reader
 * finds its position without being told where the last lap ended. */
static struct tkv_ring_place next_lap(struct tkv_ring_place place)
{
    place = at_block(place);
    place.file_offset = TKV_WAL_RING_START;
    place.lap++;
    return place;
}

bool tkv_ring_fit(const struct tkv_ring *ring, uint64_t extent, bool aligned,
                  struct tkv_ring_place *ret_place)
{
    const bool wrapped = ring->head.lap != ring->tail.lap;
    /* One block stays free between head and tail: head == tail always means empty. */
    const uint64_t before_tail = ring->tail.file_offset / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
    const uint64_t limit = wrapped ? before_tail : ring->end;
    struct tkv_ring_place place = aligned ? at_block(ring->head) : ring->head;

    if (place.file_offset + extent <= limit) {
        *ret_place = place;
        return true;
    }
    if (wrapped)
        return false;
    place = next_lap(ring->head);
    if (place.file_offset + extent > before_tail)
        return false;
    *ret_place = place;
    return true;
}

void tkv_ring_advance(struct tkv_ring *ring, const struct tkv_ring_place *place,
                      uint64_t extent)
{
    assert(place->position >= ring->head.position);
    ring->head = *place;
    ring->head.position += extent;
    ring->head.file_offset += extent;
}

void tkv_ring_release(struct tkv_ring *ring, const struct tkv_ring_place *place)
{
    assert(place->position >= ring->tail.position);
    assert(place->position <= ring->head.position);
    ring->tail = *place;
}

void tkv_ring_restart(struct tkv_ring *ring, uint64_t end)
{
    assert(ring->head.position == ring->tail.position);
    ring->head = ring->tail = next_lap(ring->head);
    ring->end = end;
}

uint64_t tkv_ring_capacity(const struct tkv_ring *ring)
{
    return ring->end - TKV_WAL_RING_START;
}

uint64_t tkv_ring_used(const struct tkv_ring *ring)
{
    if (ring->head.lap == ring->tail.lap)
        return ring->head.file_offset - ring->tail.file_offset;
    /* The end of the older lap counts as used until the tail has passed it. */
    return tkv_ring_capacity(ring) - (ring->tail.file_offset - ring->head.file_offset);
}
