/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises of space: deletes and overwrites give it back, nothing deleted comes
 * back with it, and a full disk refuses puts, goes on reading and deleting, and heals.
 */
#include "sim_store.h"

TEST_MAIN

/* ---- Space ------------------------------------------------------------------------- */

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

/* Each delete has an older record to hide, in files of which each has live records. */
TEST(after_deletes_the_data_files_come_to_rest_within_the_space_factor)
{
    enum { KEYS = 20000 };
    struct fixture f = begin();
    struct tkv_stats stats;

    for (unsigned i = 0; i < KEYS; i++)
        put_number(&f, i, 0, 60);
    for (unsigned i = 0; i < KEYS; i += 2)
        delete_number(&f, (unsigned)(((uint64_t)i * 7919) % KEYS));
    stats = stats_of(&f);
    CHECK_EQ(stats.keys, KEYS / 2);
    CHECK(stats.disk_bytes <=
          (uint64_t)((double)stats.live_bytes * f.options.space_factor) +
              f.options.data_file_size_max);
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

/* ---- A full disk ------------------------------------------------------------------- */

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

/* Where a large value has no room a small one may have some; returns how many had. */
static unsigned fill_rest(const struct fixture *f)
{
    char key[16];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "rest%u", i);
        if (try_put(f, key, "v") != TKV_OK)
            return i;
    }
    test_fail(__FILE__, __LINE__, "the disk never fills");
    return 0;
}

static void check_full_disk(enum tkv_durability durability, bool raise_capacity)
{
    struct fixture f = begin_closed();
    unsigned count, rest;
    int tries = 0;

    f.options.durability = durability;
    f.disk->capacity = 4 * 1024 * 1024;
    reopen(&f);
    count = fill_disk(&f);
    rest = fill_rest(&f);
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
    CHECK_EQ(stats_of(&f).keys, rest + 1 + 50 + (raise_capacity ? count : count / 2));
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

/* What fill_disk() put is all there, and can be deleted. */
static void check_heals(const struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        check_number(f, i, 0, 3000);
    for (unsigned i = 0; i < count; i++)
        delete_number(f, i);
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    put(f, "k", "v");
    CHECK_EQ(stats_of(f).keys, 1);
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
    check_heals(&f, count);
    end(&f);
}

/* Killed after so many puts, on a disk that somebody else has filled since. Says whether the
 * opening, refused, had removed anything. */
static bool check_refused_opening(unsigned count)
{
    struct tkv_open_report report = {0};
    struct fixture f = begin_closed();

    f.options.wal_size_max = 1024 * 1024;
    reopen(&f);
    for (unsigned i = 0; i < count; i++)
        put_number(&f, i, 0, 3000);
    kill_process(&f);
    f.disk->capacity = f.disk->used_bytes;
    CHECK_EQ(tkv_open_on(&f.disk->os, "", &f.options, &f.store, &report, &err),
             TKV_NO_SPACE);
    f.options.read_only = true;
    for (int round = 0; round < 2; round++) {
        reopen(&f);
        CHECK_EQ(stats_of(&f).keys, count);
        for (unsigned i = 0; i < count; i++)
            check_number(&f, i, 0, 3000);
        f.options.read_only = false;
        f.disk->capacity = UINT64_MAX;
    }
    end(&f);
    return report.files_removed > 0;
}

/* Files of records that no manifest lists may be gone: the log has what was in them. */
TEST(an_opening_that_a_full_disk_refuses_takes_nothing_that_counts)
{
    unsigned removing = 0;

    for (unsigned count = 50; count < 110; count++)
        removing += check_refused_opening(count);
    CHECK(removing > 0 && removing < 60);
}

/* A manifest has its name, and nobody has made that durable: what a process leaves that is killed
 * there, before each such sync of a compaction. */
#define KILLED_MAX 16u
static struct simdisk *killed_there[KILLED_MAX];
static unsigned killed_count;

static void keep_before_sync_of_names(struct simdisk *disk, enum simdisk_call call)
{
    if (call == SIMDISK_SYNC_DIR && killed_count < KILLED_MAX)
        killed_there[killed_count++] = simdisk_clone(disk);
}

static void check_overwritten(struct fixture *f)
{
    for (unsigned i = 0; i < 100; i++)
        check_number(f, i, i % 3 != 0, 3000);
}

static unsigned unlinked;

/* The power fails, and of the names any may be as they were. */
static void check_names_lost(struct simdisk *disk, enum simdisk_call call)
{
    struct fixture f = begin_closed();

    unlinked += call == SIMDISK_UNLINK;
    for (uint64_t choice = 0; choice < 8; choice++) {
        simdisk_free(f.disk);
        f.disk = simdisk_survivor(disk, SIMDISK_ENTRIES_LOST, choice, SIMDISK_PAGE);
        reopen(&f);
        check_overwritten(&f);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
    }
    end(&f);
}

TEST(an_opening_unlinks_nothing_that_a_lost_name_would_bring_back)
{
    struct fixture f = begin_closed();

    f.options.auto_compact = false;
    reopen(&f);
    for (unsigned i = 0; i < 100; i++)
        put_number(&f, i, 0, 3000);
    for (unsigned i = 0; i < 100; i++)
        if (i % 3 != 0)
            put_number(&f, i, 1, 3000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    f.disk->before_call = keep_before_sync_of_names;
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    f.disk->before_call = NULL;
    end(&f);
    CHECK(killed_count > 0 && killed_count < KILLED_MAX);
    for (unsigned i = 0; i < killed_count; i++) {
        struct fixture k = begin_closed();

        simdisk_free(k.disk);
        k.disk = killed_there[i];
        k.disk->before_call = check_names_lost;
        reopen(&k);
        k.disk->before_call = NULL;
        end(&k);
    }
    CHECK(unlinked > 0);
}

/* Room for two data files, or an eighth of the disk, beside what is in memory. */
static void check_reserve(const struct fixture *f)
{
    struct tkv_os_fs_info info;
    uint64_t reserve = 2 * tkv_files_capacity(f->store);

    CHECK_EQ(f->disk->os.fs_info(&f->disk->os, f->store->dir, &info), 0);
    if (reserve > info.total_bytes / 8)
        reserve = info.total_bytes / 8;
    CHECK(info.free_bytes >= tkv_space_unflushed(f->store) + TKV_FLUSH_SIZE + reserve);
}

/* Whatever the disk's size: what filled it can be recovered on it, and deletes go on. */
static void check_full_disk_after_kill(enum tkv_durability durability, uint64_t capacity)
{
    struct fixture f = begin_closed();
    unsigned count;

    f.options.durability = durability;
    f.options.wal_size_max = 64 * 1024 * 1024;
    f.options.data_file_size_max = 4 * 1024 * 1024;
    f.disk->capacity = capacity;
    reopen(&f);
    count = fill_disk(&f);
    check_reserve(&f);
    kill_process(&f);
    reopen(&f);
    check_heals(&f, count);
    end(&f);
}

TEST(a_growing_log_leaves_the_reserve_of_a_full_disk_alone)
{
    for (uint64_t capacity = 2u << 20; capacity < 4u << 20; capacity += 64 * 1024) {
        check_full_disk_after_kill(TKV_DURABILITY_ALWAYS, capacity);
        check_full_disk_after_kill(TKV_DURABILITY_NONE, capacity);
    }
}
