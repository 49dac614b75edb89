/* SPDX-License-Identifier: MIT */
/* options.h - what a run of the benchmark is asked for. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "runner.h"

#include <stdio.h>

#define BENCH_RUNS_MAX 25u

struct bench_options {
    struct bench_settings settings;
    const char *only;    /* workloads, separated by commas; NULL: all but the extra ones */
    const char *engines; /* the same */
    const char *json_path, *facts_path; /* or NULL */
    FILE *json, *facts; /* likewise; emptied when there is something to write */
    unsigned runs;
    bool quick;
};

/* Exits when the arguments are not understood. */
void bench_parse(int argc, char **argv, struct bench_options *ret_options);

bool bench_is_wanted(const struct bench_options *o, const struct bench_workload *w);
bool bench_is_chosen(const struct bench_options *o, const struct bench_engine *engine);

#endif
