/* SPDX-License-Identifier: MIT */
/*
 * instructions.c - fixed workloads whose instructions are counted (bench/check_instructions.py):
 * a figure that does not depend on the hour, the disk or what else the machine does.
 *
 *     bench_instructions WORKLOAD DIRECTORY
 *
 * Only what happens inside measured() counts. No threads, no syncs.
 */
#include "generator.h"
#include "tinykv.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS       20000u
#define VALUE_SIZE 100u
#define MULTI      16u

struct scene {
    const char *directory;
    struct tkv_store *store;
    uint8_t *values;
};

static struct tkv_error err;

static void check(enum tkv_status status)
{
    if (status != TKV_OK)
        bench_die("bench_instructions", "failed", err.message);
}

static void open_store(struct scene *scene)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = TKV_DURABILITY_NONE;
    options.background = false;
    options.auto_compact = false;
    check(tkv_open(scene->directory, &options, &scene->store, NULL, &err));
}

static struct tkv_slice key_of(uint64_t number, char bytes[BENCH_KEY_SIZE])
{
    bench_key(number, bytes);
    return tkv_bytes(bytes, BENCH_KEY_SIZE);
}

static void put(struct scene *scene)
{
    char key[BENCH_KEY_SIZE];

    for (uint64_t i = 0; i < KEYS; i++)
        check(tkv_put(scene->store, key_of(i, key),
                      tkv_bytes(bench_value(scene->values, i), VALUE_SIZE), &err));
}

/* In another order than they were put in. */
static void overwrite(struct scene *scene)
{
    char key[BENCH_KEY_SIZE];

    for (uint64_t i = 0; i < KEYS; i++)
        check(tkv_put(scene->store, key_of(i * 7919 % KEYS, key),
                      tkv_bytes(bench_value(scene->values, i), VALUE_SIZE), &err));
}

static void delete (struct scene *scene)
{
    char key[BENCH_KEY_SIZE];

    for (uint64_t i = 0; i < KEYS; i++)
        check(tkv_delete(scene->store, key_of(i * 7919 % KEYS, key), NULL, &err));
}

static void get(struct scene *scene)
{
    char key[BENCH_KEY_SIZE], value[VALUE_SIZE];
    size_t size;

    for (uint64_t i = 0; i < KEYS; i++)
        check(tkv_get(scene->store, key_of(i * 7919 % KEYS, key), value, sizeof value,
                      &size, &err));
}

static void get_missing(struct scene *scene)
{
    char key[BENCH_KEY_SIZE], value[VALUE_SIZE];
    size_t size;

    for (uint64_t i = 0; i < KEYS; i++) {
        if (tkv_get(scene->store, key_of(KEYS + i, key), value, sizeof value, &size,
                    &err) != TKV_NOT_FOUND)
            bench_die("bench_instructions", "get", "a missing key was found");
    }
}

static void multi_get(struct scene *scene)
{
    char bytes[MULTI][BENCH_KEY_SIZE];
    struct tkv_slice keys[MULTI];
    struct tkv_pin pins[MULTI];
    enum tkv_status statuses[MULTI];

    for (uint64_t i = 0; i < KEYS; i += MULTI) {
        for (unsigned k = 0; k < MULTI; k++)
            keys[k] = key_of((i + k) * 7919 % KEYS, bytes[k]);
        check(tkv_multi_get(scene->store, keys, MULTI, pins, statuses, &err));
        for (unsigned k = 0; k < MULTI; k++)
            tkv_unpin(&pins[k]);
    }
}

static void compaction(struct scene *scene)
{
    check(tkv_compact(scene->store, NULL, &err));
}

/* ---- What comes before ------------------------------------------------------------------------ */

static void prepare_filled(struct scene *scene)
{
    open_store(scene);
    put(scene);
    check(tkv_checkpoint(scene->store, &err));
}

/* Half of the keys twice: every data file has garbage. */
static void prepare_garbage(struct scene *scene)
{
    char key[BENCH_KEY_SIZE];

    prepare_filled(scene);
    for (uint64_t i = 0; i < KEYS; i += 2)
        check(tkv_put(scene->store, key_of(i, key),
                      tkv_bytes(bench_value(scene->values, i + 1), VALUE_SIZE), &err));
    check(tkv_checkpoint(scene->store, &err));
}

/* A process that ends without closing leaves everything in the log. */
static void prepare_killed(struct scene *scene)
{
    const pid_t child = fork();
    int status;

    if (child == 0) {
        char key[BENCH_KEY_SIZE];

        open_store(scene);
        for (uint64_t i = 0; i < KEYS / 8; i++)
            check(tkv_put(scene->store, key_of(i, key),
                          tkv_bytes(bench_value(scene->values, i), VALUE_SIZE), &err));
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        bench_die("bench_instructions", "replay", "the writer failed");
}

static const struct workload {
    const char *name;
    void (*prepare)(struct scene *scene);
    void (*operate)(struct scene *scene);
} workloads[] = {
    {"put",         open_store,      put        },
    {"overwrite",   prepare_filled,  overwrite  },
    {"delete",      prepare_filled,  delete     },
    {"get",         prepare_filled,  get        },
    {"get_missing", prepare_filled,  get_missing},
    {"multi_get",   prepare_filled,  multi_get  },
    {"replay",      prepare_killed,  open_store },
    {"compaction",  prepare_garbage, compaction },
};

/* The counter looks for this name. */
__attribute__((noinline)) static void measured(const struct workload *w,
                                               struct scene *scene)
{
    w->operate(scene);
    __asm__ volatile("" ::: "memory"); /* no tail call: it would end the count */
}

int main(int argc, char **argv)
{
    struct scene scene = {.directory = argc == 3 ? argv[2] : ""};

    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0] && argc == 3; i++) {
        if (strcmp(workloads[i].name, argv[1]) != 0)
            continue;
        scene.values = bench_values_new(VALUE_SIZE);
        workloads[i].prepare(&scene);
        measured(&workloads[i], &scene);
        check(tkv_close(scene.store, &err));
        free(scene.values);
        return 0;
    }
    fprintf(stderr, "usage: bench_instructions WORKLOAD DIRECTORY\n");
    return 2;
}
