/* SPDX-License-Identifier: MIT */
/* engine_tkrzw.c - Tkrzw's HashDBM: a hash table in a mapped file. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tkrzw_langc.h>

struct tkrzw {
    TkrzwDBM *dbm;
    bool sync;
};

static void check(bool good, const char *what)
{
    if (!good)
        bench_die("tkrzw", what, tkrzw_get_last_status_message());
}

static void *open_dbm(const struct bench_opening *opening)
{
    struct tkrzw *t = calloc(1, sizeof *t);
    char path[1100], params[128];

    if (t == NULL)
        bench_die("tkrzw", "open", "no memory");
    snprintf(path, sizeof path, "%s/bench.tkh", opening->path);
    snprintf(params, sizeof params, "dbm=HashDBM,num_buckets=%llu",
             (unsigned long long)(opening->keys * 2 + 1000));
    t->sync = opening->durability == BENCH_ALWAYS;
    t->dbm = tkrzw_dbm_open(path, true, params);
    check(t->dbm != NULL, "open");
    return t;
}

static void close_dbm(void *pointer)
{
    struct tkrzw *t = pointer;

    check(tkrzw_dbm_close(t->dbm), "close");
    free(t);
}

static void sync_if_asked(struct tkrzw *t)
{
    if (t->sync)
        check(tkrzw_dbm_synchronize(t->dbm, true, NULL, NULL, ""), "synchronize");
}

static void set(struct tkrzw *t, const char *key, const void *value, size_t size)
{
    check(tkrzw_dbm_set(t->dbm, key, BENCH_KEY_SIZE, value, (int32_t)size, true), "set");
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    set(session, key, value, size);
    sync_if_asked(session);
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    for (size_t i = 0; i < count; i++)
        set(session, keys + i * BENCH_KEY_SIZE, value, size);
    sync_if_asked(session);
}

struct copy {
    void *buffer;
    size_t capacity;
    bool found;
};

/* Under the record's lock, which saves an allocation each get. */
static const char *copy_value(void *context, const char *key, int32_t key_size,
                              const char *value, int32_t value_size, int32_t *ret_size)
{
    struct copy *copy = context;
    const size_t size = value_size > 0 ? (size_t)value_size : 0;

    (void)key;
    (void)key_size;
    (void)ret_size;
    copy->found = value != NULL;
    if (value != NULL)
        memcpy(copy->buffer, value, size < copy->capacity ? size : copy->capacity);
    return TKRZW_REC_PROC_NOOP;
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct tkrzw *t = session;
    struct copy copy = {buffer, capacity, false};

    check(tkrzw_dbm_process(t->dbm, key, BENCH_KEY_SIZE, copy_value, &copy, false), "get");
    return copy.found;
}

static void remove_key(void *session, const char *key)
{
    struct tkrzw *t = session;

    (void)tkrzw_dbm_remove(t->dbm, key, BENCH_KEY_SIZE);
    sync_if_asked(t);
}

static void settle(void *pointer)
{
    struct tkrzw *t = pointer;

    check(tkrzw_dbm_synchronize(t->dbm, false, NULL, NULL, ""), "synchronize");
}

const struct bench_engine bench_engine_tkrzw = {
    .name = "tkrzw",
    .settings = "HashDBM, 2 buckets a key; always: hard synchronisation after each write",
    .none_caveat = "a killed process can leave it in need of a repair that loses records",
    .open = open_dbm,
    .close = close_dbm,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .remove = remove_key,
    .settle = settle,
};
