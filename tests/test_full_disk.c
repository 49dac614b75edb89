/* SPDX-License-Identifier: MIT */
/*
 * Deletes on a full disk: they make room, and never take the last of what making room needs.
 *
 * Method: a disk is filled with records, of which then some, or all, are deleted. Small records
 * are the hard case: a delete takes as much room as what it makes garbage, and a hint as much as
 * the records it is of. Wherever that stops, the store must close, open, compact, and in the end
 * lose all its keys and take puts again; and so must what a killed process leaves.
 */
#include "sim_store.h"

TEST_MAIN

#define KEYS_MAX 400000u

struct filled {
    struct fixture f;
    size_t value_size;
    unsigned count;
    bool is_there[KEYS_MAX];
};

static struct tkv_slice key_of(unsigned i, char out[16])
{
    snprintf(out, 16, "%08u", i);
    return tkv_text(out);
}

static void begin_filled(struct filled *s, enum tkv_durability durability,
                         uint64_t file_size, size_t value_size)
{
    memset(s, 0, sizeof *s);
    s->f = begin_closed();
    s->f.options.durability = durability;
    s->f.options.data_file_size_min = s->f.options.data_file_size_max = file_size;
    s->f.disk->capacity = 3 * 1024 * 1024;
    s->value_size = value_size;
}

static void fill_rest(struct filled *s)
{
    static const uint8_t value[1024];
    enum tkv_status status = TKV_OK;
    char key[16];

    CHECK(s->value_size <= sizeof value);
    while (status == TKV_OK) {
        CHECK(s->count < KEYS_MAX);
        status = tkv_put(s->f.store, key_of(s->count, key), tkv_bytes(value, s->value_size),
                         &err);
        s->is_there[s->count] = status == TKV_OK;
        s->count += status == TKV_OK;
    }
    CHECK_EQ(status, TKV_NO_SPACE);
}

static void fill_disk(struct filled *s)
{
    reopen(&s->f);
    fill_rest(s);
}

/* Returns how many were refused; gives up when it is clear that more will be. */
static unsigned delete_each(struct filled *s, unsigned step)
{
    unsigned refused = 0;
    char key[16];

    for (unsigned i = 0; i < s->count && refused < 100; i += step) {
        const enum tkv_status status = tkv_delete(s->f.store, key_of(i, key), NULL, &err);

        CHECK(status == TKV_OK || status == TKV_NO_SPACE);
        if (status == TKV_OK)
            s->is_there[i] = false;
        else
            refused++;
    }
    return refused;
}

static void check_model(const struct filled *s)
{
    char key[16];

    for (unsigned i = 0; i < s->count; i++)
        CHECK_EQ(tkv_exists(s->f.store, key_of(i, key), &err) == TKV_OK, s->is_there[i]);
}

static void check_can_be_emptied(struct filled *s)
{
    unsigned rounds = 0;

    reopen(&s->f);
    check_model(s);
    do {
        CHECK_OK(tkv_compact(s->f.store, NULL, &err));
        CHECK(rounds++ < 50);
    } while (delete_each(s, 1) > 0);
    CHECK_OK(tkv_compact(s->f.store, NULL, &err));
    put(&s->f, "k", "v");
    CHECK_EQ(stats_of(&s->f).keys, 1);
    check_verifies(s->f.store);
}

/* Closed as it should be, and killed. */
static void check_both_can_be_emptied(struct filled *s)
{
    static bool is_there[KEYS_MAX];
    struct simdisk *killed = simdisk_clone(s->f.disk);

    memcpy(is_there, s->is_there, sizeof is_there);
    check_can_be_emptied(s);
    end(&s->f);
    s->f.disk = killed;
    s->f.store = NULL;
    memcpy(s->is_there, is_there, sizeof is_there);
    check_can_be_emptied(s);
    end(&s->f);
}

static void check_deletes(enum tkv_durability durability, uint64_t file_size,
                          size_t value_size, unsigned step)
{
    static struct filled s;

    begin_filled(&s, durability, file_size, value_size);
    fill_disk(&s);
    CHECK_EQ(delete_each(&s, step), 0);
    check_both_can_be_emptied(&s);
}

