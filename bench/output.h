/* SPDX-License-Identifier: MIT */
/* output.h - the results of all runs, as a table for people and as JSON for machines. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "options.h"

#define BENCH_ENGINES_MAX   16u
#define BENCH_WORKLOADS_MAX 64u

struct bench_table {
    struct bench_result results[BENCH_WORKLOADS_MAX][BENCH_ENGINES_MAX][BENCH_RUNS_MAX];
    unsigned counts[BENCH_WORKLOADS_MAX][BENCH_ENGINES_MAX];
    double bare_writes[BENCH_RUNS_MAX]; /* a second, of the bare disk, one each round */
    bool tinykv_failed;                 /* in a run: crashed, or said so */
};

/* Print the medians, and write the files that were asked for. Sorts the table. */
void bench_output(const struct bench_options *o, struct bench_table *table);

#endif
