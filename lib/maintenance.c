/* SPDX-License-Identifier: MIT */
/*
 * maintenance.c - upkeep by hand: the application asks for it and waits, where upkeep.c sees
 * what is due. The threads, if there are any, go on beside it.
 *
 * When something fails, the caller is told, and what was done until then stays done.
 *
 * Threads: any.
 */
#include "store.h"

enum tkv_status tkv_sync(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    return status == TKV_OK ? tkv_flush_log(store, err) : status;
}

enum tkv_status tkv_checkpoint(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status != TKV_OK)
        return status;
    tkv_mutex_lock(&store->upkeep);
    status = tkv_checkpoint_locked(store, false, err);
    if (status == TKV_OK)
        tkv_retire(store);
    tkv_mutex_unlock(&store->upkeep);
    return status;
}

enum tkv_status tkv_compact(struct tkv_store *store, uint64_t *ret_bytes_reclaimed,
                            struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);
    uint64_t total = 0, reclaimed = 0, below;
    bool did = true;

    if (status != TKV_OK)
        return status;
    tkv_upkeep_expire(store);
    /* What is written from now on is not chased, or this would never end beside a writer. */
    tkv_mutex_lock(&store->apply);
    below = store->next_number;
    tkv_mutex_unlock(&store->apply);
    while (did && status == TKV_OK) {
        did = false;
        status = tkv_reclaim_step(store, below, &did, &reclaimed, err);
        total += reclaimed;
        reclaimed = 0;
    }
    tkv_removed_finish(store);
    if (status == TKV_OK && atomic_load(&store->disk_full)) {
        tkv_mutex_lock(&store->upkeep);
        status = tkv_store_check_writable(store, err);
        if (status == TKV_OK)
            status = tkv_files_sync_names(store, err);
        tkv_mutex_unlock(&store->upkeep);
    }
    if (status == TKV_OK && ret_bytes_reclaimed != NULL)
        *ret_bytes_reclaimed = total;
    return status;
}
