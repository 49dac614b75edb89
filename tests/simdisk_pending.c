/* SPDX-License-Identifier: MIT */
/*
 * simdisk_pending.c - the pending list: what has been issued and is not durable yet, and what
 * syncs make of it.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <stdlib.h>
#include <string.h>

void simdisk_add_pending(struct simdisk *disk, struct simdisk_pending p, const void *bytes)
{
    disk->pending = simdisk_grow(disk->pending, &disk->pending_capacity,
                                 disk->pending_count + 1, sizeof *disk->pending);
    disk->bytes =
        simdisk_grow(disk->bytes, &disk->bytes_capacity, disk->bytes_size + p.size, 1);
    p.at = disk->bytes_size;
    if (p.size > 0)
        memcpy(disk->bytes + p.at, bytes, p.size);
    disk->bytes_size += p.size;
    disk->bytes_live += p.size;
    disk->pending[disk->pending_count++] = p;
    if (!is_data(&p))
        return;
    disk->inodes[p.target].pending_count++;
    disk->inodes[p.target].doomed_count += p.doomed;
}

static void forget_bytes(struct simdisk *disk, struct simdisk_pending *p)
{
    disk->bytes_live -= p->size;
    p->size = 0;
    p->seen = 0;
}

/* The caller sweeps when it has forgotten all that it wants to. */
void simdisk_forget(struct simdisk *disk, struct simdisk_pending *p)
{
    forget_bytes(disk, p);
    if (is_data(p)) {
        disk->inodes[p->target].pending_count--;
        disk->inodes[p->target].doomed_count -= p->doomed;
    }
    p->kind = GONE;
}

void simdisk_sweep(struct simdisk *disk)
{
    const bool move_bytes = disk->bytes_size > 2 * disk->bytes_live + (64 << 10);
    size_t count = 0, bytes_size = 0;

    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending p = disk->pending[i];
        if (p.kind == GONE)
            continue;
        if (move_bytes) {
            if (p.size > 0)
                memmove(disk->bytes + bytes_size, disk->bytes + p.at, p.size);
            p.at = bytes_size;
            bytes_size += p.size;
        }
        disk->pending[count++] = p;
    }
    disk->pending_count = count;
    if (move_bytes || count == 0)
        disk->bytes_size = bytes_size;
}

/* One write, as units that each lie in one page. The first brings the new size. */
void simdisk_add_pending_write(struct simdisk *disk, uint32_t target,
                               const struct simdisk_pending *whole, const void *data)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = *whole;
    const uint8_t *at = data;
    uint64_t left = whole->size, seen = whole->seen;

    p.kind = WRITE;
    p.target = target;
    inode->extent = max_u64(inode->extent, whole->offset + whole->size);
    while (left > 0) {
        p.size = (uint32_t)min_u64(left, SIMDISK_PAGE - p.offset % SIMDISK_PAGE);
        p.seen = (uint32_t)min_u64(seen, p.size);
        simdisk_add_pending(disk, p, at);
        at += p.size;
        left -= p.size;
        seen -= p.seen;
        p.offset += p.size;
        p.file_size = 0;
    }
}

/* The medium's file becomes shorter, and what it has beyond must not come back later. */
static void cut_saved_pages(struct simdisk_inode *inode, uint64_t size)
{
    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t start = (uint64_t)inode->dirty[i].page * SIMDISK_PAGE;
        if (start + SIMDISK_PAGE > size) {
            const size_t left = start < size ? size - start : 0;
            memset(simdisk_saved_page(inode, inode->dirty[i].page) + left, 0,
                   SIMDISK_PAGE - left);
        }
    }
    inode->durable_size = size;
}

/* Its file was cut to `size` since. */
static void cut_unit(struct simdisk *disk, struct simdisk_pending *p, uint64_t size)
{
    p->file_size = min_u64(p->file_size, size);
    if (p->kind != WRITE)
        return;
    if (p->offset >= size) {
        simdisk_forget(disk, p);
    } else if (p->offset + p->size > size) {
        const size_t left = size - p->offset;
        memset(disk->bytes + p->at + left, 0, p->size - left);
    }
}

/* What a doomed unit would bring back over a later one that reached the medium is as new as
 * that one. */
static void renew_doomed(struct simdisk *disk, struct simdisk_pending *p,
                         const struct simdisk_pending *later)
{
    const uint64_t from = max_u64(p->offset, later->offset);
    const uint64_t to = min_u64(p->offset + p->size, later->offset + later->size);

    if (later->kind == TRUNCATE) {
        cut_unit(disk, p, later->file_size);
    } else if (from < to) {
        memcpy(disk->bytes + p->at + (from - p->offset),
               disk->bytes + later->at + (from - later->offset), to - from);
    }
}

