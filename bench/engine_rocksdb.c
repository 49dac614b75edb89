/* SPDX-License-Identifier: MIT */
/* engine_rocksdb.c - RocksDB: an LSM tree. */
#include "engine.h"

#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#define MULTI_MAX 64u

struct rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *reading;
    rocksdb_writeoptions_t *writing;
};

static void check(char *error, const char *what)
{
    if (error != NULL)
        bench_die("rocksdb", what, error);
}

static void set_options(rocksdb_options_t *options, size_t cache_size)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_cache(table,
                                                rocksdb_cache_create_lru(cache_size));
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom(10));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_increase_parallelism(options, 2);
}

static void *open_rocks(const struct bench_opening *opening)
{
    struct rocks *r = calloc(1, sizeof *r);
    char *error = NULL;

    if (r == NULL)
        bench_die("rocksdb", "open", "no memory");
    r->options = rocksdb_options_create();
    r->reading = rocksdb_readoptions_create();
    r->writing = rocksdb_writeoptions_create();
    set_options(r->options, opening->cache_size);
    rocksdb_writeoptions_set_sync(r->writing, opening->durability == BENCH_ALWAYS);
    r->db = rocksdb_open(r->options, opening->path, &error);
    check(error, "open");
    return r;
}

static void close_rocks(void *pointer)
{
    struct rocks *r = pointer;

    rocksdb_close(r->db);
    rocksdb_options_destroy(r->options);
    rocksdb_readoptions_destroy(r->reading);
    rocksdb_writeoptions_destroy(r->writing);
    free(r);
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    struct rocks *r = session;
    char *error = NULL;

    rocksdb_put(r->db, r->writing, key, BENCH_KEY_SIZE, value, size, &error);
    check(error, "put");
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct rocks *r = session;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    char *error = NULL;

    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_put(batch, keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE, value,
                               size);
    rocksdb_write(r->db, r->writing, batch, &error);
    check(error, "write");
    rocksdb_writebatch_destroy(batch);
}

static bool take(rocksdb_pinnableslice_t *slice, void *buffer, size_t capacity)
{
    const char *value;
    size_t size;

    if (slice == NULL)
        return false;
    value = rocksdb_pinnableslice_value(slice, &size);
    memcpy(buffer, value, size < capacity ? size : capacity);
    rocksdb_pinnableslice_destroy(slice);
    return true;
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct rocks *r = session;
    char *error = NULL;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(r->db, r->reading, key, BENCH_KEY_SIZE, &error);

    check(error, "get");
    return take(slice, buffer, capacity);
}

static size_t multi_get(void *session, const char *keys, size_t count, void *buffer,
                        size_t capacity)
{
    struct rocks *r = session;
    const char *list[MULTI_MAX];
    char *values[MULTI_MAX], *errors[MULTI_MAX];
    size_t sizes[MULTI_MAX], value_sizes[MULTI_MAX], found = 0;

    list[0] = keys; /* gcc 12 does not see that count is never 0 */
    sizes[0] = BENCH_KEY_SIZE;
    for (size_t i = 0; i < count; i++) {
        list[i] = keys + i * BENCH_KEY_SIZE;
        sizes[i] = BENCH_KEY_SIZE;
    }
    rocksdb_multi_get(r->db, r->reading, count, list, sizes, values, value_sizes, errors);
    for (size_t i = 0; i < count; i++) {
        check(errors[i], "multi-get");
        if (values[i] == NULL)
            continue;
        memcpy(buffer, values[i], value_sizes[i] < capacity ? value_sizes[i] : capacity);
        rocksdb_free(values[i]);
        found++;
    }
    return found;
}

static void remove_key(void *session, const char *key)
{
    struct rocks *r = session;
    char *error = NULL;

    rocksdb_delete(r->db, r->writing, key, BENCH_KEY_SIZE, &error);
    check(error, "delete");
}

static void settle(void *pointer)
{
    struct rocks *r = pointer;

    rocksdb_compact_range(r->db, NULL, 0, NULL, 0);
}

const struct bench_engine bench_engine_rocksdb = {
    .name = "rocksdb",
    .settings = "1 GiB block cache (a quarter of a memory limit), bloom filter of 10 bits, "
                "64 MiB write buffer, no "
                "compression, 2 background threads; compacted before reads",
    .open = open_rocks,
    .close = close_rocks,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .multi_get = multi_get,
    .remove = remove_key,
    .settle = settle,
};
