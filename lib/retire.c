/* SPDX-License-Identifier: MIT */
/*
 * retire.c - from memory to disk for good: a data file that is full and durable gets its hint,
 * is read through its mapping from then on, and its memory tail is freed once no reader is
 * left. It takes as long as writing the file did, so whoever is waited for, a writer that makes
 * room or the compactor, leaves it to the flusher.
 *
 * When something fails: a hint that cannot be written costs time at the next opening.
 *
 * Threads: tkv_retire() with `upkeep` held, the others any.
 */
#include "store.h"

void tkv_retire(struct tkv_store *store)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;
    bool any = false;

    if (atomic_load(&store->poisoned) != TKV_OK)
        return;
    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (!tkv_datafile_is_settled(file))
            continue;
        tkv_load_write_hint(store, file);
        any |= tkv_datafile_retire_tail(file);
    }
    if (any)
        tkv_epoch_wait(&store->epoch);
    slot = 0;
    while ((file = tkv_files_next(store, &slot)) != NULL)
        tkv_datafile_free_tail(file);
}

/* ---- By whom ------------------------------------------------------------------------- */

void tkv_retire_soon(struct tkv_store *store)
{
    if (!store->flusher.started)
        tkv_retire(store);
    else if (!atomic_exchange(&store->retire_asked, true))
        tkv_worker_wake(&store->flusher);
}
