/* SPDX-License-Identifier: MIT */
/*
 * simdisk.c - from the ground up: memory, a file's content and its clean and dirty pages,
 * the pending list, directories, the gate that every call passes (counting, faults, the
 * crash), the table's functions, and last the survivors.
 *
 * Invariants:
 *   - A page that is not in its file's dirty list has the same bytes on the medium, as far
 *     as both sizes reach; bytes of `content` beyond `size` mean nothing.
 *   - A pending write lies within one page, and its page is dirty.
 *   - content does not move while a mapping of it exists.
 */
#include "simdisk.h"

#include "bytes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    char name[SIMDISK_NAME_SIZE_MAX + 1]; /* the last one, for messages and the trace */
    uint8_t *content;
    size_t capacity;
    uint64_t size, durable_size;
    uint64_t size_max;        /* ever: the pages of `content` that have been touched */
    uint64_t extent;          /* no pending unit reaches beyond */
    struct dirty_page *dirty; /* in any order ... */
    uint8_t *saved;           /* ... and the medium's bytes of each, in the same order */
    uint32_t *dirty_at;       /* by page: 1 + place in `dirty`, 0 for clean */
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
    GROW, /* the size change of a write whose data became durable on its own */
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

/* Memory ------------------------------------------------------------------------------- */

static void *checked(void *memory)
{
    if (memory == NULL) {
        fputs("simdisk: out of memory\n", stderr);
        abort();
    }
    return memory;
}

static void *grow(void *items, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity)
        return items;
    *capacity = needed > 2 * *capacity ? needed : 2 * *capacity;
    if (*capacity < 8)
        *capacity = 8;
    return checked(realloc(items, *capacity * item_size));
}

static void *copy_of(const void *items, size_t size)
{
    return size == 0 ? NULL : memcpy(checked(malloc(size)), items, size);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Neighbouring seeds must not give neighbouring sequences, and zero would give zeros. */
static uint64_t mix(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return seed != 0 ? seed : 1;
}

static void fill_random(uint64_t *state, uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8)
        tkv_put_le64(p, next_random(state));
    for (; size > 0; p++, size--)
        *p = (uint8_t)next_random(state);
}

/* Rules -------------------------------------------------------------------------------- */

static void print_and_abort(struct simdisk *disk, const char *message)
{
    (void)disk;
    fprintf(stderr, "simdisk: %s\n", message);
    fflush(NULL);
    abort();
}

__attribute__((format(printf, 2, 3))) static void violated(struct simdisk *disk,
                                                           const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    disk->violated(disk, message);
}

__attribute__((format(printf, 2, 3))) static void trace(struct simdisk *disk,
                                                        const char *format, ...)
{
    char line[3 * SIMDISK_NAME_SIZE_MAX];
    va_list arguments;
    size_t size;

    if (disk->trace_text == NULL)
        return;
    va_start(arguments, format);
    size = (size_t)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    disk->trace_text =
        grow(disk->trace_text, &disk->trace_capacity, disk->trace_size + size + 1, 1);
    memcpy(disk->trace_text + disk->trace_size, line, size + 1);
    disk->trace_size += size;
    disk->trace = disk->trace_text;
}

/* Regions ------------------------------------------------------------------------------ */

/* Used regions are kept for the next disk: faulting in a megabyte of fresh pages takes longer
 * than recovering a small store. What is left in them does not matter, see the invariants. */
#define SPARE_COUNT 32
#define SPARE_SIZE_MAX \
    ((size_t)4 << 20) /* of the pages touched; larger ones are given back */

static pthread_mutex_t spare_mutex = PTHREAD_MUTEX_INITIALIZER;
static void *spare_regions[SPARE_COUNT];
static size_t spare_count;

static void *new_region(size_t size)
{
    void *region = NULL;

    if (size == REGION_SIZE) {
        (void)pthread_mutex_lock(&spare_mutex);
        if (spare_count > 0)
            region = spare_regions[--spare_count];
        (void)pthread_mutex_unlock(&spare_mutex);
        if (region != NULL)
            return region;
    }
    region = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return region == MAP_FAILED ? NULL : region;
}

static void release_region(void *region, size_t size, uint64_t touched)
{
    if (size == REGION_SIZE && touched <= SPARE_SIZE_MAX) {
        (void)pthread_mutex_lock(&spare_mutex);
        if (spare_count < SPARE_COUNT) {
            spare_regions[spare_count++] = region;
            region = NULL;
        }
        (void)pthread_mutex_unlock(&spare_mutex);
    }
    if (region != NULL)
        (void)munmap(region, size);
}

/* Content ------------------------------------------------------------------------------ */

static void release_content(struct simdisk_inode *inode)
{
    if (inode->content_is_region)
        release_region(inode->content, inode->capacity, inode->size_max);
    else
        free(inode->content);
    inode->content = NULL;
    inode->capacity = 0;
    inode->content_is_region = false;
}

/* Move to memory that can grow to `size`; the caller knows that nothing is mapped. */
static void move_content(struct simdisk_inode *inode, void *memory, size_t size,
                         bool region)
{
    if (inode->size > 0)
        memcpy(memory, inode->content, inode->size);
    release_content(inode);
    inode->content = memory;
    inode->capacity = size;
    inode->content_is_region = region;
}

static int reserve_content(struct simdisk_inode *inode, uint64_t size)
{
    const size_t wanted = max_u64(size, inode->capacity + inode->capacity / 2);

    if (size <= inode->capacity)
        return 0;
    if (inode->mapping_count > 0)
        return -EFBIG; /* see REGION_SIZE */
    if (inode->content_is_region) {
        move_content(inode, checked(malloc(wanted)), wanted, false);
        return 0;
    }
    inode->content = checked(realloc(inode->content, wanted));
    inode->capacity = wanted;
    return 0;
}

static int pin_content(struct simdisk_inode *inode, size_t size)
{
    const size_t wanted = max_u64(REGION_SIZE, 2 * max_u64(size, inode->size));
    void *region;

    if (inode->content_is_region && size <= inode->capacity)
        return 0;
    if (inode->mapping_count > 0)
        return -ENOMEM;
    region = new_region(wanted);
    if (region == NULL)
        return -ENOMEM;
    move_content(inode, region, wanted, true);
    inode->size_max = max_u64(inode->size_max, inode->size);
    return 0;
}

/* Keep the medium's bytes of a page that is about to differ from them. */
static void save_page(struct simdisk_inode *inode, uint32_t page)
{
    const uint64_t start = (uint64_t)page * SIMDISK_PAGE;
    const size_t i = inode->dirty_count;
    uint8_t *saved;

    if (page >= inode->dirty_at_count) {
        const size_t count = (size_t)page + 1;
        inode->dirty_at = grow(inode->dirty_at, &inode->dirty_at_capacity, count,
                               sizeof *inode->dirty_at);
        memset(inode->dirty_at + inode->dirty_at_count, 0,
               (count - inode->dirty_at_count) * sizeof *inode->dirty_at);
        inode->dirty_at_count = count;
    }
    if (inode->dirty_at[page] != 0)
        return;
    inode->dirty = grow(inode->dirty, &inode->dirty_capacity, i + 1, sizeof *inode->dirty);
    inode->saved = grow(inode->saved, &inode->saved_capacity, i + 1, SIMDISK_PAGE);
    inode->dirty[i] = (struct dirty_page){page, start >= inode->size};
    inode->dirty_at[page] = (uint32_t)++inode->dirty_count;
    if (inode->dirty[i].was_empty)
        return;
    saved = inode->saved + i * SIMDISK_PAGE;
    const size_t size = min_u64(SIMDISK_PAGE, inode->size - start);
    memcpy(saved, inode->content + start, size);
    memset(saved + size, 0, SIMDISK_PAGE - size);
}

static void save_pages(struct simdisk_inode *inode, uint64_t offset, uint64_t end)
{
    for (uint64_t page = offset / SIMDISK_PAGE; page * SIMDISK_PAGE < end; page++)
        save_page(inode, (uint32_t)page);
}

static void clean_page(struct simdisk_inode *inode, uint32_t page)
{
    const size_t last = inode->dirty_count - 1;
    size_t i;

    if (page >= inode->dirty_at_count || inode->dirty_at[page] == 0)
        return;
    i = inode->dirty_at[page] - 1;
    inode->dirty_at[page] = 0;
    inode->dirty_count--;
    if (i == last)
        return;
    inode->dirty[i] = inode->dirty[last];
    if (!inode->dirty[i].was_empty) {
        memcpy(inode->saved + i * SIMDISK_PAGE, inode->saved + last * SIMDISK_PAGE,
               SIMDISK_PAGE);
    }
    inode->dirty_at[inode->dirty[i].page] = (uint32_t)i + 1;
}

static void clean_all_pages(struct simdisk_inode *inode)
{
    for (size_t i = 0; i < inode->dirty_count; i++)
        inode->dirty_at[inode->dirty[i].page] = 0;
    inode->dirty_count = 0;
    inode->durable_size = inode->size;
    inode->extent = inode->size;
}

