/* SPDX-License-Identifier: MIT */
/* engine_wiredtiger.c - WiredTiger: a B-tree with a log; a session and cursor each thread. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wiredtiger.h>

#define TABLE "table:bench"

struct session {
    WT_SESSION *session;
    WT_CURSOR *cursor;
};

static void check(int result, const char *what)
{
    if (result != 0)
        bench_die("wiredtiger", what, wiredtiger_strerror(result));
}

static void *open_connection(const struct bench_opening *opening)
{
    WT_CONNECTION *connection;
    WT_SESSION *session;
    char config[256];

    snprintf(config, sizeof config,
             "create,cache_size=%llu,session_max=200,log=(enabled=true),"
             "transaction_sync=(enabled=%s,method=fsync)",
             (unsigned long long)opening->cache_size,
             opening->durability == BENCH_ALWAYS ? "true" : "false");
    check(wiredtiger_open(opening->path, NULL, config, &connection), "open");
    check(connection->open_session(connection, NULL, NULL, &session), "session");
    check(session->create(session, TABLE, "key_format=u,value_format=u"), "create");
    check(session->close(session, NULL), "close session");
    return connection;
}

static void close_connection(void *pointer)
{
    WT_CONNECTION *connection = pointer;

    check(connection->close(connection, NULL), "close");
}

static void *session_new(void *pointer)
{
    WT_CONNECTION *connection = pointer;
    struct session *s = calloc(1, sizeof *s);

    if (s == NULL)
        bench_die("wiredtiger", "session", "no memory");
    check(connection->open_session(connection, NULL, NULL, &s->session), "session");
    check(s->session->open_cursor(s->session, TABLE, NULL, "overwrite=true", &s->cursor),
          "cursor");
    return s;
}

static void session_free(void *pointer)
{
    struct session *s = pointer;

    check(s->session->close(s->session, NULL), "close session");
    free(s);
}

static void put(void *pointer, const char *key, const void *value, size_t size)
{
    struct session *s = pointer;
    WT_ITEM k = {.data = key, .size = BENCH_KEY_SIZE};
    WT_ITEM v = {.data = value, .size = size};

    s->cursor->set_key(s->cursor, &k);
    s->cursor->set_value(s->cursor, &v);
    check(s->cursor->insert(s->cursor), "insert");
}

static void put_batch(void *pointer, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct session *s = pointer;

    check(s->session->begin_transaction(s->session, NULL), "begin");
    for (size_t i = 0; i < count; i++)
        put(s, keys + i * BENCH_KEY_SIZE, value, size);
    check(s->session->commit_transaction(s->session, NULL), "commit");
}

static bool get(void *pointer, const char *key, void *buffer, size_t capacity)
{
    struct session *s = pointer;
    WT_ITEM k = {.data = key, .size = BENCH_KEY_SIZE}, v;
    int result;

    s->cursor->set_key(s->cursor, &k);
    result = s->cursor->search(s->cursor);
    if (result == WT_NOTFOUND)
        return false;
    check(result, "search");
    check(s->cursor->get_value(s->cursor, &v), "value");
    memcpy(buffer, v.data, v.size < capacity ? v.size : capacity);
    check(s->cursor->reset(s->cursor), "reset");
    return true;
}

static void remove_key(void *pointer, const char *key)
{
    struct session *s = pointer;
    WT_ITEM k = {.data = key, .size = BENCH_KEY_SIZE};
    int result;

    s->cursor->set_key(s->cursor, &k);
    result = s->cursor->remove(s->cursor);
    if (result != WT_NOTFOUND)
        check(result, "remove");
}

static void settle(void *pointer)
{
    WT_CONNECTION *connection = pointer;
    WT_SESSION *session;

    check(connection->open_session(connection, NULL, NULL, &session), "session");
    check(session->checkpoint(session, NULL), "checkpoint");
    check(session->close(session, NULL), "close session");
}

const struct bench_engine bench_engine_wiredtiger = {
    .name = "wiredtiger",
    .settings = "1 GiB cache (a quarter of a memory limit), log enabled, sync by fsync; "
                "checkpoint before reads",
    .none_caveat = "log records that are still in the process are lost",
    .open = open_connection,
    .close = close_connection,
    .session_new = session_new,
    .session_free = session_free,
    .put = put,
    .put_batch = put_batch,
    .get = get,
    .remove = remove_key,
    .settle = settle,
};
