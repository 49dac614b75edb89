/* SPDX-License-Identifier: MIT */
/*
 * simdisk.h - a disk in memory behind struct tkv_os, whose power a test can cut. It takes
 * every liberty that lib/os.h leaves: what was not synced may be gone, half there, there in
 * another order, or replaced by garbage.
 *
 *     struct simdisk *disk = simdisk_new(seed);
 *     disk->crash_at = 17;                      the world stops at the 17th call
 *     ... run the engine on &disk->os, close it (everything fails by now) ...
 *     for (uint64_t k = 0; k <= simdisk_pending_count(disk, SIMDISK_SECTOR); k++) {
 *         struct simdisk *after = simdisk_survivor(disk, SIMDISK_PREFIX, k, SIMDISK_SECTOR);
 *         ... open the engine on &after->os and compare with what was acknowledged ...
 *         simdisk_free(after);
 *     }
 *     simdisk_free(disk);
 *
 * How it works. A file has one content, which reads and mappings see, and beside it the old
 * bytes of every page that differs on the medium. The disk has one list of what is pending,
 * in the order of issue: pieces of writes (none crosses a page), changes of size, directory
 * operations. A sync forgets a file's part of both. A survivor is the medium's content with
 * some of the pending list applied to it.
 *
 * Rules that it enforces on the engine, by calling `violated` (which aborts):
 *   - a file renamed to MANIFEST has been synced;
 *   - a file whose sync failed is not synced again before the store's lock was released;
 *   - a DIRECT_SYNC write is aligned, buffer included;
 *   - a store stays inside its mapping and below the end of the file;
 *   - no descriptor or mapping is used after it was closed.
 *
 * A file has one name here, so that TKV_OS_ONLY_NAME never refuses.
 *
 * Deterministic: the same calls give the same disk. One mutex makes it safe for an engine
 * with threads. Every path given to open_dir() is the one root directory.
 */
#ifndef TKV_SIMDISK_H
#define TKV_SIMDISK_H

#include "os.h"

#include <pthread.h>

#define SIMDISK_SECTOR        512u
#define SIMDISK_PAGE          4096u
#define SIMDISK_NAME_SIZE_MAX 63u

/* Kinds of calls, for fail_kinds and crash_kinds. */
enum simdisk_call {
    SIMDISK_OPEN_DIR = 1 << 0, /* open_dir and open_dir_at */
    SIMDISK_SYNC_DIR = 1 << 1,
    SIMDISK_LIST = 1 << 2,
    SIMDISK_RENAME = 1 << 3,
    SIMDISK_UNLINK = 1 << 4,
    SIMDISK_FS_INFO = 1 << 5,
    SIMDISK_OPEN = 1 << 6,
    SIMDISK_CLOSE = 1 << 7,
    SIMDISK_READ = 1 << 8,
    SIMDISK_WRITE = 1 << 9,
    SIMDISK_SYNC = 1 << 10,
    SIMDISK_TRUNCATE = 1 << 11,
    SIMDISK_FILE_SIZE = 1 << 12,
    SIMDISK_ADVISE = 1 << 13, /* but for TKV_OS_WRITE_BACK */
    SIMDISK_MAP = 1 << 14,
    SIMDISK_UNMAP = 1 << 15,
    SIMDISK_STORE = 1 << 16, /* returns nothing, so it can crash but not fail */
    SIMDISK_LOCK = 1 << 17,
    SIMDISK_CLOCK = 1 << 18,
    SIMDISK_RANDOM_BYTES = 1 << 19,
    SIMDISK_WRITE_BACK = 1 << 20, /* where it loses pages, it is a sync that failed */
    SIMDISK_ALLOCATE = 1 << 21,

    SIMDISK_ANY_CALL = (1 << 22) - 1,
    SIMDISK_FALLIBLE = SIMDISK_ANY_CALL & ~SIMDISK_STORE,
    /* What a crash can come before or after and make a difference. */
    SIMDISK_MUTATING = SIMDISK_OPEN_DIR | SIMDISK_SYNC_DIR | SIMDISK_RENAME |
                       SIMDISK_UNLINK | SIMDISK_OPEN | SIMDISK_WRITE | SIMDISK_SYNC |
                       SIMDISK_TRUNCATE | SIMDISK_ALLOCATE | SIMDISK_STORE
};

