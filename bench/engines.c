/* SPDX-License-Identifier: MIT */
/* engines.c - which engines this build knows. */
#include "engine.h"

#define ENGINES(X)      \
    X(tinykv)           \
    X(tinykv_defaults)  \
    BENCH_LMDB(X)       \
    BENCH_LEVELDB(X)    \
    BENCH_ROCKSDB(X)    \
    BENCH_WIREDTIGER(X) \
    BENCH_TKRZW(X)      \
    BENCH_KYOTO(X)      \
    BENCH_BERKELEYDB(X)

#ifdef HAVE_LMDB
#define BENCH_LMDB(X) X(lmdb)
#else
#define BENCH_LMDB(X)
#endif
#ifdef HAVE_LEVELDB
#define BENCH_LEVELDB(X) X(leveldb)
#else
#define BENCH_LEVELDB(X)
#endif
#ifdef HAVE_ROCKSDB
#define BENCH_ROCKSDB(X) X(rocksdb)
#else
#define BENCH_ROCKSDB(X)
#endif
#ifdef HAVE_WIREDTIGER
#define BENCH_WIREDTIGER(X) X(wiredtiger)
#else
#define BENCH_WIREDTIGER(X)
#endif
#ifdef HAVE_TKRZW
#define BENCH_TKRZW(X) X(tkrzw)
#else
#define BENCH_TKRZW(X)
#endif
#ifdef HAVE_KYOTO
#define BENCH_KYOTO(X) X(kyoto)
#else
#define BENCH_KYOTO(X)
#endif
#ifdef HAVE_BERKELEYDB
#define BENCH_BERKELEYDB(X) X(berkeleydb)
#else
#define BENCH_BERKELEYDB(X)
#endif

#define DECLARE(name) extern const struct bench_engine bench_engine_##name;
#define ENTER(name)   &bench_engine_##name,

ENGINES(DECLARE)

const struct bench_engine *const bench_engines[] = {ENGINES(ENTER)};
const size_t bench_engine_count = sizeof bench_engines / sizeof bench_engines[0];
