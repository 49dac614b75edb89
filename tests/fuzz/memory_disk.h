/* SPDX-License-Identifier: MIT */
/*
 * memory_disk.h - files in memory behind struct tkv_os, for targets that need speed and no
 * power cuts: a call costs a memcpy. What lies behind the end of a file is forbidden to the
 * address sanitizer, so a read through a mapping beyond it is found. Deterministic: clocks,
 * random numbers and everything else begin anew with memory_disk_clear().
 *
 * There is one of them, with one subdirectory, for one thread.
 */
#ifndef TKV_MEMORY_DISK_H
#define TKV_MEMORY_DISK_H

#include "os.h"

#define MEMORY_DISK_FILES     48u
#define MEMORY_DISK_FILE_SIZE ((size_t)512 * 1024) /* the most of one; then ENOSPC */
#define MEMORY_DISK_NAME_SIZE 64u

struct memory_file {
    char name[MEMORY_DISK_NAME_SIZE]; /* "" when it has been unlinked, or never was */
    bool in_subdirectory;
    uint8_t *content;
    size_t size;
    unsigned users; /* descriptors and mappings */
};

struct memory_disk {
    struct tkv_os os; /* first: the table's functions find the disk by it */
    struct memory_file files[MEMORY_DISK_FILES];
    uint64_t wall_ms, monotonic_us, random_state;

    /* Call number `fail_at` (from 1; 0: none) and all later ones fail with fail_errno. */
    uint64_t calls, fail_at;
    int fail_errno;
    unsigned open_count; /* descriptors and mappings that nobody closed */
};

struct memory_disk *memory_disk(void);
/* No files, no faults, the first instant. Descriptors and mappings end. */
void memory_disk_clear(struct memory_disk *disk);

/* A file of the main directory from outside; NULL when there is none, or no room for it. */
struct memory_file *memory_disk_find(struct memory_disk *disk, const char *name);
struct memory_file *memory_disk_put(struct memory_disk *disk, const char *name,
                                    const void *bytes, size_t size);
/* Grow with zeros, or shrink; what is beyond MEMORY_DISK_FILE_SIZE is refused. */
bool memory_file_resize(struct memory_file *file, size_t size);

#endif
