/* SPDX-License-Identifier: MIT */
/*
 * The real table does what lib/os.h says, in a fresh directory below TMPDIR or /tmp. Things
 * that an attacker or a careless user may leave in a store's directory are planted with plain
 * system calls. Where the file system has a say (direct writes), refusing is a valid answer.
 */
#include "os.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdalign.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

static alignas(4096) uint8_t block[4096];

struct fixture {
    struct tkv_os *os;
    char path[PATH_MAX / 2];
    int dir;
};

static struct fixture temp_dir(void)
{
    const char *parent = getenv("TMPDIR");
    struct fixture f = {.os = tkv_os_posix()};

    snprintf(f.path, sizeof f.path, "%s/tinykv-XXXXXX", parent != NULL ? parent : "/tmp");
    CHECK(mkdtemp(f.path) != NULL);
    f.dir = f.os->open_dir(f.os, f.path, false);
    CHECK(f.dir >= 3);
    return f;
}

static void unlink_listed(void *context, const char *name)
{
    const struct fixture *f = context;

    CHECK(unlinkat(f->dir, name, 0) == 0 || unlinkat(f->dir, name, AT_REMOVEDIR) == 0);
}

static void remove_dir(struct fixture *f)
{
    CHECK_EQ(f->os->list(f->os, f->dir, unlink_listed, f), 0);
    CHECK_EQ(f->os->close(f->os, f->dir), 0);
    CHECK_EQ(rmdir(f->path), 0);
}

static int open_file(const struct fixture *f, const char *name, unsigned flags)
{
    return f->os->open(f->os, f->dir, name, flags);
}

static int create(const struct fixture *f, const char *name)
{
    const int fd = open_file(f, name, TKV_OS_WRITE | TKV_OS_CREATE);

    CHECK(fd >= 3);
    return fd;
}

static void close_file(const struct fixture *f, int fd)
{
    CHECK_EQ(f->os->close(f->os, fd), 0);
}

/* Every way of opening, so that none of them hangs or is fooled. */
static void check_refused(const struct fixture *f, const char *name, int error)
{
    CHECK_EQ(open_file(f, name, TKV_OS_READ), error);
    CHECK_EQ(open_file(f, name, TKV_OS_WRITE), error);
    CHECK_EQ(open_file(f, name, TKV_OS_WRITE | TKV_OS_CREATE), error);
    CHECK_EQ(open_file(f, name, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE), error);
}

/* Files -------------------------------------------------------------------------------- */

TEST(a_file_with_another_name_is_told_to_who_asks)
{
    struct fixture f = temp_dir();

    close_file(&f, create(&f, "x"));
    close_file(&f, open_file(&f, "x", TKV_OS_WRITE | TKV_OS_ONLY_NAME));
    CHECK_EQ(linkat(f.dir, "x", f.dir, "y", 0), 0);
    CHECK_EQ(open_file(&f, "x", TKV_OS_WRITE | TKV_OS_ONLY_NAME), -EMLINK);
    close_file(&f, open_file(&f, "x", TKV_OS_WRITE));
    CHECK_EQ(unlinkat(f.dir, "y", 0), 0);
    close_file(&f, open_file(&f, "x", TKV_OS_WRITE | TKV_OS_ONLY_NAME));
    remove_dir(&f);
}

TEST(what_is_allocated_has_its_room_and_keeps_what_was_there)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    char buffer[8];
    struct stat info;
    int result;

    CHECK_EQ(tkv_os_write_all(f.os, fd, "value", 5, 0), 0);
    result = f.os->allocate(f.os, fd, 1 << 20);
    CHECK(result == 0 || result == -EOPNOTSUPP);
    if (result == 0) {
        CHECK_EQ(f.os->allocate(f.os, fd, 1 << 19), 0); /* is there already */
        CHECK_EQ(fstat(fd, &info), 0);
        CHECK_EQ(info.st_size, 1 << 20);
        CHECK(info.st_blocks * 512 >= 1 << 20);
        CHECK_EQ(tkv_os_read_all(f.os, fd, buffer, 8, 0), 0);
        CHECK(memcmp(buffer, "value\0\0\0", 8) == 0);
    }
    close_file(&f, fd);
    remove_dir(&f);
}

