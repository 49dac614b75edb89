/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises of keys, batches, expiry, iteration and pins, promise by promise, on
 * the simulated disk. Beside it: test_store_life.c, test_store_space.c, test_store_failures.c,
 * and for threads, processes and bulk test_store_real.c; test_crash.c has what a crash leaves.
 */
#include "sim_store.h"

TEST_MAIN

/* ---- Single keys ------------------------------------------------------------------- */

TEST(what_was_put_is_got_in_every_form_and_after_reopening)
{
    struct fixture f = begin();
    struct tkv_pin pin;
    char buffer[8];
    size_t size = 0;

    put(&f, "name", "value");
    for (int i = 0; i < 2; i++) {
        check_value(&f, "name", "value");
        CHECK_OK(tkv_exists(f.store, tkv_text("name"), &err));
        CHECK_OK(tkv_get(f.store, tkv_text("name"), buffer, 5, &size, &err));
        CHECK_EQ(size, 5);
        CHECK(memcmp(buffer, "value", 5) == 0);
        CHECK_OK(tkv_get_pinned(f.store, tkv_text("name"), &pin, &err));
        CHECK_EQ(pin.value.size, 5);
        CHECK(memcmp(pin.value.data, "value", 5) == 0);
        CHECK_EQ(pin.expires_at_ms, 0);
        tkv_unpin(&pin);
        tkv_unpin(&pin);
        reopen(&f);
    }
    end(&f);
}

TEST(a_buffer_too_small_is_left_alone_and_the_size_is_told)
{
    struct fixture f = begin();
    char buffer[4] = "abc";
    size_t size = 0;

    put(&f, "k", "value");
    CHECK_EQ(tkv_get(f.store, tkv_text("k"), buffer, 4, &size, &err), TKV_TOO_BIG);
    CHECK_EQ(size, 5);
    CHECK_STR(buffer, "abc");
    CHECK_EQ(tkv_get(f.store, tkv_text("k"), NULL, 0, &size, &err), TKV_TOO_BIG);
    CHECK_EQ(size, 5);
    end(&f);
}

TEST(an_empty_key_and_an_empty_value_are_like_any_other)
{
    struct fixture f = begin();

    put(&f, "", "of the empty key");
    put(&f, "empty", "");
    check_absent(&f, "absent");
    for (int i = 0; i < 2; i++) {
        check_value(&f, "", "of the empty key");
        check_value(&f, "empty", "");
        CHECK_EQ(stats_of(&f).keys, 2);
        reopen(&f);
    }
    CHECK_EQ(tkv_get(f.store, tkv_text("empty"), NULL, 0, &(size_t){1}, &err), TKV_OK);
    CHECK(del(&f, ""));
    check_absent(&f, "");
    end(&f);
}

TEST(limits_are_as_documented)
{
    struct fixture f = begin();
    static char key[TKV_KEY_SIZE_MAX + 1];
    void *value;
    size_t size;

    memset(key, 'x', sizeof key);
    f.options.wal_size_max = 1024 * 1024;
    reopen(&f);
    CHECK_OK(tkv_put(f.store, tkv_bytes(key, TKV_KEY_SIZE_MAX), tkv_text("v"), &err));
    CHECK_EQ(tkv_put(f.store, tkv_bytes(key, sizeof key), tkv_text("v"), &err),
             TKV_TOO_BIG);
    CHECK_EQ(tkv_put(f.store, tkv_text("k"), tkv_bytes(key, (size_t)TKV_VALUE_SIZE_MAX + 1),
                     &err),
             TKV_TOO_BIG);
    CHECK_EQ(tkv_put(f.store, tkv_bytes(NULL, 1), tkv_text("v"), &err), TKV_INVALID);
    CHECK_EQ(tkv_put_expiring(f.store, tkv_text("k"), tkv_text("v"), 0, &err), TKV_INVALID);
    CHECK_EQ(
        tkv_put_expiring(f.store, tkv_text("k"), tkv_text("v"), UINT64_C(1) << 63, &err),
        TKV_INVALID);
    reopen(&f);
    CHECK_OK(tkv_get_copy(f.store, tkv_bytes(key, TKV_KEY_SIZE_MAX), &value, &size, &err));
    CHECK_STR((char *)value, "v");
    tkv_free(value);
    CHECK_EQ(stats_of(&f).keys, 1);
    end(&f);
}

