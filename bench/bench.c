/* SPDX-License-Identifier: MIT */
/*
 * bench.c - what this machine does with TinyKv, beside what it does with bare block writes.
 *
 *     tinykv-bench [--quick] [--json FILE] [--only WORKLOAD] [--dir DIRECTORY] [--runs N]
 *
 * 16-byte keys, 100-byte values. Each workload runs several times on a fresh store, and the
 * median is printed with the extremes; keys are formatted inside the timed loop, which costs
 * about 30 ns. Ratios within one run are what counts: absolute figures move between machines
 * and hours.
 */
#include "tinykv.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEY_SIZE    16u
#define VALUE_SIZE  100u
#define RUNS_MAX    25u
#define THREADS_MAX 64u

struct settings {
    const char *directory, *only;
    FILE *json;
    uint64_t keys;
    unsigned runs;
    double seconds; /* of each durable workload */
};

static void die(const char *what, const struct tkv_error *err)
{
    fprintf(stderr, "tinykv-bench: %s: %s\n", what,
            err != NULL ? err->message : strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Keys that look random, made equally cheaply for every workload. */
static struct tkv_slice make_key(uint64_t number, char out[KEY_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t mixed = number * UINT64_C(0x9e3779b97f4a7c15);

    for (unsigned i = 0; i < KEY_SIZE; i++, mixed >>= 4)
        out[i] = digits[mixed & 15];
    return tkv_bytes(out, KEY_SIZE);
}

/* ---- A store for one run ------------------------------------------------------------------------ */

static void remove_store(const char *path)
{
    char command[1100];

    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0)
        die("remove the last run's store", NULL);
}

static struct tkv_store *open_store(const char *path, enum tkv_durability durability)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;

    options.durability = durability;
    if (tkv_open(path, &options, &store, NULL, &err) != TKV_OK)
        die("open", &err);
    return store;
}

static void close_store(struct tkv_store *store)
{
    struct tkv_error err;

    if (tkv_close(store, &err) != TKV_OK)
        die("close", &err);
}

static void fill(struct tkv_store *store, uint64_t count)
{
    char key[KEY_SIZE], value[VALUE_SIZE];
    struct tkv_error err;

    memset(value, 'v', sizeof value);
    for (uint64_t i = 0; i < count; i++) {
        if (tkv_put(store, make_key(i, key), tkv_bytes(value, sizeof value), &err) !=
            TKV_OK)
            die("put", &err);
    }
}

/* ---- Threads that repeat one operation ------------------------------------------------------------ */

struct worker {
    struct tkv_store *store;
    uint64_t keys, first, operations;
    double until;
    pthread_t thread;
    void (*operate)(struct worker *worker, uint64_t i);
    uint64_t random;
};

static void *work_until(void *argument)
{
    struct worker *w = argument;

    while ((w->operations & 15) != 0 || now() < w->until)
        w->operate(w, w->operations++);
    return NULL;
}

static void *work_count(void *argument)
{
    struct worker *w = argument;

    for (uint64_t i = 0; i < w->operations; i++)
        w->operate(w, i);
    return NULL;
}

static double run_threads(struct worker *prototype, unsigned threads, void *(*work)(void *))
{
    struct worker workers[THREADS_MAX];
    const double started = now();
    uint64_t operations = 0;

    for (unsigned i = 0; i < threads; i++) {
        workers[i] = *prototype;
        workers[i].first = (uint64_t)i << 40;
        workers[i].random = UINT64_C(0x1234567) * (i + 1);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            die("thread", NULL);
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
    }
    return (double)operations / (now() - started);
}

static void operate_put(struct worker *w, uint64_t i)
{
    char key[KEY_SIZE], value[VALUE_SIZE];
    struct tkv_error err;

    memset(value, 'v', sizeof value);
    if (tkv_put(w->store, make_key(w->first + i, key), tkv_bytes(value, sizeof value),
                &err) != TKV_OK)
        die("put", &err);
}

static void operate_get(struct worker *w, uint64_t i)
{
    char key[KEY_SIZE], value[VALUE_SIZE];
    struct tkv_error err;
    size_t size;

    (void)i;
    if (tkv_get(w->store, make_key(random_next(&w->random) % w->keys, key), value,
                sizeof value, &size, &err) != TKV_OK)
        die("get", &err);
}

static void operate_miss(struct worker *w, uint64_t i)
{
    char key[KEY_SIZE], value[VALUE_SIZE];
    size_t size;

    if (tkv_get(w->store, make_key(w->keys + i, key), value, sizeof value, &size, NULL) !=
        TKV_NOT_FOUND)
        die("a missing key was found", NULL);
}

static void operate_multi_get(struct worker *w, uint64_t i)
{
    char bytes[16][KEY_SIZE];
    struct tkv_slice keys[16];
    struct tkv_pin pins[16];
    enum tkv_status statuses[16];
    struct tkv_error err;

    (void)i;
    for (unsigned k = 0; k < 16; k++)
        keys[k] = make_key(random_next(&w->random) % w->keys, bytes[k]);
    if (tkv_multi_get(w->store, keys, 16, pins, statuses, &err) != TKV_OK)
        die("multi-get", &err);
    for (unsigned k = 0; k < 16; k++)
        tkv_unpin(&pins[k]);
}

static void operate_batch(struct worker *w, uint64_t i)
{
    char key[KEY_SIZE], value[VALUE_SIZE];
    struct tkv_batch *batch;
    struct tkv_error err;

    memset(value, 'v', sizeof value);
    if (tkv_batch_new(&batch, &err) != TKV_OK)
        die("batch", &err);
    for (unsigned k = 0; k < 1000; k++) {
        if (tkv_batch_put(batch, make_key(w->first + i * 1000 + k, key),
                          tkv_bytes(value, sizeof value), &err) != TKV_OK)
            die("batch", &err);
    }
    if (tkv_write(w->store, batch, &err) != TKV_OK)
        die("write", &err);
    tkv_batch_free(batch);
}

/* ---- Workloads: one run each, returning operations a second (or seconds for open) ---------------- */

static double durable_puts(const struct settings *s, const char *path, unsigned threads)
{
    struct tkv_store *store = open_store(path, TKV_DURABILITY_ALWAYS);
    struct worker w = {.store = store, .operate = operate_put};
    double rate;

    /* Warm up: let the log grow to what this load needs. */
    w.until = now() + s->seconds / 2;
    (void)run_threads(&w, threads, work_until);
    w.until = now() + s->seconds;
    rate = run_threads(&w, threads, work_until);
    close_store(store);
    return rate;
}

static double put_1(const struct settings *s, const char *p)
{
    return durable_puts(s, p, 1);
}

static double put_4(const struct settings *s, const char *p)
{
    return durable_puts(s, p, 4);
}

static double put_16(const struct settings *s, const char *p)
{
    return durable_puts(s, p, 16);
}

static double put_64(const struct settings *s, const char *p)
{
    return durable_puts(s, p, 64);
}

/* The limit: 4 KiB blocks that were written before, overwritten one after another. */
static double bare_writes(const struct settings *s, const char *path)
{
    const size_t blocks = 4096;
    double started, until;
    uint64_t count = 0;
    char *block = aligned_alloc(4096, 4096);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || block == NULL)
        die("bare file", NULL);
    memset(block, 1, 4096);
    for (size_t i = 0; i < blocks; i++) {
        if (pwrite(fd, block, 4096, (off_t)(i * 4096)) != 4096)
            die("bare write", NULL);
    }
    if (fsync(fd) != 0 || close(fd) != 0)
        die("bare sync", NULL);
    fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    if (fd < 0)
        return 0; /* refused here */
    started = now();
    until = started + s->seconds;
    while ((count & 15) != 0 || now() < until) {
        if (pwrite(fd, block, 4096, (off_t)(count++ % blocks * 4096)) != 4096)
            die("bare write", NULL);
    }
    (void)close(fd);
    free(block);
    return (double)count / (now() - started);
}

