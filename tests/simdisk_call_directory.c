/* SPDX-License-Identifier: MIT */
/*
 * simdisk_call_directory.c - the table's calls on directories.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int simdisk_call_open_dir(struct tkv_os *os, const char *path, bool create)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_OPEN_DIR);

    (void)path;
    if (rc == 0 && disk->root_is_missing && !create)
        rc = -ENOENT;
    if (rc == 0) {
        disk->root_is_missing = false;
        rc = simdisk_add_handle(
            disk, (struct simdisk_handle){.is_directory = true, .target = ROOT});
    }
    return simdisk_leave(disk, rc);
}

static int open_dir_at(struct simdisk *disk, int dir, const char *name, bool create)
{
    const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
    struct simdisk_pending p = {.kind = LINK, .is_directory = true};
    const struct entry *e;

    if (d == NULL)
        return -EBADF;
    e = simdisk_find_entry(&d->now, name);
    if (e != NULL && !e->is_directory)
        return -ENOTDIR;
    if (e == NULL && !create)
        return -ENOENT;
    if (e == NULL && strlen(name) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (e == NULL && disk->is_read_only)
        return -EROFS;
    if (e != NULL)
        p.target = e->target;
    if (e == NULL) {
        p.directory = directory_index(disk, d);
        p.target = simdisk_add_directory(disk, name);
        simdisk_change_entry(disk, p, name, NULL);
        simdisk_note(disk, "mkdir %s\n", name);
    }
    return simdisk_add_handle(
        disk, (struct simdisk_handle){.is_directory = true, .target = p.target});
}

int simdisk_call_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_OPEN_DIR);

    if (rc == 0)
        rc = open_dir_at(disk, dir, name, create);
    return simdisk_leave(disk, rc);
}

static int sync_dir(struct simdisk *disk, int dir)
{
    struct simdisk_directory *d = simdisk_find_directory(disk, dir);

    if (d == NULL)
        return -EBADF;
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) && p->directory == directory_index(disk, d))
            simdisk_forget(disk, p);
    }
    simdisk_sweep(disk);
    simdisk_copy_entries(&d->durable, &d->now);
    simdisk_note(disk, "sync-dir%s%s\n", d->name[0] != 0 ? " " : "", d->name);
    simdisk_reclaim(disk);
    return 0;
}

int simdisk_call_sync_dir(struct tkv_os *os, int dir)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_SYNC_DIR);

    if (rc == 0)
        rc = sync_dir(disk, dir);
    return simdisk_leave(disk, rc);
}

int simdisk_call_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_LIST);
    struct entries entries = {NULL, 0, 0};

    if (rc == 0) {
        const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
        if (d == NULL)
            rc = -EBADF;
        else
            simdisk_copy_entries(&entries, &d->now);
    }
    (void)simdisk_leave(disk, rc);
    /* `fn` may well call the table, to remove the file it was told of. */
    for (size_t i = 0; i < entries.count; i++)
        fn(context, entries.items[i].name);
    free(entries.items);
    return rc;
}

static int rename_entry(struct simdisk *disk, int dir, const char *from, const char *to)
{
    const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
    struct simdisk_pending p = {.kind = RENAME};
    const struct entry *e, *replaced;

    if (d == NULL)
        return -EBADF;
    e = simdisk_find_entry(&d->now, from);
    if (e == NULL)
        return -ENOENT;
    if (strlen(to) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    replaced = simdisk_find_entry(&d->now, to);
    if (replaced != NULL && (replaced->is_directory || e->is_directory))
        return -EISDIR;
    if (disk->is_read_only)
        return -EROFS;
    p.directory = directory_index(disk, d);
    p.target = e->target;
    p.is_directory = e->is_directory;
    if (!p.is_directory) {
        const struct simdisk_inode *inode = &disk->inodes[p.target];
        /* Doomed units are those of a sync that failed, or will say so later. */
        if (strcmp(to, "MANIFEST") == 0 &&
            inode->pending_count > (inode->sync_failed ? 0 : inode->doomed_count))
            simdisk_violated(disk, "%s is renamed to %s before it is synced", from, to);
        strcpy(disk->inodes[p.target].name, to);
    }
    simdisk_note(disk, "rename %s %s\n", from, to);
    if (strcmp(from, to) != 0)
        simdisk_change_entry(disk, p, from, to);
    simdisk_reclaim(disk);
    return 0;
}

int simdisk_call_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_RENAME);

    if (rc == 0)
        rc = rename_entry(disk, dir, from, to);
    else if (!disk->crashed && disk->failed_rename_happens)
        (void)rename_entry(disk, dir, from, to);
    return simdisk_leave(disk, rc);
}

static int unlink_entry(struct simdisk *disk, int dir, const char *name)
{
    const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
    struct simdisk_pending p = {.kind = UNLINK};
    const struct entry *e;

    if (d == NULL)
        return -EBADF;
    e = simdisk_find_entry(&d->now, name);
    if (e == NULL)
        return -ENOENT;
    if (e->is_directory)
        return -EISDIR;
    if (disk->is_read_only)
        return -EROFS;
    p.directory = directory_index(disk, d);
    simdisk_note(disk, "unlink %s\n", name);
    simdisk_change_entry(disk, p, name, NULL);
    simdisk_reclaim(disk);
    return 0;
}

int simdisk_call_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_UNLINK);

    if (rc == 0)
        rc = unlink_entry(disk, dir, name);
    return simdisk_leave(disk, rc);
}

int simdisk_call_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_FS_INFO);

    if (rc == 0 && simdisk_find_directory(disk, dir) == NULL)
        rc = -EBADF;
    if (rc == 0) {
        *ret_info = (struct tkv_os_fs_info){
            .free_bytes = simdisk_free_bytes(disk),
            .total_bytes = disk->capacity,
            .is_remote = disk->is_remote,
            .is_read_only = disk->is_read_only,
        };
    }
    return simdisk_leave(disk, rc);
}