/* The medium's bytes of a dirty page, to be written. */
static uint8_t *saved_page(struct simdisk_inode *inode, uint32_t page)
{
    const size_t i = inode->dirty_at[page] - 1;
    uint8_t *saved = inode->saved + i * SIMDISK_PAGE;

    if (inode->dirty[i].was_empty) {
        memset(saved, 0, SIMDISK_PAGE);
        inode->dirty[i].was_empty = false;
    }
    return saved;
}

static void set_size(struct simdisk *disk, struct simdisk_inode *inode, uint64_t size)
{
    disk->used_bytes -= tkv_round_up(inode->size, SIMDISK_PAGE);
    disk->used_bytes += tkv_round_up(size, SIMDISK_PAGE);
    if (size > inode->size)
        memset(inode->content + inode->size, 0, size - inode->size);
    inode->size = size;
    inode->size_max = max_u64(inode->size_max, size);
    inode->extent = max_u64(inode->extent, size);
}

static void put_bytes(struct simdisk *disk, struct simdisk_inode *inode, const void *data,
                      size_t size, uint64_t offset)
{
    if (size == 0)
        return;
    if (offset + size > inode->size)
        set_size(disk, inode, offset + size);
    memcpy(inode->content + offset, data, size);
}

/* The pending list --------------------------------------------------------------------- */

static bool is_data(const struct simdisk_pending *p)
{
    return p->kind == WRITE || p->kind == GROW || p->kind == TRUNCATE;
}

static void add_pending(struct simdisk *disk, struct simdisk_pending p, const void *bytes)
{
    disk->pending = grow(disk->pending, &disk->pending_capacity, disk->pending_count + 1,
                         sizeof *disk->pending);
    disk->bytes = grow(disk->bytes, &disk->bytes_capacity, disk->bytes_size + p.size, 1);
    p.at = disk->bytes_size;
    if (p.size > 0)
        memcpy(disk->bytes + p.at, bytes, p.size);
    disk->bytes_size += p.size;
    disk->bytes_live += p.size;
    disk->pending[disk->pending_count++] = p;
    if (!is_data(&p))
        return;
    disk->inodes[p.target].pending_count++;
    disk->inodes[p.target].doomed_count += p.doomed;
}

static void forget_bytes(struct simdisk *disk, struct simdisk_pending *p)
{
    disk->bytes_live -= p->size;
    p->size = 0;
    p->seen = 0;
}

/* The caller sweeps when it has forgotten all that it wants to. */
static void forget(struct simdisk *disk, struct simdisk_pending *p)
{
    forget_bytes(disk, p);
    if (is_data(p)) {
        disk->inodes[p->target].pending_count--;
        disk->inodes[p->target].doomed_count -= p->doomed;
    }
    p->kind = GONE;
}

static void sweep(struct simdisk *disk)
{
    const bool move_bytes = disk->bytes_size > 2 * disk->bytes_live + (64 << 10);
    size_t count = 0, bytes_size = 0;

    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending p = disk->pending[i];
        if (p.kind == GONE)
            continue;
        if (move_bytes) {
            if (p.size > 0)
                memmove(disk->bytes + bytes_size, disk->bytes + p.at, p.size);
            p.at = bytes_size;
            bytes_size += p.size;
        }
        disk->pending[count++] = p;
    }
    disk->pending_count = count;
    if (move_bytes || count == 0)
        disk->bytes_size = bytes_size;
}

/* One write, as units that each lie in one page. The first brings the new size. */
static void add_pending_write(struct simdisk *disk, uint32_t target,
                              const struct simdisk_pending *whole, const void *data)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = *whole;
    const uint8_t *at = data;
    uint64_t left = whole->size, seen = whole->seen;

    p.kind = WRITE;
    p.target = target;
    inode->extent = max_u64(inode->extent, whole->offset + whole->size);
    while (left > 0) {
        p.size = (uint32_t)min_u64(left, SIMDISK_PAGE - p.offset % SIMDISK_PAGE);
        p.seen = (uint32_t)min_u64(seen, p.size);
        add_pending(disk, p, at);
        at += p.size;
        left -= p.size;
        seen -= p.seen;
        p.offset += p.size;
        p.file_size = 0;
    }
}

/* The medium's file becomes shorter, and what it has beyond must not come back later. */
static void cut_saved_pages(struct simdisk_inode *inode, uint64_t size)
{
    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t start = (uint64_t)inode->dirty[i].page * SIMDISK_PAGE;
        if (start + SIMDISK_PAGE > size) {
            const size_t left = start < size ? size - start : 0;
            memset(saved_page(inode, inode->dirty[i].page) + left, 0, SIMDISK_PAGE - left);
        }
    }
    inode->durable_size = size;
}

/* Write the units of a file that a sync can still write to the medium's side, while doomed
 * ones stay. The rare path: after a failed sync only. */
static void settle_around_doomed(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) || p->target != target || p->doomed)
            continue;
        if (p->kind == TRUNCATE)
            cut_saved_pages(inode, p->file_size);
        else
            inode->durable_size = max_u64(inode->durable_size, p->file_size);
        if (p->size > 0) {
            uint8_t *saved = saved_page(inode, (uint32_t)(p->offset / SIMDISK_PAGE));
            memcpy(saved + p->offset % SIMDISK_PAGE, disk->bytes + p->at, p->size);
        }
        forget(disk, p);
    }
    sweep(disk);
}

/* What a successful sync does. */
static void settle_inode(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    if (inode->doomed_count > 0) {
        settle_around_doomed(disk, target);
        return;
    }
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]) && disk->pending[i].target == target)
            forget(disk, &disk->pending[i]);
    }
    sweep(disk);
    clean_all_pages(inode);
}

/* A direct write replaces whole pages on the medium, so older units in them are history. A
 * pending truncate is committed with it, as by a journal. */
static void settle_pages(struct simdisk *disk, uint32_t target, uint64_t offset,
                         uint64_t end)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind == TRUNCATE && p->target == target && !p->doomed) {
            settle_inode(disk, target);
            break;
        }
    }
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind != WRITE || p->target != target || p->offset < offset ||
            p->offset >= end)
            continue;
        if (p->file_size == 0) {
            forget(disk, p);
        } else {
            forget_bytes(disk, p);
            p->kind = GROW;
        }
    }
    sweep(disk);
    for (uint64_t page = offset / SIMDISK_PAGE; page < end / SIMDISK_PAGE; page++)
        clean_page(inode, (uint32_t)page);
}

/* What a failed sync does. */
static void fail_sync(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    inode->sync_failed = true;
    if (disk->failed_sync == SIMDISK_FAILED_SYNC_KEEPS)
        return;
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) || p->target != target)
            continue;
        if (disk->failed_sync == SIMDISK_FAILED_SYNC_REVERTS) {
            forget(disk, p);
        } else if (!p->doomed) {
            p->doomed = true;
            inode->doomed_count++;
        }
    }
    if (disk->failed_sync != SIMDISK_FAILED_SYNC_REVERTS)
        return;
    sweep(disk);
    if (reserve_content(inode, inode->durable_size) < 0)
        return; /* mapped and cut short since: nothing can have grown */
    set_size(disk, inode, inode->durable_size);
    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t start = (uint64_t)inode->dirty[i].page * SIMDISK_PAGE;
        if (start < inode->size) {
            memcpy(inode->content + start, saved_page(inode, inode->dirty[i].page),
                   min_u64(SIMDISK_PAGE, inode->size - start));
        }
    }
    clean_all_pages(inode);
}

/* Directories -------------------------------------------------------------------------- */

static struct entry *find_entry(const struct entries *entries, const char *name)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].name, name) == 0)
            return &entries->items[i];
    }
    return NULL;
}

static void remove_entry(struct entries *entries, const char *name)
{
    struct entry *found = find_entry(entries, name);

    if (found != NULL)
        *found = entries->items[--entries->count];
}

static void set_entry(struct entries *entries, const char *name, uint32_t target,
                      bool is_directory)
{
    struct entry *e = find_entry(entries, name);

    if (e == NULL) {
        entries->items =
            grow(entries->items, &entries->capacity, entries->count + 1, sizeof *e);
        e = &entries->items[entries->count++];
        memset(e, 0, sizeof *e);
        strcpy(e->name, name);
    }
    e->target = target;
    e->is_directory = is_directory;
}

static void copy_entries(struct entries *to, const struct entries *from)
{
    to->items = grow(to->items, &to->capacity, from->count, sizeof *to->items);
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
    to->count = from->count;
}

static void apply_entry_operation(struct entries *entries, const struct simdisk_pending *p,
                                  const char *names)
{
    if (p->kind == LINK) {
        set_entry(entries, names, p->target, p->is_directory);
    } else if (p->kind == UNLINK) {
        remove_entry(entries, names);
    } else {
        remove_entry(entries, names);
        set_entry(entries, names + strlen(names) + 1, p->target, p->is_directory);
    }
}

static void change_entry(struct simdisk *disk, struct simdisk_pending p, const char *from,
                         const char *to)
{
    char names[2 * (SIMDISK_NAME_SIZE_MAX + 1)];

    strcpy(names, from);
    p.size = (uint32_t)strlen(from) + 1;
    if (to != NULL) {
        strcpy(names + p.size, to);
        p.size += (uint32_t)strlen(to) + 1;
    }
    apply_entry_operation(&disk->directories[p.directory].now, &p, names);
    add_pending(disk, p, names);
}

