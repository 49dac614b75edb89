/* SPDX-License-Identifier: MIT */
/*
 * os.h - everything the engine asks of the world, in one table. lib/os_posix.c is the real
 * one; tests/simdisk.c is a disk whose power can be cut after any call. No other file makes a
 * system call on a file, os_posix_lock.c's flock() apart (a test checks that with nm).
 *
 * Every call returns 0 or a count when it succeeds, and a negative errno when it fails.
 * Descriptors and directories are small non-negative integers of the table's own.
 * All calls are thread-safe on distinct descriptors; read, write, sync and store are
 * thread-safe on the same one as well.
 *
 * Durability, as the engine may rely on it (and the simulated disk takes advantage of):
 *   - write and store: visible to reads at once, and they survive a killed process (a killed
 *     process may leave any prefix of one call). Nothing is durable.
 *   - sync: everything written or stored to that file before the call, its size, and what was
 *     allocated.
 *   - write on a descriptor opened with TKV_OS_DIRECT_SYNC: durable when it returns, with a size
 *     of the file that takes it in, and what was allocated.
 *   - create, rename, unlink: durable after sync_dir() of that directory, in any order before.
 */
#ifndef TKV_OS_H
#define TKV_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tkv_os_open_flags {
    TKV_OS_READ = 0,
    TKV_OS_WRITE = 1,     /* read and write */
    TKV_OS_CREATE = 2,    /* make an empty file when there is none */
    TKV_OS_EXCLUSIVE = 4, /* with CREATE: -EEXIST when there is one */
    TKV_OS_TRUNCATE = 8,
    TKV_OS_DIRECT_SYNC = 16, /* with WRITE: writes bypass the cache and return when durable;
                                buffer, size and offset are multiples of 4096. -EINVAL where
                                the file system cannot */
    TKV_OS_ONLY_NAME = 32    /* -EMLINK when the file has another name besides */
};

enum tkv_os_advice {
    TKV_OS_RANDOM,     /* no readahead */
    TKV_OS_SEQUENTIAL, /* much readahead */
    TKV_OS_DROP_CACHE, /* forget clean cached pages: reads come from the device */
    /* Begin to write to the device what was written; do not wait. -EIO, -ENOSPC, -EDQUOT: some
     * of it is lost, as after a failed sync. */
    TKV_OS_WRITE_BACK
};

struct tkv_os_fs_info {
    uint64_t free_bytes; /* what this user may still allocate */
    uint64_t total_bytes;
    bool is_remote;    /* a network file system, where flock and mmap promise less */
    bool is_read_only; /* mounted read-only */
};

typedef void tkv_os_name_fn(void *context, const char *name);

struct tkv_os {
    /* A directory. `create`: make it (not its parents) with mode 0700 when it is missing.
     * The handle stays right when the directory is renamed. Closed with close(). */
    int (*open_dir)(struct tkv_os *os, const char *path, bool create);
    int (*open_dir_at)(struct tkv_os *os, int dir, const char *name, bool create);
    /* Make everything that happened to the directory's entries durable. */
    int (*sync_dir)(struct tkv_os *os, int dir);
    /* Call `fn` for every entry except "." and "..", in no particular order. */
    int (*list)(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context);
    int (*rename)(struct tkv_os *os, int dir, const char *from, const char *to);
    int (*unlink)(struct tkv_os *os, int dir, const char *name);
    int (*fs_info)(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info);

    /* A regular file, mode 0600; anything else under the name is -EINVAL (-ELOOP for a
     * symbolic link), and a FIFO does not block. */
    int (*open)(struct tkv_os *os, int dir, const char *name, unsigned flags);
    int (*close)(struct tkv_os *os, int fd);
    /* May return fewer bytes than asked for; 0 is the end of the file. EINTR never. */
    int64_t (*read)(struct tkv_os *os, int fd, void *buffer, size_t size, uint64_t offset);
    int64_t (*write)(struct tkv_os *os, int fd, const void *data, size_t size,
                     uint64_t offset);
    int (*sync)(struct tkv_os *os, int fd);
    int (*truncate)(struct tkv_os *os, int fd, uint64_t size);
    /* The file has at least `size` bytes, zeros where it was shorter, and no write or store below
     * can fail for want of room, but where the file system never writes over what is there (btrfs,
     * ZFS). -EOPNOTSUPP where it cannot allocate, or not now; part of it may be done then, as after
     * any failure. */
    int (*allocate)(struct tkv_os *os, int fd, uint64_t size);
    int (*file_size)(struct tkv_os *os, int fd, uint64_t *ret_size);
    int (*advise)(struct tkv_os *os, int fd, enum tkv_os_advice advice);

    /* A shared mapping of the file's first `size` bytes. It may reach beyond the end of the
     * file, which may grow into it later; only bytes below the end may be touched. Survives
     * close(fd). */
    int (*map)(struct tkv_os *os, int fd, size_t size, bool writable, void **ret_address);
    int (*unmap)(struct tkv_os *os, void *address, size_t size);
    /* memcpy into a writable mapping `map` of `fd`. */
    void (*store)(struct tkv_os *os, int fd, void *map, uint64_t offset, const void *data,
                  size_t size);

    /* flock: exclusive, or shared. -EWOULDBLOCK at once when somebody else holds it. Also
     * excludes a second exclusive holder in this process (see `dir`: the table of held
     * locks is keyed by the directory's device and inode). Released by close(fd). */
    int (*lock)(struct tkv_os *os, int dir, int fd, bool shared);

    int (*wall_clock_ms)(struct tkv_os *os, uint64_t *ret_ms);
    int (*monotonic_us)(struct tkv_os *os, uint64_t *ret_us);
    int (*random)(struct tkv_os *os, void *buffer, size_t size);
};

/* The real one: stateless, one for the process. */
struct tkv_os *tkv_os_posix(void);

/* Loops around the table, for callers that want all or an error. Return 0 or -errno;
 * tkv_os_read_all() returns -ENODATA when the file ends first. */
int tkv_os_read_all(struct tkv_os *os, int fd, void *buffer, size_t size, uint64_t offset);
int tkv_os_write_all(struct tkv_os *os, int fd, const void *data, size_t size,
                     uint64_t offset);

/* os->map() and os->unmap(). With pointers of 32 bits all mappings together have at most a
 * quarter of the addresses: -ENOMEM beyond that. */
int tkv_os_map(struct tkv_os *os, int fd, uint64_t size, bool writable, void **ret_address);
void tkv_os_unmap(struct tkv_os *os, void *address, uint64_t size);

#endif
