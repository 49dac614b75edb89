/* SPDX-License-Identifier: MIT */
/*
 * test_index - the index against a plain array: whatever the order of writes, moves and expiries.
 *
 * Method: a key is made from its number, so that the model is an array of locations. Random
 * operations go to both; every result is compared.
 */
#include "index_keys.h"

#include <pthread.h>

TEST_MAIN

/* ---- The model ----------------------------------------------------------------------- */

struct model_key {
    bool present;
    struct tkv_location location;
};

#define MODEL_KEYS 4000u

struct model {
    struct tkv_index *index;
    uint64_t random, now_ms, count;
    struct model_key keys[MODEL_KEYS];
};

static uint64_t below(struct model *m, uint64_t limit)
{
    return next_random(&m->random) % limit;
}

static void model_put(struct model *m, uint64_t number, const struct key *key)
{
    struct model_key *k = &m->keys[number];
    const uint64_t expires = below(m, 3) == 0 ? m->now_ms + 1 + below(m, 1000) : 0;
    const struct tkv_location to = location(below(m, 1000000), expires);
    struct tkv_location old;

    if (below(m, 8) == 0) { /* a write that is refused after all */
        CHECK_EQ(tkv_index_reserve(m->index, key->slice, key->hash, expires != 0, NULL),
                 TKV_OK);
        tkv_index_unreserve(m->index, key->slice, key->hash, expires != 0);
        return;
    }
    CHECK_EQ(put(m->index, key, to, &old), k->present);
    if (k->present)
        check_same(&old, &k->location);
    else
        m->count++;
    *k = (struct model_key){true, to};
}

static void model_remove(struct model *m, uint64_t number, const struct key *key)
{
    struct model_key *k = &m->keys[number];
    const uint64_t place = below(m, 2) ? k->location.place : tkv_place(9, 9, 0);
    struct tkv_location old;
    bool expected = k->present;
    bool removed;

    if (below(m, 2)) {
        expected = k->present && place == k->location.place;
        removed = tkv_index_remove_at(m->index, key->slice, key->hash,
                                      place | TKV_PLACE_EXPIRES, &old);
    } else {
        removed = tkv_index_remove(m->index, key->slice, key->hash, &old);
    }
    CHECK_EQ(removed, expected);
    if (!removed)
        return;
    check_same(&old, &k->location);
    k->present = false;
    m->count--;
}

static void model_move(struct model *m, uint64_t number, const struct key *key)
{
    struct model_key *k = &m->keys[number];
    const uint64_t from = below(m, 4) ? k->location.place : tkv_place(9, 9, 0);
    const uint64_t to = tkv_place(5, below(m, 1000000), 0);
    const bool moved = tkv_index_move(m->index, key->hash, from, to | TKV_PLACE_EXPIRES);

    CHECK_EQ(moved, k->present && from == k->location.place);
    if (moved)
        k->location.place = to;
}

static void model_find(struct model *m, uint64_t number, const struct key *key)
{
    const struct model_key *k = &m->keys[number];
    struct tkv_location found;

    CHECK_EQ(tkv_index_find(m->index, key->slice, key->hash, &found), k->present);
    if (k->present)
        check_same(&found, &k->location);
}

/* What a peek rules out is not there. */
static void model_peek(struct model *m)
{
    const uint64_t number = below(m, MODEL_KEYS);
    struct key key;
    uint64_t guess;

    varied_key(m->index, number, &key);
    CHECK(tkv_index_peek(m->index, key.hash, &guess) || !m->keys[number].present);
    model_find(m, number, &key);
}

static void model_expire(struct model *m)
{
    enum { MOST = 20 };
    struct tkv_location gone[MOST];
    uint64_t due = 0, removed = 0, size_sum = 0, model_size_sum = 0;
    size_t count;

    m->now_ms += below(m, 100);
    do {
        count = tkv_index_expire(m->index, m->now_ms, gone, MOST);
        CHECK(count <= MOST);
        removed += count;
        for (size_t i = 0; i < count; i++) {
            CHECK(gone[i].expires_at_ms != 0 && gone[i].expires_at_ms <= m->now_ms);
            size_sum += gone[i].size;
        }
    } while (count == MOST);
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        struct model_key *k = &m->keys[i];

        if (!k->present || k->location.expires_at_ms == 0 ||
            k->location.expires_at_ms > m->now_ms)
            continue;
        due++;
        model_size_sum += k->location.size;
        k->present = false;
        m->count--;
    }
    CHECK_EQ(removed, due);
    CHECK_EQ(size_sum, model_size_sum);
}