static uint32_t add_inode(struct simdisk *disk, const char *name)
{
    size_t i = 0;

    while (i < disk->inode_count && disk->inodes[i].in_use)
        i++;
    if (i == disk->inode_count) {
        disk->inodes = grow(disk->inodes, &disk->inode_capacity, ++disk->inode_count,
                            sizeof *disk->inodes);
    }
    memset(&disk->inodes[i], 0, sizeof disk->inodes[i]);
    disk->inodes[i].in_use = true;
    strcpy(disk->inodes[i].name, name);
    return (uint32_t)i;
}

static uint32_t add_directory(struct simdisk *disk, const char *name)
{
    struct simdisk_directory *d;

    disk->directories = grow(disk->directories, &disk->directory_capacity,
                             disk->directory_count + 1, sizeof *disk->directories);
    d = &disk->directories[disk->directory_count];
    memset(d, 0, sizeof *d);
    strcpy(d->name, name);
    return (uint32_t)disk->directory_count++;
}

static void release_inode(struct simdisk *disk, struct simdisk_inode *inode)
{
    set_size(disk, inode, 0);
    release_content(inode);
    free(inode->dirty);
    free(inode->saved);
    free(inode->dirty_at);
    memset(inode, 0, sizeof *inode);
}

static void mark_entries(const struct entries *entries, bool *reachable)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (!entries->items[i].is_directory)
            reachable[entries->items[i].target] = true;
    }
}

/* Files that have a name, or may get one back by a power cut. Caller frees. */
static bool *named_inodes(const struct simdisk *disk)
{
    bool *reachable = checked(calloc(disk->inode_count + 1, sizeof *reachable));

    for (size_t i = 0; i < disk->directory_count; i++) {
        mark_entries(&disk->directories[i].now, reachable);
        mark_entries(&disk->directories[i].durable, reachable);
    }
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if ((p->kind == LINK || p->kind == RENAME) && !p->is_directory)
            reachable[p->target] = true;
    }
    return reachable;
}

/* Give back the space of files that nobody can reach any more. */
static void reclaim(struct simdisk *disk)
{
    bool *reachable = named_inodes(disk);

    for (size_t i = 0; i < disk->inode_count; i++) {
        struct simdisk_inode *inode = &disk->inodes[i];
        if (!inode->in_use || reachable[i] || inode->handle_count > 0 ||
            inode->mapping_count > 0)
            continue;
        inode->doomed_count = 0;
        for (size_t k = 0; inode->pending_count > 0 && k < disk->pending_count; k++) {
            if (is_data(&disk->pending[k]) && disk->pending[k].target == i) {
                disk->pending[k].doomed = false;
                forget(disk, &disk->pending[k]);
            }
        }
        sweep(disk);
        release_inode(disk, inode);
    }
    free(reachable);
}

/* Handles ------------------------------------------------------------------------------ */

static int add_handle(struct simdisk *disk, struct simdisk_handle handle)
{
    size_t i = 0;

    while (i < disk->handle_count && disk->handles[i].in_use)
        i++;
    if (i == disk->handle_count) {
        disk->handles = grow(disk->handles, &disk->handle_capacity, ++disk->handle_count,
                             sizeof *disk->handles);
    }
    handle.in_use = true;
    disk->handles[i] = handle;
    if (!handle.is_directory)
        disk->inodes[handle.target].handle_count++;
    return (int)i + FIRST_HANDLE;
}

static struct simdisk_handle *find_handle(struct simdisk *disk, int fd, bool is_directory)
{
    const size_t i = (size_t)fd - FIRST_HANDLE;

    if (fd < FIRST_HANDLE || i >= disk->handle_count || !disk->handles[i].in_use) {
        violated(disk, "descriptor %d is used but not open", fd);
        return NULL;
    }
    if (disk->handles[i].is_directory != is_directory) {
        violated(disk, "descriptor %d is %s", fd, is_directory ? "a file" : "a directory");
        return NULL;
    }
    return &disk->handles[i];
}

static struct simdisk_directory *find_directory(struct simdisk *disk, int fd)
{
    const struct simdisk_handle *h = find_handle(disk, fd, true);

    return h == NULL ? NULL : &disk->directories[h->target];
}

static struct simdisk_inode *find_inode(struct simdisk *disk, int fd)
{
    const struct simdisk_handle *h = find_handle(disk, fd, false);

    return h == NULL ? NULL : &disk->inodes[h->target];
}

static uint32_t directory_index(const struct simdisk *disk,
                                const struct simdisk_directory *d)
{
    return (uint32_t)(d - disk->directories);
}

static uint32_t inode_index(const struct simdisk *disk, const struct simdisk_inode *inode)
{
    return (uint32_t)(inode - disk->inodes);
}

/* The gate ----------------------------------------------------------------------------- */

static struct simdisk *disk_of(struct tkv_os *os)
{
    return (struct simdisk *)(void *)os;
}

static bool is_fault(struct simdisk *disk, enum simdisk_call call)
{
    if ((disk->fail_kinds & (unsigned)call) == 0)
        return false;
    disk->fail_count++;
    if (disk->fail_at == 0 || disk->fail_count < disk->fail_at)
        return false;
    return disk->fail_count == disk->fail_at || disk->fail_sticky;
}

static bool is_crash(struct simdisk *disk, enum simdisk_call call)
{
    if ((disk->crash_kinds & (unsigned)call) == 0)
        return false;
    return ++disk->crash_count == disk->crash_at;
}

/* Take the mutex; 0, or how the call fails. *ret_cut: the crash came in this very call. */
static int enter_cut(struct simdisk *disk, enum simdisk_call call, bool *ret_cut)
{
    *ret_cut = false;
    if (disk->before_call != NULL)
        disk->before_call(disk, call);
    (void)pthread_mutex_lock(&disk->mutex);
    disk->calls++;
    if (disk->crashed)
        return call == SIMDISK_CLOCK || call == SIMDISK_RANDOM_BYTES ? 0 : -EIO;
    if (is_crash(disk, call)) {
        disk->crashed = true;
        *ret_cut = true;
        return -EIO;
    }
    if (is_fault(disk, call)) {
        disk->faults++;
        return -disk->fail_errno;
    }
    return 0;
}

static int enter(struct simdisk *disk, enum simdisk_call call)
{
    bool cut;

    return enter_cut(disk, call, &cut);
}

static int leave(struct simdisk *disk, int rc)
{
    (void)pthread_mutex_unlock(&disk->mutex);
    return rc;
}

/* The table: directories --------------------------------------------------------------- */

static int sim_open_dir(struct tkv_os *os, const char *path, bool create)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN_DIR);

    (void)path;
    if (rc == 0 && disk->root_is_missing && !create)
        rc = -ENOENT;
    if (rc == 0) {
        disk->root_is_missing = false;
        rc =
            add_handle(disk, (struct simdisk_handle){.is_directory = true, .target = ROOT});
    }
    return leave(disk, rc);
}

static int open_dir_at(struct simdisk *disk, int dir, const char *name, bool create)
{
    const struct simdisk_directory *d = find_directory(disk, dir);
    struct simdisk_pending p = {.kind = LINK, .is_directory = true};
    const struct entry *e;

    if (d == NULL)
        return -EBADF;
    e = find_entry(&d->now, name);
    if (e != NULL && !e->is_directory)
        return -ENOTDIR;
    if (e == NULL && !create)
        return -ENOENT;
    if (e == NULL && strlen(name) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (e == NULL && disk->is_read_only)
        return -EROFS;
    if (e != NULL)
        p.target = e->target;
    if (e == NULL) {
        p.directory = directory_index(disk, d);
        p.target = add_directory(disk, name);
        change_entry(disk, p, name, NULL);
        trace(disk, "mkdir %s\n", name);
    }
    return add_handle(disk,
                      (struct simdisk_handle){.is_directory = true, .target = p.target});
}

static int sim_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN_DIR);

    if (rc == 0)
        rc = open_dir_at(disk, dir, name, create);
    return leave(disk, rc);
}

static int sync_dir(struct simdisk *disk, int dir)
{
    struct simdisk_directory *d = find_directory(disk, dir);

    if (d == NULL)
        return -EBADF;
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (!is_data(p) && p->directory == directory_index(disk, d))
            forget(disk, p);
    }
    sweep(disk);
    copy_entries(&d->durable, &d->now);
    trace(disk, "sync-dir%s%s\n", d->name[0] != 0 ? " " : "", d->name);
    reclaim(disk);
    return 0;
}

static int sim_sync_dir(struct tkv_os *os, int dir)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_SYNC_DIR);

    if (rc == 0)
        rc = sync_dir(disk, dir);
    return leave(disk, rc);
}

static int sim_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_LIST);
    struct entries entries = {NULL, 0, 0};

    if (rc == 0) {
        const struct simdisk_directory *d = find_directory(disk, dir);
        if (d == NULL)
            rc = -EBADF;
        else
            copy_entries(&entries, &d->now);
    }
    (void)leave(disk, rc);
    /* `fn` may well call the table, to remove the file it was told of. */
    for (size_t i = 0; i < entries.count; i++)
        fn(context, entries.items[i].name);
    free(entries.items);
    return rc;
}