TEST(what_is_written_is_read)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    char buffer[8] = {0};
    uint64_t size;

    CHECK_EQ(tkv_os_write_all(f.os, fd, "value", 5, 3), 0);
    CHECK_EQ(tkv_os_read_all(f.os, fd, buffer, 8, 0), 0);
    CHECK(memcmp(buffer, "\0\0\0value", 8) == 0);
    CHECK_EQ(tkv_os_read_all(f.os, fd, buffer, 2, 7), -ENODATA);
    CHECK_EQ(f.os->read(f.os, fd, buffer, 8, 8), 0);
    CHECK_EQ(f.os->file_size(f.os, fd, &size), 0);
    CHECK_EQ(size, 8);
    CHECK_EQ(f.os->truncate(f.os, fd, 4), 0);
    CHECK_EQ(f.os->file_size(f.os, fd, &size), 0);
    CHECK_EQ(size, 4);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_EQ(f.os->advise(f.os, fd, TKV_OS_RANDOM), 0);
    CHECK_EQ(f.os->advise(f.os, fd, TKV_OS_SEQUENTIAL), 0);
    CHECK_EQ(f.os->advise(f.os, fd, TKV_OS_DROP_CACHE), 0);
    CHECK_EQ(f.os->advise(f.os, fd, TKV_OS_WRITE_BACK), 0);
#ifdef SYNC_FILE_RANGE_WRITE
    CHECK_EQ(f.os->advise(f.os, -1, TKV_OS_WRITE_BACK), -EBADF);
#endif
    close_file(&f, fd);
    remove_dir(&f);
}

TEST(open_obeys_its_flags)
{
    struct fixture f = temp_dir();
    struct stat st;
    int fd;

    CHECK_EQ(open_file(&f, "x", TKV_OS_READ), -ENOENT);
    CHECK_EQ(open_file(&f, "x", TKV_OS_WRITE), -ENOENT);
    fd = open_file(&f, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_EXCLUSIVE);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_mode & 0177, 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(f.dir, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(tkv_os_write_all(f.os, fd, "12345", 5, 0), 0);
    close_file(&f, fd);
    CHECK_EQ(open_file(&f, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_EXCLUSIVE), -EEXIST);
    fd = open_file(&f, "x", TKV_OS_READ);
    CHECK_EQ(f.os->write(f.os, fd, "1", 1, 0), -EBADF);
    close_file(&f, fd);
    fd = open_file(&f, "x", TKV_OS_WRITE | TKV_OS_TRUNCATE);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, 0);
    close_file(&f, fd);
    remove_dir(&f);
}

TEST(a_fifo_is_refused_and_does_not_hang)
{
    struct fixture f = temp_dir();

    alarm(10); /* the only way for this test to fail in finite time */
    CHECK_EQ(mkfifoat(f.dir, "wal.log", 0600), 0);
    check_refused(&f, "wal.log", -EINVAL);
    alarm(0);
    remove_dir(&f);
}

TEST(a_symbolic_link_is_refused_and_its_target_untouched)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "target");
    uint64_t size;

    CHECK_EQ(tkv_os_write_all(f.os, fd, "12345", 5, 0), 0);
    CHECK_EQ(symlinkat("target", f.dir, "wal.log"), 0);
    CHECK_EQ(symlinkat("nowhere", f.dir, "dangling"), 0);
    check_refused(&f, "wal.log", -ELOOP);
    check_refused(&f, "dangling", -ELOOP);
    CHECK_EQ(f.os->file_size(f.os, fd, &size), 0);
    CHECK_EQ(size, 5);
    CHECK_EQ(faccessat(f.dir, "nowhere", F_OK, 0), -1);
    close_file(&f, fd);
    remove_dir(&f);
}

