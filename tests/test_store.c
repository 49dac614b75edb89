/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises, promise by promise, on the simulated disk: time, space and failures
 * can be had there. Threads, processes and bulk are the subject of test_store_real.c, what a
 * crash leaves that of test_crash.c.
 */
#include "oracle.h"
#include "simdisk.h"
#include "store.h"
#include "store_checks.h"

#include <errno.h>

TEST_MAIN

/* ---- The fixture: one store on one simulated disk -------------------------------------------- */

struct fixture {
    struct simdisk *disk;
    struct tkv_options options;
    struct tkv_store *store;
};

static struct tkv_error err;

#define WALL_MS UINT64_C(1700000000000)

static struct fixture begin_closed(void)
{
    struct fixture f = {.disk = simdisk_new(7), .options = TKV_OPTIONS_DEFAULT};

    f.disk->wall_ms = WALL_MS;
    f.options.background = false;
    f.options.wal_size_max = 64 * 1024;
    f.options.data_file_size_min = 64 * 1024;
    f.options.data_file_size_max = 64 * 1024;
    f.options.compact_size_min = 128 * 1024;
    return f;
}

static void reopen(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
    CHECK_EQ(simdisk_open_count(f->disk), 0);
    CHECK_OK(tkv_open_on(&f->disk->os, "", &f->options, &f->store, NULL, &err));
}

static struct fixture begin(void)
{
    struct fixture f = begin_closed();

    reopen(&f);
    return f;
}

static void end(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    CHECK_EQ(simdisk_open_count(f->disk), 0);
    simdisk_free(f->disk);
}

/* What a power cut leaves of a store that may be in trouble; the old one is abandoned. */
static void cut_power(struct fixture *f)
{
    struct simdisk *after =
        simdisk_survivor(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);

    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = after;
    f->store = NULL;
    reopen(f);
}

static enum tkv_status try_put(const struct fixture *f, const char *key, const char *value)
{
    return tkv_put(f->store, tkv_text(key), tkv_text(value), &err);
}

static void put(const struct fixture *f, const char *key, const char *value)
{
    CHECK_OK(try_put(f, key, value));
}

static bool del(const struct fixture *f, const char *key)
{
    bool existed = false;

    CHECK_OK(tkv_delete(f->store, tkv_text(key), &existed, &err));
    return existed;
}

static void check_value(const struct fixture *f, const char *key, const char *value)
{
    void *copy;
    size_t size;

    CHECK_OK(tkv_get_copy(f->store, tkv_text(key), &copy, &size, &err));
    CHECK_EQ(size, strlen(value));
    CHECK_STR((char *)copy, value); /* a zero byte follows it */
    tkv_free(copy);
}

