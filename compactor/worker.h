/* SPDX-License-Identifier: MIT */
/*
 * worker.h - a thread that does one kind of work in steps, and sleeps when there is none.
 * Knows nothing of the work.
 */
#ifndef TKV_WORKER_H
#define TKV_WORKER_H

#include "lock.h"

#include <stdbool.h>
#include <stdint.h>

#define TKV_WORKER_FOREVER UINT32_MAX

/* Do something; return for how many milliseconds to sleep unless woken: 0 comes back at once,
 * TKV_WORKER_FOREVER only when woken. `woken` is false when the sleep has run out. */
typedef uint32_t tkv_worker_fn(void *context, bool woken);

struct tkv_worker {
    tkv_worker_fn *step;
    void *context;
    pthread_t thread;
    bool started, joined;

    struct tkv_mutex lock;
    /* Guarded by lock. */
    pthread_cond_t changed;
    bool woken, stopping;
};

/* A thread that leaves the application's signals to its own threads. 0 or a positive errno. */
int tkv_worker_thread(pthread_t *ret_thread, void *(*body)(void *), void *argument);

/* 0 or a positive errno; then the worker is as if zeroed, and wake and stop do nothing. */
int tkv_worker_start(struct tkv_worker *worker, tkv_worker_fn *step, void *context);
void tkv_worker_wake(struct tkv_worker *worker);
/* Let the step that is under way finish, and join. It can still be woken, in vain: of workers
 * that wake each other all are joined before the first is stopped. Safe on a zeroed worker. */
void tkv_worker_join(struct tkv_worker *worker);
/* The same, if it was not joined; then it is as if zeroed. */
void tkv_worker_stop(struct tkv_worker *worker);

#endif
