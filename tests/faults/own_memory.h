/* SPDX-License-Identifier: MIT */
/*
 * own_memory.h - included before everything else in the harness's own files (the simulated
 * disk, the oracle, the scenarios): their memory is taken past the faults, so that only what
 * the engine asks for is counted and refused (memory.h).
 */
#ifndef OWN_MEMORY_H
#define OWN_MEMORY_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *own_malloc(size_t size);
void *own_calloc(size_t count, size_t size);
void *own_realloc(void *memory, size_t size);
void *own_aligned_alloc(size_t alignment, size_t size);
void own_free(void *memory);
void *own_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int own_munmap(void *address, size_t size);

#define malloc(size)                   own_malloc(size)
#define calloc(count, size)            own_calloc(count, size)
#define realloc(memory, size)          own_realloc(memory, size)
#define aligned_alloc(alignment, size) own_aligned_alloc(alignment, size)
#define free(memory)                   own_free(memory)
#define mmap(address, size, protection, flags, fd, offset) \
    own_mmap(address, size, protection, flags, fd, offset)
#define munmap(address, size) own_munmap(address, size)

#endif