static int rename_entry(struct simdisk *disk, int dir, const char *from, const char *to)
{
    const struct simdisk_directory *d = find_directory(disk, dir);
    struct simdisk_pending p = {.kind = RENAME};
    const struct entry *e, *replaced;

    if (d == NULL)
        return -EBADF;
    e = find_entry(&d->now, from);
    if (e == NULL)
        return -ENOENT;
    if (strlen(to) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    replaced = find_entry(&d->now, to);
    if (replaced != NULL && (replaced->is_directory || e->is_directory))
        return -EISDIR;
    if (disk->is_read_only)
        return -EROFS;
    p.directory = directory_index(disk, d);
    p.target = e->target;
    p.is_directory = e->is_directory;
    if (!p.is_directory) {
        if (strcmp(to, "MANIFEST") == 0 && disk->inodes[p.target].pending_count > 0)
            violated(disk, "%s is renamed to %s before it is synced", from, to);
        strcpy(disk->inodes[p.target].name, to);
    }
    trace(disk, "rename %s %s\n", from, to);
    if (strcmp(from, to) != 0)
        change_entry(disk, p, from, to);
    reclaim(disk);
    return 0;
}

static int sim_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_RENAME);

    if (rc == 0)
        rc = rename_entry(disk, dir, from, to);
    return leave(disk, rc);
}

static int unlink_entry(struct simdisk *disk, int dir, const char *name)
{
    const struct simdisk_directory *d = find_directory(disk, dir);
    struct simdisk_pending p = {.kind = UNLINK};
    const struct entry *e;

    if (d == NULL)
        return -EBADF;
    e = find_entry(&d->now, name);
    if (e == NULL)
        return -ENOENT;
    if (e->is_directory)
        return -EISDIR;
    if (disk->is_read_only)
        return -EROFS;
    p.directory = directory_index(disk, d);
    trace(disk, "unlink %s\n", name);
    change_entry(disk, p, name, NULL);
    reclaim(disk);
    return 0;
}

static int sim_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_UNLINK);

    if (rc == 0)
        rc = unlink_entry(disk, dir, name);
    return leave(disk, rc);
}

static uint64_t free_bytes(const struct simdisk *disk)
{
    return disk->capacity > disk->used_bytes ? disk->capacity - disk->used_bytes : 0;
}

static int sim_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_FS_INFO);

    if (rc == 0 && find_directory(disk, dir) == NULL)
        rc = -EBADF;
    if (rc == 0) {
        *ret_info = (struct tkv_os_fs_info){
            .free_bytes = free_bytes(disk),
            .total_bytes = disk->capacity,
            .is_remote = disk->is_remote,
            .is_read_only = disk->is_read_only,
        };
    }
    return leave(disk, rc);
}

/* The table: files --------------------------------------------------------------------- */

static int truncate_inode(struct simdisk *disk, uint32_t target, uint64_t size)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    struct simdisk_pending p = {.kind = TRUNCATE, .target = target, .file_size = size};
    int rc;

    if (size == inode->size)
        return 0;
    if (size > inode->size &&
        tkv_round_up(size, SIMDISK_PAGE) - tkv_round_up(inode->size, SIMDISK_PAGE) >
            free_bytes(disk))
        return -ENOSPC;
    rc = reserve_content(inode, size);
    if (rc < 0)
        return rc;
    if (size < inode->size)
        save_pages(inode, size, inode->size);
    set_size(disk, inode, size);
    add_pending(disk, p, NULL);
    return 0;
}

static int check_open(const struct simdisk *disk, const struct entry *e, const char *name,
                      unsigned flags)
{
    if (strlen(name) > SIMDISK_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (e != NULL && e->is_directory)
        return -EINVAL;
    if (e != NULL && flags & TKV_OS_EXCLUSIVE)
        return -EEXIST;
    if (e == NULL && !(flags & TKV_OS_CREATE))
        return -ENOENT;
    if (disk->is_read_only && (e == NULL || flags & (TKV_OS_WRITE | TKV_OS_TRUNCATE)))
        return -EROFS;
    if (disk->no_direct_sync && flags & TKV_OS_DIRECT_SYNC)
        return -EINVAL;
    return 0;
}

static int open_file(struct simdisk *disk, int dir, const char *name, unsigned flags)
{
    const struct simdisk_directory *d = find_directory(disk, dir);
    struct simdisk_pending p = {.kind = LINK};
    const struct entry *e;
    int rc;

    if (d == NULL)
        return -EBADF;
    e = find_entry(&d->now, name);
    rc = check_open(disk, e, name, flags);
    if (rc < 0)
        return rc;
    p.directory = directory_index(disk, d);
    p.target = e != NULL ? e->target : add_inode(disk, name);
    if (e == NULL) {
        change_entry(disk, p, name, NULL);
        trace(disk, "create %s\n", name);
    } else if (flags & TKV_OS_TRUNCATE && disk->inodes[p.target].size > 0) {
        (void)truncate_inode(disk, p.target, 0);
        trace(disk, "truncate %s 0\n", name);
    }
    return add_handle(disk, (struct simdisk_handle){.flags = flags, .target = p.target});
}

static int sim_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_OPEN);

    if (rc == 0)
        rc = open_file(disk, dir, name, flags);
    return leave(disk, rc);
}

static void close_handle(struct simdisk *disk, int fd)
{
    struct simdisk_handle *h;
    const size_t i = (size_t)fd - FIRST_HANDLE;

    if (fd < FIRST_HANDLE || i >= disk->handle_count || !disk->handles[i].in_use) {
        violated(disk, "descriptor %d is closed but not open", fd);
        return;
    }
    h = &disk->handles[i];
    h->in_use = false;
    /* The store is closed. Whoever opens it next has read the files again. */
    for (size_t k = 0; h->locked && k < disk->inode_count; k++)
        disk->inodes[k].sync_failed = false;
    if (!h->is_directory && --disk->inodes[h->target].handle_count == 0)
        reclaim(disk);
}

/* A close that fails has closed all the same. */
static int sim_close(struct tkv_os *os, int fd)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOSE);

    close_handle(disk, fd);
    return leave(disk, rc);
}

static size_t io_size(const struct simdisk *disk, size_t size, bool direct)
{
    const size_t limit =
        direct ? disk->io_size_max / SIMDISK_PAGE * SIMDISK_PAGE : disk->io_size_max;

    return limit == 0 || size < limit ? size : limit;
}

static bool is_aligned(const void *buffer, size_t size, uint64_t offset)
{
    return ((uintptr_t)buffer | size | offset) % SIMDISK_PAGE == 0;
}

static int64_t read_file(struct simdisk *disk, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    const struct simdisk_handle *h = find_handle(disk, fd, false);
    const struct simdisk_inode *inode;

    if (h == NULL)
        return -EBADF;
    if (h->flags & TKV_OS_DIRECT_SYNC && !is_aligned(buffer, size, offset))
        return -EINVAL; /* O_DIRECT is for reads as well */
    inode = &disk->inodes[h->target];
    if (offset >= inode->size)
        return 0;
    size = io_size(disk, size, h->flags & TKV_OS_DIRECT_SYNC);
    size = min_u64(size, inode->size - offset);
    memcpy(buffer, inode->content + offset, size);
    return (int64_t)size;
}

static int64_t sim_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                        uint64_t offset)
{
    struct simdisk *disk = disk_of(os);
    int64_t n = enter(disk, SIMDISK_READ);

    if (n == 0)
        n = read_file(disk, fd, buffer, size, offset);
    (void)leave(disk, 0);
    return n;
}

/* How much of a write fits: a full disk takes what it has room for. */
static uint64_t room_for(const struct simdisk *disk, const struct simdisk_inode *inode,
                         uint64_t offset, uint64_t size)
{
    const uint64_t end = tkv_round_up(inode->size, SIMDISK_PAGE) +
                         free_bytes(disk) / SIMDISK_PAGE * SIMDISK_PAGE;

    return offset >= end ? 0 : min_u64(size, end - offset);
}

/* A write to the cache; `seen` of its bytes, the others were cut off by the crash. */
static void write_cached(struct simdisk *disk, uint32_t target, const void *data,
                         size_t size, uint64_t offset, size_t seen)
{
    struct simdisk_inode *inode = &disk->inodes[target];
    const uint64_t end = offset + size;
    struct simdisk_pending whole = {
        .in_flight = seen<size, .offset = offset, .size = (uint32_t)size,
                          .seen = (uint32_t)seen, .file_size = end>
                             inode->size
                         ? end
                         : 0,
    };

    /* All of it, seen or not: survivors look up every page of a pending unit. */
    save_pages(inode, offset, end);
    put_bytes(disk, inode, data, seen, offset);
    add_pending_write(disk, target, &whole, data);
}

static void write_direct(struct simdisk *disk, uint32_t target, const void *data,
                         size_t size, uint64_t offset)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    settle_pages(disk, target, offset, offset + size);
    put_bytes(disk, inode, data, size, offset);
    inode->durable_size = max_u64(inode->durable_size, offset + size);
}

