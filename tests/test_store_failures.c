/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises where calls of the disk fail: nothing acknowledged is lost, reads go
 * on, and a store that can no longer keep its promises says so to every writer.
 */
#include "oracle.h"
#include "sim_store.h"

#include <errno.h>

TEST_MAIN

struct trial {
    struct fixture f;
    struct oracle *oracle;
    unsigned kinds; /* of calls, of which ... */
    uint64_t at;    /* ... this one fails */
};

static void begin_trial(struct trial *t, enum tkv_durability durability,
                        enum simdisk_failed_sync flavour)
{
    t->f = begin_closed();
    t->oracle = oracle_new(durability, 0);
    t->f.options.durability = durability;
    t->f.options.compact_size_min = 64 * 1024;
    reopen(&t->f);
    t->f.disk->failed_sync = flavour;
    t->f.disk->fail_kinds = t->kinds;
    t->f.disk->fail_count = 0;
    t->f.disk->fail_at = t->at;
    t->f.disk->fail_errno = EIO;
}

static enum tkv_status write_one(struct trial *t, unsigned i)
{
    const unsigned key = (unsigned)(mix(i) % ORACLE_KEYS);
    uint64_t *now_us = &t->f.disk->monotonic_us;

    if (i % 5 == 4)
        return oracle_delete(t->oracle, t->f.store, key, now_us, &err);
    return oracle_put(t->oracle, t->f.store, key, (uint32_t)(mix(i + 1000) % 3000), 0,
                      ORACLE_NEVER, now_us, &err);
}

static void work(struct trial *t)
{
    for (unsigned i = 0; i < 120; i++) {
        const enum tkv_status status = write_one(t, i);

        CHECK(status == TKV_OK || status == TKV_IO || status == TKV_POISONED);
        if (i % 40 == 39)
            (void)oracle_checkpoint(t->oracle, t->f.store, &err);
        if (i % 50 == 25)
            (void)oracle_sync(t->oracle, t->f.store, &err);
        if (i == 90)
            CHECK(tkv_compact(t->f.store, NULL, &err) <= TKV_UNSUPPORTED); /* anything */
    }
}

/* The store is as after `least` to `most` writes; returns after how many. */
static size_t check_prefix(struct trial *t, size_t least, size_t most, const char *promise)
{
    struct oracle_report why;
    struct oracle_found found;
    size_t prefix = 0;

    if (!oracle_read(t->f.store, &found, &why) ||
        !oracle_match(t->oracle, &found, least, most, t->f.disk->wall_ms, &prefix, &why)) {
        fprintf(stderr, "  kinds %x, call %u: %s\n", t->kinds, (unsigned)t->at, why.text);
        test_fail(__FILE__, __LINE__, promise);
    }
    return prefix;
}

static void check_poisoned(const struct fixture *f)
{
    CHECK_EQ(try_put(f, "more", "v"), TKV_POISONED);
    CHECK_EQ(tkv_sync(f->store, &err), TKV_POISONED);
    CHECK_EQ(tkv_checkpoint(f->store, &err), TKV_POISONED);
}

/* Fail one call in the life of a store, of the given kinds; then nothing acknowledged is lost,
 * reads go on, and a poisoned store says so. Returns false when there was no such call. */
static bool survive_failure(enum tkv_durability durability, unsigned kinds, uint64_t at,
                            enum simdisk_failed_sync flavour)
{
    struct trial t = {.kinds = kinds, .at = at};
    bool failed;
    size_t acked, prefix;

    begin_trial(&t, durability, flavour);
    work(&t);
    failed = t.f.disk->faults > 0;
    t.f.disk->fail_at = 0; /* what follows looks at what is left */
    acked = t.oracle->acked;
    (void)check_prefix(&t, acked, t.oracle->issued, "reads go on");
    if (stats_of(&t.f).poisoned != TKV_OK) {
        check_poisoned(&t.f);
        (void)tkv_close(t.f.store, &err);
    } else {
        CHECK_OK(tkv_close(t.f.store, &err));
    }
    t.f.store = NULL;
    reopen(&t.f);
    prefix =
        check_prefix(&t, flavour == SIMDISK_FAILED_SYNC_KEEPS ? acked : t.oracle->durable,
                     t.oracle->issued, "reopening has what was acknowledged");
    cut_power(&t.f);
    (void)check_prefix(&t, prefix, prefix, "and keeps it");
    oracle_free(t.oracle);
    end(&t.f);
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