/* A whole sweep: every key of the model, once, where the model has it. */
static void model_step(struct model *m)
{
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    uint64_t count = 0, size_sum = 0, model_size_sum = 0;
    struct tkv_error err;

    while (!cursor.done) {
        size_t begin = 0;

        CHECK_OK(tkv_index_step(m->index, &cursor, &page, &err));
        for (size_t i = 0; i < page.count; i++) {
            const struct tkv_slice key =
                tkv_bytes(page.bytes + begin, page.ends[i] - begin);
            struct tkv_location found;

            CHECK(tkv_index_find(m->index, key, tkv_index_hash(m->index, key), &found));
            check_same(&found, &page.locations[i]);
            size_sum += found.size;
            begin = page.ends[i];
        }
        CHECK_EQ(begin, page.bytes_size);
        count += page.count;
    }
    CHECK_EQ(count, m->count);
    for (size_t i = 0; i < MODEL_KEYS; i++)
        if (m->keys[i].present)
            model_size_sum += m->keys[i].location.size;
    CHECK_EQ(size_sum, model_size_sum);
    tkv_index_page_release(&page);
}

static void model_operation(struct model *m, unsigned put_weight)
{
    static struct key key;
    const uint64_t number = below(m, MODEL_KEYS);
    const uint64_t choice = below(m, 100);

    varied_key(m->index, number, &key);
    if (choice < put_weight)
        model_put(m, number, &key);
    else if (choice < 60)
        model_remove(m, number, &key);
    else if (choice < 75)
        model_move(m, number, &key);
    else if (choice < 97)
        model_find(m, number, &key);
    else if (choice < 99)
        model_peek(m);
    else
        model_expire(m);
}

/* ---- One key ------------------------------------------------------------------------- */

TEST(the_index_behaves_like_an_array)
{
    struct model *m = calloc(1, sizeof *m);

    m->index = new_index();
    m->random = 11;
    m->now_ms = 1000;
    for (unsigned phase = 0; phase < 20; phase++) {
        for (unsigned i = 0; i < 10000; i++)
            model_operation(m, phase % 2 ? 15 : 50);
        CHECK_EQ(tkv_index_count(m->index), m->count);
        CHECK(tkv_index_check(m->index));
        model_step(m);
    }
    m->now_ms = UINT64_MAX - 1000;
    model_expire(m);
    CHECK(tkv_index_check(m->index));
    tkv_index_free(m->index); /* with all that is in it */
    free(m);
}

TEST(a_place_never_shows_the_flag_of_expiry)
{
    struct tkv_index *index = new_index();
    struct tkv_location old, found;
    struct key key;

    short_key(index, 1, &key);
    CHECK(!put(index, &key, location(4, 99), &old));
    CHECK(tkv_index_find(index, key.slice, key.hash, &found));
    CHECK_EQ(found.place, location(4, 99).place);
    CHECK_EQ(found.expires_at_ms, 99);
    tkv_index_free(index);
}

TEST(a_key_changes_between_expiring_and_not)
{
    struct tkv_index *index = new_index();
    const uint64_t expiries[] = {0, 50, 70, 20, 0, 0, 30};
    struct tkv_location old, now;
    struct key key;

    short_key(index, 1, &key);
    for (unsigned i = 0; i < sizeof expiries / sizeof *expiries; i++) {
        CHECK_EQ(put(index, &key, location(i, expiries[i]), &old), i > 0);
        if (i > 0)
            CHECK_EQ(old.expires_at_ms, expiries[i - 1]);
        CHECK_EQ(tkv_index_count(index), 1);
        CHECK(tkv_index_check(index));
    }
    CHECK_EQ(tkv_index_expire(index, 29, &now, 1), 0);
    CHECK_EQ(tkv_index_expire(index, 30, &now, 1), 1);
    CHECK_EQ(now.place, location(6, 0).place);
    CHECK_EQ(tkv_index_count(index), 0);
    tkv_index_free(index);
}