static int64_t write_file(struct simdisk *disk, int fd, const void *data, size_t size,
                          uint64_t offset, bool cut)
{
    const struct simdisk_handle *h = find_handle(disk, fd, false);
    bool direct;
    int rc;

    if (h == NULL || !(h->flags & TKV_OS_WRITE))
        return -EBADF;
    direct = h->flags & TKV_OS_DIRECT_SYNC;
    if (direct && !is_aligned(data, size, offset)) {
        violated(disk, "misaligned direct write to %s: %zu bytes at %llu from %p",
                 disk->inodes[h->target].name, size, (unsigned long long)offset, data);
        return -EINVAL;
    }
    size = io_size(disk, min_u64(size, 1u << 30), direct);
    if (size == 0)
        return 0;
    if (room_for(disk, &disk->inodes[h->target], offset, size) == 0)
        return -ENOSPC;
    size = room_for(disk, &disk->inodes[h->target], offset, size);
    rc = reserve_content(&disk->inodes[h->target], offset + size);
    if (rc < 0)
        return rc;
    if (cut) {
        disk->crashed_size = size;
        write_cached(disk, h->target, data, size, offset, min_u64(size, disk->crash_cut));
        return -EIO;
    }
    if (direct)
        write_direct(disk, h->target, data, size, offset);
    else
        write_cached(disk, h->target, data, size, offset, size);
    trace(disk, "write%s %s %llu %zu\n", direct ? "-sync" : "",
          disk->inodes[h->target].name, (unsigned long long)offset, size);
    return (int64_t)size;
}

static int64_t sim_write(struct tkv_os *os, int fd, const void *data, size_t size,
                         uint64_t offset)
{
    struct simdisk *disk = disk_of(os);
    bool cut;
    int64_t n = enter_cut(disk, SIMDISK_WRITE, &cut);

    if (n == 0 || cut)
        n = write_file(disk, fd, data, size, offset, cut);
    (void)leave(disk, 0);
    return cut ? -EIO : n;
}

static int sync_file(struct simdisk *disk, int fd, int fault)
{
    struct simdisk_inode *inode = find_inode(disk, fd);

    if (inode == NULL)
        return -EBADF;
    if (inode->sync_failed)
        violated(disk, "%s is synced again after a failed sync", inode->name);
    if (fault < 0) {
        fail_sync(disk, inode_index(disk, inode));
        return fault;
    }
    settle_inode(disk, inode_index(disk, inode));
    trace(disk, "sync %s\n", inode->name);
    return 0;
}

static int sim_sync(struct tkv_os *os, int fd)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_SYNC);

    if (!disk->crashed)
        rc = sync_file(disk, fd, rc);
    return leave(disk, rc);
}

static int sim_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_TRUNCATE);

    if (rc == 0) {
        const struct simdisk_handle *h = find_handle(disk, fd, false);
        rc = h == NULL || !(h->flags & TKV_OS_WRITE)
                 ? -EBADF
                 : truncate_inode(disk, h->target, size);
        if (rc == 0) {
            trace(disk, "truncate %s %llu\n", disk->inodes[h->target].name,
                  (unsigned long long)size);
        }
    }
    return leave(disk, rc);
}

static int sim_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_FILE_SIZE);

    if (rc == 0) {
        const struct simdisk_inode *inode = find_inode(disk, fd);
        if (inode != NULL)
            *ret_size = inode->size;
        else
            rc = -EBADF;
    }
    return leave(disk, rc);
}

static int sim_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_ADVISE);

    (void)advice;
    if (rc == 0 && find_inode(disk, fd) == NULL)
        rc = -EBADF;
    return leave(disk, rc);
}

/* The table: mappings ------------------------------------------------------------------ */

static int map_file(struct simdisk *disk, int fd, size_t size, bool writable,
                    void **ret_address)
{
    const struct simdisk_handle *h = find_handle(disk, fd, false);
    struct simdisk_inode *inode;
    int rc;

    if (h == NULL)
        return -EBADF;
    if (size == 0)
        return -EINVAL;
    if (writable && !(h->flags & TKV_OS_WRITE))
        return -EACCES;
    inode = &disk->inodes[h->target];
    rc = pin_content(inode, size);
    if (rc < 0)
        return rc;
    disk->mappings = grow(disk->mappings, &disk->mapping_capacity, disk->mapping_count + 1,
                          sizeof *disk->mappings);
    disk->mappings[disk->mapping_count++] =
        (struct simdisk_mapping){inode->content, size, h->target, writable};
    inode->mapping_count++;
    *ret_address = inode->content;
    return 0;
}

static int sim_map(struct tkv_os *os, int fd, size_t size, bool writable,
                   void **ret_address)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_MAP);

    if (rc == 0)
        rc = map_file(disk, fd, size, writable, ret_address);
    return leave(disk, rc);
}

/* Two mappings of one file have one address here, so the size has to match as well. */
static void unmap_file(struct simdisk *disk, const uint8_t *address, size_t size)
{
    for (size_t i = 0; i < disk->mapping_count; i++) {
        const struct simdisk_mapping m = disk->mappings[i];
        if (m.address != address || m.size != size)
            continue;
        disk->mappings[i] = disk->mappings[--disk->mapping_count];
        if (--disk->inodes[m.inode].mapping_count == 0)
            reclaim(disk);
        return;
    }
    violated(disk, "%zu bytes at %p are unmapped but not mapped", size,
             (const void *)address);
}

static int sim_unmap(struct tkv_os *os, void *address, size_t size)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_UNMAP);

    unmap_file(disk, address, size);
    return leave(disk, rc);
}

static bool may_store(struct simdisk *disk, const struct simdisk_inode *inode,
                      const uint8_t *map, uint64_t offset, size_t size)
{
    const uint64_t end = offset + size;

    for (size_t i = 0; i < disk->mapping_count; i++) {
        const struct simdisk_mapping *m = &disk->mappings[i];
        if (m->address == map && m->writable && end <= m->size &&
            m->inode == inode_index(disk, inode) && end <= inode->size)
            return true;
    }
    violated(disk, "store of %zu bytes at %llu to %s (%llu bytes) is outside", size,
             (unsigned long long)offset, inode->name, (unsigned long long)inode->size);
    return false;
}

static void sim_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                      const void *data, size_t size)
{
    struct simdisk *disk = disk_of(os);
    bool cut;
    const int rc = enter_cut(disk, SIMDISK_STORE, &cut);

    if (rc == 0 || cut) {
        const struct simdisk_inode *inode = find_inode(disk, fd);
        if (inode != NULL && size > 0 && may_store(disk, inode, map, offset, size)) {
            if (cut)
                disk->crashed_size = size;
            else
                trace(disk, "store %s %llu %zu\n", inode->name, (unsigned long long)offset,
                      size);
            write_cached(disk, inode_index(disk, inode), data, size, offset,
                         cut ? min_u64(size, disk->crash_cut) : size);
        }
    }
    (void)leave(disk, rc);
}

/* The table: locks, clocks, chance ----------------------------------------------------- */

static int lock_file(struct simdisk *disk, int dir, int fd, bool shared)
{
    const struct simdisk_handle *d = find_handle(disk, dir, true);
    struct simdisk_handle *h = find_handle(disk, fd, false);

    if (d == NULL || h == NULL)
        return -EBADF;
    if (h->locked)
        return -EINVAL;
    for (size_t i = 0; i < disk->handle_count; i++) {
        const struct simdisk_handle *other = &disk->handles[i];
        if (other->in_use && other->locked && !(shared && other->locked_shared) &&
            (other->target == h->target || other->locked_directory == d->target))
            return -EWOULDBLOCK;
    }
    h->locked = true;
    h->locked_shared = shared;
    h->locked_directory = d->target;
    return 0;
}

static int sim_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    struct simdisk *disk = disk_of(os);
    int rc = enter(disk, SIMDISK_LOCK);

    if (rc == 0)
        rc = lock_file(disk, dir, fd, shared);
    return leave(disk, rc);
}

static int sim_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOCK);

    if (rc == 0)
        *ret_ms = disk->wall_ms;
    return leave(disk, rc);
}

static int sim_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_CLOCK);

    if (rc == 0)
        *ret_us = ++disk->monotonic_us;
    return leave(disk, rc);
}

static int sim_random(struct tkv_os *os, void *buffer, size_t size)
{
    struct simdisk *disk = disk_of(os);
    const int rc = enter(disk, SIMDISK_RANDOM_BYTES);

    if (rc == 0)
        fill_random(&disk->random_state, buffer, size);
    return leave(disk, rc);
}

/* Lifetime ----------------------------------------------------------------------------- */

static const struct tkv_os simdisk_os = {
    .open_dir = sim_open_dir,
    .open_dir_at = sim_open_dir_at,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .fs_info = sim_fs_info,
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .file_size = sim_file_size,
    .advise = sim_advise,
    .map = sim_map,
    .unmap = sim_unmap,
    .store = sim_store,
    .lock = sim_lock,
    .wall_clock_ms = sim_wall_clock_ms,
    .monotonic_us = sim_monotonic_us,
    .random = sim_random,
};

static struct simdisk *new_without_root(void)
{
    struct simdisk *disk = checked(calloc(1, sizeof *disk));

