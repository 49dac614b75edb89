/* SPDX-License-Identifier: MIT */
#include "scenario.h"

/* ---- Options --------------------------------------------------------------------- */

void options_relaxed(struct tkv_options *options)
{
    options->durability = TKV_DURABILITY_NONE;
}

void options_interval(struct tkv_options *options)
{
    options->durability = TKV_DURABILITY_INTERVAL;
    options->interval_ms = 1;
}

void options_pread(struct tkv_options *options)
{
    options->read_mode = TKV_READ_PREAD;
}

void options_compressed(struct tkv_options *options)
{
    options->compress_level = 6;
    options->compress_size_min = 16;
    options->read_mode = TKV_READ_PREAD;
}

void options_automatic(struct tkv_options *options)
{
    options->auto_compact = true;
    options->space_factor = 1.2;
}

/* ---- Closed properly ------------------------------------------------------------- */

void state_fill(struct run *run, unsigned first, unsigned count, uint32_t size)
{
    for (unsigned key = first; key < first + count; key++)
        run_put(run, key, size + key);
}

void state_some(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 0, 12, 200);
    run_delete(run, 5);
    run_close(run);
}

void state_files(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 0, 16, 9000);
    state_fill(run, 0, 10, 7000);
    run_delete(run, 12);
    run_close(run);
}

/* The first file has the values, the second their deletes, the third neither. */
void state_tombstones(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 0, 8, 8000);
    for (unsigned key = 0; key < 6; key++)
        run_delete(run, key);
    state_fill(run, 8, 12, 8000);
    run_delete(run, 9);
    run_checkpoint(run);
    run_close(run);
}

void state_large(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 8, 4, 300);
    run_put(run, 2, 20000);
    run_put(run, 3, 30000);
    run_put(run, 2, 24000);
    run_close(run);
}

void state_compressible(struct run *run)
{
    if (!run_open(run))
        return;
    for (unsigned key = 0; key < 8; key++)
        run_put_squeezable(run, key, 300 + key * 900);
    run_put_squeezable(run, 9, 40000);
    run_close(run);
}

void state_no_direct_sync(struct run *run)
{
    run->disk->no_direct_sync = true;
    state_some(run);
}

void state_expiring(struct run *run)
{
    if (!run_open(run))
        return;
    state_fill(run, 10, 8, 8500);
    for (unsigned key = 0; key < 6; key++)
        run_put_expiring(run, key, 2000, run->disk->wall_ms + 1000 + key);
    run_put_expiring(run, 6, 20000, run->disk->wall_ms + 1000);
    run_close(run);
}

/* ---- Killed ---------------------------------------------------------------------- */

void state_killed(struct run *run)
{
    const struct oracle_item batch[] = {
        {.key = 1, .size = 50       },
        {.key = 3, .is_delete = true},
        {.key = 4, .size = 900      },
    };

    state_some(run);
    if (!run_open(run))
        return;
    state_fill(run, 6, 8, 500);
    run_delete(run, 7);
    run_batch(run, batch, 3);
}

void state_killed_large(struct run *run)
{
    state_large(run);
    if (!run_open(run))
        return;
    run_put(run, 4, 21000);
    run_put(run, 3, 500);
    run_put(run, 5, 18000);
}

void state_torn(struct run *run)
{
    state_killed(run);
    if (run->store == NULL)
        return;
    run->disk->crash_kinds = SIMDISK_WRITE | SIMDISK_STORE;
    run->disk->crash_count = 0;
    run->disk->crash_at = 1;
    run->disk->crash_cut = 5000;
    run->crashes = true;
    run_put(run, 15, 9000);
}