TEST(a_directory_and_a_socket_are_refused)
{
    struct fixture f = temp_dir();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);

    CHECK_EQ(mkdirat(f.dir, "directory", 0700), 0);
    check_refused(&f, "directory", -EINVAL);
    /* A longer path has no socket; the rest of the promise stands without it. */
    if (strlen(f.path) + sizeof "/socket" <= sizeof address.sun_path) {
        snprintf(address.sun_path, sizeof address.sun_path, "%.*s/socket",
                 (int)(sizeof address.sun_path - sizeof "/socket"), f.path);
        CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
        check_refused(&f, "socket", -EINVAL);
    }
    CHECK_EQ(close(listener), 0);
    remove_dir(&f);
}

TEST(descriptors_below_three_are_never_used)
{
    const pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        struct fixture f;
        int fd;
        /* A host with its standard streams closed, as daemons are. */
        for (int i = 0; i < 3; i++)
            (void)close(i);
        f = temp_dir();
        fd = create(&f, "x");
        for (int i = 0; i < 3; i++) {
            if (fcntl(i, F_GETFD) != -1)
                _exit(1); /* not even in between: it would still be open */
        }
        close_file(&f, fd);
        remove_dir(&f);
        _exit(f.dir >= 3 && fd >= 3 ? 0 : 2);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

TEST(a_direct_sync_write_works_or_the_open_is_refused)
{
    struct fixture f = temp_dir();
    const int fd = open_file(&f, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_DIRECT_SYNC);
    uint8_t seen[4096];
    int reader;

    if (fd < 0) {
        CHECK_EQ(fd, -EINVAL);
        remove_dir(&f);
        return;
    }
    memset(block, 'b', sizeof block);
    CHECK_EQ(f.os->write(f.os, fd, block, sizeof block, 4096), sizeof block);
    reader = open_file(&f, "x", TKV_OS_READ);
    CHECK_EQ(tkv_os_read_all(f.os, reader, seen, sizeof seen, 4096), 0);
    CHECK(memcmp(seen, block, sizeof seen) == 0);
    close_file(&f, reader);
    close_file(&f, fd);
    remove_dir(&f);
}

/* Mappings ----------------------------------------------------------------------------- */

TEST(a_mapping_sees_later_writes_and_growth_and_survives_close)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    void *address;
    const char *map;

    CHECK_EQ(tkv_os_write_all(f.os, fd, "old", 3, 0), 0);
    CHECK_EQ(f.os->map(f.os, fd, 1 << 20, false, &address), 0);
    map = address;
    CHECK(memcmp(map, "old", 3) == 0);
    CHECK_EQ(tkv_os_write_all(f.os, fd, "new", 3, 0), 0);
    CHECK_EQ(tkv_os_write_all(f.os, fd, "grown", 5, 100000), 0);
    CHECK(memcmp(map, "new", 3) == 0);
    CHECK(memcmp(map + 100000, "grown", 5) == 0);
    close_file(&f, fd);
    CHECK(memcmp(map, "new", 3) == 0);
    CHECK_EQ(f.os->unmap(f.os, address, 1 << 20), 0);
    remove_dir(&f);
}

/* With pointers of 32 bits there are not so many addresses: the lower half of the size is another
 * one, and all mappings together leave most of them. What is refused or given back does not count. */
TEST(a_mapping_is_as_large_as_asked_for_or_there_is_none)
{
    const uint64_t large = (UINT64_C(1) << 32) + 4096, half = 1u << 29;
    const bool is_narrow = SIZE_MAX < UINT64_MAX;
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    void *address, *other;

    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(tkv_os_map(f.os, fd, large, false, &other), is_narrow ? -ENOMEM : 0);
        if (!is_narrow)
            tkv_os_unmap(f.os, other, large);
        CHECK_EQ(tkv_os_map(f.os, fd, half, false, &address), 0);
        CHECK_EQ(tkv_os_map(f.os, fd, half, false, &other), is_narrow ? -ENOMEM : 0);
        if (!is_narrow)
            tkv_os_unmap(f.os, other, half);
        tkv_os_unmap(f.os, address, half);
    }
    close_file(&f, fd);
    remove_dir(&f);
}

