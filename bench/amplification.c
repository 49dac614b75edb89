/* SPDX-License-Identifier: MIT */
/*
 * amplification.c - how many bytes the data files take for each live byte, and how many are
 * written to them for each byte of the user, in the steady state: after the store has been
 * overwritten several times, at each of several space factors, uniformly and by zipf.
 *
 *     bench_amplification DIRECTORY [KEYS [VALUE_SIZE [ROUNDS]]]
 *
 * 100,000 keys, 1,000 bytes and 5 rounds unless told otherwise. Below 15,400 keys of 1,000 bytes a
 * file is as small as it may be, and there are fewer of them; small files also waste more of
 * their last block. One JSON object a line. Without threads, so that the figures follow from the
 * arguments and the store's own random hash seeds alone, not from the speed of the machine.
 */
#include "generator.h"
#include "machine.h"
#include "tinykv.h"

#include <stdio.h>
#include <stdlib.h>

#define FILES 250.0 /* data files of this share of the live bytes, */
#define LOGS  25.0  /* and a log of this one */

struct scene {
    const char *directory;
    uint64_t keys, rounds;
    size_t value_size;
    struct tkv_store *store;
    uint8_t *values;
    uint64_t draw_count;
};

static struct tkv_error err;

static void check(enum tkv_status status)
{
    if (status != TKV_OK)
        bench_die("bench_amplification", "failed", err.message);
}

/* A share of what is live; at least what a store takes. */
static uint64_t share_of_live(const struct scene *scene, double parts)
{
    const double size = (double)scene->keys * (double)(scene->value_size + 64) / parts;

    return size < 65536 ? 65536 : (uint64_t)size;
}

static void open_store(struct scene *scene, double space_factor)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = TKV_DURABILITY_NONE;
    options.background = false;
    options.space_factor = space_factor;
    options.data_file_size_min = options.data_file_size_max = share_of_live(scene, FILES);
    options.wal_size_max = share_of_live(scene, LOGS);
    check(tkv_open(scene->directory, &options, &scene->store, NULL, &err));
}

static void put(struct scene *scene, uint64_t number, uint64_t version)
{
    char key[BENCH_KEY_SIZE];

    bench_key(number, key);
    check(tkv_put(
        scene->store, tkv_bytes(key, BENCH_KEY_SIZE),
        tkv_bytes(bench_value(scene->values, number + version), scene->value_size), &err));
}

static struct tkv_stats stats_of(struct scene *scene)
{
    struct tkv_stats stats;

    check(tkv_stats(scene->store, &stats, &err));
    return stats;
}

/* One round of as many overwrites as there are keys; returns the mean of disk / live. */
static double overwrite(struct scene *scene, const uint32_t *draws, uint64_t *at)
{
    double sum = 0;
    uint64_t samples = 0;

    for (uint64_t i = 0; i < scene->keys; i++, ++*at) {
        put(scene, draws[*at & (scene->draw_count - 1)], *at);
        if (i % 1024 == 0) {
            const struct tkv_stats stats = stats_of(scene);

            sum += (double)stats.disk_bytes / (double)stats.live_bytes;
            samples++;
        }
    }
    return sum / (double)samples;
}

static void measure(struct scene *scene, enum bench_distribution distribution,
                    double space_factor)
{
    uint32_t *draws = bench_draw(distribution, scene->keys, scene->draw_count, 1);
    struct tkv_stats before, after;
    double space = 0, live;
    uint64_t at = 0;

    open_store(scene, space_factor);
    for (uint64_t i = 0; i < scene->keys; i++)
        put(scene, i, 0);
    for (uint64_t round = 0; round < scene->rounds; round++)
        (void)overwrite(scene, draws, &at); /* settles */
    before = stats_of(scene);
    for (uint64_t round = 0; round < scene->rounds; round++)
        space += overwrite(scene, draws, &at) / (double)scene->rounds;
    after = stats_of(scene);
    live = (double)after.live_bytes;
    printf("{\"distribution\":\"%s\",\"keys\":%llu,\"value_size\":%zu,"
           "\"space_factor\":%.3f,\"space_amplification\":%.3f,"
           "\"write_amplification\":%.3f}\n",
           distribution == BENCH_UNIFORM ? "uniform" : "zipf",
           (unsigned long long)scene->keys, scene->value_size, space_factor, space,
           (double)(after.data_bytes_written - before.data_bytes_written) /
               (live * (double)scene->rounds));
    fflush(stdout);
    check(tkv_close(scene->store, &err));
    bench_remove(scene->directory);
    free(draws);
}

int main(int argc, char **argv)
{
    static const double factors[] = {1.25, 1.386, 1.53};
    struct scene scene = {.keys = 100000, .value_size = 1000, .rounds = 5};
    char directory[BENCH_PATH_SIZE];

    if (argc < 2 || argc > 5) {
        fprintf(stderr,
                "usage: bench_amplification DIRECTORY [KEYS [VALUE_SIZE [ROUNDS]]]\n");
        return 2;
    }
    if (argc > 2)
        scene.keys = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        scene.value_size = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        scene.rounds = strtoull(argv[4], NULL, 10);
    if (scene.keys == 0 || scene.value_size == 0 || scene.rounds == 0)
        bench_die("bench_amplification", "read the arguments", "at least one of each");
    bench_directory_new(argv[1], directory);
    scene.directory = directory;
    scene.draw_count = bench_draw_count(2 * scene.rounds * scene.keys);
    scene.values = bench_values_new(scene.value_size);
    for (unsigned i = 0; i < 3; i++) {
        measure(&scene, BENCH_UNIFORM, factors[i]);
        measure(&scene, BENCH_ZIPF, factors[i]);
    }
    free(scene.values);
    return 0;
}
