/* SPDX-License-Identifier: MIT */
#include "workload.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct run {
    struct workload *workload;
    struct tkv_store *store;
    const struct workload_plan *plan;
    _Atomic uint64_t acks; /* in this run */
    atomic_bool is_over;
};

struct thread {
    struct run *run;
    unsigned number;
    struct workload_held row[WORKLOAD_KEYS]; /* what its keys hold */
    uint8_t bytes[WORKLOAD_VALUE_MAX];
    pthread_t id;
};

/* ---- One step ---------------------------------------------------------------------------- */

static enum tkv_status do_batch(struct thread *t, const struct workload_step *step,
                                struct tkv_error *err)
{
    char name[WORKLOAD_NAME_SIZE];
    struct tkv_batch *batch;
    enum tkv_status status = tkv_batch_new(&batch, err);
    const struct workload *workload = t->run->workload;

    if (status != TKV_OK)
        return status;
    for (unsigned i = 0; i < step->count && status == TKV_OK; i++) {
        const struct workload_item *item = &step->items[i];
        const struct tkv_slice key = workload_own_key(t->number, item->key, name);
        const struct workload_held held = {.step = workload->writers[t->number].issued,
                                           .life = workload->life,
                                           .size = item->size,
                                           .thread = (uint8_t)t->number};
        const struct tkv_slice value = workload_value(&held, item->key, t->bytes);

        if (item->is_delete)
            status = tkv_batch_delete(batch, key, err);
        else if (item->expires)
            status = tkv_batch_put_expiring(
                batch, key, value, workload->began_ms + (uint64_t)item->expires_after_ms,
                err);
        else
            status = tkv_batch_put(batch, key, value, err);
    }
    if (status == TKV_OK)
        status = tkv_write(t->run->store, batch, err);
    tkv_batch_free(batch);
    return status;
}

static enum tkv_status do_single(struct thread *t, const struct workload_step *step,
                                 struct tkv_error *err)
{
    const struct workload *workload = t->run->workload;
    const struct workload_item *item = &step->items[0];
    char name[WORKLOAD_NAME_SIZE];
    const struct tkv_slice key = step->is_shared
                                     ? workload_shared_key(item->key, name)
                                     : workload_own_key(t->number, item->key, name);
    const struct workload_held held = {.step = workload->writers[t->number].issued,
                                       .life = workload->life,
                                       .size = item->size,
                                       .thread = (uint8_t)t->number};
    const struct tkv_slice value = workload_value(&held, item->key, t->bytes);

    if (item->is_delete)
        return tkv_delete(t->run->store, key, NULL, err);
    if (item->expires)
        return tkv_put_expiring(t->run->store, key, value,
                                workload->began_ms + (uint64_t)item->expires_after_ms, err);
    return tkv_put(t->run->store, key, value, err);
}

/* The other slot is written, then made the valid one. */
static void note_shared(struct thread *t, unsigned key, uint64_t number)
{
    struct workload *workload = t->run->workload;
    struct workload_writer *writer = &workload->writers[t->number];
    const unsigned other = 1 - writer->current[key];

    writer->last[key][other] =
        (struct workload_shared_write){.step = number,
                                       .began = writer->began,
                                       .ended = atomic_fetch_add(&workload->ticket, 1) + 1,
                                       .life = workload->life};
    atomic_store(&writer->current[key], other);
}

static void do_step(struct thread *t, uint64_t number)
{
    struct workload *workload = t->run->workload;
    struct workload_writer *writer = &workload->writers[t->number];
    const struct workload_step step = workload_step_of(workload, t->number, number);
    struct tkv_error err;
    enum tkv_status status;

    atomic_store(&writer->began, atomic_fetch_add(&workload->ticket, 1) + 1);
    atomic_store(&writer->issued, number);
    status = step.is_batch ? do_batch(t, &step, &err) : do_single(t, &step, &err);
    if (status != TKV_OK)
        workload_violation(workload, "write: status %d: %s", (int)status, err.message);
    if (step.is_shared)
        note_shared(t, step.items[0].key, number);
    atomic_store(&writer->acked, number);
    atomic_fetch_add(&workload->acknowledged, 1);
    atomic_fetch_add(&workload->operations, 1);
    if (atomic_fetch_add(&t->run->acks, 1) + 1 == t->run->plan->kill_after_acks)
        (void)kill(getpid(), SIGKILL);
    workload_apply(workload, t->row, t->number, number);
}

/* ---- Writers ----------------------------------------------------------------------------- */