static double relaxed_puts(const struct settings *s, const char *path)
{
    struct tkv_store *store = open_store(path, TKV_DURABILITY_NONE);
    struct worker w = {.store = store, .operate = operate_put, .operations = s->keys};
    const double rate = run_threads(&w, 1, work_count);

    close_store(store);
    return rate;
}

static double batches(const struct settings *s, const char *path)
{
    struct tkv_store *store = open_store(path, TKV_DURABILITY_ALWAYS);
    struct worker w = {
        .store = store, .operate = operate_batch, .operations = s->keys / 1000};
    const double rate = run_threads(&w, 1, work_count) * 1000;

    close_store(store);
    return rate;
}

static double reads(const struct settings *s, const char *path, unsigned threads,
                    void (*operate)(struct worker *, uint64_t), unsigned keys_each)
{
    struct tkv_store *store = open_store(path, TKV_DURABILITY_NONE);
    struct worker w = {.store = store, .keys = s->keys, .operate = operate};
    struct tkv_error err;
    double rate;

    fill(store, s->keys);
    if (tkv_checkpoint(store, &err) != TKV_OK)
        die("checkpoint", &err);
    w.operations = s->keys / keys_each;
    (void)run_threads(&w, threads, work_count); /* touch everything once */
    rate = run_threads(&w, threads, work_count) * keys_each;
    close_store(store);
    return rate;
}

static double get_1(const struct settings *s, const char *p)
{
    return reads(s, p, 1, operate_get, 1);
}

static double get_2(const struct settings *s, const char *p)
{
    return reads(s, p, 2, operate_get, 1);
}

static double get_missing(const struct settings *s, const char *p)
{
    return reads(s, p, 1, operate_miss, 1);
}

static double multi_get(const struct settings *s, const char *p)
{
    return reads(s, p, 1, operate_multi_get, 16);
}

