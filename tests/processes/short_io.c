/* SPDX-License-Identifier: MIT */
/*
 * short_io.c - to be preloaded: pread and pwrite move only a part of what they are asked for,
 * or nothing with EINTR, as the system may at any time. Which, follows from SHORT_IO_SEED and
 * the number of the call. Descriptors that bypass the cache move whole blocks.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK ((size_t)4096)

typedef ssize_t pread_fn(int fd, void *buffer, size_t size, off_t offset);
typedef ssize_t pwrite_fn(int fd, const void *buffer, size_t size, off_t offset);

static _Atomic uint64_t calls;

static uint64_t chance(void)
{
    const char *seed = getenv("SHORT_IO_SEED");
    uint64_t x = (seed != NULL ? strtoull(seed, NULL, 10) : 1) * 1000003u +
                 atomic_fetch_add(&calls, 1);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* 0: the call is interrupted. */
static size_t shortened(int fd, size_t size)
{
    const uint64_t r = chance();
    const int flags = fcntl(fd, F_GETFL);

    if (r % 5 == 0)
        return 0;
    if (size <= 1 || r % 5 == 1)
        return size;
    if (flags >= 0 && (flags & O_DIRECT) != 0)
        return size <= BLOCK ? size : size / 2 / BLOCK * BLOCK + BLOCK;
    return r % 5 == 2 && size < 4096 ? 1 : 1 + (size_t)(r >> 8) % size;
}

/* Their names depend on the system. */
static uintptr_t next_symbol(const char *name, const char *other_name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    return (uintptr_t)(symbol != NULL ? symbol : dlsym(RTLD_NEXT, other_name));
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    pread_fn *real = (pread_fn *)next_symbol("pread64", "pread");
    const size_t part = shortened(fd, size);

    if (part == 0 && size > 0) {
        errno = EINTR;
        return -1;
    }
    return real(fd, buffer, part, offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    pwrite_fn *real = (pwrite_fn *)next_symbol("pwrite64", "pwrite");
    const size_t part = shortened(fd, size);

    if (part == 0 && size > 0) {
        errno = EINTR;
        return -1;
    }
    return real(fd, buffer, part, offset);
}
