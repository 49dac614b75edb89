/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static struct timespec after_ms(uint32_t ms)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* With the lock held; false: time to stop. *ret_woken as the step wants it. */
static bool sleep_until_work(struct tkv_worker *worker, uint32_t ms,
                             bool *ret_woken) TKV_NO_ANALYSIS
{
    const struct timespec deadline = after_ms(ms == TKV_WORKER_FOREVER ? 0 : ms);
    int result = 0;

    while (!worker->woken && !worker->stopping && result != ETIMEDOUT && ms != 0) {
        if (ms == TKV_WORKER_FOREVER)
            (void)pthread_cond_wait(&worker->changed, &worker->lock.handle);
        else
            result =
                pthread_cond_timedwait(&worker->changed, &worker->lock.handle, &deadline);
    }
    *ret_woken = worker->woken;
    worker->woken = false;
    return !worker->stopping;
}

static void *run(void *argument) TKV_NO_ANALYSIS
{
    struct tkv_worker *worker = argument;
    uint32_t ms = TKV_WORKER_FOREVER;
    bool woken;

    tkv_mutex_lock(&worker->lock);
    while (sleep_until_work(worker, ms, &woken)) {
        tkv_mutex_unlock(&worker->lock);
        ms = worker->step(worker->context, woken);
        tkv_mutex_lock(&worker->lock);
    }
    tkv_mutex_unlock(&worker->lock);
    return NULL;
}

int tkv_worker_thread(pthread_t *ret_thread, void *(*body)(void *), void *argument)
{
    sigset_t all, old;
    int result;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    result = pthread_create(ret_thread, NULL, body, argument);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return result;
}

int tkv_worker_start(struct tkv_worker *worker, tkv_worker_fn *step, void *context)
{
    pthread_condattr_t monotonic;
    int result;

    memset(worker, 0, sizeof *worker);
    worker->step = step;
    worker->context = context;
    tkv_mutex_init(&worker->lock);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&worker->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    result = tkv_worker_thread(&worker->thread, run, worker);
    if (result == 0) {
        worker->started = true;
        return 0;
    }
    (void)pthread_cond_destroy(&worker->changed);
    tkv_mutex_destroy(&worker->lock);
    memset(worker, 0, sizeof *worker);
    return result;
}

void tkv_worker_wake(struct tkv_worker *worker)
{
    if (!worker->started)
        return;
    tkv_mutex_lock(&worker->lock);
    worker->woken = true;
    (void)pthread_cond_signal(&worker->changed);
    tkv_mutex_unlock(&worker->lock);
}

void tkv_worker_join(struct tkv_worker *worker)
{
    if (!worker->started || worker->joined)
        return;
    tkv_mutex_lock(&worker->lock);
    worker->stopping = true;
    (void)pthread_cond_signal(&worker->changed);
    tkv_mutex_unlock(&worker->lock);
    (void)pthread_join(worker->thread, NULL);
    worker->joined = true;
}

void tkv_worker_stop(struct tkv_worker *worker)
{
    if (!worker->started)
        return;
    tkv_worker_join(worker);
    (void)pthread_cond_destroy(&worker->changed);
    tkv_mutex_destroy(&worker->lock);
    memset(worker, 0, sizeof *worker);
}
