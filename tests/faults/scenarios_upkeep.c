/* SPDX-License-Identifier: MIT */
/* scenarios_upkeep.c - the log, the data files and the directory are looked after. */
#include "scenario.h"
#include "store.h"

#include <errno.h>

/* ---- Log and checkpoint ---------------------------------------------------------- */

static void act_sync(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 12, 3, 100);
    run_arm(run);
    run_sync(run);
    run_put(run, 3, 10);
    run_sync(run);
    run_sync(run);
}

static void act_checkpoint(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 12, 3, 100);
    run_arm(run);
    run_checkpoint(run);
    run_put(run, 3, 10);
    run_checkpoint(run);
}

/* New data files, which the manifest has to list. */
static void act_checkpoint_new_files(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 0, 4, 9000);
    run_arm(run);
    state_fill(run, 4, 4, 9000);
    run_checkpoint(run);
    run_put(run, 3, 10);
}

static void act_log_wraps(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned round = 0; round < 2; round++)
        state_fill(run, 0, 10, 3500);
}

static void act_log_grows(struct run *run)
{
    run->options.wal_size_max = 192 * 1024;
    if (!run_open(run))
        return;
    run_arm(run);
    state_fill(run, 0, 12, 5000);
}

static void act_rotate(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 0, 5, 9000);
    run_arm(run);
    state_fill(run, 5, 4, 9000);
    run_get(run, 2);
}

static void act_close_dirty(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 6, 8, 2000);
    run_put(run, 3, 18000);
    run_delete(run, 2);
    run_arm(run);
    run_close(run);
}

static void act_close_clean(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_close(run);
}

/* ---- Compaction ------------------------------------------------------------------ */

static void act_compact(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_compact(run);
    run_put(run, 3, 100);
    run_compact(run);
}

static void act_compact_dirty(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 2, 9, 8000);
    run_delete(run, 4);
    run_arm(run);
    run_compact(run);
    run_checkpoint(run);
}

/* Overwriting makes garbage, and the calls themselves remove it. */
static void act_compact_automatic(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned round = 0; round < 3; round++)
        state_fill(run, 0, 6, 9000);
}

static void act_compact_large(struct run *run)
{
    if (!run_open(run))
        return;
    run_delete(run, 2);
    run_arm(run);
    run_compact(run);
    run_get(run, 3);
}

/* One big file becomes several small ones. */
static void state_big_file(struct run *run)
{
    const struct tkv_options options = run->options;

    run->options.data_file_size_min = run->options.data_file_size_max = 256 * 1024;
    if (!run_open(run))
        return;
    state_fill(run, 0, 24, 9000);
    run_checkpoint(run);
    run_delete(run, 11);
    run_delete(run, 17);
    run_close(run);
    run->options = options;
}

static void act_compact_expired(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run->disk->wall_ms += 5000;
    run_compact(run);
    run_get(run, 6);
}

/* ---- Threads --------------------------------------------------------------------- */

static void options_threaded(struct tkv_options *options)
{
    options_automatic(options);
    options_relaxed(options);
}

/* Without the threads the calls themselves do the work; without memory they fail, and with it
 * again everything goes on. */
static void act_threads(struct run *run)
{
    run->options.background = true;
    if (run->fault.kind == FAULT_THREAD)
        run_arm(run);
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned round = 0; round < 4; round++)
        state_fill(run, 0, 6, 9000);
    run_disarm(run);
    run_get_all(run);
    state_fill(run, 0, 6, 9000);
    run_checkpoint(run);
    run_compact(run);
    run_get_all(run);
    run_close(run);
}

/* ---- Full disk, poison, fork ----------------------------------------------------- */

/* Reads go on, deletes and compaction make room, puts succeed again. */
static void act_disk_full(struct run *run)
{
    struct tkv_error err = {.message = ""};
    unsigned key = 0;

    if (!run_open(run))
        return;
    run->disk->capacity = run->disk->used_bytes + 600 * 1024;
    for (unsigned i = 0; i < 200; i++) {
        const enum tkv_status status =
            oracle_put(run->oracle, run->store, key = i % 12, 9000 + i, 0, ORACLE_NEVER,
                       &run->disk->monotonic_us, &err);

        if (status == TKV_NO_SPACE)
            break;
        run_judge(run, "put", status, TKV_OK, &err);
    }
    run->disk_is_full = run->disk_was_full = true;
    run_arm(run);
    run_get(run, 2);
    for (key = 0; key < 6; key++)
        run_delete(run, key);
    run_compact(run);
    run->disk->capacity *= 2;
    run->disk_is_full = false;
    run_put(run, 3, 100);
}

