/* SPDX-License-Identifier: MIT */
#include "demo_crash.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "complain.h"

/* ---- The child ------------------------------------------------------------------- */

static enum tkv_status write_all(struct demo_data *data, struct tkv_store *store,
                                 uint64_t round, int pipe_end, struct tkv_error *err)
{
    for (size_t i = 0; i < data->tree.count; i++) {
        struct tkv_slice value;
        enum tkv_status status;

        if (!demo_data_value(data, i, round, &value))
            continue;
        status = tkv_put(store, demo_data_key(data, i), value, err);
        if (status != TKV_OK)
            return status;
        /* Only now does anybody rely on it. */
        if (write(pipe_end, &i, sizeof i) != (ssize_t)sizeof i)
            return TKV_OK;
    }
    return TKV_OK;
}

/* Never closes the store: even a writer that gets to its end leaves as if it had crashed. */
static void run_writer(struct demo_data *data, const char *directory, uint64_t round,
                       int pipe_end)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;
    enum tkv_status status = tkv_open(directory, &options, &store, NULL, &err);

    if (status == TKV_OK)
        status = write_all(data, store, round, pipe_end, &err);
    if (status != TKV_OK)
        complain("the writer: %s", err.message);
    _exit(status == TKV_OK ? 0 : 1);
}

/* ---- The parent ------------------------------------------------------------------ */

/* Follow what the child acknowledges and kill it in time; what it still managed to say by
 * then counts. */
static void watch(struct demo_data *data, uint64_t round, size_t kill_after, pid_t child,
                  int pipe_end, struct demo_crash *crash)
{
    size_t index, count = 0;
    int status;

    while (read(pipe_end, &index, sizeof index) == (ssize_t)sizeof index) {
        data->rounds[index] = round;
        crash->acknowledged = index + 1;
        if (++count == kill_after)
            (void)kill(child, SIGKILL);
    }
    if (waitpid(child, &status, 0) == child)
        crash->was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool demo_crash(struct demo_data *data, const char *directory, uint64_t round,
                size_t kill_after, struct demo_crash *ret_crash)
{
    struct demo_crash crash = {0};
    pid_t child;
    int ends[2];

    if (pipe(ends) != 0) {
        (void)complain_errno(errno, "pipe");
        return false;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        run_writer(data, directory, round, ends[1]);
    }
    (void)close(ends[1]);
    if (child > 0)
        watch(data, round, kill_after, child, ends[0], &crash);
    else
        (void)complain_errno(errno, "fork");
    (void)close(ends[0]);
    *ret_crash = crash;
    return child > 0;
}
