/* SPDX-License-Identifier: MIT */
/* engine_tinykv.c - this library, and the same with all its defaults. */
#include "engine.h"
#include "tinykv.h"

#define MULTI_MAX 64u

static void check(enum tkv_status status, const char *what, const struct tkv_error *err)
{
    if (status != TKV_OK)
        bench_die("tinykv", what, err->message);
}

static void *open_store(const struct bench_opening *opening, uint32_t idle_poll_us)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;

    options.durability =
        opening->durability == BENCH_ALWAYS ? TKV_DURABILITY_ALWAYS : TKV_DURABILITY_NONE;
    options.idle_poll_us = idle_poll_us;
    check(tkv_open(opening->path, &options, &store, NULL, &err), "open", &err);
    return store;
}

static void *open_polling(const struct bench_opening *opening)
{
    return open_store(opening, 200);
}

static void *open_with_defaults(const struct bench_opening *opening)
{
    return open_store(opening, 0);
}

static void close_store(void *db)
{
    struct tkv_error err;

    check(tkv_close(db, &err), "close", &err);
}

static void put(void *session, const char *key, const void *value, size_t size)
{
    struct tkv_error err;

    check(tkv_put(session, tkv_bytes(key, BENCH_KEY_SIZE), tkv_bytes(value, size), &err),
          "put", &err);
}

static void put_batch(void *session, const char *keys, size_t count, const void *value,
                      size_t size)
{
    struct tkv_batch *batch;
    struct tkv_error err;

    check(tkv_batch_new(&batch, &err), "batch", &err);
    for (size_t i = 0; i < count; i++)
        check(tkv_batch_put(batch, tkv_bytes(keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE),
                            tkv_bytes(value, size), &err),
              "batch", &err);
    check(tkv_write(session, batch, &err), "write", &err);
    tkv_batch_free(batch);
}

static bool get(void *session, const char *key, void *buffer, size_t capacity)
{
    struct tkv_error err;
    size_t size;
    enum tkv_status status =
        tkv_get(session, tkv_bytes(key, BENCH_KEY_SIZE), buffer, capacity, &size, &err);

    if (status == TKV_NOT_FOUND)
        return false;
    check(status, "get", &err);
    return true;
}

static size_t multi_get(void *session, const char *keys, size_t count, void *buffer,
                        size_t capacity)
{
    struct tkv_slice slices[MULTI_MAX];
    struct tkv_pin pins[MULTI_MAX];
    enum tkv_status statuses[MULTI_MAX];
    struct tkv_error err;
    size_t found = 0;

    memset(slices, 0, sizeof slices[0]); /* gcc 12 does not see that count is never 0 */
    for (size_t i = 0; i < count; i++)
        slices[i] = tkv_bytes(keys + i * BENCH_KEY_SIZE, BENCH_KEY_SIZE);
    check(tkv_multi_get(session, slices, count, pins, statuses, &err), "multi-get", &err);
    for (size_t i = 0; i < count; i++) {
        if (statuses[i] != TKV_OK)
            continue;
        if (pins[i].value.size <= capacity)
            memcpy(buffer, pins[i].value.data, pins[i].value.size);
        tkv_unpin(&pins[i]);
        found++;
    }
    return found;
}

static void remove_key(void *session, const char *key)
{
    struct tkv_error err;

    check(tkv_delete(session, tkv_bytes(key, BENCH_KEY_SIZE), NULL, &err), "delete", &err);
}

static void settle(void *db)
{
    struct tkv_error err;

    check(tkv_checkpoint(db, &err), "checkpoint", &err);
}

#define CALLS                                                             \
    .close = close_store, .put = put, .put_batch = put_batch, .get = get, \
    .multi_get = multi_get, .remove = remove_key, .settle = settle

const struct bench_engine bench_engine_tinykv = {
    .name = "tinykv",
    .settings = "idle_poll_us 200",
    .open = open_polling,
    CALLS,
};

const struct bench_engine bench_engine_tinykv_defaults = {
    .name = "tinykv_defaults",
    .settings = "defaults",
    .is_variant = true,
    .open = open_with_defaults,
    CALLS,
};
