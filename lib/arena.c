/* SPDX-License-Identifier: MIT */
/*
 * arena.c - chunks hold pages, pages hold objects of one class.
 *
 *     chunk   64 KiB .. 2 MiB from mmap; described by a struct chunk outside of it, so that
 *             pages keep their alignment
 *     page    64 KiB, aligned to it: an object finds its page by masking its address
 *
 *     0                64                                          65536
 *     +----------------+--------+--------+--------+- ... -+--------+
 *     | struct page    | object | object | object |       | object |
 *     +----------------+--------+--------+--------+- ... -+--------+
 *
 * Classes are 8 bytes apart up to 256 and a quarter of a power of two apart up to 4096.
 * Larger objects come from malloc, one by one, when they are reserved.
 *
 * Invariants, for every class: it has at least as many free objects as are reserved, and it
 * keeps an empty page only if it could not keep its promises without. So taking never looks
 * for memory, and reserving is what fails.
 */
#include "arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES      ((size_t)64 * 1024)
#define CHUNK_BYTES_MAX ((size_t)2 * 1024 * 1024)
#define PAGE_HEADER     64u

#define FINE_MAX        256u
#define FINE_CLASSES    32u
#define COARSE_CLASSES  16u
#define CLASS_COUNT     (FINE_CLASSES + COARSE_CLASSES)
#define CLASS_BYTES_MAX 4096u

#define LARGE_LISTS 64u

struct link {
    struct link *next, *prev;
};

struct chunk {
    struct link link; /* first: a link is its chunk */
    uint8_t *base;
    size_t size;
    uint32_t free_pages; /* one bit for each */
    uint32_t all_pages;
};

struct page {
    struct link link; /* first; in the list of its class while it has a free object */
    struct chunk *chunk;
    void *given;    /* objects given back, linked through their first bytes */
    uint32_t fresh; /* how many objects were ever taken; those after are untouched memory */
    uint32_t live;  /* how many are taken now */
    uint32_t class_number;
};

static_assert(sizeof(struct page) <= PAGE_HEADER, "objects start right after the header");
static_assert(PAGE_HEADER % 64 == 0, "objects of 64 bytes are cache lines");
static_assert(CHUNK_BYTES_MAX / PAGE_BYTES <= 32, "free_pages has a bit for every page");

struct size_class {
    struct link pages; /* those with a free object; the empty ones are last */
    size_t size;       /* of an object */
    uint64_t free;     /* objects in pages of this class; at least `reserved` */
    uint64_t reserved;
    uint32_t capacity; /* objects in a page */
};

/* Stands before every object above CLASS_BYTES_MAX. */
struct large {
    struct link link; /* first; in a list of reserved ones, or in that of the taken ones */
    size_t size;
    uint64_t unused; /* keeps the object aligned to 16 */
};

struct tkv_arena {
    struct size_class classes[CLASS_COUNT];
    struct link chunks;                      /* those with a free page are first */
    struct chunk *spare;                     /* a chunk without a page in use; in no list */
    struct link large_reserved[LARGE_LISTS]; /* by size, so that a search is short */
    struct link large_taken;
    size_t bytes;
};

static void list_init(struct link *list)
{
    list->next = list->prev = list;
}

static bool list_is_empty(const struct link *list)
{
    return list->next == list;
}

static void list_insert_after(struct link *place, struct link *link)
{
    link->prev = place;
    link->next = place->next;
    place->next->prev = link;
    place->next = link;
}

static void list_remove(struct link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
}

/* ---- Classes ------------------------------------------------------------------------- */

static unsigned floor_log2(size_t value)
{
    unsigned log = 0;

    while (value >>= 1)
        log++;
    return log;
}

static unsigned class_of(size_t size)
{
    const size_t last = size == 0 ? 0 : size - 1;
    unsigned log;

    if (size <= FINE_MAX)
        return (unsigned)(last / 8);
    log = floor_log2(last);
    return FINE_CLASSES + (log - 8) * 4 + (unsigned)(last >> (log - 2) & 3);
}

static size_t size_of_class(unsigned number)
{
    const unsigned coarse = number - FINE_CLASSES;

    if (number < FINE_CLASSES)
        return (size_t)(number + 1) * 8;
    return (size_t)(5 + coarse % 4) * 64 << coarse / 4;
}

/* ---- Chunks -------------------------------------------------------------------------- */

