/* SPDX-License-Identifier: MIT */
/*
 * ring.h - which part of wal.log is in use. Pure arithmetic over file offsets.
 *
 *     tail < head, same lap       8192 ....... tail ######## head ....... end
 *     head one lap ahead          8192 ### head ........ tail ######## (end)
 *
 * The head is where the next group goes, the tail where replay would begin. A group never
 * wraps: when it does not fit before the end it goes to the start of the ring. Log positions
 * only ever increase; offsets are reused once a checkpoint has moved the tail past them. The
 * file may be extended at any time, which is of use as soon as both are on the same lap.
 */
#ifndef TKV_RING_H
#define TKV_RING_H

#include <stdbool.h>
#include <stdint.h>

struct tkv_ring_place {
    uint64_t position;    /* in the log */
    uint64_t file_offset; /* in wal.log */
    uint64_t lap;         /* how often the ring has wrapped */
};

struct tkv_ring {
    uint64_t end; /* of the usable file, a multiple of 4096 */
    struct tkv_ring_place head;
    struct tkv_ring_place tail;
};

/* Where a group of `extent` bytes would begin, with `aligned` at a block boundary. False when
 * there is no room for it now. */
bool tkv_ring_fit(const struct tkv_ring *ring, uint64_t extent, bool aligned,
                  struct tkv_ring_place *ret_place);

/* The group that tkv_ring_fit() placed has been written. */
void tkv_ring_advance(struct tkv_ring *ring, const struct tkv_ring_place *place,
                      uint64_t extent);

/* A checkpoint has made everything before `place`, an earlier head, superfluous. */
void tkv_ring_release(struct tkv_ring *ring, const struct tkv_ring_place *place);

/* An empty ring goes on at its start, where the next lap would, and ends at `end`. */
void tkv_ring_restart(struct tkv_ring *ring, uint64_t end);

uint64_t tkv_ring_used(const struct tkv_ring *ring);
uint64_t tkv_ring_capacity(const struct tkv_ring *ring);

#endif