/* With a small log the longest key does not fit into it: it is refused, or stored. */
TEST(the_longest_key_with_the_smallest_log_is_refused_or_kept)
{
    struct fixture f = begin();
    static char key[TKV_KEY_SIZE_MAX];
    enum tkv_status status;

    memset(key, 'x', sizeof key);
    status = tkv_put(f.store, tkv_bytes(key, sizeof key), tkv_text("v"), &err);
    CHECK(status == TKV_OK || status == TKV_TOO_BIG);
    reopen(&f);
    CHECK_EQ(tkv_exists(f.store, tkv_bytes(key, sizeof key), &err),
             status == TKV_OK ? TKV_OK : TKV_NOT_FOUND);
    put(&f, "k", "works on");
    end(&f);
}

TEST(delete_says_whether_the_key_was_there)
{
    struct fixture f = begin();
    const uint64_t seq = stats_of(&f).seq_last;

    CHECK(!del(&f, "k"));
    CHECK_EQ(stats_of(&f).seq_last, seq); /* wrote nothing */
    put(&f, "k", "v");
    CHECK(del(&f, "k"));
    CHECK(!del(&f, "k"));
    check_absent(&f, "k");
    reopen(&f);
    check_absent(&f, "k");
    CHECK(!del(&f, "k"));
    end(&f);
}

#define LONG_KEY 20000u

/* A key that the index takes for one that may be there until it has looked at the entry. */
static struct tkv_slice lookalike(struct fixture *f, size_t size)
{
    static char bytes[LONG_KEY];
    const struct tkv_slice key = tkv_bytes(bytes, size);
    struct tkv_location location;
    uint64_t hash, guess;
    uint32_t number = 0;

    do {
        memcpy(bytes, &number, sizeof number);
        number++;
        hash = tkv_index_hash(f->store->index, key);
    } while (!tkv_index_peek(f->store->index, hash, &guess));
    CHECK(!tkv_index_find(f->store->index, key, hash, &location));
    return key;
}

static void put_many(struct fixture *f)
{
    for (char key[3] = "aa"; key[0] <= 'z'; key[0]++)
        for (key[1] = 'a'; key[1] <= 'z'; key[1]++)
            put(f, key, "v");
}

static void delete_a_lookalike(enum tkv_durability durability)
{
    struct fixture f = begin_closed();
    struct tkv_stats before, after;
    bool existed = true;

    f.options.durability = durability;
    reopen(&f);
    put_many(&f);
    before = stats_of(&f);
    CHECK_OK(tkv_delete(f.store, lookalike(&f, 8), &existed, &err));
    after = stats_of(&f);
    CHECK(!existed);
    CHECK_EQ(after.seq_last, before.seq_last);
    CHECK_EQ(after.wal_bytes_written, before.wal_bytes_written);
    CHECK_EQ(after.deletes, before.deletes);
    put(&f, "next", "v");
    CHECK_EQ(stats_of(&f).seq_last, before.seq_last + 1);
    CHECK(del(&f, "aa"));
    reopen(&f);
    check_value(&f, "next", "v");
    check_absent(&f, "aa");
    check_value(&f, "zz", "v");
    end(&f);
}

TEST(deleting_a_key_that_looks_like_another_writes_nothing)
{
    delete_a_lookalike(TKV_DURABILITY_ALWAYS);
    delete_a_lookalike(TKV_DURABILITY_NONE);
}

TEST(deleting_an_absent_key_succeeds_where_it_could_not_be_written)
{
    struct fixture f = begin();
    struct tkv_slice key;
    bool existed = true;

    put_many(&f);
    key = lookalike(&f, LONG_KEY); /* more than a quarter of the log */
    CHECK_OK(tkv_delete(f.store, key, &existed, &err));
    CHECK(!existed);
    end(&f);
}

/* ---- Batches ----------------------------------------------------------------------- */

TEST(in_a_batch_later_writes_win)
{
    struct fixture f = begin();
    struct tkv_batch *batch;

    put(&f, "c", "old");
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("a"), tkv_text("1"), &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("a"), tkv_text("2"), &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("b"), tkv_text("3"), &err));
    CHECK_OK(tkv_batch_delete(batch, tkv_text("b"), &err));
    CHECK_OK(tkv_batch_delete(batch, tkv_text("c"), &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("c"), tkv_text("4"), &err));
    CHECK_EQ(tkv_batch_count(batch), 6);
    CHECK_OK(tkv_write(f.store, batch, &err));
    for (int i = 0; i < 2; i++) {
        check_value(&f, "a", "2");
        check_absent(&f, "b");
        check_value(&f, "c", "4");
        CHECK_EQ(stats_of(&f).keys, 2);
        reopen(&f);
    }
    put(&f, "a", "5");
    CHECK_OK(tkv_write(f.store, batch, &err)); /* once more */
    check_value(&f, "a", "2");
    tkv_batch_clear(batch);
    CHECK_EQ(tkv_batch_count(batch), 0);
    CHECK_EQ(tkv_batch_bytes(batch), 0);
    CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    tkv_batch_free(NULL);
    end(&f);
}