static void check_absent(const struct fixture *f, const char *key)
{
    struct tkv_pin pin = {.value = {0}};
    size_t size;
    char byte;

    CHECK_EQ(tkv_exists(f->store, tkv_text(key), &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_get(f->store, tkv_text(key), &byte, 1, &size, &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_get_pinned(f->store, tkv_text(key), &pin, &err), TKV_NOT_FOUND);
}

static struct tkv_stats stats_of(const struct fixture *f)
{
    struct tkv_stats stats;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats;
}

static void put_number(const struct fixture *f, unsigned number, unsigned version,
                       size_t size)
{
    uint8_t value[20000];
    char key[16];

    CHECK(size <= sizeof value);
    snprintf(key, sizeof key, "key%u", number);
    fill(value, size, (uint64_t)number << 32 | version);
    CHECK_OK(tkv_put(f->store, tkv_text(key), tkv_bytes(value, size), &err));
}

static void check_number(const struct fixture *f, unsigned number, unsigned version,
                         size_t size)
{
    uint8_t value[20000], wanted[20000];
    char key[16];
    size_t got;

    snprintf(key, sizeof key, "key%u", number);
    fill(wanted, size, (uint64_t)number << 32 | version);
    CHECK_OK(tkv_get(f->store, tkv_text(key), value, sizeof value, &got, &err));
    CHECK_EQ(got, size);
    CHECK(memcmp(value, wanted, size) == 0);
}

static void delete_number(const struct fixture *f, unsigned number)
{
    char key[16];

    snprintf(key, sizeof key, "key%u", number);
    CHECK(del(f, key));
}

/* ---- Single keys ------------------------------------------------------------------------------- */

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

/* ---- Batches -------------------------------------------------------------------------------------- */

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

/* ---- Expiry --------------------------------------------------------------------------------------- */

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

/* ---- Iteration, pins, multi_get ----------------------------------------------------------------------- */

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

/* ---- Seeing inside ------------------------------------------------------------------------------------------ */

TEST(stats_count_what_was_done)
{
    struct fixture f = begin();
    struct tkv_stats stats;
    struct tkv_file_stats files[64];
    uint64_t live = 0, size = 0, records = 0;
    size_t count;

    for (unsigned i = 0; i < 100; i++)
        put_number(&f, i % 50, i, 1000);
    for (unsigned i = 0; i < 10; i++)
        delete_number(&f, i);
    check_absent(&f, "nothing");
    stats = stats_of(&f);
    CHECK_EQ(stats.keys, 40);
    CHECK_EQ(stats.puts, 100);
    CHECK_EQ(stats.deletes, 10);
    CHECK_EQ(stats.seq_last, 110);
    CHECK_EQ(stats.groups, 110);
    CHECK_EQ(stats.group_records, 110);
    CHECK(stats.fsyncs >= 110);
    CHECK(stats.checkpoints > 0);
    CHECK_EQ(stats.poisoned, TKV_OK);
    CHECK_EQ(stats.live_bytes + stats.dead_bytes, stats.disk_bytes);
    CHECK(stats.live_bytes >= 40 * 1000 && stats.live_bytes < 40 * 1100);
    CHECK(stats.wal_bytes_written >= 110 * 4096);
    CHECK_OK(tkv_file_stats(f.store, files, 64, &count, &err));
    CHECK_EQ(count, stats.data_files);
    for (size_t i = 0; i < count; i++) {
        live += files[i].live_bytes;
        size += files[i].size;
        records += files[i].live_records;
    }
    CHECK_EQ(live, stats.live_bytes);
    CHECK_EQ(size, stats.disk_bytes);
    CHECK_EQ(records, stats.keys);
    reopen(&f);
    CHECK_EQ(stats_of(&f).live_bytes, stats.live_bytes);
    CHECK_EQ(stats_of(&f).keys, 40);
    CHECK_EQ(stats_of(&f).seq_last, 110);
    check_verifies(f.store);
    end(&f);
}

static void count_event(void *context, const struct tkv_event *event)
{
    unsigned *counts = context;

    CHECK(event->kind >= TKV_EVENT_OPENED && event->kind <= TKV_EVENT_POISONED);
    counts[event->kind]++;
}

TEST(events_tell_what_happens)
{
    struct fixture f = begin_closed();
    unsigned counts[TKV_EVENT_POISONED + 1] = {0};

    f.options.on_event = count_event;
    f.options.event_context = counts;
    reopen(&f);
    for (unsigned i = 0; i < 300; i++)
        put_number(&f, i % 20, i, 2000);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put(&f, "k", "v");
    cut_power(&f);
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_errno = EIO;
    CHECK_EQ(try_put(&f, "k", "w"), TKV_IO);
    CHECK_EQ(counts[TKV_EVENT_OPENED], 2);
    CHECK_EQ(counts[TKV_EVENT_RECOVERED], 1);
    CHECK(counts[TKV_EVENT_ROTATED] > 0);
    CHECK(counts[TKV_EVENT_CHECKPOINTED] > 0);
    CHECK(counts[TKV_EVENT_COMPACTION_PICKED] > 0);
    CHECK_EQ(counts[TKV_EVENT_COMPACTION_COPIED], counts[TKV_EVENT_COMPACTION_PICKED]);
    CHECK_EQ(counts[TKV_EVENT_COMPACTION_INSTALLED], counts[TKV_EVENT_COMPACTION_PICKED]);
    CHECK(counts[TKV_EVENT_FILE_REMOVED] > 0);
    CHECK_EQ(counts[TKV_EVENT_POISONED], 1);
    for (int kind = 0; kind <= TKV_EVENT_POISONED + 1; kind++)
        CHECK(tkv_event_text((enum tkv_event_kind)kind) != NULL);
    CHECK_EQ(tkv_close(f.store, &err), TKV_POISONED);
    simdisk_free(f.disk);
}

TEST(a_torn_tail_is_reported_and_kept)
{
    struct fixture f = begin();
    struct simdisk *after;
    struct tkv_open_report report;
    uint8_t value[3000];

    put(&f, "a", "1");
    fill(value, sizeof value, 3);
    f.disk->crash_kinds = SIMDISK_WRITE;
    f.disk->crash_at = f.disk->crash_count + 1;
    f.disk->crash_cut = 1500;
    CHECK_EQ(tkv_put(f.store, tkv_text("b"), tkv_bytes(value, sizeof value), &err), TKV_IO);
    after = simdisk_survivor(f.disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    (void)tkv_close(f.store, NULL);
    simdisk_free(f.disk);
    f.disk = after;
    CHECK_OK(tkv_open_on(&after->os, "", &f.options, &f.store, &report, &err));
    CHECK(!report.created && !report.clean);
    CHECK(report.bytes_cut >= 1500);
    CHECK(report.cut_reason[0] != 0);
    CHECK_EQ(report.keys, 1);
    CHECK_EQ(report.records_replayed, 1);
    check_value(&f, "a", "1");
    check_absent(&f, "b");
    end(&f);
}

/* ---- Options, read-only, locks, fork ------------------------------------------------------------------------ */

TEST(an_option_out_of_range_is_refused_by_name)
{
    struct fixture f = begin_closed();
    struct tkv_options good = f.options;
    struct tkv_options *o = &f.options;

#define CHECK_REFUSED(field, bad)                                                     \
    do {                                                                              \
        *o = good;                                                                    \
        o->field = bad;                                                               \
        err.message[0] = 0;                                                           \
        CHECK_EQ(tkv_open_on(&f.disk->os, "", o, &f.store, NULL, &err), TKV_INVALID); \
        CHECK(strstr(err.message, #field) != NULL);                                   \
    } while (0)
    CHECK_REFUSED(size, sizeof *o - 1);
    CHECK_REFUSED(durability, (enum tkv_durability)3);
    CHECK_REFUSED(interval_ms, 0);
    CHECK_REFUSED(interval_ms, 3600001);
    CHECK_REFUSED(read_mode, (enum tkv_read_mode)2);
    CHECK_REFUSED(compress_level, 10);
    CHECK_REFUSED(compress_size_min, TKV_VALUE_SIZE_MAX + 1);
    CHECK_REFUSED(data_file_size_min, 65535);
    CHECK_REFUSED(data_file_size_max, 65535);
    CHECK_REFUSED(data_file_size_max, UINT64_C(1) << 30);
    CHECK_REFUSED(compact_size_min, UINT64_C(1) << 63);
    CHECK_REFUSED(space_factor, 1.0);
    CHECK_REFUSED(space_factor, 10.5);
    CHECK_REFUSED(space_factor, 0.0 / 0.0 * 1.0);
    CHECK_REFUSED(idle_poll_us, 10001);
    CHECK_REFUSED(wal_size_max, 65535);
    CHECK_REFUSED(wal_size_max, (UINT64_C(16) << 30) + 1);
#undef CHECK_REFUSED
    CHECK_EQ(f.disk->calls, 0);
    simdisk_free(f.disk);
}

TEST(without_create_a_missing_store_is_not_found)
{
    struct fixture f = begin_closed();

    f.options.create = false;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err), TKV_NOT_FOUND);
    f.disk->root_is_missing = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err), TKV_NOT_FOUND);
    f.disk->root_is_missing = false;
    f.disk->is_remote = true;
    f.options.create = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err),
             TKV_UNSUPPORTED);
    f.options.allow_remote = true;
    reopen(&f);
    end(&f);
}

