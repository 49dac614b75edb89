/* SPDX-License-Identifier: MIT */
/* scenarios_reading.c - reads in all their forms, and what a forked child may do. */
#include "memory.h"
#include "scenario.h"
#include "store.h"

#include <sys/wait.h>
#include <unistd.h>

static void act_get(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_get(run, 0);
    run_get(run, 1);
    run_get(run, 12);
    run_get(run, 23);
}

static void act_get_large(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_get(run, 2);
    run_get(run, 3);
    run_get_pinned(run, 3);
}

static void act_get_compressed(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_get(run, 1);
    run_get(run, 7);
    run_get(run, 9);
    run_get_pinned(run, 5);
}

static void act_get_pinned(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    for (unsigned key = 0; key < ORACLE_KEYS; key += 3)
        run_get_pinned(run, key);
}

static void act_multi_get(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_multi_get(run);
}

static void act_iterate(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_iterate(run, false);
    run_iterate(run, true);
}

static void act_verify(struct run *run)
{
    if (!run_open(run))
        return;
    run_put(run, 4, 300);
    run_arm(run);
    run_verify(run);
}

static void act_stats(struct run *run)
{
    if (!run_open(run))
        return;
    run_arm(run);
    run_stats(run);
    run_put(run, 3, 3);
    run_stats(run);
}

/* ---- Fork -------------------------------------------------------------------------- */

enum { CHILD_IS_BAD = 1, CHILD_IS_HIT = 2 };

static void expect_forked(struct run *run, const char *what, enum tkv_status status,
                          const struct tkv_error *err)
{
    if (status != TKV_FORKED)
        run_violation(run, "in a forked child %s is %s: %s", what, tkv_status_text(status),
                      err->message);
}

static int live_in_child(struct run *run)
{
    struct tkv_error err = {.message = ""};
    size_t size;
    void *value;

    simdisk_trace(run->disk);
    run_arm(run);
    expect_forked(run, "put", tkv_put(run->store, oracle_key(3), tkv_text("x"), &err),
                  &err);
    expect_forked(run, "get", tkv_get_copy(run->store, oracle_key(3), &value, &size, &err),
                  &err);
    expect_forked(run, "delete", tkv_delete(run->store, oracle_key(3), NULL, &err), &err);
    expect_forked(run, "sync", tkv_sync(run->store, &err), &err);
    expect_forked(run, "compact", tkv_compact(run->store, NULL, &err), &err);
    run_judge(run, "close in a forked child", tkv_close(run->store, &err), TKV_OK, &err);
    if (memory_held(NULL) != 0)
        run_violation(run, "a forked child keeps memory");
    if (run->disk->trace[0] != 0)
        run_violation(run, "a forked child changes the disk: %s", run->disk->trace);
    return (run->violations > 0 ? CHILD_IS_BAD : 0) | (run_is_hit(run) ? CHILD_IS_HIT : 0);
}

static void act_fork(struct run *run)
{
    int status = 0;
    pid_t child;

    if (!run_open(run))
        return;
    state_fill(run, 13, 2, 500);
    child = fork();
    if (child == 0)
        _exit(live_in_child(run));
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        run_violation(run, "a forked child ends with status %d", status);
        return;
    }
    run->violations += (unsigned)WEXITSTATUS(status) & CHILD_IS_BAD;
    run->armed = true;
    run->disk->faults = (WEXITSTATUS(status) & CHILD_IS_HIT) != 0;
    run_put(run, 3, 30);
}

#define QUICK SCENARIO_IS_QUICK

const struct scenario scenarios_of_reading[] = {
    {"get",              NULL,               state_files,        act_get,            0    },
    {"get_pread",        options_pread,      state_files,        act_get,            QUICK},
    {"get_large",        NULL,               state_large,        act_get_large,      0    },
    {"get_large_pread",  options_pread,      state_large,        act_get_large,      0    },
    {"get_compressed",   options_compressed, state_compressible, act_get_compressed, 0    },
    {"get_pinned",       NULL,               state_files,        act_get_pinned,     0    },
    {"get_pinned_pread", options_pread,      state_files,        act_get_pinned,     0    },
    {"multi_get",        options_pread,      state_files,        act_multi_get,      0    },
    {"multi_get_large",  NULL,               state_large,        act_multi_get,      0    },
    {"iterate",          options_pread,      state_files,        act_iterate,        QUICK},
    {"iterate_mapped",   NULL,               state_large,        act_iterate,        0    },
    {"verify",           NULL,               state_files,        act_verify,         0    },
    {"verify_pread",     options_pread,      state_large,        act_verify,         0    },
    {"stats",            NULL,               state_files,        act_stats,          0    },
    {"fork",             NULL,               state_some,         act_fork,           0    },
};
const size_t scenarios_of_reading_count =
    sizeof scenarios_of_reading / sizeof *scenarios_of_reading;