TEST(tombstones_are_dropped_and_nothing_else)
{
    enum { KEYS = 20000 };
    struct tkv_index *index = new_index();
    struct tkv_location old;
    struct key key;

    for (uint64_t i = 0; i < KEYS; i++) {
        struct tkv_location to = location(i, 0);

        to.place = tkv_place(1, i, i % 4 != 0 ? TKV_PLACE_TOMBSTONE : 0);
        short_key(index, i, &key);
        (void)put(index, &key, to, &old);
    }
    CHECK_EQ(tkv_index_drop_tombstones(index), KEYS - KEYS / 4);
    CHECK_EQ(tkv_index_count(index), KEYS / 4);
    CHECK_EQ(tkv_index_drop_tombstones(index), 0);
    CHECK(tkv_index_check(index));
    for (uint64_t i = 0; i < KEYS; i++) {
        short_key(index, i, &key);
        CHECK_EQ(tkv_index_find(index, key.slice, key.hash, &old), i % 4 == 0);
    }
    tkv_index_free(index);
}

/* ---- Adding -------------------------------------------------------------------------- */

TEST(what_is_added_is_there_and_what_is_there_is_not_added)
{
    const struct tkv_location first = location(1, 0), second = location(2, 0);
    struct tkv_index *index = new_index();
    struct tkv_location found;
    struct tkv_error err;
    struct key key;
    bool added;

    for (uint64_t i = 0; i < 5000; i++) {
        varied_key(index, i, &key);
        CHECK_OK(tkv_index_add(index, key.slice, key.hash, &first, &added, &err));
        CHECK(added);
        CHECK_OK(tkv_index_add(index, key.slice, key.hash, &second, &added, &err));
        CHECK(!added);
        CHECK(tkv_index_find(index, key.slice, key.hash, &found));
        check_same(&found, &first);
    }
    CHECK_EQ(tkv_index_count(index), 5000);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

/* ---- Guesses ------------------------------------------------------------------------- */

static uint64_t peek(struct tkv_index *index, const struct key *key)
{
    uint64_t guess = 0;

    CHECK(tkv_index_peek(index, key->hash, &guess));
    return guess;
}

/* Slots above 1,023 and offsets beyond 256 MiB wrap. */
TEST(a_guess_is_the_line_of_the_record_that_was_written_or_moved_last)
{
    const uint64_t first = tkv_place(7, 12345, 0), second = tkv_place(1023, 8 << 20, 0);
    struct tkv_location at = location(0, 1), old;
    struct tkv_index *index;
    struct tkv_error err;
    struct key key;

    CHECK_OK(tkv_index_new(3, 0, &index, &err));
    short_key(index, 1, &key);
    at.place = first;
    CHECK(!put(index, &key, at, &old));
    CHECK_EQ(peek(index, &key), tkv_place(7, 12345 / 64 * 64, 0));
    CHECK(tkv_index_move(index, key.hash, first, second));
    CHECK_EQ(peek(index, &key), second);
    at.place = tkv_place(1024, 264 << 20, 0);
    CHECK(put(index, &key, at, &old));
    CHECK_EQ(peek(index, &key), tkv_place(0, 8 << 20, 0));
    tkv_index_free(index);
}

static void note_guess(void *context, uint64_t guess)
{
    uint64_t *noted = context;

    *noted = guess;
}

TEST(a_lookup_tells_its_guess_while_it_goes_on_and_only_where_there_may_be_a_key)
{
    struct tkv_location at = location(0, 1), found, old;
    uint64_t noted = UINT64_MAX;
    struct tkv_index *index;
    struct tkv_error err;
    struct key key, absent;

    CHECK_OK(tkv_index_new(3, 0, &index, &err));
    short_key(index, 1, &key);
    short_key(index, 2, &absent);
    CHECK(!tkv_index_find_fetching(index, absent.slice, absent.hash, note_guess, &noted,
                                   &found));
    CHECK_EQ(noted, UINT64_MAX);
    at.place = tkv_place(7, 12345, 0);
    CHECK(!put(index, &key, at, &old));
    CHECK(tkv_index_find_fetching(index, key.slice, key.hash, note_guess, &noted, &found));
    CHECK_EQ(noted, tkv_place(7, 12345 / 64 * 64, 0));
    check_same(&found, &at);
    tkv_index_free(index);
}

/* ---- Keys without a slot ------------------------------------------------------------- */

/* Keys of one shard whose table cannot grow: all of them share one line of 6 slots. */
static void put_crowd(struct tkv_index *index, struct key *keys, size_t count)
{
    struct tkv_error err;
    uint64_t number = 0;

    for (size_t i = 0; i < count; i++) {
        do
            short_key(index, number++, &keys[i]);
        while (keys[i].hash >> 56 != 5);
        CHECK_OK(tkv_index_reserve(index, keys[i].slice, keys[i].hash, false, &err));
    }
    fail_at = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct tkv_location at = location(i, 0);
        struct tkv_location old;

        CHECK(!tkv_index_put(index, keys[i].slice, keys[i].hash, &at, &old));
    }
    fail_at = 0;
    CHECK(tkv_index_check(index));
}

