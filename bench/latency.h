/* SPDX-License-Identifier: MIT */
/*
 * latency.h - a histogram of durations, log-linear like HdrHistogram: 64 buckets for each
 * power of two, so that a quantile is right to 1.6 %.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

#define BENCH_LATENCY_BUCKETS (64u * 40)

struct bench_latency {
    uint64_t counts[BENCH_LATENCY_BUCKETS];
    uint64_t count, max_ns;
};

void bench_latency_add(struct bench_latency *latency, uint64_t ns);
void bench_latency_merge(struct bench_latency *into, const struct bench_latency *from);
/* The duration in microseconds that `share` (0 to 1) of all do not exceed; 0 without any. */
double bench_latency_quantile_us(const struct bench_latency *latency, double share);

uint64_t bench_now_ns(void);
/* Sleep until then; about as exact as a switch of threads. */
void bench_sleep_until_ns(uint64_t due_ns);

#endif