/* A thread reads what it wrote. */
static void read_own(struct thread *t, unsigned key)
{
    struct workload *workload = t->run->workload;
    const uint64_t before_ms = workload_now_ms();
    char name[WORKLOAD_NAME_SIZE];
    struct tkv_pin pin = {0};
    struct tkv_error err;
    const enum tkv_status status =
        tkv_get_pinned(t->run->store, workload_own_key(t->number, key, name), &pin, &err);

    if (status != TKV_OK && status != TKV_NOT_FOUND)
        workload_violation(workload, "get %s: %s", name, err.message);
    if (!workload_holds(&t->row[key], key, status == TKV_OK ? &pin.value : NULL, before_ms,
                        workload_now_ms()))
        workload_violation(workload, "thread %u reads key %u not as it wrote it", t->number,
                           key);
    tkv_unpin(&pin);
    atomic_fetch_add(&workload->operations, 1);
}

static void *write_and_read(void *argument)
{
    struct thread *t = argument;
    const uint64_t first = t->run->workload->writers[t->number].acked + 1;

    for (uint64_t n = first; n < first + t->run->plan->steps; n++) {
        do_step(t, n);
        if (n % 4 == 0)
            read_own(t, (unsigned)(workload_mix(n) % WORKLOAD_KEYS));
    }
    return NULL;
}

/* ---- Upkeep beside them ------------------------------------------------------------------ */

/* Every entry met is a value that somebody put. */
static void iterate(struct run *run)
{
    struct tkv_iterator *iterator;
    struct workload_held held;
    struct tkv_entry entry;
    struct tkv_error err;
    unsigned thread, key;
    enum tkv_status status = tkv_iterator_new(run->store, false, &iterator, &err);

    while (status == TKV_OK &&
           (status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK) {
        if (!workload_parse_key(run->workload, entry.key, &thread, &key) ||
            !workload_parse_value(entry.value, key, &held))
            workload_violation(run->workload, "iteration meets what nobody put");
        atomic_fetch_add(&run->workload->operations, 1);
    }
    if (status != TKV_NOT_FOUND)
        workload_violation(run->workload, "iteration beside writers: %s", err.message);
    tkv_iterator_free(iterator);
}

static void nap(struct run *run, uint64_t us)
{
    for (; us > 0 && !atomic_load(&run->is_over); us -= us < 1000 ? us : 1000)
        (void)nanosleep(&(struct timespec){0, us < 1000 ? (long)us * 1000 : 1000000}, NULL);
}

static void *do_upkeep(void *argument)
{
    struct run *run = argument;
    uint64_t random = workload_mix(run->workload->seed + run->workload->life);
    const uint64_t nap_us_max = UINT64_C(1000) << random % 8; /* in some lives it is rare */
    enum tkv_status status = TKV_OK;
    struct tkv_error err;

    while (!atomic_load(&run->is_over)) {
        random = workload_mix(random);
        switch (random % 8) {
        case 0:
            status = tkv_compact(run->store, NULL, &err);
            break;
        case 1:
            status = tkv_checkpoint(run->store, &err);
            break;
        case 2:
            status = tkv_sync(run->store, &err);
            break;
        case 3:
            iterate(run);
            break;
        default:
            break;
        }
        if (status != TKV_OK)
            workload_violation(run->workload, "upkeep %u: status %d: %s",
                               (unsigned)(random % 8), (int)status, err.message);
        nap(run, 100 + (random >> 40) % nap_us_max);
    }
    return NULL;
}

/* ---- All of them ------------------------------------------------------------------------- */

static void start(struct run *run, pthread_t *ret_id, void *(*body)(void *), void *argument)
{
    if (pthread_create(ret_id, NULL, body, argument) != 0)
        workload_violation(run->workload, "no thread");
}

void workload_run(struct workload *workload, struct tkv_store *store,
                  const struct workload_plan *plan)
{
    struct run run = {.workload = workload, .store = store, .plan = plan};
    const struct workload_truth *truth = &workload->truth[workload->current];
    struct thread *threads = calloc(workload->threads, sizeof *threads);
    pthread_t upkeep;

    if (threads == NULL)
        workload_violation(workload, "no memory");
    for (unsigned i = 0; i < workload->threads; i++) {
        threads[i].run = &run;
        threads[i].number = i;
        memcpy(threads[i].row, truth->own[i], sizeof threads[i].row);
        start(&run, &threads[i].id, write_and_read, &threads[i]);
    }
    start(&run, &upkeep, do_upkeep, &run);
    for (unsigned i = 0; i < workload->threads; i++)
        (void)pthread_join(threads[i].id, NULL);
    atomic_store(&run.is_over, true);
    (void)pthread_join(upkeep, NULL);
    free(threads);
}