TEST(a_read_only_store_changes_nothing)
{
    struct fixture f = begin();
    struct simdisk *killed;
    struct tkv_batch *batch;
    uint64_t before;

    for (unsigned i = 0; i < 60; i++)
        put_number(&f, i, 0, 1500);
    delete_number(&f, 3);
    /* Not closed: there is a log to replay. */
    killed = simdisk_survivor(f.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    end(&f);
    f.disk = killed;
    f.store = NULL;
    f.options.read_only = true;
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("k"), tkv_text("v"), &err));
    for (int i = 0; i < 2; i++) {
        before = simdisk_hash(f.disk);
        f.disk->is_read_only = i == 1;
        CHECK_OK(tkv_open_on(&f.disk->os, "", &f.options, &f.store, NULL, &err));
        check_number(&f, 59, 0, 1500);
        check_absent(&f, "key3");
        CHECK_EQ(count_iterated(f.store), 59);
        CHECK_EQ(stats_of(&f).keys, 59);
        check_verifies(f.store);
        CHECK_EQ(try_put(&f, "k", "v"), TKV_READ_ONLY);
        CHECK_EQ(tkv_delete(f.store, tkv_text("key1"), NULL, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_write(f.store, batch, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_compact(f.store, NULL, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_READ_ONLY);
        CHECK_EQ(tkv_sync(f.store, &err), TKV_READ_ONLY);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        CHECK_EQ(simdisk_hash(f.disk), before);
    }
    tkv_batch_free(batch);
    simdisk_free(f.disk);
}

TEST(a_second_opener_is_told_busy_at_once)
{
    struct fixture f = begin();
    struct tkv_store *second;
    struct tkv_options reading = f.options;

    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &second, NULL, &err), TKV_BUSY);
    reading.read_only = true;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &reading, &second, NULL, &err), TKV_BUSY);
    CHECK_OK(tkv_close(f.store, &err));
    CHECK_OK(tkv_open_on(&f.disk->os, "", &reading, &f.store, NULL, &err));
    CHECK_OK(tkv_open_on(&f.disk->os, "", &reading, &second, NULL, &err)); /* two readers */
    CHECK_OK(tkv_close(second, &err));
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &second, NULL, &err), TKV_BUSY);
    end(&f);
}

