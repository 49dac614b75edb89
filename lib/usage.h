/* SPDX-License-Identifier: MIT */
/*
 * usage.h - how much of a data file is still needed. Counters are exact at rest: every change
 * of the index owes its bytes to the file it leaves and to the one it enters. Atomic because
 * statistics and the compactor read them at any time: who sees a counter fall also sees what
 * was counted before. What is live is changed with store->apply held, without a locked
 * instruction therefore, or while a store is being opened.
 */
#ifndef TKV_USAGE_H
#define TKV_USAGE_H

#include <stdatomic.h>
#include <stdint.h>

struct tkv_usage {
    _Atomic uint64_t live_bytes, live_records; /* the index points at them */
    _Atomic uint64_t tombstone_bytes; /* deletes and expired records: may hide older ones */
    _Atomic uint64_t records;         /* all that were appended */
};

static inline void tkv_usage_add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* For a counter with one writer at a time, and for all of them while a store is being opened:
 * no locked instruction. */
static inline void tkv_usage_add_alone(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static inline void tkv_usage_sub(_Atomic uint64_t *counter, uint64_t less)
{
    atomic_fetch_sub_explicit(counter, less, memory_order_release);
}

static inline void tkv_usage_sub_alone(_Atomic uint64_t *counter, uint64_t less)
{
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) - less,
                          memory_order_release);
}

static inline uint64_t tkv_usage_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_acquire);
}

static inline void tkv_usage_live(struct tkv_usage *usage, uint64_t bytes, uint64_t records)
{
    tkv_usage_add_alone(&usage->live_bytes, bytes);
    tkv_usage_add_alone(&usage->live_records, records);
}

static inline void tkv_usage_dead(struct tkv_usage *usage, uint64_t bytes, uint64_t records)
{
    tkv_usage_sub_alone(&usage->live_bytes, bytes);
    tkv_usage_sub_alone(&usage->live_records, records);
}

#endif
