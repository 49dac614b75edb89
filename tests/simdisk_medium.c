/* SPDX-License-Identifier: MIT */
/*
 * simdisk_medium.c - what is on the simulated disk: memory, a file's content and its clean and
 * dirty pages, the pending list. A test without memory stops.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- Memory ---------------------------------------------------------------------- */

void *simdisk_checked(void *memory)
{
    if (memory == NULL) {
        fputs("simdisk: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *simdisk_grow(void *items, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity)
        return items;
    *capacity = needed > 2 * *capacity ? needed : 2 * *capacity;
    if (*capacity < 8)
        *capacity = 8;
    return simdisk_checked(realloc(items, *capacity * item_size));
}

void *simdisk_copy_of(const void *items, size_t size)
{
    return size == 0 ? NULL : memcpy(simdisk_checked(malloc(size)), items, size);
}

uint64_t simdisk_next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Neighbouring seeds must not give neighbouring sequences, and zero would give zeros. */
uint64_t simdisk_mix(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return seed != 0 ? seed : 1;
}

void simdisk_fill_random(uint64_t *state, uint8_t *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8)
        tkv_put_le64(p, simdisk_next_random(state));
    for (; size > 0; p++, size--)
        *p = (uint8_t)simdisk_next_random(state);
}

/* ---- Rules ----------------------------------------------------------------------- */

void simdisk_violated(struct simdisk *disk, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    disk->violated(disk, message);
}

void simdisk_note(struct simdisk *disk, const char *format, ...)
{
    char line[3 * SIMDISK_NAME_SIZE_MAX];
    va_list arguments;
    size_t size;

    if (disk->trace_text == NULL)
        return;
    va_start(arguments, format);
    size = (size_t)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    disk->trace_text = simdisk_grow(disk->trace_text, &disk->trace_capacity,
                                    disk->trace_size + size + 1, 1);
    memcpy(disk->trace_text + disk->trace_size, line, size + 1);
    disk->trace_size += size;
    disk->trace = disk->trace_text;
}

/* ---- Regions --------------------------------------------------------------------- */

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

/* ---- Content --------------------------------------------------------------------- */

void simdisk_release_content(struct simdisk_inode *inode)
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
    simdisk_release_content(inode);
    inode->content = memory;
    inode->capacity = size;
    inode->content_is_region = region;
}

int simdisk_reserve_content(struct simdisk_inode *inode, uint64_t size)
{
    const size_t wanted = max_u64(size, inode->capacity + inode->capacity / 2);

    if (size <= inode->capacity)
        return 0;
    if (inode->mapping_count > 0)
        return -EFBIG; /* see REGION_SIZE */
    if (inode->content_is_region) {
        move_content(inode, simdisk_checked(malloc(wanted)), wanted, false);
        return 0;
    }
    inode->content = simdisk_checked(realloc(inode->content, wanted));
    inode->capacity = wanted;
    return 0;
}

int simdisk_pin_content(struct simdisk_inode *inode, size_t size)
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
        inode->dirty_at = simdisk_grow(inode->dirty_at, &inode->dirty_at_capacity, count,
                                       sizeof *inode->dirty_at);
        memset(inode->dirty_at + inode->dirty_at_count, 0,
               (count - inode->dirty_at_count) * sizeof *inode->dirty_at);
        inode->dirty_at_count = count;
    }
    if (inode->dirty_at[page] != 0)
        return;
    inode->dirty =
        simdisk_grow(inode->dirty, &inode->dirty_capacity, i + 1, sizeof *inode->dirty);
    inode->saved = simdisk_grow(inode->saved, &inode->saved_capacity, i + 1, SIMDISK_PAGE);
    inode->dirty[i] = (struct dirty_page){page, start >= inode->size};
    inode->dirty_at[page] = (uint32_t)++inode->dirty_count;
    if (inode->dirty[i].was_empty)
        return;
    saved = inode->saved + i * SIMDISK_PAGE;
    const size_t size = min_u64(SIMDISK_PAGE, inode->size - start);
    memcpy(saved, inode->content + start, size);
    memset(saved + size, 0, SIMDISK_PAGE - size);
}

void simdisk_save_pages(struct simdisk_inode *inode, uint64_t offset, uint64_t end)
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

void simdisk_clean_all_pages(struct simdisk_inode *inode)
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

void simdisk_set_size(struct simdisk *disk, struct simdisk_inode *inode, uint64_t size)
{
    disk->used_bytes -= tkv_round_up(inode->size, SIMDISK_PAGE);
    disk->used_bytes += tkv_round_up(size, SIMDISK_PAGE);
    if (size > inode->size)
        memset(inode->content + inode->size, 0, size - inode->size);
    simdisk_touch(inode, min_u64(size, inode->size), max_u64(size, inode->size));
    inode->size = size;
    inode->size_max = max_u64(inode->size_max, size);
    inode->extent = max_u64(inode->extent, size);
}

void simdisk_put_bytes(struct simdisk *disk, struct simdisk_inode *inode, const void *data,
                       size_t size, uint64_t offset)
{
    if (size == 0)
        return;
    if (offset + size > inode->size)
        simdisk_set_size(disk, inode, offset + size);
    memcpy(inode->content + offset, data, size);
    simdisk_touch(inode, offset, offset + size);
}

