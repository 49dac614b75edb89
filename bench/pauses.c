/* SPDX-License-Identifier: MIT */
/*
 * pauses.c - how long durable puts take while the compactor runs without a pause, over time.
 *
 *     bench_pauses DIRECTORY [KEYS [VALUE_SIZE [SECONDS [THREADS]]]]
 *
 * Overwrites random keys in three ways: as fast as the threads go, while another thread calls
 * tkv_compact() again and again ("closed"); the same at half of that rate, each thread's puts due
 * at fixed times and timed from when they were due, whatever delayed them ("open"); and so
 * without any compaction ("idle"). One JSON object for each window of 100 ms, then one for each
 * way. A put belongs to the window in which it was due.
 */
#include "generator.h"
#include "latency.h"
#include "machine.h"
#include "tinykv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_NS   UINT64_C(100000000)
#define WINDOWS_MAX 600u
#define THREADS_MAX 64u
#define IDLE_NS     UINT64_C(100000) /* when there was nothing to compact */

struct scene {
    const char *directory;
    uint64_t keys, seconds;
    size_t value_size;
    unsigned threads;
    struct tkv_store *store;
    uint8_t *values;
    uint32_t *draws;
    uint64_t draw_mask;
};

struct writer {
    struct scene *scene;
    uint64_t number, begin_ns, end_ns, interval_ns; /* interval 0: without a rate */
    uint64_t puts;
    struct bench_latency *windows; /* of this thread */
    pthread_t id;
};

struct compactor {
    struct scene *scene;
    atomic_bool stop;
    pthread_t id;
};

static void check(enum tkv_status status, const struct tkv_error *err)
{
    if (status != TKV_OK)
        bench_die("bench_pauses", "failed", err->message);
}

static void *must(void *memory)
{
    if (memory == NULL)
        bench_die("bench_pauses", "begin", "no memory");
    return memory;
}

static void open_store(struct scene *scene, enum tkv_durability durability, bool compacts)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_error err;

    options.durability = durability;
    options.auto_compact = compacts;
    check(tkv_open(scene->directory, &options, &scene->store, NULL, &err), &err);
}

static void close_store(struct scene *scene)
{
    struct tkv_error err;

    check(tkv_close(scene->store, &err), &err);
}

static void put(struct scene *scene, uint64_t number, uint64_t version)
{
    struct tkv_error err;
    char key[BENCH_KEY_SIZE];

    bench_key(number, key);
    check(
        tkv_put(scene->store, tkv_bytes(key, BENCH_KEY_SIZE),
                tkv_bytes(bench_value(scene->values, number + version), scene->value_size),
                &err),
        &err);
}

/* ---- Threads ----------------------------------------------------------------------------- */

static void *write_all(void *argument)
{
    struct writer *w = argument;
    struct scene *scene = w->scene;
    /* Threads do not act in step. */
    uint64_t due_ns = w->begin_ns + w->interval_ns * w->number / scene->threads;

    while (due_ns < w->end_ns) {
        if (bench_now_ns() < due_ns)
            bench_sleep_until_ns(due_ns);
        put(scene, scene->draws[(w->number * 65536 + w->puts) & scene->draw_mask], w->puts);
        w->puts++;
        bench_latency_add(&w->windows[(due_ns - w->begin_ns) / WINDOW_NS],
                          bench_now_ns() - due_ns);
        due_ns = w->interval_ns != 0 ? due_ns + w->interval_ns : bench_now_ns();
    }
    return NULL;
}

static void *compact_all(void *argument)
{
    struct compactor *c = argument;
    struct tkv_error err;
    uint64_t reclaimed;

    while (!atomic_load(&c->stop)) {
        check(tkv_compact(c->scene->store, &reclaimed, &err), &err);
        if (reclaimed == 0)
            bench_sleep_until_ns(bench_now_ns() + IDLE_NS);
    }
    return NULL;
}

/* ---- One way ------------------------------------------------------------------------------- */

static uint64_t compacted_bytes(struct scene *scene)
{
    struct tkv_stats stats;
    struct tkv_error err;

    check(tkv_stats(scene->store, &stats, &err), &err);
    return stats.compaction_bytes_read + stats.compaction_bytes_written;
}

static void print_latency(const struct bench_latency *latency)
{
    printf(",\"puts\":%llu,\"p50_us\":%.6g,\"p99_us\":%.6g,\"p999_us\":%.6g,"
           "\"max_us\":%.6g",
           (unsigned long long)latency->count, bench_latency_quantile_us(latency, 0.5),
           bench_latency_quantile_us(latency, 0.99),
           bench_latency_quantile_us(latency, 0.999), (double)latency->max_ns / 1000);
}