static void check_every(struct tkv_index *index, const struct key *keys, size_t from,
                        size_t step, size_t count, uint64_t moved)
{
    for (size_t i = from; i < count; i += step) {
        const struct tkv_location at = location(i + moved, 0);
        struct tkv_location found;

        CHECK(tkv_index_find(index, keys[i].slice, keys[i].hash, &found));
        check_same(&found, &at);
    }
}

static void crowd_comes_and_goes(size_t count)
{
    struct key *keys = calloc(count, sizeof *keys);
    struct tkv_index *index = new_index();
    struct tkv_location old;

    put_crowd(index, keys, count);
    check_every(index, keys, 0, 1, count, 0);
    fail_at = UINT64_MAX; /* for the table */
    for (size_t i = 0; i < count; i += 2)
        CHECK(tkv_index_remove(index, keys[i].slice, keys[i].hash, &old));
    fail_at = 0;
    CHECK(tkv_index_check(index));
    check_every(index, keys, 1, 2, count, 0);
    for (size_t i = 0; i < count; i += 2)
        CHECK(!tkv_index_find(index, keys[i].slice, keys[i].hash, &old));
    for (size_t i = 1; i < count; i += 2)
        CHECK(tkv_index_move(index, keys[i].hash, location(i, 0).place,
                             location(i, 0).place ^ tkv_place(1, 0, 0)));
    CHECK(tkv_index_check(index));
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(put(index, &keys[i], location(i + 1, 0), &old), i % 2 == 1);
    check_every(index, keys, 0, 1, count, 1);
    CHECK(tkv_index_check(index)); /* the table has grown by now */
    for (size_t i = 0; i < count; i++)
        CHECK(tkv_index_remove(index, keys[i].slice, keys[i].hash, &old));
    CHECK_EQ(tkv_index_count(index), 0);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
    free(keys);
}

/* A line has 6 slots. */
TEST(keys_that_find_no_slot_are_found_moved_and_removed_like_others)
{
    static const size_t counts[] = {5, 6, 7, 8, 20, 300};

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        crowd_comes_and_goes(counts[i]);
}

TEST(a_key_takes_a_slot_that_has_become_free_when_it_is_found)
{
    const uint64_t line = ~UINT64_C(63) << 4;
    struct key *keys = calloc(7, sizeof *keys);
    struct tkv_index *index = new_index();
    struct tkv_location found;
    uint64_t guess;

    put_crowd(index, keys, 7);
    CHECK(tkv_index_peek(index, keys[6].hash, &guess));
    CHECK_EQ(guess, 0); /* none */
    CHECK(tkv_index_remove(index, keys[2].slice, keys[2].hash, &found));
    CHECK(tkv_index_peek(index, keys[6].hash, &guess));
    CHECK_EQ(guess, 0);
    CHECK(tkv_index_find(index, keys[6].slice, keys[6].hash, &found));
    CHECK(tkv_index_peek(index, keys[6].hash, &guess));
    CHECK_EQ(guess, found.place & line);
    CHECK(!tkv_index_peek(index, keys[2].hash, &guess)); /* and none is without a slot */
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
    free(keys);
}

/* ---- Threads ------------------------------------------------------------------------- */

