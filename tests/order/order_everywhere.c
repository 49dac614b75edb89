/* SPDX-License-Identifier: MIT */
/*
 * order_everywhere.c - stands between the tests and the library: the linker replaces NAME in
 * the tests by __wrap_NAME, and __real_NAME is the library's. Each opened store gets an order
 * verifier, which hears of every acknowledgement.
 *
 * Threads: any.
 */
#include "order_everywhere.h"

#include "order_private.h"
#include "store.h"

#include <stdatomic.h>

/* The linker wants them so. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

struct watched {
    struct watched *next;
    struct tkv_store *store;
    struct order_verifier *verifier;
    bool always;
    uint64_t groups_found;   /* in the log when it was opened */
    _Atomic uint64_t writes; /* acknowledged in a relaxed mode: a group each */
};

static struct watched *all;
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool is_off;
static _Atomic uint64_t checks;

bool order_watch(bool on)
{
    const bool was = !is_off;

    is_off = !on;
    return was;
}

uint64_t order_checks(void)
{
    return atomic_load(&checks);
}

/* ---- Stores and their verifiers ------------------------------------------------------ */

static struct watched *find(const struct tkv_store *store)
{
    struct watched *w;

    (void)pthread_mutex_lock(&all_mutex);
    for (w = all; w != NULL && w->store != store; w = w->next)
        ;
    (void)pthread_mutex_unlock(&all_mutex);
    return w;
}

static void watch(struct tkv_store *store, struct order_verifier *verifier, bool always)
{
    struct watched *w = order_zeroed(sizeof *w);

    w->store = store;
    w->verifier = verifier;
    w->always = always;
    w->groups_found = order_verifier_groups(verifier);
    (void)pthread_mutex_lock(&all_mutex);
    w->next = all;
    all = w;
    (void)pthread_mutex_unlock(&all_mutex);
}

static void forget(struct watched *gone)
{
    (void)pthread_mutex_lock(&all_mutex);
    for (struct watched **w = &all; *w != NULL; w = &(*w)->next) {
        if (*w != gone)
            continue;
        *w = gone->next;
        break;
    }
    (void)pthread_mutex_unlock(&all_mutex);
    atomic_fetch_add(&checks, gone->verifier->checks);
    order_verifier_free(gone->verifier);
    order_release(gone);
}

/* ---- Opening and closing ------------------------------------------------------------- */

#define REAL(type, name, ...)        \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

REAL(enum tkv_status, tkv_open_on, struct tkv_os *os, const char *directory,
     const struct tkv_options *options, struct tkv_store **ret_store,
     struct tkv_open_report *ret_report, struct tkv_error *err)
{
    struct order_verifier *verifier;
    enum tkv_status status;

    if (is_off || options == NULL)
        return __real_tkv_open_on(os, directory, options, ret_store, ret_report, err);
    verifier = order_verifier_new(os);
    verifier->read_only = options->read_only;
    status =
        __real_tkv_open_on(&verifier->os, directory, options, ret_store, ret_report, err);
    if (status == TKV_OK)
        watch(*ret_store, verifier, options->durability == TKV_DURABILITY_ALWAYS);
    else
        order_verifier_free(verifier);
    return status;
}

enum tkv_status __wrap_tkv_open(const char *directory, const struct tkv_options *options,
                                struct tkv_store **ret_store,
                                struct tkv_open_report *ret_report, struct tkv_error *err);
enum tkv_status __wrap_tkv_open(const char *directory, const struct tkv_options *options,
                                struct tkv_store **ret_store,
                                struct tkv_open_report *ret_report, struct tkv_error *err)
{
    return __wrap_tkv_open_on(tkv_os_posix(), directory, options, ret_store, ret_report,
                              err);
}

/* ---- Everything durable -------------------------------------------------------------- */

/* What was acknowledged before the call. A group may be in the log whose writer has not been
 * told so yet, and then need not be durable. */
static uint64_t groups_before(const struct watched *w)
{
    return w == NULL ? 0 : w->groups_found + atomic_load(&w->writes);
}

static enum tkv_status synced(const struct watched *w, uint64_t groups,
                              enum tkv_status status)
{
    if (w != NULL && status == TKV_OK)
        order_verifier_synced(w->verifier, groups);
    return status;
}

REAL(enum tkv_status, tkv_sync, struct tkv_store *store, struct tkv_error *err)
{
    const struct watched *w = find(store);
    const uint64_t groups = groups_before(w);

    return synced(w, groups, __real_tkv_sync(store, err));
}

REAL(enum tkv_status, tkv_checkpoint, struct tkv_store *store, struct tkv_error *err)
{
    const struct watched *w = find(store);
    const uint64_t groups = groups_before(w);

    return synced(w, groups, __real_tkv_checkpoint(store, err));
}

REAL(enum tkv_status, tkv_close, struct tkv_store *store, struct tkv_error *err)
{
    struct watched *w = find(store);
    const uint64_t groups = groups_before(w);
    const enum tkv_status status = synced(w, groups, __real_tkv_close(store, err));

    if (w != NULL)
        forget(w);
    return status;
}

/* ---- Writes -------------------------------------------------------------------------- */

static enum tkv_status acknowledged(const struct tkv_store *store, uint64_t records,
                                    enum tkv_status status)
{
    struct watched *w = status == TKV_OK && records > 0 ? find(store) : NULL;

    if (w != NULL && w->always)
        order_verifier_acknowledged(w->verifier, records);
    else if (w != NULL)
        atomic_fetch_add(&w->writes, 1);
    return status;
}

REAL(enum tkv_status, tkv_put, struct tkv_store *store, struct tkv_slice key,
     struct tkv_slice value, struct tkv_error *err)
{
    return acknowledged(store, 1, __real_tkv_put(store, key, value, err));
}

REAL(enum tkv_status, tkv_put_expiring, struct tkv_store *store, struct tkv_slice key,
     struct tkv_slice value, uint64_t expires_at_ms, struct tkv_error *err)
{
    return acknowledged(store, 1,
                        __real_tkv_put_expiring(store, key, value, expires_at_ms, err));
}

REAL(enum tkv_status, tkv_delete, struct tkv_store *store, struct tkv_slice key,
     bool *ret_existed, struct tkv_error *err)
{
    bool existed = false;
    const enum tkv_status status = __real_tkv_delete(store, key, &existed, err);

    if (ret_existed != NULL)
        *ret_existed = existed;
    return acknowledged(store, existed, status);
}

REAL(enum tkv_status, tkv_write, struct tkv_store *store, const struct tkv_batch *batch,
     struct tkv_error *err)
{
    return acknowledged(store, tkv_batch_count(batch), __real_tkv_write(store, batch, err));
}
