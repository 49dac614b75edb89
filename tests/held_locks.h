/* SPDX-License-Identifier: MIT */
/*
 * held_locks.h - for programs that are linked with their own pthread_mutex_lock and
 * pthread_mutex_unlock (--wrap): whoever unlocks a mutex has locked it. A lock that is missing
 * is noticed at once, and not only when two threads meet.
 */
#ifndef TKV_HELD_LOCKS_H
#define TKV_HELD_LOCKS_H

#include "test.h"

#include <pthread.h>
#include <stdbool.h>

#define HELD_LOCKS_MAX 8u

static _Thread_local pthread_mutex_t *held_locks[HELD_LOCKS_MAX];

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static inline unsigned held_lock(const pthread_mutex_t *mutex)
{
    unsigned i = 0;

    while (i < HELD_LOCKS_MAX && held_locks[i] != mutex)
        i++;
    return i;
}

/* For a thread that ends. */
static inline bool holds_no_lock(void)
{
    for (unsigned i = 0; i < HELD_LOCKS_MAX; i++) {
        if (held_locks[i] != NULL)
            return false;
    }
    return true;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    const int result = __real_pthread_mutex_lock(mutex);
    const unsigned place = held_lock(NULL);

    CHECK(place < HELD_LOCKS_MAX);
    held_locks[place] = mutex;
    return result;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    const unsigned place = held_lock(mutex);

    CHECK(place < HELD_LOCKS_MAX);
    held_locks[place] = NULL;
    return __real_pthread_mutex_unlock(mutex);
}

#endif
