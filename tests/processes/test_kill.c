/* SPDX-License-Identifier: MIT */
/*
 * A process that dies at any moment loses nothing that was acknowledged, in any mode of
 * durability: cycle after cycle a child opens the same directory, checks everything that its
 * predecessors were told was done (workload.h), writes, and dies - by SIGKILL after some
 * acknowledgements, by SIGKILL after some time, or in the middle of a call (failpoint.h),
 * often while it still recovers from the death before.
 *
 *     test_kill [--cycles N] [--seed X] [--threads T] [--steps N] [--verbose]
 *
 * --steps: a child that does not die earlier does so many at most, in each thread.
 *
 * A violation leaves its directory behind and says how the child of that cycle was to die. With
 * TKV_FAILPOINT set, every child dies there.
 */
#include "failpoint.h"
#include "store.h"
#include "workload.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX    300u /* unless told otherwise */
#define ACKS_MAX     1000u
#define HANG_SECONDS 120u
#define OPEN_FAILED  4 /* how a child ends that could not open or close the store */

enum death { BY_ACKS, BY_FAILPOINT, BY_TIME, BY_EXIT, BY_CLOSE };

/* How a child is to live and die; a function of seed and cycle. */
struct fate {
    enum death death;
    struct workload_plan plan;
    char failpoint[FAILPOINT_SPEC_SIZE];
    uint64_t after_us; /* BY_TIME */
    bool closes_and_reopens;
    struct tkv_options options;
};

struct kill_test {
    struct workload *workload;
    char directory[200];
    uint64_t seed;
    unsigned cycles, threads, steps_max;
    unsigned violations, directories, failpoints_reached, kills, ended;
    unsigned reached[FAILPOINT_NAMES];
    bool verbose;
};

/* ---- Fate -------------------------------------------------------------------------------- */

static uint64_t pick(uint64_t *random, uint64_t count)
{
    *random = workload_mix(*random);
    return (*random >> 16) % count;
}

/* From 1 to `most`, small ones as often as large ones. */
static uint64_t pick_magnitude(uint64_t *random, uint64_t most)
{
    uint64_t limit = 1 + pick(random, 10);

    while (limit < most && pick(random, 3) != 0)
        limit *= 3;
    return 1 + pick(random, limit < most ? limit : most);
}

static struct tkv_options options_of(uint64_t *random)
{
    static const uint32_t log_kilobytes[] = {64, 128, 512, 4096};
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = (enum tkv_durability)pick(random, 3);
    options.interval_ms = 1 + (uint32_t)pick(random, 10);
    options.wal_size_max = log_kilobytes[pick(random, 4)] * 1024u;
    options.data_file_size_min = 65536 * (1 + pick(random, 2));
    options.compact_size_min = pick(random, 2) * 262144;
    options.compress_level = pick(random, 4) == 0 ? 1 : 0;
    options.read_mode = pick(random, 2) == 0 ? TKV_READ_MMAP : TKV_READ_PREAD;
    options.background = pick(random, 4) != 0;
    options.auto_compact = pick(random, 8) != 0;
    return options;
}

static struct fate fate_of(const struct kill_test *test, unsigned cycle)
{
    static const char *const moments[] = {"before", "middle", "after"};
    uint64_t random = workload_mix(test->seed) + cycle;
    const unsigned kind = (unsigned)pick(&random, 100);
    struct fate fate = {.options = options_of(&random)};

