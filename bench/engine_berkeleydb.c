/* SPDX-License-Identifier: MIT */
/* engine_berkeleydb.c - Berkeley DB: a B-tree in a transactional environment. */
#include "engine.h"

#include <db.h>
#include <stdlib.h>
#include <string.h>

struct berkeley {
    DB_ENV *env;
    DB *db;
};

static void check(int result, const char *what)
{
    if (result != 0)
        bench_die("berkeleydb", what, db_strerror(result));
}

static void *open_db(const struct bench_opening *opening)
{
    struct berkeley *b = calloc(1, sizeof *b);
    const u_int32_t flags = DB_CREATE | DB_INIT_TXN | DB_INIT_LOCK | DB_INIT_LOG |
                            DB_INIT_MPOOL | DB_THREAD | DB_RECOVER;

    if (b == NULL)
        bench_die("berkeleydb", "open", "no memory");
    check(db_env_create(&b->env, 0), "create");
    check(b->env->set_cachesize(b->env, (u_int32_t)(opening->cache_size >> 30),
                                (u_int32_t)(opening->cache_size & ((1u << 30) - 1)), 1),
          "cache size");
    check(b->env->set_lk_detect(b->env, DB_LOCK_DEFAULT), "deadlock detection");
    if (opening->durability != BENCH_ALWAYS)
        check(b->env->set_flags(b->env, DB_TXN_WRITE_NOSYNC, 1), "flags");
    check(b->env->log_set_config(b->env, DB_LOG_AUTO_REMOVE, 1), "log");
    check(b->env->open(b->env, opening->path, flags, 0600), "open environment");
    check(db_create(&b->db, b->env, 0), "create database");
    check(b->db->open(b->db, NULL, "bench.db", NULL, DB_BTREE,
                      DB_CREATE | DB_THREAD | DB_AUTO_COMMIT, 0600),
          "open database");
    return b;
}

static void close_db(void *pointer)
{
    struct berkeley *b = pointer;

    check(b->db->close(b->db, 0), "close");
    check(b->env->close(b->env, 0), "close environment");
    free(b);
}

static DBT bytes(const void *data, size_t size)
{
    union {
        const void *in;
        void *out;
    } pointer = {data};
    DBT dbt = {.data = pointer.out, .size = (u_int32_t)size};

    return dbt;
}

static int try_batch(struct berkeley *b, const char *keys, size_t count, DBT *value)
{
    DB_TXN *txn;
    int result = b->env->txn_begin(b->env, NULL, &txn, 0);

    check(result, "begin");
    for (size_t i = 0; i < count && result == 0; i++) {
        DBT key = bytes(keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE);

        result = b->db->put(b->db, txn, &key, value, 0);
    }
    if (result == 0)
        return txn->commit(txn, 0);
    check(txn->abort(txn), "abort");
    return result;
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    DBT dbt = bytes(value, size);
    int result;

    do
        result = try_batch(session, keys, count, &dbt);
    while (result == DB_LOCK_DEADLOCK);
    check(result, "put");
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    put_batch(session, key, 1, value, size);
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct berkeley *b = session;
    DBT k = bytes(key, BENCH_KEY_SIZE);
    DBT v = {.data = buffer, .ulen = (u_int32_t)capacity, .flags = DB_DBT_USERMEM};
    int result;

    do
        result = b->db->get(b->db, NULL, &k, &v, 0);
    while (result == DB_LOCK_DEADLOCK);
    if (result == DB_NOTFOUND)
        return false;
    check(result, "get");
    return true;
}

static void remove_key(void *session, const char *key)
{
    struct berkeley *b = session;
    DBT k = bytes(key, BENCH_KEY_SIZE);
    int result;

    do
        result = b->db->del(b->db, NULL, &k, DB_AUTO_COMMIT);
    while (result == DB_LOCK_DEADLOCK);
    if (result != DB_NOTFOUND)
        check(result, "delete");
}

static void settle(void *pointer)
{
    struct berkeley *b = pointer;

    check(b->env->txn_checkpoint(b->env, 0, 0, 0), "checkpoint");
}

const struct bench_engine bench_engine_berkeleydb = {
    .name = "berkeleydb",
    .settings = "B-tree, transactions, 1 GiB cache (a quarter of a memory limit); none: "
                "the log is written, not synced",
    .open = open_db,
    .close = close_db,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .remove = remove_key,
    .settle = settle,
};
