/* SPDX-License-Identifier: MIT */
/*
 * What an opening replays from the log: how it is counted and numbered, the memory that it
 * needs, and how large the index is made. Headers and manifests of different times are in
 * test_recover_headers.c, the files that grow on in test_recover_growing.c.
 *
 * Method: a small store is killed or closed and opened again; allocations fail on demand.
 */
#include "killed_store.h"

TEST_MAIN

static int reserve_left = -1; /* keys that the index has memory for; -1: any number */

enum tkv_status __real_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_reserve(index, key, hash, expires, e);
}

enum tkv_status __real_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_add(index, key, hash, location, ret_added, e);
}

static uint64_t presized[16]; /* keys that the index was made large enough for */
static unsigned presize_count;

void __real_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys);
void __wrap_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys);

void __wrap_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys)
{
    if (presize_count < sizeof presized / sizeof presized[0])
        presized[presize_count++] = expected_keys;
    __real_tkv_index_presize(index, expected_keys);
}

static int new_files_left = -1; /* data files that memory is there for; -1: any number */

enum tkv_status __real_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e);
enum tkv_status __wrap_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e);

enum tkv_status __wrap_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e)
{
    if (new_files_left == 0)
        return tkv_fail_memory(e, 1, "a data file");
    if (new_files_left > 0)
        new_files_left--;
    return __real_tkv_datafile_new(os, uuid, number, seq_base, file_class, capacity,
                                   use_map, ret_file, e);
}

/* ---- What is replayed ------------------------------------------------------------- */

static uint64_t bytes_of_files(const struct fixture *f)
{
    uint64_t bytes = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        const struct tkv_datafile *file = tkv_files_at(f->store, slot);

        bytes += file != NULL ? atomic_load(&file->size) : 0;
    }
    return bytes;
}

/* Of three groups, after a file that was growing and after none. */
TEST(what_is_replayed_goes_into_one_file_and_is_counted_once)
{
    for (unsigned has_file = 0; has_file < 2; has_file++) {
        struct tkv_stats stats;
        struct fixture f;

        begin(&f);
        if (has_file) {
            put_bytes(&f, "a", 9, 100);
            CHECK_OK(tkv_checkpoint(f.store, &err));
        }
        put_bytes(&f, "a", 1, 100);
        put_bytes(&f, "b", 1, 100);
        put_bytes(&f, "b", 2, 100);
        kill_process(&f, SIMDISK_NOTHING_PENDING);
        CHECK_OK(try_open(&f));
        CHECK_EQ(f.report.groups_replayed, 3);
        CHECK_EQ(f.report.records_replayed, 3);
        CHECK_EQ(f.report.seq_last, 3 + has_file);
        CHECK_OK(tkv_stats(f.store, &stats, &err));
        CHECK_EQ(stats.seq_last, 3 + has_file);
        CHECK_EQ(stats.data_files, 1);
        CHECK_EQ(stats.disk_bytes, (1 + has_file) * TKV_BLOCK_SIZE);
        CHECK_EQ(stats.disk_bytes, bytes_of_files(&f));
        CHECK_EQ(stats.live_bytes, 2 * (TKV_RECORD_HEADER_SIZE + 1 + 100));
        CHECK_EQ(usage_of(&f).records, 3 + has_file);
        expect_both(&f);
        end(&f);
    }
}

/* The first of three groups that no sync covered did not reach the disk: the others count for
 * nothing, but somebody may have seen their numbers. */
TEST(sequence_numbers_of_groups_that_were_cut_are_not_used_again)
{
    struct tkv_stats stats;
    struct fixture f;
    uint64_t at, seq;
    uint8_t byte;
    size_t size;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    seq = atomic_load(&f.store->seq_last);
    put_bytes(&f, "lost", 2, 100);
    put_bytes(&f, "after", 2, 100);
    put_bytes(&f, "last", 2, 100);
    kill_process(&f, SIMDISK_KILLED);
    keep_file(&f, "wal.log", &first);
    at = find_record(&first, "lost", 0, &size);
    overwrite(&f, "wal.log", at + size - 1, "?", 1);
    CHECK_OK(try_open(&f));
    CHECK(f.report.bytes_cut > 0);
    CHECK_EQ(f.report.seq_last, seq);
    CHECK_EQ(get(&f, "last", &byte), TKV_NOT_FOUND);
    put_bytes(&f, "b", 2, 100);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.seq_last, seq + 4);
    open_again(&f);
    expect_both(&f);
    end(&f);
}

