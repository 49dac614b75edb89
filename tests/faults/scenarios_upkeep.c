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
    run->disk_is_full = true;
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

const struct scenario scenarios_of_upkeep[] = {
    {.name = "sync_interval",
     .set_options = options_interval,
     .prepare = state_some,
     .act = act_sync},
    {.name = "sync_relaxed",
     .set_options = options_relaxed,
     .prepare = state_some,
     .act = act_sync,
     .is_quick = true},
    {.name = "checkpoint",                   .prepare = state_some,                                                                  .act = act_checkpoint,                                                                                                                                 .is_quick = true},
    {.name = "checkpoint_relaxed",
     .set_options = options_relaxed,
     .prepare = state_some,
     .act = act_checkpoint},
    {.name = "checkpoint_new_files",      .act = act_checkpoint_new_files                                                   },
    {.name = "log_wraps",                                 .prepare = state_some,                                                  .act = act_log_wraps                                                                                                                             },
    {.name = "log_wraps_relaxed",
     .set_options = options_relaxed,
     .prepare = state_some,
     .act = act_log_wraps},
    {.name = "log_grows",       .prepare = state_some,                                                    .act = act_log_grows },
    {.name = "log_grows_relaxed",
     .set_options = options_relaxed,
     .prepare = state_some,
     .act = act_log_grows},
    {.name = "rotate",                                 .prepare = state_some,                                                     .act = act_rotate                                                                                                },
    {.name = "close_clean",              .prepare = state_some,                                                            .act = act_close_clean                                                                                                                    },
    {.name = "close_dirty",
     .prepare = state_some,
     .act = act_close_dirty,
     .is_quick = true},
    {.name = "close_dirty_relaxed",
     .set_options = options_relaxed,
     .prepare = state_some,
     .act = act_close_dirty},
    {.name = "compact",            .prepare = state_files,                                                                  .act = act_compact,.is_quick = true},
    {.name = "compact_pread",
     .set_options = options_pread,
     .prepare = state_files,
     .act = act_compact},
    {.name = "compact_relaxed",
     .set_options = options_relaxed,
     .prepare = state_files,
     .act = act_compact_dirty},
    {.name = "compact_dirty",                                 .prepare = state_files,                                                         .act = act_compact_dirty         },
    {.name = "compact_tombstones",                .prepare = state_tombstones,                                                              .act = act_compact                                                                                                                      },
    {.name = "compact_tombstones_pread",
     .set_options = options_pread,
     .prepare = state_tombstones,
     .act = act_compact},
    {.name = "compact_large",.prepare = state_large,.act = act_compact_large                                                                                                                        },
    {.name = "compact_several_outputs",.prepare = state_big_file,.act = act_compact},
    {.name = "compact_expired",      .prepare = state_expiring,                                                       .act = act_compact_expired},
    {.name = "compact_automatic",
     .set_options = options_automatic,
     .act = act_compact_automatic                                                                                                                                },
    {.name = "disk_full", .prepare = state_some,                                .act = act_disk_full                                                                                                                                                       },
    {.name = "reopen_poisoned",         .prepare = state_some,                         .act = act_reopen_poisoned                                                                                                                       },
};
const size_t scenarios_of_upkeep_count =
    sizeof scenarios_of_upkeep / sizeof *scenarios_of_upkeep;
