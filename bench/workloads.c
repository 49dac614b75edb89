/* SPDX-License-Identifier: MIT */
/*
 * workloads.c - YCSB's A, B, C, D and F are those of Cooper et al., "Benchmarking cloud serving
 * systems with YCSB" (SoCC 2010), with one value instead of ten fields.
 */
#include "workloads.h"

#define BATCH_MAX 1000u
#define MULTI     16u

static uint64_t drawn(const struct bench_actor *a, uint64_t i)
{
    return a->draws[i & a->draw_mask];
}

static void put_number(struct bench_actor *a, uint64_t number)
{
    char key[BENCH_KEY_SIZE];

    bench_key(number, key);
    a->engine->put(a->session, key, bench_value(a->values, number), a->value_size);
}

static void get_number(struct bench_actor *a, uint64_t number)
{
    char key[BENCH_KEY_SIZE];

    bench_key(number, key);
    if (!a->engine->get(a->session, key, a->buffer, a->value_size))
        bench_die(a->engine->name, "get", "a key is missing");
}

static void put_next(struct bench_actor *a, uint64_t i)
{
    put_number(a, a->first + i);
}

static void put_batch(struct bench_actor *a, uint64_t i, size_t count)
{
    char keys[BATCH_MAX * BENCH_KEY_SIZE];

    for (size_t k = 0; k < count; k++)
        bench_key(a->first + i * count + k, keys + k * BENCH_KEY_SIZE);
    a->engine->put_batch(a->session, keys, count, bench_value(a->values, i), a->value_size);
}

static void put_batch_100(struct bench_actor *a, uint64_t i)
{
    put_batch(a, i, 100);
}

static void put_batch_1000(struct bench_actor *a, uint64_t i)
{
    put_batch(a, i, 1000);
}

static void overwrite(struct bench_actor *a, uint64_t i)
{
    put_number(a, drawn(a, i));
}

static void get(struct bench_actor *a, uint64_t i)
{
    get_number(a, drawn(a, i));
}

static void get_missing(struct bench_actor *a, uint64_t i)
{
    char key[BENCH_KEY_SIZE];

    bench_key((UINT64_C(1) << 50) + drawn(a, i), key);
    if (a->engine->get(a->session, key, a->buffer, a->value_size))
        bench_die(a->engine->name, "get", "a missing key was found");
}

static void multi_get(struct bench_actor *a, uint64_t i)
{
    char keys[MULTI * BENCH_KEY_SIZE];

    for (unsigned k = 0; k < MULTI; k++)
        bench_key(drawn(a, i * MULTI + k), keys + k * BENCH_KEY_SIZE);
    if (a->engine->multi_get != NULL) {
        if (a->engine->multi_get(a->session, keys, MULTI, a->buffer, a->value_size) !=
            MULTI)
            bench_die(a->engine->name, "multi-get", "a key is missing");
        return;
    }
    for (unsigned k = 0; k < MULTI; k++) {
        if (!a->engine->get(a->session, keys + k * BENCH_KEY_SIZE, a->buffer,
                            a->value_size))
            bench_die(a->engine->name, "get", "a key is missing");
    }
}

/* In the order of the puts. */
static void delete_next(struct bench_actor *a, uint64_t i)
{
    char key[BENCH_KEY_SIZE];

    bench_key(a->first + i, key);
    a->engine->remove(a->session, key);
}

/* In an order of its own, the keys' number being no multiple of the prime: whoever follows the
 * order of the puts finds them together. */
static void delete_any(struct bench_actor *a, uint64_t i)
{
    delete_next(a, i * UINT64_C(2654435761) % a->keys);
}

/* ---- YCSB ------------------------------------------------------------------------------ */

static bool chance(struct bench_actor *a, unsigned percent)
{
    return (bench_random(&a->random) >> 20) % 100 < percent;
}

static void ycsb_a(struct bench_actor *a, uint64_t i)
{
    if (chance(a, 50))
        overwrite(a, i);
    else
        get(a, i);
}

static void ycsb_b(struct bench_actor *a, uint64_t i)
{
    if (chance(a, 5))
        overwrite(a, i);
    else
        get(a, i);
}

/* The hottest keys are the newest. */
static void ycsb_d(struct bench_actor *a, uint64_t i)
{
    const uint64_t inserted = atomic_load_explicit(a->inserts, memory_order_acquire);

    if (chance(a, 5)) {
        put_number(a, a->keys + inserted);
        atomic_store_explicit(a->inserts, inserted + 1, memory_order_release);
    } else {
        get_number(a, a->keys + inserted - 1 - drawn(a, i));
    }
}