    fate.plan.steps = 1 + pick(&random, test->steps_max);
    if (fate.options.durability != TKV_DURABILITY_ALWAYS)
        fate.plan.steps *= 4;
    fate.closes_and_reopens = pick(&random, 4) == 0;
    fate.death = kind < 30   ? BY_ACKS
                 : kind < 75 ? BY_FAILPOINT
                 : kind < 90 ? BY_TIME
                 : kind < 95 ? BY_EXIT
                             : BY_CLOSE;
    if (fate.death == BY_ACKS)
        fate.plan.kill_after_acks = pick(&random, 2) == 0
                                        ? 1 + pick(&random, test->threads * fate.plan.steps)
                                        : pick_magnitude(&random, ACKS_MAX);
    else if (fate.death == BY_TIME)
        fate.after_us = pick_magnitude(&random, 50000);
    else if (fate.death == BY_FAILPOINT)
        snprintf(fate.failpoint, sizeof fate.failpoint, "%s:%" PRIu64 ":%s",
                 failpoint_name((unsigned)pick(&random, FAILPOINT_NAMES)),
                 pick(&random, 2) == 0 ? 1 + pick(&random, 4)
                                       : pick_magnitude(&random, 300),
                 moments[pick(&random, 3)]);
    if (getenv("TKV_FAILPOINT") != NULL)
        snprintf(fate.failpoint, sizeof fate.failpoint, "%s", getenv("TKV_FAILPOINT"));
    return fate;
}

/* ---- The child --------------------------------------------------------------------------- */

static struct tkv_store *open_store(const struct kill_test *test, const struct fate *fate)
{
    struct tkv_open_report report;
    struct tkv_store *store;
    struct tkv_error err;

    if (tkv_open_on(failpoint_os(fate->failpoint), test->directory, &fate->options, &store,
                    &report, &err) == TKV_OK)
        return store;
    snprintf(test->workload->message, sizeof test->workload->message,
             "open: status %d: %.200s", (int)err.status, err.message);
    _exit(OPEN_FAILED);
}

static void close_store(const struct kill_test *test, struct tkv_store *store)
{
    struct tkv_error err;

    if (tkv_close(store, &err) == TKV_OK)
        return;
    snprintf(test->workload->message, sizeof test->workload->message, "close: %.200s",
             err.message);
    _exit(OPEN_FAILED);
}

static _Noreturn void live(const struct kill_test *test, const struct fate *fate)
{
    struct tkv_store *store;

    (void)alarm(HANG_SECONDS);
    store = open_store(test, fate);
    workload_check(test->workload, store);
    if (fate->closes_and_reopens) {
        close_store(test, store);
        store = open_store(test, fate);
        workload_check(test->workload, store);
    }
    workload_run(test->workload, store, &fate->plan);
    if (fate->death == BY_EXIT)
        _exit(0);
    close_store(test, store);
    _exit(0);
}

/* ---- The parent -------------------------------------------------------------------------- */

static void make_directory(struct kill_test *test)
{
    snprintf(test->directory, sizeof test->directory, "%s/tinykv-kill-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(test->directory) == NULL) {
        perror(test->directory);
        exit(1);
    }
    test->directories++;
    workload_forget(test->workload);
}

static void remove_directory(const struct kill_test *test)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", test->directory);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", test->directory);
}

static void tell_violation(struct kill_test *test, unsigned cycle, const struct fate *fate,
                           int status)
{
    static const char *const deaths[] = {"after acknowledgements", "at a failpoint",
                                         "after some time", "by _exit", "after close"};

    test->violations++;
    printf("violation: seed %" PRIu64 " cycle %u threads %u (to die %s%s%s): wait status "
           "%#x: %s\n",
           test->seed, cycle, test->threads, deaths[fate->death],
           fate->failpoint[0] != '\0' ? " " : "", fate->failpoint, (unsigned)status,
           test->workload->message);
    printf("  the directory is kept: %s\n", test->directory);
    test->workload->message[0] = '\0';
    make_directory(test);
}

static void count_failpoint(struct kill_test *test, const struct fate *fate)
{
    const size_t length = strcspn(fate->failpoint, ":");

    test->failpoints_reached++;
    for (unsigned n = 0; n < FAILPOINT_NAMES; n++) {
        if (strlen(failpoint_name(n)) == length &&
            strncmp(failpoint_name(n), fate->failpoint, length) == 0)
            test->reached[n]++;
    }
}

