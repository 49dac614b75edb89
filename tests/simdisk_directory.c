/* SPDX-License-Identifier: MIT */
/*
 * simdisk_directory.c - names on the simulated disk: directories as they are and as they are
 * durable, the inodes that they name, and handles.
 */
#include "simdisk_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Directories ----------------------------------------------------------------- */

struct entry *simdisk_find_entry(const struct entries *entries, const char *name)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].name, name) == 0)
            return &entries->items[i];
    }
    return NULL;
}

void simdisk_remove_entry(struct entries *entries, const char *name)
{
    struct entry *found = simdisk_find_entry(entries, name);

    if (found != NULL)
        *found = entries->items[--entries->count];
}

void simdisk_set_entry(struct entries *entries, const char *name, uint32_t target,
                       bool is_directory)
{
    struct entry *e = simdisk_find_entry(entries, name);

    if (e == NULL) {
        entries->items =
            simdisk_grow(entries->items, &entries->capacity, entries->count + 1, sizeof *e);
        e = &entries->items[entries->count++];
        memset(e, 0, sizeof *e);
        strcpy(e->name, name);
    }
    e->target = target;
    e->is_directory = is_directory;
}

void simdisk_copy_entries(struct entries *to, const struct entries *from)
{
    to->items = simdisk_grow(to->items, &to->capacity, from->count, sizeof *to->items);
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
    to->count = from->count;
}

void simdisk_apply_entry_operation(struct entries *entries, const struct simdisk_pending *p,
                                   const char *names)
{
    if (p->kind == LINK) {
        simdisk_set_entry(entries, names, p->target, p->is_directory);
    } else if (p->kind == UNLINK) {
        simdisk_remove_entry(entries, names);
    } else {
        simdisk_remove_entry(entries, names);
        simdisk_set_entry(entries, names + strlen(names) + 1, p->target, p->is_directory);
    }
}

void simdisk_change_entry(struct simdisk *disk, struct simdisk_pending p, const char *from,
                          const char *to)
{
    char names[2 * (SIMDISK_NAME_SIZE_MAX + 1)];

    strcpy(names, from);
    p.size = (uint32_t)strlen(from) + 1;
    if (to != NULL) {
        strcpy(names + p.size, to);
        p.size += (uint32_t)strlen(to) + 1;
    }
    simdisk_apply_entry_operation(&disk->directories[p.directory].now, &p, names);
    simdisk_add_pending(disk, p, names);
}

uint32_t simdisk_add_inode(struct simdisk *disk, const char *name)
{
    size_t i = 0;

    while (i < disk->inode_count && disk->inodes[i].in_use)
        i++;
    if (i == disk->inode_count) {
        disk->inodes = simdisk_grow(disk->inodes, &disk->inode_capacity,
                                    ++disk->inode_count, sizeof *disk->inodes);
    }
    memset(&disk->inodes[i], 0, sizeof disk->inodes[i]);
    disk->inodes[i].in_use = true;
    strcpy(disk->inodes[i].name, name);
    return (uint32_t)i;
}

uint32_t simdisk_add_directory(struct simdisk *disk, const char *name)
{
    struct simdisk_directory *d;

    disk->directories = simdisk_grow(disk->directories, &disk->directory_capacity,
                                     disk->directory_count + 1, sizeof *disk->directories);
    d = &disk->directories[disk->directory_count];
    memset(d, 0, sizeof *d);
    strcpy(d->name, name);
    return (uint32_t)disk->directory_count++;
}

void simdisk_release_inode(struct simdisk *disk, struct simdisk_inode *inode)
{
    simdisk_set_size(disk, inode, 0);
    simdisk_release_content(inode);
    free(inode->dirty);
    free(inode->saved);
    free(inode->dirty_at);
    free(inode->page_hashes);
    memset(inode, 0, sizeof *inode);
}

static void mark_entries(const struct entries *entries, bool *reachable)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (!entries->items[i].is_directory)
            reachable[entries->items[i].target] = true;
    }
}

/* Files that have a name, or may get one back by a power cut. Caller frees. */
bool *simdisk_named_inodes(const struct simdisk *disk)
{
    bool *reachable = simdisk_checked(calloc(disk->inode_count + 1, sizeof *reachable));

    for (size_t i = 0; i < disk->directory_count; i++) {
        mark_entries(&disk->directories[i].now, reachable);
        mark_entries(&disk->directories[i].durable, reachable);
    }
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if ((p->kind == LINK || p->kind == RENAME) && !p->is_directory)
            reachable[p->target] = true;
    }
    return reachable;
}

/* Give back the space of files that nobody can reach any more. */
void simdisk_reclaim(struct simdisk *disk)
{
    bool *reachable = simdisk_named_inodes(disk);

    for (size_t i = 0; i < disk->inode_count; i++) {
        struct simdisk_inode *inode = &disk->inodes[i];
        if (!inode->in_use || reachable[i] || inode->handle_count > 0 ||
            inode->mapping_count > 0)
            continue;
        inode->doomed_count = 0;
        for (size_t k = 0; inode->pending_count > 0 && k < disk->pending_count; k++) {
            if (is_data(&disk->pending[k]) && disk->pending[k].target == i) {
                disk->pending[k].doomed = false;
                simdisk_forget(disk, &disk->pending[k]);
            }
        }
        simdisk_sweep(disk);
        simdisk_release_inode(disk, inode);
    }
    free(reachable);
}

/* ---- Handles --------------------------------------------------------------------- */

int simdisk_add_handle(struct simdisk *disk, struct simdisk_handle handle)
{
    size_t i = 0;

    while (i < disk->handle_count && disk->handles[i].in_use)
        i++;
    if (i == disk->handle_count) {
        disk->handles = simdisk_grow(disk->handles, &disk->handle_capacity,
                                     ++disk->handle_count, sizeof *disk->handles);
    }
    handle.in_use = true;
    disk->handles[i] = handle;
    if (!handle.is_directory)
        disk->inodes[handle.target].handle_count++;
    return (int)i + FIRST_HANDLE;
}

struct simdisk_handle *simdisk_find_handle(struct simdisk *disk, int fd, bool is_directory)
{
    const size_t i = (size_t)fd - FIRST_HANDLE;

    if (fd < FIRST_HANDLE || i >= disk->handle_count || !disk->handles[i].in_use) {
        simdisk_violated(disk, "descriptor %d is used but not open", fd);
        return NULL;
    }
    if (disk->handles[i].is_directory != is_directory) {
        simdisk_violated(disk, "descriptor %d is %s", fd,
                         is_directory ? "a file" : "a directory");
        return NULL;
    }
    return &disk->handles[i];
}

struct simdisk_directory *simdisk_find_directory(struct simdisk *disk, int fd)
{
    const struct simdisk_handle *h = simdisk_find_handle(disk, fd, true);

    return h == NULL ? NULL : &disk->directories[h->target];
}

struct simdisk_inode *simdisk_find_inode(struct simdisk *disk, int fd)
{
    const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);

    return h == NULL ? NULL : &disk->inodes[h->target];
}
