/* SPDX-License-Identifier: MIT */
/*
 * workloads.h - what is measured: which operation, by how many threads, on which store.
 */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include "generator.h"

#include <stdatomic.h>

#define BENCH_THREADS_MAX 64u

/* One thread of a workload. */
struct bench_actor {
    const struct bench_engine *engine;
    void *session;
    const uint32_t *draws; /* which key comes next */
    uint64_t draw_mask;
    const uint8_t *values;
    uint8_t *buffer; /* for a value that is read */
    size_t value_size;
    uint64_t keys;          /* in the store when the workload began */
    uint64_t first;         /* of the numbers that are this thread's own */
    uint64_t random;        /* for choosing between operations */
    atomic_ullong *inserts; /* new keys of all threads */
};

/* Operation number `i` of this thread. */
typedef void bench_operation(struct bench_actor *actor, uint64_t i);

enum bench_store {
    BENCH_EMPTY, /* a new one, thrown away afterwards */
    BENCH_FILL,  /* a new one with all keys, kept for the next two */
    BENCH_READ,  /* the filled one, which stays as it is */
    BENCH_CHANGE /* the filled one */
};

struct bench_workload {
    const char *name;
    unsigned threads;
    enum bench_durability durability;
    enum bench_store store;
    bench_operation *operation;
    unsigned records;            /* in one operation */
    bench_operation *background; /* what one more thread does meanwhile; or NULL */
    enum bench_distribution distribution;
    /* So many operations as there are keys times this, though no longer than some times a
     * workload that runs for a time, unless it fills; 0: for a time. */
    double rounds;
    bool in_quick; /* runs with --quick */
    bool is_extra; /* runs only when it is named with its threads */
    /* Instead of operations: how long opening takes, after a close or a kill. */
    bool opens, kills;
};

extern const struct bench_workload bench_workloads[];
extern const size_t bench_workload_count;

#endif
