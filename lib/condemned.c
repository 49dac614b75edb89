/* SPDX-License-Identifier: MIT */
#include "condemned.h"

#include "store.h"

/* ---- From the manifest ----------------------------------------------------------- */

static bool is_all_in_data_files(struct tkv_store *store)
{
    bool is_all;

    tkv_mutex_lock(&store->apply);
    is_all = store->applied_end.position == store->checkpoint.position;
    tkv_mutex_unlock(&store->apply);
    return is_all;
}

static enum tkv_status leave_out_beside_log(struct tkv_store *store, struct tkv_error *err)
{
    const enum tkv_status status = tkv_flush_log(store, err);

    return status == TKV_OK ? tkv_checkpoint_manifest(store, err) : status;
}

/*
 * The records of condemned files that are left out were superseded by newer ones, which must be
 * durable first: in the log or in the data files. A log that is written to through a mapping is
 * expensive to sync: each of its pages is protected again, which interrupts the other processors,
 * and costs a fault when it is written to in the next lap. A checkpoint writes what has to be
 * written in any case, unless there is no room for it.
 */
enum tkv_status tkv_condemned_leave_out(struct tkv_store *store, struct tkv_error *err)
{
    struct tkv_error reason;
    enum tkv_status status;

    if (store->options.durability == TKV_DURABILITY_ALWAYS)
        return leave_out_beside_log(store, err);
    if (is_all_in_data_files(store))
        return tkv_checkpoint_manifest(store, err);
    status = tkv_checkpoint_renewed(store, &reason);
    if (status == TKV_OK) {
        tkv_retire_soon(store);
        return TKV_OK;
    }
    if (atomic_load(&store->poisoned) == TKV_OK)
        return leave_out_beside_log(store, err);
    tkv_error_copy(err, &reason);
    return status;
}

/* ---- From the directory ---------------------------------------------------------- */

/* What `file` pinned is garbage again, as far as known. */
static void unpin_tombstones(struct tkv_store *store, uint64_t number)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->number != number && atomic_load(&file->pinned_by) != number)
            continue;
        tkv_usage_sub(&store->pinned_bytes, atomic_exchange(&file->pinned_bytes, 0));
        atomic_store(&file->pinned_by, 0);
    }
}

void tkv_condemned_remove(struct tkv_store *store, struct tkv_datafile *file)
{
    const struct tkv_event event = {.kind = TKV_EVENT_FILE_REMOVED,
                                    .file = file->number,
                                    .bytes = atomic_load(&file->size)};

    unpin_tombstones(store, file->number);
    tkv_removed_prepare(store, file);
    tkv_files_unlink(store, file);
    tkv_files_remove(store, file);
    tkv_store_emit(store, event);
}

/* ---- Files without a live record ------------------------------------------------- */

/* On a full disk their hints make room for the manifest; without it they cost time only. */
static enum tkv_status leave_out_dead(struct tkv_store *store,
                                      const struct tkv_garbage_list *list,
                                      struct tkv_error *err)
{
    struct tkv_error reason;
    const enum tkv_status status = tkv_condemned_leave_out(store, &reason);

    if (status == TKV_OK)
        return TKV_OK;
    if (status != TKV_NO_SPACE || atomic_load(&store->poisoned) != TKV_OK) {
        tkv_error_copy(err, &reason);
        return status;
    }
    for (size_t i = 0; i < list->count; i++) {
        if (atomic_load(&list->handles[i]->condemned))
            tkv_files_unlink_hint(store, list->handles[i]);
    }
    return tkv_condemned_leave_out(store, err);
}

enum tkv_status TKV_COLD tkv_condemned_remove_dead(struct tkv_store *store,
                                                   const struct tkv_garbage_list *list,
                                                   bool *ret_did, uint64_t *ret_reclaimed,
                                                   struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++) {
        if (!tkv_garbage_is_dead(store, list->handles[i]))
            continue;
        atomic_store(&list->handles[i]->condemned, true);
        count++;
    }
    if (count == 0)
        return TKV_OK;
    status = leave_out_dead(store, list, err);
    for (size_t i = 0; i < list->count; i++) {
        if (!atomic_load(&list->handles[i]->condemned))
            continue;
        if (status == TKV_OK) {
            *ret_reclaimed += atomic_load(&list->handles[i]->size);
            tkv_condemned_remove(store, list->handles[i]);
        } else if (atomic_load(&store->poisoned) == TKV_OK) {
            atomic_store(&list->handles[i]->condemned, false);
        }
    }
    *ret_did = status == TKV_OK;
    return status;
}
