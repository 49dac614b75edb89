/* SPDX-License-Identifier: MIT */
/*
 * test_index_cursor - every key that stays is visited once, whatever comes, goes and is resized
 * meanwhile.
 */
#include "index_keys.h"

TEST_MAIN

/* ---- Visiting ------------------------------------------------------------------------ */

/* All in a few shards, so that tables get large with few keys. */
enum { SWEEP_SHARDS = 2, STAYING = 4, CHURNING = 2000, NUMBERS = 400000 };

struct sweep {
    struct tkv_index *index;
    uint64_t staying[STAYING], churning[CHURNING];
    uint8_t visits[NUMBERS], adds[NUMBERS];
};

static void choose_numbers(struct sweep *s, uint64_t *numbers, size_t count, uint64_t *next)
{
    struct key key;

    for (size_t i = 0; i < count; ++*next) {
        short_key(s->index, *next, &key);
        if (key.hash >> 56 < SWEEP_SHARDS)
            numbers[i++] = *next;
    }
    CHECK(*next <= NUMBERS);
}

static void step_and_note(struct sweep *s, struct tkv_index_cursor *cursor,
                          struct tkv_index_page *page)
{
    struct tkv_error err;

    CHECK_OK(tkv_index_step(s->index, cursor, page, &err));
    for (size_t i = 0; i < page->count; i++) {
        uint64_t number;

        memcpy(&number, page->bytes + (i > 0 ? page->ends[i - 1] : 0), sizeof number);
        s->visits[number]++;
    }
}

static void add_wave(struct sweep *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tkv_location old;
        struct key key;

        short_key(s->index, s->churning[i], &key);
        if (!put(s->index, &key, location(s->churning[i], 0), &old))
            s->adds[s->churning[i]]++;
    }
}

/* One sweep while other keys come and go in waves, so that tables double and halve many
 * times between steps, down to fewer buckets than a step has visited. */
static void sweep_while_churning(uint64_t seed)
{
    struct sweep *s = calloc(1, sizeof *s);
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    uint64_t random = seed, next = 0;
    struct tkv_error err;

    CHECK_OK(tkv_index_new(seed, 0, &s->index, &err));
    choose_numbers(s, s->staying, STAYING, &next);
    choose_numbers(s, s->churning, CHURNING, &next);
    for (size_t i = 0; i < STAYING; i++)
        put_short(s->index, s->staying[i]);
    while (!cursor.done) {
        add_wave(s, next_random(&random) % 4 == 0 ? CHURNING / 8 : CHURNING);
        step_and_note(s, &cursor, &page);
        for (size_t i = next_random(&random) % 4; i < CHURNING; i++)
            (void)remove_short(s->index, s->churning[i]);
        if (next_random(&random) % 4 == 0)
            step_and_note(s, &cursor, &page);
    }
    for (size_t i = 0; i < STAYING; i++)
        CHECK_EQ(s->visits[s->staying[i]], 1);
    for (size_t i = 0; i < CHURNING; i++)
        CHECK(s->visits[s->churning[i]] <= s->adds[s->churning[i]]);
    CHECK(tkv_index_check(s->index));
    tkv_index_page_release(&page);
    tkv_index_free(s->index);
    free(s);
}

TEST(keys_that_stay_are_visited_exactly_once_whatever_is_resized)
{
    for (uint64_t seed = 1; seed <= 150; seed++)
        sweep_while_churning(seed);
}

TEST(an_empty_index_is_visited_in_few_steps)
{
    struct tkv_index *index = new_index();
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    struct tkv_error err;
    unsigned steps = 0;

    for (; !cursor.done; steps++) {
        CHECK_OK(tkv_index_step(index, &cursor, &page, &err));
        CHECK_EQ(page.count, 0);
    }
    CHECK(steps <= 8);
    tkv_index_page_release(&page);
    tkv_index_free(index);
}

TEST(a_step_copies_about_64_keys)
{
    struct tkv_index *index = new_index();
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    struct tkv_error err;

    for (uint64_t i = 0; i < 100000; i++)
        put_short(index, i);
    while (!cursor.done) {
        CHECK_OK(tkv_index_step(index, &cursor, &page, &err));
        CHECK(page.count <= 160);
        CHECK(page.count >= 64 || cursor.done);
    }
    tkv_index_page_release(&page);
    tkv_index_free(index);
}

TEST(a_step_that_runs_out_of_memory_can_be_repeated)
{
    struct tkv_index *index = new_index();
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    struct tkv_error err;
    uint64_t count = 0;

    for (uint64_t i = 0; i < 5000; i++)
        put_short(index, i);
    fail_once = true;
    for (uint64_t at = 1; !cursor.done; at = at % 7 + 1) {
        const struct tkv_index_cursor before = cursor;
        enum tkv_status status;

        tkv_index_page_release(&page);
        calls = 0;
        fail_at = at;
        status = tkv_index_step(index, &cursor, &page, &err);
        fail_at = 0;
        if (status == TKV_OK) {
            count += page.count;
            continue;
        }
        CHECK_EQ(status, TKV_NO_MEMORY);
        CHECK_EQ(cursor.shard, before.shard);
        CHECK_EQ(cursor.bucket, before.bucket);
        CHECK_EQ(page.count, 0);
        CHECK_OK(tkv_index_step(index, &cursor, &page, &err));
        count += page.count;
    }
    CHECK_EQ(count, 5000);
    tkv_index_page_release(&page);
    tkv_index_free(index);
}