/* ---- Space -------------------------------------------------------------------------------------------------- */

TEST(deleting_everything_shrinks_the_directory)
{
    struct fixture f = begin();
    struct tkv_stats stats;

    for (unsigned i = 0; i < 500; i++)
        put_number(&f, i, 0, 4000);
    CHECK(stats_of(&f).disk_bytes >= 500 * 4000);
    for (unsigned i = 0; i < 500; i++)
        delete_number(&f, i);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    stats = stats_of(&f);
    CHECK_EQ(stats.keys, 0);
    CHECK_EQ(stats.live_bytes, 0);
    CHECK(stats.disk_bytes <= 16384);
    CHECK(f.disk->used_bytes <= 160 * 1024); /* the log, and little else */
    reopen(&f);
    CHECK_EQ(count_iterated(f.store), 0);
    CHECK(stats_of(&f).disk_bytes <= 16384);
    end(&f);
}

TEST(overwriting_keeps_the_data_files_within_the_space_factor)
{
    struct fixture f = begin();
    uint64_t live, disk_max = 0;

    for (unsigned i = 0; i < 4000; i++) {
        put_number(&f, (unsigned)(mix(i) % 100), i, 2000);
        if (i > 1000 && stats_of(&f).disk_bytes > disk_max)
            disk_max = stats_of(&f).disk_bytes;
    }
    live = stats_of(&f).live_bytes;
    CHECK(disk_max <= (uint64_t)((double)live * f.options.space_factor) +
                          2 * f.options.data_file_size_max);
    check_verifies(f.store);
    end(&f);
}