TEST(a_store_is_seen_by_reads)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    char buffer[6];
    void *map;

    CHECK_EQ(tkv_os_write_all(f.os, fd, "......", 6, 0), 0);
    CHECK_EQ(f.os->map(f.os, fd, 4096, true, &map), 0);
    f.os->store(f.os, fd, map, 2, "ab", 2);
    CHECK_EQ(tkv_os_read_all(f.os, fd, buffer, 6, 0), 0);
    CHECK(memcmp(buffer, "..ab..", 6) == 0);
    CHECK_EQ(f.os->unmap(f.os, map, 4096), 0);
    CHECK_EQ(f.os->map(f.os, fd, 0, false, &map), -EINVAL);
    close_file(&f, fd);
    remove_dir(&f);
}

/* Directories -------------------------------------------------------------------------- */

static void count_names(void *context, const char *name)
{
    unsigned *counts = context;

    CHECK(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'c');
    counts[name[0] - 'a']++;
}

TEST(list_names_every_entry_once_and_rename_and_unlink_change_it)
{
    struct fixture f = temp_dir();
    unsigned counts[3] = {0};

    close_file(&f, create(&f, "a"));
    close_file(&f, create(&f, "b"));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(f.os->list(f.os, f.dir, count_names, counts), 0);
    CHECK(counts[0] == 2 && counts[1] == 2 && counts[2] == 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "a", "b"), 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "b", "c"), 0);
    CHECK_EQ(f.os->list(f.os, f.dir, count_names, counts), 0);
    CHECK(counts[0] == 2 && counts[1] == 2 && counts[2] == 1);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "c"), 0);
    CHECK_EQ(f.os->unlink(f.os, f.dir, "c"), -ENOENT);
    CHECK_EQ(f.os->rename(f.os, f.dir, "c", "d"), -ENOENT);
    remove_dir(&f);
}

TEST(directories_are_made_when_asked_for_and_must_be_directories)
{
    struct fixture f = temp_dir();
    char path[PATH_MAX];
    int made, inner;

    snprintf(path, sizeof path, "%s/store", f.path);
    CHECK_EQ(f.os->open_dir(f.os, path, false), -ENOENT);
    made = f.os->open_dir(f.os, path, true);
    CHECK(made >= 3);
    CHECK_EQ(f.os->open_dir_at(f.os, made, "quarantine", false), -ENOENT);
    inner = f.os->open_dir_at(f.os, made, "quarantine", true);
    CHECK(inner >= 3);
    close_file(&f, inner);
    inner = f.os->open_dir_at(f.os, made, "quarantine", true);
    CHECK(inner >= 3);
    close_file(&f, inner);
    CHECK_EQ(unlinkat(made, "quarantine", AT_REMOVEDIR), 0);
    CHECK_EQ(symlinkat("/tmp", made, "quarantine"), 0);
    CHECK(f.os->open_dir_at(f.os, made, "quarantine", true) < 0);
    CHECK_EQ(unlinkat(made, "quarantine", 0), 0);
    close_file(&f, made);
    close_file(&f, create(&f, "file"));
    snprintf(path, sizeof path, "%s/file", f.path);
    CHECK_EQ(f.os->open_dir(f.os, path, true), -ENOTDIR);
    remove_dir(&f);
}

TEST(a_directory_handle_stays_right_when_the_directory_is_renamed)
{
    struct fixture f = temp_dir();
    char moved[PATH_MAX];

    snprintf(moved, sizeof moved, "%s-moved", f.path);
    CHECK_EQ(rename(f.path, moved), 0);
    close_file(&f, create(&f, "x"));
    CHECK_EQ(f.os->unlink(f.os, f.dir, "x"), 0);
    CHECK_EQ(rename(moved, f.path), 0);
    remove_dir(&f);
}

