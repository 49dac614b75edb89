/* SPDX-License-Identifier: MIT */
/*
 * simdisk_peek.c - the disk from outside, neither counted nor failed: the hash of its image,
 * its trace, and files that a test reads, plants and damages.
 */
#include "simdisk_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The image's hash ------------------------------------------------------------ */

/* Four lanes, because one multiplication must not wait for the last one. */
static uint64_t hash_bytes(uint64_t seed, const uint8_t *p, size_t size)
{
    const uint64_t factor = 0x9e3779b185ebca87u;
    uint64_t lane[4] = {seed, seed ^ factor, seed + factor, ~seed};

    lane[0] += size;
    for (; size >= 32; p += 32, size -= 32) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t word;
            memcpy(&word, p + 8 * i, 8);
            lane[i] = (lane[i] ^ word) * factor;
            lane[i] ^= lane[i] >> 29;
        }
    }
    for (; size > 0; p++, size--)
        lane[0] = (lane[0] ^ *p) * factor;
    return simdisk_mix(lane[0] ^
                       simdisk_mix(lane[1] ^ simdisk_mix(lane[2] ^ simdisk_mix(lane[3]))));
}

/* Hashing is not changing: what is remembered is not part of the image. */
static uint64_t hash_page(struct simdisk_inode *inode, uint64_t page)
{
    const uint64_t start = page * SIMDISK_PAGE;
    uint64_t *hash = &inode->page_hashes[page];

    if (*hash == 0)
        *hash = hash_bytes(1, inode->content + start,
                           min_u64(SIMDISK_PAGE, inode->size - start));
    return *hash;
}

static uint64_t hash_content(struct simdisk_inode *inode)
{
    const uint64_t count = (inode->size + SIMDISK_PAGE - 1) / SIMDISK_PAGE;
    uint64_t hash = inode->durable_size;

    if (inode->page_hash_count < count) {
        inode->page_hashes = simdisk_grow(inode->page_hashes, &inode->page_hash_capacity,
                                          count, sizeof *inode->page_hashes);
        memset(inode->page_hashes + inode->page_hash_count, 0,
               (count - inode->page_hash_count) * sizeof *inode->page_hashes);
        inode->page_hash_count = count;
    }
    for (uint64_t page = 0; page < count; page++)
        hash = (hash ^ hash_page(inode, page)) * 0x9e3779b185ebca87u + page;
    return simdisk_mix(hash ^ simdisk_mix(inode->size));
}

static uint64_t hash_inode(struct simdisk_inode *inode)
{
    uint64_t hash = hash_content(inode);

    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t seed = simdisk_mix(inode->dirty[i].page);
        if (inode->dirty[i].was_empty)
            hash += seed;
        else
            hash += hash_bytes(seed, inode->saved + i * SIMDISK_PAGE, SIMDISK_PAGE);
    }
    return hash;
}

/* Sums, because entries have no order. */
static uint64_t hash_directory(const struct simdisk *disk, uint32_t directory, bool durable)
{
    const struct simdisk_directory *d = &disk->directories[directory];
    const struct entries *entries = durable ? &d->durable : &d->now;
    uint64_t hash = 0;

    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *e = &entries->items[i];
        const uint64_t name = hash_bytes(1, (const uint8_t *)e->name, strlen(e->name));
        if (e->is_directory)
            hash +=
                simdisk_mix(name ^ simdisk_mix(hash_directory(disk, e->target, durable)));
        else
            hash += simdisk_mix(name ^ hash_inode(&disk->inodes[e->target]));
    }
    return hash;
}

static bool same_entries(const struct simdisk *disk)
{
    for (size_t i = 0; i < disk->directory_count; i++) {
        const struct simdisk_directory *d = &disk->directories[i];
        if (d->now.count != d->durable.count)
            return false;
        if (d->now.count > 0 && memcmp(d->now.items, d->durable.items,
                                       d->now.count * sizeof *d->now.items) != 0)
            return false;
    }
    return true;
}

uint64_t simdisk_hash(const struct simdisk *disk)
{
    uint64_t hash, durable;

    (void)pthread_mutex_lock(mutex_of(disk));
    hash = hash_directory(disk, ROOT, false);
    durable = same_entries(disk) ? hash : hash_directory(disk, ROOT, true);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return simdisk_mix(hash ^ simdisk_mix(durable));
}

void simdisk_trace(struct simdisk *disk)
{
    (void)pthread_mutex_lock(&disk->mutex);
    disk->trace_text = simdisk_grow(disk->trace_text, &disk->trace_capacity, 1, 1);
    disk->trace_text[0] = 0;
    disk->trace_size = 0;
    disk->trace = disk->trace_text;
    (void)pthread_mutex_unlock(&disk->mutex);
}

/* ---- The disk from outside ------------------------------------------------------- */