TEST(tombstones_do_not_pile_up_beside_a_cold_file)
{
    struct fixture f = begin();
    uint64_t disk_max = 0;

    for (unsigned i = 0; i < 40; i++)
        put_number(&f, i, 0, 3000); /* cold, live for ever */
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 100; i++)
            put_number(&f, 1000 + i, round, 100);
        for (unsigned i = 0; i < 100; i++)
            delete_number(&f, 1000 + i);
        if (stats_of(&f).disk_bytes > disk_max)
            disk_max = stats_of(&f).disk_bytes;
    }
    CHECK(disk_max <= 2 * 40 * 3000 + 3 * f.options.data_file_size_max);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(stats_of(&f).disk_bytes <= 40 * 3100 + 2 * f.options.data_file_size_max);
    CHECK_EQ(stats_of(&f).keys, 40);
    reopen(&f);
    CHECK_EQ(count_iterated(f.store), 40);
    check_verifies(f.store);
    end(&f);
}

/* Bitcask issue 82: a delete is compacted away while an older value is still in another file,
 * and the value comes back at the next opening. */
TEST(deleted_keys_stay_deleted_across_compaction_and_reopening)
{
    for (unsigned variant = 0; variant < 16; variant++) {
        struct fixture f = begin();

        for (unsigned i = 0; i < 30; i++)
            put_number(&f, i, 0, 2500); /* the victims and their cold neighbours */
        for (unsigned i = 100; i < 100 + 20 * (variant % 4); i++)
            put_number(&f, i, 0, 2500);
        for (unsigned i = 0; i < 30; i += 2)
            put_number(&f, i, 1, 100);
        for (unsigned i = 0; i < 30; i += 3)
            delete_number(&f, i);
        for (unsigned i = 200; i < 200 + 20 * (variant / 4); i++)
            put_number(&f, i, 0, 2500);
        for (int round = 0; round < 4; round++) {
            for (unsigned i = 200; i < 220; i++)
                put_number(&f, i, 2 + (unsigned)round, 2500);
            CHECK_OK(tkv_compact(f.store, NULL, &err));
            if ((variant + (unsigned)round) % 2 == 0)
                reopen(&f);
            else
                cut_power(&f);
            for (unsigned i = 0; i < 30; i++) {
                char key[16];

                snprintf(key, sizeof key, "key%u", i);
                if (i % 3 == 0)
                    check_absent(&f, key);
                else
                    check_number(&f, i, i % 2 == 0, i % 2 == 0 ? 100 : 2500);
            }
            check_verifies(f.store);
        }
        end(&f);
    }
}

struct names {
    char names[64][64];
    size_t count;
};

static void keep_hint(void *context, const char *name)
{
    struct names *names = context;

    if (strstr(name, ".hint") != NULL && names->count < 64)
        snprintf(names->names[names->count++], 64, "%s", name);
}

TEST(hints_are_only_a_shortcut)
{
    for (int way = 0; way < 4; way++) {
        struct fixture f = begin();
        struct names hints = {.count = 0};
        struct tkv_open_report report;

        for (unsigned i = 0; i < 200; i++)
            put_number(&f, i, 0, 1500);
        for (unsigned i = 0; i < 200; i += 5)
            delete_number(&f, i);
        CHECK_OK(tkv_close(f.store, &err));
        simdisk_list(f.disk, keep_hint, &hints);
        CHECK(hints.count > 2);
        for (size_t i = 0; i < hints.count; i++) {
            const int64_t size = simdisk_file_size(f.disk, hints.names[i]);
            uint8_t byte = 0;

            CHECK(size > 0);
            if (way == 1)
                CHECK(simdisk_file_unlink(f.disk, hints.names[i]) >= 0);
            if (way == 2)
                CHECK(simdisk_file_truncate(f.disk, hints.names[i], (uint64_t)size / 2) >=
                      0);
            if (way != 3)
                continue;
            CHECK_EQ(
                simdisk_file_read(f.disk, hints.names[i], &byte, 1, (uint64_t)size / 2), 1);
            byte ^= 0x10;
            CHECK_EQ(
                simdisk_file_write(f.disk, hints.names[i], &byte, 1, (uint64_t)size / 2),
                1);
        }
        CHECK_OK(tkv_open_on(&f.disk->os, "", &f.options, &f.store, &report, &err));
        CHECK(report.clean);
        CHECK_EQ(way == 0 ? report.hints_rebuilt : report.hints_used, 0);
        for (unsigned i = 1; i < 200; i++) {
            if (i % 5 != 0)
                check_number(&f, i, 0, 1500);
        }
        check_absent(&f, "key5");
        CHECK_EQ(count_iterated(f.store), 160);
        check_verifies(f.store);
        end(&f);
    }
}