TEST(deletes_of_small_records_find_room_on_a_full_disk)
{
    static const unsigned steps[] = {2, 30};

    for (unsigned i = 0; i < 2; i++) {
        check_deletes(TKV_DURABILITY_ALWAYS, 512 * 1024, 0, steps[i]);
        check_deletes(TKV_DURABILITY_NONE, 512 * 1024, 0, steps[i]);
    }
}

TEST(deletes_find_room_on_a_full_disk_with_many_files)
{
    static const unsigned steps[] = {2, 30};

    for (unsigned i = 0; i < 2; i++) {
        check_deletes(TKV_DURABILITY_ALWAYS, 64 * 1024, 300, steps[i]);
        check_deletes(TKV_DURABILITY_NONE, 64 * 1024, 300, steps[i]);
        check_deletes(TKV_DURABILITY_NONE, 64 * 1024, 0, steps[i]);
    }
}

static uint64_t hint_bytes(const struct fixture *f)
{
    struct tkv_os *os = &f->disk->os;
    struct tkv_datafile *file;
    uint64_t total = 0;
    uint32_t slot = 0;

    while ((file = tkv_files_next(f->store, &slot)) != NULL) {
        char name[TKV_FILE_NAME_SIZE];
        uint64_t size;
        int fd;

        tkv_hint_name(file->number, name);
        fd = os->open(os, f->store->dir, name, TKV_OS_READ);
        if (fd < 0)
            continue;
        CHECK_EQ(os->file_size(os, fd, &size), 0);
        CHECK_EQ(os->close(os, fd), 0);
        total += size;
    }
    return total;
}

/* Somebody else takes all but `bytes` of what is left, without hints as well. */
static void leave_only(struct filled *s, uint64_t bytes)
{
    s->f.disk->capacity = s->f.disk->used_bytes - hint_bytes(&s->f) + bytes;
    CHECK_EQ(try_put(&s->f, "k", "v"), TKV_NO_SPACE);
}

/* Nothing makes room by itself then, so deletes come to an end before the room does. */
static void check_without_compactions(enum tkv_durability durability)
{
    static struct filled s;

    begin_filled(&s, durability, 64 * 1024, 0);
    s.f.options.auto_compact = false;
    fill_disk(&s);
    leave_only(&s, 300 * 1024);
    CHECK(delete_each(&s, 2) > 0);
    CHECK(strstr(err.message, "compact") != NULL);
    check_both_can_be_emptied(&s);
}

TEST(without_automatic_compactions_deletes_leave_room_for_one_by_hand)
{
    check_without_compactions(TKV_DURABILITY_ALWAYS);
    check_without_compactions(TKV_DURABILITY_NONE);
}

TEST(a_batch_of_deletes_leaves_room_for_a_compaction_too)
{
    static struct filled s;
    enum tkv_status status = TKV_OK;
    struct tkv_batch *batch;
    char key[16];

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    s.f.options.auto_compact = false;
    fill_disk(&s);
    leave_only(&s, 300 * 1024);
    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = 0; i + 100 < s.count && status == TKV_OK; i += 100) {
        tkv_batch_clear(batch);
        for (unsigned j = i; j < i + 100; j++)
            CHECK_OK(tkv_batch_delete(batch, key_of(j, key), &err));
        status = tkv_write(s.f.store, batch, &err);
        if (status == TKV_OK)
            memset(s.is_there + i, 0, 100 * sizeof *s.is_there);
    }
    CHECK_EQ(status, TKV_NO_SPACE);
    tkv_batch_free(batch);
    check_both_can_be_emptied(&s);
}

TEST(hints_are_given_up_where_a_compaction_gains_nothing_and_come_back_with_room)
{
    static struct filled s;
    uint64_t before;

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    fill_disk(&s);
    before = hint_bytes(&s.f);
    CHECK(before > s.f.disk->capacity / 4);
    leave_only(&s, hint_bytes(&s.f));
    CHECK(del(&s.f, "00000000"));
    s.is_there[0] = false;
    CHECK(hint_bytes(&s.f) < before / 4);
    s.f.disk->capacity *= 2;
    reopen(&s.f);
    reopen(&s.f);
    CHECK(hint_bytes(&s.f) > before / 2);
    check_model(&s);
    end(&s.f);
}

