/* SPDX-License-Identifier: MIT */
/*
 * engine.h - what the benchmark asks of a store, so that every workload runs on every one of
 * them unchanged. An engine that fails ends the process with a message: a figure of a run in
 * which something failed is no figure.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_durability {
    BENCH_NONE,  /* as fast as the engine goes without syncing */
    BENCH_ALWAYS /* every write is on the disk when it returns */
};

struct bench_opening {
    const char *path; /* a directory that exists */
    enum bench_durability durability;
    uint64_t keys; /* how many there will be */
    size_t value_size;
    uint64_t cache_size; /* for engines that have a cache of their own */
};

/* `key` has BENCH_KEY_SIZE bytes everywhere. */
#define BENCH_KEY_SIZE 16u

struct bench_engine {
    const char *name;
    const char *settings;    /* what differs from the engine's defaults, for the report */
    const char *none_caveat; /* what a killed process loses or breaks; NULL: nothing */
    bool is_variant;         /* of the engine before; runs when it is named */

    void *(*open)(const struct bench_opening *opening);
    void (*close)(void *db);
    /* One for each thread; NULL where the database itself is passed. */
    void *(*session_new)(void *db);
    void (*session_free)(void *session);

    void (*put)(void *session, const char *key, const void *value, size_t size);
    /* All or nothing where the engine can; `keys` lie one behind the other. */
    void (*put_batch)(void *session, const char *keys, size_t count, const void *value,
                      size_t size);
    /* Copies the value into `buffer`, which is large enough. False: no such key. */
    bool (*get)(void *session, const char *key, void *buffer, size_t capacity);
    /* NULL: gets one after the other. Returns how many were found. */
    size_t (*multi_get)(void *session, const char *keys, size_t count, void *buffer,
                        size_t capacity);
    void (*remove)(void *session, const char *key);
    /* Make everything written so far durable, and settle (checkpoint) before reads. */
    void (*settle)(void *db);
};

/* Those that this build knows, TinyKv first. */
extern const struct bench_engine *const bench_engines[];
extern const size_t bench_engine_count;

/* Print "ENGINE: WHAT: WHY" and exit. */
_Noreturn void bench_die(const char *engine, const char *what, const char *why);

#endif
