/* SPDX-License-Identifier: MIT */
/*
 * opening.c - how cost grows with the number of keys: time to open after a close and after
 * SIGKILL, memory, and what a put and a get cost.
 *
 *     bench_opening DIRECTORY KEYS [RUNS [VALUE_SIZE]]
 *
 * One JSON object. Every step runs in a process of its own and is repeated; times are medians.
 * An open ends with its first get. Before a kill one key in KILL_SHARE is written again, so that
 * the log has something to replay.
 */
#include "generator.h"
#include "latency.h"
#include "machine.h"
#include "tinykv.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_SHARE     50u
#define MEMORY_A_KEY   400u /* index, record and page cache */
#define RUNS_MAX       25u
#define OPERATIONS_MAX UINT64_C(1000000) /* of a cost that is measured */

/* Shared with the processes that measure. */
struct figures {
    double fill_ns, put_ns[RUNS_MAX], get_ns[RUNS_MAX], index_bytes_per_key;
    double close_seconds[RUNS_MAX], kill_seconds[RUNS_MAX];
    uint64_t rss_bytes, records_replayed;
};

struct scene {
    const char *directory;
    uint64_t keys;
    unsigned runs;
    size_t value_size;
    struct tkv_store *store;
    uint8_t *values;
    uint8_t *buffer;
    struct figures *figures;
};

static struct tkv_error err;

static void check(enum tkv_status status)
{
    if (status != TKV_OK)
        bench_die("bench_opening", "failed", err.message);
}

static void open_store(struct scene *scene, struct tkv_open_report *ret_report)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = TKV_DURABILITY_NONE;
    check(tkv_open(scene->directory, &options, &scene->store, ret_report, &err));
}

static void put(struct scene *scene, uint64_t number)
{
    char key[BENCH_KEY_SIZE];

    bench_key(number, key);
    check(tkv_put(scene->store, tkv_bytes(key, BENCH_KEY_SIZE),
                  tkv_bytes(bench_value(scene->values, number), scene->value_size), &err));
}

static void get(struct scene *scene, uint64_t number)
{
    char key[BENCH_KEY_SIZE];
    size_t size;

    bench_key(number, key);
    check(tkv_get(scene->store, tkv_bytes(key, BENCH_KEY_SIZE), scene->buffer,
                  scene->value_size, &size, &err));
}

/* ---- Steps ------------------------------------------------------------------------------- */

typedef void step(struct scene *scene, unsigned run);

static void fill(struct scene *scene, unsigned run)
{
    uint64_t begun_ns;

    (void)run;
    open_store(scene, NULL);
    begun_ns = bench_now_ns();
    for (uint64_t i = 0; i < scene->keys; i++)
        put(scene, i);
    scene->figures->fill_ns = (double)(bench_now_ns() - begun_ns) / (double)scene->keys;
    check(tkv_close(scene->store, &err));
}

static double cost_ns(struct scene *scene, void (*operation)(struct scene *, uint64_t),
                      const uint32_t *draws, uint64_t from)
{
    const uint64_t count = scene->keys < OPERATIONS_MAX ? scene->keys : OPERATIONS_MAX;
    const uint64_t mask = bench_draw_count(scene->keys) - 1, begun_ns = bench_now_ns();

    for (uint64_t i = 0; i < count; i++)
        operation(scene, draws[(from + i) & mask]);
    return (double)(bench_now_ns() - begun_ns) / (double)count;
}

static void measure_costs(struct scene *scene, unsigned run)
{
    uint32_t *draws =
        bench_draw(BENCH_UNIFORM, scene->keys, bench_draw_count(scene->keys), 7);
    struct tkv_stats stats;

    (void)run;
    open_store(scene, NULL);
    for (uint64_t i = 0; i < scene->keys; i++)
        get(scene, i); /* maps and touches everything */
    for (unsigned r = 0; r < scene->runs; r++)
        scene->figures->get_ns[r] = cost_ns(scene, get, draws, r * OPERATIONS_MAX);
    for (unsigned r = 0; r < scene->runs; r++)
        scene->figures->put_ns[r] = cost_ns(scene, put, draws, r * OPERATIONS_MAX);
    check(tkv_stats(scene->store, &stats, &err));
    scene->figures->index_bytes_per_key = stats.index_bytes_per_key;
    check(tkv_close(scene->store, &err));
    free(draws);
}

static double open_seconds(struct scene *scene, struct tkv_open_report *report)
{
    const uint64_t begun_ns = bench_now_ns();

    open_store(scene, report);
    get(scene, scene->keys / 2);
    return (double)(bench_now_ns() - begun_ns) / 1e9;
}