TEST(keys_that_have_expired_are_gone_right_after_opening)
{
    struct fixture f;
    uint64_t expiry;

    begin(&f);
    expiry = f.disk->wall_ms + 1000;
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("in a file"), tkv_text("v"), expiry, &err));
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(
        tkv_put_expiring(f.store, tkv_text("in the log"), tkv_text("v"), expiry, &err));
    put_bytes(&f, "b", 2, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    f.disk->wall_ms = expiry + 1;
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.report.keys, 2);
    CHECK_EQ(tkv_index_count(f.store->index), 2);
    expect_both(&f);
    end(&f);
}

TEST(a_log_that_is_larger_than_the_option_stays_and_works)
{
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 256 * 1024;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    f.options.wal_size_max = 64 * 1024;
    open_again(&f);
    CHECK(f.store->log_bytes > 64 * 1024);
    CHECK_EQ(f.store->wal.size_max, f.store->wal.ring.end);
    put_bytes(&f, "b", 2, 100);
    open_again(&f);
    expect_both(&f);
    end(&f);
}

/* ---- Memory for it ---------------------------------------------------------------- */

TEST(without_memory_for_what_the_log_has_a_store_does_not_open_and_loses_nothing)
{
    struct fixture f;

    begin_killed(&f);
    reserve_left = 0;
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = 1; /* one key of a data file, none of the log */
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

/* In the middle of the log: the active file has room for the group, but not for the padding that
 * a checkpoint may put before it. */
TEST(without_memory_for_another_data_file_replay_ends_and_loses_nothing)
{
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 1024 * 1024;
    open_again(&f);
    put_bytes(&f, "a", 1, 24000);
    put_bytes(&f, "b", 2, 24000);
    CHECK_OK(tkv_checkpoint(f.store, &err)); /* four blocks are left */
    put_bytes(&f, "c", 3, 13000);
    CHECK_EQ(f.store->active->number, 2);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    new_files_left = 0;
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    new_files_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    check_byte(&f, "c", 3);
    end(&f);
}

TEST(a_log_of_deletes_needs_no_memory_for_keys)
{
    struct fixture f;
    uint8_t byte;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    put_bytes(&f, "b", 2, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    del(&f, "a");
    del(&f, "b");
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    reserve_left = 2; /* for those of the data file */
    CHECK_OK(try_open(&f));
    reserve_left = -1;
    CHECK_EQ(f.report.records_replayed, 2);
    CHECK_EQ(get(&f, "a", &byte), TKV_NOT_FOUND);
    end(&f);
}

/* ---- The size of the index -------------------------------------------------------- */

TEST(a_store_opens_the_same_with_an_index_sized_in_advance)
{
    struct fixture f;

    begin_killed(&f);
    f.options.expected_keys = 1000;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

/* Five files of fifteen keys each, and a sixth one of a block. */
static void begin_with_six_files(struct fixture *f)
{
    char key[8];

    begin_closed(f);
    f->options.wal_size_max = 4u << 20; /* no checkpoint pads a file meanwhile */
    open_again(f);
    for (unsigned i = 0; i < 76; i++) {
        snprintf(key, sizeof key, "%02u", i);
        put_bytes(f, key, (uint8_t)i, 4000);
    }
    CHECK_EQ(f->store->active->number, 6);
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

static void check_presized(struct fixture *f, uint64_t option, double space_factor,
                           const uint64_t *wanted, unsigned count)
{
    f->options.expected_keys = option;
    f->options.space_factor = space_factor;
    presize_count = 0;
    open_again(f);
    CHECK_EQ(presize_count, count);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(presized[i], wanted[i]);
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

/* The first one has a fifth of all records, but only one of so many may be live; and no more
 * than four times what is there by now. */
TEST(an_index_is_made_as_large_as_all_files_need_by_what_the_first_ones_have)
{
    static const uint64_t by_files[] = {0, 38, 38, 38, 38, 38, 38},
                          at_most[] = {0, 60, 72, 72, 72, 72},
                          by_both[] = {38, 38, 38, 38, 38, 38}, by_option[] = {1000};
    struct fixture f;

    begin_with_six_files(&f);
    check_presized(&f, 0, 2, by_files, 7);
    check_presized(&f, 0, 1.05, at_most, 6);
    check_presized(&f, 38, 2, by_both, 6);
    check_presized(&f, 1000, 2, by_option, 1);
    end(&f);
}
