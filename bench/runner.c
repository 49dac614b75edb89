/* SPDX-License-Identifier: MIT */
/*
 * runner.c - latency. A durable operation is timed each; of the others one in SAMPLE is, so that
 * the clock costs them little. With a rate, an operation's time begins when it was due, not when
 * it was begun: what waits behind a slow one counts as slow (no coordinated omission).
 */
#include "runner.h"

#include "child.h"
#include "latency.h"
#include "machine.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLE       32u
#define CACHE_SIZE   (UINT64_C(1) << 30) /* of engines that have one */
#define CLOCK_EVERY  16u
#define MEMORY_EXTRA 150u /* bytes for each record, beside what the user stores */
#define KILL_SHARE   50u  /* one key in so many is written again before the kill */
#define ROUNDS_LIMIT 8    /* times the seconds: what a workload of rounds may take */

#define EMPTY_RATE     3e6 /* records a second: more than who has such tables writes */
#define EMPTY_KEYS_MAX 20000000u /* hash tables of a gigabyte are nobody's wish */

struct thread {
    struct bench_actor actor;
    bench_operation *operation;
    uint64_t operations, limit; /* done; to do, 0 for a time */
    uint64_t until_ns, interval_ns;
    bool times_all, sleeps;
    atomic_bool *stop; /* NULL unless in the background */
    struct bench_latency *latency;
    pthread_t id;
};

/* ---- One thread ---------------------------------------------------------------------------- */

static void operate_timed(struct thread *t, uint64_t due_ns)
{
    const uint64_t begun_ns = due_ns != 0 ? due_ns : bench_now_ns();

    t->operation(&t->actor, t->operations++);
    bench_latency_add(t->latency, bench_now_ns() - begun_ns);
}

static bool is_over(const struct thread *t)
{
    if (t->stop != NULL)
        return atomic_load_explicit(t->stop, memory_order_relaxed);
    if (t->limit != 0 && t->operations >= t->limit)
        return true;
    if (!t->times_all && t->operations % CLOCK_EVERY != 0)
        return false;
    return bench_now_ns() >= t->until_ns;
}

static void run_closed(struct thread *t)
{
    do {
        if (t->times_all || t->operations % SAMPLE == 0)
            operate_timed(t, 0);
        else
            t->operation(&t->actor, t->operations++);
    } while (!is_over(t));
}

static void run_open(struct thread *t)
{
    uint64_t due_ns = bench_now_ns();

    while (due_ns < t->until_ns && (t->limit == 0 || t->operations < t->limit)) {
        if (t->sleeps && bench_now_ns() < due_ns)
            bench_sleep_until_ns(due_ns);
        while (bench_now_ns() < due_ns)
            ; /* a sleep is late by more than what some operations take */
        operate_timed(t, due_ns);
        due_ns += t->interval_ns;
    }
}

static void *thread_main(void *argument)
{
    struct thread *t = argument;

    if (t->interval_ns != 0 && t->stop == NULL)
        run_open(t);
    else
        run_closed(t);
    return NULL;
}

/* ---- All threads of a workload -------------------------------------------------------------- */

struct cast {
    struct thread threads[BENCH_THREADS_MAX + 1];
    struct bench_latency *latencies;
    unsigned count;
    bool has_background;
    atomic_bool stop;
    atomic_ullong inserts;
    uint32_t *draws;
    uint8_t *values;
    uint64_t elapsed_ns;
};

static void *must(void *memory)
{
    if (memory == NULL)
        bench_die("bench", "prepare a run", "no memory");
    return memory;
}

static void cast_actor(struct cast *c, const struct bench_settings *s,
                       const struct bench_engine *engine, void *db, unsigned number)
{
    struct thread *t = &c->threads[number];

    t->actor = (struct bench_actor){
        .engine = engine,
        .session = engine->session_new != NULL ? engine->session_new(db) : db,
        /* Threads begin at different draws. */
        .draws = c->draws,
        .draw_mask = bench_draw_count(s->keys) - 1,
        .values = c->values,
        .buffer = must(malloc(s->value_size + 1)),
        .value_size = s->value_size,
        .keys = s->keys,
        .first = (uint64_t)number << 40,
        .random = UINT64_C(0x1234567) * (number + 1),
        .inserts = &c->inserts,
    };
    t->latency = &c->latencies[number];
}

