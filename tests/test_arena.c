/* SPDX-License-Identifier: MIT */
/*
 * test_arena - objects never overlap, promises are kept when the system has no memory left,
 * and memory comes back.
 *
 * Method: every object is filled with a pattern of its own, which is compared before it is
 * given back. Any call for memory can fail (failing_memory.h).
 */
#include "arena.h"
#include "chunks.h"
#include "failing_memory.h"
#include "test.h"

TEST_MAIN

#define MIB ((size_t)1024 * 1024)

/* ---- Objects that know who they are -------------------------------------------------- */

struct object {
    uint8_t *bytes;
    size_t size;
    uint8_t pattern;
};

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

static size_t random_size(void)
{
    switch (random_below(8)) {
    case 0:
        return 64;
    case 1:
        return random_below(5000);
    case 2:
        return random_below(70000);
    default:
        return random_below(260);
    }
}

static struct object take(struct tkv_arena *arena, size_t size)
{
    struct object o = {tkv_arena_take(arena, size), size, (uint8_t)random_below(256)};

    CHECK(o.bytes != NULL);
    CHECK_EQ((uintptr_t)o.bytes % (size == 64 ? 64 : 8), 0);
    memset(o.bytes, o.pattern, size);
    return o;
}

static void give(struct tkv_arena *arena, struct object *o)
{
    for (size_t i = 0; i < o->size; i++)
        CHECK_EQ(o->bytes[i], o->pattern);
    tkv_arena_give(arena, o->bytes, o->size);
    o->bytes = NULL;
}

/* ---- Promises ------------------------------------------------------------------------ */

TEST(every_size_gets_an_aligned_object_of_its_own)
{
    enum { SIZES = 4200 };
    struct tkv_arena *arena = tkv_arena_new();
    struct object *objects = malloc(SIZES * sizeof *objects);

    for (size_t size = 0; size < SIZES; size++) {
        CHECK(tkv_arena_reserve(arena, size));
        objects[size] = take(arena, size);
    }
    for (size_t size = 0; size < SIZES; size++)
        give(arena, &objects[size]);
    CHECK(tkv_arena_bytes(arena) < 3 * MIB);
    tkv_arena_free(arena);
    free(objects);
}

TEST(objects_never_overlap_whatever_the_order)
{
    enum { OBJECTS = 3000, ROUNDS = 200000 };
    struct tkv_arena *arena = tkv_arena_new();
    struct object *objects = calloc(OBJECTS, sizeof *objects);

    random_state = 1;
    for (int round = 0; round < ROUNDS; round++) {
        struct object *o = &objects[random_below(OBJECTS)];
        const size_t size = random_size();

        if (o->bytes != NULL) {
            give(arena, o);
            continue;
        }
        CHECK(tkv_arena_reserve(arena, size));
        if (random_below(4) == 0)
            tkv_arena_unreserve(arena, size);
        else
            *o = take(arena, size);
    }
    for (int i = 0; i < OBJECTS; i++)
        if (objects[i].bytes != NULL)
            give(arena, &objects[i]);
    CHECK(tkv_arena_bytes(arena) < 3 * MIB);
    tkv_arena_free(arena);
    free(objects);
}

TEST(what_was_reserved_can_be_taken_without_memory)
{
    enum { OBJECTS = 20000 };
    struct tkv_arena *arena = tkv_arena_new();
    struct object *objects = calloc(OBJECTS, sizeof *objects);

    random_state = 2;
    for (int i = 0; i < OBJECTS; i++) {
        objects[i].size = random_size();
        CHECK(tkv_arena_reserve(arena, objects[i].size));
    }
    fail_at = UINT64_MAX;
    for (int i = 0; i < OBJECTS; i += 3)
        tkv_arena_unreserve(arena, objects[i].size);
    for (int i = 0; i < OBJECTS; i++)
        if (i % 3 != 0)
            objects[i] = take(arena, objects[i].size);
    for (int i = 0; i < OBJECTS; i++)
        if (i % 3 != 0)
            give(arena, &objects[i]);
    fail_at = 0;
    CHECK(tkv_arena_bytes(arena) < 3 * MIB);
    tkv_arena_free(arena);
    free(objects);
}

/* One run for each call that fails, until a run does not meet its fault. */
TEST(a_failed_reservation_changes_nothing)
{
    enum { OBJECTS = 400 };
    struct object objects[OBJECTS];
    bool met_its_fault = true;

    for (uint64_t at = 1; met_its_fault; at++) {
        struct tkv_arena *arena;
        uint64_t refused = 0;

        random_state = 3;
        calls = 0;
        fail_once = true;
        fail_at = at;
        arena = tkv_arena_new();
        if (arena == NULL)
            continue;
        for (int i = 0; i < OBJECTS; i++) {
            const size_t size = random_size(), before = tkv_arena_bytes(arena);

            objects[i].bytes = NULL;
            if (tkv_arena_reserve(arena, size)) {
                objects[i] = take(arena, size);
            } else {
                CHECK_EQ(tkv_arena_bytes(arena), before);
                refused++;
            }
        }
        met_its_fault = calls >= at;
        fail_at = 0;
        /* A big chunk that cannot be had is replaced by a small one. */
        CHECK(refused <= 1);
        for (int i = 0; i < OBJECTS; i++)
            if (objects[i].bytes != NULL)
                give(arena, &objects[i]);
        tkv_arena_free(arena);
    }
}

TEST(memory_of_one_class_serves_another)
{
    enum { OBJECTS = 100000 };
    struct tkv_arena *arena = tkv_arena_new();
    struct object *objects = calloc(OBJECTS, sizeof *objects);
    size_t most = 0;

    for (size_t size = 40; size <= 80; size += 8) {
        for (int i = 0; i < OBJECTS; i++) {
            CHECK(tkv_arena_reserve(arena, size));
            objects[i] = take(arena, size);
        }
        if (tkv_arena_bytes(arena) > most)
            most = tkv_arena_bytes(arena);
        /* Every second one first: pages are emptied in another order than filled. */
        for (int i = 0; i < OBJECTS; i += 2)
            give(arena, &objects[i]);
        for (int i = 1; i < OBJECTS; i += 2)
            give(arena, &objects[i]);
        CHECK(tkv_arena_bytes(arena) < 3 * MIB);
    }
    CHECK(most <= (size_t)OBJECTS * 80 + 3 * MIB);
    tkv_arena_free(arena);
    free(objects);
}

TEST(a_line_costs_a_line)
{
    enum { OBJECTS = 1000000 };
    struct tkv_arena *arena = tkv_arena_new();

    for (int i = 0; i < OBJECTS; i++) {
        CHECK(tkv_arena_reserve(arena, 64));
        (void)tkv_arena_take(arena, 64);
    }
    CHECK(tkv_arena_bytes(arena) < (size_t)OBJECTS * 64 + OBJECTS / 10 + 2 * MIB);
    tkv_arena_free(arena); /* with all that is still taken */
}

TEST(an_object_in_a_page_has_a_number_and_a_large_one_has_none)
{
    struct tkv_arena *arena = tkv_arena_new();
    static const size_t sizes[] = {8, 80, 4096, 4097};

    for (unsigned i = 0; i < 4; i++) {
        void *object;
        uint32_t number;

        CHECK(tkv_arena_reserve(arena, sizes[i]));
        object = tkv_arena_take(arena, sizes[i]);
        number = tkv_arena_number(object, sizes[i]);
        CHECK_EQ(number != 0, sizes[i] <= 4096);
        if (number != 0)
            CHECK(tkv_chunks_object(tkv_arena_chunks(arena), number) == object);
    }
    tkv_arena_free(arena);
}
