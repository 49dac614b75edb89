/* SPDX-License-Identifier: MIT */
/*
 * main.c - the benchmark: every workload on every engine, in turns.
 *
 *     tinykv-bench [--quick] [--json FILE] [--only WORKLOAD,...] [--engine ENGINE,...]
 *                  [--keys N] [--value-size BYTES] [--runs N] [--seconds S] [--rate N]
 *                  [--memory-limit BYTES] [--dir DIRECTORY] [--facts FILE]
 *
 * Stores are made in a directory of their own below DIRECTORY, which is removed at the end,
 * however that comes about short of SIGKILL.
 * Engines alternate within a round, and rounds are repeated: what the machine does meanwhile
 * hits all alike. Printed is the median with the extremes. Ratios within one run are what counts:
 * absolute figures move between machines and hours.
 */
#include "child.h"
#include "machine.h"
#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- What a round needs ------------------------------------------------------------------ */

static bool is_any_wanted(const struct bench_options *o, enum bench_store store)
{
    for (size_t i = 0; i < bench_workload_count; i++) {
        if (bench_workloads[i].store == store && bench_is_wanted(o, &bench_workloads[i]))
            return true;
    }
    return false;
}

/* Filling takes longest: it is repeated when it is measured, or when the store was changed. */
static bool must_fill(const struct bench_options *o, const struct bench_workload *w,
                      unsigned round)
{
    const bool is_changed = is_any_wanted(o, BENCH_CHANGE);

    if (round > 0)
        return !o->quick && (bench_is_wanted(o, w) || is_changed);
    return bench_is_wanted(o, w) || is_changed || is_any_wanted(o, BENCH_READ);
}

/* Neighbours that only read share one opened store. */
static size_t group_size(const struct bench_options *o, size_t first)
{
    size_t count = 1;

    if (bench_workloads[first].store != BENCH_READ)
        return 1;
    while (first + count < bench_workload_count &&
           bench_workloads[first + count].store == BENCH_READ &&
           bench_is_wanted(o, &bench_workloads[first + count]))
        count++;
    return count;
}

/* ---- Rounds --------------------------------------------------------------------------------- */

static void run(const struct bench_options *o, struct bench_table *table, size_t first,
                size_t count)
{
    for (size_t e = 0; e < bench_engine_count && !bench_is_interrupted(); e++) {
        struct bench_result results[BENCH_WORKLOADS_MAX];

        if (!bench_is_chosen(o, bench_engines[e]))
            continue;
        memset(results, 0, sizeof results);
        /* A peer that fails is left out. */
        if (!bench_run(&o->settings, bench_engines[e], &bench_workloads[first], count,
                       results) &&
            strncmp(bench_engines[e]->name, "tinykv", 6) == 0)
            table->tinykv_failed = true;
        for (size_t w = first; w < first + count; w++) {
            const unsigned n = table->counts[w][e];

            if (results[w - first].is_valid)
                table->results[w][e][n] = results[w - first], table->counts[w][e]++;
        }
    }
}

static void run_round(const struct bench_options *o, struct bench_table *table,
                      unsigned round)
{
    table->bare_writes[round] =
        bench_bare_writes(o->settings.directory, o->settings.seconds);
    for (size_t i = 0; i < bench_workload_count && !bench_is_interrupted();) {
        const struct bench_workload *w = &bench_workloads[i];
        const size_t count = group_size(o, i);

        if (w->store == BENCH_FILL ? must_fill(o, w, round) : bench_is_wanted(o, w)) {
            run(o, table, i, count);
            i += count;
        } else {
            i++;
        }
    }
}

static void close_file(FILE *file)
{
    if (file != NULL && fclose(file) != 0)
        bench_die("bench", "close a file", strerror(errno));
}

static bool is_empty(const struct bench_table *table)
{
    for (size_t w = 0; w < bench_workload_count; w++) {
        for (size_t e = 0; e < bench_engine_count; e++) {
            if (table->counts[w][e] > 0)
                return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct bench_table table;
    char directory[BENCH_PATH_SIZE];
    struct bench_options o;

    bench_parse(argc, argv, &o);
    bench_catch_interrupts();
    bench_directory_new(o.settings.directory, directory);
    o.settings.directory = directory;
    printf("%" PRIu64
           " keys of %u bytes, values of %zu; medians of %u runs, then extremes\n",
           o.settings.keys, BENCH_KEY_SIZE, o.settings.value_size, o.runs);
    for (unsigned round = 0; round < o.runs && !bench_is_interrupted(); round++)
        run_round(&o, &table, round);
    bench_remove_memory_limit();
    if (bench_is_interrupted()) {
        fprintf(stderr, "bench: interrupted, no results\n");
        return 130;
    }
    bench_output(&o, &table);
    close_file(o.json);
    close_file(o.facts);
    if (fflush(stdout) != 0 || ferror(stdout))
        bench_die("bench", "standard output", strerror(errno));
    return table.tinykv_failed || is_empty(&table) ? 1 : 0;
}
