/* SPDX-License-Identifier: MIT */
/*
 * simdisk.c - the simulated disk as a table of system calls: the gate that every call passes
 * (counting, faults, the crash), and the table's functions. Each takes the disk's mutex.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The gate -------------------------------------------------------------------- */

static struct simdisk *disk_of(struct tkv_os *os)
{
    return (struct simdisk *)(void *)os;
}

static bool is_fault(struct simdisk *disk, enum simdisk_call call)
{
    if ((disk->fail_kinds & (unsigned)call) == 0)
        return false;
    disk->fail_count++;
    if (disk->fail_at == 0 || disk->fail_count < disk->fail_at)
        return false;
    return disk->fail_count == disk->fail_at || disk->fail_sticky;
}

static bool is_crash(struct simdisk *disk, enum simdisk_call call)
{
    if ((disk->crash_kinds & (unsigned)call) == 0)
        return false;
    return ++disk->crash_count == disk->crash_at;
}

/* Take the mutex; 0, or how the call fails. *ret_cut: the crash came in this very call. */
static int enter_cut(struct simdisk *disk, enum simdisk_call call, bool *ret_cut)
{
    *ret_cut = false;
    if (disk->before_call != NULL)
        disk->before_call(disk, call);
    (void)pthread_mutex_lock(&disk->mutex);
    disk->calls++;
    if (disk->crashed)
        return call == SIMDISK_CLOCK || call == SIMDISK_RANDOM_BYTES ? 0 : -EIO;
    if (is_crash(disk, call)) {
        disk->crashed = true;
        *ret_cut = true;
        return -EIO;
    }
    if (is_fault(disk, call)) {
        disk->faults++;
        return -disk->fail_errno;
    }
    return 0;
}

static int enter(struct simdisk *disk, enum simdisk_call call)
{
    bool cut;

    return enter_cut(disk, call, &cut);
}

static int leave(struct simdisk *disk, int rc)
{
    (void)pthread_mutex_unlock(&disk->mutex);
    return rc;
}

/* ---- The table: directories ------------------------------------------------------ */

static int sim_open_dir(struct tkv_os *os, const char *path, bool create)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN_DIR);

    (void)path;
    if (rc == 0 && disk->root_is_missing && !create)
        rc = -ENOENT;
    if (rc == 0) {
        disk->root_is_missing = false;
        rc = simdisk_add_handle(
            disk, (struct simdisk_handle){.is_directory = true, .target = ROOT});
    }
    return leave(disk, rc);
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

static int sim_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN_DIR);

    if (rc == 0)
        rc = open_dir_at(disk, dir, name, create);
    return leave(disk, rc);
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

static int sim_sync_dir(struct tkv_os *os, int dir)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_SYNC_DIR);

    if (rc == 0)
        rc = sync_dir(disk, dir);
    return leave(disk, rc);
}

static int sim_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_LIST);
    struct entries entries = {NULL, 0, 0};

    if (rc == 0) {
        const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
        if (d == NULL)
            rc = -EBADF;
        else
            simdisk_copy_entries(&entries, &d->now);
    }
    (void)leave(disk, rc);
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

static int sim_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_RENAME);

    if (rc == 0)
        rc = rename_entry(disk, dir, from, to);
    else if (!disk->crashed && disk->failed_rename_happens)
        (void)rename_entry(disk, dir, from, to);
    return leave(disk, rc);
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

static int sim_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_UNLINK);

    if (rc == 0)
        rc = unlink_entry(disk, dir, name);
    return leave(disk, rc);
}

static uint64_t free_bytes(const struct simdisk *disk)
{
    return disk->capacity > disk->used_bytes ? disk->capacity - disk->used_bytes : 0;
}

static int sim_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_FS_INFO);

    if (rc == 0 && simdisk_find_directory(disk, dir) == NULL)
        rc = -EBADF;
    if (rc == 0) {
        *ret_info = (struct tkv_os_fs_info){
            .free_bytes = free_bytes(disk),
            .total_bytes = disk->capacity,
            .is_remote = disk->is_remote,
            .is_read_only = disk->is_read_only,
        };
    }
    return leave(disk, rc);
}

