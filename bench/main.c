/* SPDX-License-Identifier: MIT */
/*
 * main.c - the benchmark: every workload on every engine, in turns.
 *
 *     tinykv-bench [--quick] [--json FILE] [--only WORKLOAD] [--engine ENGINE] [--keys N]
 *                  [--value-size BYTES] [--runs N] [--seconds S] [--rate N]
 *                  [--memory-limit BYTES] [--dir DIRECTORY]
 *
 * Engines alternate within a round, and rounds are repeated: what the machine does meanwhile
 * hits all alike. Printed is the median with the extremes. Ratios within one run are what counts:
 * absolute figures move between machines and hours.
 */
#include "machine.h"
#include "runner.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUNS_MAX      25u
#define ENGINES_MAX   16u
#define WORKLOADS_MAX 64u

struct options {
    struct bench_settings settings;
    const char *only, *engine;
    FILE *json;
    unsigned runs;
    bool quick;
};

struct table {
    struct bench_result results[WORKLOADS_MAX][ENGINES_MAX][RUNS_MAX];
    unsigned counts[WORKLOADS_MAX][ENGINES_MAX];
    double bare_writes;
};

/* ---- What is asked for ------------------------------------------------------------------------ */

static bool is_wanted(const struct options *o, const struct bench_workload *w)
{
    return (!o->quick || w->in_quick) && (o->only == NULL || strcmp(o->only, w->name) == 0);
}

/* Others need the store that this one fills. */
static bool is_needed(const struct options *o, size_t workload)
{
    if (bench_workloads[workload].store != BENCH_FILL)
        return false;
    for (size_t i = workload + 1; i < bench_workload_count; i++) {
        if (is_wanted(o, &bench_workloads[i]))
            return true;
    }
    return false;
}

static bool is_chosen(const struct options *o, const struct bench_engine *engine)
{
    if (o->engine != NULL)
        return strcmp(o->engine, engine->name) == 0;
    /* Nobody chooses it for speed any more, and it takes long. */
    return !o->quick || strcmp(engine->name, "berkeleydb") != 0;
}

/* ---- Rounds --------------------------------------------------------------------------------------- */

static void run(const struct options *o, struct table *table, size_t first, size_t count)
{
    for (size_t e = 0; e < bench_engine_count; e++) {
        struct bench_result results[WORKLOADS_MAX];

        if (!is_chosen(o, bench_engines[e]))
            continue;
        memset(results, 0, sizeof results);
        bench_run(&o->settings, bench_engines[e], &bench_workloads[first], count, results);
        for (size_t w = first; w < first + count; w++) {
            const unsigned n = table->counts[w][e];

            if (results[w - first].is_valid)
                table->results[w][e][n] = results[w - first], table->counts[w][e]++;
        }
    }
}

/* Neighbours that only read share one opened store. */
static size_t group_size(const struct options *o, size_t first)
{
    size_t count = 1;

    if (bench_workloads[first].store != BENCH_READ)
        return 1;
    while (first + count < bench_workload_count &&
           bench_workloads[first + count].store == BENCH_READ &&
           is_wanted(o, &bench_workloads[first + count]))
        count++;
    return count;
}

static void run_round(const struct options *o, struct table *table, unsigned round)
{
    for (size_t w = 0; w < bench_workload_count;) {
        const bool fills = bench_workloads[w].store == BENCH_FILL;
        size_t count = 1;

        if (is_wanted(o, &bench_workloads[w]) || is_needed(o, w)) {
            count = group_size(o, w);
            /* Filling takes longest, and in a quick run the store stays as it is. */
            if (!(fills && o->quick && round > 0))
                run(o, table, w, count);
        }
        w += count;
    }
}

/* ---- Reporting -------------------------------------------------------------------------------------- */

static int by_rate(const void *left, const void *right)
{
    const struct bench_result *l = left, *r = right;

    return l->operations_per_second < r->operations_per_second
               ? -1
               : l->operations_per_second > r->operations_per_second;
}

static void write_json(FILE *json, const struct options *o, const struct bench_workload *w,
                       const struct bench_engine *engine, const struct bench_result *r)
{
    fprintf(json,
            "{\"engine\":\"%s\",\"workload\":\"%s\",\"threads\":%u,\"keys\":%" PRIu64
            ",\"value_size\":%zu,\"durability\":\"%s\",\"ops_per_second\":%.6g,"
            "\"p50_us\":%.6g,\"p99_us\":%.6g,\"p999_us\":%.6g,\"max_us\":%.6g,"
            "\"disk_bytes\":%" PRIu64 ",\"device_bytes\":%" PRIu64
            ",\"rss_bytes\":%" PRIu64,
            engine->name, w->name, w->threads, o->settings.keys, o->settings.value_size,
            w->durability == BENCH_ALWAYS ? "always" : "none", r->operations_per_second,
            r->p50_us, r->p99_us, r->p999_us, r->max_us, r->disk_bytes, r->device_bytes,
            r->rss_bytes);
    if (w->opens)
        fprintf(json, ",\"seconds\":%.6g", r->seconds);
    fputs("}\n", json);
}

static void print_row(const struct bench_workload *w, const struct bench_engine *engine,
                      const struct bench_result *sorted, unsigned count)
{
    const struct bench_result *r = &sorted[count / 2];

    if (w->opens)
        printf("  %-12s %10.4f s   %10.4f .. %-10.4f", engine->name, r->seconds,
               sorted[count - 1].seconds, sorted[0].seconds);
    else
        printf("  %-12s %10.0f /s  %10.0f .. %-10.0f p50 %8.2f  p99 %8.2f  p99.9 %8.2f us",
               engine->name, r->operations_per_second, sorted[0].operations_per_second,
               sorted[count - 1].operations_per_second, r->p50_us, r->p99_us, r->p999_us);
    printf("  disk %6.0f MB  rss %5.0f MB%s\n", (double)r->disk_bytes / 1e6,
           (double)r->rss_bytes / 1e6,
           w->durability == BENCH_NONE && w->store != BENCH_READ &&
                   engine->none_caveat != NULL
               ? "  (unsafe)"
               : "");
}

