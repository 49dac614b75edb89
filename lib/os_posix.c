/* SPDX-License-Identifier: MIT */
/*
 * os_posix.c - the real world behind struct tkv_os. Each function is one system call and the
 * translation of its result; what a failure means is decided by the engine.
 *
 *   - EINTR is retried where trying again cannot hide a loss: open, read, write, truncate,
 *     lock (os_posix_lock.c). An interrupted sync is a failed sync, and a close is never tried twice: Linux
 *     has freed the descriptor even when it reports an error, and another thread may own
 *     the number by now.
 *   - What the process is not allowed to write is -EFBIG and no SIGXFSZ.
 *   - Descriptors 0, 1 and 2 are never used. A host that runs with stderr closed would
 *     otherwise print its next message into wal.log.
 *   - Everything is opened O_CLOEXEC, by name in an open directory, and without following a
 *     symbolic link, so that nothing planted in the store leads out of it.
 */
#include "os.h"

#include "os_posix_lock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* Linux moves at most 2 GiB - 4 KiB in one call. A round figure below that keeps the parts of
 * a huge write aligned. */
#define IO_SIZE_MAX ((size_t)1 << 30)

static_assert(sizeof(off_t) == 8, "offsets of files have 64 bits, see meson.build");

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Results ------------------------------------------------------------------------------ */

static int result(int rc)
{
    return rc < 0 ? -errno : 0;
}

/* Exchange a descriptor below 3 for one above, or pass the failure in errno on. */
static int above_stdio(int fd)
{
    int moved;

    if (fd < 0)
        return -errno;
    if (fd > STDERR_FILENO)
        return fd;
    moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0)
        moved = -errno;
    (void)close(fd);
    return moved;
}

static int open_retry(int dir, const char *name, int flags)
{
    int fd;

    do
        fd = openat(dir, name, flags | O_CLOEXEC, 0600);
    while (fd < 0 && errno == EINTR);
    return above_stdio(fd);
}

/* Directories -------------------------------------------------------------------------- */

/* A directory that was just made is only as durable as its entry in the parent, which the
 * engine has no handle for. A parent that we may not even read is left to its owner. */
static int sync_parent(int dir)
{
    const int parent = open_retry(dir, "..", O_RDONLY | O_DIRECTORY);
    int rc;

    if (parent < 0)
        return parent == -EACCES ? 0 : parent;
    rc = result(fsync(parent));
    (void)close(parent);
    return rc;
}

