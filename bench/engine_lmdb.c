/* SPDX-License-Identifier: MIT */
/* engine_lmdb.c - LMDB: a B+tree in a mapping; one transaction for each operation. */
#include "engine.h"

#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#define MAP_SIZE ((size_t)64 << 30)

struct lmdb {
    MDB_env *env;
    MDB_dbi dbi;
};

struct session {
    struct lmdb *db;
    MDB_txn *reader; /* reset between reads, as LMDB advises */
};

static void check(int result, const char *what)
{
    if (result != 0)
        bench_die("lmdb", what, mdb_strerror(result));
}

static void *open_env(const struct bench_opening *opening)
{
    struct lmdb *db = calloc(1, sizeof *db);
    const unsigned flags =
        opening->durability == BENCH_ALWAYS ? 0 : MDB_NOSYNC | MDB_WRITEMAP;
    MDB_txn *txn;

    if (db == NULL)
        bench_die("lmdb", "open", "no memory");
    check(mdb_env_create(&db->env), "create");
    check(mdb_env_set_mapsize(db->env, MAP_SIZE), "map size");
    check(mdb_env_open(db->env, opening->path, flags | MDB_NORDAHEAD, 0600), "open");
    check(mdb_txn_begin(db->env, NULL, 0, &txn), "begin");
    check(mdb_dbi_open(txn, NULL, 0, &db->dbi), "open database");
    check(mdb_txn_commit(txn), "commit");
    return db;
}

static void close_env(void *pointer)
{
    struct lmdb *db = pointer;

    check(mdb_env_sync(db->env, 1), "sync");
    mdb_env_close(db->env);
    free(db);
}

static void *session_new(void *db)
{
    struct session *session = calloc(1, sizeof *session);

    if (session == NULL)
        bench_die("lmdb", "session", "no memory");
    session->db = db;
    check(mdb_txn_begin(session->db->env, NULL, MDB_RDONLY, &session->reader), "begin");
    mdb_txn_reset(session->reader);
    return session;
}

static void session_free(void *pointer)
{
    struct session *session = pointer;

    mdb_txn_abort(session->reader);
    free(session);
}

static MDB_val bytes(const void *data, size_t size)
{
    union {
        const void *in;
        void *out;
    } pointer = {data};

    return (MDB_val){size, pointer.out};
}

static void put_batch(void *pointer, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct session *session = pointer;
    MDB_val v = bytes(value, size);
    MDB_txn *txn;

    check(mdb_txn_begin(session->db->env, NULL, 0, &txn), "begin");
    for (size_t i = 0; i < count; i++) {
        MDB_val k = bytes(keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE);

        check(mdb_put(txn, session->db->dbi, &k, &v, 0), "put");
    }
    check(mdb_txn_commit(txn), "commit");
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    put_batch(session, key, 1, value, size);
}

static bool get_inside(struct session *session, const char *key, void *buffer,
                       size_t capacity)
{
    MDB_val k = bytes(key, BENCH_KEY_SIZE), v;
    const int result = mdb_get(session->reader, session->db->dbi, &k, &v);

    if (result == MDB_NOTFOUND)
        return false;
    check(result, "get");
    memcpy(buffer, v.mv_data, v.mv_size < capacity ? v.mv_size : capacity);
    return true;
}

static size_t multi_get(void *pointer, const char *keys, size_t count, void *buffer,
                        size_t capacity)
{
    struct session *session = pointer;
    size_t found = 0;

    check(mdb_txn_renew(session->reader), "renew");
    for (size_t i = 0; i < count; i++)
        found += get_inside(session, keys + i * BENCH_KEY_SIZE, buffer, capacity);
    mdb_txn_reset(session->reader);
    return found;
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    return multi_get(session, key, 1, buffer, capacity) == 1;
}

static void remove_key(void *pointer, const char *key)
{
    struct session *session = pointer;
    MDB_val k = bytes(key, BENCH_KEY_SIZE);
    MDB_txn *txn;
    int result;

    check(mdb_txn_begin(session->db->env, NULL, 0, &txn), "begin");
    result = mdb_del(txn, session->db->dbi, &k, NULL);
    if (result != MDB_NOTFOUND)
        check(result, "delete");
    check(mdb_txn_commit(txn), "commit");
}

static void settle(void *pointer)
{
    struct lmdb *db = pointer;

    check(mdb_env_sync(db->env, 1), "sync");
}

const struct bench_engine bench_engine_lmdb = {
    .name = "lmdb",
    .settings = "64 GiB map, NORDAHEAD; none: NOSYNC and WRITEMAP",
    .none_caveat = "a stray pointer can write into the database",
    .open = open_env,
    .close = close_env,
    .session_new = session_new,
    .session_free = session_free,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .multi_get = multi_get,
    .remove = remove_key,
    .settle = settle,
};
