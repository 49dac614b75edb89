/* SPDX-License-Identifier: MIT */
/*
 * simdisk_call_file.c - the table's calls on files.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int truncate_inode(struct simdisk *disk, uint32_t target, uint64_t size)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = {.kind = TRUNCATE, .target = target, .file_size = size};
    int rc;

    if (size == inode->size)
        return 0;
    if (size > inode->size &&
        tkv_round_up(size, SIMDISK_PAGE) - tkv_round_up(inode->size, SIMDISK_PAGE) >
            simdisk_free_bytes(disk))
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

/* How much of a write fits: a full disk takes what it has room for. */
static uint64_t room_for(const struct simdisk *disk, const struct simdisk_inode *inode,
                         uint64_t offset, uint64_t size)
{
    const uint64_t end = tkv_round_up(inode->size, SIMDISK_PAGE) +
                         simdisk_free_bytes(disk) / SIMDISK_PAGE * SIMDISK_PAGE;

    return offset >= end ? 0 : min_u64(size, end - offset);
}

/* A full disk has given what it had when it says so. */
static int allocate_inode(struct simdisk *disk, uint32_t target, uint64_t size)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = {.kind = GROW, .target = target};
    int rc;

    if (disk->no_allocation)
        return -EOPNOTSUPP;
    if (size <= inode->size)
        return 0;
    p.file_size = inode->size + room_for(disk, inode, inode->size, size - inode->size);
    rc = simdisk_reserve_content(inode, p.file_size);
    if (rc < 0)
        return rc;
    simdisk_set_size(disk, inode, p.file_size);
    simdisk_add_pending(disk, p, NULL);
    return p.file_size < size ? -ENOSPC : 0;
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

int simdisk_call_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_OPEN);

    if (rc == 0)
        rc = open_file(disk, dir, name, flags);
    return simdisk_leave(disk, rc);
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
int simdisk_call_close(struct tkv_os *os, int fd)
{
    struct simdisk *disk = simdisk_of(os);
    const int rc = simdisk_enter(disk, SIMDISK_CLOSE);

    close_handle(disk, fd);
    return simdisk_leave(disk, rc);
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

int64_t simdisk_call_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                          uint64_t offset)
{
    struct simdisk *disk = simdisk_of(os);
    int64_t n = simdisk_enter(disk, SIMDISK_READ);

    if (n == 0)
        n = read_file(disk, fd, buffer, size, offset);
    (void)simdisk_leave(disk, 0);
    return n;
}

/* A write to the cache; `seen` of its bytes, the others were cut off by the crash. */
void simdisk_write_cached(struct simdisk *disk, uint32_t target, const void *data,
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
        simdisk_write_cached(disk, h->target, data, size, offset,
                             min_u64(size, disk->crash_cut));
        return -EIO;
    }
    if (direct)
        write_direct(disk, h->target, data, size, offset);
    else
        simdisk_write_cached(disk, h->target, data, size, offset, size);
    simdisk_note(disk, "write%s %s %llu %zu\n", direct ? "-sync" : "",
                 disk->inodes[h->target].name, (unsigned long long)offset, size);
    return (int64_t)size;
}

int64_t simdisk_call_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    struct simdisk *disk = simdisk_of(os);
    bool cut;
    int64_t n = simdisk_enter_cut(disk, SIMDISK_WRITE, &cut);

    if (n == 0 || cut)
        n = write_file(disk, fd, data, size, offset, cut);
    (void)simdisk_leave(disk, 0);
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

int simdisk_call_sync(struct tkv_os *os, int fd)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_SYNC);

    if (!disk->crashed)
        rc = sync_file(disk, fd, rc);
    return simdisk_leave(disk, rc);
}

int simdisk_call_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_TRUNCATE);

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
    return simdisk_leave(disk, rc);
}

int simdisk_call_allocate(struct tkv_os *os, int fd, uint64_t size)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_ALLOCATE);

    if (rc == 0) {
        const struct simdisk_handle *h = simdisk_find_handle(disk, fd, false);
        rc = h == NULL || !(h->flags & TKV_OS_WRITE)
                 ? -EBADF
                 : allocate_inode(disk, h->target, size);
        if (rc == 0) {
            simdisk_note(disk, "allocate %s %llu\n", disk->inodes[h->target].name,
                         (unsigned long long)size);
        }
    }
    return simdisk_leave(disk, rc);
}

int simdisk_call_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_FILE_SIZE);

    if (rc == 0) {
        const struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode != NULL)
            *ret_size = inode->size;
        else
            rc = -EBADF;
    }
    return simdisk_leave(disk, rc);
}

static int begin_write_back(struct simdisk *disk, int fd, int fault)
{
    struct simdisk_inode *inode = simdisk_find_inode(disk, fd);

    if (inode == NULL)
        return -EBADF;
    if (fault == -EIO || fault == -ENOSPC || fault == -EDQUOT)
        simdisk_fail_sync(disk, inode_index(disk, inode));
    return fault;
}

int simdisk_call_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    struct simdisk *disk = simdisk_of(os);
    const bool is_write_back = advice == TKV_OS_WRITE_BACK;
    int rc = simdisk_enter(disk, is_write_back ? SIMDISK_WRITE_BACK : SIMDISK_ADVISE);

    if (is_write_back && !disk->crashed)
        rc = begin_write_back(disk, fd, rc);

    if (rc == 0) {
        struct simdisk_inode *inode = simdisk_find_inode(disk, fd);
        if (inode == NULL)
            rc = -EBADF;
        else if (advice == TKV_OS_DROP_CACHE && disk->drops_cache)
            simdisk_drop_cache(disk, inode_index(disk, inode));
    }
    return simdisk_leave(disk, rc);
}
