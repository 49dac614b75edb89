/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include "engine.h"
#include "latency.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK  4096u
#define BLOCKS 4096u

/* Where control groups are, in version 2 and in version 1, and what the limit is called. */
static const char *const groups[2][2] = {
    {"/sys/fs/cgroup/tinykv-bench",        "memory.max"           },
    {"/sys/fs/cgroup/memory/tinykv-bench", "memory.limit_in_bytes"}
};

static uint64_t walked_bytes;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)path;
    (void)where;
    if (type == FTW_F)
        walked_bytes += (uint64_t)st->st_blocks * 512;
    return 0;
}

uint64_t bench_disk_bytes(const char *path)
{
    walked_bytes = 0;
    (void)nftw(path, add_size, 16, FTW_PHYS);
    return walked_bytes;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static char made[BENCH_PATH_SIZE];
static pid_t maker; /* not its children, which exit as well */

static void remove_made(void)
{
    if (getpid() == maker)
        bench_remove(made);
}

void bench_directory_new(const char *parent, char path[BENCH_PATH_SIZE])
{
    if (mkdir(parent, 0700) != 0 && errno != EEXIST)
        bench_die("bench", parent, strerror(errno));
    if (snprintf(path, BENCH_PATH_SIZE, "%s/tinykv-bench-XXXXXX", parent) >=
        (int)BENCH_PATH_SIZE)
        bench_die("bench", parent, "too long a path");
    if (mkdtemp(path) == NULL)
        bench_die("bench", parent, strerror(errno));
    memcpy(made, path, BENCH_PATH_SIZE);
    maker = getpid();
    (void)atexit(remove_made);
}

void bench_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

uint64_t bench_device_bytes(const char *path)
{
    char name[96];
    uint64_t sectors = 0;
    struct stat st;
    FILE *file;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    (void)syncfs(fd);
    if (fstat(fd, &st) != 0)
        st.st_dev = 0;
    (void)close(fd);
    snprintf(name, sizeof name, "/sys/dev/block/%u:%u/stat", major(st.st_dev),
             minor(st.st_dev));
    file = fopen(name, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %*u %*u %*u %*u %*u %" SCNu64, &sectors) != 1)
        sectors = 0;
    (void)fclose(file);
    return sectors * 512;
}

uint64_t bench_rss_bytes(void)
{
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void read_range(int fd, off_t from, off_t to)
{
    static char buffer[1024 * 1024];
    ssize_t size = 1;

    for (off_t at = from; at < to && size > 0; at += size)
        size = pread(fd, buffer, sizeof buffer, at);
}

/* Not its holes: the file of an engine that maps it can be one, all but a little. */
static int read_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
    const int fd = type == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    off_t from, to = 0;

    (void)st;
    (void)where;
    if (fd < 0)
        return 0;
    while ((from = lseek(fd, to, SEEK_DATA)) >= 0 &&
           (to = lseek(fd, from, SEEK_HOLE)) > from)
        read_range(fd, from, to);
    (void)close(fd);
    return 0;
}

void bench_read_files(const char *path)
{
    (void)nftw(path, read_file, 16, FTW_PHYS);
}

/* NULL: there is no memory, and what comes is slower. */
static volatile uint8_t *touch(size_t size, bool in_huge_pages)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    volatile uint8_t *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    if (in_huge_pages)
        (void)madvise((void *)(uintptr_t)memory, size, MADV_HUGEPAGE);
    for (size_t at = 0; at < size; at += page)
        memory[at] = 0;
    return memory;
}

/* Single pages come from other places than huge ones: both at once, so that it is not the same
 * memory. */
void bench_touch_memory(uint64_t bytes)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t most = (uint64_t)sysconf(_SC_PHYS_PAGES) * page / 4;
    const size_t size = (size_t)(bytes < most ? bytes : most);
    volatile uint8_t *single = touch(size, false), *huge = touch(size, true);

    if (single != NULL)
        (void)munmap((void *)(uintptr_t)single, size);
    if (huge != NULL)
        (void)munmap((void *)(uintptr_t)huge, size);
}

/* Into a file that is there: where no control groups are mounted, none is made up. */
static bool write_number(const char *directory, const char *name, uint64_t number)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "r+e");
    if (file == NULL)
        return false;
    fprintf(file, "%" PRIu64 "\n", number);
    return fclose(file) == 0;
}

bool bench_limit_memory(uint64_t bytes)
{
    if (bytes == 0)
        return true;
    for (unsigned version = 0; version < 2; version++) {
        const char *const group = groups[version][0];

        (void)mkdir(group, 0755);
        if (write_number(group, groups[version][1], bytes) &&
            write_number(group, "cgroup.procs", (uint64_t)getpid()))
            return true;
    }
    return false;
}

void bench_remove_memory_limit(void)
{
    for (unsigned version = 0; version < 2; version++)
        (void)rmdir(groups[version][0]);
}

static void write_block(int fd, const void *block, uint64_t number)
{
    if (pwrite(fd, block, BLOCK, (off_t)(number % BLOCKS * BLOCK)) != (ssize_t)BLOCK)
        bench_die("bench", "bare write", "failed");
}

double bench_bare_writes(const char *path, double seconds)
{
    char name[1100], *block = aligned_alloc(BLOCK, BLOCK);
    uint64_t count = 0, started_ns;
    int fd;

    snprintf(name, sizeof name, "%s/bare", path);
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || block == NULL)
        bench_die("bench", name, "cannot be made");
    memset(block, 1, BLOCK);
    for (uint64_t i = 0; i < BLOCKS; i++)
        write_block(fd, block, i);
    if (fsync(fd) != 0 || close(fd) != 0)
        bench_die("bench", name, "cannot be synced");
    fd = open(name, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0)
        return 0;
    started_ns = bench_now_ns();
    while (bench_now_ns() - started_ns < (uint64_t)(seconds * 1e9))
        write_block(fd, block, count++);
    started_ns = bench_now_ns() - started_ns;
    (void)close(fd);
    (void)unlink(name);
    free(block);
    return (double)count * 1e9 / (double)started_ns;
}
