/* SPDX-License-Identifier: MIT */
/* os.c - the loops around the table, the same for the real world and a simulated one. */
#include "os.h"

#include <errno.h>

int tkv_os_read_all(struct tkv_os *os, int fd, void *buffer, size_t size, uint64_t offset)
{
    uint8_t *at = buffer;

    while (size > 0) {
        const int64_t n = os->read(os, fd, at, size, offset);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -ENODATA;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

int tkv_os_write_all(struct tkv_os *os, int fd, const void *data, size_t size,
                     uint64_t offset)
{
    const uint8_t *at = data;

    while (size > 0) {
        const int64_t n = os->write(os, fd, at, size, offset);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO; /* a write that takes nothing and says nothing would loop for ever */
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- Addresses ------------------------------------------------------------------- */

#if SIZE_MAX < UINT64_MAX
#include <stdatomic.h>

/* With pointers of 32 bits the rest is for the index, the files' tails and the application. */
#define MAPPED_MAX (SIZE_MAX / 4)

static atomic_uint_least64_t mapped; /* by all stores */

static bool take_addresses(uint64_t size)
{
    if (size > MAPPED_MAX)
        return false;
    if (atomic_fetch_add(&mapped, size) <= MAPPED_MAX - size)
        return true;
    atomic_fetch_sub(&mapped, size);
    return false;
}

static void give_addresses(uint64_t size)
{
    atomic_fetch_sub(&mapped, size);
}
#else
static bool take_addresses(uint64_t size)
{
    (void)size;
    return true;
}

static void give_addresses(uint64_t size)
{
    (void)size;
}
#endif

int tkv_os_map(struct tkv_os *os, int fd, uint64_t size, bool writable, void **ret_address)
{
    int result;

    if (!take_addresses(size))
        return -ENOMEM;
    result = os->map(os, fd, (size_t)size, writable, ret_address);
    if (result < 0)
        give_addresses(size);
    return result;
}

void tkv_os_unmap(struct tkv_os *os, void *address, uint64_t size)
{
    if (os->unmap(os, address, (size_t)size) == 0)
        give_addresses(size); /* else they stay taken, and there is nobody to tell */
}
