/* SPDX-License-Identifier: MIT */
/* scenarios_opening.c - a directory becomes a store, from every state that it may be in. */
#include "file_name.h"
#include "scenario.h"
#include "store.h"

#include <stdio.h>

static void act_open(struct run *run)
{
    run_arm(run);
    (void)run_open(run);
}

/* What is cut is kept, whatever fails, or the store does not open. */
static void count_torn(void *context, const char *name)
{
    unsigned *count = context;

    *count += strstr(name, ".torn") != NULL;
}

static void act_open_torn(struct run *run)
{
    unsigned before = 0, after = 0;

    simdisk_list(run->disk, count_torn, &before);
    run_arm(run);
    if (!run_open(run))
        return;
    simdisk_list(run->disk, count_torn, &after);
    if (after < (before < 16 ? before + 1 : 16) || (after > 16 && !run_is_hit(run)))
        run_violation(run, "%u tails in quarantine became %u", before, after);
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

static void plant(struct run *run, const char *name, const char *text)
{
    const int64_t size = (int64_t)strlen(text);

    if (simdisk_file_write(run->disk, name, text, strlen(text), 0) != size)
        run_violation(run, "the harness cannot make %s", name);
}

static void make_quarantine(struct run *run)
{
    struct tkv_os *os = &run->disk->os;
    const int root = os->open_dir(os, "store", false);

    (void)os->close(os, os->open_dir_at(os, root, TKV_QUARANTINE_NAME, true));
    (void)os->close(os, root);
}

static void state_leftovers(struct run *run)
{
    static const char *const names[] = {"0000000077.data", "0000000077.hint",
                                        "0000000078.hint", "0000000001.hint.tmp",
                                        "wal.log.tmp"};

    state_killed(run);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        plant(run, names[i], "left over");
}

static void state_old_manifest_temporary(struct run *run)
{
    state_killed(run);
    plant(run, TKV_MANIFEST_TEMPORARY_NAME, "half a manifest");
}

/* As many as are kept: another one makes room. */
static void state_full_quarantine(struct run *run)
{
    char name[64];

    make_quarantine(run);
    state_torn(run);
    for (unsigned i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "quarantine/wal-%020u.torn", i);
        plant(run, name, "torn");
        snprintf(name, sizeof name, "quarantine/wal-%020u.txt", i);
        plant(run, name, "note");
    }
}

static void state_quarantine(struct run *run)
{
    make_quarantine(run);
    state_torn(run);
    plant(run, "quarantine/other", "x");
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

#define QUICK SCENARIO_IS_QUICK

const struct scenario scenarios_of_opening[] = {
    {"create",                  NULL,             NULL,                         act_create,         QUICK},
    {"open_clean",              NULL,             state_some,                   act_open,           QUICK},
    {"open_several_files",      NULL,             state_files,                  act_open,           0    },
    {"open_pread",              options_pread,    state_files,                  act_open_and_use,   0    },
    {"open_killed",             NULL,             state_killed,                 act_open,           QUICK},
    {"open_killed_relaxed",     options_relaxed,  state_killed,                 act_open,           0    },
    {"open_killed_interval",    options_interval, state_killed,                 act_open_and_use,   0    },
    {"open_killed_large",       NULL,             state_killed_large,           act_open,           0    },
    {"open_torn_tail",          NULL,             state_torn,                   act_open_torn,      QUICK},
    {"open_torn_tail_relaxed",  options_relaxed,  state_torn,                   act_open_torn,      0    },
    {"open_quarantine_exists",  NULL,             state_quarantine,             act_open_torn,      0    },
    {"open_quarantine_full",    NULL,             state_full_quarantine,        act_open_torn,      0    },
    {"open_without_hints",      NULL,             state_without_hints,          act_open,           0    },
    {"open_spoilt_hints",       NULL,             state_spoilt_hints,           act_open,           0    },
    {"open_read_only",          NULL,             state_files,                  act_open_read_only, 0    },
    {"open_read_only_killed",   options_pread,    state_killed_large,           act_open_read_only, 0    },
    {"open_leftovers",          NULL,             state_leftovers,              act_open,           0    },
    {"open_manifest_temporary", NULL,             state_old_manifest_temporary, act_open,           0    },
    {"open_twice",              NULL,             state_some,                   act_open_twice,     0    },
    {"open_tombstones",         NULL,             state_tombstones,             act_open,           0    },
};
const size_t scenarios_of_opening_count =
    sizeof scenarios_of_opening / sizeof *scenarios_of_opening;
