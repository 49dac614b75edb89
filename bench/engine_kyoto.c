/* SPDX-License-Identifier: MIT */
/* engine_kyoto.c - Kyoto Cabinet's HashDB: a hash table in a mapped file. */
#include "engine.h"

#include <kclangc.h>
#include <stdio.h>
#include <stdlib.h>

struct kyoto {
    KCDB *db;
    bool sync;
};

static void check(struct kyoto *k, int good, const char *what)
{
    if (!good)
        bench_die("kyoto", what, kcdbemsg(k->db));
}

static void *open_db(const struct bench_opening *opening)
{
    struct kyoto *k = calloc(1, sizeof *k);
    const unsigned long long record = BENCH_KEY_SIZE + opening->value_size + 32;
    unsigned long long mapped = opening->keys * record * 2;
    char path[1200];

    if (k == NULL)
        bench_die("kyoto", "open", "no memory");
    if (mapped < 64u << 20)
        mapped = 64u << 20;
    snprintf(path, sizeof path, "%s/bench.kch#bnum=%llu#msiz=%llu", opening->path,
             (unsigned long long)(opening->keys * 2 + 1000), mapped);
    k->sync = opening->durability == BENCH_ALWAYS;
    k->db = kcdbnew();
    check(k, kcdbopen(k->db, path, KCOWRITER | KCOCREATE), "open");
    return k;
}

static void close_db(void *pointer)
{
    struct kyoto *k = pointer;

    check(k, kcdbclose(k->db), "close");
    kcdbdel(k->db);
    free(k);
}

static void sync_if_asked(struct kyoto *k)
{
    if (k->sync)
        check(k, kcdbsync(k->db, 1, NULL, NULL), "sync");
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct kyoto *k = session;

    for (size_t i = 0; i < count; i++)
        check(k,
              kcdbset(k->db, keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE, value, size) != 0,
              "set");
    sync_if_asked(k);
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    put_batch(session, key, 1, value, size);
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct kyoto *k = session;

    return kcdbgetbuf(k->db, key, BENCH_KEY_SIZE, buffer, capacity) >= 0;
}

static void remove_key(void *session, const char *key)
{
    struct kyoto *k = session;

    (void)kcdbremove(k->db, key, BENCH_KEY_SIZE);
    sync_if_asked(k);
}

static void settle(void *pointer)
{
    struct kyoto *k = pointer;

    check(k, kcdbsync(k->db, 0, NULL, NULL), "sync");
}

const struct bench_engine bench_engine_kyoto = {
    .name = "kyoto",
    .settings = "HashDB, 2 buckets a key, mapping of twice the data; always: hard "
                "synchronisation after each write",
    .none_caveat = "a killed process can leave it in need of a repair that loses records",
    .open = open_db,
    .close = close_db,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .remove = remove_key,
    .settle = settle,
};
