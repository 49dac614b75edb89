/* SPDX-License-Identifier: MIT */
/*
 * A killed process loses nothing that was acknowledged, in any mode of durability.
 *
 * Method: a child opens a store and writes from three threads - puts, overwrites, deletes,
 * batches of two, with small data files so that rotation, checkpoints and compaction run all
 * the time - and reports each acknowledged write through a pipe. After a seeded number of
 * reports the parent kills it with SIGKILL, reads what was still in the pipe, and has a second
 * child open the same directory and compare. Cycle after cycle the same directory.
 *
 *     test_kill [--cycles N] [--seed X]
 *
 * What each thread does is a function of its step number alone, so the parent can tell what a
 * key must hold from the last step that was acknowledged; one step more may have happened.
 */
#include "tinykv.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3u
#define KEYS    400u /* of each thread */

struct report {
    uint32_t thread;
    uint32_t unused;
    uint64_t step;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "test_kill: %s: %s\n", what, why);
    _exit(1);
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x7fb5d329728ea185);
    x ^= x >> 27;
    x *= UINT64_C(0x81dadef4bc2dd44d);
    return x ^ x >> 33;
}

/* ---- What a step does ---------------------------------------------------------------------------- */

enum kind { PUT, DELETE, BATCH };

struct step {
    enum kind kind;
    unsigned key, second_key; /* second_key: of a batch */
    size_t value_size;
};

static struct step step_of(unsigned thread, uint64_t step)
{
    const uint64_t r = mix(step * THREADS + thread + 1);
    struct step s = {.key = (unsigned)(r % KEYS),
                     .value_size = 8 + (size_t)(r >> 20) % 700};

    s.kind = (r >> 40) % 10 == 0 ? DELETE : (r >> 40) % 10 == 1 ? BATCH : PUT;
    s.second_key = (s.key + 1) % KEYS;
    return s;
}

static struct tkv_slice key_of(unsigned thread, unsigned key, char out[32])
{
    snprintf(out, 32, "thread %u key %u", thread, key);
    return tkv_text(out);
}

/* The value names its step and fills the rest with bytes that follow from it. */
static struct tkv_slice value_of(uint64_t step, size_t size, uint8_t out[1024])
{
    memcpy(out, &step, sizeof step);
    for (size_t i = sizeof step; i < size; i++)
        out[i] = (uint8_t)mix(step + i);
    return tkv_bytes(out, size);
}

/* ---- The child that is killed ------------------------------------------------------------------------ */

struct writer {
    struct tkv_store *store;
    unsigned thread;
    uint64_t next_step;
    int pipe;
};

static void do_step(struct writer *w, uint64_t number)
{
    const struct step s = step_of(w->thread, number);
    struct tkv_batch *batch;
    char name[32], second[32];
    uint8_t bytes[1024];
    const struct tkv_slice key = key_of(w->thread, s.key, name);
    const struct tkv_slice value = value_of(number, s.value_size, bytes);
    struct tkv_error err;
    enum tkv_status status;

    if (s.kind == PUT) {
        status = tkv_put(w->store, key, value, &err);
    } else if (s.kind == DELETE) {
        status = tkv_delete(w->store, key, NULL, &err);
    } else {
        status = tkv_batch_new(&batch, &err);
        if (status == TKV_OK)
            status = tkv_batch_put(batch, key, value, &err);
        if (status == TKV_OK)
            status =
                tkv_batch_put(batch, key_of(w->thread, s.second_key, second), value, &err);
        if (status == TKV_OK)
            status = tkv_write(w->store, batch, &err);
        tkv_batch_free(batch);
    }
    if (status != TKV_OK)
        die("write", err.message);
}

static void *write_until_killed(void *argument)
{
    struct writer *w = argument;

    for (uint64_t step = w->next_step;; step++) {
        const struct report report = {w->thread, 0, step};

        do_step(w, step);
        if (write(w->pipe, &report, sizeof report) != (ssize_t)sizeof report)
            die("report", "pipe");
    }
    return NULL;
}

static struct tkv_options options_of(unsigned cycle)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = (enum tkv_durability)(cycle % 3);
    options.interval_ms = 5;
    options.data_file_size_min = 128 * 1024;
    options.compact_size_min = 256 * 1024;
    options.wal_size_max = cycle % 2 == 0 ? 512 * 1024 : 4096 * 1024;
    options.compress_level = cycle % 5 == 4 ? 1 : 0;
    return options;
}

static void run_child(const char *directory, unsigned cycle, const uint64_t *acknowledged,
                      int pipe_fd)
{
    const struct tkv_options options = options_of(cycle);
    struct writer writers[THREADS];
    struct tkv_store *store;
    struct tkv_error err;
    pthread_t thread;

    if (tkv_open(directory, &options, &store, NULL, &err) != TKV_OK)
        die("open", err.message);
    for (unsigned i = 0; i < THREADS; i++) {
        /* Steps that may or may not have happened are done again: the same outcome. */
        writers[i] = (struct writer){store, i, acknowledged[i] + 1, pipe_fd};
        if (pthread_create(&thread, NULL, write_until_killed, &writers[i]) != 0)
            die("thread", "create");
    }
    for (;;)
        (void)pause();
}