/* The harness's own fault comes first, and then the one of the sweep. */
static void act_reopen_poisoned(struct run *run)
{
    struct tkv_error err = {.message = ""};

    if (!run_open(run))
        return;
    state_fill(run, 3, 3, 400);
    run->disk->fail_kinds = SIMDISK_WRITE;
    run->disk->fail_errno = EIO;
    run->disk->fail_count = 0;
    run->disk->fail_at = 1;
    if (oracle_put(run->oracle, run->store, 8, 900, 0, ORACLE_NEVER,
                   &run->disk->monotonic_us, &err) != TKV_IO)
        run_violation(run, "a lost write is not told");
    run->unknown[run->oracle->issued - 1] = true;
    run->disk->fail_kinds = 0;
    run->disk->fail_at = run->disk->faults = 0;
    if (oracle_put(run->oracle, run->store, 9, 900, 0, ORACLE_NEVER,
                   &run->disk->monotonic_us, &err) != TKV_POISONED)
        run_violation(run, "a poisoned store takes a put");
    run_get(run, 3);
    (void)tkv_close(run->store, NULL);
    run->store = NULL;
    run_arm(run);
    if (run_open(run))
        run_put(run, 8, 10);
}

#define QUICK SCENARIO_IS_QUICK

const struct scenario scenarios_of_upkeep[] = {
    {"sync_interval",            options_interval,  state_some,       act_sync,                 0                           },
    {"sync_relaxed",             options_relaxed,   state_some,       act_sync,                 QUICK                       },
    {"checkpoint",               NULL,              state_some,       act_checkpoint,           QUICK                       },
    {"checkpoint_relaxed",       options_relaxed,   state_some,       act_checkpoint,           0                           },
    {"checkpoint_new_files",     NULL,              NULL,             act_checkpoint_new_files, 0                           },
    {"log_wraps",                NULL,              state_some,       act_log_wraps,            0                           },
    {"log_wraps_relaxed",        options_relaxed,   state_some,       act_log_wraps,            0                           },
    {"log_grows",                NULL,              state_some,       act_log_grows,            0                           },
    {"log_grows_relaxed",        options_relaxed,   state_some,       act_log_grows,            0                           },
    {"rotate",                   NULL,              state_some,       act_rotate,               0                           },
    {"close_clean",              NULL,              state_some,       act_close_clean,          0                           },
    {"close_dirty",              NULL,              state_some,       act_close_dirty,          QUICK                       },
    {"close_dirty_relaxed",      options_relaxed,   state_some,       act_close_dirty,          0                           },
    {"compact",                  NULL,              state_files,      act_compact,              QUICK                       },
    {"compact_pread",            options_pread,     state_files,      act_compact,              0                           },
    {"compact_relaxed",          options_relaxed,   state_files,      act_compact_dirty,        0                           },
    {"compact_dirty",            NULL,              state_files,      act_compact_dirty,        0                           },
    {"compact_tombstones",       NULL,              state_tombstones, act_compact,              0                           },
    {"compact_tombstones_pread", options_pread,     state_tombstones, act_compact,              0                           },
    {"compact_large",            NULL,              state_large,      act_compact_large,        0                           },
    {"compact_several_outputs",  NULL,              state_big_file,   act_compact,              0                           },
    {"compact_expired",          NULL,              state_expiring,   act_compact_expired,      0                           },
    {"compact_automatic",        options_automatic, NULL,             act_compact_automatic,    0                           },
    {"threads",                  options_automatic, state_some,       act_threads,              QUICK | SCENARIO_IS_THREADED},
    {"threads_relaxed",          options_threaded,  state_some,       act_threads,              SCENARIO_IS_THREADED        },
    {"disk_full",                NULL,              state_some,       act_disk_full,            0                           },
    {"reopen_poisoned",          NULL,              state_some,       act_reopen_poisoned,      0                           },
};
const size_t scenarios_of_upkeep_count =
    sizeof scenarios_of_upkeep / sizeof *scenarios_of_upkeep;
