/* SPDX-License-Identifier: MIT */
#include "failpoint.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum call {
    OPEN_DIR,
    OPEN_DIR_AT,
    SYNC_DIR,
    LIST,
    RENAME,
    UNLINK,
    FS_INFO,
    OPEN,
    CLOSE,
    READ,
    WRITE,
    SYNC,
    TRUNCATE,
    ALLOCATE,
    FILE_SIZE,
    ADVISE,
    MAP,
    UNMAP,
    STORE,
    LOCK,
    WALL_CLOCK_MS,
    MONOTONIC_US,
    RANDOM,
};

static const char *const names[FAILPOINT_NAMES] = {
    "open_dir", "open_dir_at", "sync_dir",      "list",         "rename", "unlink",
    "fs_info",  "open",        "close",         "read",         "write",  "sync",
    "truncate", "allocate",    "file_size",     "advise",       "map",    "unmap",
    "store",    "lock",        "wall_clock_ms", "monotonic_us", "random"};

enum moment { BEFORE, MIDDLE, AFTER };

struct failing_os {
    struct tkv_os os; /* first: the table's functions find this by it */
    struct tkv_os *real;
    enum call call;
    enum moment moment;
    uint64_t at; /* 0: never */
    _Atomic uint64_t count;
};

const char *failpoint_name(unsigned n)
{
    return names[n % FAILPOINT_NAMES];
}

/* ---- The place --------------------------------------------------------------------------- */

static struct failing_os *failing(struct tkv_os *os)
{
    return (struct failing_os *)(void *)os;
}

/* True when the process must end in this very call, which the caller sees to. */
static bool is_the_one(struct failing_os *f, enum call call)
{
    if (f->at == 0 || call != f->call || atomic_fetch_add(&f->count, 1) + 1 != f->at)
        return false;
    if (f->moment == BEFORE)
        _exit(FAILPOINT_EXIT);
    return true;
}

static void end_if(bool this_one)
{
    if (this_one)
        _exit(FAILPOINT_EXIT);
}

/* The call `expression` on the real table, as call number `call`. */
#define THROUGH(type, call, expression)        \
    struct failing_os *f = failing(os);        \
    struct tkv_os *real = f->real;             \
    const bool this_one = is_the_one(f, call); \
    const type result = real->expression;      \
    end_if(this_one);                          \
    return result

static int fail_open_dir(struct tkv_os *os, const char *path, bool create)
{
    THROUGH(int, OPEN_DIR, open_dir(real, path, create));
}

static int fail_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    THROUGH(int, OPEN_DIR_AT, open_dir_at(real, dir, name, create));
}

static int fail_sync_dir(struct tkv_os *os, int dir)
{
    THROUGH(int, SYNC_DIR, sync_dir(real, dir));
}

static int fail_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    THROUGH(int, LIST, list(real, dir, fn, context));
}

static int fail_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    THROUGH(int, RENAME, rename(real, dir, from, to));
}

static int fail_unlink(struct tkv_os *os, int dir, const char *name)
{
    THROUGH(int, UNLINK, unlink(real, dir, name));
}

static int fail_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    THROUGH(int, FS_INFO, fs_info(real, dir, ret_info));
}

static int fail_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    THROUGH(int, OPEN, open(real, dir, name, flags));
}

static int fail_close(struct tkv_os *os, int fd)
{
    THROUGH(int, CLOSE, close(real, fd));
}

static int64_t fail_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    THROUGH(int64_t, READ, read(real, fd, buffer, size, offset));
}

/* A descriptor that bypasses the cache takes whole blocks only; a killed process may leave any
 * number of bytes. So half of it goes through another one. */
static void write_half(int fd, const void *data, size_t size, uint64_t offset)
{
    char path[64];
    int plain;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    plain = open(path, O_WRONLY | O_CLOEXEC);
    if (plain >= 0 && pwrite(plain, data, size / 2, (off_t)offset) < 0)
        _exit(FAILPOINT_EXIT + 1);
    _exit(FAILPOINT_EXIT);
}

