/* SPDX-License-Identifier: MIT */
/*
 * arena.c - pages of 64 KiB (chunks.h) hold objects of one class. A page is aligned to its
 * size: an object finds its page by masking its address.
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

#include "chunks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_HEADER 64u

#define FINE_MAX        256u
#define FINE_CLASSES    32u
#define COARSE_CLASSES  16u
#define CLASS_COUNT     (FINE_CLASSES + COARSE_CLASSES)
#define CLASS_BYTES_MAX 4096u

#define LARGE_LISTS 64u

struct page {
    struct tkv_link link; /* first; in the list of its class while it has a free object */
    struct tkv_chunk *chunk;
    void *given;    /* objects given back, linked through their first bytes */
    uint32_t fresh; /* how many objects were ever taken; those after are untouched memory */
    uint32_t live;  /* how many are taken now */
    uint32_t class_number;
};

static_assert(sizeof(struct page) <= PAGE_HEADER, "objects start right after the header");
static_assert(PAGE_HEADER % 64 == 0, "objects of 64 bytes are cache lines");

struct size_class {
    struct tkv_link pages; /* those with a free object; the empty ones are last */
    size_t size;           /* of an object */
    uint64_t free;         /* objects in pages of this class; at least `reserved` */
    uint64_t reserved;
    uint32_t capacity; /* objects in a page */
};

/* Stands before every object above CLASS_BYTES_MAX, in a list of the reserved or of the taken
 * ones. */
struct large {
    _Alignas(max_align_t) struct tkv_link link; /* first */
    size_t size;
};

struct tkv_arena {
    struct size_class classes[CLASS_COUNT];
    struct tkv_chunks chunks;
    struct tkv_link large_reserved[LARGE_LISTS]; /* by size, so that a search is short */
    struct tkv_link large_taken;
    size_t bytes;
};

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

/* ---- Objects of a class -------------------------------------------------------------- */

static struct page *page_of(const void *object)
{
    return (struct page *)((uintptr_t)object & ~(uintptr_t)(TKV_PAGE_BYTES - 1));
}

static bool add_page(struct tkv_arena *arena, unsigned number)
{
    struct size_class *class = &arena->classes[number];
    struct tkv_chunk *chunk;
    struct page *page = tkv_chunks_take(&arena->chunks, 1, &chunk);

    if (page == NULL)
        return false;
    page->chunk = chunk;
    page->given = NULL;
    page->fresh = 0;
    page->live = 0;
    page->class_number = number;
    tkv_list_insert_after(class->pages.prev, &page->link);
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
        tkv_list_remove(&last->link);
        class->free -= class->capacity;
        tkv_chunks_give(&arena->chunks, last->chunk, last, 1);
    }
}

static void *take_object(struct size_class *class)
{
    struct page *page = (struct page *)class->pages.next;
    void *object = page->given;
    uintptr_t next;

    assert(class->reserved > 0 && class->free > 0);
    if (object != NULL)
        memcpy(&page->given, object, sizeof page->given);
    else
        object = (uint8_t *)page + PAGE_HEADER + class->size * page->fresh++;
    /* The next one will be written to, and waiting for its lines then takes longer. */
    next = page->given != NULL ? (uintptr_t)page->given
                               : (uintptr_t)page + PAGE_HEADER + class->size * page->fresh;
    __builtin_prefetch((const void *)next, 1);
    __builtin_prefetch((const void *)(next + 64), 1);
    page->live++;
    if (page->live == class->capacity)
        tkv_list_remove(&page->link);
    class->free--;
    class->reserved--;
    return object;
}

static void give_object(struct tkv_arena *arena, void *object)
{
    struct page *page = page_of(object);
    struct size_class *class = &arena->classes[page->class_number];

    if (page->live == class->capacity)
        tkv_list_insert_after(&class->pages, &page->link);
    memcpy(object, &page->given, sizeof page->given);
    page->given = object;
    page->live--;
    class->free++;
    if (page->live == 0) {
        page->given = NULL;
        page->fresh = 0;
        tkv_list_remove(&page->link);
        tkv_list_insert_after(class->pages.prev, &page->link);
    }
    trim_class(arena, class);
}

/* ---- Large objects ------------------------------------------------------------------- */

static struct tkv_link *large_list(struct tkv_arena *arena, size_t size)
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
    tkv_list_insert_after(large_list(arena, size), &large->link);
    arena->bytes += sizeof *large + size;
    return true;
}

static struct large *unlink_reserved_large(struct tkv_arena *arena, size_t size)
{
    struct tkv_link *list = large_list(arena, size);
    struct tkv_link *link = list->next;

    while (((struct large *)link)->size != size) {
        link = link->next;
        assert(link != list);
    }
    tkv_list_remove(link);
    return (struct large *)link;
}

static void free_large(struct tkv_arena *arena, struct large *large)
{
    arena->bytes -= sizeof *large + large->size;
    free(large);
}

static void free_large_list(struct tkv_arena *arena, struct tkv_link *list)
{
    while (!tkv_list_is_empty(list)) {
        struct large *large = (struct large *)list->next;

        tkv_list_remove(&large->link);
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

        tkv_list_init(&class->pages);
        class->size = size_of_class(i);
        class->capacity = (uint32_t)((TKV_PAGE_BYTES - PAGE_HEADER) / class->size);
    }
    tkv_chunks_init(&arena->chunks);
    for (unsigned i = 0; i < LARGE_LISTS; i++)
        tkv_list_init(&arena->large_reserved[i]);
    tkv_list_init(&arena->large_taken);
    /* Of the chunks' numbers little is ever touched. */
    arena->bytes = sizeof *arena - sizeof arena->chunks.bases;
    return arena;
}

void tkv_arena_free(struct tkv_arena *arena)
{
    if (arena == NULL)
        return;
    for (unsigned i = 0; i < LARGE_LISTS; i++)
        free_large_list(arena, &arena->large_reserved[i]);
    free_large_list(arena, &arena->large_taken);
    tkv_chunks_release(&arena->chunks);
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
    tkv_list_insert_after(&arena->large_taken, &large->link);
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
    tkv_list_remove(&large->link);
    free_large(arena, large);
}

uint32_t tkv_arena_number(const void *object, size_t size)
{
    return size <= CLASS_BYTES_MAX ? tkv_chunk_number(page_of(object)->chunk, object) : 0;
}

struct tkv_chunks *tkv_arena_chunks(struct tkv_arena *arena)
{
    return &arena->chunks;
}

size_t tkv_arena_bytes(const struct tkv_arena *arena)
{
    return arena->bytes + arena->chunks.bytes;
}
