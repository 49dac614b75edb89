/* SPDX-License-Identifier: MIT */
/*
 * bench_index - what one call of the index costs, in nanoseconds, with random 16-byte keys in
 * random order.
 *
 *     bench_index [keys] [presize: 0 or 1] [threads]
 *
 * Every figure is the median of five runs. Each thread does its share of the keys; "ns/op" is
 * elapsed time by operations of one thread. Another thread exists even when one works, so
 * that the C library's short cuts for single-threaded programs do not flatter the locks.
 */
#include "index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define RUNS        5
#define KEY_SIZE    16u
#define THREADS_MAX 64

enum operation {
    INSERT,
    HIT,
    FIND_MANY,
    MISS,
    MISS_MANY,
    UPDATE,
    MOVE,
    STEP,
    REMOVE,
    OPERATIONS
};

static const char *const names[OPERATIONS] = {"insert (reserve + put)",
                                              "find, hit",
                                              "find_many, hit",
                                              "find, miss",
                                              "find_many, miss",
                                              "update (reserve + put)",
                                              "move",
                                              "step, per key",
                                              "remove"};

struct bench {
    struct tkv_index *index;
    uint8_t *keys;    /* in the order of insertion */
    uint8_t *present; /* the same keys, shuffled */
    uint8_t *absent;
    size_t count;
    size_t threads;
    enum operation operation;
    uint64_t worst_ns; /* of one insert */
};

struct share {
    struct bench *bench;
    size_t from, to;
    pthread_t thread;
};

static atomic_uint_least64_t sink;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static struct tkv_slice key_at(const uint8_t *keys, size_t i)
{
    return tkv_bytes(keys + i * KEY_SIZE, KEY_SIZE);
}

static void put(struct bench *b, struct tkv_slice key, uint64_t place)
{
    const struct tkv_location location = {place, 144, 7, 0};
    const uint64_t hash = tkv_index_hash(b->index, key);
    struct tkv_location old;

    if (tkv_index_reserve(b->index, key, hash, false, NULL) != TKV_OK)
        abort();
    tkv_index_put(b->index, key, hash, &location, &old);
}

static uint64_t find_many(struct bench *b, const uint8_t *from, size_t count)
{
    struct tkv_location location;
    struct tkv_slice keys[16];
    uint64_t hashes[16], guess, sum = 0;

    for (size_t i = 0; i + 16 <= count; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            keys[j] = key_at(from, i + j);
            hashes[j] = tkv_index_hash(b->index, keys[j]);
            tkv_index_prefetch(b->index, hashes[j]);
        }
        for (size_t j = 0; j < 16; j++)
            (void)tkv_index_peek(b->index, hashes[j], &guess);
        for (size_t j = 0; j < 16; j++)
            sum += tkv_index_find(b->index, keys[j], hashes[j], &location) ? location.place
                                                                           : 1;
    }
    return sum;
}

static uint64_t step_all(struct bench *b)
{
    struct tkv_index_cursor cursor = {0, 0, false};
    struct tkv_index_page page = {0};
    uint64_t sum = 0;

    while (!cursor.done) {
        if (tkv_index_step(b->index, &cursor, &page, NULL) != TKV_OK)
            abort();
        sum += page.count;
    }
    tkv_index_page_release(&page);
    return sum;
}

static uint64_t one(struct bench *b, enum operation operation, size_t i)
{
    const struct tkv_slice present = key_at(b->present, i);
    const struct tkv_slice absent = key_at(b->absent, i);
    struct tkv_location location = {0};

    switch (operation) {
    case INSERT:
        put(b, key_at(b->keys, i), tkv_place(1, 0, 0));
        break;
    case UPDATE:
        put(b, present, tkv_place(2, 0, 0));
        break;
    case MOVE:
        tkv_index_move(b->index, tkv_index_hash(b->index, present), tkv_place(2, 0, 0),
                       tkv_place(3, 0, 0));
        break;
    case REMOVE:
        tkv_index_remove(b->index, present, tkv_index_hash(b->index, present), &location);
        break;
    case MISS:
        tkv_index_find(b->index, absent, tkv_index_hash(b->index, absent), &location);
        break;
    default:
        tkv_index_find(b->index, present, tkv_index_hash(b->index, present), &location);
        break;
    }
    return location.place;
}

