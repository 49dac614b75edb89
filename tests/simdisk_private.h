/* SPDX-License-Identifier: MIT */
/*
 * simdisk_private.h - what the files of the simulated disk share:
 *
 *   simdisk_medium.c    memory, a file's content and its clean and dirty pages
 *   simdisk_pending.c   what has been issued and is not durable yet
 *   simdisk_directory.c names and handles
 *   simdisk.c           the gate that every call passes (counting, faults, the crash), and the
 *                       table; its functions are in simdisk_call_*.c
 *   simdisk_fate.c      what becomes of each pending unit in a power cut
 *   simdisk_survivor.c  what a kill or a power cut leaves
 *   simdisk_stale.c     a sector whose reads return what it had before
 *   simdisk_peek.c      the disk from outside: its hash, and files read and damaged
 *
 * Invariants:
 *   - A page that is not in its file's dirty list has the same bytes on the medium, as far
 *     as both sizes reach; bytes of `content` beyond `size` mean nothing.
 *   - A pending write lies within one page, and its page is dirty.
 *   - content does not move while a mapping of it exists.
 */
#ifndef SIMDISK_PRIVATE_H
#define SIMDISK_PRIVATE_H

#include "simdisk.h"

#define ROOT             0u
#define SECTORS_PER_PAGE (SIMDISK_PAGE / SIMDISK_SECTOR)
#define FIRST_HANDLE     3 /* as in the real world */

/* Address space, not memory: what a mapped file may grow to without moving. */
#define REGION_SIZE ((size_t)256 << 20)

struct dirty_page {
    uint32_t page;
    bool
        was_empty; /* the medium has nothing there: saved bytes are not written, but zero */
};

struct simdisk_inode {
    bool in_use;
    bool content_is_region; /* from mmap(), else from malloc() */
    bool sync_failed;
    int late_error;                       /* of a sync that returned 0 */
    char name[SIMDISK_NAME_SIZE_MAX + 1]; /* the last one, for messages and the trace */
    uint8_t *content;
    size_t capacity;
    uint64_t size, durable_size;
    uint64_t size_max;        /* ever: the pages of `content` that have been touched */
    uint64_t extent;          /* no pending unit reaches beyond */
    struct dirty_page *dirty; /* in any order ... */
    uint8_t *saved;           /* ... and the medium's bytes of each, in the same order */
    uint64_t *page_hashes;    /* of `content`; 0 or beyond the count: not known */
    size_t page_hash_count, page_hash_capacity;
    uint32_t *dirty_at; /* by page: 1 + place in `dirty`, 0 for clean */
    size_t dirty_count, dirty_capacity, saved_capacity, dirty_at_count, dirty_at_capacity;
    size_t pending_count, doomed_count;
    size_t handle_count, mapping_count;
};

struct entry {
    char name[SIMDISK_NAME_SIZE_MAX + 1];
    uint32_t target; /* inode, or directory */
    bool is_directory;
};

struct entries {
    struct entry *items;
    size_t count, capacity;
};

struct simdisk_directory {
    char name[SIMDISK_NAME_SIZE_MAX + 1];
    struct entries now, durable;
};

struct simdisk_handle {
    bool in_use, is_directory;
    bool locked, locked_shared;
    unsigned flags;
    uint32_t target;
    uint32_t locked_directory;
};

struct simdisk_mapping {
    uint8_t *address;
    size_t size;
    uint32_t inode;
    bool writable;
};

enum pending_kind {
    GONE, /* to be swept */
    WRITE,
    GROW, /* the size change of an allocation, or of a write whose data became durable on
             its own */
    TRUNCATE,
    LINK,
    RENAME,
    UNLINK
};

struct simdisk_pending {
    enum pending_kind kind;
    bool in_flight;    /* of the write that the crash hit: nobody has seen it whole */
    bool doomed;       /* a sync of it failed; no later one will write it */
    bool is_directory; /* what `target` is, in the directory operations */
    uint32_t target;
    uint32_t directory;
    uint32_t size; /* of its bytes: data, or names, each with its NUL */
    uint32_t seen; /* how many of them are in the content; fewer only when in flight */
    uint64_t offset;
    uint64_t file_size; /* what the file grows to with this unit; TRUNCATE: is cut to */
    size_t at;          /* where its bytes are */
};

