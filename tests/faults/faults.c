/* SPDX-License-Identifier: MIT */
/*
 * faults.c - the fault sweeps as a program:
 *
 *     faults [--quick] [--scenario NAME] [--seed X] [--processes P] [--list]
 *            [--fault FAULT] [--crash CRASH]
 *
 * Scenarios, and the crashes of some, are shared out to processes; each writes down what it is about to do, so that one
 * that the engine takes down with it is a violation like any other. What is done depends on
 * the seed alone, not on the number of processes.
 */
#include "memory.h"
#include "sweep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX   64u
#define JOBS_MAX        256u
#define RUN_SECONDS_MAX 120u /* a run takes milliseconds; one that hangs is ended */

struct settings {
    bool is_quick;
    const char *scenario, *fault, *crash;
    uint64_t seed;
    unsigned processes;
};

struct job {
    const struct scenario *scenario;
    bool is_compound;
    uint64_t faults, violations;
};

/* Shared by all processes. */
struct board {
    struct job jobs[JOBS_MAX];
    size_t job_count;
    atomic_size_t next;
    struct {
        size_t job;
        char text[256];
    } current[PROCESSES_MAX];
};

static struct board *board;
static unsigned process_number;

static uint64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- In a worker process --------------------------------------------------------- */

static void note_run(const char *crash, const struct fault *fault)
{
    char text[FAULT_TEXT_SIZE];

    (void)alarm(RUN_SECONDS_MAX);
    fault_print(fault, text);
    snprintf(board->current[process_number].text,
             sizeof board->current[process_number].text, "%s%s --fault %s",
             crash != NULL ? " --crash " : "", crash != NULL ? crash : "", text);
}

static void do_job(const struct settings *settings, struct job *job)
{
    const uint64_t began_us = now_us();
    struct sweep sweep = {
        .scenario = job->scenario,
        .is_quick = settings->is_quick,
        .seed = settings->seed,
        .only_fault = settings->fault,
        .only_crash = settings->crash,
        .begin = note_run,
    };

    if (job->is_compound)
        sweep_compounds(&sweep);
    else
        sweep_faults(&sweep);
    job->faults = sweep.faults;
    job->violations += sweep.violations;
    printf("%-28s %-8s %8" PRIu64 " faults %4" PRIu64 " violations %7.1f s\n",
           job->scenario->name, job->is_compound ? "compound" : "", job->faults,
           job->violations, (double)(now_us() - began_us) / 1e6);
    fflush(stdout);
}

static void work(const struct settings *settings)
{
    size_t i;

    while ((i = atomic_fetch_add(&board->next, 1)) < board->job_count) {
        board->current[process_number].job = i;
        do_job(settings, &board->jobs[i]);
    }
    fflush(stdout);
    _exit(0);
}

/* ---- In the parent --------------------------------------------------------------- */

static pid_t start(const struct settings *settings, unsigned number)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        process_number = number;
        work(settings);
    }
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    return pid;
}

static void note_death(unsigned number, int status)
{
    struct job *job = &board->jobs[board->current[number].job];

    job->violations++;
    printf("VIOLATION %s: the process ends with %s %d\n    ./run faults --scenario %s%s\n",
           job->scenario->name, WIFSIGNALED(status) ? "signal" : "status",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
           job->scenario->name, board->current[number].text);
}

/* Another process takes the place of one that died, with the jobs that are left. */
static void run_jobs(const struct settings *settings)
{
    pid_t pids[PROCESSES_MAX];
    unsigned running = settings->processes;

    for (unsigned i = 0; i < settings->processes; i++)
        pids[i] = start(settings, i);
    while (running > 0) {
        int status;
        const pid_t pid = wait(&status);

        for (unsigned i = 0; i < settings->processes; i++) {
            if (pids[i] != pid)
                continue;
            running--;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                continue;
            note_death(i, status);
            pids[i] = start(settings, i);
            running++;
        }
    }
}

static void add_job(const struct scenario *scenario, bool is_compound)
{
    if (board->job_count == JOBS_MAX)
        abort();
    board->jobs[board->job_count++] =
        (struct job){.scenario = scenario, .is_compound = is_compound};
}

static bool is_wanted(const struct settings *settings, const struct scenario *s)
{
    if (settings->scenario != NULL)
        return strcmp(s->name, settings->scenario) == 0;
    return !settings->is_quick || (s->flags & SCENARIO_IS_QUICK) != 0;
}

static void add_jobs(const struct settings *settings)
{
    for (size_t i = 0; i < scenario_count() && settings->crash == NULL; i++) {
        if (is_wanted(settings, scenario_at(i)))
            add_job(scenario_at(i), false);
    }
    for (size_t i = 0; i < scenario_count(); i++) {
        const struct scenario *s = scenario_at(i);

        if ((s->flags & SCENARIO_MAY_COMPOUND) != 0 && settings->fault == NULL &&
            (settings->scenario == NULL || strcmp(s->name, settings->scenario) == 0))
            add_job(s, true);
        else if (settings->crash != NULL && is_wanted(settings, s))
            add_job(s, true);
    }
}

static uint64_t report(uint64_t began_us)
{
    uint64_t faults = 0, violations = 0, failed = 0;

    for (size_t i = 0; i < board->job_count; i++) {
        const struct job *job = &board->jobs[i];

        faults += job->faults;
        violations += job->violations;
        failed += job->violations > 0;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", board->job_count - failed, failed);
    printf("scenarios=%zu faults=%" PRIu64 " violations=%" PRIu64 " seconds=%.0f\n",
           board->job_count, faults, violations, (double)(now_us() - began_us) / 1e6);
    return violations;
}

static bool parse(int argc, char **argv, struct settings *settings)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(name, "--quick") == 0) {
            settings->is_quick = true;
            continue;
        }
        if (value == NULL)
            return false;
        i++;
        if (strcmp(name, "--scenario") == 0)
            settings->scenario = value;
        else if (strcmp(name, "--seed") == 0)
            settings->seed = strtoull(value, NULL, 0);
        else if (strcmp(name, "--fault") == 0)
            settings->fault = value;
        else if (strcmp(name, "--crash") == 0)
            settings->crash = value;
        else if (strcmp(name, "--processes") == 0)
            settings->processes = (unsigned)strtoul(value, NULL, 10);
        else
            return false;
    }
    return settings->processes > 0 && settings->processes <= PROCESSES_MAX &&
           (settings->fault == NULL || settings->scenario != NULL) &&
           (settings->scenario == NULL || scenario_find(settings->scenario) != NULL);
}

int main(int argc, char **argv)
{
    struct settings settings = {.seed = 1, .processes = 2};
    const uint64_t began_us = now_us();

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < scenario_count(); i++)
            puts(scenario_at(i)->name);
        return 0;
    }
    if (!parse(argc, argv, &settings)) {
        fprintf(stderr, "usage: faults [--quick] [--scenario NAME] [--seed X] "
                        "[--processes P] [--fault FAULT] [--crash CRASH] [--list]\n");
        return 2;
    }
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    if (board == MAP_FAILED)
        return 2;
    add_jobs(&settings);
    run_jobs(&settings);
    return report(began_us) == 0 ? 0 : 1;
}
