/* SPDX-License-Identifier: MIT */
/*
 * latch.h - a lock for sections that are nearly always some hundred instructions long, such as
 * a lookup. Free, it costs one exchange to take and a plain store to release, half of what a
 * mutex does. Who finds it taken looks again for a while, then leaves the processor to others,
 * at last for 50 us at a time: the few long sections, a table that doubles or memory that is
 * mapped, keep nobody spinning. Nobody queues and nobody is woken. The order of all locks is a
 * table in docs/architecture.md.
 */
#ifndef TKV_LATCH_H
#define TKV_LATCH_H

#include "lock.h"

#include <stdatomic.h>
#include <stdbool.h>

struct TKV_CAPABILITY tkv_latch {
    atomic_bool taken;
};

static inline void tkv_latch_init(struct tkv_latch *latch)
{
    atomic_init(&latch->taken, false);
}

/* Returns when the latch was seen free; somebody else may have taken it since. */
void tkv_latch_wait(const struct tkv_latch *latch);

static inline void tkv_latch_take(struct tkv_latch *latch)
    TKV_ACQUIRES(*latch) TKV_NO_ANALYSIS
{
    while (atomic_exchange_explicit(&latch->taken, true, memory_order_acquire))
        tkv_latch_wait(latch);
}

static inline void tkv_latch_release(struct tkv_latch *latch)
    TKV_RELEASES(*latch) TKV_NO_ANALYSIS
{
    atomic_store_explicit(&latch->taken, false, memory_order_release);
}

#endif
