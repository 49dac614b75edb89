/* SPDX-License-Identifier: MIT */
/*
 * pace.c - a writer that is faster than the compactor is slowed, so that the directory stays
 * near its limit; a compactor that is fast enough copies at leisure, so that the device and the
 * processors are there for others. Both sleep in naps, and nobody is ever stopped.
 *
 * Threads: any for tkv_pace_writer(), which sleeps without a lock; the compactor's for
 * tkv_pace_copy(), which sleeps with `compact` held and no other.
 */
#include "store.h"

#include <time.h>

/* How far `total` bytes in data files are above what was promised, in steps of a twentieth of
 * the live bytes plus half a file: 0 below the limit. */
static double overshoot(struct tkv_store *store, uint64_t total)
{
    const double live = (double)tkv_usage_get(&store->live_bytes) +
                        (double)tkv_usage_get(&store->pinned_bytes);
    const double file = (double)tkv_files_capacity(store);
    const double limit = store->options.space_factor * live + file / 2;

    return (double)total <= limit ? 0 : ((double)total - limit) / (live / 20 + file / 2);
}

/* ---- Writers --------------------------------------------------------------------- */

#define PACE_NS_PER_BYTE 40u             /* 25 MB/s when a whole step over the limit */
#define PACE_NAP_NS      (200u * 1000)   /* shorter naps are not what one gets */
#define PACE_NAP_MAX_NS  (20u * 1000000) /* slowed, never stopped */

/* Without what the compaction that is going on has copied: that is there twice until the input
 * is removed, which is no writer's fault and is promised separately. */
static uint64_t bytes_without_copies(struct tkv_store *store)
{
    const uint64_t kept = tkv_usage_get(&store->copies_kept); /* first: it is not more */
    const uint64_t copies = tkv_usage_get(&store->copied_bytes) - kept;
    const uint64_t total = tkv_files_disk_bytes(store);

    return total > copies ? total - copies : 0;
}

void tkv_pace_writer(struct tkv_store *store, uint64_t bytes)
{
    double step;
    uint64_t debt;

    if (!store->compactor.started || !store->options.auto_compact ||
        tkv_files_disk_bytes(store) <= store->options.compact_size_min)
        return;
    step = overshoot(store, bytes_without_copies(store));
    if (step <= 0)
        return;
    if (!atomic_exchange(&store->reclaim_asked, true))
        tkv_worker_wake(&store->compactor);
    if (atomic_load(&store->reclaim_futile) != 0)
        return; /* waiting would bring nothing */
    debt = (uint64_t)((double)bytes * PACE_NS_PER_BYTE * step * step);
    debt += atomic_fetch_add(&store->pace_debt_ns, debt);
    if (debt < PACE_NAP_NS)
        return;
    atomic_store(&store->pace_debt_ns, 0);
    atomic_store(&store->held_back_us, tkv_store_now_us(store));
    if (debt > PACE_NAP_MAX_NS)
        debt = PACE_NAP_MAX_NS;
    (void)nanosleep(&(struct timespec){0, (long)debt}, NULL);
}

/* ---- The compactor --------------------------------------------------------------- */

#define COPY_BYTES_PER_US 100u          /* 100 MB/s while there is no hurry */
#define COPY_BURST        (256u * 1024) /* looked at so often */
#define HURRY_US          50000u        /* for so long after a writer was held back */

/* There is a hurry when the directory is above its limit, when a writer had to wait for that a
 * moment ago, or when the disk is full: then the bucket has no bottom. */
static bool is_in_hurry(struct tkv_store *store, uint64_t now_us)
{
    const uint64_t held_back_us = atomic_load(&store->held_back_us);

    return overshoot(store, tkv_files_disk_bytes(store)) > 0 ||
           atomic_load(&store->disk_full) ||
           (held_back_us != 0 && now_us < held_back_us + HURRY_US);
}

void tkv_pace_copy(struct tkv_store *store, uint64_t *bytes_copied, uint64_t *from_us,
                   size_t bytes)
{
    uint64_t due_us, now_us;

    *bytes_copied += bytes;
    if (*bytes_copied < COPY_BURST)
        return;
    now_us = tkv_store_now_us(store);
    due_us = *from_us + *bytes_copied / COPY_BYTES_PER_US;
    if (*from_us != 0 && due_us > now_us && due_us - now_us < 1000000 &&
        !is_in_hurry(store, now_us))
        (void)nanosleep(&(struct timespec){0, (long)(due_us - now_us) * 1000}, NULL);
    *bytes_copied = 0;
    *from_us = tkv_store_now_us(store);
}
