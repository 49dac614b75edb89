/* SPDX-License-Identifier: MIT */
/* scenarios_writing.c - puts, deletes and batches, small, large, compressed and expiring, in
 * every mode. */
#include "scenario.h"
#include "store.h"

#include <errno.h>

/* ---- Single keys ----------------------------------------------------------------- */

static void act_put(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put(run, 15, 100);
    run_put(run, 0, 4000);
    run_put(run, 1, 3);
}

static void act_overwrite(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned i = 0; i < 4; i++)
        run_put(run, 2, 500 + i);
    run_get(run, 2);
}

static void act_delete(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_delete(run, 2);
    run_delete(run, 2);
    run_delete(run, 23);
    run_put(run, 2, 60);
    run_delete(run, 3);
}

/* The time between two syncs passes. */
static void act_put_interval(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned i = 0; i < 5; i++) {
        run->disk->monotonic_us += 700;
        run_put(run, 13 + i, 200);
    }
}

/* No mapping can be had: each commit is a write. */
static void act_put_unmapped(struct run *run)
{
    run->disk->fail_kinds = SIMDISK_MAP;
    run->disk->fail_errno = ENOMEM;
    run->disk->fail_sticky = true;
    run->disk->fail_count = 0;
    run->disk->fail_at = 1;
    if (!run_open(run))
        return;
    run->disk->fail_kinds = 0;
    run->disk->fail_at = run->disk->faults = 0;
    run_arm(run);
    state_fill(run, 10, 5, 3000);
    run_delete(run, 2);
    run_sync(run);
}

/* ---- Batches --------------------------------------------------------------------- */

static void act_batch(struct run *run)
{
    static const struct oracle_item items[] = {
        {.key = 2,  .size = 700      },
        {.key = 3,  .is_delete = true},
        {.key = 14, .size = 0        },
        {.key = 2,  .size = 30       },
        {.key = 1,  .size = 2000     },
    };

    if (!run_open(run))
        return;
    run_arm(run);
    run_batch(run, items, 5);
    run_batch(run, items + 1, 3);
}

/* Refused as a whole, and the next one is not. */
static void act_batch_too_large(struct run *run)
{
    static const struct oracle_item small[] = {
        {.key = 2, .size = 70},
        {.key = 4, .size = 40},
    };
    static const uint8_t value[9000];
    struct tkv_error err = {.message = ""};
    enum tkv_status status;
    struct tkv_batch *batch;

    if (!run_open(run))
        return;
    run_arm(run);
    status = tkv_batch_new(&batch, &err);
    run_judge(run, "new batch", status, TKV_OK, &err);
    if (status != TKV_OK)
        return;
    for (unsigned key = 2; key < 5 && status == TKV_OK; key++)
        status =
            tkv_batch_put(batch, oracle_key(key), tkv_bytes(value, sizeof value), &err);
    run_judge(run, "batch put", status, TKV_OK, &err);
    if (status == TKV_OK)
        run_judge(run, "a huge batch", tkv_write(run->store, batch, &err), TKV_TOO_BIG,
                  &err);
    tkv_batch_free(batch);
    run_batch(run, small, 2);
}

/* A batch that could not take an item is as it was. */
static void act_batch_building(struct run *run)
{
    static const uint8_t value[3000];
    struct tkv_error err = {.message = ""};
    struct tkv_batch *batch;
    size_t added = 0;

    if (!run_open(run))
        return;
    run_arm(run);
    if (tkv_batch_new(&batch, &err) != TKV_OK)
        return;
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        const size_t bytes = tkv_batch_bytes(batch);
        const enum tkv_status status =
            key % 3 == 0 ? tkv_batch_delete(batch, oracle_key(key), &err)
            : key % 3 == 1
                ? tkv_batch_put(batch, oracle_key(key), tkv_bytes(value, key * 100), &err)
                : tkv_batch_put_expiring(batch, oracle_key(key), tkv_bytes(value, key), 1,
                                         &err);

        run_judge(run, "batch", status, TKV_OK, &err);
        added += status == TKV_OK;
        if (tkv_batch_count(batch) != added ||
            (tkv_batch_bytes(batch) == bytes) != (status != TKV_OK))
            run_violation(run, "%zu items in a batch that took %zu", tkv_batch_count(batch),
                          added);
    }
    tkv_batch_clear(batch);
    tkv_batch_free(batch);
}