/* ---- A full disk ----------------------------------------------------------------------------------------------- */

/* Fill the disk; returns how many keys were accepted. */
static unsigned fill_disk(const struct fixture *f)
{
    uint8_t value[3000];
    char key[16];

    for (unsigned i = 0; i < 5000; i++) {
        enum tkv_status status;

        snprintf(key, sizeof key, "key%u", i);
        fill(value, sizeof value, (uint64_t)i << 32);
        status = tkv_put(f->store, tkv_text(key), tkv_bytes(value, sizeof value), &err);
        if (status == TKV_OK)
            continue;
        CHECK_EQ(status, TKV_NO_SPACE);
        CHECK(err.message[0] != 0);
        return i;
    }
    test_fail(__FILE__, __LINE__, "the disk never fills");
    return 0;
}

static void check_full_disk(enum tkv_durability durability, bool raise_capacity)
{
    struct fixture f = begin_closed();
    unsigned count;
    int tries = 0;

    f.options.durability = durability;
    f.disk->capacity = 4 * 1024 * 1024;
    reopen(&f);
    count = fill_disk(&f);
    CHECK(count > 200);
    CHECK(stats_of(&f).disk_full);
    CHECK_EQ(stats_of(&f).poisoned, TKV_OK);
    for (unsigned i = 0; i < count; i++)
        check_number(&f, i, 0, 3000);
    CHECK_EQ(try_put(&f, "more", "v"), TKV_NO_SPACE);
    if (raise_capacity)
        f.disk->capacity *= 2;
    for (unsigned i = 0; i < count && !raise_capacity; i += 2)
        delete_number(&f, i);
    while (try_put(&f, "more", "v") != TKV_OK && tries < 20)
        tries++;
    CHECK(tries < 20);
    check_value(&f, "more", "v");
    CHECK(!stats_of(&f).disk_full);
    for (unsigned i = 0; i < 50; i++)
        put_number(&f, 9000 + i, 0, 3000);
    reopen(&f);
    for (unsigned i = raise_capacity ? 0 : 1; i < count; i += raise_capacity ? 1 : 2)
        check_number(&f, i, 0, 3000);
    CHECK_EQ(stats_of(&f).keys, 1 + 50 + (raise_capacity ? count : count / 2));
    check_verifies(f.store);
    end(&f);
}

TEST(a_full_disk_heals_after_deletes)
{
    check_full_disk(TKV_DURABILITY_ALWAYS, false);
    check_full_disk(TKV_DURABILITY_NONE, false);
}

TEST(a_full_disk_heals_when_there_is_more_room)
{
    check_full_disk(TKV_DURABILITY_ALWAYS, true);
    check_full_disk(TKV_DURABILITY_NONE, true);
}

TEST(a_store_on_a_full_disk_opens_again)
{
    struct fixture f = begin_closed();
    unsigned count;

    f.disk->capacity = 4 * 1024 * 1024;
    reopen(&f);
    count = fill_disk(&f);
    (void)tkv_close(f.store, &err); /* there may be no room for the last checkpoint */
    f.store = NULL;
    reopen(&f);
    for (unsigned i = 0; i < count; i++)
        check_number(&f, i, 0, 3000);
    for (unsigned i = 0; i < count; i++)
        delete_number(&f, i);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put(&f, "k", "v");
    CHECK_EQ(stats_of(&f).keys, 1);
    end(&f);
}

