/* SPDX-License-Identifier: MIT */
#include "sweep.h"

#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPORTS_MAX     30u
#define HANG_SECONDS    5 /* of processor time, for what takes a millisecond */
#define SMALL_FILE_SIZE 2048u
/* Of larger files a quick sweep tries the lengths at the ends of sectors, and every so manyth. */
#define LENGTH_STEP     61u
#define SECTOR_SIZE     512u

/* One kind of wound of one sample. */
struct job {
    size_t sample;
    enum wound_kind kind;
    uint64_t count; /* of numbers */
    uint64_t draws; /* numbers drawn at random instead of all; 0: all */
    size_t memory_max;
};

/* Where a process is, and what it has found: shared with the parent. */
struct progress {
    size_t job;
    uint64_t at;
    bool is_done;
    unsigned reports;
    struct sweep_totals totals;
};

struct sweep {
    struct sample *const *samples;
    size_t count;
    const struct sweep_options *options;
    struct job jobs[SWEEP_SAMPLES_MAX * WOUND_KINDS];
    size_t job_count;
    struct progress *progress;
};

/* ---- Choosing --------------------------------------------------------------------------- */

/* A part of "a:b:c" equals `name`, or there is no such part. */
static bool is_wanted(const char *only, const char *sample, const char *kind,
                      const char **ret_number)
{
    char text[128], *save = NULL;
    bool good = true;

    *ret_number = NULL;
    if (only == NULL)
        return true;
    snprintf(text, sizeof text, "%s", only);
    for (char *word = strtok_r(text, ":", &save); word != NULL;
         word = strtok_r(NULL, ":", &save)) {
        if (word[0] >= '0' && word[0] <= '9')
            *ret_number = only + (word - text);
        else
            good = good && (strcmp(word, sample) == 0 || strcmp(word, kind) == 0);
    }
    return good;
}

static void plan(struct sweep *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const size_t memory_max = examine_memory(s->samples[i]);

        for (unsigned kind = 0; kind < WOUND_KINDS; kind++) {
            const char *number;
            struct job *job = &s->jobs[s->job_count];

            if (!is_wanted(s->options->only, s->samples[i]->name, wound_names[kind],
                           &number))
                continue;
            *job = (struct job){.sample = i,
                                .kind = (enum wound_kind)kind,
                                .memory_max = memory_max,
                                .count = wound_count(s->samples[i], (enum wound_kind)kind)};
            if (kind == WOUND_BIT)
                job->draws = s->options->bits / s->count;
            s->job_count++;
        }
    }
}

/* False: this one is left out. */
static bool number_at(const struct sweep *s, const struct job *job, uint64_t at,
                      uint64_t *ret_number)
{
    const char *only_number;

    (void)is_wanted(s->options->only, "", "", &only_number);
    *ret_number = job->draws == 0
                      ? at
                      : sample_mix(s->options->seed +
                                   sample_mix(at * SWEEP_SAMPLES_MAX + job->sample)) %
                            job->count;
    if (only_number != NULL) {
        *ret_number = strtoull(only_number, NULL, 10);
        return at == 0;
    }
    return true;
}

static bool is_skipped(const struct sweep *s, const struct sample *sample,
                       const struct wound *w)
{
    if (s->options->bits == 0 || w->kind != WOUND_TRUNCATE ||
        sample->image.files[w->file].size <= SMALL_FILE_SIZE)
        return false;
    return w->size % LENGTH_STEP != 0 && (w->size + 1) % SECTOR_SIZE > 2;
}

/* ---- A process ------------------------------------------------------------------------------ */

static void report(const struct sweep *s, struct progress *p, const struct job *job,
                   const struct wound *w, const struct verdict *v)
{
    const struct sample *sample = s->samples[job->sample];

    if (p->reports++ >= REPORTS_MAX)
        return;
    printf("WRONG %s: %s: %s\n    ./run damage --seed %" PRIu64 " --only %s:%s:%" PRIu64
           "\n",
           sample->image.files[w->file].name, w->text, v->text, s->options->seed,
           sample->name, wound_names[job->kind], w->number);
    fflush(stdout);
}

static void explain(const struct sweep *s, const struct sample *sample,
                    const struct wound *w, const struct verdict *v)
{
    const char *number;

    (void)is_wanted(s->options->only, "", "", &number);
    if (number != NULL || s->options->verbose)
        printf("%s: %s: %s%s %s\n", sample->image.files[w->file].name, w->text,
               outcome_names[v->outcome], v->later_refused ? ", later refused" : "",
               v->text);
}

