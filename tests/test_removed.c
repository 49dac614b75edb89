/* SPDX-License-Identifier: MIT */
/*
 * How a compaction removes a data file: by its name first, then in steps, without reading what
 * has nothing live, and not before its successors are durable; on a full disk its hint goes
 * before. What the flusher does of it is in tests/test_retire.c.
 *
 * Method: a store on the simulated disk, without threads, and the trace of its calls.
 */
#include "small_store.h"

#include <errno.h>

TEST_MAIN

/* ---- In steps --------------------------------------------------------------------- */

enum { LARGE_VALUE_SIZE = 1 << 20 };

static void begin_with_large_files(struct fixture *f, enum tkv_durability durability)
{
    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = 16u << 20;
    f->options.data_file_size_min = f->options.data_file_size_max = 72u << 20;
    open_again(f);
}

/* The first data file gets so many MiB, of which nothing is live. Every record but the first ends
 * where a block does, so that no checkpoint pads. */
static void fill_large_file(struct fixture *f, unsigned mebibytes)
{
    static uint8_t value[LARGE_VALUE_SIZE];
    const size_t overhead = TKV_RECORD_HEADER_SIZE + strlen("key");

    for (unsigned i = 0; i < mebibytes; i++) {
        const size_t used = (size_t)atomic_load(&f->store->active->size) % LARGE_VALUE_SIZE;

        CHECK_OK(tkv_put(f->store, tkv_text("key"),
                         tkv_bytes(value, sizeof value - used - overhead), &err));
    }
    rotate(f);
    put_bytes(f, "key", 1, 100);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    CHECK_EQ(simdisk_file_size(f->disk, DATA), (uint64_t)mebibytes << 20);
    simdisk_trace(f->disk);
}

static void fail_when_compacting(struct fixture *f, unsigned kinds, uint64_t at)
{
    f->disk->fail_kinds = kinds;
    f->disk->fail_count = 0;
    f->disk->fail_errno = EMFILE;
    f->disk->fail_at = at;
    f->disk->fail_sticky = true;
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    f->disk->fail_at = 0;
}

/* Its name goes first; then it is cut down to one step. At once where it cannot be opened. */
static void give_back(enum tkv_durability durability, unsigned mebibytes, bool opens,
                      const char *wanted)
{
    struct fixture f;
    const char *unlinked;

    begin_with_large_files(&f, durability);
    fill_large_file(&f, mebibytes);
    fail_when_compacting(&f, SIMDISK_OPEN, opens ? 0 : 2 /* after the manifest */);
    unlinked = strstr(f.disk->trace, "unlink " DATA "\n");
    CHECK(unlinked != NULL);
    CHECK(strstr(unlinked, wanted) != NULL);
    CHECK_EQ(strstr(f.disk->trace, "truncate") != NULL, wanted[0] != 0);
    CHECK_EQ(f.disk->faults > 0, !opens);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    end(&f);
}

TEST(a_large_file_is_given_back_in_steps)
{
    give_back(TKV_DURABILITY_NONE, 66, true,
              "truncate " DATA " 35651584\ntruncate " DATA " 2097152\n");
    give_back(TKV_DURABILITY_NONE, 64, true, "truncate " DATA " 33554432\n");
    give_back(TKV_DURABILITY_NONE, 32, true, "");
    give_back(TKV_DURABILITY_NONE, 66, false, "");
}

TEST(where_writers_wait_for_the_device_the_steps_are_short)
{
    give_back(TKV_DURABILITY_ALWAYS, 1, true,
              "truncate " DATA " 786432\ntruncate " DATA " 524288\ntruncate " DATA
              " 262144\n");
    give_back(TKV_DURABILITY_ALWAYS, 1, false, "");
}

TEST(a_large_file_that_cannot_be_cut_is_removed_after_one_attempt)
{
    struct fixture f;

    begin_with_large_files(&f, TKV_DURABILITY_ALWAYS);
    fill_large_file(&f, 2);
    fail_when_compacting(&f, SIMDISK_TRUNCATE, 1);
    CHECK_EQ(f.disk->faults, 1);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    end(&f);
}