TEST(the_file_system_reports_its_room)
{
    struct fixture f = temp_dir();
    struct tkv_os_fs_info info;

    CHECK_EQ(f.os->fs_info(f.os, f.dir, &info), 0);
    CHECK(info.total_bytes >= info.free_bytes && info.total_bytes > 0);
    CHECK(!info.is_read_only);
    remove_dir(&f);
}

/* Locks -------------------------------------------------------------------------------- */

TEST(a_second_exclusive_lock_in_one_process_is_refused_until_the_first_is_closed)
{
    struct fixture f = temp_dir();
    const int first = create(&f, "LOCK"), second = create(&f, "LOCK");

    CHECK_EQ(f.os->lock(f.os, f.dir, first, false), 0);
    CHECK_EQ(f.os->lock(f.os, f.dir, second, false), -EWOULDBLOCK);
    CHECK_EQ(f.os->lock(f.os, f.dir, second, true), -EWOULDBLOCK);
    close_file(&f, first);
    CHECK_EQ(f.os->lock(f.os, f.dir, second, false), 0);
    close_file(&f, second);
    remove_dir(&f);
}

/* Another file as LOCK, so that only the table of the process can tell. */
TEST(the_lock_of_a_process_goes_by_directory_and_not_by_path_or_file)
{
    struct fixture f = temp_dir();
    const int first = create(&f, "LOCK"), other = create(&f, "OTHER");
    char path[PATH_MAX];
    int dir;

    snprintf(path, sizeof path, "%s-link", f.path);
    CHECK_EQ(symlink(f.path, path), 0);
    dir = f.os->open_dir(f.os, path, false);
    CHECK(dir >= 3);
    CHECK_EQ(f.os->lock(f.os, f.dir, first, false), 0);
    CHECK_EQ(f.os->lock(f.os, dir, other, false), -EWOULDBLOCK);
    close_file(&f, first);
    CHECK_EQ(f.os->lock(f.os, dir, other, false), 0);
    close_file(&f, other);
    close_file(&f, dir);
    CHECK_EQ(unlink(path), 0);
    remove_dir(&f);
}

TEST(shared_locks_coexist_and_exclude_an_exclusive_one)
{
    struct fixture f = temp_dir();
    const int a = create(&f, "LOCK"), b = create(&f, "LOCK"), c = create(&f, "LOCK");

    CHECK_EQ(f.os->lock(f.os, f.dir, a, true), 0);
    CHECK_EQ(f.os->lock(f.os, f.dir, b, true), 0);
    CHECK_EQ(f.os->lock(f.os, f.dir, c, false), -EWOULDBLOCK);
    close_file(&f, a);
    CHECK_EQ(f.os->lock(f.os, f.dir, c, false), -EWOULDBLOCK);
    close_file(&f, b);
    CHECK_EQ(f.os->lock(f.os, f.dir, c, false), 0);
    close_file(&f, c);
    remove_dir(&f);
}