static void do_one(const struct sweep *s, struct progress *p, const struct job *job,
                   uint64_t number)
{
    const struct itimerval patience = {.it_value.tv_sec = HANG_SECONDS};
    const struct sample *sample = s->samples[job->sample];
    const struct sample *other = s->samples[(job->sample + 1) % s->count];
    struct verdict verdict;
    struct wound wound;

    if (wound_make(sample, other, job->kind, number, &wound) &&
        !is_skipped(s, sample, &wound)) {
        (void)setitimer(ITIMER_VIRTUAL, &patience, NULL);
        examine(sample, &wound, job->memory_max, &verdict);
        p->totals.damages++;
        p->totals.bits += job->kind == WOUND_BIT;
        p->totals.wrong += verdict.outcome == OUTCOME_WRONG;
        p->totals.later_refused += verdict.later_refused;
        p->totals.with_gaps += verdict.has_gaps;
        p->totals.certain_keys += verdict.certain_keys;
        p->totals.salvaged_keys += verdict.salvaged_keys;
        p->totals.outcomes[job->sample][job->kind][verdict.outcome]++;
        if (verdict.outcome == OUTCOME_WRONG)
            report(s, p, job, &wound, &verdict);
        explain(s, sample, &wound, &verdict);
    }
    wound_release(&wound);
}

/* From where the progress says, in steps of the number of processes. */
static void work(const struct sweep *s, struct progress *p, unsigned process)
{
    for (; p->job < s->job_count; p->job++, p->at = process) {
        const struct job *job = &s->jobs[p->job];
        const uint64_t end = job->draws == 0 ? job->count : job->draws;

        for (; p->at < end; p->at += s->options->processes) {
            uint64_t number;

            if (number_at(s, job, p->at, &number))
                do_one(s, p, job, number);
        }
    }
    p->is_done = true;
}

/* ---- The parent -------------------------------------------------------------------------------- */

static pid_t start(const struct sweep *s, unsigned process)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        work(s, &s->progress[process], process);
        fflush(NULL);
        _exit(0);
    }
    return pid;
}

/* The case that killed its process is not tried again. */
static void note_crash(const struct sweep *s, struct progress *p, int status)
{
    const struct job *job = &s->jobs[p->job];
    uint64_t number;

    p->totals.crashes++;
    p->totals.damages++;
    (void)number_at(s, job, p->at, &number);
    printf("CRASH by signal %d (%s)\n    ./run damage --seed %" PRIu64
           " --only %s:%s:%" PRIu64 "\n",
           WIFSIGNALED(status) ? WTERMSIG(status) : 0,
           WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit", s->options->seed,
           s->samples[job->sample]->name, wound_names[job->kind], number);
    p->at += s->options->processes;
}

static void add_totals(struct sweep_totals *to, const struct sweep_totals *from)
{
    to->damages += from->damages;
    to->bits += from->bits;
    to->wrong += from->wrong;
    to->crashes += from->crashes;
    to->later_refused += from->later_refused;
    to->with_gaps += from->with_gaps;
    to->certain_keys += from->certain_keys;
    to->salvaged_keys += from->salvaged_keys;
    for (size_t i = 0; i < SWEEP_SAMPLES_MAX; i++) {
        for (size_t kind = 0; kind < WOUND_KINDS; kind++) {
            for (size_t o = 0; o < OUTCOMES; o++)
                to->outcomes[i][kind][o] += from->outcomes[i][kind][o];
        }
    }
}

static void watch(struct sweep *s)
{
    const unsigned processes = s->options->processes;
    pid_t pids[16];

    CHECK(processes >= 1 && processes <= 16);
    for (unsigned i = 0; i < processes; i++) {
        s->progress[i].at = i;
        pids[i] = start(s, i);
    }
    for (unsigned i = 0; i < processes; i++) {
        int status;

        while (waitpid(pids[i], &status, 0) == pids[i] && !s->progress[i].is_done) {
            note_crash(s, &s->progress[i], status);
            pids[i] = start(s, i);
        }
    }
}

void sweep_run(struct sample *const *samples, size_t count,
               const struct sweep_options *options, struct sweep_totals *ret_totals)
{
    const size_t size = options->processes * sizeof(struct progress);
    struct sweep s = {.samples = samples, .count = count, .options = options};

    CHECK(count <= SWEEP_SAMPLES_MAX);
    plan(&s);
    s.progress =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s.progress != MAP_FAILED);
    watch(&s);
    memset(ret_totals, 0, sizeof *ret_totals);
    for (unsigned i = 0; i < options->processes; i++)
        add_totals(ret_totals, &s.progress[i].totals);
    (void)munmap(s.progress, size);
}
