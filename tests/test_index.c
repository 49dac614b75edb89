/* SPDX-License-Identifier: MIT */
/*
 * test_index - the index against a plain array: whatever the order of writes, moves, expiries
 * and steps, and whichever allocation fails.
 *
 * Method: a key is made from its number, so that the model is an array of locations. Random
 * operations go to both; every result is compared. The linker wraps the allocator (link with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=mmap and mmap64), so that
 * any of its calls can fail.
 */
#include "index.h"
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/types.h>

TEST_MAIN

#define MIB ((size_t)1024 * 1024)

/* ---- Memory that fails --------------------------------------------------------------- */

static atomic_uint_least64_t calls, fail_at; /* 0: never; UINT64_MAX: from now on */
static atomic_bool fail_once;                /* or from then on */

static bool fails_now(void)
{
    const uint64_t call = ++calls, at = fail_at;

    return at == UINT64_MAX || (at != 0 && (fail_once ? call == at : call >= at));
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *from, size_t size);
void *__wrap_realloc(void *from, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *from, size_t size)
{
    return fails_now() ? NULL : __real_realloc(from, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!fails_now())
        return __real_mmap(at, size, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* What glibc makes of it with offsets of 64 bits. */
void *__wrap_mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return __wrap_mmap(at, size, protection, flags, fd, offset);
}

/* ---- Keys and the model -------------------------------------------------------------- */

#define KEY_BUFFER 6000u

struct key {
    struct tkv_slice slice;
    uint64_t hash;
    uint8_t bytes[KEY_BUFFER];
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void make_key(const struct tkv_index *index, uint64_t number, size_t size,
                     struct key *key)
{
    memset(key->bytes, (int)(number & 0xff), size);
    memcpy(key->bytes, &number, size < sizeof number ? size : sizeof number);
    key->slice = tkv_bytes(size == 0 ? NULL : key->bytes, size);
    key->hash = tkv_index_hash(index, key->slice);
}

/* Number 0 is the empty key, some keys are too large for pages, the others short. */
static void varied_key(const struct tkv_index *index, uint64_t number, struct key *key)
{
    make_key(index, number,
             number == 0         ? 0
             : number % 101 == 0 ? 4000 + number % 2000
                                 : 8 + number % 40,
             key);
}

static void short_key(const struct tkv_index *index, uint64_t number, struct key *key)
{
    make_key(index, number, 16, key);
}

static struct tkv_index *new_index(void)
{
    struct tkv_index *index;
    struct tkv_error err;

    CHECK_OK(tkv_index_new(7, 0, &index, &err));
    return index;
}

static struct tkv_location location(uint64_t number, uint64_t expires_at_ms)
{
    return (struct tkv_location){
        .place = tkv_place((uint32_t)(number % 1000), number, number & TKV_PLACE_LARGE),
        .size = (uint32_t)number + 1,
        .seq_low = (uint32_t)(number * 31),
        .expires_at_ms = expires_at_ms,
    };
}

static void check_same(const struct tkv_location *left, const struct tkv_location *right)
{
    CHECK_EQ(left->place, right->place);
    CHECK_EQ(left->size, right->size);
    CHECK_EQ(left->seq_low, right->seq_low);
    CHECK_EQ(left->expires_at_ms, right->expires_at_ms);
}

static bool put(struct tkv_index *index, const struct key *key, struct tkv_location to,
                struct tkv_location *ret_old)
{
    struct tkv_error err;

    CHECK_OK(tkv_index_reserve(index, key->slice, key->hash, to.expires_at_ms != 0, &err));
    return tkv_index_put(index, key->slice, key->hash, &to, ret_old);
}

static void put_short(struct tkv_index *index, uint64_t number)
{
    struct tkv_location old;
    struct key key;

    short_key(index, number, &key);
    (void)put(index, &key, location(number, 0), &old);
}

static bool remove_short(struct tkv_index *index, uint64_t number)
{
    struct tkv_location old;
    struct key key;

    short_key(index, number, &key);
    return tkv_index_remove(index, key.slice, key.hash, &old);
}

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
    const bool moved =
        tkv_index_move(m->index, key->slice, key->hash, from, to | TKV_PLACE_EXPIRES);

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
    CHECK(tkv_index_move(index, key.slice, key.hash, first, second));
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
    CHECK(tkv_index_find_to_remove(index, key.slice, key.hash));
    CHECK(!tkv_index_find_to_remove(index, absent.slice, absent.hash));
    CHECK(tkv_index_find(index, key.slice, key.hash, &found)); /* it is still there */
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
        CHECK(tkv_index_move(index, keys[i].slice, keys[i].hash, location(i, 0).place,
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

/* A line has 6 slots, and counts 255 entries without one. */
TEST(keys_that_find_no_slot_are_found_moved_and_removed_like_others)
{
    static const size_t counts[] = {5, 6, 7, 8, 20, 260, 261, 262, 300};

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

/* ---- Memory -------------------------------------------------------------------------- */

static void fill_and_drain(uint64_t expected_keys)
{
    const uint64_t keys = 1000000;
    struct tkv_index *index;
    struct tkv_error err;

    CHECK_OK(tkv_index_new(3, expected_keys, &index, &err));
    for (uint64_t i = 0; i < keys; i++)
        put_short(index, i);
    CHECK_EQ(tkv_index_count(index), keys);
    CHECK(tkv_index_bytes(index) <= 105 * keys);
    CHECK(tkv_index_check(index));
    for (uint64_t i = 0; i < keys; i++)
        CHECK(remove_short(index, i * 7919 % keys));
    CHECK_EQ(tkv_index_count(index), 0);
    CHECK(tkv_index_bytes(index) < 3 * MIB);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

/* Add keys until memory is got ready for more. */
static uint64_t grow_until_prepared(struct tkv_index *index, size_t *ret_before)
{
    uint64_t keys = 0;

    for (*ret_before = 0; tkv_index_bytes(index) < *ret_before + MIB || keys < 100;) {
        for (unsigned i = 0; i < 100; i++)
            put_short(index, keys++);
        *ret_before = tkv_index_bytes(index);
        tkv_index_prepare(index);
        CHECK(keys < 200000);
    }
    return keys;
}

TEST(memory_that_is_got_ready_counts_is_used_next_and_can_be_given_back)
{
    struct tkv_index *index;
    struct tkv_error err;
    size_t before, ready;
    uint64_t keys;

    CHECK_OK(tkv_index_new(3, 200000, &index, &err));
    keys = grow_until_prepared(index, &before);
    ready = tkv_index_bytes(index);
    CHECK(ready >= before + 2 * MIB);
    CHECK(tkv_index_check(index));
    tkv_index_prepare(index); /* there is one */
    CHECK_EQ(tkv_index_bytes(index), ready);
    tkv_index_trim(index);
    CHECK_EQ(tkv_index_bytes(index), before);
    put_short(index, keys);
    fail_at = UINT64_MAX;
    tkv_index_prepare(
        index); /* without memory nothing is ready, and nothing else changes */
    fail_at = 0;
    CHECK_EQ(tkv_index_bytes(index), before);
    CHECK_EQ(tkv_index_count(index), keys + 1);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

TEST(a_key_of_16_bytes_costs_at_most_105_and_all_comes_back)
{
    fill_and_drain(0);
    fill_and_drain(1000000);
}

/* Tables of 64 KiB and more are in the arena's memory. */
TEST(large_tables_count_once_and_stay_small_without_memory)
{
    const size_t tables = 256 * 64 * 1024; /* at least, for so many keys */
    struct tkv_index *index = new_index();
    struct tkv_location found;
    struct key key;
    size_t before;

    for (uint64_t i = 0; i < 1000; i++)
        put_short(index, i);
    before = tkv_index_bytes(index);
    fail_at = UINT64_MAX;
    tkv_index_presize(index, 1000000);
    fail_at = 0;
    CHECK_EQ(tkv_index_bytes(index), before);
    CHECK(tkv_index_check(index));
    tkv_index_presize(index, 1000000);
    CHECK(tkv_index_bytes(index) >= tables);
    CHECK(tkv_index_bytes(index) <= before + tables + tables / 4 + 2 * MIB);
    CHECK(tkv_index_check(index));
    for (uint64_t i = 0; i < 1000; i++) {
        short_key(index, i, &key);
        CHECK(tkv_index_find(index, key.slice, key.hash, &found));
    }
    tkv_index_free(index);
}

TEST(most_of_the_memory_comes_back_while_some_keys_stay)
{
    const uint64_t keys = 300000;
    struct tkv_index *index = new_index();
    size_t full;

    for (uint64_t i = 0; i < keys; i++)
        put_short(index, i);
    full = tkv_index_bytes(index);
    for (uint64_t i = keys / 100; i < keys; i++)
        CHECK(remove_short(index, i));
    CHECK(tkv_index_bytes(index) < full / 5);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

TEST(writing_a_key_again_costs_no_memory)
{
    struct tkv_index *index = new_index();
    struct tkv_location old;
    struct key key;
    size_t before;

    short_key(index, 1, &key);
    (void)put(index, &key, location(1, 0), &old); /* both sizes once: pages are kept */
    (void)put(index, &key, location(1, 10), &old);
    before = tkv_index_bytes(index);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(put(index, &key, location(i, i % 7 == 0 ? 0 : 10 + i % 5), &old));
    (void)put(index, &key, location(1, 10), &old);
    CHECK_EQ(tkv_index_bytes(index), before);
    tkv_index_free(index);
}

TEST(expired_keys_give_their_memory_back)
{
    struct tkv_index *index = new_index();
    struct tkv_location gone[100], old;
    uint64_t count = 0;
    struct key key;
    size_t removed;

    for (uint64_t i = 0; i < 200000; i++) {
        short_key(index, i, &key);
        (void)put(index, &key, location(i, 1 + i % 977), &old);
    }
    CHECK(tkv_index_check(index));
    while ((removed = tkv_index_expire(index, 1000, gone, 100)) > 0)
        count += removed;
    CHECK_EQ(count, 200000);
    CHECK(tkv_index_bytes(index) < 3 * MIB);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}

TEST(a_put_after_its_reservation_needs_no_memory)
{
    enum { KEYS = 20000 };
    struct tkv_index *index = new_index();
    struct tkv_location old;
    struct tkv_error err;
    static struct key key;

    /* Some keys are there, expiring when they will cease to and the other way round. */
    for (uint64_t i = 0; i < KEYS; i += 3) {
        varied_key(index, i, &key);
        (void)put(index, &key, location(i, i % 2 ? 0 : 5 + i), &old);
    }
    for (uint64_t i = 0; i < KEYS; i++) {
        varied_key(index, i, &key);
        CHECK_OK(tkv_index_reserve(index, key.slice, key.hash, i % 2, &err));
    }
    fail_at = UINT64_MAX;
    for (uint64_t i = 0; i < KEYS; i++) {
        const struct tkv_location to = location(i, i % 2 ? 5 + i : 0);

        varied_key(index, i, &key);
        CHECK_EQ(tkv_index_put(index, key.slice, key.hash, &to, &old), i % 3 == 0);
    }
    CHECK(tkv_index_check(index));
    for (uint64_t i = 0; i < KEYS; i++) {
        varied_key(index, i, &key);
        CHECK(tkv_index_find(index, key.slice, key.hash, &old));
        CHECK_EQ(old.expires_at_ms, i % 2 ? 5 + i : 0);
    }
    for (uint64_t i = 0; i < KEYS; i++) { /* deleting needs none either */
        varied_key(index, i, &key);
        CHECK(tkv_index_remove(index, key.slice, key.hash, &old));
    }
    CHECK_EQ(tkv_index_count(index), 0);
    CHECK(tkv_index_check(index));
    fail_at = 0;
    tkv_index_free(index);
}

/* One run for each call that fails, until a run does not meet its fault. */
static void fail_every_call_once(bool once)
{
    enum { KEYS = 600 };
    bool met_its_fault = true;
    static struct key key;

    fail_once = once;
    for (uint64_t at = 1; met_its_fault; at++) {
        struct tkv_location old;
        struct tkv_index *index;
        bool present[KEYS];
        uint64_t count = 0;
        struct tkv_error err;
        bool added;

        calls = 0;
        fail_at = at;
        if (tkv_index_new(1, 5000, &index, &err) != TKV_OK) {
            CHECK_EQ(err.status, TKV_NO_MEMORY);
            continue;
        }
        for (uint64_t i = 0; i < KEYS; i++) {
            const struct tkv_location to = location(i, i % 2 ? 100 + i : 0);
            enum tkv_status status;

            varied_key(index, i, &key);
            if (i % 4 == 0)
                status = tkv_index_add(index, key.slice, key.hash, &to, &added, &err);
            else
                status = tkv_index_reserve(index, key.slice, key.hash, i % 2, &err);
            present[i] = status == TKV_OK;
            if (status != TKV_OK)
                CHECK_EQ(status, TKV_NO_MEMORY);
            else if (i % 4 != 0)
                CHECK(!tkv_index_put(index, key.slice, key.hash, &to, &old));
            count += present[i];
        }
        met_its_fault = calls >= at;
        fail_at = 0;
        CHECK_EQ(tkv_index_count(index), count);
        CHECK(tkv_index_check(index));
        for (uint64_t i = 0; i < KEYS; i++) {
            varied_key(index, i, &key);
            CHECK_EQ(tkv_index_find(index, key.slice, key.hash, &old), present[i]);
        }
        tkv_index_free(index);
    }
}

TEST(a_refused_reservation_changes_nothing)
{
    fail_every_call_once(true);
    fail_every_call_once(false);
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
            CHECK_EQ(tkv_index_move(w->index, key->slice, key->hash, w->present[i] | 8,
                                    to.place),
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