/* ---- The pending list ------------------------------------------------------------ */

void simdisk_add_pending(struct simdisk *disk, struct simdisk_pending p, const void *bytes)
{
    disk->pending = simdisk_grow(disk->pending, &disk->pending_capacity,
                                 disk->pending_count + 1, sizeof *disk->pending);
    disk->bytes =
        simdisk_grow(disk->bytes, &disk->bytes_capacity, disk->bytes_size + p.size, 1);
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
void simdisk_forget(struct simdisk *disk, struct simdisk_pending *p)
{
    forget_bytes(disk, p);
    if (is_data(p)) {
        disk->inodes[p->target].pending_count--;
        disk->inodes[p->target].doomed_count -= p->doomed;
    }
    p->kind = GONE;
}

void simdisk_sweep(struct simdisk *disk)
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
void simdisk_add_pending_write(struct simdisk *disk, uint32_t target,
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
        simdisk_add_pending(disk, p, at);
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

/* What a doomed unit would bring back over a later one that reached the medium is as new as
 * that one. */
static void renew_doomed(struct simdisk *disk, struct simdisk_pending *p,
                         const struct simdisk_pending *later)
{
    const uint64_t from = max_u64(p->offset, later->offset);
    const uint64_t to = min_u64(p->offset + p->size, later->offset + later->size);

    if (later->kind == TRUNCATE && p->offset >= later->file_size) {
        simdisk_forget(disk, p);
    } else if (later->kind == TRUNCATE && p->offset + p->size > later->file_size) {
        const size_t left = later->file_size - p->offset;
        memset(disk->bytes + p->at + left, 0, p->size - left);
        p->file_size = min_u64(p->file_size, later->file_size);
    } else if (from < to) {
        memcpy(disk->bytes + p->at + (from - p->offset),
               disk->bytes + later->at + (from - later->offset), to - from);
    }
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
        for (size_t k = 0; k < i; k++) {
            struct simdisk_pending *earlier = &disk->pending[k];
            if (is_data(earlier) && earlier->target == target && earlier->doomed)
                renew_doomed(disk, earlier, p);
        }
        simdisk_forget(disk, p);
    }
    simdisk_sweep(disk);
}

/* What a successful sync does. */
void simdisk_settle_inode(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    if (inode->doomed_count > 0) {
        settle_around_doomed(disk, target);
        return;
    }
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]) && disk->pending[i].target == target)
            simdisk_forget(disk, &disk->pending[i]);
    }
    simdisk_sweep(disk);
    simdisk_clean_all_pages(inode);
}

/* A direct write replaces whole pages on the medium, so older units in them are history. A
 * pending truncate is committed with it, as by a journal. */
void simdisk_settle_pages(struct simdisk *disk, uint32_t target, uint64_t offset,
                          uint64_t end)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind == TRUNCATE && p->target == target && !p->doomed) {
            simdisk_settle_inode(disk, target);
            break;
        }
    }
    for (size_t i = 0; inode->pending_count > 0 && i < disk->pending_count; i++) {
        struct simdisk_pending *p = &disk->pending[i];
        if (p->kind != WRITE || p->target != target || p->offset < offset ||
            p->offset >= end)
            continue;
        if (p->file_size == 0) {
            simdisk_forget(disk, p);
        } else {
            forget_bytes(disk, p);
            p->kind = GROW;
        }
    }
    simdisk_sweep(disk);
    for (uint64_t page = offset / SIMDISK_PAGE; page < end / SIMDISK_PAGE; page++)
        clean_page(inode, (uint32_t)page);
}

/* Reads see the medium's content again. */
static void revert(struct simdisk *disk, struct simdisk_inode *inode)
{
    if (simdisk_reserve_content(inode, inode->durable_size) < 0)
        return; /* mapped and cut short since: nothing can have grown */
    simdisk_set_size(disk, inode, inode->durable_size);
    for (size_t i = 0; i < inode->dirty_count; i++) {
        const uint64_t start = (uint64_t)inode->dirty[i].page * SIMDISK_PAGE;
        if (start < inode->size) {
            memcpy(inode->content + start, saved_page(inode, inode->dirty[i].page),
                   min_u64(SIMDISK_PAGE, inode->size - start));
            simdisk_touch(inode, start, start + SIMDISK_PAGE);
        }
    }
    simdisk_clean_all_pages(inode);
}

/* What a failed sync does. */
void simdisk_fail_sync(struct simdisk *disk, uint32_t target)
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
            simdisk_forget(disk, p);
        } else if (!p->doomed) {
            p->doomed = true;
            inode->doomed_count++;
        }
    }
    if (disk->failed_sync != SIMDISK_FAILED_SYNC_REVERTS)
        return;
    simdisk_sweep(disk);
    revert(disk, inode);
}

/* Clean pages go; those that a failed sync made clean differ from the medium. A page with
 * bytes that are still to be written stays, and with it the file. */
void simdisk_drop_cache(struct simdisk *disk, uint32_t target)
{
    struct simdisk_inode *inode = &disk->inodes[target];

    if (inode->doomed_count == 0 || inode->doomed_count < inode->pending_count)
        return;
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]) && disk->pending[i].target == target)
            simdisk_forget(disk, &disk->pending[i]);
    }
    simdisk_sweep(disk);
    revert(disk, inode);
}
