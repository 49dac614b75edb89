/* SPDX-License-Identifier: MIT */
/*
 * The real table of system calls when the system refuses: every function hands the errno on,
 * begins again after a signal, and leaves no descriptor open.
 *
 * Method: the linker puts this file's functions in place of the system's; one of them fails on
 * demand, once or a few times, without doing anything.
 */
#include "os.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

TEST_MAIN

/* ---- A system that refuses --------------------------------------------------------------- */

static const char *refused; /* name of a function */
static int refusals, refused_errno, skipped;

static void refuse(const char *name, int skip, int times, int code)
{
    refused = name;
    skipped = skip;
    refusals = times;
    refused_errno = code;
}

static bool is_refused(const char *name)
{
    if (refused == NULL || strcmp(name, refused) != 0)
        return false;
    if (skipped > 0) {
        skipped--;
        return false;
    }
    if (refusals == 0)
        return false;
    refusals--;
    errno = refused_errno;
    return true;
}

#define REFUSABLE(type, name, failure, parameters, arguments)           \
    type __real_##name parameters;                                      \
    type __wrap_##name parameters;                                      \
    type __wrap_##name parameters                                       \
    {                                                                   \
        return is_refused(#name) ? (failure) : __real_##name arguments; \
    }

REFUSABLE(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
REFUSABLE(int, mkdirat, -1, (int dir, const char *name, mode_t mode), (dir, name, mode))
REFUSABLE(int, fstat64, -1, (int fd, struct stat64 *st), (fd, st))
REFUSABLE(int, fstatfs64, -1, (int fd, struct statfs64 *st), (fd, st))
REFUSABLE(int, fstatvfs64, -1, (int fd, struct statvfs64 *st), (fd, st))
REFUSABLE(int, flock, -1, (int fd, int operation), (fd, operation))
REFUSABLE(int, fsync, -1, (int fd), (fd))
REFUSABLE(int, ftruncate64, -1, (int fd, off64_t size), (fd, size))
REFUSABLE(int, fallocate64, -1, (int fd, int mode, off64_t offset, off64_t size),
          (fd, mode, offset, size))
REFUSABLE(int, getrlimit64, -1, (int which, struct rlimit64 *limit), (which, limit))
REFUSABLE(int, clock_gettime, -1, (clockid_t clock, struct timespec *now), (clock, now))
REFUSABLE(ssize_t, getrandom, -1, (void *buffer, size_t size, unsigned flags),
          (buffer, size, flags))
REFUSABLE(ssize_t, pread64, -1, (int fd, void *buffer, size_t size, off64_t offset),
          (fd, buffer, size, offset))
REFUSABLE(ssize_t, pwrite64, -1, (int fd, const void *data, size_t size, off64_t offset),
          (fd, data, size, offset))
REFUSABLE(DIR *, fdopendir, NULL, (int fd), (fd))
REFUSABLE(void *, malloc, NULL, (size_t size), (size))

int __real_openat64(int dir, const char *name, int flags, ...);
int __wrap_openat64(int dir, const char *name, int flags, ...);
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);

int __wrap_openat64(int dir, const char *name, int flags, ...)
{
    return is_refused("openat64") ? -1 : __real_openat64(dir, name, flags, 0600);
}

int __wrap_fcntl64(int fd, int command, ...)
{
    va_list arguments;
    int value;

    va_start(arguments, command);
    value = va_arg(arguments, int);
    va_end(arguments);
    return is_refused("fcntl64") ? -1 : __real_fcntl64(fd, command, value);
}

/* ---- A directory with a file ------------------------------------------------------------- */

struct fixture {
    struct tkv_os *os;
    char path[256];
    int dir, fd, open_before;
};

static int count_open(void)
{
    int count = 0;

    for (int fd = 0; fd < 64; fd++)
        count += __real_fcntl64(fd, F_GETFD, 0) >= 0;
    return count;
}

static void begin(struct fixture *f)
{
    const char *parent = getenv("TMPDIR");

    refused = NULL;
    f->os = tkv_os_posix();
    f->open_before = count_open();
    snprintf(f->path, sizeof f->path, "%s/tinykv-os-XXXXXX",
             parent != NULL ? parent : "/tmp");
    CHECK(mkdtemp(f->path) != NULL);
    f->dir = f->os->open_dir(f->os, f->path, false);
    CHECK(f->dir >= 0);
    f->fd = f->os->open(f->os, f->dir, "file", TKV_OS_WRITE | TKV_OS_CREATE);
    CHECK(f->fd >= 0);
    CHECK_EQ(f->os->write(f->os, f->fd, "content", 7, 0), 7);
}

static void end(struct fixture *f)
{
    refused = NULL;
    CHECK_EQ(f->os->unlink(f->os, f->dir, "file"), 0);
    CHECK_EQ(f->os->close(f->os, f->fd), 0);
    CHECK_EQ(f->os->close(f->os, f->dir), 0);
    CHECK_EQ(rmdir(f->path), 0);
    CHECK_EQ(count_open(), f->open_before);
}

static void ignore_name(void *context, const char *name)
{
    (void)context;
    (void)name;
}

/* ---- After a signal, again --------------------------------------------------------------- */

TEST(calls_that_a_signal_ended_are_made_again)
{
    struct fixture f;
    char buffer[8];
    int fd;

    begin(&f);
    refuse("pread64", 0, 3, EINTR);
    CHECK_EQ(f.os->read(f.os, f.fd, buffer, 7, 0), 7);
    refuse("pwrite64", 0, 3, EINTR);
    CHECK_EQ(f.os->write(f.os, f.fd, "another", 7, 0), 7);
    refuse("ftruncate64", 0, 3, EINTR);
    CHECK_EQ(f.os->truncate(f.os, f.fd, 5), 0);
    refuse("openat64", 0, 3, EINTR);
    fd = f.os->open(f.os, f.dir, "file", TKV_OS_WRITE);
    CHECK(fd >= 0);
    refuse("flock", 0, 3, EINTR);
    CHECK_EQ(f.os->lock(f.os, f.dir, fd, false), 0);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    refuse("getrandom", 0, 3, EINTR);
    CHECK_EQ(f.os->random(f.os, buffer, sizeof buffer), 0);
    CHECK_EQ(refusals, 0);
    end(&f);
}

/* ---- What is refused is told ------------------------------------------------------------- */

TEST(reads_and_writes_hand_the_errno_on)
{
    struct fixture f;
    char buffer[8];
    uint64_t number;

    begin(&f);
    refuse("pread64", 0, 1, EIO);
    CHECK(f.os->read(f.os, f.fd, buffer, 7, 0) == -EIO);
    refuse("pwrite64", 0, 1, ENOSPC);
    CHECK(f.os->write(f.os, f.fd, "x", 1, 0) == -ENOSPC);
    refuse("ftruncate64", 0, 1, EIO);
    CHECK(f.os->truncate(f.os, f.fd, 1) == -EIO);
    refuse("fstat64", 0, 1, EIO);
    CHECK(f.os->truncate(f.os, f.fd, 1) == -EIO);
    refuse("fallocate64", 0, 1, ENOSPC);
    CHECK(f.os->allocate(f.os, f.fd, 100) == -ENOSPC);
    refuse("fallocate64", 0, 1, ENOSYS); /* an old kernel, a sandbox */
    CHECK(f.os->allocate(f.os, f.fd, 100) == -EOPNOTSUPP);
    refuse("fallocate64", 0, 1, EINTR);
    CHECK(f.os->allocate(f.os, f.fd, 100) == -EOPNOTSUPP);
    refuse("fstat64", 0, 1, EIO);
    CHECK(f.os->file_size(f.os, f.fd, &number) == -EIO);
    refuse("getrandom", 0, 1, ENOSYS);
    CHECK(f.os->random(f.os, buffer, sizeof buffer) == -ENOSYS);
    refuse("clock_gettime", 0, 1, EINVAL);
    CHECK(f.os->wall_clock_ms(f.os, &number) == -EINVAL);
    refuse("clock_gettime", 0, 1, EINVAL);
    CHECK(f.os->monotonic_us(f.os, &number) == -EINVAL);
    end(&f);
}

TEST(without_a_known_limit_of_file_sizes_a_write_is_tried)
{
    struct fixture f;

    begin(&f);
    refuse("getrlimit64", 0, 1, EPERM);
    CHECK_EQ(f.os->write(f.os, f.fd, "x", 1, 0), 1);
    refuse("getrlimit64", 0, 1, EPERM);
    CHECK_EQ(f.os->truncate(f.os, f.fd, 3), 0);
    end(&f);
}

TEST(an_open_that_fails_half_way_leaves_nothing_open)
{
    struct fixture f;

    begin(&f);
    refuse("fstat64", 0, 1, EIO);
    CHECK(f.os->open(f.os, f.dir, "file", TKV_OS_READ) == -EIO);
    refuse("openat64", 0, 1, ENXIO); /* a socket */
    CHECK(f.os->open(f.os, f.dir, "file", TKV_OS_READ) == -EINVAL);
    refuse("openat64", 0, 1, ENODEV); /* a device without a driver */
    CHECK(f.os->open(f.os, f.dir, "file", TKV_OS_READ) == -EINVAL);
    refuse("openat64", 0, 1, EMFILE);
    CHECK(f.os->open(f.os, f.dir, "file", TKV_OS_READ) == -EMFILE);
    end(&f);
}

TEST(a_descriptor_of_standard_input_is_exchanged_or_the_failure_told)
{
    struct fixture f;
    int saved, fd;

    begin(&f);
    saved = __real_fcntl64(0, F_DUPFD_CLOEXEC, 10);
    CHECK_EQ(close(0), 0);
    fd = f.os->open(f.os, f.dir, "file", TKV_OS_READ);
    CHECK(fd > 2);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    refuse("fcntl64", 0, 1, EMFILE);
    CHECK(f.os->open(f.os, f.dir, "file", TKV_OS_READ) == -EMFILE);
    CHECK(__real_fcntl64(0, F_GETFD, 0) < 0); /* the one below 3 was closed again */
    if (saved >= 0) {
        CHECK_EQ(dup2(saved, 0), 0);
        CHECK_EQ(close(saved), 0);
    }
    end(&f);
}

/* ---- Directories ------------------------------------------------------------------------- */

TEST(a_directory_that_cannot_be_made_is_told)
{
    struct fixture f;
    char path[300];

    begin(&f);
    snprintf(path, sizeof path, "%s/new", f.path);
    refuse("mkdir", 0, 1, EROFS);
    CHECK(f.os->open_dir(f.os, path, true) == -EROFS);
    refuse("openat64", 1, 1, EMFILE); /* made, and not opened */
    CHECK(f.os->open_dir(f.os, path, true) == -EMFILE);
    CHECK_EQ(rmdir(path), 0);
    refuse("openat64", 2, 1, EMFILE); /* its parent */
    CHECK(f.os->open_dir(f.os, path, true) == -EMFILE);
    CHECK_EQ(rmdir(path), 0);
    refuse("fsync", 0, 1, EIO);
    CHECK(f.os->open_dir(f.os, path, true) == -EIO);
    CHECK_EQ(rmdir(path), 0);
    refuse("mkdirat", 0, 1, ENOSPC);
    CHECK(f.os->open_dir_at(f.os, f.dir, "new", true) == -ENOSPC);
    end(&f);
}

TEST(a_parent_that_may_not_be_read_is_left_to_its_owner)
{
    struct fixture f;
    char path[300];
    int dir;

    begin(&f);
    snprintf(path, sizeof path, "%s/new", f.path);
    refuse("openat64", 2, 1, EACCES);
    dir = f.os->open_dir(f.os, path, true);
    CHECK(dir >= 0);
    CHECK_EQ(refusals, 0);
    CHECK_EQ(f.os->close(f.os, dir), 0);
    CHECK_EQ(rmdir(path), 0);
    end(&f);
}

TEST(somebody_elses_mkdir_at_the_same_time_is_as_good)
{
    struct fixture f;
    int dir;

    begin(&f);
    refuse("openat64", 0, 1, ENOENT); /* it is not there yet ... */
    dir = f.os->open_dir(f.os, f.path, true);
    CHECK(dir >= 0); /* ... and was made before us */
    CHECK_EQ(f.os->close(f.os, dir), 0);
    end(&f);
}

TEST(a_list_that_cannot_be_read_is_told)
{
    struct fixture f;

    begin(&f);
    refuse("openat64", 0, 1, EMFILE);
    CHECK(f.os->list(f.os, f.dir, ignore_name, NULL) == -EMFILE);
    refuse("fdopendir", 0, 1, ENOMEM);
    CHECK(f.os->list(f.os, f.dir, ignore_name, NULL) == -ENOMEM);
    end(&f);
}

TEST(a_file_system_that_tells_nothing_is_told)
{
    struct tkv_os_fs_info info;
    struct fixture f;

    begin(&f);
    refuse("fstatvfs64", 0, 1, EIO);
    CHECK(f.os->fs_info(f.os, f.dir, &info) == -EIO);
    refuse("fstatfs64", 0, 1, ENOSYS);
    CHECK(f.os->fs_info(f.os, f.dir, &info) == -ENOSYS);
    end(&f);
}

/* ---- Locks ------------------------------------------------------------------------------- */

TEST(a_lock_that_cannot_be_taken_is_not_held)
{
    struct fixture f;

    begin(&f);
    refuse("fstat64", 0, 1, EIO);
    CHECK(f.os->lock(f.os, f.dir, f.fd, false) == -EIO);
    refuse("malloc", 0, 1, ENOMEM);
    CHECK(f.os->lock(f.os, f.dir, f.fd, false) == -ENOMEM);
    refuse("flock", 0, 1, ENOLCK);
    CHECK(f.os->lock(f.os, f.dir, f.fd, false) == -ENOLCK);
    CHECK_EQ(f.os->lock(f.os, f.dir, f.fd, false), 0);
    CHECK(f.os->lock(f.os, f.dir, f.fd, false) == -EINVAL); /* twice by one descriptor */
    end(&f);
}

TEST(locks_of_two_directories_do_not_meet)
{
    struct fixture f, g;

    begin(&f);
    begin(&g);
    CHECK_EQ(f.os->lock(f.os, f.dir, f.fd, false), 0);
    CHECK_EQ(g.os->lock(g.os, g.dir, g.fd, false), 0);
    end(&g);
    end(&f);
}