/* Who survives. "Unit" is a pending write's part in one page (or one sector), a truncate, an
 * allocation, or a directory operation. A unit of a write brings what earlier writes left in the
 * same page or sector along, as a page cache does, except in PREFIX and MASK. A write's new file
 * size comes with its first unit. */
enum simdisk_model {
    /* P0: the process was killed. Everything, the last call cut at crash_cut; what was
     * pending still is, so a power cut may follow. `choice` is unused. */
    SIMDISK_KILLED,
    /* P1: nothing pending. `choice` is unused. */
    SIMDISK_NOTHING_PENDING,
    /* P2: the first `choice` units in order of issue, 0 to simdisk_pending_count(). */
    SIMDISK_PREFIX,
    /* P3: a random subset of pages and directory operations; `choice` is the seed. */
    SIMDISK_SUBSET,
    /* P4: the same by sectors, and a lost sector is old, zero or random. */
    SIMDISK_TORN,
    /* P5: every sector that overlaps a pending write is garbage; sizes survive, and a random
     * subset of directory operations. */
    SIMDISK_TRASHED,
    /* P6: sizes and directory operations survive, data does not: what a file grew by is zero
     * when `choice` is 0, else by chance zero or stale pages of any file. */
    SIMDISK_SIZE_ONLY,
    /* P7: directory operations in any order, some lost; data whole, absent or P3. */
    SIMDISK_ENTRIES_LOST,
    /* Units (pages) whose bit is set in `choice`; beyond the 64th none. For exhaustive
     * enumeration when simdisk_pending_count(disk, SIMDISK_PAGE) is small. */
    SIMDISK_MASK
};

/* What an injected failure of sync() does to the data. In all three it is visible until a
 * power cut, except with REVERTED. */
enum simdisk_failed_sync {
    SIMDISK_FAILED_SYNC_LOSES,   /* pages are clean now: no later sync writes them (ext4) */
    SIMDISK_FAILED_SYNC_KEEPS,   /* still pending: a later sync would do it */
    SIMDISK_FAILED_SYNC_REVERTS, /* reads see the medium's old content again (btrfs) */
};

struct simdisk {
    struct tkv_os os; /* first: the table's functions find the disk by it */

    /* Settings, for the test to write between calls. */
    uint64_t
        capacity; /* files' sizes in whole pages; a write beyond is short, then ENOSPC */
    size_t io_size_max; /* reads and writes move at most this much a call; 0: no limit */
    bool root_is_missing, is_remote, is_read_only, no_direct_sync, no_allocation;
    enum simdisk_failed_sync failed_sync;
    bool failed_sync_is_late; /* it returns 0, and the file's next one the error */
    bool
        drops_cache; /* the advice to forget clean pages is taken: what a failed sync lost is
                         not visible any more */
    bool
        failed_rename_happens; /* an injected failure of rename() has renamed all the same */
    uint64_t wall_ms, wall_step_ms; /* by how much it advances after a call, first 0 */
    uint64_t monotonic_us;          /* advances by 1 a call */
    uint64_t random_state;

    /* Fail call number `fail_at` (from 1; 0: never) of the kinds in `fail_kinds`, without
     * effect; with `fail_sticky` all later ones of these kinds too. */
    uint64_t fail_at;
    unsigned fail_kinds;
    int fail_errno;
    bool fail_sticky;

    /* Stop the world in call number `crash_at` (from 1; 0: never) of the kinds in
     * `crash_kinds`: that call and all later ones fail with -EIO and change nothing, except
     * that a write or store has moved its first `crash_cut` bytes. Clocks and random go on. */
    uint64_t crash_at;
    unsigned crash_kinds;
    size_t crash_cut;

    /* Called, without the mutex, before each call that is counted. A test may take survivors
     * of the disk there, and so visit every crash point in one run. */
    void (*before_call)(struct simdisk *disk, enum simdisk_call call);
    /* Called with a broken rule; the default prints it and aborts. */
    void (*violated)(struct simdisk *disk, const char *message);
    void *context; /* the test's own */

    /* Results, for the test to read. */
    uint64_t calls;       /* all of them */
    uint64_t fail_count;  /* calls of fail_kinds seen since fail_at was in use */
    uint64_t crash_count; /* calls of crash_kinds seen */
    uint64_t faults;      /* failures injected */
    bool crashed;         /* crash_at was reached */
    size_t crashed_size;  /* bytes the write or store it hit wanted to move, else 0 */
    const char *trace;    /* see simdisk_trace(); NULL when off */