/* Room for a data file, or an eighth of the disk, beside what is in memory. */
static void check_reserve(const struct fixture *f)
{
    struct tkv_os_fs_info info;
    uint64_t reserve = tkv_files_capacity(f->store);

    CHECK_EQ(f->disk->os.fs_info(&f->disk->os, f->store->dir, &info), 0);
    if (reserve > info.total_bytes / 8)
        reserve = info.total_bytes / 8;
    CHECK(info.free_bytes >= tkv_space_unflushed(f->store) + reserve);
}

/* Whatever the disk's size: what filled it can be recovered on it, and deletes go on. */
static void check_full_disk_after_kill(enum tkv_durability durability, uint64_t capacity)
{
    struct fixture f = begin_closed();
    struct simdisk *killed;
    unsigned count;

    f.options.durability = durability;
    f.options.wal_size_max = 64 * 1024 * 1024;
    f.options.data_file_size_max = 4 * 1024 * 1024;
    f.disk->capacity = capacity;
    reopen(&f);
    count = fill_disk(&f);
    check_reserve(&f);
    killed = simdisk_clone(f.disk);
    (void)tkv_close(f.store, NULL);
    simdisk_free(f.disk);
    f.disk = killed;
    f.store = NULL;
    reopen(&f);
    for (unsigned i = 0; i < count; i++)
        check_number(&f, i, 0, 3000);
    for (unsigned i = 0; i < count; i++)
        delete_number(&f, i);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    put(&f, "k", "v");
    CHECK_EQ(stats_of(&f).keys, 1);
    end(&f);
}

TEST(a_growing_log_leaves_the_reserve_of_a_full_disk_alone)
{
    for (uint64_t capacity = 2u << 20; capacity < 4u << 20; capacity += 64 * 1024) {
        check_full_disk_after_kill(TKV_DURABILITY_ALWAYS, capacity);
        check_full_disk_after_kill(TKV_DURABILITY_NONE, capacity);
    }
}

/* ---- Failed calls ------------------------------------------------------------------------------------------------ */

/* Fail one call in the life of a store, of the given kinds; then nothing acknowledged is lost,
 * reads go on, and a poisoned store says so. Returns false when there was no such call. */
static bool survive_failure(enum tkv_durability durability, unsigned kinds, uint64_t at,
                            enum simdisk_failed_sync flavour)
{
    struct fixture f = begin_closed();
    struct oracle *oracle = oracle_new(durability, 0);
    struct oracle_report why;
    struct oracle_found found;
    size_t prefix, acked;
    bool failed;

