/* SPDX-License-Identifier: MIT */
/*
 * epoch.h - readers announce themselves without waiting; who wants to free something waits
 * until every reader that might still see it has left. Sleepable RCU in miniature (McKenney,
 * "Sleepable Read-Copy Update", LWN 2006): two counters for each stripe, of which readers use
 * the one that the phase names; waiting flips the phase and drains the other, twice.
 *
 * Readers must not block inside: a lookup, a read, a copy.
 */
#ifndef TKV_EPOCH_H
#define TKV_EPOCH_H

#include "lock.h"

#include <stdatomic.h>
#include <stdint.h>

#define TKV_EPOCH_STRIPES 16

/* A cache line pair for each stripe, so that readers on two cores do not share one. The gets
 * are counted here because the line is in the reader's hands anyway. */
struct tkv_epoch_stripe {
    _Alignas(128) atomic_uint readers[2];
    _Atomic uint64_t gets, gets_missing;
};

struct tkv_epoch {
    struct tkv_epoch_stripe stripes[TKV_EPOCH_STRIPES];
    _Alignas(128) atomic_uint phase;
    struct tkv_mutex lock; /* one waiter at a time */
};

void tkv_epoch_init(struct tkv_epoch *epoch);
void tkv_epoch_destroy(struct tkv_epoch *epoch);

/* Wait until every reader that entered before this call has left. */
void tkv_epoch_wait(struct tkv_epoch *epoch);

struct tkv_reader {
    struct tkv_epoch_stripe *stripe;
    unsigned phase;
};

static inline struct tkv_reader tkv_epoch_enter(struct tkv_epoch *epoch)
{
    /* Thread descriptors are pages apart: mix the bits above a page. */
    const uintptr_t self = (uintptr_t)pthread_self();
    struct tkv_reader r;

    r.stripe = &epoch->stripes[(self >> 12 ^ self >> 18) % TKV_EPOCH_STRIPES];
    r.phase = atomic_load(&epoch->phase) & 1;
    atomic_fetch_add(&r.stripe->readers[r.phase], 1);
    return r;
}

static inline void tkv_epoch_leave(struct tkv_reader reader)
{
    atomic_fetch_sub(&reader.stripe->readers[reader.phase], 1);
}

#endif
