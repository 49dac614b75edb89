/* SPDX-License-Identifier: MIT */
/*
 * lock.h - a mutex that clang's thread safety analysis can follow. Condition variables are
 * plain pthread_cond_t used with `mutex.handle`. The order of all locks is a table in
 * docs/architecture.md.
 */
#ifndef TKV_LOCK_H
#define TKV_LOCK_H

#include <pthread.h>

#if defined(__clang__)
#define TKV_TSA(x) __attribute__((x))
#else
#define TKV_TSA(x)
#endif

#define TKV_CAPABILITY  TKV_TSA(capability("mutex"))
#define TKV_ACQUIRES(m) TKV_TSA(acquire_capability(m))
#define TKV_RELEASES(m) TKV_TSA(release_capability(m))
#define TKV_REQUIRES(m) TKV_TSA(requires_capability(m))
/* On a struct member, clang before 19 rejects the attribute: there it is documentation. */
#define TKV_GUARDED_BY(m)
/* For bodies that the analysis cannot follow: waiting on a condition. */
#define TKV_NO_ANALYSIS TKV_TSA(no_thread_safety_analysis)

struct TKV_CAPABILITY tkv_mutex {
    pthread_mutex_t handle;
};

/* Cannot fail on Linux: a mutex needs no resource beyond its own bytes. What is done under our
 * locks is short, so that spinning for a moment beats going to sleep. */
static inline void tkv_mutex_init(struct tkv_mutex *mutex)
{
    pthread_mutexattr_t adaptive;

    (void)pthread_mutexattr_init(&adaptive);
#ifdef __GLIBC__
    (void)pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    (void)pthread_mutex_init(&mutex->handle, &adaptive);
    (void)pthread_mutexattr_destroy(&adaptive);
}

static inline void tkv_mutex_destroy(struct tkv_mutex *mutex)
{
    (void)pthread_mutex_destroy(&mutex->handle);
}

static inline void tkv_mutex_lock(struct tkv_mutex *mutex)
    TKV_ACQUIRES(*mutex) TKV_NO_ANALYSIS
{
    (void)pthread_mutex_lock(&mutex->handle);
}

static inline void tkv_mutex_unlock(struct tkv_mutex *mutex)
    TKV_RELEASES(*mutex) TKV_NO_ANALYSIS
{
    (void)pthread_mutex_unlock(&mutex->handle);
}

#endif