TEST(a_large_file_that_somebody_reads_is_not_cut)
{
    struct tkv_pin pin;
    struct fixture f;

    begin_with_large_files(&f, TKV_DURABILITY_ALWAYS);
    put_bytes(&f, "key", 7, 64);
    CHECK_OK(tkv_get_pinned(f.store, tkv_text("key"), &pin, &err));
    fill_large_file(&f, 2);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(strstr(f.disk->trace, "truncate") == NULL);
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    CHECK_EQ(pin.value.size, 64);
    CHECK_EQ(((const uint8_t *)pin.value.data)[63], 7);
    tkv_unpin(&pin);
    end(&f);
}

/* ---- What it takes ---------------------------------------------------------------- */

/* Only its number is needed, and nothing of it can be read. */
TEST(a_file_without_live_records_goes_without_being_read)
{
    struct fixture f;
    uint64_t reclaimed;

    begin(&f);
    while (f.store->active->number == 1)
        put_bytes(&f, "garbage", 1, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    f.disk->fail_kinds = SIMDISK_READ;
    f.disk->fail_count = 0;
    f.disk->fail_errno = EIO;
    f.disk->fail_sticky = true;
    f.disk->fail_at = 1;
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK(simdisk_file_size(f.disk, DATA) < 0);
    CHECK(reclaimed > 60000 && reclaimed <= 65536);
    f.disk->fail_at = 0;
    check_byte(&f, "garbage", 1);
    CHECK_OK(tkv_compact(f.store, &reclaimed, &err));
    CHECK_EQ(reclaimed, 0);
    end(&f);
}

struct cut {
    struct fixture fixture; /* first: it is what the events are for */
    struct simdisk *after;
};

static void cut_when_installed(void *context, const struct tkv_event *event)
{
    struct cut *cut = context;

    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED && cut->after == NULL)
        cut->after =
            simdisk_survivor(cut->fixture.disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
}

/* The later record of "key" is in the log and not synced by anybody else. */
TEST(what_made_a_record_dead_is_as_durable_as_its_removal)
{
    struct cut cut = {.after = NULL};
    struct fixture *f = &cut.fixture;

    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.on_event = cut_when_installed;
    open_again(f);
    put_bytes(f, "key", 1, 100);
    put_bytes(f, "live", 1, 100);
    for (unsigned i = 0; i < 30; i++)
        put_bytes(f, "garbage", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    put_bytes(f, "key", 2, 100);
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    CHECK(cut.after != NULL);
    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = cut.after;
    f->store = NULL;
    open_again(f);
    check_byte(f, "key", 2);
    check_byte(f, "live", 1);
    end(f);
}

static struct simdisk *full_disk;
static int (*real_unlink)(struct tkv_os *os, int dir, const char *name);

/* A file system that has the room again at once, and not when the directory is synced. */
static int unlink_and_free(struct tkv_os *os, int dir, const char *name)
{
    const int64_t size = simdisk_file_size(full_disk, name);
    const int result = real_unlink(os, dir, name);

    if (result == 0 && size > 0 && full_disk->capacity > 0)
        full_disk->capacity += SIMDISK_PAGE;
    return result;
}

/* A file that has nothing live, once there is a later one, or nothing else. */
static void put_file_of(struct fixture *f, bool is_dead)
{
    char key[8];

    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", i);
        put_bytes(f, is_dead ? "garbage" : key, 2, 4000);
    }
    rotate(f);
}

TEST(on_a_full_disk_the_hint_of_a_dead_file_makes_room_for_the_manifest)
{
    static const char *const data[] = {"0000000001.data", "0000000002.data"},
                             *const hints[] = {"0000000001.hint", "0000000002.hint"};

    for (unsigned dead = 0; dead < 2; dead++) {
        struct fixture f;

        begin_closed(&f);
        f.options.wal_size_max = 1024 * 1024;
        open_again(&f);
        put_file_of(&f, dead == 0);
        put_file_of(&f, dead == 1);
        put_bytes(&f, "garbage", 2, 100);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        full_disk = f.disk;
        real_unlink = f.disk->os.unlink;
        f.disk->os.unlink = unlink_and_free;
        f.disk->capacity = f.disk->used_bytes;
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        f.disk->os.unlink = real_unlink;
        f.disk->capacity = 0;
        CHECK(simdisk_file_size(f.disk, data[dead]) < 0);
        CHECK(simdisk_file_size(f.disk, hints[dead]) < 0);
        CHECK(simdisk_file_size(f.disk, data[1 - dead]) > 0);
        CHECK(simdisk_file_size(f.disk, hints[1 - dead]) > 0);
        check_byte(&f, "garbage", 2);
        check_byte(&f, "0", 2);
        end(&f);
    }
}