/* ---- The table: files ------------------------------------------------------------ */

static int truncate_inode(struct simdisk *disk, uint32_t target, uint64_t size)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = {.kind = TRUNCATE, .target = target, .file_size = size};
    int rc;

    if (size == inode->size)
        return 0;
    if (size > inode->size &&
        tkv_round_up(size, SIMDISK_PAGE) - tkv_round_up(inode->size, SIMDISK_PAGE) >
            free_bytes(disk))
        return -ENOSPC;
    rc = simdisk_reserve_content(inode, size);
    if (rc < 0)
        return rc;
    if (size < inode->size)
        simdisk_save_pages(inode, size, inode->size);
    simdisk_set_size(disk, inode, size);
    simdisk_add_pending(disk, p, NULL);
    return 0;
}

static int check_open(const struct simdisk *disk, const struct entry *e, const char *name,
                      unsigned flags)
{
    if (strlen(name) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (e != NULL && e->is_directory)
        return -EINVAL;
    if (e != NULL && flags & TKV_OS_EXCLUSIVE)
        return -EEXIST;
    if (e == NULL && !(flags & TKV_OS_CREATE))
        return -ENOENT;
    if (disk->is_read_only && (e == NULL || flags & (TKV_OS_WRITE | TKV_OS_TRUNCATE)))
        return -EROFS;
    if (disk->no_direct_sync && flags & TKV_OS_DIRECT_SYNC)
        return -EINVAL;
    return 0;
}

static int open_file(struct simdisk *disk, int dir, const char *name, unsigned flags)
{
    const struct simdisk_directory *d = simdisk_find_directory(disk, dir);
    struct simdisk_pending p = {.kind = LINK};
    const struct entry *e;
    int rc;

    if (d == NULL)
        return -EBADF;
    e = simdisk_find_entry(&d->now, name);
    rc = check_open(disk, e, name, flags);
    if (rc < 0)
        return rc;
    p.directory = directory_index(disk, d);
    p.target = e != NULL ? e->target : simdisk_add_inode(disk, name);
    if (e == NULL) {
        simdisk_change_entry(disk, p, name, NULL);
        simdisk_note(disk, "create %s\n", name);
    } else if (flags & TKV_OS_TRUNCATE && disk->inodes[p.target].size > 0) {
        (void)truncate_inode(disk, p.target, 0);
        simdisk_note(disk, "truncate %s 0\n", name);
    }
    return simdisk_add_handle(disk,
                              (struct simdisk_handle){.flags = flags, .target = p.target});
}

static int sim_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN);

    if (rc == 0)
        rc = open_file(disk, dir, name, flags);
    return leave(disk, rc);
}

static void close_handle(struct simdisk *disk, int fd)
{
    struct simdisk_handle *h;
    const size_t i = (size_t)fd - FIRST_HANDLE;

    if (fd < FIRST_HANDLE || i >= disk->handle_count || !disk->handles[i].in_use) {
        simdisk_violated(disk, "descriptor %d is closed but not open", fd);
        return;
    }
    h = &disk->handles[i];
    h->in_use = false;
    /* The store is closed. Whoever opens it next has read the files again. */
    for (size_t k = 0; h->locked && k < disk->inode_count; k++)
        disk->inodes[k].sync_failed = false;
    if (!h->is_directory && --disk->inodes[h->target].handle_count == 0)
        simdisk_reclaim(disk);
}

/* A close that fails has closed all the same. */
static int sim_close(struct tkv_os *os, int fd)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOSE);

    close_handle(disk, fd);
    return leave(disk, rc);
}

static size_t io_size(const struct simdisk *disk, size_t size, bool direct)
{
    const size_t limit =
        direct ? disk->io_size_max / SIMDISK_PAGE * SIMDISK_PAGE : disk->io_size_max;

    return limit == 0 || size < limit ? size : limit;
}