TEST(a_delete_of_what_is_not_there_is_not_refused_and_costs_no_hint)
{
    static struct filled s;
    uint64_t before;

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    s.f.options.auto_compact = false;
    fill_disk(&s);
    before = hint_bytes(&s.f);
    leave_only(&s, hint_bytes(&s.f));
    CHECK_OK(tkv_delete(s.f.store, tkv_text("absent"), NULL, &err));
    CHECK_EQ(hint_bytes(&s.f), before);
    end(&s.f);
}

TEST(a_compaction_takes_the_files_that_it_has_room_for)
{
    struct fixture f = begin_closed();
    uint64_t reclaimed = 0;

    f.options.auto_compact = false;
    f.options.data_file_size_min = f.options.data_file_size_max = 1024 * 1024;
    reopen(&f);
    for (unsigned i = 0; i < 300; i++)
        put_number(&f, i, 0, 3000);
    f.options.data_file_size_min = f.options.data_file_size_max = 64 * 1024;
    reopen(&f);
    for (unsigned i = 300; i < 500; i++)
        put_number(&f, i, 0, 3000);
    for (unsigned i = 0; i < 500; i += 2)
        delete_number(&f, i);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    f.disk->capacity = f.disk->used_bytes + 200 * 1024;
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK(reclaimed > 200 * 1024);
    for (unsigned i = 1; i < 500; i += 2)
        check_number(&f, i, 0, 3000);
    end(&f);
}

TEST(no_hint_is_written_from_the_reserve)
{
    struct fixture f = begin_closed();

    f.options.durability = TKV_DURABILITY_NONE;
    f.options.wal_size_max = 1024 * 1024;
    reopen(&f);
    for (unsigned i = 0; i < 100; i++) /* several files, of which none is durable */
        put_number(&f, i, 0, 3000);
    f.disk->capacity = f.disk->used_bytes + stats_of(&f).disk_bytes + 100 * 1024;
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_EQ(hint_bytes(&f), 0);
    while (hint_bytes(&f) == 0) { /* an opening writes them as well */
        CHECK(f.disk->capacity < 8 * 1024 * 1024);
        f.disk->capacity += 16 * 1024;
        reopen(&f);
    }
    CHECK(f.disk->capacity - f.disk->used_bytes >=
          TKV_FLUSH_SIZE + 2 * tkv_files_capacity(f.store));
    end(&f);
}

/* A checkpoint does. */
TEST(deletes_do_not_fill_up_blocks_on_a_full_disk)
{
    static struct filled s;
    uint64_t used;
    char key[16];

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    s.f.options.auto_compact = false;
    fill_disk(&s);
    CHECK_OK(tkv_checkpoint(s.f.store, &err));
    used = s.f.disk->used_bytes;
    for (unsigned i = 0; i < 100; i++)
        CHECK(del(&s.f, key_of(i, key).data));
    CHECK(stats_of(&s.f).disk_full);
    CHECK(s.f.disk->used_bytes <= used + 8 * TKV_BLOCK_SIZE);
    end(&s.f);
}

/* ---- Space that is promised --------------------------------------------------------- */

static void fill_with_large(struct filled *s)
{
    static const uint8_t value[40000];
    enum tkv_status status;
    char key[16];

    reopen(&s->f);
    while ((status = tkv_put(s->f.store, key_of(s->count, key),
                             tkv_bytes(value, sizeof value), &err)) == TKV_OK)
        s->is_there[s->count++] = true;
    CHECK_EQ(status, TKV_NO_SPACE);
}

static uint64_t free_bytes(const struct filled *s)
{
    return s->f.disk->capacity - s->f.disk->used_bytes;
}

/* They do not pass through a memory tail. */
TEST(large_values_leave_the_reserve_alone)
{
    static struct filled s;

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    fill_with_large(&s);
    CHECK(free_bytes(&s) >= 2 * tkv_files_capacity(s.f.store));
    CHECK_EQ(atomic_load(&s.f.store->promised_bytes), 0);
    reopen(&s.f);
    CHECK_EQ(delete_each(&s, 1), 0);
    CHECK_OK(tkv_compact(s.f.store, NULL, &err));
    put(&s.f, "k", "v");
    end(&s.f);
}