TEST(a_batch_above_a_quarter_of_the_log_is_refused_whole)
{
    struct fixture f = begin();
    struct tkv_batch *batch;
    uint8_t value[1000];
    char key[16];

    fill(value, sizeof value, 1);
    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = 0; tkv_batch_bytes(batch) <= f.options.wal_size_max / 4; i++) {
        snprintf(key, sizeof key, "key%u", i);
        CHECK_OK(tkv_batch_put(batch, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    CHECK_EQ(tkv_write(f.store, batch, &err), TKV_TOO_BIG);
    CHECK_EQ(stats_of(&f).keys, 0);
    tkv_batch_clear(batch);
    for (unsigned i = 0; tkv_batch_bytes(batch) + 1100 <= f.options.wal_size_max / 4; i++) {
        snprintf(key, sizeof key, "key%u", i);
        CHECK_OK(tkv_batch_put(batch, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    for (int i = 0; i < 40; i++)
        CHECK_OK(tkv_write(f.store, batch, &err)); /* round the log several times */
    CHECK_EQ(stats_of(&f).keys, tkv_batch_count(batch));
    reopen(&f);
    CHECK_EQ(stats_of(&f).keys, tkv_batch_count(batch));
    tkv_batch_free(batch);
    check_verifies(f.store);
    end(&f);
}

/* ---- Expiry ------------------------------------------------------------------------ */

TEST(an_expired_key_is_absent_everywhere)
{
    struct fixture f = begin();
    struct tkv_slice keys[2] = {tkv_text("brief"), tkv_text("long")};
    struct tkv_pin pins[2];
    enum tkv_status statuses[2];

    put(&f, "brief", "hidden by the next");
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(
        tkv_put_expiring(f.store, tkv_text("brief"), tkv_text("v"), WALL_MS + 10, &err));
    CHECK_OK(
        tkv_put_expiring(f.store, tkv_text("long"), tkv_text("w"), WALL_MS + 90, &err));
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("past"), tkv_text("v"), WALL_MS - 1, &err));
    check_absent(&f, "past");
    check_value(&f, "brief", "v");
    CHECK_EQ(stats_of(&f).keys, 2);
    f.disk->wall_ms = WALL_MS + 10;
    for (int i = 0; i < 4; i++) {
        check_absent(&f, "brief");
        check_value(&f, "long", "w");
        CHECK_EQ(count_iterated(f.store), 1);
        CHECK_EQ(stats_of(&f).keys, 1);
        CHECK_OK(tkv_multi_get(f.store, keys, 2, pins, statuses, &err));
        CHECK_EQ(statuses[0], TKV_NOT_FOUND);
        CHECK_EQ(statuses[1], TKV_OK);
        CHECK_EQ(pins[1].expires_at_ms, WALL_MS + 90);
        tkv_unpin(&pins[0]);
        tkv_unpin(&pins[1]);
        CHECK(!del(&f, "brief"));
        check_verifies(f.store);
        if (i % 2 == 0)
            CHECK_OK(tkv_compact(f.store, NULL, &err));
        else
            reopen(&f);
    }
    put(&f, "brief", "again");
    check_value(&f, "brief", "again");
    f.disk->wall_ms = WALL_MS + 90;
    reopen(&f);
    check_absent(&f, "long");
    check_value(&f, "brief", "again");
    end(&f);
}

TEST(an_expired_key_does_not_uncover_an_older_value)
{
    struct fixture f = begin();

    put(&f, "k", "old");
    for (unsigned i = 0; i < 40; i++)
        put_number(&f, i, 0, 3000); /* into another file */
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("k"), tkv_text("v"), WALL_MS + 10, &err));
    for (unsigned i = 0; i < 40; i++)
        put_number(&f, i, 1, 3000);
    f.disk->wall_ms = WALL_MS + 11;
    for (int i = 0; i < 4; i++) {
        check_absent(&f, "k");
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        check_absent(&f, "k");
        reopen(&f);
        check_absent(&f, "k");
        check_verifies(f.store);
    }
    end(&f);
}

/* ---- Iteration, pins, multi_get ---------------------------------------------------- */

TEST(iteration_meets_each_key_once_beside_writes_deletes_and_compaction)
{
    struct fixture f = begin();
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    uint8_t met[600] = {0};
    enum tkv_status status;
    unsigned step = 0;

    for (unsigned i = 0; i < 600; i++)
        put_number(&f, i, 0, 200);
    CHECK_OK(tkv_iterator_new(f.store, false, &iterator, &err));
    while ((status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK) {
        char key[16] = "";
        unsigned number = 0;

        CHECK(entry.key.size < sizeof key);
        memcpy(key, entry.key.data, entry.key.size);
        CHECK(sscanf(key, "key%u", &number) == 1);
        if (number < 600) {
            CHECK(met[number] == 0);
            met[number] = 1;
        }
        if (step % 3 == 0 && step < 900) {
            put_number(&f, step % 300, step, 300); /* the first half goes on changing */
            put_number(&f, 10000 + step, 0, 50);   /* new ones */
        }
        if (step % 7 == 0 && step / 7 < 100 && met[500 + step / 7] == 1)
            delete_number(&f, 500 + step / 7);
        if (step % 100 == 50)
            CHECK_OK(tkv_compact(f.store, NULL, &err));
        step++;
    }
    CHECK_EQ(status, TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    tkv_iterator_free(NULL);
    for (unsigned i = 0; i < 500; i++)
        CHECK_EQ(met[i], 1);
    check_verifies(f.store);
    end(&f);
}

TEST(keys_only_iteration_returns_no_values)
{
    struct fixture f = begin();
    struct tkv_iterator *iterator;
    struct tkv_entry entry;

    put(&f, "k", "value");
    CHECK_OK(tkv_iterator_new(f.store, true, &iterator, &err));
    CHECK_OK(tkv_iterator_next(iterator, &entry, &err));
    CHECK_EQ(entry.key.size, 1);
    CHECK_EQ(entry.value.size, 0);
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    end(&f);
}

static void check_pins_stay(enum tkv_read_mode read_mode)
{
    struct fixture f = begin();
    struct tkv_pin active, sealed;
    uint8_t wanted_active[500], wanted_sealed[500];

    f.options.read_mode = read_mode;
    reopen(&f);
    put_number(&f, 0, 7, sizeof wanted_sealed);
    for (unsigned i = 1; i < 60; i++)
        put_number(&f, i, 0, 2000);
    put_number(&f, 1000, 8, sizeof wanted_active);
    fill(wanted_sealed, sizeof wanted_sealed, 7);
    fill(wanted_active, sizeof wanted_active, UINT64_C(1000) << 32 | 8);
    CHECK_OK(tkv_get_pinned(f.store, tkv_text("key0"), &sealed, &err));
    CHECK_OK(tkv_get_pinned(f.store, tkv_text("key1000"), &active, &err));
    for (unsigned round = 0; round < 6; round++) {
        put_number(&f, 0, 100 + round, 600);
        put_number(&f, 1000, 100 + round, 600);
        for (unsigned i = 1; i < 60; i++)
            put_number(&f, i, 1 + round, 2000);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        CHECK(memcmp(sealed.value.data, wanted_sealed, sizeof wanted_sealed) == 0);
        CHECK(memcmp(active.value.data, wanted_active, sizeof wanted_active) == 0);
    }
    tkv_unpin(&sealed);
    tkv_unpin(&active);
    end(&f);
}

TEST(pins_stay_as_they_are_across_overwrites_rotation_and_compaction)
{
    check_pins_stay(TKV_READ_MMAP);
    check_pins_stay(TKV_READ_PREAD);
}

TEST(multi_get_is_get_for_each)
{
    struct fixture f = begin();
    struct tkv_slice keys[100];
    struct tkv_pin pins[100];
    enum tkv_status statuses[100];
    char texts[100][16];
    uint8_t wanted[150];

    for (unsigned i = 0; i < 100; i++) {
        snprintf(texts[i], sizeof texts[i], "key%u", i);
        keys[i] = tkv_text(texts[i]);
        if (i % 3 != 0)
            put_number(&f, i, 0, 100 + i % 50);
    }
    CHECK_OK(tkv_multi_get(f.store, keys, 0, pins, statuses, &err));
    CHECK_OK(tkv_multi_get(f.store, keys, 100, pins, statuses, &err));
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(statuses[i], i % 3 != 0 ? TKV_OK : TKV_NOT_FOUND);
        CHECK_EQ(pins[i].value.size, i % 3 != 0 ? 100 + i % 50 : 0);
        fill(wanted, pins[i].value.size, (uint64_t)i << 32);
        CHECK(pins[i].value.size == 0 ||
              memcmp(pins[i].value.data, wanted, pins[i].value.size) == 0);
        tkv_unpin(&pins[i]);
    }
    end(&f);
}