static bool is_aligned(const void *buffer, size_t size, uint64_t offset)
{
    return ((uintptr_t)buffer | size | offset) % SIMDISK_PAGE == 0;
}

static int64_t read_file(struct simdisk *disk, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);
    const struct simdisk_inode *inode;

    if (h == NULL)
        return -EBADF;
    if (h->flags & TKV_OS_DIRECT_SYNC && !is_aligned(buffer, size, offset))
        return -EINVAL; /* O_DIRECT is for reads as well */
    inode = &disk->inodes[h->target];
    if (offset >= inode->size)
        return 0;
    size = io_size(disk, size, h->flags & TKV_OS_DIRECT_SYNC);
    size = min_u64(size, inode->size - offset);
    memcpy(buffer, inode->content + offset, size);
    simdisk_patch_stale(disk, h->target, buffer, size, offset);
    return (int64_t)size;
}

static int64_t sim_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                        uint64_t offset)
{
    struct simdisk *disk = disk_of(os);
    int64_t n = enter(disk, SIMDISK_READ);

    if (n == 0)
        n = read_file(disk, fd, buffer, size, offset);
    (void)leave(disk, 0);
    return n;
}

/* How much of a write fits: a full disk takes what it has room for. */
static uint64_t room_for(const struct simdisk *disk, const struct simdisk_inode *inode,
                         uint64_t offset, uint64_t size)
{
    const uint64_t end = tkv_round_up(inode->size, SIMDISK_PAGE) +
                         free_bytes(disk) / SIMDISK_PAGE * SIMDISK_PAGE;

    return offset >= end ? 0 : min_u64(size, end - offset);
}

/* A write to the cache; `seen` of its bytes, the others were cut off by the crash. */
static void write_cached(struct simdisk *disk, uint32_t target, const void *data,
                         size_t size, uint64_t offset, size_t seen)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    const uint64_t end = offset + size;
    struct simdisk_pending whole = {
        .in_flight = seen<size, .offset = offset, .size = (uint32_t)size,
                          .seen = (uint32_t)seen, .file_size = end>
                             inode->size
                         ? end
                         : 0,
    };

    /* All of it, seen or not: survivors look up every page of a pending unit. */
    simdisk_save_pages(inode, offset, end);
    simdisk_put_bytes(disk, inode, data, seen, offset);
    simdisk_add_pending_write(disk, target, &whole, data);
}

static void write_direct(struct simdisk *disk, uint32_t target, const void *data,
                         size_t size, uint64_t offset)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    simdisk_settle_pages(disk, target, offset, offset + size);
    simdisk_put_bytes(disk, inode, data, size, offset);
    inode->durable_size = max_u64(inode->durable_size, offset + size);
}

static int64_t write_file(struct simdisk *disk, int fd, const void *data, size_t size,
                          uint64_t offset, bool cut)
{
    const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);
    bool direct;
    int rc;

    if (h == NULL || !(h->flags & TKV_OS_WRITE))
        return -EBADF;
    direct = h->flags & TKV_OS_DIRECT_SYNC;
    if (direct && !is_aligned(data, size, offset)) {
        simdisk_violated(disk, "misaligned direct write to %s: %zu bytes at %llu from %p",
                         disk->inodes[h->target].name, size, (unsigned long long)offset,
                         data);
        return -EINVAL;
    }
    size = io_size(disk, min_u64(size, 1u << 30), direct);
    if (size == 0)
        return 0;
    if (room_for(disk, &disk->inodes[h->target], offset, size) == 0)
        return -ENOSPC;
    size = room_for(disk, &disk->inodes[h->target], offset, size);
    rc = simdisk_reserve_content(&disk->inodes[h->target], offset + size);
    if (rc < 0)
        return rc;
    simdisk_end_stale(disk, h->target, offset, size);
    if (cut) {
        disk->crashed_size = size;
        write_cached(disk, h->target, data, size, offset, min_u64(size, disk->crash_cut));
        return -EIO;
    }
    if (direct)
        write_direct(disk, h->target, data, size, offset);
    else
        write_cached(disk, h->target, data, size, offset, size);
    simdisk_note(disk, "write%s %s %llu %zu\n", direct ? "-sync" : "",
                 disk->inodes[h->target].name, (unsigned long long)offset, size);
    return (int64_t)size;
}