/* Its file goes without a compaction. */
TEST(a_large_value_can_be_deleted_where_a_compaction_has_no_room)
{
    static struct filled s;

    begin_filled(&s, TKV_DURABILITY_ALWAYS, 64 * 1024, 0);
    fill_with_large(&s);
    leave_only(&s, 90 * 1024);
    CHECK_EQ(delete_each(&s, 1), 0);
    CHECK_OK(tkv_compact(s.f.store, NULL, &err));
    put(&s.f, "k", "v");
    end(&s.f);
}

TEST(what_is_promised_to_one_write_is_not_promised_to_another)
{
    struct fixture f = begin();
    uint64_t left;

    f.disk->capacity = f.disk->used_bytes + 2 * 1024 * 1024;
    CHECK_OK(tkv_checkpoint(f.store, &err));
    left = atomic_load(&f.store->put_space_left);
    CHECK_OK(tkv_promise_puts(f.store, left - 5000, &err));
    CHECK_EQ(tkv_promise_puts(f.store, 5000, &err), TKV_NO_SPACE);
    CHECK_EQ(tkv_space_permits(f.store, 5000), false);
    tkv_promise_settle(f.store, left - 5000, false);
    CHECK_OK(tkv_promise_puts(f.store, 5000, &err));
    tkv_promise_settle(f.store, 5000, false);
    left = atomic_load(&f.store->delete_space_left);
    CHECK_OK(tkv_promise_deletes(f.store, left - 5000, &err));
    CHECK_EQ(tkv_promise_deletes(f.store, 5000, &err), TKV_NO_SPACE);
    tkv_promise_settle(f.store, left - 5000, false);
    CHECK_EQ(atomic_load(&f.store->promised_bytes), 0);
    put(&f, "k", "v");
    end(&f);
}

/* A batch lies in one file, however long. */
TEST(the_reserve_suffices_for_the_longest_file)
{
    enum { BATCH = 20000 };
    static struct filled s;
    enum tkv_status status = TKV_OK;
    struct tkv_batch *batch;
    char key[16];

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    s.f.options.wal_size_max = 4 * 1024 * 1024;
    s.f.disk->capacity = 12 * 1024 * 1024;
    reopen(&s.f);
    CHECK_OK(tkv_batch_new(&batch, &err));
    while (status == TKV_OK) {
        tkv_batch_clear(batch);
        for (unsigned i = 0; i < BATCH; i++)
            CHECK_OK(
                tkv_batch_put(batch, key_of(s.count + i, key), tkv_bytes(NULL, 0), &err));
        status = tkv_write(s.f.store, batch, &err);
        if (status == TKV_OK) {
            CHECK(s.count + BATCH <= KEYS_MAX);
            memset(s.is_there + s.count, 1, BATCH);
            s.count += BATCH;
        }
    }
    CHECK_EQ(status, TKV_NO_SPACE);
    CHECK(free_bytes(&s) >= 2 * tkv_batch_bytes(batch));
    tkv_batch_free(batch);
    CHECK_EQ(delete_each(&s, 3), 0);
    check_both_can_be_emptied(&s);
}

TEST(expired_keys_make_room_on_a_full_disk)
{
    struct fixture f = begin_closed();
    static const uint8_t value[1000];
    enum tkv_status status = TKV_OK;
    char key[16];

    f.disk->capacity = 3 * 1024 * 1024;
    reopen(&f);
    for (unsigned i = 0; status == TKV_OK; i++)
        status = tkv_put_expiring(f.store, key_of(i, key), tkv_bytes(value, sizeof value),
                                  WALL_MS + 1000, &err);
    CHECK_EQ(status, TKV_NO_SPACE);
    f.disk->wall_ms += 2000;
    for (unsigned tries = 0; try_put(&f, "k", "v") != TKV_OK; tries++)
        CHECK(tries < 20);
    end(&f);
}

