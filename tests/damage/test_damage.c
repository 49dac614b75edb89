/* SPDX-License-Identifier: MIT */
/*
 * Damage: whatever happens to the bytes of a store, a read gives what was written or an error.
 *
 * Small stores that have every kind of file and record (sample.h) are damaged in every way that
 * wound.h knows, one wound at a time, and each is opened, read, verified, compacted, written,
 * closed and opened again (examine.h). What must be there nevertheless follows from the bytes
 * that are still whole (evidence.h).
 *
 *     test_damage [--bits N] [--seed X] [--only SAMPLE:KIND:NUMBER] [--processes P]
 *                 [--verbose 1]
 *
 * Without --bits every bit and every length; with it, so many bits drawn by the seed, and all
 * lengths of small files. The number of a wound follows from the seed, and --only repeats it.
 */
#include "sweep.h"
#include "test.h"

#include <malloc.h>
#include <time.h>

struct test_case *test_cases; /* none: the cases are wounds */

static const struct recipe {
    const char *name;
    enum tkv_durability durability;
    bool is_closed;
} recipes[] = {
    {"always-closed", TKV_DURABILITY_ALWAYS, true },
    {"always-killed", TKV_DURABILITY_ALWAYS, false},
    {"none-closed",   TKV_DURABILITY_NONE,   true },
    {"none-killed",   TKV_DURABILITY_NONE,   false},
};

#define SAMPLES (sizeof recipes / sizeof recipes[0])

/* ---- What the samples are made of ------------------------------------------------------------- */

static const char *const part_names[PART_KINDS] = {
    "headers", "puts",       "deletes",      "large",   "values", "tables",
    "groups",  "old_groups", "stale_groups", "entries", "footers"};

struct census {
    size_t kinds[PART_KINDS], compressed, expiring, compacted_puts, compacted_deletes;
    size_t batches, quarantined;
};

static void count_parts(const struct sample_file *file, struct census *census)
{
    for (size_t i = 0; i < file->parts.count; i++) {
        const struct part *part = &file->parts.items[i];

        census->kinds[part->kind]++;
        census->compressed += part->is_compressed;
        census->expiring += part->is_expiring;
        census->compacted_puts += part->is_compacted && part->kind == PART_PUT;
        census->compacted_deletes += part->is_compacted && part->kind == PART_DELETE;
        census->batches += part->kind == PART_GROUP && part->count > 1;
    }
}

static void describe(const struct sample *sample, struct census *all)
{
    struct census census = {.batches = 0};

    for (size_t i = 0; i < sample->image.count; i++) {
        all->quarantined += strncmp(sample->image.files[i].name, "quarantine/", 11) == 0;
        count_parts(&sample->image.files[i], &census);
        count_parts(&sample->image.files[i], all);
    }
    printf("%-14s %zu files, %zu bytes, %zu writes, %zu moments;", sample->name,
           sample->image.count, sample_bytes(sample), sample->oracle->issued,
           sample->moment_count);
    for (unsigned kind = 0; kind < PART_KINDS; kind++)
        printf(" %s=%zu", part_names[kind], census.kinds[kind]);
    printf(" compressed=%zu expiring=%zu compacted=%zu,%zu batches=%zu\n",
           census.compressed, census.expiring, census.compacted_puts,
           census.compacted_deletes, census.batches);
}

/* A sweep over stores that lack something would prove less than it says. */
static void check_census(const struct census *census)
{
    for (unsigned kind = 0; kind < PART_KINDS; kind++)
        CHECK(census->kinds[kind] > 0);
    CHECK(census->compressed > 0 && census->expiring > 0 && census->batches > 0);
    CHECK(census->compacted_puts > 0 && census->compacted_deletes > 0);
    CHECK(census->kinds[PART_GROUP] > 6 && census->quarantined > 0);
}

/* ---- Results ------------------------------------------------------------------------------------ */

static void print_totals(struct sample *const *samples, const struct sweep_totals *totals)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        for (unsigned kind = 0; kind < WOUND_KINDS; kind++) {
            const uint64_t *outcomes = totals->outcomes[i][kind];
            uint64_t sum = 0;

            for (unsigned o = 0; o < OUTCOMES; o++)
                sum += outcomes[o];
            if (sum == 0)
                continue;
            printf("%-14s %-9s %8" PRIu64, samples[i]->name, wound_names[kind], sum);
            for (unsigned o = 0; o < OUTCOMES; o++)
                printf(" %s=%" PRIu64, outcome_names[o], outcomes[o]);
            printf("\n");
        }
    }
    printf("%" PRIu64 " stores opened once and were refused later\n",
           totals->later_refused);
    if (totals->with_gaps > 0)
        printf("%" PRIu64
               " refused stores open with gaps; of %u keys each, %.1f have a certain "
               "answer and %.1f a value to save\n",
               totals->with_gaps, ORACLE_KEYS,
               (double)totals->certain_keys / (double)totals->with_gaps,
               (double)totals->salvaged_keys / (double)totals->with_gaps);
}

/* ---- The program ----------------------------------------------------------------------------------- */

static bool parse(int argc, char **argv, struct sweep_options *options)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--bits") == 0)
            options->bits = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            options->seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            options->only = argv[i + 1];
        else if (strcmp(argv[i], "--verbose") == 0)
            options->verbose = strtoul(argv[i + 1], NULL, 10) != 0;
        else if (strcmp(argv[i], "--processes") == 0)
            options->processes = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else
            return false;
    }
    return argc % 2 == 1;
}

static double seconds_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    struct sweep_options options = {.seed = 1, .processes = 2};
    const double begun = seconds_now();
    struct sample *samples[SAMPLES];
    struct census census = {.batches = 0};
    struct sweep_totals totals;

    if (!parse(argc, argv, &options)) {
        fprintf(stderr,
                "usage: %s [--bits N] [--seed X] [--only SAMPLE:KIND:NUMBER] "
                "[--processes P]\n",
                argv[0]);
        return 2;
    }
#ifdef M_MMAP_THRESHOLD /* musl has no such thing */
    /* Blocks of a few hundred kilobytes come and go with each store: keep them. */
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
    for (size_t i = 0; i < SAMPLES; i++) {
        samples[i] = sample_new(recipes[i].name, recipes[i].durability,
                                recipes[i].is_closed, options.seed * SAMPLES + i);
        describe(samples[i], &census);
    }
    check_census(&census);
    sweep_run(samples, SAMPLES, &options, &totals);
    print_totals(samples, &totals);
    for (size_t i = 0; i < SAMPLES; i++)
        sample_free(samples[i]);
    printf("damages=%" PRIu64 " bits=%" PRIu64 " wrong=%" PRIu64 " crashes=%" PRIu64
           " seconds=%.1f\n",
           totals.damages, totals.bits, totals.wrong, totals.crashes,
           seconds_now() - begun);
    return totals.wrong == 0 && totals.crashes == 0 ? 0 : 1;
}