static void ycsb_f(struct bench_actor *a, uint64_t i)
{
    get(a, i);
    if (chance(a, 50))
        overwrite(a, i);
}

/* ---- The table --------------------------------------------------------------------------- */

#define U BENCH_UNIFORM
#define Z BENCH_ZIPF
#define S BENCH_ALWAYS
#define N BENCH_NONE

/* Those that only read follow each other, first those of --quick: see group_size() in main.c. */
/* clang-format off */
const struct bench_workload bench_workloads[] = {
    {"put",                 1, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, true,  false, false, false},
    {"put",                 2, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, false, true,  false, false},
    {"put",                 4, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, true,  false, false, false},
    {"put",                 8, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, false, true,  false, false},
    {"put",                16, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, true,  false, false, false},
    {"put",                32, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, false, true,  false, false},
    {"put",                64, S, BENCH_EMPTY,  put_next,       1,    NULL,      U, 0, true,  false, false, false},
    {"put_batch_100",       1, S, BENCH_EMPTY,  put_batch_100,  100,  NULL,      U, 0, false, false, false, false},
    {"put_batch",           1, S, BENCH_EMPTY,  put_batch_1000, 1000, NULL,      U, 0, false, false, false, false},
    {"put_batch_100",       1, N, BENCH_EMPTY,  put_batch_100,  100,  NULL,      U, 0, false, false, false, false},
    {"put_batch",           1, N, BENCH_EMPTY,  put_batch_1000, 1000, NULL,      U, 0, false, false, false, false},
    {"put",                 1, N, BENCH_FILL,   put_next,       1,    NULL,      U, 1, true,  false, false, false},
    {"get",                 1, N, BENCH_READ,   get,            1,    NULL,      U, 0, true,  false, false, false},
    {"get",                 2, N, BENCH_READ,   get,            1,    NULL,      U, 0, true,  false, false, false},
    {"get_missing",         1, N, BENCH_READ,   get_missing,    1,    NULL,      U, 0, true,  false, false, false},
    {"multi_get",           1, N, BENCH_READ,   multi_get,      16,   NULL,      U, 0, true,  false, false, false},
    {"get",                 4, N, BENCH_READ,   get,            1,    NULL,      U, 0, false, false, false, false},
    {"get_missing",         2, N, BENCH_READ,   get_missing,    1,    NULL,      U, 0, false, false, false, false},
    {"get_missing",         4, N, BENCH_READ,   get_missing,    1,    NULL,      U, 0, false, false, false, false},
    {"ycsb_c",              1, N, BENCH_READ,   get,            1,    NULL,      Z, 0, false, false, false, false},
    {"ycsb_c",              2, N, BENCH_READ,   get,            1,    NULL,      Z, 0, false, false, false, false},
    {"open_after_close",    1, N, BENCH_CHANGE, get,            1,    NULL,      U, 0, false, false, true,  false},
    {"open_after_kill",     1, N, BENCH_CHANGE, get,            1,    NULL,      U, 0, false, false, true,  true},
    {"read_while_writing",  1, N, BENCH_CHANGE, get,            1,    overwrite, U, 0, false, false, false, false},
    {"ycsb_a",              1, N, BENCH_CHANGE, ycsb_a,         1,    NULL,      Z, 0, false, false, false, false},
    {"ycsb_a",              2, N, BENCH_CHANGE, ycsb_a,         1,    NULL,      Z, 0, false, false, false, false},
    {"ycsb_b",              1, N, BENCH_CHANGE, ycsb_b,         1,    NULL,      Z, 0, false, false, false, false},
    {"ycsb_b",              2, N, BENCH_CHANGE, ycsb_b,         1,    NULL,      Z, 0, false, false, false, false},
    {"ycsb_d",              1, N, BENCH_CHANGE, ycsb_d,         1,    NULL,      BENCH_LATEST, 0, false, false, false, false},
    {"ycsb_f",              1, N, BENCH_CHANGE, ycsb_f,         1,    NULL,      Z, 0, false, false, false, false},
    {"overwrite",           1, N, BENCH_CHANGE, overwrite,      1,    NULL,      U, 2, false, false, false, false},
    {"overwrite_zipf",      1, N, BENCH_CHANGE, overwrite,      1,    NULL,      Z, 2, false, false, false, false},
    {"delete",              1, N, BENCH_CHANGE, delete_next,    1,    NULL,      U, 1, false, false, false, false},
    {"delete_any",          1, N, BENCH_CHANGE, delete_any,     1,    NULL,      U, 1, false, true,  false, false},
};
/* clang-format on */

const size_t bench_workload_count = sizeof bench_workloads / sizeof bench_workloads[0];