static void cast_new(struct cast *c, const struct bench_settings *s,
                     const struct bench_engine *engine, const struct bench_workload *w,
                     void *db)
{
    memset(c, 0, sizeof *c);
    c->count = w->threads;
    c->has_background = w->background != NULL;
    c->draws =
        bench_draw(w->distribution, s->keys, bench_draw_count(s->keys), 1 + w->threads);
    c->values = bench_values_new(s->value_size);
    c->latencies = must(calloc(c->count + 1, sizeof *c->latencies));
    for (unsigned i = 0; i < c->count + c->has_background; i++) {
        cast_actor(c, s, engine, db, i);
        c->threads[i].operation = i < c->count ? w->operation : w->background;
        c->threads[i].times_all = w->durability == BENCH_ALWAYS;
        c->threads[i].stop = i < c->count ? NULL : &c->stop;
        /* Elsewhere among the draws, so that threads do not follow each other. */
        c->threads[i].operations = w->rounds == 0 ? i * 65536 : 0;
        c->threads[i].sleeps = c->count >= (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    }
}

static void cast_free(struct cast *c)
{
    for (unsigned i = 0; i < c->count + c->has_background; i++) {
        const struct bench_actor *a = &c->threads[i].actor;

        if (a->engine->session_free != NULL)
            a->engine->session_free(a->session);
        free(a->buffer);
    }
    free(c->latencies);
    free(c->values);
    free(c->draws);
}

/* Returns how many operations were done. */
static uint64_t cast_play(struct cast *c, uint64_t ns, uint64_t limit, double rate)
{
    const uint64_t started_ns = bench_now_ns();
    const unsigned all = c->count + c->has_background;
    uint64_t operations = 0;

    atomic_store(&c->stop, false);
    for (unsigned i = 0; i < all; i++) {
        struct thread *t = &c->threads[i];

        operations -= i < c->count ? t->operations : 0;
        t->limit = limit;
        t->until_ns = started_ns + ns;
        t->interval_ns = rate > 0 ? (uint64_t)(1e9 * c->count / rate) : 0;
        memset(t->latency, 0, sizeof *t->latency);
        if (pthread_create(&t->id, NULL, thread_main, t) != 0)
            bench_die("bench", "run", "no thread");
    }
    for (unsigned i = 0; i < all; i++) {
        (void)pthread_join(c->threads[i].id, NULL);
        if (i + 1 == c->count) {
            c->elapsed_ns = bench_now_ns() - started_ns;
            atomic_store(&c->stop, true);
        }
        operations += i < c->count ? c->threads[i].operations : 0;
    }
    return operations;
}

/* ---- Running a workload in this process ------------------------------------------------------- */

struct scene {
    const struct bench_settings *settings;
    const struct bench_engine *engine;
    uint64_t keys; /* that the store will have, for engines that are told */
    char path[1200];
    void *db;
};

static void open_db(struct scene *scene, enum bench_durability durability)
{
    const struct bench_settings *s = scene->settings;
    const struct bench_opening opening = {
        .path = scene->path,
        .durability = durability,
        .keys = scene->keys,
        .value_size = s->value_size,
        .cache_size = s->memory_limit != 0 ? s->memory_limit / 4 : CACHE_SIZE,
    };

    scene->db = scene->engine->open(&opening);
}

static void summarize(const struct cast *c, uint64_t operations,
                      const struct bench_workload *w, struct bench_result *result)
{
    struct bench_latency *all = must(calloc(1, sizeof *all));

    for (unsigned i = 0; i < c->count; i++)
        bench_latency_merge(all, &c->latencies[i]);
    result->operations_per_second =
        (double)operations * w->records * 1e9 / (double)c->elapsed_ns;
    result->operations = operations * w->records;
    result->p50_us = bench_latency_quantile_us(all, 0.5);
    result->p99_us = bench_latency_quantile_us(all, 0.99);
    result->p999_us = bench_latency_quantile_us(all, 0.999);
    result->max_us = (double)all->max_ns / 1000;
    result->is_valid = true;
    free(all);
}

static uint64_t time_of(const struct bench_settings *s, const struct bench_workload *w)
{
    if (w->store == BENCH_FILL)
        return INT64_MAX;
    return (uint64_t)(s->seconds * (w->rounds != 0 ? ROUNDS_LIMIT : 1) * 1e9);
}

static void play(struct scene *scene, const struct bench_workload *w,
                 struct bench_result *result)
{
    const struct bench_settings *s = scene->settings;
    struct cast *c = must(malloc(sizeof *c));
    uint64_t operations, written = bench_device_bytes(scene->path);

    cast_new(c, s, scene->engine, w, scene->db);
    if (w->rounds == 0)
        (void)cast_play(c, (uint64_t)(s->seconds / 2 * 1e9), 0,
                        0); /* let logs grow and caches fill */
    operations =
        cast_play(c, time_of(s, w), (uint64_t)(w->rounds * (double)s->keys / w->threads),
                  w->store == BENCH_FILL ? 0 : s->rate);
    summarize(c, operations, w, result);
    result->rss_bytes = bench_rss_bytes();
    cast_free(c);
    free(c);
    result->device_bytes = bench_device_bytes(scene->path) - written;
    result->disk_bytes = bench_disk_bytes(scene->path);
}

/* Each key once, as far as a second reaches: what is read first is not what is measured. */
static void touch_all(struct scene *scene)
{
    const uint64_t until_ns = bench_now_ns() + 1000000000u;
    const struct bench_engine *engine = scene->engine;
    void *session =
        engine->session_new != NULL ? engine->session_new(scene->db) : scene->db;
    uint8_t *buffer = must(malloc(scene->settings->value_size + 1));
    char key[BENCH_KEY_SIZE];

    for (uint64_t i = 0; i < scene->settings->keys; i++) {
        bench_key(i, key);
        (void)engine->get(session, key, buffer, scene->settings->value_size);
        if (i % 256 == 0 && bench_now_ns() > until_ns)
            break;
    }
    if (engine->session_free != NULL)
        engine->session_free(session);
    free(buffer);
}

static void time_opening(struct scene *scene, const struct bench_workload *w,
                         struct bench_result *result)
{
    uint8_t *buffer = must(malloc(scene->settings->value_size + 1));
    const uint64_t begun_ns = bench_now_ns();
    char key[BENCH_KEY_SIZE];
    void *session;

    open_db(scene, w->durability);
    session = scene->engine->session_new != NULL ? scene->engine->session_new(scene->db)
                                                 : scene->db;
    bench_key(scene->settings->keys / 2, key);
    result->is_valid =
        scene->engine->get(session, key, buffer, scene->settings->value_size);
    result->seconds = (double)(bench_now_ns() - begun_ns) / 1e9;
    result->operations_per_second = 1 / result->seconds;
    result->rss_bytes = bench_rss_bytes();
    result->disk_bytes = bench_disk_bytes(scene->path);
    if (scene->engine->session_free != NULL)
        scene->engine->session_free(session);
    free(buffer);
}

static void run_here(struct scene *scene, const struct bench_workload *w, size_t count,
                     struct bench_result *results)
{
    if (w->opens) {
        time_opening(scene, w, results);
    } else {
        open_db(scene, w->durability);
        if (w->store == BENCH_READ)
            touch_all(scene);
        for (size_t i = 0; i < count; i++)
            play(scene, &w[i], &results[i]);
    }
    if (w->store == BENCH_FILL)
        scene->engine->settle(scene->db);
    scene->engine->close(scene->db);
}

/* Leaves the store as a killed process does. */
static void write_and_die(struct scene *scene)
{
    const struct bench_settings *s = scene->settings;
    struct bench_workload w = {.threads = 1, .durability = BENCH_NONE};
    struct cast *c = must(malloc(sizeof *c));
    char key[BENCH_KEY_SIZE];

    open_db(scene, BENCH_NONE);
    cast_new(c, s, scene->engine, &w, scene->db);
    for (uint64_t i = 0; i < s->keys; i += KILL_SHARE) {
        bench_key(i, key);
        scene->engine->put(c->threads[0].actor.session, key, bench_value(c->values, i),
                           s->value_size);
    }
    (void)raise(SIGKILL);
}

/* ---- Processes ---------------------------------------------------------------------------------- */

static bool waits_for_each(const struct bench_workload *w)
{
    return w->durability == BENCH_ALWAYS && w->records == 1;
}

/* Memory is there, and the store is in it. A fill takes the data, twice for those who hold it
 * twice, an index, and as much of the page cache, in huge pages from who writes so; who only
 * reads has half of that, as the page cache holds the files already. What begins with an empty
 * store and waits for the device after each record takes little, and who has a limit must not
 * have more. */
static void warm_up(const struct scene *scene, const struct bench_workload *w)
{
    const struct bench_settings *s = scene->settings;
    const uint64_t times = w->store == BENCH_READ ? 2 : 4;

    if (s->memory_limit != 0 || (w->store == BENCH_EMPTY && waits_for_each(w)))
        return;
    bench_read_files(scene->path);
    bench_touch_memory(times * s->keys * (BENCH_KEY_SIZE + s->value_size + MEMORY_EXTRA));
}

static bool judge_child(const struct scene *scene, const struct bench_workload *w,
                        int status, bool dies)
{
    if (status == 0 || dies || bench_is_interrupted())
        return !bench_is_interrupted();
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: %s: ended by signal %d\n", scene->engine->name, w->name,
                WTERMSIG(status));
    else
        fprintf(stderr, "%s: %s: failed\n", scene->engine->name, w->name);
    return false;
}