static void print_windows(const char *way, const struct scene *scene,
                          const struct writer *writers, unsigned windows,
                          const uint64_t *compacted)
{
    struct bench_latency *window = must(malloc(sizeof *window));
    struct bench_latency *all = must(calloc(1, sizeof *all));
    const double seconds = (double)scene->seconds;

    for (unsigned i = 0; i < windows; i++) {
        memset(window, 0, sizeof *window);
        for (unsigned t = 0; t < scene->threads; t++)
            bench_latency_merge(window, &writers[t].windows[i]);
        bench_latency_merge(all, window);
        printf("{\"way\":\"%s\",\"at_ms\":%u", way, i * 100);
        print_latency(window);
        printf(",\"compacted_bytes\":%llu}\n",
               (unsigned long long)(compacted[i + 1] - compacted[i]));
    }
    printf("{\"way\":\"%s\",\"threads\":%u,\"keys\":%llu,\"value_size\":%zu,"
           "\"seconds\":%.3g,\"puts_per_second\":%.6g,\"due_per_second\":%.6g",
           way, scene->threads, (unsigned long long)scene->keys, scene->value_size, seconds,
           (double)all->count / seconds,
           writers->interval_ns != 0 ? scene->threads * 1e9 / (double)writers->interval_ns
                                     : 0);
    print_latency(all);
    printf(",\"compacted_bytes\":%llu}\n",
           (unsigned long long)(compacted[windows] - compacted[0]));
    fflush(stdout);
    free(window);
    free(all);
}

/* Returns how many puts there were in a second. */
static double run_way(struct scene *scene, const char *way, bool compacts, double rate)
{
    const unsigned windows = (unsigned)(scene->seconds * 1000000000u / WINDOW_NS);
    struct writer *writers = must(calloc(scene->threads, sizeof *writers));
    uint64_t compacted[WINDOWS_MAX + 1], puts = 0, begin_ns;
    struct compactor compactor = {.scene = scene};

    open_store(scene, TKV_DURABILITY_ALWAYS, compacts);
    if (compacts && pthread_create(&compactor.id, NULL, compact_all, &compactor) != 0)
        bench_die("bench_pauses", "begin", "no thread");
    begin_ns = bench_now_ns() + WINDOW_NS;
    for (unsigned i = 0; i < scene->threads; i++) {
        writers[i] = (struct writer){
            .scene = scene,
            .number = i,
            .begin_ns = begin_ns,
            .end_ns = begin_ns + windows * WINDOW_NS,
            .interval_ns = rate > 0 ? (uint64_t)(1e9 * scene->threads / rate) : 0,
            .windows = must(calloc(windows, sizeof *writers->windows)),
        };
        if (pthread_create(&writers[i].id, NULL, write_all, &writers[i]) != 0)
            bench_die("bench_pauses", "begin", "no thread");
    }
    for (unsigned i = 0; i <= windows; i++) {
        bench_sleep_until_ns(begin_ns + i * WINDOW_NS);
        compacted[i] = compacted_bytes(scene);
    }
    for (unsigned i = 0; i < scene->threads; i++)
        (void)pthread_join(writers[i].id, NULL), puts += writers[i].puts;
    atomic_store(&compactor.stop, true);
    if (compacts)
        (void)pthread_join(compactor.id, NULL);
    close_store(scene);
    print_windows(way, scene, writers, windows, compacted);
    for (unsigned i = 0; i < scene->threads; i++)
        free(writers[i].windows);
    free(writers);
    return (double)puts / (double)scene->seconds;
}

/* ---- All ways --------------------------------------------------------------------------------- */

static uint64_t argument_or(char **argv, int argc, int number, uint64_t otherwise)
{
    return argc > number ? strtoull(argv[number], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    char directory[BENCH_PATH_SIZE];
    struct scene scene;
    double rate;

    if (argc < 2 || argc > 6) {
        fprintf(stderr, "usage: bench_pauses DIRECTORY [KEYS [VALUE_SIZE [SECONDS "
                        "[THREADS]]]]\n");
        return 2;
    }
    scene = (struct scene){
        .directory = directory,
        .keys = argument_or(argv, argc, 2, 1000000),
        .value_size = argument_or(argv, argc, 3, 100),
        .seconds = argument_or(argv, argc, 4, 10),
        .threads = (unsigned)argument_or(argv, argc, 5, 16),
    };
    if (scene.keys == 0 || scene.seconds == 0 || scene.seconds > WINDOWS_MAX / 10 ||
        scene.threads == 0 || scene.threads > THREADS_MAX)
        bench_die("bench_pauses", "arguments", "out of range");
    scene.values = bench_values_new(scene.value_size);
    scene.draw_mask = bench_draw_count(scene.keys) - 1;
    scene.draws = bench_draw(BENCH_UNIFORM, scene.keys, scene.draw_mask + 1, 3);
    bench_directory_new(argv[1], directory);
    open_store(&scene, TKV_DURABILITY_NONE, true);
    for (uint64_t i = 0; i < scene.keys; i++)
        put(&scene, i, 0);
    close_store(&scene);
    rate = run_way(&scene, "closed", true, 0);
    (void)run_way(&scene, "open", true, rate / 2);
    (void)run_way(&scene, "idle", false, rate / 2);
    free(scene.draws);
    free(scene.values);
    return 0;
}