static int64_t sim_write(struct tkv_os *os, int fd, const void *data, size_t size,
                         uint64_t offset)
{
    struct simdisk *disk = disk_of(os);
    bool cut;
    int64_t n = enter_cut(disk, SIMDISK_WRITE, &cut);

    if (n == 0 || cut)
        n = write_file(disk, fd, data, size, offset, cut);
    (void)leave(disk, 0);
    return cut ? -EIO : n;
}

static int sync_file(struct simdisk *disk, int fd, int fault)
{
    struct simdisk_inode *inode = simdisk_find_inode(disk, fd);

    if (inode == NULL)
        return -EBADF;
    if (inode->sync_failed)
        simdisk_violated(disk, "%s is synced again after a failed sync", inode->name);
    if (fault == 0 && inode->late_error != 0) {
        fault = inode->late_error;
        inode->late_error = 0;
    } else if (fault < 0 && disk->failed_sync_is_late) {
        simdisk_fail_sync(disk, inode_index(disk, inode));
        inode->sync_failed = false; /* nobody knows yet */
        inode->late_error = fault;
        return 0;
    }
    if (fault < 0) {
        simdisk_fail_sync(disk, inode_index(disk, inode));
        return fault;
    }
    simdisk_settle_inode(disk, inode_index(disk, inode));
    simdisk_note(disk, "sync %s\n", inode->name);
    return 0;
}

static int sim_sync(struct tkv_os *os, int fd)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_SYNC);

    if (!disk->crashed)
        rc = sync_file(disk, fd, rc);
    return leave(disk, rc);
}

static int sim_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_TRUNCATE);

    if (rc == 0) {
        const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);
        rc = h == NULL || !(h->flags & TKV_OS_WRITE)
                 ? -EBADF
                 : truncate_inode(disk, h->target, size);
        if (rc == 0) {
            simdisk_note(disk, "truncate %s %llu\n", disk->inodes[h->target].name,
                         (unsigned long long)size);
        }
    }
    return leave(disk, rc);
}

static int sim_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_FILE_SIZE);

    if (rc == 0) {
        const struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode != NULL)
            *ret_size = inode->size;
        else
            rc = -EBADF;
    }
    return leave(disk, rc);
}

static int sim_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_ADVISE);

    if (rc == 0) {
        struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode == NULL)
            rc = -EBADF;
        else if (advice == TKV_OS_DROP_CACHE && disk->drops_cache)
            simdisk_drop_cache(disk, inode_index(disk, inode));
    }
    return leave(disk, rc);
}

/* ---- The table: mappings --------------------------------------------------------- */

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

static int sim_map(struct tkv_os *os, int fd, size_t size, bool writable,
                   void **ret_address)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_MAP);

    if (rc == 0)
        rc = map_file(disk, fd, size, writable, ret_address);
    return leave(disk, rc);
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

static int sim_unmap(struct tkv_os *os, void *address, size_t size)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_UNMAP);

    unmap_file(disk, address, size);
    return leave(disk, rc);
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

static void sim_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                      const void *data, size_t size)
{
    struct simdisk *disk = disk_of(os);
    bool cut;
    const int rc = enter_cut(disk, SIMDISK_STORE, &cut);

    if (rc == 0 || cut) {
        const struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode != NULL && size > 0 && may_store(disk, inode, map, offset, size)) {
            if (cut)
                disk->crashed_size = size;
            else
                simdisk_note(disk, "store %s %llu %zu\n", inode->name,
                             (unsigned long long)offset, size);
            write_cached(disk, inode_index(disk, inode), data, size, offset,
                         cut ? min_u64(size, disk->crash_cut) : size);
        }
    }
    (void)leave(disk, rc);
}

