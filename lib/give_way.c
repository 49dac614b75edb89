/* SPDX-License-Identifier: MIT */
#include "give_way.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

/* Longer than a commit takes: it was somebody with much to do. */
#define TURN_NS_MAX UINT64_C(2000000)
#define PAUSE_NS    UINT64_C(50000000)

/* Both are of all stores: what threads share is the processors. */
static atomic_uint awaited_logs;
static _Atomic uint64_t again_ns;

void tkv_give_way_begin(void)
{
    atomic_fetch_add(&awaited_logs, 1);
}

void tkv_give_way_end(void)
{
    atomic_fetch_sub(&awaited_logs, 1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void tkv_give_way(void)
{
    uint64_t from_ns, to_ns;

    if (atomic_load_explicit(&awaited_logs, memory_order_relaxed) == 0)
        return;
    from_ns = now_ns();
    if (from_ns < atomic_load_explicit(&again_ns, memory_order_relaxed))
        return;
    (void)sched_yield();
    to_ns = now_ns();
    if (to_ns - from_ns > TURN_NS_MAX)
        atomic_store_explicit(&again_ns, to_ns + PAUSE_NS, memory_order_relaxed);
}
