/* SPDX-License-Identifier: MIT */
/*
 * simdisk_fixture.h - one directory on one simulated disk, files in it of which some bytes are
 * durable, and what reads see and a crash leaves of them, as text.
 *
 *     struct fixture f = new_disk();
 *     const int fd = durable_file(&f, "x", 3);
 *
 *     write_at(&f, fd, "new", 3, 0);
 *     CHECK_STR(text_of(f.disk, "x"), "new");
 *     CHECK_STR(after_power_cut(&f, "x"), "aaa");
 *     simdisk_free(f.disk);
 */
#ifndef TKV_SIMDISK_FIXTURE_H
#define TKV_SIMDISK_FIXTURE_H

#include "simdisk.h"
#include "test.h"

#include <stdalign.h>

static alignas(4096) uint8_t block_a[2 * 4096], block_b[2 * 4096];

__attribute__((constructor)) static void fill_blocks(void)
{
    memset(block_a, 'a', sizeof block_a);
    memset(block_b, 'b', sizeof block_b);
}

struct fixture {
    struct simdisk *disk;
    struct tkv_os *os;
    int dir;
};

static inline struct fixture open_disk(struct simdisk *disk)
{
    struct fixture f = {disk, &disk->os, -1};

    f.dir = f.os->open_dir(f.os, "store", true);
    CHECK(f.dir >= 3);
    return f;
}

static inline struct fixture new_disk(void)
{
    return open_disk(simdisk_new(1));
}

static inline int create(struct fixture *f, const char *name)
{
    const int fd = f->os->open(f->os, f->dir, name, TKV_OS_WRITE | TKV_OS_CREATE);

    CHECK(fd >= 3);
    return fd;
}

static inline void write_at(struct fixture *f, int fd, const void *data, size_t size,
                            uint64_t offset)
{
    CHECK_EQ(f->os->write(f->os, fd, data, size, offset), size);
}

static inline void sync_all(struct fixture *f, int fd)
{
    CHECK_EQ(f->os->sync(f->os, fd), 0);
    CHECK_EQ(f->os->sync_dir(f->os, f->dir), 0);
}

/* A durable file of `size` bytes of 'a', open. */
static inline int durable_file(struct fixture *f, const char *name, size_t size)
{
    const int fd = create(f, name);

    write_at(f, fd, block_a, size, 0);
    sync_all(f, fd);
    return fd;
}

static char text_buffer[64 << 10];

/* A file's content as text; "(none)" when there is no such file. */
static inline const char *text_of(const struct simdisk *disk, const char *name)
{
    const int64_t n = simdisk_file_read(disk, name, text_buffer, sizeof text_buffer - 1, 0);

    if (n < 0)
        return "(none)";
    text_buffer[n] = 0;
    return text_buffer;
}

static inline const char *text_after(struct simdisk *disk, enum simdisk_model model,
                                     uint64_t choice, size_t unit, const char *name)
{
    struct simdisk *after = simdisk_survivor(disk, model, choice, unit);

    (void)text_of(after, name);
    if (simdisk_file_size(after, name) < 0)
        strcpy(text_buffer, "(none)");
    simdisk_free(after);
    return text_buffer;
}

static inline const char *after_power_cut(struct fixture *f, const char *name)
{
    return text_after(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE, name);
}

#endif