/* ---- The table: locks, clocks, chance -------------------------------------------- */

static int lock_file(struct simdisk *disk, int dir, int fd, bool shared)
{
    const struct simdisk_handle *d = simdisk_find_handle(disk, dir, true);
    struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);

    if (d == NULL || h == NULL)
        return -EBADF;
    if (h->locked)
        return -EINVAL;
    for (size_t i = 0; i < disk->handle_count; i++) {
        const struct simdisk_handle *other = &disk->handles[i];
        if (other->in_use && other->locked && !(shared && other->locked_shared) &&
            (other->target == h->target || other->locked_directory == d->target))
            return -EWOULDBLOCK;
    }
    h->locked = true;
    h->locked_shared = shared;
    h->locked_directory = d->target;
    return 0;
}

static int sim_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_LOCK);

    if (rc == 0)
        rc = lock_file(disk, dir, fd, shared);
    return leave(disk, rc);
}

static int sim_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOCK);

    if (rc == 0)
        *ret_ms = disk->wall_ms;
    return leave(disk, rc);
}

static int sim_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOCK);

    if (rc == 0)
        *ret_us = ++disk->monotonic_us;
    return leave(disk, rc);
}

static int sim_random(struct tkv_os *os, void *buffer, size_t size)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_RANDOM_BYTES);

    if (rc == 0)
        simdisk_fill_random(&disk->random_state, buffer, size);
    return leave(disk, rc);
}

/* ---- Lifetime -------------------------------------------------------------------- */

static const struct tkv_os simdisk_os = {
    .open_dir = sim_open_dir,
    .open_dir_at = sim_open_dir_at,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .fs_info = sim_fs_info,
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .file_size = sim_file_size,
    .advise = sim_advise,
    .map = sim_map,
    .unmap = sim_unmap,
    .store = sim_store,
    .lock = sim_lock,
    .wall_clock_ms = sim_wall_clock_ms,
    .monotonic_us = sim_monotonic_us,
    .random = sim_random,
};

static void print_and_abort(struct simdisk *disk, const char *message)
{
    (void)disk;
    fprintf(stderr, "simdisk: %s\n", message);
    fflush(NULL);
    abort();
}

struct simdisk *simdisk_new_without_root(void)
{
    struct simdisk *disk = simdisk_checked(calloc(1, sizeof *disk));

    disk->os = simdisk_os;
    disk->capacity = (uint64_t)1 << 40;
    disk->wall_ms = 1700000000000u;
    disk->fail_kinds = SIMDISK_FALLIBLE;
    disk->fail_errno = EIO;
    disk->crash_kinds = SIMDISK_MUTATING;
    disk->violated = print_and_abort;
    disk->bytes = simdisk_grow(NULL, &disk->bytes_capacity, 1,
                               1); /* never NULL: others point into it */
    (void)pthread_mutex_init(&disk->mutex, NULL);
    return disk;
}

struct simdisk *simdisk_new(uint64_t seed)
{
    struct simdisk *disk = simdisk_new_without_root();

    disk->random_state = simdisk_mix(seed);
    (void)simdisk_add_directory(disk, "");
    return disk;
}

void simdisk_free(struct simdisk *disk)
{
    if (disk == NULL)
        return;
    for (size_t i = 0; i < disk->inode_count; i++)
        simdisk_release_inode(disk, &disk->inodes[i]);
    for (size_t i = 0; i < disk->directory_count; i++) {
        free(disk->directories[i].now.items);
        free(disk->directories[i].durable.items);
    }
    free(disk->inodes);
    free(disk->directories);
    free(disk->handles);
    free(disk->mappings);
    free(disk->pending);
    free(disk->stale);
    free(disk->bytes);
    free(disk->trace_text);
    (void)pthread_mutex_destroy(&disk->mutex);
    free(disk);
}
