/* SPDX-License-Identifier: MIT */
/*
 * opening_memory.h - memory that an opening asks for, from the one before: for sweeps that open
 * small stores a million times. A program puts these behind its own calloc, free, mmap and munmap
 * (the linker's --wrap; with offsets of 64 bits, mmap() is called mmap64()). One thread.
 */
#ifndef TKV_OPENING_MEMORY_H
#define TKV_OPENING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* The file table, zeroed; NULL when `count` and `size` are not its own or all are in use. */
void *opening_take_table(size_t count, size_t size);
/* False: it is none of these. */
bool opening_give_table(void *memory);

/* Anonymous pages, of the sizes that the index's arena and the fork guard ask for, aligned to
 * their size; else NULL. Only single pages are zeroed. */
void *opening_take_pages(size_t size);
/* True also for a part of what was taken, which goes with the whole. */
bool opening_give_pages(void *memory);

#endif
