/* SPDX-License-Identifier: MIT */
/*
 * The contract of tinykv.h after a crash, wherever it comes: the recovered store is a prefix
 * of the commit order that has every write that was promised to survive, batches whole; it
 * reads the same in every way, once recovered it stays as it is, and it works.
 *
 * Method: programs of operations run on the simulated disk, without threads: all short ones,
 * and long ones drawn from a seed. Before each call that changes the disk, and in the middle
 * of each write, disks are derived that a killed process or a power cut could leave at that
 * moment (settings.h has the models), and each one that was not seen before is recovered and
 * compared with the oracle. Of some of them the recovery is crashed in the same way.
 *
 *     ./run crash [--states N] [--seconds S] [--seed X] [--model P0,..,P9] [--processes P]
 *                 [--only NAME] [--only -NAME] [--program "put 2 40; sync"] [--all-subsets]
 *
 * Everything follows from the seed and the number of processes, unless time runs out. What
 * fails is printed with the command that repeats it, made shorter.
 */
#include "explorer.h"
#include "sequence.h"
#include "test.h"

#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKLOADS_MAX 64u
#define PROCESSES_MAX 64u

struct test_case *test_cases; /* none: the cases are workloads */

/* What a process hands in. */
struct share {
    struct totals totals[WORKLOADS_MAX];
    unsigned sequences[WORKLOADS_MAX];
};

static void add_totals(struct totals *sum, const struct totals *more)
{
    sum->states += more->states;
    sum->unique += more->unique;
    sum->opens += more->opens;
    sum->violations += more->violations;
    sum->runs += more->runs;
    sum->trace += more->trace;
    for (unsigned i = 0; i < MODEL_COUNT; i++)
        sum->models[i] += more->models[i];
    for (unsigned i = 0; i <= NESTED_DEPTH_MAX; i++)
        sum->depths[i] += more->depths[i];
}

/* ---- One program ------------------------------------------------------------------------- */

static void print_command(const struct settings *settings, const struct program *program,
                          enum model model)
{
    printf("    ./run crash --only %s --seed %" PRIu64 " --model P%u%s --program \"",
           program->workload->name, program->seed, (unsigned)model,
           settings->all_subsets ? " --all-subsets" : "");
    program_print(program);
    printf("\"\n");
    fflush(stdout);
}

static void explore_whole(struct tally *tally, const struct program *program)
{
    if ((tally->settings->models & ~(1u << P8)) != 0)
        explore(tally, program);
    if (program->count <= FAULT_PROGRAM_MAX && settings_have(tally->settings, P8) &&
        !is_enough(tally))
        explore_failed_syncs(tally, program);
}

/* The shortest program that shows it, with all that there is to say. */
static void explain(const struct settings *settings, const struct program *program,
                    const struct tally *seen)
{
    struct program shortest = shrink(settings, program, seen);
    struct settings one = *settings;
    struct tally tally = {.settings = &one,
                          .unique_limit = UINT64_MAX,
                          .is_thorough = true,
                          .has_nested = seen->is_nested_violation};

    one.models = 1u << seen->violated;
    printf("The same, made shorter:\n");
    explore_whole(&tally, &shortest);
    seen_free(&tally.seen);
    print_command(settings, &shortest, seen->violated);
    program_free(&shortest);
}

/* The order verifier and assertions end the process: at least say what it was at. */
static const struct program *running_program;

static void tell_what_ran(int number)
{
    (void)number;
    printf("The process ended itself in\n    ./run crash --only %s --seed %" PRIu64
           " --program \"",
           running_program->workload->name, running_program->seed);
    program_print(running_program);
    printf("\"\n");
    fflush(stdout);
}

static void run_program(struct tally *tally, const struct program *program)
{
    running_program = program;
    (void)signal(SIGABRT, tell_what_ran);
    explore_whole(tally, program);
    if (tally->violation[0] != 0)
        explain(tally->settings, program, tally);
    tally->violation[0] = 0;
}

/* ---- One process ------------------------------------------------------------------------- */

struct process {
    const struct settings *settings;
    unsigned number;
    struct tally tally;
    struct share *share;
    unsigned next_sequence[WORKLOADS_MAX];
};