static void report(const struct options *o, struct table *table)
{
    for (size_t w = 0; w < bench_workload_count; w++) {
        const struct bench_workload *workload = &bench_workloads[w];

        if (!is_wanted(o, workload))
            continue;
        printf("\n%s, %u thread%s, durability %s\n", workload->name, workload->threads,
               workload->threads == 1 ? "" : "s",
               workload->durability == BENCH_ALWAYS ? "always" : "none");
        for (size_t e = 0; e < bench_engine_count; e++) {
            struct bench_result *results = table->results[w][e];
            const unsigned count = table->counts[w][e];

            if (count == 0)
                continue;
            qsort(results, count, sizeof *results, by_rate);
            print_row(workload, bench_engines[e], results, count);
            if (o->json != NULL)
                write_json(o->json, o, workload, bench_engines[e], &results[count / 2]);
        }
    }
    printf("\nbare 4 KiB O_DIRECT|O_DSYNC writes, no store: %.0f /s\n", table->bare_writes);
    for (size_t e = 0; e < bench_engine_count; e++) {
        if (is_chosen(o, bench_engines[e]))
            printf("%-12s %s%s%s\n", bench_engines[e]->name, bench_engines[e]->settings,
                   bench_engines[e]->none_caveat != NULL ? "; none: " : "",
                   bench_engines[e]->none_caveat != NULL ? bench_engines[e]->none_caveat
                                                         : "");
    }
}

/* ---- Arguments ---------------------------------------------------------------------------------------- */

static _Noreturn void usage(void)
{
    fprintf(stderr,
            "usage: tinykv-bench [--quick] [--json FILE] [--only WORKLOAD] [--engine "
            "ENGINE]\n"
            "                    [--keys N] [--value-size BYTES] [--runs 1..%u] "
            "[--seconds S]\n"
            "                    [--rate OPS] [--memory-limit BYTES] [--dir DIRECTORY]\n",
            RUNS_MAX);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    const double value = strtod(text, &end);

    if (*text == 0 || *end != 0 || value < least || value > most)
        usage();
    return value;
}

static void set_option(struct options *o, int option, const char *argument)
{
    struct bench_settings *s = &o->settings;

    switch (option) {
    case 'q':
        o->quick = true;
        o->runs = 3;
        s->seconds = 0.3;
        break;
    case 'j':
        o->json = fopen(argument, "we");
        if (o->json == NULL)
            bench_die("bench", argument, strerror(errno));
        break;
    case 'o':
        o->only = argument;
        break;
    case 'e':
        o->engine = argument;
        break;
    case 'd':
        s->directory = argument;
        break;
    case 'k':
        s->keys = (uint64_t)number(argument, 1000, 4e9);
        break;
    case 'v':
        s->value_size = (size_t)number(argument, 0, 64e6);
        break;
    case 'r':
        o->runs = (unsigned)number(argument, 1, RUNS_MAX);
        break;
    case 's':
        s->seconds = number(argument, 0.01, 3600);
        break;
    case 'R':
        s->rate = number(argument, 0, 1e9);
        break;
    case 'm':
        s->memory_limit = (uint64_t)number(argument, 0, 1e15);
        break;
    default:
        usage();
    }
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"quick",        no_argument,       NULL, 'q'},
        {"json",         required_argument, NULL, 'j'},
        {"only",         required_argument, NULL, 'o'},
        {"engine",       required_argument, NULL, 'e'},
        {"dir",          required_argument, NULL, 'd'},
        {"keys",         required_argument, NULL, 'k'},
        {"value-size",   required_argument, NULL, 'v'},
        {"runs",         required_argument, NULL, 'r'},
        {"seconds",      required_argument, NULL, 's'},
        {"rate",         required_argument, NULL, 'R'},
        {"memory-limit", required_argument, NULL, 'm'},
        {NULL,           0,                 NULL, 0  }
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(o, option, optarg);
    if (optind != argc)
        usage();
}

int main(int argc, char **argv)
{
    struct options o = {
        .settings = {.keys = 1000000, .value_size = 100, .seconds = 1},
          .runs = 5
    };
    char temporary[] = "/var/tmp/tinykv-bench-XXXXXX";
    static struct table table;

    parse(argc, argv, &o);
    if (o.settings.directory == NULL)
        o.settings.directory = mkdtemp(temporary);
    if (o.settings.directory == NULL ||
        (mkdir(o.settings.directory, 0700) != 0 && errno != EEXIST))
        bench_die("bench", "directory", strerror(errno));
    printf("%" PRIu64
           " keys of %u bytes, values of %zu; medians of %u runs, then extremes\n",
           o.settings.keys, BENCH_KEY_SIZE, o.settings.value_size, o.runs);
    table.bare_writes = bench_bare_writes(o.settings.directory, o.settings.seconds);
    for (unsigned round = 0; round < o.runs; round++)
        run_round(&o, &table, round);
    report(&o, &table);
    if (o.settings.directory == temporary)
        bench_remove(temporary);
    if (o.json != NULL && fclose(o.json) != 0)
        bench_die("bench", "json", strerror(errno));
    return 0;
}
