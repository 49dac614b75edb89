/* SPDX-License-Identifier: MIT */
/*
 * arena.h - memory for very many small objects of few sizes, such as the entries of the index:
 * classes of 8 bytes up to 256, coarser ones up to 4 KiB, single allocations above. Objects
 * come from 64 KiB pages of one size class, pages from the system (chunks.h). A page whose last
 * object is freed serves any class again.
 *
 * Reserve first, allocate later: a reservation is a promise that so many allocations of that
 * size will succeed, so that a write can be refused for lack of memory before it is logged
 * and never after.
 *
 * Not thread-safe; the owner serialises.
 */
#ifndef TKV_ARENA_H
#define TKV_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tkv_arena;
struct tkv_chunks;

struct tkv_arena *tkv_arena_new(void);        /* NULL: out of memory */
void tkv_arena_free(struct tkv_arena *arena); /* and every object, taken or not */

/* Promise one later allocation of `size` bytes. False: no memory, nothing promised. */
bool tkv_arena_reserve(struct tkv_arena *arena, size_t size);
void tkv_arena_unreserve(struct tkv_arena *arena, size_t size);

/* Take what tkv_arena_reserve() promised for `size`: never NULL. 8-byte aligned; 64-byte
 * aligned when size is 64. The reservation is used up. */
void *tkv_arena_take(struct tkv_arena *arena, size_t size);

/* Give back an object of `size` bytes. */
void tkv_arena_give(struct tkv_arena *arena, void *object, size_t size);

/* A number for a taken object of `size` bytes, see chunks.h; 0 if it has none, as those above
 * 4 KiB. */
uint32_t tkv_arena_number(const void *object, size_t size);

/* Where its pages come from, for who gets memory ready ahead. */
struct tkv_chunks *tkv_arena_chunks(struct tkv_arena *arena);

/* Bytes obtained from the system. */
size_t tkv_arena_bytes(const struct tkv_arena *arena);

#endif