static bool is_done(const struct process *p, uint64_t unique, uint64_t limit)
{
    return unique >= limit || p->tally.is_late ||
           p->tally.totals.violations >= VIOLATIONS_MAX;
}

/* Sequences from where the last round stopped. False: there are no more. */
static bool run_sequences(struct process *p, size_t i)
{
    const struct settings *s = p->settings;
    unsigned *next = &p->next_sequence[i];

    if (*next >= SEQUENCE_COUNT)
        return false;
    while (*next < SEQUENCE_COUNT && !is_enough(&p->tally)) {
        struct program program = sequence_program(&workloads[i], s->seed, *next);

        run_program(&p->tally, &program);
        program_free(&program);
        if (!is_enough(&p->tally))
            p->share->sequences[i]++;
        *next += s->processes;
    }
    return true;
}

/* By a part of its name; or all others, when a minus stands before it. */
static bool is_selected(const struct workload *w, const char *only)
{
    return only[0] == '-' ? strstr(w->name, only + 1) == NULL
                          : strstr(w->name, only) != NULL;
}

static bool run_workload(struct process *p, size_t i, uint64_t round, uint64_t at_once)
{
    const struct workload *w = &workloads[i];
    const struct settings *s = p->settings;
    bool ran = true;

    if (!is_selected(w, s->only))
        return false;
    if (w->kind == SEEDED && (i + round) % s->processes != p->number)
        return true;
    p->tally.totals = (struct totals){.states = 0};
    p->tally.unique_limit = at_once;
    if (w->kind == EXHAUSTIVE) {
        ran = run_sequences(p, i);
    } else {
        struct program program = program_draw(w, s->seed + round);

        run_program(&p->tally, &program);
        program_free(&program);
    }
    add_totals(&p->share->totals[i], &p->tally.totals);
    return ran;
}

/* Every workload in turn, with one seed after the other, until there are enough states. */
static void run_share(struct process *p)
{
    const struct settings *s = p->settings;
    const uint64_t limit = s->states == 0 ? UINT64_MAX : s->states / s->processes + 1;
    const uint64_t quota = s->states == 0 ? 50000 : limit / workload_count + 1;
    uint64_t unique = 0, violations = 0;
    bool ran = true;

    for (uint64_t round = 0; ran && !is_done(p, unique, limit); round++) {
        ran = false;
        for (size_t i = 0; i < workload_count && !is_done(p, unique, limit); i++) {
            const unsigned share = workloads[i].share == 0 ? 100 : workloads[i].share;
            const uint64_t at_once = quota * share / 100 + 1;

            if (run_workload(p, i, round,
                             limit - unique < at_once ? limit - unique : at_once)) {
                ran = true;
                unique += p->tally.totals.unique;
                violations += p->tally.totals.violations;
            }
            p->tally.totals = (struct totals){.violations = violations};
        }
    }
}

static void init_process(struct process *p, const struct settings *settings,
                         unsigned number, double deadline, struct share *share)
{
    *p = (struct process){
        .settings = settings,
        .number = number,
        .tally = {.settings = settings, .deadline = deadline},
        .share = share
    };
    for (size_t i = 0; i < workload_count; i++)
        p->next_sequence[i] = number;
#ifdef M_MMAP_THRESHOLD /* musl has no such thing */
    /* Memory that was given back is wanted again at once. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    (void)mallopt(M_TOP_PAD, 16 << 20);
#endif
}

/* ---- All of them ------------------------------------------------------------------------- */

static pid_t start_process(const struct settings *settings, unsigned number,
                           double deadline, struct share *share, int hashes)
{
    struct process process;
    pid_t child;

    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child != 0)
        return child;
    init_process(&process, settings, number, deadline, share);
    run_share(&process);
    fflush(NULL);
    _exit(seen_write(&process.tally.seen, hashes) ? 0 : 1);
}