TEST(another_process_is_refused_and_a_forked_child_cannot_release_the_lock)
{
    struct fixture f = temp_dir();
    const int held = create(&f, "LOCK");
    pid_t child;
    int status;

    CHECK_EQ(f.os->lock(f.os, f.dir, held, false), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int fd;
        if (f.os->close(f.os, held) != 0)
            _exit(1);
        /* Its own table is empty now; the parent's flock is not. */
        fd = open_file(&f, "LOCK", TKV_OS_WRITE);
        _exit(f.os->lock(f.os, f.dir, fd, false) == -EWOULDBLOCK ? 0 : 2);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    {
        const int second = create(&f, "LOCK");
        CHECK_EQ(f.os->lock(f.os, f.dir, second, false), -EWOULDBLOCK);
        close_file(&f, second);
    }
    close_file(&f, held);
    remove_dir(&f);
}

TEST(closing_releases_the_lock_though_a_forked_child_lives_on)
{
    struct fixture f = temp_dir();
    const int held = create(&f, "LOCK");
    int ends[2], second, status;
    pid_t child;
    char byte;

    CHECK_EQ(f.os->lock(f.os, f.dir, held, false), 0);
    CHECK_EQ(pipe(ends), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1); /* until the parent lets go */
    }
    close_file(&f, held);
    second = create(&f, "LOCK");
    CHECK_EQ(f.os->lock(f.os, f.dir, second, false), 0);
    CHECK_EQ(close(ends[1]), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(close(ends[0]), 0);
    close_file(&f, second);
    remove_dir(&f);
}

/* SIGXFSZ as it is by default: it would end the child. */
TEST(beyond_the_limit_of_a_files_size_is_an_error_and_no_signal)
{
    struct fixture f = temp_dir();
    const int fd = create(&f, "x");
    const pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {5000, 5000};

        CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
        CHECK_EQ(f.os->write(f.os, fd, block, 4096, 0), 4096);
        CHECK_EQ(f.os->write(f.os, fd, block, 4096, 4096), -EFBIG);
        CHECK_EQ(f.os->write(f.os, fd, block, 1, 5000), -EFBIG);
        CHECK_EQ(f.os->truncate(f.os, fd, 5001), -EFBIG);
        CHECK_EQ(f.os->truncate(f.os, fd, 5000), 0);
        CHECK_EQ(f.os->allocate(f.os, fd, 5001), -EFBIG);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    close_file(&f, fd);
    remove_dir(&f);
}

/* Clocks and chance -------------------------------------------------------------------- */

TEST(clocks_advance_and_random_bytes_differ)
{
    struct tkv_os *os = tkv_os_posix();
    uint64_t first, second, wall;
    uint8_t a[600], b[600];

    CHECK_EQ(os->monotonic_us(os, &first), 0);
    CHECK_EQ(usleep(2000), 0);
    CHECK_EQ(os->monotonic_us(os, &second), 0);
    CHECK(second >= first + 2000);
    CHECK_EQ(os->wall_clock_ms(os, &wall), 0);
    CHECK(wall > 1600000000000u);
    CHECK_EQ(os->random(os, a, sizeof a), 0);
    CHECK_EQ(os->random(os, b, sizeof b), 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
}

/* Callers that loop -------------------------------------------------------------------- */

static int64_t write_one_byte(struct tkv_os *os, int fd, const void *data, size_t size,
                              uint64_t offset)
{
    return tkv_os_posix()->write(os, fd, data, size < 1 ? size : 1, offset);
}

static int64_t read_one_byte(struct tkv_os *os, int fd, void *buffer, size_t size,
                             uint64_t offset)
{
    return tkv_os_posix()->read(os, fd, buffer, size < 1 ? size : 1, offset);
}

static int64_t write_nothing(struct tkv_os *os, int fd, const void *data, size_t size,
                             uint64_t offset)
{
    (void)os, (void)fd, (void)data, (void)size, (void)offset;
    return 0;
}

TEST(short_reads_and_writes_are_continued_and_an_empty_write_ends_the_loop)
{
    struct fixture f = temp_dir();
    struct tkv_os os = *f.os;
    const int fd = create(&f, "x");
    char buffer[6] = {0};

    os.write = write_one_byte;
    os.read = read_one_byte;
    CHECK_EQ(tkv_os_write_all(&os, fd, "abcdef", 6, 0), 0);
    CHECK_EQ(tkv_os_read_all(&os, fd, buffer, 6, 0), 0);
    CHECK(memcmp(buffer, "abcdef", 6) == 0);
    os.write = write_nothing;
    CHECK_EQ(tkv_os_write_all(&os, fd, "abcdef", 6, 0), -EIO);
    close_file(&f, fd);
    remove_dir(&f);
}
