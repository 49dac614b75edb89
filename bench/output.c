/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static int by_rate(const void *left, const void *right)
{
    const struct bench_result *l = left, *r = right;

    return l->operations_per_second < r->operations_per_second
               ? -1
               : l->operations_per_second > r->operations_per_second;
}

static int by_number(const void *left, const void *right)
{
    const double l = *(const double *)left, r = *(const double *)right;

    return l < r ? -1 : l > r;
}

static void write_json(FILE *json, const struct bench_settings *s,
                       const struct bench_workload *w, const struct bench_engine *engine,
                       const struct bench_result *sorted, unsigned count)
{
    const struct bench_result *r = &sorted[count / 2];

    fprintf(json,
            "{\"engine\":\"%s\",\"workload\":\"%s\",\"threads\":%u,\"keys\":%" PRIu64
            ",\"value_size\":%zu,\"durability\":\"%s\",\"ops_per_second\":%.6g,"
            "\"p50_us\":%.6g,\"p99_us\":%.6g,\"p999_us\":%.6g,\"max_us\":%.6g,"
            "\"disk_bytes\":%" PRIu64 ",\"device_bytes\":%" PRIu64
            ",\"rss_bytes\":%" PRIu64,
            engine->name, w->name, w->threads, s->keys, s->value_size,
            w->durability == BENCH_ALWAYS ? "always" : "none", r->operations_per_second,
            r->p50_us, r->p99_us, r->p999_us, r->max_us, r->disk_bytes, r->device_bytes,
            r->rss_bytes);
    fprintf(json,
            ",\"operations\":%" PRIu64
            ",\"runs\":%u,\"ops_least\":%.6g,\"ops_most\":%.6g,\"memory_limit\":%" PRIu64,
            r->operations, count, sorted[0].operations_per_second,
            sorted[count - 1].operations_per_second, s->memory_limit);
    if (w->opens)
        fprintf(json, ",\"seconds\":%.6g", r->seconds);
    fputs("}\n", json);
}

static bool is_unsafe(const struct bench_workload *w, const struct bench_engine *engine)
{
    return w->durability == BENCH_NONE && w->store != BENCH_READ &&
           engine->none_caveat != NULL;
}

static void print_row(const struct bench_workload *w, const struct bench_engine *engine,
                      const struct bench_result *sorted, unsigned count)
{
    const struct bench_result *r = &sorted[count / 2];

    if (w->opens)
        printf("  %-15s %10.4f s   %10.4f .. %-10.4f", engine->name, r->seconds,
               sorted[count - 1].seconds, sorted[0].seconds);
    else
        printf("  %-15s %10.0f /s  %10.0f .. %-10.0f p50 %8.2f  p99 %8.2f  p99.9 %8.2f us",
               engine->name, r->operations_per_second, sorted[0].operations_per_second,
               sorted[count - 1].operations_per_second, r->p50_us, r->p99_us, r->p999_us);
    printf("  disk %6.0f MB  rss %5.0f MB%s\n", (double)r->disk_bytes / 1e6,
           (double)r->rss_bytes / 1e6, is_unsafe(w, engine) ? "  (unsafe)" : "");
}

static unsigned most_runs(const unsigned *counts)
{
    unsigned most = 0;

    for (size_t e = 0; e < bench_engine_count; e++)
        most = counts[e] > most ? counts[e] : most;
    return most;
}

/* What was not run as often as the first line says is told. */
static void print_heading(const struct bench_options *o, const struct bench_workload *w,
                          unsigned runs)
{
    printf("\n%s, %u thread%s, durability %s", w->name, w->threads,
           w->threads == 1 ? "" : "s", w->durability == BENCH_ALWAYS ? "always" : "none");
    if (runs != o->runs)
        printf(", %u run%s", runs, runs == 1 ? "" : "s");
    if (w->records > 1)
        printf(", %u records a call", w->records);
    putchar('\n');
}

static void output_workload(const struct bench_options *o, struct bench_table *table,
                            size_t number)
{
    const struct bench_workload *w = &bench_workloads[number];

    print_heading(o, w, most_runs(table->counts[number]));
    for (size_t e = 0; e < bench_engine_count; e++) {
        struct bench_result *results = table->results[number][e];
        const unsigned count = table->counts[number][e];

        if (count == 0)
            continue;
        qsort(results, count, sizeof *results, by_rate);
        print_row(w, bench_engines[e], results, count);
        if (o->json != NULL)
            write_json(o->json, &o->settings, w, bench_engines[e], results, count);
    }
}

static void output_facts(const struct bench_options *o, double *bare_writes)
{
    qsort(bare_writes, o->runs, sizeof *bare_writes, by_number);
    printf("\nbare 4 KiB O_DIRECT|O_DSYNC writes, no store: %.0f /s  %.0f .. %.0f\n",
           bare_writes[o->runs / 2], bare_writes[0], bare_writes[o->runs - 1]);
    if (o->facts != NULL)
        fprintf(o->facts,
                "{\"fact\":\"bare_writes\",\"per_second\":%.6g,\"least\":%.6g,"
                "\"most\":%.6g}\n",
                bare_writes[o->runs / 2], bare_writes[0], bare_writes[o->runs - 1]);
    for (size_t e = 0; e < bench_engine_count; e++) {
        const struct bench_engine *engine = bench_engines[e];
        const char *caveat = engine->none_caveat != NULL ? engine->none_caveat : "";

        if (!bench_is_chosen(o, engine))
            continue;
        printf("%-15s %s%s%s\n", engine->name, engine->settings,
               *caveat != 0 ? "; without syncing: " : "", caveat);
        if (o->facts != NULL)
            fprintf(o->facts,
                    "{\"fact\":\"engine\",\"engine\":\"%s\",\"settings\":\"%s\","
                    "\"caveat\":\"%s\"}\n",
                    engine->name, engine->settings, caveat);
    }
}

/* Which may be no file that can be emptied. */
static void begin_file(FILE *file)
{
    if (file != NULL)
        (void)!ftruncate(fileno(file), 0);
}

void bench_output(const struct bench_options *o, struct bench_table *table)
{
    begin_file(o->json);
    begin_file(o->facts);
    for (size_t w = 0; w < bench_workload_count; w++) {
        if (bench_is_wanted(o, &bench_workloads[w]))
            output_workload(o, table, w);
    }
    output_facts(o, table->bare_writes);
}
