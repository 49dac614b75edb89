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

void simdisk_clean_page(struct simdisk_inode *inode, uint32_t page)
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
uint8_t *simdisk_saved_page(struct simdisk_inode *inode, uint32_t page)
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