enum { THREADS = 4, THREAD_KEYS = 5000, THREAD_OPERATIONS = 60000 };

struct worker {
    struct tkv_index *index;
    unsigned number;
    pthread_t thread;
    uint64_t present[THREAD_KEYS]; /* the place, 0: absent */
    uint64_t expiring_puts, expired;
    struct key keys[16];
};

static uint64_t key_number(const struct worker *w, uint64_t i)
{
    return i * THREADS + w->number;
}

/* Keys that expire are apart from the others, and anyone may remove them. */
static void put_expiring(struct worker *w, uint64_t i)
{
    struct tkv_location old;

    short_key(w->index, UINT64_C(1) << 40 | key_number(w, w->expiring_puts), &w->keys[0]);
    CHECK(!put(w->index, &w->keys[0], location(i, 1 + i % 50), &old));
    w->expiring_puts++;
}

static void find_others(struct worker *w, uint64_t *random)
{
    uint64_t guess;

    for (unsigned i = 0; i < 16; i++) {
        short_key(w->index, next_random(random) % (THREADS * THREAD_KEYS), &w->keys[i]);
        (void)tkv_index_peek(w->index, w->keys[i].hash, &guess);
    }
    for (unsigned i = 0; i < 16; i++) {
        struct tkv_location location;
        uint64_t number;

        memcpy(&number, w->keys[i].bytes, sizeof number);
        if (tkv_index_find(w->index, w->keys[i].slice, w->keys[i].hash, &location))
            CHECK_EQ(location.size, (uint32_t)number + 1);
    }
}

static void step_some(struct worker *w, struct tkv_index_cursor *cursor,
                      struct tkv_index_page *page)
{
    struct tkv_error err;

    if (cursor->done)
        memset(cursor, 0, sizeof *cursor);
    CHECK_OK(tkv_index_step(w->index, cursor, page, &err));
}

static void *work(void *argument)
{
    struct worker *w = argument;
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    uint64_t random = w->number;

    for (uint64_t n = 0; n < THREAD_OPERATIONS; n++) {
        const uint64_t i = next_random(&random) % THREAD_KEYS, number = key_number(w, i);
        struct tkv_location old, to = location(number, 0), gone[16];
        struct key *key = &w->keys[0];

        to.place = tkv_place(1, n + 1, 0);
        short_key(w->index, number, key);
        switch (next_random(&random) % 10) {
        case 0:
        case 1:
        case 2:
            CHECK_EQ(put(w->index, key, to, &old), w->present[i] != 0);
            w->present[i] = to.place;
            break;
        case 3:
        case 4:
            CHECK_EQ(tkv_index_remove(w->index, key->slice, key->hash, &old),
                     w->present[i] != 0);
            w->present[i] = 0;
            break;
        case 5:
            CHECK_EQ(tkv_index_move(w->index, key->hash, w->present[i] | 8, to.place),
                     false);
            CHECK_EQ(tkv_index_find(w->index, key->slice, key->hash, &old),
                     w->present[i] != 0);
            break;
        case 6:
            put_expiring(w, n);
            break;
        case 7:
            w->expired += tkv_index_expire(w->index, n % 50, gone, 16);
            break;
        case 8:
            step_some(w, &cursor, &page);
            break;
        default:
            find_others(w, &random);
            break;
        }
    }
    tkv_index_page_release(&page);
    return NULL;
}

TEST(threads_see_their_own_writes_and_nobody_loses_any)
{
    struct tkv_index *index = new_index();
    struct worker *workers = calloc(THREADS, sizeof *workers);
    uint64_t expected = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].index = index;
        workers[i].number = i;
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        struct worker *w = &workers[i];

        expected += w->expiring_puts - w->expired;
        for (uint64_t k = 0; k < THREAD_KEYS; k++) {
            struct tkv_location found;

            short_key(index, key_number(w, k), &w->keys[0]);
            CHECK_EQ(tkv_index_find(index, w->keys[0].slice, w->keys[0].hash, &found),
                     w->present[k] != 0);
            if (w->present[k] != 0)
                CHECK_EQ(found.place, w->present[k]);
            expected += w->present[k] != 0;
        }
    }
    CHECK_EQ(tkv_index_count(index), expected);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
    free(workers);
}
