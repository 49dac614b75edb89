/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises where calls of the disk fail: nothing acknowledged is lost, reads go
 * on, and a store that can no longer keep its promises says so to every writer.
 */
#include "oracle.h"
#include "sim_store.h"

#include <errno.h>

TEST_MAIN

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