/* False when it did not end well. */
static bool in_child(struct scene *scene, const struct bench_workload *w, size_t count,
                     struct bench_result *results, bool dies)
{
    const pid_t child = bench_child_begin();

    if (child < 0 && bench_is_interrupted())
        return false;
    if (child < 0)
        bench_die("bench", "run", "no process");
    if (child == 0) {
        if (!bench_limit_memory(scene->settings->memory_limit))
            bench_die("bench", "memory limit",
                      "needs a control group below /sys/fs/cgroup");
        warm_up(scene, w);
        if (dies)
            write_and_die(scene);
        else
            run_here(scene, w, count, results);
        _exit(0);
    }
    return judge_child(scene, w, bench_child_wait(child), dies);
}

/* An empty store is filled for a time: hash tables that do not grow are made for as many records
 * as come meanwhile. Those that wait for the device after each are few. */
static uint64_t keys_of(const struct bench_settings *s, const struct bench_workload *w)
{
    const double written = s->seconds * 1.5 * EMPTY_RATE;
    const uint64_t most = written < EMPTY_KEYS_MAX ? (uint64_t)written : EMPTY_KEYS_MAX;

    if (w->store != BENCH_EMPTY || waits_for_each(w) || s->keys > most)
        return s->keys;
    return most;
}

bool bench_run(const struct bench_settings *settings, const struct bench_engine *engine,
               const struct bench_workload *workloads, size_t count,
               struct bench_result *ret_results)
{
    const size_t size = count * sizeof *ret_results;
    const enum bench_store store = workloads->store;
    struct scene scene = {
        .settings = settings, .engine = engine, .keys = keys_of(settings, workloads)};
    struct bench_result *shared =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool ran = true;

    if (shared == MAP_FAILED)
        bench_die("bench", "run", "no memory");
    snprintf(scene.path, sizeof scene.path, "%s/%s%s", settings->directory, engine->name,
             store == BENCH_EMPTY ? "-new" : "");
    if (store == BENCH_EMPTY || store == BENCH_FILL)
        bench_remove(scene.path);
    (void)mkdir(scene.path, 0700);
    if (workloads->kills)
        ran = in_child(&scene, workloads, count, shared, true);
    ran = in_child(&scene, workloads, count, shared, false) && ran;
    memcpy(ret_results, shared, size);
    (void)munmap(shared, size);
    if (store == BENCH_EMPTY)
        bench_remove(scene.path);
    return ran;
}