static int64_t fail_write(struct tkv_os *os, int fd, const void *data, size_t size,
                          uint64_t offset)
{
    struct failing_os *f = failing(os);
    const bool this_one = is_the_one(f, WRITE);
    int64_t written;

    if (this_one && f->moment == MIDDLE)
        write_half(fd, data, size, offset);
    written = f->real->write(f->real, fd, data, size, offset);
    end_if(this_one);
    return written;
}

static int fail_sync(struct tkv_os *os, int fd)
{
    THROUGH(int, SYNC, sync(real, fd));
}

static int fail_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    THROUGH(int, TRUNCATE, truncate(real, fd, size));
}

static int fail_allocate(struct tkv_os *os, int fd, uint64_t size)
{
    THROUGH(int, ALLOCATE, allocate(real, fd, size));
}

static int fail_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    THROUGH(int, FILE_SIZE, file_size(real, fd, ret_size));
}

static int fail_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    THROUGH(int, ADVISE, advise(real, fd, advice));
}

static int fail_map(struct tkv_os *os, int fd, size_t size, bool writable,
                    void **ret_address)
{
    THROUGH(int, MAP, map(real, fd, size, writable, ret_address));
}

static int fail_unmap(struct tkv_os *os, void *address, size_t size)
{
    THROUGH(int, UNMAP, unmap(real, address, size));
}

static void fail_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                       const void *data, size_t size)
{
    struct failing_os *f = failing(os);
    const bool this_one = is_the_one(f, STORE);

    if (this_one && f->moment == MIDDLE)
        size /= 2;
    f->real->store(f->real, fd, map, offset, data, size);
    end_if(this_one);
}

static int fail_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    THROUGH(int, LOCK, lock(real, dir, fd, shared));
}

static int fail_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    THROUGH(int, WALL_CLOCK_MS, wall_clock_ms(real, ret_ms));
}

static int fail_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    THROUGH(int, MONOTONIC_US, monotonic_us(real, ret_us));
}

static int fail_random(struct tkv_os *os, void *buffer, size_t size)
{
    THROUGH(int, RANDOM, random(real, buffer, size));
}

/* ---- The table --------------------------------------------------------------------------- */

static _Noreturn void refuse(const char *spec)
{
    fprintf(stderr, "TKV_FAILPOINT=%s: not NAME:NUMBER[:before|middle|after]\n", spec);
    exit(2);
}

static void parse(struct failing_os *f, const char *spec)
{
    char name[24] = "", moment[8] = "middle";
    unsigned n = 0;

    if (sscanf(spec, "%23[a-z_]:%" SCNu64 ":%7s", name, &f->at, moment) < 2 || f->at == 0)
        refuse(spec);
    while (n < FAILPOINT_NAMES && strcmp(names[n], name) != 0)
        n++;
    if (n == FAILPOINT_NAMES)
        refuse(spec);
    f->call = (enum call)n;
    if (strcmp(moment, "before") == 0)
        f->moment = BEFORE;
    else if (strcmp(moment, "middle") == 0)
        f->moment = MIDDLE;
    else if (strcmp(moment, "after") == 0)
        f->moment = AFTER;
    else
        refuse(spec);
}

struct tkv_os *failpoint_os(const char *spec)
{
    static struct failing_os f = {
        .os = {.open_dir = fail_open_dir,
               .open_dir_at = fail_open_dir_at,
               .sync_dir = fail_sync_dir,
               .list = fail_list,
               .rename = fail_rename,
               .unlink = fail_unlink,
               .fs_info = fail_fs_info,
               .open = fail_open,
               .close = fail_close,
               .read = fail_read,
               .write = fail_write,
               .sync = fail_sync,
               .truncate = fail_truncate,
               .allocate = fail_allocate,
               .file_size = fail_file_size,
               .advise = fail_advise,
               .map = fail_map,
               .unmap = fail_unmap,
               .store = fail_store,
               .lock = fail_lock,
               .wall_clock_ms = fail_wall_clock_ms,
               .monotonic_us = fail_monotonic_us,
               .random = fail_random},
    };

    f.real = tkv_os_posix();
    f.at = 0;
    atomic_store(&f.count, 0);
    if (spec != NULL && spec[0] != '\0')
        parse(&f, spec);
    return &f.os;
}
