/* SPDX-License-Identifier: MIT */
/*
 * simdisk_stale.c - a sector whose reads return what it had before.
 */
#include "simdisk_private.h"

#include <stdlib.h>
#include <string.h>

void simdisk_serve_stale(struct simdisk *disk, const char *name, uint64_t offset,
                         const void *old, size_t size)
{
    const struct entry *e;

    (void)pthread_mutex_lock(&disk->mutex);
    e = simdisk_find_entry(&disk->directories[ROOT].now, name);
    if (e != NULL && !e->is_directory && size <= SIMDISK_PAGE) {
        free(disk->stale);
        disk->stale = simdisk_checked(malloc(sizeof *disk->stale));
        disk->stale->inode = e->target;
        disk->stale->offset = offset;
        disk->stale->size = size;
        memcpy(disk->stale->bytes, old, size);
    }
    (void)pthread_mutex_unlock(&disk->mutex);
}

static bool overlaps(const struct simdisk_stale *s, uint32_t inode, size_t size,
                     uint64_t offset)
{
    return s != NULL && s->inode == inode && offset < s->offset + s->size &&
           s->offset < offset + size;
}

void simdisk_patch_stale(const struct simdisk *disk, uint32_t inode, uint8_t *buffer,
                         size_t size, uint64_t offset)
{
    const struct simdisk_stale *s = disk->stale;
    uint64_t from, to;

    if (!overlaps(s, inode, size, offset))
        return;
    from = max_u64(offset, s->offset);
    to = min_u64(offset + size, s->offset + s->size);
    memcpy(buffer + (from - offset), s->bytes + (from - s->offset), to - from);
}

void simdisk_end_stale(struct simdisk *disk, uint32_t inode, uint64_t offset, size_t size)
{
    if (!overlaps(disk->stale, inode, size, offset))
        return;
    free(disk->stale);
    disk->stale = NULL;
}