    disk->os = simdisk_os;
    disk->capacity = (uint64_t)1 << 40;
    disk->wall_ms = 1700000000000u;
    disk->fail_kinds = SIMDISK_FALLIBLE;
    disk->fail_errno = EIO;
    disk->crash_kinds = SIMDISK_MUTATING;
    disk->violated = print_and_abort;
    disk->bytes =
        grow(NULL, &disk->bytes_capacity, 1, 1); /* never NULL: others point into it */
    (void)pthread_mutex_init(&disk->mutex, NULL);
    return disk;
}

struct simdisk *simdisk_new(uint64_t seed)
{
    struct simdisk *disk = new_without_root();

    disk->random_state = mix(seed);
    (void)add_directory(disk, "");
    return disk;
}

void simdisk_free(struct simdisk *disk)
{
    if (disk == NULL)
        return;
    for (size_t i = 0; i < disk->inode_count; i++)
        release_inode(disk, &disk->inodes[i]);
    for (size_t i = 0; i < disk->directory_count; i++) {
        free(disk->directories[i].now.items);
        free(disk->directories[i].durable.items);
    }
    free(disk->inodes);
    free(disk->directories);
    free(disk->handles);
    free(disk->mappings);
    free(disk->pending);
    free(disk->bytes);
    free(disk->trace_text);
    (void)pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

static struct simdisk *new_like(const struct simdisk *disk)
{
    struct simdisk *after = new_without_root();

    after->capacity = disk->capacity;
    after->io_size_max = disk->io_size_max;
    after->root_is_missing = disk->root_is_missing;
    after->is_remote = disk->is_remote;
    after->is_read_only = disk->is_read_only;
    after->no_direct_sync = disk->no_direct_sync;
    after->failed_sync = disk->failed_sync;
    after->wall_ms = disk->wall_ms;
    after->monotonic_us = disk->monotonic_us;
    after->random_state = disk->random_state;
    after->violated = disk->violated;
    after->context = disk->context;
    after->inodes = checked(calloc(disk->inode_count + 1, sizeof *after->inodes));
    after->inode_count = disk->inode_count;
    after->inode_capacity = disk->inode_count + 1;
    for (size_t i = 0; i < disk->directory_count; i++)
        (void)add_directory(after, disk->directories[i].name);
    return after;
}

/* Survivors: the process was killed ---------------------------------------------------- */

static void copy_inode(struct simdisk *after, size_t i, const struct simdisk_inode *from)
{
    struct simdisk_inode *to = &after->inodes[i];

    to->in_use = true;
    memcpy(to->name, from->name, sizeof to->name);
    to->content = copy_of(from->content, from->size);
    to->capacity = from->size;
    to->size = from->size;
    to->durable_size = from->durable_size;
    to->extent = from->extent;
    after->used_bytes += tkv_round_up(to->size, SIMDISK_PAGE);
    if (from->dirty_count == 0)
        return;
    to->dirty = copy_of(from->dirty, from->dirty_count * sizeof *to->dirty);
    to->dirty_at = copy_of(from->dirty_at, from->dirty_at_count * sizeof *to->dirty_at);
    to->saved = checked(malloc(from->dirty_count * SIMDISK_PAGE));
    to->dirty_count = to->dirty_capacity = to->saved_capacity = from->dirty_count;
    to->dirty_at_count = to->dirty_at_capacity = from->dirty_at_count;
    for (size_t k = 0; k < to->dirty_count; k++) {
        if (!to->dirty[k].was_empty) {
            memcpy(to->saved + k * SIMDISK_PAGE, from->saved + k * SIMDISK_PAGE,
                   SIMDISK_PAGE);
        }
    }
}

static void copy_pending(struct simdisk *after, const struct simdisk *disk)
{
    after->pending = grow(after->pending, &after->pending_capacity, disk->pending_count,
                          sizeof *after->pending);
    after->bytes = grow(after->bytes, &after->bytes_capacity, disk->bytes_size, 1);
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending p = disk->pending[i];
        if (is_data(&p) && !after->inodes[p.target].in_use)
            continue;
        if (p.in_flight) {
            if (p.seen == 0)
                continue;
            p.size = p.seen;
            p.file_size = min_u64(p.file_size, after->inodes[p.target].size);
            p.in_flight = false;
        }
        add_pending(after, p, disk->bytes + p.at);
    }
}

static struct simdisk *survive_kill(const struct simdisk *disk)
{
    struct simdisk *after = new_like(disk);
    bool *named = named_inodes(disk);

    for (size_t i = 0; i < disk->directory_count; i++) {
        copy_entries(&after->directories[i].now, &disk->directories[i].now);
        copy_entries(&after->directories[i].durable, &disk->directories[i].durable);
    }
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].in_use && named[i])
            copy_inode(after, i, &disk->inodes[i]);
    }
    copy_pending(after, disk);
    free(named);
    return after;
}

/* Survivors: the power was cut --------------------------------------------------------- */

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

static uint8_t unit_mask(const struct simdisk_pending *p)
{
    unsigned first, last;

    if (p->kind != WRITE)
        return 1;
    first = (unsigned)(p->offset % SIMDISK_PAGE) / SIMDISK_SECTOR;
    last = (unsigned)(p->offset % SIMDISK_PAGE + p->size - 1) / SIMDISK_SECTOR;
    return (uint8_t)((2u << last) - (1u << first));
}

static uint64_t unit_count(const struct simdisk_pending *p, size_t unit_size)
{
    return unit_size == SIMDISK_SECTOR ? (uint64_t)__builtin_popcount(unit_mask(p)) : 1;
}

static uint8_t lowest_bits(uint8_t mask, uint64_t count)
{
    unsigned kept = 0;

    for (unsigned bit = 1; bit <= mask && count > 0; bit <<= 1) {
        if (mask & bit) {
            kept |= bit;
            count--;
        }
    }
    return (uint8_t)kept;
}

static bool is_kept(struct fate *fate)
{
    return (next_random(&fate->random) >> 32) % 256 < fate->keep_of_256;
}

static void decide_prefix(const struct simdisk *disk, struct fate *fate, uint64_t left,
                          size_t unit_size)
{
    for (size_t i = 0; i < disk->pending_count && left > 0; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        const uint64_t count = unit_count(p, unit_size);
        fate->keep[i] = count <= left ? unit_mask(p) : lowest_bits(unit_mask(p), left);
        left -= min_u64(left, count);
    }
}

static void decide_by_mask(const struct simdisk *disk, struct fate *fate, uint64_t choice)
{
    for (size_t i = 0; i < disk->pending_count && i < 64; i++) {
        if (choice >> i & 1)
            fate->keep[i] = unit_mask(&disk->pending[i]);
    }
}

/* From the last unit to the first: one that survives in a page (or sector) brings all
 * earlier ones there along, because what reaches the medium is the cache's page. */
static void decide_at_random(const struct simdisk *disk, struct fate *fate, bool by_sectors)
{
    for (size_t i = disk->pending_count; i-- > 0;) {
        const struct simdisk_pending *p = &disk->pending[i];
        const uint8_t mask = unit_mask(p);
        uint8_t *kept;

        if (p->kind != WRITE) {
            fate->keep[i] = is_kept(fate);
            continue;
        }
        kept = &fate->kept[fate->page_base[p->target] + p->offset / SIMDISK_PAGE];
        if (!by_sectors) {
            if (*kept == 0 && is_kept(fate))
                *kept = 0xff;
        } else {
            for (unsigned bit = 1; bit <= mask; bit <<= 1) {
                if (mask & bit & ~(unsigned)*kept && is_kept(fate))
                    *kept = (uint8_t)(*kept | bit);
            }
        }
        fate->keep[i] = mask & *kept;
    }
}

static void decide_sizes_only(const struct simdisk *disk, struct fate *fate)
{
    fate->sizes_survive = true;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (is_data(p))
            fate->keep[i] = p->kind != WRITE;
        else
            fate->keep[i] = is_kept(fate);
    }
}

static void decide_all_data(const struct simdisk *disk, struct fate *fate, bool keep)
{
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]))
            fate->keep[i] = keep ? unit_mask(&disk->pending[i]) : 0;
    }
}

static void decide_entries_apart(const struct simdisk *disk, struct fate *fate)
{
    const unsigned data = (unsigned)(next_random(&fate->random) >> 32) % 3;

    fate->shuffle_entries = true;
    decide_at_random(disk, fate, false);
    if (data < 2)
        decide_all_data(disk, fate, data == 1);
}

static void decide(const struct simdisk *disk, struct fate *fate, enum simdisk_model model,
                   uint64_t choice, size_t unit_size)
{
    static const unsigned chances[] = {32, 128, 224};

    fate->random = mix(choice);
    fate->keep_of_256 = chances[fate->random % 3];
    switch (model) {
    case SIMDISK_KILLED: /* not a power cut */
    case SIMDISK_NOTHING_PENDING:
        break;
    case SIMDISK_PREFIX:
        decide_prefix(disk, fate, choice, unit_size);
        break;
    case SIMDISK_SUBSET:
        decide_at_random(disk, fate, false);
        break;
    case SIMDISK_TORN:
        decide_at_random(disk, fate, true);
        break;
    case SIMDISK_SIZE_ONLY:
        fate->keep_of_256 = 256;
        decide_sizes_only(disk, fate);
        break;
    case SIMDISK_TRASHED:
        decide_sizes_only(disk, fate);
        break;
    case SIMDISK_ENTRIES_LOST:
        decide_entries_apart(disk, fate);
        break;
    case SIMDISK_MASK:
        decide_by_mask(disk, fate, choice);
        break;
    }
}

