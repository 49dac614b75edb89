/* SPDX-License-Identifier: MIT */
/*
 * simdisk_call_map.c - the table's calls on mappings.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int map_file(struct simdisk *disk, int fd, size_t size, bool writable,
                    void **ret_address)
{
    const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);
    struct simdisk_inode *inode;
    int rc;

    if (h == NULL)
        return -EBADF;
    if (size == 0)
        return -EINVAL;
    if (writable && !(h->flags & TKV_OS_WRITE))
        return -EACCES;
    inode = &disk->inodes[h->target];
    rc = simdisk_pin_content(inode, size);
    if (rc < 0)
        return rc;
    disk->mappings = simdisk_grow(disk->mappings, &disk->mapping_capacity,
                                  disk->mapping_count + 1, sizeof *disk->mappings);
    disk->mappings[disk->mapping_count++] =
        (struct simdisk_mapping){inode->content, size, h->target, writable};
    inode->mapping_count++;
    *ret_address = inode->content;
    return 0;
}

int simdisk_call_map(struct tkv_os *os, int fd, size_t size, bool writable,
                     void **ret_address)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_MAP);

    if (rc == 0)
        rc = map_file(disk, fd, size, writable, ret_address);
    return simdisk_leave(disk, rc);
}

/* Two mappings of one file have one address here, so the size has to match as well. */
static void unmap_file(struct simdisk *disk, const uint8_t *address, size_t size)
{
    for (size_t i = 0; i < disk->mapping_count; i++) {
        const struct simdisk_mapping m = disk->mappings[i];
        if (m.address != address || m.size != size)
            continue;
        disk->mappings[i] = disk->mappings[--disk->mapping_count];
        if (--disk->inodes[m.inode].mapping_count == 0)
            simdisk_reclaim(disk);
        return;
    }
    simdisk_violated(disk, "%zu bytes at %p are unmapped but not mapped", size,
                     (const void *)address);
}

int simdisk_call_unmap(struct tkv_os *os, void *address, size_t size)
{
    struct simdisk *disk = simdisk_of(os);
    const int rc = simdisk_enter(disk, SIMDISK_UNMAP);

    unmap_file(disk, address, size);
    return simdisk_leave(disk, rc);
}

static bool may_store(struct simdisk *disk, const struct simdisk_inode *inode,
                      const uint8_t *map, uint64_t offset, size_t size)
{
    const uint64_t end = offset + size;

    for (size_t i = 0; i < disk->mapping_count; i++) {
        const struct simdisk_mapping *m = &disk->mappings[i];
        if (m->address == map && m->writable && end <= m->size &&
            m->inode == inode_index(disk, inode) && end <= inode->size)
            return true;
    }
    simdisk_violated(disk, "store of %zu bytes at %llu to %s (%llu bytes) is outside", size,
                     (unsigned long long)offset, inode->name,
                     (unsigned long long)inode->size);
    return false;
}

void simdisk_call_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size)
{
    struct simdisk *disk = simdisk_of(os);
    bool cut;
    const int rc = simdisk_enter_cut(disk, SIMDISK_STORE, &cut);

    if (rc == 0 || cut) {
        const struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode != NULL && size > 0 && may_store(disk, inode, map, offset, size)) {
            if (cut)
                disk->crashed_size = size;
            else
                simdisk_note(disk, "store %s %llu %zu\n", inode->name,
                             (unsigned long long)offset, size);
            simdisk_write_cached(disk, inode_index(disk, inode), data, size, offset,
                                 cut ? min_u64(size, disk->crash_cut) : size);
        }
    }
    (void)simdisk_leave(disk, rc);
}