/* Two processes may have looked at the same state: count it once. */
static bool run_all(const struct settings *settings, struct share *shares,
                    uint64_t *ret_unique)
{
    const double deadline = settings->seconds > 0 ? now_seconds() + settings->seconds : 0;
    struct seen together = {.slots = NULL};
    pid_t children[PROCESSES_MAX];
    int hashes[PROCESSES_MAX];
    bool good = true;

    for (unsigned i = 0; i < settings->processes; i++) {
        hashes[i] = memfd_create("hashes", 0);
        CHECK(hashes[i] >= 0);
        children[i] = start_process(settings, i, deadline, &shares[i], hashes[i]);
    }
    for (unsigned i = 0; i < settings->processes; i++) {
        int outcome = 0;

        (void)waitpid(children[i], &outcome, 0);
        good = good && WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0 &&
               seen_add(&together, hashes[i]);
        (void)close(hashes[i]);
    }
    *ret_unique = together.count;
    seen_free(&together);
    return good;
}

static void print_workload(size_t i, const struct totals *t, unsigned sequences)
{
    printf("%-20s runs=%" PRIu64 " states=%" PRIu64 " unique=%" PRIu64
           " violations=%" PRIu64,
           workloads[i].name, t->runs, t->states, t->unique, t->violations);
    if (workloads[i].kind == EXHAUSTIVE)
        printf(" sequences=%u of %u", sequences, SEQUENCE_COUNT);
    printf("\n");
}

static void print_totals(const struct totals *sum)
{
    for (unsigned i = 0; i < MODEL_COUNT; i++)
        printf("%sP%u=%" PRIu64, i == 0 ? "models: " : " ", i, sum->models[i]);
    printf("\n");
    for (unsigned i = 0; i <= NESTED_DEPTH_MAX; i++)
        printf("%s%u=%" PRIu64, i == 0 ? "crashes before in recoveries: " : " ", i,
               sum->depths[i]);
    printf("\nopens=%" PRIu64 " trace=%016" PRIx64 "\n", sum->opens, sum->trace);
}

/* Prints a line for each workload, and returns how many went wrong. */
static unsigned print_shares(const struct settings *settings, const struct share *shares,
                             struct totals *ret_sum)
{
    unsigned passed = 0, failed = 0;

    for (size_t i = 0; i < workload_count; i++) {
        struct totals t = {.states = 0};
        unsigned sequences = 0;

        for (unsigned k = 0; k < settings->processes; k++) {
            add_totals(&t, &shares[k].totals[i]);
            sequences += shares[k].sequences[i];
        }
        if (t.runs == 0)
            continue;
        print_workload(i, &t, sequences);
        add_totals(ret_sum, &t);
        passed += t.violations == 0;
        failed += t.violations != 0;
    }
    print_totals(ret_sum);
    printf("%u passed, %u failed\n", passed, failed);
    return failed;
}

static int run_one(const struct settings *settings)
{
    struct program program = {.seed = settings->seed};
    struct tally tally = {.settings = settings,
                          .unique_limit = UINT64_MAX,
                          .is_thorough = true,
                          .has_nested = true};
    const double from = now_seconds();

    for (size_t i = workload_count; i-- > 0;) {
        if (is_selected(&workloads[i], settings->only))
            program.workload = &workloads[i];
    }
    if (program.workload == NULL || !program_parse(&program, settings->program)) {
        fprintf(stderr, "no such workload, or not a program: %s\n", settings->program);
        program_free(&program);
        return 2;
    }
    explore_whole(&tally, &program);
    program_free(&program);
    seen_free(&tally.seen);
    print_totals(&tally.totals);
    printf("states=%" PRIu64 " unique=%" PRIu64 " violations=%" PRIu64 " seconds=%.1f\n",
           tally.totals.states, tally.totals.unique, tally.totals.violations,
           now_seconds() - from);
    return tally.totals.violations > 0;
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct share *shares;
    struct totals sum = {.states = 0};
    uint64_t unique;
    double from;
    unsigned failed;
    bool good;

    if (!settings_parse(&settings, argc, argv))
        return 2;
    if (settings.program != NULL)
        return run_one(&settings);
    from = now_seconds();
    shares = mmap(NULL, settings.processes * sizeof *shares, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shares != MAP_FAILED && workload_count <= WORKLOADS_MAX);
    good = run_all(&settings, shares, &unique);
    failed = print_shares(&settings, shares, &sum);
    if (!good)
        printf("a process died\n");
    printf("states=%" PRIu64 " unique=%" PRIu64 " violations=%" PRIu64 " seconds=%.1f\n",
           sum.states, unique, sum.violations, now_seconds() - from);
    return failed == 0 && good ? 0 : 1;
}