static void init_fate(const struct simdisk *disk, struct fate *fate)
{
    size_t pages = 0;

    *fate = (struct fate){.keep = NULL};
    fate->page_base = checked(malloc((disk->inode_count + 1) * sizeof *fate->page_base));
    for (size_t i = 0; i < disk->inode_count; i++) {
        fate->page_base[i] = pages;
        pages += (disk->inodes[i].extent + SIMDISK_PAGE - 1) / SIMDISK_PAGE;
    }
    fate->keep = checked(calloc(disk->pending_count + 2 * pages + 1, 1));
    fate->kept = fate->keep + disk->pending_count;
    fate->touched = fate->kept + pages;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (p->kind == WRITE) {
            const size_t page = fate->page_base[p->target] + p->offset / SIMDISK_PAGE;
            fate->touched[page] |= unit_mask(p);
        }
    }
}

static void release_fate(struct fate *fate)
{
    free(fate->keep);
    free(fate->page_base);
}

static void survive_entries(struct simdisk *after, const struct simdisk *disk,
                            struct fate *fate)
{
    size_t *order = checked(malloc((disk->pending_count + 1) * sizeof *order));
    size_t count = 0;

    for (size_t i = 0; i < disk->directory_count; i++)
        copy_entries(&after->directories[i].now, &disk->directories[i].durable);
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (!is_data(&disk->pending[i]) && fate->keep[i])
            order[count++] = i;
    }
    for (size_t i = count; fate->shuffle_entries && i > 1; i--) {
        const size_t other = (next_random(&fate->random) >> 32) % i;
        const size_t swapped = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swapped;
    }
    for (size_t i = 0; i < count; i++) {
        const struct simdisk_pending *p = &disk->pending[order[i]];
        apply_entry_operation(&after->directories[p->directory].now, p,
                              (const char *)disk->bytes + p->at);
    }
    for (size_t i = 0; i < disk->directory_count; i++)
        copy_entries(&after->directories[i].durable, &after->directories[i].now);
    free(order);
}

/* The medium's bytes, with room for every pending unit. */
static void survive_content(struct simdisk_inode *to, const struct simdisk_inode *from)
{
    const size_t common = min_u64(from->size, from->durable_size);

    to->in_use = true;
    memcpy(to->name, from->name, sizeof to->name);
    to->capacity = max_u64(from->extent, from->durable_size);
    to->size = from->durable_size;
    to->extent = to->capacity;
    if (to->capacity == 0)
        return;
    to->content = checked(malloc(to->capacity));
    if (common > 0)
        memcpy(to->content, from->content, common);
    memset(to->content + common, 0, to->capacity - common);
    for (size_t i = 0; i < from->dirty_count; i++) {
        const uint64_t start = (uint64_t)from->dirty[i].page * SIMDISK_PAGE;
        size_t size;
        if (start >= to->size)
            continue;
        size = min_u64(SIMDISK_PAGE, to->size - start);
        if (from->dirty[i].was_empty)
            memset(to->content + start, 0, size);
        else
            memcpy(to->content + start, from->saved + i * SIMDISK_PAGE, size);
    }
}

static void survive_reachable(struct simdisk *after, const struct simdisk *disk,
                              uint32_t directory)
{
    const struct entries *entries = &after->directories[directory].now;

    for (size_t i = 0; i < entries->count; i++) {
        const uint32_t target = entries->items[i].target;
        if (entries->items[i].is_directory)
            survive_reachable(after, disk, target);
        else if (!after->inodes[target].in_use)
            survive_content(&after->inodes[target], &disk->inodes[target]);
    }
}

static void apply_data(struct simdisk_inode *inode, const struct simdisk_pending *p,
                       const uint8_t *data, uint8_t mask, bool size_survives)
{
    const uint8_t full = unit_mask(p);
    const uint64_t page = p->offset / SIMDISK_PAGE * SIMDISK_PAGE;

    if (p->kind == TRUNCATE) {
        if (mask == 0)
            return;
        if (p->file_size < inode->size) {
            memset(inode->content + p->file_size, 0, inode->capacity - p->file_size);
        }
        inode->size = p->file_size;
        return;
    }
    if (size_survives || mask & (full & -full))
        inode->size = max_u64(inode->size, p->file_size);
    if (p->kind != WRITE || mask == 0)
        return;
    if (mask == full) {
        memcpy(inode->content + p->offset, data, p->size);
        return;
    }
    for (unsigned k = 0; k < SECTORS_PER_PAGE; k++) {
        const uint64_t sector = page + k * SIMDISK_SECTOR;
        const uint64_t from = max_u64(sector, p->offset);
        const uint64_t to = min_u64(sector + SIMDISK_SECTOR, p->offset + p->size);
        if (mask >> k & 1)
            memcpy(inode->content + from, data + (from - p->offset), to - from);
    }
}

static void survive_data(struct simdisk *after, const struct simdisk *disk,
                         const struct fate *fate)
{
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (is_data(p) && after->inodes[p->target].in_use) {
            apply_data(&after->inodes[p->target], p, disk->bytes + p->at, fate->keep[i],
                       fate->sizes_survive);
        }
    }
}

/* What is in a sector that was being written and is not there: garbage always (P5), or by
 * chance its old bytes, zeros or garbage (P4). */
static void spoil_sectors(struct simdisk_inode *inode, const uint8_t *kept,
                          const uint8_t *touched, struct fate *fate, bool always)
{
    for (uint64_t offset = 0; offset < inode->size; offset += SIMDISK_SECTOR) {
        const uint64_t page = offset / SIMDISK_PAGE;
        const unsigned bit = 1u << offset / SIMDISK_SECTOR % SECTORS_PER_PAGE;
        const size_t size = min_u64(SIMDISK_SECTOR, inode->size - offset);
        unsigned what;

        if (offset % SIMDISK_PAGE == 0 && touched[page] == 0) {
            offset += SIMDISK_PAGE - SIMDISK_SECTOR;
            continue;
        }
        if (!(touched[page] & ~(unsigned)kept[page] & bit))
            continue;
        what = always ? 0 : (unsigned)(next_random(&fate->random) >> 32) % 3;
        if (what == 0)
            fill_random(&fate->random, inode->content + offset, size);
        else if (what == 1)
            memset(inode->content + offset, 0, size);
    }
}

/* A page that some file has, or had, at this very moment; zeros when the choice is bad. */
static void fill_stale(const struct simdisk *disk, struct fate *fate, uint8_t *p,
                       size_t size)
{
    const uint64_t chance = next_random(&fate->random) >> 16;
    const struct simdisk_inode *inode = &disk->inodes[chance % disk->inode_count];
    const uint64_t pages = inode->size / SIMDISK_PAGE;
    const uint64_t page = pages == 0 ? 0 : chance / disk->inode_count / 2 % pages;

    if (inode->in_use && pages > 0 && chance & 1)
        memcpy(p, inode->content + page * SIMDISK_PAGE, size);
}

static void spoil_growth(const struct simdisk *disk, struct simdisk_inode *inode,
                         uint64_t old_size, struct fate *fate)
{
    for (uint64_t offset = tkv_round_up(old_size, SIMDISK_PAGE); offset < inode->size;
         offset += SIMDISK_PAGE) {
        fill_stale(disk, fate, inode->content + offset,
                   min_u64(SIMDISK_PAGE, inode->size - offset));
    }
}

static void spoil(struct simdisk *after, const struct simdisk *disk, struct fate *fate,
                  enum simdisk_model model, uint64_t choice)
{
    for (size_t i = 0; i < after->inode_count; i++) {
        struct simdisk_inode *inode = &after->inodes[i];
        const uint8_t *kept = fate->kept + fate->page_base[i];
        const uint8_t *touched = fate->touched + fate->page_base[i];

        if (!inode->in_use)
            continue;
        if (disk->inodes[i].pending_count > 0 &&
            (model == SIMDISK_TORN || model == SIMDISK_TRASHED))
            spoil_sectors(inode, kept, touched, fate, model == SIMDISK_TRASHED);
        if (model == SIMDISK_SIZE_ONLY && choice != 0)
            spoil_growth(disk, inode, disk->inodes[i].durable_size, fate);
        inode->durable_size = inode->extent = inode->size;
        after->used_bytes += tkv_round_up(inode->size, SIMDISK_PAGE);
    }
}

static struct simdisk *survive_power_cut(const struct simdisk *disk,
                                         enum simdisk_model model, uint64_t choice,
                                         size_t unit_size)
{
    struct simdisk *after = new_like(disk);
    struct fate fate;

    init_fate(disk, &fate);
    decide(disk, &fate, model, choice, unit_size);
    survive_entries(after, disk, &fate);
    survive_reachable(after, disk, ROOT);
    survive_data(after, disk, &fate);
    spoil(after, disk, &fate, model, choice);
    release_fate(&fate);
    return after;
}

