/* SPDX-License-Identifier: MIT */
#include "workload.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The state under examination: what the store may hold, and what it was found to hold. */
struct check {
    struct workload *workload;
    struct tkv_store *store;
    struct workload_truth truth; /* becomes the next truth */
    uint64_t upper[WORKLOAD_THREADS_MAX];
    struct workload_held after[WORKLOAD_KEYS]; /* of the thread being compared */
};

void workload_violation(struct workload *workload, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(workload->message, sizeof workload->message, format, arguments);
    va_end(arguments);
    _exit(WORKLOAD_VIOLATION);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- Reading ----------------------------------------------------------------------------- */

struct reading {
    struct tkv_slice value; /* when is_there */
    bool is_there;
    uint64_t before_ms, after_ms;
    void *copy;
};

static const struct tkv_slice *value_of(const struct reading *reading)
{
    return reading->is_there ? &reading->value : NULL;
}

static struct reading read_key(struct check *c, struct tkv_slice key)
{
    struct reading reading = {.before_ms = workload_now_ms()};
    struct tkv_error err;
    enum tkv_status status =
        tkv_get_copy(c->store, key, &reading.copy, &reading.value.size, &err);

    reading.after_ms = workload_now_ms();
    reading.value.data = reading.copy;
    reading.is_there = status == TKV_OK;
    if (status != TKV_OK && status != TKV_NOT_FOUND)
        workload_violation(c->workload, "get %.*s: %s", (int)key.size,
                           (const char *)key.data, err.message);
    return reading;
}

/* ---- A thread's own keys ----------------------------------------------------------------- */

static _Noreturn void tell_wrong(struct check *c, unsigned thread, unsigned key,
                                 const struct reading *reading, uint64_t lower)
{
    const struct workload_held *wanted = &c->truth.own[thread][key];
    struct workload_held found = {0};
    const bool is_ours =
        reading->is_there && workload_parse_value(reading->value, key, &found);

    if (!reading->is_there || (is_ours && found.step < wanted->step))
        atomic_fetch_add(&c->workload->lost, 1);
    workload_violation(c->workload,
                       "thread %u key %u: acknowledged up to step %" PRIu64
                       ", issued up to %" PRIu64 "; must be of step %" PRIu64
                       "%s, is %s %" PRIu64 " of life %u (now %u)",
                       thread, key, lower, c->upper[thread], wanted->step,
                       wanted->present ? "" : " (absent)",
                       !reading->is_there ? "absent"
                       : is_ours          ? "of step"
                                          : "not a value",
                       found.step, found.life, (unsigned)c->workload->life);
}

/* All keys as after the last acknowledged step, or all as after the one under way. */
static void check_thread(struct check *c, unsigned thread)
{
    struct workload_held *before = c->truth.own[thread];
    const struct workload_writer *writer = &c->workload->writers[thread];
    const uint64_t lower = larger(writer->acked, c->truth.verified[thread]);
    bool all_before = true, all_after = true;
    char name[WORKLOAD_NAME_SIZE];

    for (uint64_t n = c->truth.verified[thread] + 1; n <= lower; n++)
        workload_apply(c->workload, before, thread, n);
    c->upper[thread] = larger(writer->issued, lower);
    memcpy(c->after, before, sizeof c->after);
    for (uint64_t n = lower + 1; n <= c->upper[thread]; n++)
        workload_apply(c->workload, c->after, thread, n);
    for (unsigned key = 0; key < WORKLOAD_KEYS; key++) {
        const struct reading r = read_key(c, workload_own_key(thread, key, name));

        all_before = all_before && workload_holds(&before[key], key, value_of(&r),
                                                  r.before_ms, r.after_ms);
        all_after = all_after && workload_holds(&c->after[key], key, value_of(&r),
                                                r.before_ms, r.after_ms);
        if (!all_before && !all_after)
            tell_wrong(c, thread, key, &r, lower);
        tkv_free(r.copy);
    }
    c->truth.verified[thread] = all_before ? lower : c->upper[thread];
    if (!all_before)
        memcpy(before, c->after, sizeof c->after);
}

/* ---- Keys that all threads put ----------------------------------------------------------- */

/* The last acknowledged write of a thread to a shared key in this life; step 0: none. */
static struct workload_shared_write last_write(const struct workload *workload,
                                               unsigned thread, unsigned key)
{
    const struct workload_writer *writer = &workload->writers[thread];
    const struct workload_shared_write last = writer->last[key][writer->current[key]];

    return last.life == workload->life ? last : (struct workload_shared_write){0};
}

/* When `held` was written at the latest; 0: it is none of the writes it could be. */
static uint64_t ended(const struct check *c, unsigned key, const struct workload_held *held)
{
    const struct workload *workload = c->workload;
    const struct workload_shared_write last = last_write(workload, held->thread, key);
    struct workload_step step;

    if (held->thread >= workload->threads || held->life != workload->life)
        return 0;
    if (last.step == held->step)
        return last.ended;
    step = workload_step_of(workload, held->thread, held->step);
    if (held->step > workload->writers[held->thread].acked &&
        held->step <= c->upper[held->thread] && step.is_shared && step.items[0].key == key)
        return UINT64_MAX; /* it was under way */
    return 0;
}

static void check_shared(struct check *c, unsigned key)
{
    struct workload_held *truth = &c->truth.shared[key], found = {0};
    char name[WORKLOAD_NAME_SIZE];
    const struct reading r = read_key(c, workload_shared_key(key, name));
    uint64_t began = 0;
    bool same;

    if (r.is_there && !workload_parse_value(r.value, key, &found))
        workload_violation(c->workload, "shared key %u holds what nobody put", key);
    for (unsigned i = 0; i < c->workload->threads; i++)
        began = larger(began, last_write(c->workload, i, key).began);
    same = r.is_there == truth->present && found.step == truth->step &&
           found.life == truth->life && found.thread == truth->thread;
    if (!(same && began == 0) && !(r.is_there && ended(c, key, &found) > began)) {
        atomic_fetch_add(&c->workload->lost, 1);
        workload_violation(c->workload,
                           "shared key %u: step %" PRIu64
                           " of thread %u, life %u, is older "
                           "than an acknowledged write",
                           key, found.step, found.thread, found.life);
    }
    *truth = found;
    tkv_free(r.copy);
}

/* ---- Nothing else ------------------------------------------------------------------------ */

static void check_entry(struct check *c, const struct tkv_entry *entry, uint64_t before_ms,
                        bool seen[WORKLOAD_THREADS_MAX + 1][WORKLOAD_KEYS])
{
    const struct workload *workload = c->workload;
    const struct workload_held *held;
    unsigned thread, key;

    if (!workload_parse_key(workload, entry->key, &thread, &key))
        workload_violation(c->workload, "iteration meets a key that nobody put");
    if (seen[thread][key])
        workload_violation(c->workload, "iteration meets %.*s twice", (int)entry->key.size,
                           (const char *)entry->key.data);
    seen[thread][key] = true;
    held = thread == workload->threads ? &c->truth.shared[key] : &c->truth.own[thread][key];
    if (!workload_holds(held, key, &entry->value, before_ms, workload_now_ms()))
        workload_violation(c->workload, "iteration and get differ about %.*s",
                           (int)entry->key.size, (const char *)entry->key.data);
}

/* What does not expire must have been met. */
static void check_complete(struct check *c,
                           bool seen[WORKLOAD_THREADS_MAX + 1][WORKLOAD_KEYS])
{
    for (unsigned thread = 0; thread < c->workload->threads; thread++) {
        for (unsigned key = 0; key < WORKLOAD_KEYS; key++) {
            const struct workload_held *held = &c->truth.own[thread][key];

            if (held->present && held->expires_at_ms == 0 && !seen[thread][key])
                workload_violation(c->workload, "iteration misses thread %u key %u", thread,
                                   key);
        }
    }
    for (unsigned key = 0; key < WORKLOAD_SHARED_KEYS; key++) {
        if (c->truth.shared[key].present && !seen[c->workload->threads][key])
            workload_violation(c->workload, "iteration misses shared key %u", key);
    }
}

static void check_iteration(struct check *c)
{
    bool seen[WORKLOAD_THREADS_MAX + 1][WORKLOAD_KEYS] = {{false}};
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error err;
    enum tkv_status status = tkv_iterator_new(c->store, false, &iterator, &err);
    uint64_t before_ms = workload_now_ms();

    while (status == TKV_OK &&
           (status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK) {
        check_entry(c, &entry, before_ms, seen);
        before_ms = workload_now_ms();
    }
    if (status != TKV_NOT_FOUND)
        workload_violation(c->workload, "iteration: %s", err.message);
    tkv_iterator_free(iterator);
    check_complete(c, seen);
}

/* ---- All of it --------------------------------------------------------------------------- */

/* One switch makes the new truth valid, another the new life: between any two of these lines
 * the process may be killed, and the next check must not be misled. */
static void begin_life(struct check *c)
{
    struct workload *workload = c->workload;
    const unsigned other = 1 - workload->current;

    workload->truth[other] = c->truth;
    atomic_store(&workload->current, other);
    workload->began_ms = workload_now_ms();
    atomic_fetch_add(&workload->life, 1);
    for (unsigned i = 0; i < workload->threads; i++) {
        atomic_store(&workload->writers[i].issued, c->truth.verified[i]);
        atomic_store(&workload->writers[i].acked, c->truth.verified[i]);
    }
}

void workload_check(struct workload *workload, struct tkv_store *store)
{
    struct check *c = calloc(1, sizeof *c);
    struct tkv_error err;

    if (c == NULL)
        workload_violation(workload, "no memory");
    c->workload = workload;
    c->store = store;
    c->truth = workload->truth[workload->current];
    for (unsigned thread = 0; thread < workload->threads; thread++)
        check_thread(c, thread);
    for (unsigned key = 0; key < WORKLOAD_SHARED_KEYS; key++)
        check_shared(c, key);
    check_iteration(c);
    if (workload_mix(workload->seed + workload->life) % 8 == 0 &&
        tkv_verify(store, NULL, NULL, NULL, &err) != TKV_OK)
        workload_violation(workload, "verify: %s", err.message);
    begin_life(c);
    atomic_fetch_add(&workload->checks, 1);
    free(c);
}