/* ---- Large, compressed, expiring ------------------------------------------------- */

static void act_large_put(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put(run, 15, 20000);
    run_put(run, 16, 100);
}

static void act_large_overwrite(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put(run, 2, 26000);
    run_put(run, 3, 200);
}

static void act_large_delete(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_delete(run, 2);
    run_checkpoint(run);
    run_delete(run, 3);
}

static void act_compressed(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put_squeezable(run, 10, 600);
    run_put_squeezable(run, 11, 9000);
    run_put(run, 12, 600);
    run_get(run, 10);
    run_get(run, 11);
}

static void act_large_compressed(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put_squeezable(run, 10, 50000);
    run_get(run, 10);
}

static void act_expiring(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_put_expiring(run, 14, 500, run->disk->wall_ms + 10);
    run_put_expiring(run, 15, 500, run->disk->wall_ms + 100000);
    run->disk->wall_ms += 50;
    run_get(run, 15);
    run_put(run, 14, 20);
}

/* ---- Many -------------------------------------------------------------------------- */

static void act_mixed(struct run *run)
{
    static const struct oracle_item items[] = {
        {.key = 6, .size = 900      },
        {.key = 7, .is_delete = true},
    };

    run_arm(run);
    if (!run_open(run))
        return;
    state_fill(run, 0, 4, 3000);
    run_batch(run, items, 2);
    run_put(run, 9, 20000);
    run_delete(run, 1);
    run_checkpoint(run);
    state_fill(run, 10, 6, 6000);
    run_delete(run, 9);
    run_compact(run);
    run_put(run, 12, 44);
    run_sync(run);
    run_close(run);
}

#define QUICK    SCENARIO_IS_QUICK
#define COMPOUND SCENARIO_MAY_COMPOUND

const struct scenario scenarios_of_writing[] = {
    {"put",                     NULL,               state_some,           act_put,              QUICK   },
    {"put_without_direct_sync", NULL,               state_no_direct_sync, act_put,              QUICK   },
    {"put_relaxed",             options_relaxed,    state_some,           act_put,              0       },
    {"put_relaxed_unmapped",    options_relaxed,    state_some,           act_put_unmapped,     0       },
    {"put_interval",            options_interval,   state_some,           act_put_interval,     0       },
    {"overwrite",               NULL,               state_some,           act_overwrite,        0       },
    {"delete",                  NULL,               state_some,           act_delete,           0       },
    {"batch",                   NULL,               state_some,           act_batch,            QUICK   },
    {"batch_relaxed",           options_relaxed,    state_some,           act_batch,            0       },
    {"batch_too_large",         NULL,               state_some,           act_batch_too_large,  0       },
    {"batch_building",          NULL,               state_some,           act_batch_building,   0       },
    {"large_put",               NULL,               state_some,           act_large_put,        QUICK   },
    {"large_put_relaxed",       options_relaxed,    state_some,           act_large_put,        0       },
    {"large_overwrite",         NULL,               state_large,          act_large_overwrite,  0       },
    {"large_delete",            NULL,               state_large,          act_large_delete,     0       },
    {"large_compressed",        options_compressed, state_compressible,   act_large_compressed, 0       },
    {"compressed",              options_compressed, state_compressible,   act_compressed,       0       },
    {"expiring",                NULL,               state_some,           act_expiring,         0       },
    {"mixed_always",            NULL,               NULL,                 act_mixed,            COMPOUND},
    {"mixed_relaxed",           options_relaxed,    NULL,                 act_mixed,            COMPOUND},
    {"mixed_interval",          options_interval,   NULL,                 act_mixed,            COMPOUND},
};
const size_t scenarios_of_writing_count =
    sizeof scenarios_of_writing / sizeof *scenarios_of_writing;
