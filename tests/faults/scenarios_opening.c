/* SPDX-License-Identifier: MIT */
/* scenarios_opening.c - a directory becomes a store, from every state that it may be in. */
#include "scenario.h"
#include "store.h"

#include <stdio.h>

static void act_open(struct run *run)
{
    run_arm(run);
    (void)run_open(run);
}

/* ---- States of a directory ------------------------------------------------------- */

static void remove_hint(void *context, const char *name)
{
    if (strstr(name, ".hint") != NULL)
        (void)simdisk_file_unlink(context, name);
}

static void state_without_hints(struct run *run)
{
    state_files(run);
    simdisk_list(run->disk, remove_hint, run->disk);
}

static void spoil_hint(void *context, const char *name)
{
    if (strstr(name, ".hint") != NULL)
        (void)simdisk_file_write(context, name, "spoilt", 6, 90);
}

static void state_spoilt_hints(struct run *run)
{
    state_files(run);
    simdisk_list(run->disk, spoil_hint, run->disk);
}

static void state_leftovers(struct run *run)
{
    static const char *const names[] = {"0000000077.data", "0000000077.hint",
                                        "0000000078.hint", "0000000001.hint.tmp",
                                        "wal.log.tmp"};

    state_killed(run);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)simdisk_file_write(run->disk, names[i], "left over", 9, 0);
}

static void state_old_manifest_temporary(struct run *run)
{
    state_killed(run);
    (void)simdisk_file_write(run->disk, "MANIFEST.tmp", "half a manifest", 15, 0);
}

/* As many as are kept: another one makes room. */
static void state_full_quarantine(struct run *run)
{
    char name[64];

    state_torn(run);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "quarantine/wal-%020u.torn", i);
        (void)simdisk_file_write(run->disk, name, "torn", 4, 0);
        snprintf(name, sizeof name, "quarantine/wal-%020u.txt", i);
        (void)simdisk_file_write(run->disk, name, "note", 4, 0);
    }
}

static void state_quarantine(struct run *run)
{
    state_torn(run);
    (void)simdisk_file_write(run->disk, "quarantine/other", "x", 1, 0);
}

/* ---- Ways to open ---------------------------------------------------------------- */

static void act_create(struct run *run)
{
    run_arm(run);
    if (!run_open(run))
        return;
    run_put(run, 3, 100);
}

/* It works with what it finds and changes nothing. */
static void act_open_read_only(struct run *run)
{
    uint64_t before, after;

    run->options.read_only = true;
    run_pause(run, true);
    before = simdisk_hash(run->disk);
    run_pause(run, false);
    run_arm(run);
    if (run_open(run))
        run_get_all(run);
    after = simdisk_hash(run->disk);
    if (before != after)
        run_violation(run, "a read-only store has changed the disk");
}

static void act_open_twice(struct run *run)
{
    struct tkv_error err = {.message = ""};
    struct tkv_store *second;

    if (!run_open(run))
        return;
    run_arm(run);
    run_judge(run, "a second opening",
              tkv_open_on(&run->disk->os, "store", &run->options, &second, NULL, &err),
              TKV_BUSY, &err);
    run_put(run, 3, 100);
}

static void act_open_and_use(struct run *run)
{
    run_arm(run);
    if (!run_open(run))
        return;
    run_get_all(run);
    run_put(run, 3, 100);
    run_close(run);
    if (run_open(run))
        run_get(run, 3);
}

const struct scenario scenarios_of_opening[] = {
    {.name = "create",                  .act = act_create,            .is_quick = true},
    {.name = "open_clean",              .prepare = state_some,        .act = act_open,.is_quick = true},
    {.name = "open_several_files",                                 .prepare = state_files,                                  .act = act_open},
    {.name = "open_pread",
     .set_options = options_pread,
     .prepare = state_files,
     .act = act_open_and_use},
    {.name = "open_killed",           .prepare = state_killed,                                       .act = act_open,.is_quick = true},
    {.name = "open_killed_relaxed",
     .set_options = options_relaxed,
     .prepare = state_killed,
     .act = act_open},
    {.name = "open_killed_interval",
     .set_options = options_interval,
     .prepare = state_killed,
     .act = act_open_and_use},
    {.name = "open_killed_large",    .prepare = state_killed_large,                                 .act = act_open},
    {.name = "open_torn_tail",                                 .prepare = state_torn,                                   .act = act_open,.is_quick = true},
    {.name = "open_torn_tail_relaxed",
     .set_options = options_relaxed,
     .prepare = state_torn,
     .act = act_open},
    {.name = "open_quarantine_exists",                 .prepare = state_quarantine,                                             .act = act_open           },
    {.name = "open_quarantine_full",             .prepare = state_full_quarantine,                                                 .act = act_open},
    {.name = "open_without_hints",.prepare = state_without_hints,.act = act_open},
    {.name = "open_spoilt_hints",.prepare = state_spoilt_hints,.act = act_open},
    {.name = "open_read_only",              .prepare = state_files,                                                                     .act = act_open_read_only                                                                                                                         },
    {.name = "open_read_only_killed",
     .set_options = options_pread,
     .prepare = state_killed_large,
     .act = act_open_read_only},
    {.name = "open_leftovers",.prepare = state_leftovers,.act = act_open},
    {.name = "open_manifest_temporary",
     .prepare = state_old_manifest_temporary,
     .act = act_open},
    {.name = "open_twice",          .prepare = state_some,               .act = act_open_twice},
    {.name = "open_tombstones", .prepare = state_tombstones,                         .act = act_open},
};
const size_t scenarios_of_opening_count =
    sizeof scenarios_of_opening / sizeof *scenarios_of_opening;