    /* Private from here on. */
    pthread_mutex_t mutex;
    uint64_t used_bytes;
    struct simdisk_inode *inodes;
    struct simdisk_directory *directories;
    struct simdisk_handle *handles;
    struct simdisk_mapping *mappings;
    struct simdisk_pending *pending;
    struct simdisk_stale *stale;
    uint8_t *bytes; /* data and names of the pending list */
    char *trace_text;
    size_t inode_count, inode_capacity;
    size_t directory_count, directory_capacity;
    size_t handle_count, handle_capacity;
    size_t mapping_count, mapping_capacity;
    size_t pending_count, pending_capacity;
    size_t bytes_size, bytes_capacity, bytes_live;
    size_t trace_size, trace_capacity;
};

/* An empty disk with an empty, durable root directory. Never fails: a test without memory
 * stops. free(NULL) is fine; mappings and handles end with the disk. */
struct simdisk *simdisk_new(uint64_t seed);
void simdisk_free(struct simdisk *disk);

/* A new disk with what survives of this one: no open files, no locks, no faults, crashes,
 * hooks or trace set; capacity, clocks, random state and other settings are inherited. The
 * disk may be in use. `unit_size` (SIMDISK_SECTOR or SIMDISK_PAGE) matters to PREFIX only. */
struct simdisk *simdisk_survivor(const struct simdisk *disk, enum simdisk_model model,
                                 uint64_t choice, size_t unit_size);
/* The same as a survivor of SIMDISK_KILLED. */
struct simdisk *simdisk_clone(const struct simdisk *disk);
/* Units pending, each write split at multiples of `unit_size`. */
uint64_t simdisk_pending_count(const struct simdisk *disk, size_t unit_size);
/* Say for each unit that is pending what becomes of it in that survivor: one line each, such as
 * "write wal.log 8192+512: 10000000" with a digit for every sector of the page. */
typedef void simdisk_line_fn(void *context, const char *line);
void simdisk_explain(const struct simdisk *disk, enum simdisk_model model, uint64_t choice,
                     size_t unit_size, simdisk_line_fn *fn, void *context);
/* Of names and contents, volatile and durable; equal images have equal hashes, whatever led
 * to them, as long as nothing is pending. */
uint64_t simdisk_hash(const struct simdisk *disk);
/* Handles and mappings that nobody closed. */
size_t simdisk_open_count(const struct simdisk *disk);

/* Record mutating calls that succeed from now on as text, one a line:
 *     create NAME | mkdir NAME | write NAME OFFSET SIZE | write-sync NAME OFFSET SIZE |
 *     store NAME OFFSET SIZE | sync NAME | sync-dir [NAME] | rename FROM TO | unlink NAME |
 *     truncate NAME SIZE | allocate NAME SIZE
 * write-sync is a write with DIRECT_SYNC. Names are without their directory. */
void simdisk_trace(struct simdisk *disk);

/*
 * The disk from outside: not counted, not failed, and durable at once. `name` is a file, or
 * "directory/file". What reads and mappings would see is read; both states are written, which
 * is how a test damages a file or plants one (a missing file, not directory, is made).
 * Return a count or size, or -ENOENT.
 */
int64_t simdisk_file_size(const struct simdisk *disk, const char *name);
int64_t simdisk_file_read(const struct simdisk *disk, const char *name, void *buffer,
                          size_t size, uint64_t offset);
int64_t simdisk_file_write(struct simdisk *disk, const char *name, const void *data,
                           size_t size, uint64_t offset);
int64_t simdisk_file_truncate(struct simdisk *disk, const char *name, uint64_t size);
int64_t simdisk_file_unlink(struct simdisk *disk, const char *name);
/* Reads of these bytes return `old`, until somebody writes there; mappings are right. */
void simdisk_serve_stale(struct simdisk *disk, const char *name, uint64_t offset,
                         const void *old, size_t size);
/* Call `fn` for every file as "file" or "directory/file", in no particular order. */
void simdisk_list(const struct simdisk *disk, tkv_os_name_fn *fn, void *context);

#endif