/* Bytes that reads get wrong. */
struct simdisk_stale {
    uint32_t inode;
    uint64_t offset;
    size_t size;
    uint8_t bytes[SIMDISK_PAGE];
};

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline bool is_data(const struct simdisk_pending *p)
{
    return p->kind == WRITE || p->kind == GROW || p->kind == TRUNCATE;
}

/* The bytes of content from here to there have changed. */
static inline void simdisk_touch(struct simdisk_inode *inode, uint64_t from, uint64_t to)
{
    const uint64_t last = (to + SIMDISK_PAGE - 1) / SIMDISK_PAGE;

    for (uint64_t page = from / SIMDISK_PAGE; page < last && page < inode->page_hash_count;
         page++)
        inode->page_hashes[page] = 0;
}

/* A disk that is only looked at is const to the caller; its mutex is not part of that. */
static inline pthread_mutex_t *mutex_of(const struct simdisk *disk)
{
    return &((struct simdisk *)(uintptr_t)disk)->mutex;
}

static inline uint32_t directory_index(const struct simdisk *disk,
                                       const struct simdisk_directory *d)
{
    return (uint32_t)(d - disk->directories);
}

static inline uint32_t inode_index(const struct simdisk *disk,
                                   const struct simdisk_inode *inode)
{
    return (uint32_t)(inode - disk->inodes);
}

/* ---- simdisk_medium.c ------------------------------------------------------------ */

void *simdisk_checked(void *memory);
void *simdisk_grow(void *items, size_t *capacity, size_t needed, size_t item_size);
void *simdisk_copy_of(const void *items, size_t size);
uint64_t simdisk_next_random(uint64_t *state);
uint64_t simdisk_mix(uint64_t seed);
void simdisk_fill_random(uint64_t *state, uint8_t *p, size_t size);
__attribute__((format(printf, 2, 3))) void simdisk_violated(struct simdisk *disk,
                                                            const char *format, ...);
__attribute__((format(printf, 2, 3))) void simdisk_note(struct simdisk *disk,
                                                        const char *format, ...);
void simdisk_release_content(struct simdisk_inode *inode);
int simdisk_reserve_content(struct simdisk_inode *inode, uint64_t size);
int simdisk_pin_content(struct simdisk_inode *inode, size_t size);
void simdisk_save_pages(struct simdisk_inode *inode, uint64_t offset, uint64_t end);
void simdisk_clean_all_pages(struct simdisk_inode *inode);
void simdisk_set_size(struct simdisk *disk, struct simdisk_inode *inode, uint64_t size);
void simdisk_put_bytes(struct simdisk *disk, struct simdisk_inode *inode, const void *data,
                       size_t size, uint64_t offset);
uint8_t *simdisk_saved_page(struct simdisk_inode *inode, uint32_t page);
void simdisk_clean_page(struct simdisk_inode *inode, uint32_t page);

/* ---- simdisk_pending.c ----------------------------------------------------------- */

void simdisk_add_pending(struct simdisk *disk, struct simdisk_pending p, const void *bytes);
void simdisk_forget(struct simdisk *disk, struct simdisk_pending *p);
void simdisk_sweep(struct simdisk *disk);
void simdisk_add_pending_write(struct simdisk *disk, uint32_t target,
                               const struct simdisk_pending *whole, const void *data);
void simdisk_settle_inode(struct simdisk *disk, uint32_t target);
void simdisk_settle_pages(struct simdisk *disk, uint32_t target, uint64_t offset,
                          uint64_t end);
void simdisk_fail_sync(struct simdisk *disk, uint32_t target);
void simdisk_drop_cache(struct simdisk *disk, uint32_t target);

/* ---- simdisk_stale.c ------------------------------------------------------------- */

void simdisk_patch_stale(const struct simdisk *disk, uint32_t inode, uint8_t *buffer,
                         size_t size, uint64_t offset);
void simdisk_end_stale(struct simdisk *disk, uint32_t inode, uint64_t offset, size_t size);

/* ---- simdisk_directory.c --------------------------------------------------------- */

struct entry *simdisk_find_entry(const struct entries *entries, const char *name);
void simdisk_remove_entry(struct entries *entries, const char *name);
void simdisk_set_entry(struct entries *entries, const char *name, uint32_t target,
                       bool is_directory);
void simdisk_copy_entries(struct entries *to, const struct entries *from);
void simdisk_apply_entry_operation(struct entries *entries, const struct simdisk_pending *p,
                                   const char *names);
void simdisk_change_entry(struct simdisk *disk, struct simdisk_pending p, const char *from,
                          const char *to);