/* SIGALRM is the watchdog: a child that hangs is a violation like any other. */
static void judge(struct kill_test *test, unsigned cycle, const struct fate *fate,
                  int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        test->kills++;
    else if (WIFEXITED(status) && WEXITSTATUS(status) == FAILPOINT_EXIT &&
             fate->failpoint[0] != '\0')
        count_failpoint(test, fate);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        test->ended++;
    else
        tell_violation(test, cycle, fate, status);
}

static void run_cycle(struct kill_test *test, unsigned cycle)
{
    const struct fate fate = fate_of(test, cycle);
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0)
        live(test, &fate);
    if (pid < 0) {
        perror("fork");
        exit(1);
    }
    if (fate.death == BY_TIME) {
        (void)nanosleep(&(struct timespec){0, (long)fate.after_us * 1000}, NULL);
        (void)kill(pid, SIGKILL);
    }
    (void)waitpid(pid, &status, 0);
    judge(test, cycle, &fate, status);
}

/* Now and then a directory ends with everything in it checked, and a new one begins. */
static void change_directory(struct kill_test *test, unsigned cycle)
{
    if (workload_mix(test->seed + cycle * 3u) % 40 != 0)
        return;
    remove_directory(test);
    make_directory(test);
}

/* The acknowledgements of the last child are still to be checked. */
static void check_last(struct kill_test *test)
{
    const struct fate fate = {
        .death = BY_CLOSE, .plan = {.steps = 0}, .options = TKV_OPTIONS_DEFAULT};
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0)
        live(test, &fate);
    (void)waitpid(pid, &status, 0);
    judge(test, test->cycles, &fate, status);
}

static void read_arguments(struct kill_test *test, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--verbose") == 0) {
            test->verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--cycles") == 0)
            test->cycles = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            test->seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--threads") == 0)
            test->threads = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--steps") == 0)
            test->steps_max = (unsigned)strtoul(value, NULL, 10);
        else
            value = "";
        if (value[0] == '\0') {
            fprintf(stderr, "usage: test_kill [--cycles N] [--seed X] [--threads T] "
                            "[--steps N] [--verbose]\n");
            exit(2);
        }
        i++;
    }
}

static void report(const struct kill_test *test, double seconds)
{
    const struct workload *workload = test->workload;

    printf("seed=%" PRIu64 " threads=%u directories=%u kills=%u failpoints=%u "
           "ended_by_themselves=%u checks=%" PRIu64 "\n",
           test->seed, test->threads, test->directories, test->kills,
           test->failpoints_reached, test->ended, (uint64_t)workload->checks);
    for (unsigned n = 0; n < FAILPOINT_NAMES && test->verbose; n++)
        printf("failpoint %s reached=%u\n", failpoint_name(n), test->reached[n]);
    printf("%d passed, %d failed\n", test->violations == 0, test->violations != 0);
    printf("cycles=%u acknowledged=%" PRIu64 " lost=%" PRIu64
           " violations=%u seconds=%.1f\n",
           test->cycles, (uint64_t)workload->acknowledged, (uint64_t)workload->lost,
           test->violations, seconds);
}

int main(int argc, char **argv)
{
    struct kill_test test = {
        .seed = 1, .cycles = 200, .threads = 3, .steps_max = STEPS_MAX};
    const uint64_t began_ms = workload_now_ms();

    read_arguments(&test, argc, argv);
    test.workload = workload_new(test.seed, test.threads);
    make_directory(&test);
    for (unsigned cycle = 0; cycle < test.cycles; cycle++) {
        change_directory(&test, cycle);
        run_cycle(&test, cycle);
    }
    check_last(&test);
    remove_directory(&test);
    report(&test, (double)(workload_now_ms() - began_ms) / 1000);
    return test.violations == 0 ? 0 : 1;
}
