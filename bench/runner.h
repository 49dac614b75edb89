/* SPDX-License-Identifier: MIT */
/*
 * runner.h - one run of one workload on one engine, in a process of its own: memory that one
 * run leaves behind cannot help or hinder the next, and a run that dies does not end the rest.
 */
#ifndef BENCH_RUNNER_H
#define BENCH_RUNNER_H

#include "workloads.h"

struct bench_settings {
    const char *directory; /* stores are made in it */
    uint64_t keys;
    size_t value_size;
    double seconds; /* of a workload that runs for a time */
    double rate;    /* operations a second that are due (open loop); 0: closed loop */
    uint64_t memory_limit; /* bytes, page cache included; 0: none */
};

struct bench_result {
    bool is_valid;
    double operations_per_second; /* records, where an operation has several */
    double seconds;               /* of opening */
    double p50_us, p99_us, p999_us, max_us;
    uint64_t operations;
    uint64_t disk_bytes, device_bytes, rss_bytes;
};

/* Run `count` workloads one after the other on one opened store; more than one only if all are
 * BENCH_READ. False, after a message, when a process did not end well. */
bool bench_run(const struct bench_settings *settings, const struct bench_engine *engine,
               const struct bench_workload *workloads, size_t count,
               struct bench_result *ret_results);

#endif