/* ---- The child that checks ------------------------------------------------------------------------------ */

/* The last step up to `last` that touched the key; 0: none. */
struct expectation {
    uint64_t step;
    bool deleted;
};

static void expect(struct expectation expected[KEYS], unsigned thread, uint64_t from,
                   uint64_t last)
{
    for (uint64_t number = from; number <= last; number++) {
        const struct step s = step_of(thread, number);

        expected[s.key] = (struct expectation){number, s.kind == DELETE};
        if (s.kind == BATCH)
            expected[s.second_key] = (struct expectation){number, false};
    }
}

static bool holds(struct tkv_store *store, unsigned thread, unsigned key,
                  const struct expectation *e)
{
    uint8_t bytes[1024], wanted[1024];
    char name[32];
    struct tkv_error err;
    size_t size = 0;
    enum tkv_status status =
        tkv_get(store, key_of(thread, key, name), bytes, sizeof bytes, &size, &err);

    if (e->step == 0 || e->deleted)
        return status == TKV_NOT_FOUND;
    if (status != TKV_OK || size != step_of(thread, e->step).value_size)
        return false;
    (void)value_of(e->step, size, wanted);
    return memcmp(bytes, wanted, size) == 0;
}

/* Everything as after the last acknowledged step, or as after the one that was under way. */
static void check_thread(struct tkv_store *store, unsigned thread, uint64_t last)
{
    static struct expectation before[KEYS], after[KEYS];
    bool all_before = true, all_after = true;

    memset(before, 0, sizeof before);
    expect(before, thread, 1, last);
    memcpy(after, before, sizeof after);
    expect(after, thread, last + 1, last + 1);
    for (unsigned key = 0; key < KEYS; key++) {
        all_before &= holds(store, thread, key, &before[key]);
        all_after &= holds(store, thread, key, &after[key]);
        if (!all_before && !all_after) {
            fprintf(stderr,
                    "thread %u key %u is neither as after step %" PRIu64 " nor the next\n",
                    thread, key, last);
            die("check", "an acknowledged write is lost");
        }
    }
}

static void run_check(const char *directory, unsigned cycle, const uint64_t *acknowledged)
{
    const struct tkv_options options = options_of(cycle + 1);
    struct tkv_store *store;
    struct tkv_error err;

    if (tkv_open(directory, &options, &store, NULL, &err) != TKV_OK)
        die("open after the kill", err.message);
    for (unsigned i = 0; i < THREADS; i++)
        check_thread(store, i, acknowledged[i]);
    if (cycle % 10 == 0 && tkv_verify(store, NULL, NULL, NULL, &err) != TKV_OK)
        die("verify", err.message);
    if (tkv_close(store, &err) != TKV_OK)
        die("close", err.message);
    _exit(0);
}

/* ---- The parent -------------------------------------------------------------------------------------------- */

/* Read reports, at most `count`, or all that are left when the writer is dead. */
static uint64_t read_reports(int fd, uint64_t count, uint64_t *acknowledged)
{
    struct report report;
    uint64_t done = 0;

    while (done < count && read(fd, &report, sizeof report) == (ssize_t)sizeof report) {
        acknowledged[report.thread] = report.step;
        done++;
    }
    return done;
}

static void check_exit(pid_t pid, const char *what)
{
    int status;

    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "test_kill: %s failed\n", what);
        exit(1);
    }
}

static uint64_t run_cycle(const char *directory, unsigned cycle, uint64_t reports,
                          uint64_t *acknowledged)
{
    uint64_t done;
    int fds[2], status;
    pid_t pid;

    if (pipe(fds) != 0)
        die("pipe", "create");
    pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        run_child(directory, cycle, acknowledged, fds[1]);
    }
    (void)close(fds[1]);
    done = read_reports(fds[0], reports, acknowledged);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    if (done < reports) {
        fprintf(stderr,
                "test_kill: cycle %u: the writer ended by itself, wait status %#x\n", cycle,
                (unsigned)status);
        exit(1);
    }
    done += read_reports(fds[0], UINT64_MAX, acknowledged);
    (void)close(fds[0]);
    pid = fork();
    if (pid == 0)
        run_check(directory, cycle, acknowledged);
    check_exit(pid, "the check");
    return done;
}

static void remove_directory(const char *directory)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command) != 0)
        fprintf(stderr, "test_kill: %s is left behind\n", directory);
}

int main(int argc, char **argv)
{
    uint64_t acknowledged[THREADS] = {0}, total = 0, seed = 1;
    unsigned cycles = 100;
    char directory[256];

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cycles") == 0)
            cycles = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
    }
    snprintf(directory, sizeof directory, "%s/tinykv-kill-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(directory) == NULL)
        die("directory", directory);
    for (unsigned cycle = 0; cycle < cycles; cycle++)
        total += run_cycle(directory, cycle, 1 + mix(seed + cycle) % 3000, acknowledged);
    remove_directory(directory);
    printf("cycles=%u acknowledged=%" PRIu64 " lost=0 seed=%" PRIu64 "\n", cycles, total,
           seed);
    printf("1 passed, 0 failed\n");
    return 0;
}