static uint32_t directory_of(const struct simdisk *disk, const char *name,
                             const char **ret_base)
{
    const char *slash = strchr(name, '/');
    char directory[SIMDISK_NAME_SIZE_MAX + 1];
    const struct entry *e;

    *ret_base = name;
    if (slash == NULL || (size_t)(slash - name) > SIMDISK_NAME_SIZE_MAX)
        return ROOT;
    memcpy(directory, name, (size_t)(slash - name));
    directory[slash - name] = 0;
    e = simdisk_find_entry(&disk->directories[ROOT].now, directory);
    if (e == NULL || !e->is_directory)
        return ROOT;
    *ret_base = slash + 1;
    return e->target;
}

static struct simdisk_inode *inode_named(const struct simdisk *disk, const char *name)
{
    const char *base;
    const uint32_t directory = directory_of(disk, name, &base);
    const struct entry *e = simdisk_find_entry(&disk->directories[directory].now, base);

    return e == NULL || e->is_directory ? NULL : &disk->inodes[e->target];
}

int64_t simdisk_file_size(const struct simdisk *disk, const char *name)
{
    const struct simdisk_inode *inode;
    int64_t size = -ENOENT;

    (void)pthread_mutex_lock(mutex_of(disk));
    inode = inode_named(disk, name);
    if (inode != NULL)
        size = (int64_t)inode->size;
    (void)pthread_mutex_unlock(mutex_of(disk));
    return size;
}

int64_t simdisk_file_read(const struct simdisk *disk, const char *name, void *buffer,
                          size_t size, uint64_t offset)
{
    const struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(mutex_of(disk));
    inode = inode_named(disk, name);
    if (inode != NULL)
        n = offset >= inode->size ? 0 : (int64_t)min_u64(size, inode->size - offset);
    if (n > 0)
        memcpy(buffer, inode->content + offset, (size_t)n);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return n;
}

static struct simdisk_inode *plant(struct simdisk *disk, const char *name)
{
    struct simdisk_inode *inode = inode_named(disk, name);
    const char *base;
    uint32_t directory, target;

    if (inode != NULL)
        return inode;
    directory = directory_of(disk, name, &base);
    if (strlen(base) > SIMDISK_NAME_SIZE_MAX || strchr(base, '/') != NULL)
        return NULL;
    target = simdisk_add_inode(disk, base);
    simdisk_set_entry(&disk->directories[directory].now, base, target, false);
    simdisk_set_entry(&disk->directories[directory].durable, base, target, false);
    return &disk->inodes[target];
}

int64_t simdisk_file_write(struct simdisk *disk, const char *name, const void *data,
                           size_t size, uint64_t offset)
{
    struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    inode = plant(disk, name);
    if (inode != NULL)
        n = simdisk_reserve_content(inode, offset + size);
    if (inode != NULL && n == 0) {
        simdisk_settle_inode(disk, inode_index(disk, inode));
        simdisk_put_bytes(disk, inode, data, size, offset);
        simdisk_clean_all_pages(inode);
        n = (int64_t)size;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return n;
}

int64_t simdisk_file_truncate(struct simdisk *disk, const char *name, uint64_t size)
{
    struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    inode = inode_named(disk, name);
    if (inode != NULL)
        n = simdisk_reserve_content(inode, size);
    if (inode != NULL && n == 0) {
        simdisk_settle_inode(disk, inode_index(disk, inode));
        simdisk_set_size(disk, inode, size);
        simdisk_clean_all_pages(inode);
        n = (int64_t)size;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return n;
}

int64_t simdisk_file_unlink(struct simdisk *disk, const char *name)
{
    int64_t rc = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    if (inode_named(disk, name) != NULL) {
        const char *base;
        const uint32_t directory = directory_of(disk, name, &base);
        simdisk_remove_entry(&disk->directories[directory].now, base);
        simdisk_remove_entry(&disk->directories[directory].durable, base);
        simdisk_reclaim(disk);
        rc = 0;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return rc;
}

static void list_directory(const struct simdisk *disk, uint32_t directory,
                           tkv_os_name_fn *fn, void *context)
{
    const struct simdisk_directory *d = &disk->directories[directory];
    char path[2 * (SIMDISK_NAME_SIZE_MAX + 1)];

    for (size_t i = 0; i < d->now.count; i++) {
        const struct entry *e = &d->now.items[i];
        if (e->is_directory) {
            list_directory(disk, e->target, fn, context);
            continue;
        }
        (void)snprintf(path, sizeof path, "%s%s%s", d->name, d->name[0] != 0 ? "/" : "",
                       e->name);
        fn(context, path);
    }
}

void simdisk_list(const struct simdisk *disk, tkv_os_name_fn *fn, void *context)
{
    list_directory(disk, ROOT, fn, context);
}