uint32_t simdisk_add_inode(struct simdisk *disk, const char *name);
uint32_t simdisk_add_directory(struct simdisk *disk, const char *name);
void simdisk_release_inode(struct simdisk *disk, struct simdisk_inode *inode);
bool *simdisk_named_inodes(const struct simdisk *disk);
void simdisk_reclaim(struct simdisk *disk);
int simdisk_add_handle(struct simdisk *disk, struct simdisk_handle handle);
struct simdisk_handle *simdisk_find_handle(struct simdisk *disk, int fd, bool is_directory);
struct simdisk_directory *simdisk_find_directory(struct simdisk *disk, int fd);
struct simdisk_inode *simdisk_find_inode(struct simdisk *disk, int fd);

/* ---- simdisk.c ------------------------------------------------------------------- */

struct simdisk *simdisk_new_without_root(void);
struct simdisk *simdisk_of(struct tkv_os *os);
/* Take the mutex; 0, or how the call fails. *ret_cut: the crash came in this very call. */
int simdisk_enter_cut(struct simdisk *disk, enum simdisk_call call, bool *ret_cut);
int simdisk_enter(struct simdisk *disk, enum simdisk_call call);
int simdisk_leave(struct simdisk *disk, int rc);

static inline uint64_t simdisk_free_bytes(const struct simdisk *disk)
{
    return disk->capacity > disk->used_bytes ? disk->capacity - disk->used_bytes : 0;
}

/* ---- simdisk_fate.c ------------------------------------------------------------- */

/* Which pending units are on the medium. A mask has one bit for each sector of a write's
 * page, or just the lowest for other units. */
struct fate {
    uint64_t random;
    unsigned keep_of_256; /* chance of a unit */
    uint8_t *keep;        /* by pending unit: its mask */
    uint8_t *kept;        /* by page, see page_base: sectors with a survivor ... */
    uint8_t *touched;     /* ... and sectors with any pending write */
    size_t *page_base;    /* by inode: index of its first page in `kept` */
    bool sizes_survive;   /* the new size does, even of a write whose data does not */
    bool shuffle_entries; /* directory operations are applied in any order */
};

uint8_t simdisk_unit_mask(const struct simdisk_pending *p);
uint64_t simdisk_unit_count(const struct simdisk_pending *p, size_t unit_size);
void simdisk_init_fate(const struct simdisk *disk, struct fate *fate);
void simdisk_release_fate(struct fate *fate);
void simdisk_decide(const struct simdisk *disk, struct fate *fate, enum simdisk_model model,
                    uint64_t choice, size_t unit_size);

/* ---- simdisk_call_*.c: the table's functions ------------------------------------ */

/* A write to the cache; `seen` of its bytes, the others were cut off by the crash. */
void simdisk_write_cached(struct simdisk *disk, uint32_t target, const void *data,
                          size_t size, uint64_t offset, size_t seen);
int simdisk_call_open_dir(struct tkv_os *os, const char *path, bool create);
int simdisk_call_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create);
int simdisk_call_sync_dir(struct tkv_os *os, int dir);
int simdisk_call_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context);
int simdisk_call_rename(struct tkv_os *os, int dir, const char *from, const char *to);
int simdisk_call_unlink(struct tkv_os *os, int dir, const char *name);
int simdisk_call_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info);
int simdisk_call_open(struct tkv_os *os, int dir, const char *name, unsigned flags);
int simdisk_call_close(struct tkv_os *os, int fd);
int64_t simdisk_call_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                          uint64_t offset);
int64_t simdisk_call_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset);
int simdisk_call_sync(struct tkv_os *os, int fd);
int simdisk_call_truncate(struct tkv_os *os, int fd, uint64_t size);
int simdisk_call_allocate(struct tkv_os *os, int fd, uint64_t size);
int simdisk_call_file_size(struct tkv_os *os, int fd, uint64_t *ret_size);
int simdisk_call_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice);
int simdisk_call_map(struct tkv_os *os, int fd, size_t size, bool writable,
                     void **ret_address);
int simdisk_call_unmap(struct tkv_os *os, void *address, size_t size);
void simdisk_call_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size);
int simdisk_call_lock(struct tkv_os *os, int dir, int fd, bool shared);
int simdisk_call_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms);
int simdisk_call_monotonic_us(struct tkv_os *os, uint64_t *ret_us);
int simdisk_call_random(struct tkv_os *os, void *buffer, size_t size);

#endif