static double open_again(const struct settings *s, const char *path)
{
    struct tkv_store *store = open_store(path, TKV_DURABILITY_NONE);
    double started, seconds;

    fill(store, s->keys);
    close_store(store);
    started = now();
    store = open_store(path, TKV_DURABILITY_NONE);
    seconds = now() - started;
    close_store(store);
    return seconds;
}

/* ---- Running and reporting -------------------------------------------------------------------------- */

static const struct workload {
    const char *name, *title, *unit;
    double (*run)(const struct settings *settings, const char *path);
    unsigned threads;
    const char *durability;
} workloads[] = {
    {"bare_write",  "bare 4 KiB O_DIRECT|O_DSYNC writes", "/s", bare_writes,  1,  "always"},
    {"put",         "durable put, 1 thread",              "/s", put_1,        1,  "always"},
    {"put",         "durable put, 4 threads",             "/s", put_4,        4,  "always"},
    {"put",         "durable put, 16 threads",            "/s", put_16,       16, "always"},
    {"put",         "durable put, 64 threads",            "/s", put_64,       64, "always"},
    {"put_batch",   "batch of 1000, durable, records",    "/s", batches,      1,  "always"},
    {"put",         "put, durability none",               "/s", relaxed_puts, 1,  "none"  },
    {"get",         "get, 1 thread",                      "/s", get_1,        1,  "none"  },
    {"get",         "get, 2 threads",                     "/s", get_2,        2,  "none"  },
    {"get_missing", "get, missing key",                   "/s", get_missing,  1,  "none"  },
    {"multi_get",   "multi-get of 16, keys",              "/s", multi_get,    1,  "none"  },
    {"open",        "open after close",                   "s",  open_again,   1,  "none"  },
};

static int by_value(const void *left, const void *right)
{
    const double l = *(const double *)left, r = *(const double *)right;

    return l < r ? -1 : l > r;
}

static void report(const struct settings *s, const struct workload *w, const double *sorted)
{
    const double median = sorted[s->runs / 2];
    const bool is_rate = w->unit[0] == '/';

    printf(is_rate ? "%-36s %12.0f %-3s %12.0f .. %.0f\n"
                   : "%-36s %12.3f %-3s %12.3f .. %.3f\n",
           w->title, median, w->unit, sorted[0], sorted[s->runs - 1]);
    fflush(stdout);
    if (s->json != NULL)
        fprintf(
            s->json,
            "{\"engine\":\"tinykv\",\"workload\":\"%s\",\"threads\":%u,\"keys\":%" PRIu64
            ",\"value_size\":%u,\"durability\":\"%s\",\"%s\":%.6g}\n",
            w->name, w->threads, s->keys, VALUE_SIZE, w->durability,
            is_rate ? "ops_per_second" : "seconds", median);
}

static void run_workload(const struct settings *s, const struct workload *w)
{
    double values[RUNS_MAX];
    char path[1024];

    snprintf(path, sizeof path, "%s/store", s->directory);
    for (unsigned i = 0; i < s->runs; i++) {
        values[i] = w->run(s, path);
        remove_store(path);
    }
    qsort(values, s->runs, sizeof values[0], by_value);
    report(s, w, values);
}

static void parse(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {
        {"quick", no_argument,       NULL, 'q'},
        {"json",  required_argument, NULL, 'j'},
        {"only",  required_argument, NULL, 'o'},
        {"dir",   required_argument, NULL, 'd'},
        {"runs",  required_argument, NULL, 'r'},
        {NULL,    0,                 NULL, 0  }
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'q') {
            s->runs = 3;
            s->seconds = 0.5;
        } else if (option == 'j') {
            s->json = fopen(optarg, "w");
            if (s->json == NULL)
                die(optarg, NULL);
        } else if (option == 'o') {
            s->only = optarg;
        } else if (option == 'd') {
            s->directory = optarg;
        } else if (option == 'r' && atoi(optarg) >= 1 && atoi(optarg) <= (int)RUNS_MAX) {
            s->runs = (unsigned)atoi(optarg);
        } else {
            fprintf(stderr, "usage: tinykv-bench [--quick] [--json FILE] [--only WORKLOAD] "
                            "[--dir DIRECTORY] [--runs 1..25]\n");
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct settings s = {.keys = 1000000, .runs = 5, .seconds = 1};
    char temporary[] = "/var/tmp/tinykv-bench-XXXXXX";

    parse(argc, argv, &s);
    if (s.directory == NULL)
        s.directory = mkdtemp(temporary);
    if (s.directory == NULL || (mkdir(s.directory, 0700) != 0 && errno != EEXIST))
        die("bench directory", NULL);
    printf("%s\n%" PRIu64
           " keys of %u bytes, values of %u; medians of %u runs, then extremes\n",
           tkv_build_info(), s.keys, KEY_SIZE, VALUE_SIZE, s.runs);
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        if (s.only == NULL || strcmp(s.only, workloads[i].name) == 0)
            run_workload(&s, &workloads[i]);
    }
    if (s.directory == temporary)
        (void)rmdir(temporary);
    if (s.json != NULL && fclose(s.json) != 0)
        die("json file", NULL);
    return 0;
}