    f.options.durability = durability;
    f.options.compact_size_min = 64 * 1024;
    reopen(&f);
    f.disk->failed_sync = flavour;
    f.disk->fail_kinds = kinds;
    f.disk->fail_count = 0;
    f.disk->fail_at = at;
    f.disk->fail_errno = EIO;
    for (unsigned i = 0; i < 120; i++) {
        enum tkv_status status =
            i % 5 == 4 ? oracle_delete(oracle, f.store, (unsigned)(mix(i) % ORACLE_KEYS),
                                       &f.disk->monotonic_us, &err)
                       : oracle_put(oracle, f.store, (unsigned)(mix(i) % ORACLE_KEYS),
                                    (uint32_t)(mix(i + 1000) % 3000), 0, ORACLE_NEVER,
                                    &f.disk->monotonic_us, &err);

        CHECK(status == TKV_OK || status == TKV_IO || status == TKV_POISONED);
        if (i % 40 == 39)
            (void)oracle_checkpoint(oracle, f.store, &err);
        if (i % 50 == 25)
            (void)oracle_sync(oracle, f.store, &err);
        if (i == 90)
            CHECK(tkv_compact(f.store, NULL, &err) <= TKV_UNSUPPORTED); /* anything */
    }
    failed = f.disk->faults > 0;
    f.disk->fail_at = 0; /* what follows looks at what is left */
    acked = oracle->acked;
    if (!oracle_read(f.store, &found, &why) ||
        !oracle_match(oracle, &found, acked, oracle->issued, f.disk->wall_ms, &prefix,
                      &why)) {
        fprintf(stderr, "  kinds %x, call %u: %s\n", kinds, (unsigned)at, why.text);
        test_fail(__FILE__, __LINE__, "reads go on");
    }
    if (stats_of(&f).poisoned != TKV_OK) {
        CHECK_EQ(try_put(&f, "more", "v"), TKV_POISONED);
        CHECK_EQ(tkv_sync(f.store, &err), TKV_POISONED);
        CHECK_EQ(tkv_checkpoint(f.store, &err), TKV_POISONED);
        (void)tkv_close(f.store, &err);
    } else if (tkv_close(f.store, &err) != TKV_OK) {
        CHECK(f.disk->faults > 0 && !failed); /* it was in the last checkpoint */
        failed = true;
    }
    f.store = NULL;
    f.disk->fail_at = 0;
    reopen(&f);
    if (!oracle_read(f.store, &found, &why) ||
        !oracle_match(oracle, &found,
                      flavour == SIMDISK_FAILED_SYNC_KEEPS ? acked : oracle->durable,
                      oracle->issued, f.disk->wall_ms, &prefix, &why)) {
        fprintf(stderr, "  kinds %x, call %u: %s\n", kinds, (unsigned)at, why.text);
        test_fail(__FILE__, __LINE__, "reopening has what was acknowledged");
    }
    cut_power(&f);
    if (!oracle_read(f.store, &found, &why) ||
        !oracle_match(oracle, &found, prefix, prefix, f.disk->wall_ms, &prefix, &why)) {
        fprintf(stderr, "  kinds %x, call %u: %s\n", kinds, (unsigned)at, why.text);
        test_fail(__FILE__, __LINE__, "and keeps it");
    }
    oracle_free(oracle);
    end(&f);
    return failed;
}

static void sweep_failures(unsigned kinds)
{
    for (int mode = TKV_DURABILITY_ALWAYS; mode <= TKV_DURABILITY_NONE; mode += 2) {
        for (int flavour = 0; flavour < 3; flavour++) {
            uint64_t at = 1;

            while (survive_failure((enum tkv_durability)mode, kinds, at,
                                   (enum simdisk_failed_sync)flavour))
                at++;
            CHECK(at > 3);
        }
    }
}

TEST(any_failed_sync_loses_nothing_acknowledged)
{
    sweep_failures(SIMDISK_SYNC);
}

TEST(any_failed_directory_sync_loses_nothing_acknowledged)
{
    sweep_failures(SIMDISK_SYNC_DIR);
}

TEST(any_failed_write_loses_nothing_acknowledged)
{
    sweep_failures(SIMDISK_WRITE);
}

TEST(any_failed_rename_or_open_loses_nothing_acknowledged)
{
    sweep_failures(SIMDISK_RENAME);
    sweep_failures(SIMDISK_OPEN);
}

TEST(a_failed_log_write_poisons_and_reads_go_on)
{
    struct fixture f = begin();

    put(&f, "a", "1");
    f.disk->fail_kinds = SIMDISK_WRITE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_errno = EIO;
    CHECK_EQ(try_put(&f, "b", "2"), TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(try_put(&f, "c", "3"), TKV_POISONED);
    CHECK_EQ(tkv_delete(f.store, tkv_text("a"), NULL, &err), TKV_POISONED);
    check_value(&f, "a", "1");
    check_absent(&f, "c");
    CHECK(stats_of(&f).poisoned != TKV_OK);
    CHECK_EQ(tkv_close(f.store, &err), TKV_POISONED);
    f.store = NULL;
    reopen(&f);
    check_value(&f, "a", "1");
    put(&f, "c", "3");
    end(&f);
}