/* A disk that is only looked at is const to the caller; its mutex is not part of that. */
static pthread_mutex_t *mutex_of(const struct simdisk *disk)
{
    return &((struct simdisk *)(uintptr_t)disk)->mutex;
}

struct simdisk *simdisk_survivor(const struct simdisk *disk, enum simdisk_model model,
                                 uint64_t choice, size_t unit_size)
{
    struct simdisk *after;

    (void)pthread_mutex_lock(mutex_of(disk));
    if (model == SIMDISK_KILLED)
        after = survive_kill(disk);
    else
        after = survive_power_cut(disk, model, choice, unit_size);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return after;
}

struct simdisk *simdisk_clone(const struct simdisk *disk)
{
    return simdisk_survivor(disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
}

uint64_t simdisk_pending_count(const struct simdisk *disk, size_t unit_size)
{
    uint64_t count = 0;

    (void)pthread_mutex_lock(mutex_of(disk));
    for (size_t i = 0; i < disk->pending_count; i++)
        count += unit_count(&disk->pending[i], unit_size);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return count;
}

size_t simdisk_open_count(const struct simdisk *disk)
{
    size_t count;

    (void)pthread_mutex_lock(mutex_of(disk));
    count = disk->mapping_count;
    for (size_t i = 0; i < disk->handle_count; i++)
        count += disk->handles[i].in_use;
    (void)pthread_mutex_unlock(mutex_of(disk));
    return count;
}

/* The image's hash --------------------------------------------------------------------- */

/* Four lanes, because one multiplication must not wait for the last one. */
static uint64_t hash_bytes(uint64_t seed, const uint8_t *p, size_t size)
{
    const uint64_t factor = 0x9e3779b185ebca87u;
    uint64_t lane[4] = {seed, seed ^ factor, seed + factor, ~seed};

    lane[0] += size;
    for (; size >= 32; p += 32, size -= 32) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t word;
            memcpy(&word, p + 8 * i, 8);
            lane[i] = (lane[i] ^ word) * factor;
            lane[i] ^= lane[i] >> 29;
        }
    }
    for (; size > 0; p++, size--)
        lane[0] = (lane[0] ^ *p) * factor;
    return mix(lane[0] ^ mix(lane[1] ^ mix(lane[2] ^ mix(lane[3]))));
}

static uint64_t hash_inode(const struct simdisk_inode *inode)
{
    uint64_t hash = hash_bytes(inode->durable_size, inode->content, inode->size);

    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t seed = mix(inode->dirty[i].page);
        if (inode->dirty[i].was_empty)
            hash += seed;
        else
            hash += hash_bytes(seed, inode->saved + i * SIMDISK_PAGE, SIMDISK_PAGE);
    }
    return hash;
}

/* Sums, because entries have no order. */
static uint64_t hash_directory(const struct simdisk *disk, uint32_t directory, bool durable)
{
    const struct simdisk_directory *d = &disk->directories[directory];
    const struct entries *entries = durable ? &d->durable : &d->now;
    uint64_t hash = 0;

    for (size_t i = 0; i < entries->count; i++) {
        const struct entry *e = &entries->items[i];
        const uint64_t name = hash_bytes(1, (const uint8_t *)e->name, strlen(e->name));
        if (e->is_directory)
            hash += mix(name ^ mix(hash_directory(disk, e->target, durable)));
        else
            hash += mix(name ^ hash_inode(&disk->inodes[e->target]));
    }
    return hash;
}

static bool same_entries(const struct simdisk *disk)
{
    for (size_t i = 0; i < disk->directory_count; i++) {
        const struct simdisk_directory *d = &disk->directories[i];
        if (d->now.count != d->durable.count)
            return false;
        if (d->now.count > 0 && memcmp(d->now.items, d->durable.items,
                                       d->now.count * sizeof *d->now.items) != 0)
            return false;
    }
    return true;
}

uint64_t simdisk_hash(const struct simdisk *disk)
{
    uint64_t hash, durable;

    (void)pthread_mutex_lock(mutex_of(disk));
    hash = hash_directory(disk, ROOT, false);
    durable = same_entries(disk) ? hash : hash_directory(disk, ROOT, true);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return mix(hash ^ mix(durable));
}

void simdisk_trace(struct simdisk *disk)
{
    (void)pthread_mutex_lock(&disk->mutex);
    disk->trace_text = grow(disk->trace_text, &disk->trace_capacity, 1, 1);
    disk->trace_text[0] = 0;
    disk->trace_size = 0;
    disk->trace = disk->trace_text;
    (void)pthread_mutex_unlock(&disk->mutex);
}

/* The disk from outside ---------------------------------------------------------------- */

static uint32_t directory_of(const struct simdisk *disk, const char *name,
                             const char **ret_base)
{
    const char *slash = strchr(name, '/');
    char directory[SIMDISK_NAME_SIZE_MAX + 1];
    const struct entry *e;

    *ret_base = name;
    if (slash == NULL || (size_t)(slash - name) > SIMDISK_NAME_SIZE_MAX)
        return ROOT;
    memcpy(directory, name, (size_t)(slash - name));
    directory[slash - name] = 0;
    e = find_entry(&disk->directories[ROOT].now, directory);
    if (e == NULL || !e->is_directory)
        return ROOT;
    *ret_base = slash + 1;
    return e->target;
}

static struct simdisk_inode *inode_named(const struct simdisk *disk, const char *name)
{
    const char *base;
    const uint32_t directory = directory_of(disk, name, &base);
    const struct entry *e = find_entry(&disk->directories[directory].now, base);

    return e == NULL || e->is_directory ? NULL : &disk->inodes[e->target];
}

int64_t simdisk_file_size(const struct simdisk *disk, const char *name)
{
    const struct simdisk_inode *inode;
    int64_t size = -ENOENT;

    (void)pthread_mutex_lock(mutex_of(disk));
    inode = inode_named(disk, name);
    if (inode != NULL)
        size = (int64_t)inode->size;
    (void)pthread_mutex_unlock(mutex_of(disk));
    return size;
}

int64_t simdisk_file_read(const struct simdisk *disk, const char *name, void *buffer,
                          size_t size, uint64_t offset)
{
    const struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(mutex_of(disk));
    inode = inode_named(disk, name);
    if (inode != NULL)
        n = offset >= inode->size ? 0 : (int64_t)min_u64(size, inode->size - offset);
    if (n > 0)
        memcpy(buffer, inode->content + offset, (size_t)n);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return n;
}

static struct simdisk_inode *plant(struct simdisk *disk, const char *name)
{
    struct simdisk_inode *inode = inode_named(disk, name);
    const char *base;
    uint32_t directory, target;

    if (inode != NULL)
        return inode;
    directory = directory_of(disk, name, &base);
    if (strlen(base) > SIMDISK_NAME_SIZE_MAX || strchr(base, '/') != NULL)
        return NULL;
    target = add_inode(disk, base);
    set_entry(&disk->directories[directory].now, base, target, false);
    set_entry(&disk->directories[directory].durable, base, target, false);
    return &disk->inodes[target];
}

int64_t simdisk_file_write(struct simdisk *disk, const char *name, const void *data,
                           size_t size, uint64_t offset)
{
    struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    inode = plant(disk, name);
    if (inode != NULL)
        n = reserve_content(inode, offset + size);
    if (inode != NULL && n == 0) {
        settle_inode(disk, inode_index(disk, inode));
        put_bytes(disk, inode, data, size, offset);
        clean_all_pages(inode);
        n = (int64_t)size;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return n;
}

int64_t simdisk_file_truncate(struct simdisk *disk, const char *name, uint64_t size)
{
    struct simdisk_inode *inode;
    int64_t n = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    inode = inode_named(disk, name);
    if (inode != NULL)
        n = reserve_content(inode, size);
    if (inode != NULL && n == 0) {
        settle_inode(disk, inode_index(disk, inode));
        set_size(disk, inode, size);
        clean_all_pages(inode);
        n = (int64_t)size;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return n;
}

int64_t simdisk_file_unlink(struct simdisk *disk, const char *name)
{
    int64_t rc = -ENOENT;

    (void)pthread_mutex_lock(&disk->mutex);
    if (inode_named(disk, name) != NULL) {
        const char *base;
        const uint32_t directory = directory_of(disk, name, &base);
        remove_entry(&disk->directories[directory].now, base);
        remove_entry(&disk->directories[directory].durable, base);
        reclaim(disk);
        rc = 0;
    }
    (void)pthread_mutex_unlock(&disk->mutex);
    return rc;
}

static void list_directory(const struct simdisk *disk, uint32_t directory,
                           tkv_os_name_fn *fn, void *context)
{
    const struct simdisk_directory *d = &disk->directories[directory];
    char path[2 * (SIMDISK_NAME_SIZE_MAX + 1)];

    for (size_t i = 0; i < d->now.count; i++) {
        const struct entry *e = &d->now.items[i];
        if (e->is_directory) {
            list_directory(disk, e->target, fn, context);
            continue;
        }
        (void)snprintf(path, sizeof path, "%s%s%s", d->name, d->name[0] != 0 ? "/" : "",
                       e->name);
        fn(context, path);
    }
}

void simdisk_list(const struct simdisk *disk, tkv_os_name_fn *fn, void *context)
{
    list_directory(disk, ROOT, fn, context);
}
