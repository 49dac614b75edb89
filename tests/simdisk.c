/* SPDX-License-Identifier: MIT */
/*
 * simdisk.c - the simulated disk as a table of system calls, each of which takes the disk's
 * mutex: the gate that every call passes (counting, faults, the crash), locks, clocks and
 * chance, and the disk's lifetime.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The gate -------------------------------------------------------------------- */

struct simdisk *simdisk_of(struct tkv_os *os)
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
int simdisk_enter_cut(struct simdisk *disk, enum simdisk_call call, bool *ret_cut)
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

int simdisk_enter(struct simdisk *disk, enum simdisk_call call)
{
    bool cut;

    return simdisk_enter_cut(disk, call, &cut);
}

int simdisk_leave(struct simdisk *disk, int rc)
{
    (void)pthread_mutex_unlock(&disk->mutex);
    return rc;
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

int simdisk_call_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    struct simdisk *disk = simdisk_of(os);
    int rc = simdisk_enter(disk, SIMDISK_LOCK);

    if (rc == 0)
        rc = lock_file(disk, dir, fd, shared);
    return simdisk_leave(disk, rc);
}

int simdisk_call_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    struct simdisk *disk = simdisk_of(os);
    const int rc = simdisk_enter(disk, SIMDISK_CLOCK);

    if (rc == 0) {
        *ret_ms = disk->wall_ms;
        disk->wall_ms += disk->wall_step_ms;
    }
    return simdisk_leave(disk, rc);
}

int simdisk_call_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    struct simdisk *disk = simdisk_of(os);
    const int rc = simdisk_enter(disk, SIMDISK_CLOCK);

    if (rc == 0)
        *ret_us = ++disk->monotonic_us;
    return simdisk_leave(disk, rc);
}

int simdisk_call_random(struct tkv_os *os, void *buffer, size_t size)
{
    struct simdisk *disk = simdisk_of(os);
    const int rc = simdisk_enter(disk, SIMDISK_RANDOM_BYTES);

    if (rc == 0)
        simdisk_fill_random(&disk->random_state, buffer, size);
    return simdisk_leave(disk, rc);
}

/* ---- Lifetime -------------------------------------------------------------------- */

static const struct tkv_os simdisk_os = {
    .open_dir = simdisk_call_open_dir,
    .open_dir_at = simdisk_call_open_dir_at,
    .sync_dir = simdisk_call_sync_dir,
    .list = simdisk_call_list,
    .rename = simdisk_call_rename,
    .unlink = simdisk_call_unlink,
    .fs_info = simdisk_call_fs_info,
    .open = simdisk_call_open,
    .close = simdisk_call_close,
    .read = simdisk_call_read,
    .write = simdisk_call_write,
    .sync = simdisk_call_sync,
    .truncate = simdisk_call_truncate,
    .allocate = simdisk_call_allocate,
    .file_size = simdisk_call_file_size,
    .advise = simdisk_call_advise,
    .map = simdisk_call_map,
    .unmap = simdisk_call_unmap,
    .store = simdisk_call_store,
    .lock = simdisk_call_lock,
    .wall_clock_ms = simdisk_call_wall_clock_ms,
    .monotonic_us = simdisk_call_monotonic_us,
    .random = simdisk_call_random,
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