static void open_closed(struct scene *scene, unsigned run)
{
    const uint64_t before = bench_rss_bytes();
    struct tkv_open_report report;

    scene->figures->close_seconds[run] = open_seconds(scene, &report);
    scene->figures->rss_bytes = bench_rss_bytes() - before;
    if (!report.clean)
        bench_die("bench_opening", "open after close", "the store had not been closed");
    check(tkv_close(scene->store, &err));
}

static void write_and_die(struct scene *scene, unsigned run)
{
    (void)run;
    open_store(scene, NULL);
    for (uint64_t i = 0; i < scene->keys; i += KILL_SHARE)
        put(scene, i);
    (void)raise(SIGKILL);
}

static void open_killed(struct scene *scene, unsigned run)
{
    struct tkv_open_report report;

    scene->figures->kill_seconds[run] = open_seconds(scene, &report);
    scene->figures->records_replayed = report.records_replayed;
    if (report.clean)
        bench_die("bench_opening", "open after kill", "the store had been closed");
    check(tkv_close(scene->store, &err));
}

/* A process that dies on purpose is as good as one that ends. */
static void in_child(struct scene *scene, step *work, unsigned run)
{
    const pid_t child = fork();
    int status = 0;

    if (child == 0) {
        bench_touch_memory(scene->keys * MEMORY_A_KEY);
        bench_read_files(scene->directory);
        work(scene, run);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child ||
        (status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)))
        bench_die("bench_opening", "a step", "failed");
}

/* ---- All of them ---------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Sorts them. */
static double median(double *numbers, unsigned count)
{
    qsort(numbers, count, sizeof *numbers, compare);
    return numbers[count / 2];
}

static void print_figures(const struct scene *scene)
{
    struct figures *f = scene->figures;
    const unsigned runs = scene->runs;
    const double closed = median(f->close_seconds, runs);
    const double killed = median(f->kill_seconds, runs);

    printf("{\"keys\":%llu,\"value_size\":%zu,\"runs\":%u,\"fill_ns\":%.6g,"
           "\"put_ns\":%.6g,\"get_ns\":%.6g,\"index_bytes_per_key\":%.6g,"
           "\"rss_bytes\":%llu",
           (unsigned long long)scene->keys, scene->value_size, runs, f->fill_ns,
           median(f->put_ns, runs), median(f->get_ns, runs), f->index_bytes_per_key,
           (unsigned long long)f->rss_bytes);
    printf(",\"close_seconds\":%.6g,\"close_least\":%.6g,\"close_most\":%.6g", closed,
           f->close_seconds[0], f->close_seconds[runs - 1]);
    printf(",\"kill_seconds\":%.6g,\"kill_least\":%.6g,\"kill_most\":%.6g,"
           "\"records_replayed\":%llu}\n",
           killed, f->kill_seconds[0], f->kill_seconds[runs - 1],
           (unsigned long long)f->records_replayed);
}

int main(int argc, char **argv)
{
    struct scene scene = {.runs = 5, .value_size = 100};
    char directory[BENCH_PATH_SIZE];

    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: bench_opening DIRECTORY KEYS [RUNS [VALUE_SIZE]]\n");
        return 2;
    }
    scene.keys = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        scene.runs = (unsigned)strtoul(argv[3], NULL, 10);
    if (argc > 4)
        scene.value_size = strtoull(argv[4], NULL, 10);
    if (scene.keys == 0 || scene.runs == 0 || scene.runs > RUNS_MAX)
        bench_die("bench_opening", "arguments", "at least one key, and 1 to 25 runs");
    scene.values = bench_values_new(scene.value_size);
    scene.buffer = malloc(scene.value_size + 1);
    scene.figures = mmap(NULL, sizeof *scene.figures, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (scene.buffer == NULL || scene.figures == MAP_FAILED)
        bench_die("bench_opening", "begin", "no memory");
    bench_directory_new(argv[1], directory);
    scene.directory = directory;
    in_child(&scene, fill, 0);
    for (unsigned run = 0; run < scene.runs; run++)
        in_child(&scene, open_closed, run);
    for (unsigned run = 0; run < scene.runs; run++) {
        in_child(&scene, write_and_die, run);
        in_child(&scene, open_killed, run);
    }
    in_child(&scene, measure_costs, 0);
    print_figures(&scene);
    free(scene.buffer);
    free(scene.values);
    return 0;
}
