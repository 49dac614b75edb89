/* SPDX-License-Identifier: MIT */
/*
 * watch.c - the simulated disk's table of calls, with a look at the disk before each call that
 * changes it, and with syncs that fail when a program asks for that.
 */
#include "explorer.h"

#include "chance.h"
#include "test.h"

#include <errno.h>

static struct explorer *explorer_of(struct tkv_os *os)
{
    return ((struct simdisk *)(void *)os)->context;
}

static const char *call_name(enum simdisk_call call)
{
    static const char *const names[] = {
        "open_dir",  "sync_dir", "list",       "rename",  "unlink", "fs_info",
        "open",      "close",    "read",       "write",   "sync",   "truncate",
        "file_size", "advise",   "map",        "unmap",   "store",  "lock",
        "clock",     "random",   "write_back", "allocate"};

    return names[__builtin_ctz((unsigned)call)];
}

static void note_call(struct explorer *e, uint64_t what)
{
    struct totals *totals = &e->tally->totals;

    totals->trace = mix(totals->trace ^ what);
}

static void watch_call(struct simdisk *disk, enum simdisk_call call)
{
    struct explorer *e = disk->context;

    note_call(e, (unsigned)call);
    if (e->busy || (call & SIMDISK_MUTATING) == 0 ||
        (call & (SIMDISK_WRITE | SIMDISK_STORE)) != 0 || disk->crashed)
        return;
    e->call = call_name(call);
    e->busy = true;
    derive_all(e);
    e->busy = false;
}

static void visit_write(struct explorer *e, const struct half_write *w, const char *name)
{
    if (w->size == 0 || w->fd < 0 || (unsigned)w->fd >= HANDLES_MAX || e->disk->crashed)
        return;
    note_call(e, w->offset ^ w->size << 40);
    silent_logged(e, w);
    if (e->busy)
        return;
    e->call = name;
    e->busy = true;
    derive_all(e);
    derive_half_writes(e, w);
    e->busy = false;
}

/* ---- Names of descriptors ---------------------------------------------------------------- */

static int watch_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open(os, dir, name, flags);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX) {
        snprintf(e->names[fd], sizeof e->names[fd], "%s", name);
        memmove(e->directories[fd], e->names[dir], sizeof e->directories[fd]);
        e->direct[fd] = (flags & TKV_OS_DIRECT_SYNC) != 0;
    }
    return fd;
}

static int watch_open_dir(struct tkv_os *os, const char *path, bool create)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open_dir(os, path, create);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX)
        e->names[fd][0] = 0;
    return fd;
}

static int watch_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open_dir_at(os, dir, name, create);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX)
        snprintf(e->names[fd], sizeof e->names[fd], "%s", name);
    return fd;
}

static int watch_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct explorer *e = explorer_of(os);
    const int result = e->real.rename(os, dir, from, to);

    for (unsigned fd = 0; fd < HANDLES_MAX && result == 0; fd++) {
        if (strcmp(e->names[fd], from) == 0)
            snprintf(e->names[fd], sizeof e->names[fd], "%s", to);
    }
    return result;
}

/* ---- Syncs that fail --------------------------------------------------------------------- */

/* True: this is the one. */
static bool is_fault(struct explorer *e)
{
    struct sync_fault *fault = &e->fault;

    if (e->depth > 0 || e->syncs++ + 1 != fault->at)
        return false;
    fault->happened = true;
    fault->durable_before = e->oracle->durable;
    return true;
}

static int watch_sync(struct tkv_os *os, int fd)
{
    struct explorer *e = explorer_of(os);
    struct simdisk *disk = e->disk;
    int result;

    if (!is_fault(e))
        return e->real.sync(os, fd);
    e->fault.is_harmless = strcmp(e->names[fd], MANIFEST_DRAFT) == 0;
    disk->failed_sync = e->fault.how;
    disk->failed_sync_is_late = e->fault.is_late;
    disk->drops_cache = e->fault.drop_cache;
    disk->fail_kinds = SIMDISK_SYNC;
    disk->fail_at = disk->fail_count + 1;
    result = e->real.sync(os, fd);
    disk->fail_at = 0;
    disk->failed_sync_is_late = false;
    return result;
}

/* Nothing becomes durable; a later sync could still do it, but the error was reported. */
static int watch_sync_dir(struct tkv_os *os, int dir)
{
    struct explorer *e = explorer_of(os);

    if (e->fault_is_due & FAULT_DUE_DIRECTORY) {
        e->fault_is_due = 0;
        return -EIO;
    }
    if (!is_fault(e))
        return e->real.sync_dir(os, dir);
    if (!e->fault.is_late)
        return -EIO;
    e->fault_is_due = FAULT_DUE_DIRECTORY;
    return 0;
}

/* A write that is durable when it returns, and fails: not there, there, or a part of it. */
static int64_t fail_direct(struct explorer *e, const struct half_write *w)
{
    const size_t half = w->size / 2 / SIMDISK_PAGE * SIMDISK_PAGE;
    struct tkv_os *os = &e->disk->os;

    if (e->fault.is_late) {
        e->fault_is_due = FAULT_DUE_WRITE;
        return (int64_t)w->size;
    }
    if (e->fault.how == SIMDISK_FAILED_SYNC_KEEPS)
        (void)e->real.write(os, w->fd, w->data, w->size, w->offset);
    else if (e->fault.how == SIMDISK_FAILED_SYNC_REVERTS && half > 0)
        (void)e->real.write(os, w->fd, w->data, half, w->offset);
    return -EIO;
}

/* ---- Writes ------------------------------------------------------------------------------ */

static int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    struct explorer *e = explorer_of(os);
    const struct half_write w = {fd, data, size, offset};

    visit_write(e, &w, "write");
    if (fd >= 0 && (unsigned)fd < HANDLES_MAX && e->direct[fd] && !e->disk->crashed) {
        if (e->fault_is_due & FAULT_DUE_WRITE) {
            e->fault_is_due = 0;
            return -EIO;
        }
        if (is_fault(e))
            return fail_direct(e, &w);
    }
    return e->real.write(os, fd, data, size, offset);
}

static void watch_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size)
{
    struct explorer *e = explorer_of(os);

    visit_write(e, &(struct half_write){fd, data, size, offset}, "store");
    e->real.store(os, fd, map, offset, data, size);
}

void watch(struct explorer *e, struct simdisk *disk)
{
    e->disk = disk;
    e->real = disk->os;
    disk->context = e;
    disk->before_call = watch_call;
    disk->os.open = watch_open;
    disk->os.open_dir = watch_open_dir;
    disk->os.open_dir_at = watch_open_dir_at;
    disk->os.rename = watch_rename;
    disk->os.sync = watch_sync;
    disk->os.sync_dir = watch_sync_dir;
    disk->os.write = watch_write;
    disk->os.store = watch_store;
}
