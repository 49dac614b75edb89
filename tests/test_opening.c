/* SPDX-License-Identifier: MIT */
/*
 * How long an opening holds the log in memory: the data files, which are loaded after it was
 * read, need as much again.
 *
 * Method: a small store on the simulated disk; the call that loads its files is wrapped.
 */
#include "small_store.h"

#include "recovery.h"

#include <errno.h>

TEST_MAIN

static bool was_held; /* the log's memory, when the files were loaded last */

enum tkv_status __real_tkv_recovery_load_files(struct tkv_recovery *r, struct tkv_error *e);
enum tkv_status __wrap_tkv_recovery_load_files(struct tkv_recovery *r, struct tkv_error *e);

enum tkv_status __wrap_tkv_recovery_load_files(struct tkv_recovery *r, struct tkv_error *e)
{
    was_held = r->log != NULL;
    return __real_tkv_recovery_load_files(r, e);
}

static void tear_next_write(struct fixture *f)
{
    uint8_t value[3000];

    memset(value, 1, sizeof value); /* a cut write leaves the zeros that were there */
    f->disk->crash_kinds = SIMDISK_WRITE;
    f->disk->crash_at = f->disk->crash_count + 1;
    f->disk->crash_cut = 1500;
    CHECK_EQ(tkv_put(f->store, tkv_text("torn"), tkv_bytes(value, sizeof value), &err),
             TKV_IO);
}

TEST(after_a_close_the_log_is_given_back_before_the_files_are_loaded)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_close(f.store, &err));
    for (unsigned i = 0; i < 3; i++) {
        was_held = true;
        f.options.read_only = i == 1;
        CHECK_OK(try_open(&f));
        CHECK(!was_held);
        CHECK(f.report.clean && f.report.bytes_cut == 0);
        CHECK_EQ(f.report.seq_last, 1);
        check_byte(&f, "a", 1);
        CHECK_OK(tkv_close(f.store, &err));
    }
    f.store = NULL;
    open_again(&f);
    put_bytes(&f, "a", 2, 100);
    check_byte(&f, "a", 2);
    end(&f);
}

TEST(a_log_with_something_to_replay_is_held_until_it_is_replayed)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    kill_process(&f, SIMDISK_KILLED);
    was_held = false;
    open_again(&f);
    CHECK(was_held);
    check_byte(&f, "a", 1);
    end(&f);
}

TEST(a_torn_first_group_is_held_until_it_is_in_quarantine)
{
    struct simdisk *after;
    struct fixture f;

    begin(&f);
    tear_next_write(&f);
    after = simdisk_survivor(f.disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    (void)tkv_close(f.store, NULL);
    simdisk_free(f.disk);
    f.disk = after;
    was_held = false;
    CHECK_OK(try_open(&f));
    CHECK(was_held);
    CHECK(f.report.bytes_cut >= 1500 && f.report.groups_replayed == 0);
    end(&f);
}
