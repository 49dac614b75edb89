/* SPDX-License-Identifier: MIT */
/*
 * test_index_memory - what the index costs, that it gives it back, and that whichever allocation
 * fails, a refused reservation is all that happens.
 */
#include "index_keys.h"

TEST_MAIN

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
    const size_t bucket = sizeof(void *) + 8;
    const size_t tables = 256 * 4096 * bucket; /* at least, for so many keys */
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

#if UINTPTR_MAX >= UINT64_MAX /* else none is: no table has a power of two of bytes */
/* The first shard's table doubles when it has 0.8 keys a bucket. */
TEST(tables_of_64_kib_to_2_mib_are_in_the_arenas_memory_and_others_are_not)
{
    struct tkv_index *index = new_index();
    struct tkv_location old;
    const uint64_t keys = 131072 * 4 / 5;
    uint64_t number = 0;
    struct key key;

    largest_aligned = 0;
    for (uint64_t count = 0; count <= keys; number++) {
        short_key(index, number, &key);
        if (key.hash >> 56 != 0)
            continue;
        if (count == keys)
            CHECK_EQ(largest_aligned, 32 * 1024);
        (void)put(index, &key, location(count++, 0), &old);
    }
    CHECK_EQ(largest_aligned, 4 * MIB);
    CHECK(tkv_index_check(index));
    while (number > 0) {
        short_key(index, --number, &key);
        if (key.hash >> 56 == 0)
            CHECK(tkv_index_remove(index, key.slice, key.hash, &old));
    }
    CHECK_EQ(tkv_index_count(index), 0);
    CHECK(tkv_index_bytes(index) < 3 * MIB);
    CHECK(tkv_index_check(index));
    tkv_index_free(index);
}
#endif

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