/* Write the units of a file that a sync can still write to the medium's side, while doomed
 * ones stay. The rare path: after a failed sync only. */
static void settle_around_doomed(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) || p->target != target || p->doomed)
            continue;
        if (p->kind == TRUNCATE)
            cut_saved_pages(inode, p->file_size);
        else
            inode->durable_size = max_u64(inode->durable_size, p->file_size);
        if (p->size > 0) {
            uint8_t *saved =
                simdisk_saved_page(inode, (uint32_t)(p->offset / SIMDISK_PAGE));
            memcpy(saved + p->offset % SIMDISK_PAGE, disk->bytes + p->at, p->size);
        }
        for (size_t k = 0; k < i; k++) {
            struct simdisk_pending *earlier = &disk->pending[k];
            if (is_data(earlier) && earlier->target == target && earlier->doomed)
                renew_doomed(disk, earlier, p);
        }
        simdisk_forget(disk, p);
    }
    simdisk_sweep(disk);
}

/* What a successful sync does. */
void simdisk_settle_inode(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    if (inode->doomed_count > 0) {
        settle_around_doomed(disk, target);
        return;
    }
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]) && disk->pending[i].target == target)
            simdisk_forget(disk, &disk->pending[i]);
    }
    simdisk_sweep(disk);
    simdisk_clean_all_pages(inode);
}

/* The medium's file becomes shorter, and so does what was written before and is still pending. */
static void settle_truncates(struct simdisk *disk, uint32_t target)
{
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind != TRUNCATE || p->target != target || p->doomed)
            continue;
        cut_saved_pages(&disk->inodes[target], p->file_size);
        for (size_t k = 0; k < i; k++) {
            if (is_data(&disk->pending[k]) && disk->pending[k].target == target)
                cut_unit(disk, &disk->pending[k], p->file_size);
        }
        simdisk_forget(disk, p);
    }
}

/* A direct write replaces whole pages on the medium, so older units in them are history. A
 * pending truncate is committed with it, as by a journal. */
void simdisk_settle_pages(struct simdisk *disk, uint32_t target, uint64_t offset,
                          uint64_t end)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    settle_truncates(disk, target);
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind != WRITE || p->target != target || p->offset < offset ||
            p->offset >= end)
            continue;
        if (p->file_size == 0) {
            simdisk_forget(disk, p);
        } else {
            forget_bytes(disk, p);
            p->kind = GROW;
        }
    }
    simdisk_sweep(disk);
    for (uint64_t page = offset / SIMDISK_PAGE; page < end / SIMDISK_PAGE; page++)
        simdisk_clean_page(inode, (uint32_t)page);
}

/* Reads see the medium's content again. */
static void revert(struct simdisk *disk, struct simdisk_inode *inode)
{
    if (simdisk_reserve_content(inode, inode->durable_size) < 0)
        return; /* mapped and cut short since: nothing can have grown */
    simdisk_set_size(disk, inode, inode->durable_size);
    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t start = (uint64_t)inode->dirty[i].page * SIMDISK_PAGE;
        if (start < inode->size) {
            memcpy(inode->content + start, simdisk_saved_page(inode, inode->dirty[i].page),
                   min_u64(SIMDISK_PAGE, inode->size - start));
            simdisk_touch(inode, start, start + SIMDISK_PAGE);
        }
    }
    simdisk_clean_all_pages(inode);
}

/* What a failed sync does. */
void simdisk_fail_sync(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    inode->sync_failed = true;
    if (disk->failed_sync == SIMDISK_FAILED_SYNC_KEEPS)
        return;
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) || p->target != target)
            continue;
        if (disk->failed_sync == SIMDISK_FAILED_SYNC_REVERTS) {
            simdisk_forget(disk, p);
        } else if (!p->doomed) {
            p->doomed = true;
            inode->doomed_count++;
        }
    }
    if (disk->failed_sync != SIMDISK_FAILED_SYNC_REVERTS)
        return;
    simdisk_sweep(disk);
    revert(disk, inode);
}

/* Clean pages go; those that a failed sync made clean differ from the medium. A page with
 * bytes that are still to be written stays, and with it the file. */
void simdisk_drop_cache(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    if (inode->doomed_count == 0 || inode->doomed_count < inode->pending_count)
        return;
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]) && disk->pending[i].target == target)
            simdisk_forget(disk, &disk->pending[i]);
    }
    simdisk_sweep(disk);
    revert(disk, inode);
}