static int real_open_dir(struct tkv_os *os, const char *path, bool create)
{
    int dir = open_retry(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
    int rc;

    (void)os;
    if (dir != -ENOENT || !create)
        return dir;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    dir = open_retry(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
    if (dir < 0)
        return dir;
    rc = sync_parent(dir);
    if (rc == 0)
        return dir;
    (void)close(dir);
    return rc;
}

static int real_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    (void)os;
    if (create && mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    return open_retry(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

static int real_sync_dir(struct tkv_os *os, int dir)
{
    (void)os;
    return result(fsync(dir));
}

static int real_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    /* A descriptor of our own: a duplicate would share its position with every other list
     * of this directory. */
    const int fd = open_retry(dir, ".", O_RDONLY | O_DIRECTORY);
    struct dirent *entry;
    DIR *stream;
    int rc;

    (void)os;
    if (fd < 0)
        return fd;
    stream = fdopendir(fd);
    if (stream == NULL) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    while ((errno = 0, entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(context, entry->d_name);
    }
    rc = -errno;
    (void)closedir(stream);
    return rc;
}

static int real_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    (void)os;
    return result(renameat(dir, from, dir, to));
}

static int real_unlink(struct tkv_os *os, int dir, const char *name)
{
    (void)os;
    return result(unlinkat(dir, name, 0));
}

static bool is_remote_type(uint32_t type)
{
    switch (type) {
    case 0x00006969: /* NFS */
    case 0x0000517b: /* SMB */
    case 0xff534d42: /* CIFS */
    case 0xfe534d42: /* SMB2 */
    case 0x01021997: /* 9p */
    case 0x00c36400: /* Ceph */
    case 0x5346414f: /* AFS */
        return true;
    default:
        return false;
    }
}

static int real_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    struct statvfs space;
    struct statfs type;

    (void)os;
    if (fstatvfs(dir, &space) < 0 || fstatfs(dir, &type) < 0)
        return -errno;
    *ret_info = (struct tkv_os_fs_info){
        .free_bytes = (uint64_t)space.f_bavail * space.f_frsize,
        .total_bytes = (uint64_t)space.f_blocks * space.f_frsize,
        .is_remote = is_remote_type((uint32_t)type.f_type),
        .is_read_only = (space.f_flag & ST_RDONLY) != 0,
    };
    return 0;
}

/* Files -------------------------------------------------------------------------------- */

static int open_flags(unsigned flags)
{
    /* Without O_NONBLOCK, opening a FIFO for reading would wait for a writer. It means
     * nothing to a regular file, so it may stay. */
    int f = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

    f |= flags & TKV_OS_WRITE ? O_RDWR : O_RDONLY;
    if (flags & TKV_OS_CREATE)
        f |= O_CREAT;
    if (flags & TKV_OS_EXCLUSIVE)
        f |= O_EXCL;
    if (flags & TKV_OS_TRUNCATE)
        f |= O_TRUNC;
    if (flags & TKV_OS_DIRECT_SYNC)
        f |= O_DIRECT | O_DSYNC;
    return f;
}

static int real_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    const int fd = open_retry(dir, name, open_flags(flags));
    struct stat st;
    int rc = 0;

    (void)os;
    if (fd == -EISDIR || fd == -ENXIO || fd == -ENODEV)
        return -EINVAL; /* a directory, a socket, a device without a driver */
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    else if (!S_ISREG(st.st_mode))
        rc = -EINVAL;
    else if (flags & TKV_OS_ONLY_NAME && st.st_nlink != 1)
        rc = -EMLINK;
    if (rc == 0)
        return fd;
    (void)close(fd);
    return rc;
}

static int real_close(struct tkv_os *os, int fd)
{
    (void)os;
    /* Forgotten before it is closed: afterwards the number may be another thread's. */
    tkv_os_posix_forget_lock(fd);
    return result(close(fd));
}

static int64_t real_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    ssize_t n;

    (void)os;
    do
        n = pread(fd, buffer, min_size(size, IO_SIZE_MAX), (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Beyond RLIMIT_FSIZE the system raises SIGXFSZ, which ends a process that never heard of it. A
 * library does not change its host's signals, so it looks first. */
static int check_size_limit(uint64_t end)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return end > limit.rlim_cur ? -EFBIG : 0;
}

static int64_t real_write(struct tkv_os *os, int fd, const void *data, size_t size,
                          uint64_t offset)
{
    const int rc = check_size_limit(offset + size);
    ssize_t n;

    (void)os;
    if (rc < 0)
        return rc;
    do
        n = pwrite(fd, data, min_size(size, IO_SIZE_MAX), (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int real_sync(struct tkv_os *os, int fd)
{
    (void)os;
    return result(fdatasync(fd));
}

static int real_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct stat info;
    int rc;

    (void)os;
    if (fstat(fd, &info) != 0)
        return -errno;
    rc = size > (uint64_t)info.st_size ? check_size_limit(size) : 0;
    if (rc < 0)
        return rc;
    do
        rc = result(ftruncate(fd, (off_t)size));
    while (rc == -EINTR);
    return rc;
}

static int real_allocate(struct tkv_os *os, int fd, uint64_t size)
{
    int rc = check_size_limit(size);

    (void)os;
    if (rc < 0)
        return rc;
#ifdef __linux__
    rc = result(fallocate(fd, 0, 0, (off_t)size));
    /* Some file systems begin anew after each signal, and would with each timer of the host. */
    return rc == -ENOSYS || rc == -EINTR ? -EOPNOTSUPP : rc;
#else
    (void)fd; /* posix_fallocate() may write all of it */
    return -EOPNOTSUPP;
#endif
}

static int real_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    struct stat st;

    (void)os;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

/* Makes nothing durable. Where there is no such call the system begins when it sees fit. */
static int begin_write_back(int fd)
{
#ifdef SYNC_FILE_RANGE_WRITE
    return result(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
#else
    (void)fd;
    return 0;
#endif
}

static int real_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    int posix_advice = POSIX_FADV_NORMAL;

    (void)os;
    switch (advice) {
    case TKV_OS_RANDOM:
        posix_advice = POSIX_FADV_RANDOM;
        break;
    case TKV_OS_SEQUENTIAL:
        posix_advice = POSIX_FADV_SEQUENTIAL;
        break;
    case TKV_OS_DROP_CACHE:
        posix_advice = POSIX_FADV_DONTNEED;
        break;
    case TKV_OS_WRITE_BACK:
        return begin_write_back(fd);
    }
    return -posix_fadvise(fd, 0, 0, posix_advice);
}

/* Mappings ----------------------------------------------------------------------------- */

static int real_map(struct tkv_os *os, int fd, size_t size, bool writable,
                    void **ret_address)
{
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *address = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

    (void)os;
    if (address == MAP_FAILED)
        return -errno;
    /* Readers jump about; the default readahead would fetch megabytes for one record. Only
     * advice: not being heard costs speed, nothing else. */
    if (!writable)
        (void)madvise(address, size, MADV_RANDOM);
    *ret_address = address;
    return 0;
}

static int real_unmap(struct tkv_os *os, void *address, size_t size)
{
    (void)os;
    return result(munmap(address, size));
}

static void real_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                       const void *data, size_t size)
{
    (void)os;
    (void)fd;
    memcpy((uint8_t *)map + offset, data, size);
}

/* Clocks and chance -------------------------------------------------------------------- */

static int real_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    struct timespec now;

    (void)os;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return -errno;
    *ret_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return 0;
}

static int real_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    struct timespec now;

    (void)os;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return -errno;
    *ret_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    return 0;
}

static int real_random(struct tkv_os *os, void *buffer, size_t size)
{
    uint8_t *at = buffer;

    (void)os;
    while (size > 0) {
        const ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* The table ---------------------------------------------------------------------------- */

struct tkv_os *tkv_os_posix(void)
{
    static struct tkv_os os = {
        .open_dir = real_open_dir,
        .open_dir_at = real_open_dir_at,
        .sync_dir = real_sync_dir,
        .list = real_list,
        .rename = real_rename,
        .unlink = real_unlink,
        .fs_info = real_fs_info,
        .open = real_open,
        .close = real_close,
        .read = real_read,
        .write = real_write,
        .sync = real_sync,
        .truncate = real_truncate,
        .allocate = real_allocate,
        .file_size = real_file_size,
        .advise = real_advise,
        .map = real_map,
        .unmap = real_unmap,
        .store = real_store,
        .lock = tkv_os_posix_lock,
        .wall_clock_ms = real_wall_clock_ms,
        .monotonic_us = real_monotonic_us,
        .random = real_random,
    };

    return &os; /* never written: the table's type is not const because others keep state */
}