TEST(no_data_file_is_longer_than_a_sixteenth_of_the_disk)
{
    struct fixture f = begin_closed();

    f.options.data_file_size_min = f.options.data_file_size_max = 5u << 20;
    f.disk->capacity = 8 * 1024 * 1024;
    reopen(&f);
    CHECK_EQ(tkv_files_capacity(f.store), 512 * 1024);
    f.disk->capacity = 128 * 1024 * 1024;
    reopen(&f);
    CHECK_EQ(tkv_files_capacity(f.store), 5u << 20);
    end(&f);
}

/* ---- The last bytes ------------------------------------------------------------------ */

/* Others leave so much beside what a compaction needs, and the hints. */
static void leave_for_deletes(struct filled *s, uint64_t bytes)
{
    tkv_upkeep_flush(s->f.store);
    s->f.disk->capacity -= atomic_load(&s->f.store->delete_space_left) - bytes;
    tkv_upkeep_flush(s->f.store);
    CHECK_EQ(atomic_load(&s->f.store->delete_space_left), bytes);
}

TEST(hints_are_given_up_for_a_delete_that_is_longer_than_what_is_left)
{
    static struct filled s;

    for (uint64_t left = 1; left < 100; left += 9) {
        begin_filled(&s, TKV_DURABILITY_ALWAYS, 64 * 1024, 0);
        fill_disk(&s);
        leave_for_deletes(&s, left);
        CHECK_EQ(delete_each(&s, 50), 0);
        end(&s.f);
    }
}

TEST(hints_are_given_up_for_a_batch_of_deletes_that_is_longer_than_what_is_left)
{
    static struct filled s;
    struct tkv_batch *batch;
    char key[16];

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, 0);
    fill_disk(&s);
    leave_for_deletes(&s, 3000);
    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = 0; i < 300; i++)
        CHECK_OK(tkv_batch_delete(batch, key_of(i * 7, key), &err));
    CHECK_OK(tkv_write(s.f.store, batch, &err));
    tkv_batch_free(batch);
    end(&s.f);
}

static struct tkv_batch *batch_of(unsigned count, unsigned from, size_t value_size)
{
    static const uint8_t value[60000];
    struct tkv_batch *batch;
    char key[16];

    CHECK_OK(tkv_batch_new(&batch, &err));
    for (unsigned i = from; i < from + count; i++)
        CHECK_OK(tkv_batch_put(batch, key_of(i, key), tkv_bytes(value, value_size), &err));
    return batch;
}

/* The one that its space was given up for may be the last that changes the directory. */
TEST(the_room_of_a_long_file_that_was_compacted_comes_back)
{
    enum { BATCH = 10000, VALUE_SIZE = 300 };
    static struct filled s;
    struct tkv_batch *batch = batch_of(BATCH, 0, VALUE_SIZE);

    begin_filled(&s, TKV_DURABILITY_NONE, 64 * 1024, VALUE_SIZE);
    s.f.options.wal_size_max = 16 * 1024 * 1024;
    s.f.disk->capacity = 24 * 1024 * 1024;
    reopen(&s.f);
    CHECK_OK(tkv_write(s.f.store, batch, &err));
    tkv_batch_free(batch);
    memset(s.is_there, 1, BATCH);
    s.count = BATCH;
    fill_rest(&s);
    CHECK_EQ(delete_each(&s, 4), 0);
    CHECK_OK(tkv_compact(s.f.store, NULL, &err));
    put(&s.f, "k", "v");
    end(&s.f);
}

TEST(a_batch_that_is_refused_takes_no_room_from_others)
{
    struct fixture f = begin_closed();
    struct tkv_batch *batch = batch_of(900, 0, 60000);
    uint64_t left;

    f.options.wal_size_max = 256u << 20;
    f.disk->capacity = 48u << 20;
    reopen(&f);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    left = atomic_load(&f.store->put_space_left);
    CHECK_EQ(tkv_write(f.store, batch, &err), TKV_NO_SPACE);
    tkv_batch_free(batch);
    CHECK_EQ(atomic_load(&f.store->put_space_left), left);
    CHECK_EQ(atomic_load(&f.store->promised_bytes), 0);
    put(&f, "k", "v");
    end(&f);
}