/* Memory aligned to `size`, a power of two: map more and cut it to fit. */
static uint8_t *map_aligned(size_t size)
{
    const size_t mapped_size = 2 * size;
    uint8_t *mapped =
        mmap(NULL, mapped_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (mapped == MAP_FAILED)
        return NULL;
    before = (size_t)(-(uintptr_t)mapped & (size - 1));
    /* What cannot be cut off is address space that is never touched. */
    if (before > 0)
        (void)munmap(mapped, before);
    (void)munmap(mapped + before + size, size - before);
    return mapped + before;
}

static struct chunk *map_chunk(struct tkv_arena *arena)
{
    struct chunk *chunk = malloc(sizeof *chunk);
    size_t size = PAGE_BYTES;

    if (chunk == NULL)
        return NULL;
    while (size < CHUNK_BYTES_MAX && size * 2 <= arena->bytes)
        size *= 2;
    chunk->base = map_aligned(size);
    if (chunk->base == NULL && size > PAGE_BYTES) {
        size = PAGE_BYTES;
        chunk->base = map_aligned(size);
    }
    if (chunk->base == NULL) {
        free(chunk);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (size == CHUNK_BYTES_MAX)
        (void)madvise(chunk->base, size, MADV_HUGEPAGE); /* only a wish */
#endif
    chunk->size = size;
    chunk->all_pages = (uint32_t)((UINT64_C(1) << size / PAGE_BYTES) - 1);
    chunk->free_pages = chunk->all_pages;
    arena->bytes += size + sizeof *chunk;
    return chunk;
}

static bool unmap_chunk(struct tkv_arena *arena, struct chunk *chunk)
{
    if (munmap(chunk->base, chunk->size) != 0)
        return false; /* the system has no room to note the hole: the chunk stays usable */
    arena->bytes -= chunk->size + sizeof *chunk;
    free(chunk);
    return true;
}

/* One empty chunk is kept, the larger one, so that a count that swings around a boundary
 * does not map and unmap all the time. */
static void retire_chunk(struct tkv_arena *arena, struct chunk *chunk)
{
    struct chunk *surplus = arena->spare;

    list_remove(&chunk->link);
    if (surplus != NULL && surplus->size >= chunk->size)
        surplus = chunk;
    else
        arena->spare = chunk;
    if (surplus != NULL && !unmap_chunk(arena, surplus))
        list_insert_after(&arena->chunks, &surplus->link);
}

static struct page *take_page(struct tkv_arena *arena)
{
    struct chunk *chunk = (struct chunk *)arena->chunks.next;
    struct page *page;
    unsigned at = 0;

    if (list_is_empty(&arena->chunks) || chunk->free_pages == 0) {
        chunk = arena->spare != NULL ? arena->spare : map_chunk(arena);
        if (chunk == NULL)
            return NULL;
        arena->spare = NULL;
        list_insert_after(&arena->chunks, &chunk->link);
    }
    while ((chunk->free_pages >> at & 1) == 0)
        at++;
    chunk->free_pages &= chunk->free_pages - 1;
    if (chunk->free_pages == 0) {
        list_remove(&chunk->link);
        list_insert_after(arena->chunks.prev, &chunk->link);
    }
    page = (struct page *)(void *)(chunk->base + at * PAGE_BYTES);
    page->chunk = chunk;
    return page;
}

static void give_page(struct tkv_arena *arena, struct page *page)
{
    struct chunk *chunk = page->chunk;
    const bool was_full = chunk->free_pages == 0;

    chunk->free_pages |= UINT32_C(1)
                         << (size_t)((uint8_t *)page - chunk->base) / PAGE_BYTES;
    if (chunk->free_pages == chunk->all_pages) {
        retire_chunk(arena, chunk);
    } else if (was_full) {
        list_remove(&chunk->link);
        list_insert_after(&arena->chunks, &chunk->link);
    }
}

/* ---- Objects of a class -------------------------------------------------------------- */

static struct page *page_of(const void *object)
{
    return (struct page *)((uintptr_t)object & ~(uintptr_t)(PAGE_BYTES - 1));
}

static bool add_page(struct tkv_arena *arena, unsigned number)
{
    struct size_class *class = &arena->classes[number];
    struct page *page = take_page(arena);

    if (page == NULL)
        return false;
    page->given = NULL;
    page->fresh = 0;
    page->live = 0;
    page->class_number = number;
    list_insert_after(class->pages.prev, &page->link);
    class->free += class->capacity;
    return true;
}

/* Return empty pages that no reservation needs. */
static void trim_class(struct tkv_arena *arena, struct size_class *class)
{
    while (class->free >= class->reserved + class->capacity) {
        struct page *last = (struct page *)class->pages.prev;

        if (last->live > 0)
            break;
        list_remove(&last->link);
        class->free -= class->capacity;
        give_page(arena, last);
    }
}

static void *take_object(struct size_class *class)
{
    struct page *page = (struct page *)class->pages.next;
    void *object = page->given;

    assert(class->reserved > 0 && class->free > 0);
    if (object != NULL)
        memcpy(&page->given, object, sizeof page->given);
    else
        object = (uint8_t *)page + PAGE_HEADER + class->size * page->fresh++;
    page->live++;
    if (page->live == class->capacity)
        list_remove(&page->link);
    class->free--;
    class->reserved--;
    return object;
}

static void give_object(struct tkv_arena *arena, void *object)
{
    struct page *page = page_of(object);
    struct size_class *class = &arena->classes[page->class_number];

    if (page->live == class->capacity)
        list_insert_after(&class->pages, &page->link);
    memcpy(object, &page->given, sizeof page->given);
    page->given = object;
    page->live--;
    class->free++;
    if (page->live == 0) {
        page->given = NULL;
        page->fresh = 0;
        list_remove(&page->link);
        list_insert_after(class->pages.prev, &page->link);
    }
    trim_class(arena, class);
}

/* ---- Large objects ------------------------------------------------------------------- */

static struct link *large_list(struct tkv_arena *arena, size_t size)
{
    return &arena->large_reserved[size / 8 % LARGE_LISTS];
}

static bool reserve_large(struct tkv_arena *arena, size_t size)
{
    struct large *large =
        size <= SIZE_MAX - sizeof *large ? malloc(sizeof *large + size) : NULL;

    if (large == NULL)
        return false;
    large->size = size;
    list_insert_after(large_list(arena, size), &large->link);
    arena->bytes += sizeof *large + size;
    return true;
}

static struct large *unlink_reserved_large(struct tkv_arena *arena, size_t size)
{
    struct link *list = large_list(arena, size);
    struct link *link = list->next;

    while (((struct large *)link)->size != size) {
        link = link->next;
        assert(link != list);
    }
    list_remove(link);
    return (struct large *)link;
}

static void free_large(struct tkv_arena *arena, struct large *large)
{
    arena->bytes -= sizeof *large + large->size;
    free(large);
}

static void free_large_list(struct tkv_arena *arena, struct link *list)
{
    while (!list_is_empty(list)) {
        struct large *large = (struct large *)list->next;

        list_remove(&large->link);
        free_large(arena, large);
    }
}

/* ---- The arena ----------------------------------------------------------------------- */

struct tkv_arena *tkv_arena_new(void)
{
    struct tkv_arena *arena = calloc(1, sizeof *arena);

    if (arena == NULL)
        return NULL;
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        struct size_class *class = &arena->classes[i];

        list_init(&class->pages);
        class->size = size_of_class(i);
        class->capacity = (uint32_t)((PAGE_BYTES - PAGE_HEADER) / class->size);
    }
    list_init(&arena->chunks);
    for (unsigned i = 0; i < LARGE_LISTS; i++)
        list_init(&arena->large_reserved[i]);
    list_init(&arena->large_taken);
    arena->bytes = sizeof *arena;
    return arena;
}

void tkv_arena_free(struct tkv_arena *arena)
{
    if (arena == NULL)
        return;
    for (unsigned i = 0; i < LARGE_LISTS; i++)
        free_large_list(arena, &arena->large_reserved[i]);
    free_large_list(arena, &arena->large_taken);
    if (arena->spare != NULL)
        (void)unmap_chunk(arena, arena->spare);
    while (!list_is_empty(&arena->chunks)) {
        struct chunk *chunk = (struct chunk *)arena->chunks.next;

        list_remove(&chunk->link);
        (void)unmap_chunk(arena, chunk);
    }
    free(arena);
}

bool tkv_arena_reserve(struct tkv_arena *arena, size_t size)
{
    struct size_class *class;

    if (size > CLASS_BYTES_MAX)
        return reserve_large(arena, size);
    class = &arena->classes[class_of(size)];
    if (class->free == class->reserved && !add_page(arena, class_of(size)))
        return false;
    class->reserved++;
    return true;
}

void tkv_arena_unreserve(struct tkv_arena *arena, size_t size)
{
    struct size_class *class;

    if (size > CLASS_BYTES_MAX) {
        free_large(arena, unlink_reserved_large(arena, size));
        return;
    }
    class = &arena->classes[class_of(size)];
    assert(class->reserved > 0);
    class->reserved--;
    trim_class(arena, class);
}

void *tkv_arena_take(struct tkv_arena *arena, size_t size)
{
    struct large *large;

    if (size <= CLASS_BYTES_MAX)
        return take_object(&arena->classes[class_of(size)]);
    large = unlink_reserved_large(arena, size);
    list_insert_after(&arena->large_taken, &large->link);
    return large + 1;
}

void tkv_arena_give(struct tkv_arena *arena, void *object, size_t size)
{
    struct large *large;

    if (size <= CLASS_BYTES_MAX) {
        assert(page_of(object)->class_number == class_of(size));
        give_object(arena, object);
        return;
    }
    large = (struct large *)object - 1;
    assert(large->size == size);
    list_remove(&large->link);
    free_large(arena, large);
}

size_t tkv_arena_bytes(const struct tkv_arena *arena)
{
    return arena->bytes;
}
