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

int tkv_os_map(struct tkv_os *os, int fd, uint64_t size, bool writable, void **ret_address)
{
    return size <= SIZE_MAX ? os->map(os, fd, (size_t)size, writable, ret_address)
                            : -ENOMEM;
}