static void *work(void *argument)
{
    struct share *share = argument;
    struct bench *b = share->bench;
    uint64_t sum = 0;

    if (b->operation == FIND_MANY)
        sum = find_many(b, b->present + share->from * KEY_SIZE, share->to - share->from);
    else if (b->operation == MISS_MANY)
        sum = find_many(b, b->absent + share->from * KEY_SIZE, share->to - share->from);
    else if (b->operation == STEP)
        sum = step_all(b);
    else
        for (size_t i = share->from; i < share->to; i++)
            sum += one(b, b->operation, i);
    sink += sum;
    return NULL;
}

static double run(struct bench *b, enum operation operation)
{
    struct share shares[THREADS_MAX];
    const uint64_t begin = now_ns();

    b->operation = operation;
    for (size_t i = 0; i < b->threads; i++) {
        shares[i] = (struct share){b, b->count * i / b->threads,
                                   b->count * (i + 1) / b->threads, pthread_self()};
        if (pthread_create(&shares[i].thread, NULL, work, &shares[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < b->threads; i++)
        pthread_join(shares[i].thread, NULL);
    return (double)(now_ns() - begin) / (double)(b->count / b->threads);
}

/* The longest of all inserts, apart from the other figures: looking at the clock costs. */
static uint64_t worst_insert(struct bench *b)
{
    uint64_t worst = 0, before = now_ns();

    for (size_t i = 0; i < b->count; i++) {
        uint64_t after;

        put(b, key_at(b->keys, i), tkv_place(1, 0, 0));
        after = now_ns();
        if (after - before > worst)
            worst = after - before;
        before = after;
    }
    return worst;
}

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static bool make_keys(struct bench *b)
{
    const size_t size = b->count * KEY_SIZE;
    uint64_t seed = 1;

    b->keys = malloc(size);
    b->present = malloc(size);
    b->absent = malloc(size);
    if (b->keys == NULL || b->present == NULL || b->absent == NULL)
        return false;
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t present = next_random(&seed), absent = next_random(&seed);

        memcpy(b->keys + i, &present, 8);
        memcpy(b->absent + i, &absent, 8);
    }
    memcpy(b->present, b->keys, size);
    for (size_t i = b->count - 1; i > 0; i--) {
        uint8_t *left = b->present + i * KEY_SIZE, saved[KEY_SIZE];
        uint8_t *right = b->present + next_random(&seed) % (i + 1) * KEY_SIZE;

        memcpy(saved, left, KEY_SIZE);
        memmove(left, right, KEY_SIZE);
        memcpy(right, saved, KEY_SIZE);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    const size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const bool presize = argc > 2 && strcmp(argv[2], "0") != 0;
    double results[OPERATIONS][RUNS];
    double per_key = 0;

    b.count = count;
    b.threads = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    if (b.count == 0 || b.threads < 1 || b.threads > THREADS_MAX)
        return 2;
    if (!make_keys(&b))
        return 1;
    for (int r = 0; r < RUNS; r++) {
        if (tkv_index_new(42, presize ? b.count : 0, &b.index, NULL) != TKV_OK)
            return 1;
        for (enum operation o = INSERT; o < OPERATIONS; o++) {
            results[o][r] = run(&b, o);
            if (o == STEP)
                per_key =
                    (double)tkv_index_bytes(b.index) / (double)tkv_index_count(b.index);
        }
        tkv_index_free(b.index);
    }
    if (tkv_index_new(42, presize ? b.count : 0, &b.index, NULL) != TKV_OK)
        return 1;
    b.worst_ns = worst_insert(&b);
    tkv_index_free(b.index);

    printf("%zu keys of %u bytes, %s, %zu thread%s\n", b.count, KEY_SIZE,
           presize ? "presized" : "not presized", b.threads, b.threads == 1 ? "" : "s");
    for (enum operation o = INSERT; o < OPERATIONS; o++) {
        qsort(results[o], RUNS, sizeof results[o][0], compare);
        printf("  %-24s %7.1f ns/op\n", names[o], results[o][RUNS / 2]);
    }
    printf("  %-24s %7.1f us\n", "worst insert", (double)b.worst_ns / 1000);
    printf("  %-24s %7.1f bytes\n", "memory per key", per_key);
    free(b.keys);
    free(b.present);
    free(b.absent);
    return 0;
}
