/* SPDX-License-Identifier: MIT */
/* engine_leveldb.c - LevelDB: an LSM tree. */
#include "engine.h"

#include <leveldb/c.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE ((size_t)64 << 20)

struct level {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *reading;
    leveldb_writeoptions_t *writing;
};

static void check(char *error, const char *what)
{
    if (error != NULL)
        bench_die("leveldb", what, error);
}

static void *open_level(const struct bench_opening *opening)
{
    struct level *l = calloc(1, sizeof *l);
    char *error = NULL;

    if (l == NULL)
        bench_die("leveldb", "open", "no memory");
    l->options = leveldb_options_create();
    l->cache = leveldb_cache_create_lru(opening->cache_size);
    l->filter = leveldb_filterpolicy_create_bloom(10);
    l->reading = leveldb_readoptions_create();
    l->writing = leveldb_writeoptions_create();
    leveldb_options_set_create_if_missing(l->options, 1);
    leveldb_options_set_cache(l->options, l->cache);
    leveldb_options_set_filter_policy(l->options, l->filter);
    leveldb_options_set_write_buffer_size(l->options, BUFFER_SIZE);
    leveldb_options_set_compression(l->options, leveldb_no_compression);
    leveldb_writeoptions_set_sync(l->writing, opening->durability == BENCH_ALWAYS);
    l->db = leveldb_open(l->options, opening->path, &error);
    check(error, "open");
    return l;
}

static void close_level(void *pointer)
{
    struct level *l = pointer;

    leveldb_close(l->db);
    leveldb_options_destroy(l->options);
    leveldb_cache_destroy(l->cache);
    leveldb_filterpolicy_destroy(l->filter);
    leveldb_readoptions_destroy(l->reading);
    leveldb_writeoptions_destroy(l->writing);
    free(l);
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    struct level *l = session;
    char *error = NULL;

    leveldb_put(l->db, l->writing, key, BENCH_KEY_SIZE, value, size, &error);
    check(error, "put");
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct level *l = session;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    char *error = NULL;

    for (size_t i = 0; i < count; i++)
        leveldb_writebatch_put(batch, keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE, value,
                               size);
    leveldb_write(l->db, l->writing, batch, &error);
    check(error, "write");
    leveldb_writebatch_destroy(batch);
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct level *l = session;
    char *error = NULL, *value;
    size_t size;

    value = leveldb_get(l->db, l->reading, key, BENCH_KEY_SIZE, &size, &error);
    check(error, "get");
    if (value == NULL)
        return false;
    memcpy(buffer, value, size < capacity ? size : capacity);
    leveldb_free(value);
    return true;
}

static void remove_key(void *session, const char *key)
{
    struct level *l = session;
    char *error = NULL;

    leveldb_delete(l->db, l->writing, key, BENCH_KEY_SIZE, &error);
    check(error, "delete");
}

static void settle(void *pointer)
{
    struct level *l = pointer;

    leveldb_compact_range(l->db, NULL, 0, NULL, 0);
}

const struct bench_engine bench_engine_leveldb = {
    .name = "leveldb",
    .settings = "1 GiB block cache (a quarter of a memory limit), bloom filter of 10 bits, "
                "64 MiB write buffer, no "
                "compression; compacted before reads",
    .open = open_level,
    .close = close_level,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .remove = remove_key,
    .settle = settle,
};
