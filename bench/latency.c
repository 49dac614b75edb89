/* SPDX-License-Identifier: MIT */
/* latency.c - values below 64 ns have a bucket each; above, 64 for each power of two. */
#include "latency.h"

#include <sys/prctl.h>
#include <time.h>

static unsigned bucket_of(uint64_t ns)
{
    unsigned power;

    if (ns < 64)
        return (unsigned)ns;
    power = 63 - (unsigned)__builtin_clzll(ns); /* at least 6 */
    power = power < 44 ? power : 44;
    return (power - 5) * 64 + (unsigned)((ns >> (power - 6)) & 63);
}

static uint64_t highest_in(unsigned bucket)
{
    const unsigned power = bucket / 64 + 5;

    if (bucket < 64)
        return bucket;
    return ((UINT64_C(64) + bucket % 64 + 1) << (power - 6)) - 1;
}

void bench_latency_add(struct bench_latency *latency, uint64_t ns)
{
    latency->counts[bucket_of(ns)]++;
    latency->count++;
    if (ns > latency->max_ns)
        latency->max_ns = ns;
}

void bench_latency_merge(struct bench_latency *into, const struct bench_latency *from)
{
    for (unsigned i = 0; i < BENCH_LATENCY_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

double bench_latency_quantile_us(const struct bench_latency *latency, double share)
{
    const uint64_t wanted = (uint64_t)(share * (double)latency->count);
    uint64_t seen = 0;

    for (unsigned i = 0; i < BENCH_LATENCY_BUCKETS; i++) {
        seen += latency->counts[i];
        if (seen > wanted || (seen == latency->count && seen > 0)) {
            const uint64_t ns = highest_in(i);

            return (double)(ns < latency->max_ns ? ns : latency->max_ns) / 1000;
        }
    }
    return 0;
}

uint64_t bench_now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_until_ns(uint64_t due_ns)
{
    const struct timespec t = {(time_t)(due_ns / 1000000000u),
                               (long)(due_ns % 1000000000u)};

    (void)prctl(PR_SET_TIMERSLACK, 1); /* instead of 50 us */
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
