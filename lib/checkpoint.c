/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.c - bring the data files up to date with the log, so that the log's space can be
 * used again. The happy path:
 *
 *   1. take the place up to which everything is applied, pad the active file to a block
 *      boundary, and note which records it has by then: a short look under `apply`;
 *   2. write and sync every data file that has grown since the last checkpoint;
 *   3. sync the directory if files were created;
 *   4. if the manifest does not list one of them, replace the manifest;
 *   5. write a log header that says: everything before that place is in the data files, whose
 *      durable sizes are these; then release the log's space.
 *
 * How 4 and 5 are said is checkpoint_state.c.
 *
 * When something fails:
 *   - No room on the disk: the old checkpoint stands, the log keeps its bytes, and writes go
 *     on while the ring has room. It is tried again later.
 *   - No descriptor left, a write that failed: likewise; it is tried again later.
 *   - A failed sync, or a manifest that may or may not have been replaced: poison.
 *
 * Threads: with `upkeep` held.
 */
#include "store.h"

#include <stdlib.h>

static bool is_empty(struct tkv_datafile *file)
{
    return atomic_load(&file->size) <= TKV_DATA_HEADER_SIZE;
}

/* ---- 1: what a checkpoint will say ----------------------------------------------- */

struct target {
    struct tkv_datafile *file;
    uint64_t size, record_sum;
    bool sealed;
};

struct plan {
    struct tkv_checkpoint checkpoint;
    struct tkv_ring_place place;
    struct target *targets;
    size_t count;
    bool clean;           /* the store is being closed */
    bool renews_manifest; /* even if every file in the set is listed */
};

static enum tkv_status make_plan(struct tkv_store *store, struct plan *plan,
                                 struct tkv_error *err)
{
    uint32_t used;
    size_t capacity;

    tkv_mutex_lock(&store->apply);
    used = atomic_load(&store->slots_used);
    capacity = (size_t)used * sizeof *plan->targets;
    plan->targets = malloc(capacity + 1);
    if (plan->targets == NULL) {
        tkv_mutex_unlock(&store->apply);
        return tkv_fail_memory(err, capacity, "a checkpoint");
    }
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);
        uint64_t before;

        if (file == NULL || !tkv_flush_is_fed_by_log(file) || is_empty(file))
            continue;
        before = atomic_load(&file->size);
        plan->targets[plan->count++] =
            (struct target){file, tkv_datafile_pad(file), tkv_usage_get(&file->record_sum),
                            atomic_load(&file->sealed)};
        tkv_usage_add(&store->other_bytes, atomic_load(&file->size) - before);
    }
    plan->place = store->applied_end;
    plan->checkpoint = store->checkpoint;
    plan->checkpoint.generation++;
    plan->checkpoint.position = plan->place.position;
    plan->checkpoint.file_offset = plan->place.file_offset;
    plan->checkpoint.seq_next = store->applied_seq_next;
    plan->checkpoint.chain = store->applied_chain;
    tkv_mutex_unlock(&store->apply);
    return TKV_OK;
}

/* ---- 2, 3: data files ------------------------------------------------------------ */

static enum tkv_status sync_target(struct tkv_store *store, const struct target *target,
                                   struct tkv_error *err)
{
    enum tkv_status status;

    if (target->file->durable == target->size)
        return TKV_OK;
    status = tkv_flush_file(store, target->file, target->size, err);
    return status == TKV_OK ? tkv_flush_sync(store, target->file, err) : status;
}

static enum tkv_status sync_all(struct tkv_store *store, const struct plan *plan,
                                struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    for (size_t i = 0; i < plan->count && status == TKV_OK; i++)
        status = sync_target(store, &plan->targets[i], err);
    if (status != TKV_OK)
        return status;
    atomic_store(&store->flush_kept, 0);
    return tkv_flush_directory(store, err);
}

/* ---- 4, 5: saying it ------------------------------------------------------------- */

/* Give the files the sizes of the plan and the plan the sizes that they had; done twice, it is
 * undone. */
static void exchange(struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        struct target *target = &plan->targets[i];
        const struct target before = {target->file, target->file->durable,
                                      target->file->durable_sum,
                                      target->file->durable_sealed};

        target->file->durable = target->size;
        target->file->durable_sum = target->record_sum;
        target->file->durable_sealed = target->sealed;
        *target = before;
    }
}

static enum tkv_status publish(struct tkv_store *store, struct plan *plan,
                               struct tkv_error *err)
{
    const struct tkv_checkpoint old = store->checkpoint;
    enum tkv_status status;

    exchange(plan);
    store->checkpoint = plan->checkpoint;
    status = tkv_checkpoint_write_header(store, plan->clean, plan->renews_manifest, err);
    if (status != TKV_OK) {
        store->checkpoint = old;
        exchange(plan);
    }
    return status;
}

/* ---- All together ---------------------------------------------------------------- */

static enum tkv_status checkpoint(struct tkv_store *store, struct plan *plan,
                                  struct tkv_error *err)
{
    enum tkv_status status = sync_all(store, plan, err);

    if (status == TKV_OK)
        status = publish(store, plan, err);
    if (status == TKV_OK) {
        tkv_wal_release(&store->wal, &plan->place);
        atomic_store(&store->log_released, plan->place.position);
    }
    return status;
}

static enum tkv_status take_checkpoint(struct tkv_store *store, struct plan *plan,
                                       struct tkv_error *err)
{
    const uint64_t started_us = tkv_store_now_us(store);
    const uint64_t from = store->checkpoint.position;
    enum tkv_status status;

    if (atomic_load(&store->poisoned) != TKV_OK)
        return tkv_store_check_writable(store, err);
    status = make_plan(store, plan, err);
    if (status == TKV_OK)
        status = checkpoint(store, plan, err);
    free(plan->targets);
    if (status != TKV_OK)
        return tkv_space_note_failure(store, status);
    /* A compaction has written its output by now, from the reserve perhaps, and gives its input
     * back in a moment. */
    if (!plan->renews_manifest)
        tkv_space_note(store);
    tkv_usage_add(&store->counters.checkpoints, 1);
    store->checkpoint_us = started_us;
    tkv_store_emit(store,
                   (struct tkv_event){.kind = TKV_EVENT_CHECKPOINTED,
                                      .bytes = store->checkpoint.position - from,
                                      .micros = tkv_store_now_us(store) - started_us});
    return TKV_OK;
}

enum tkv_status tkv_checkpoint_locked(struct tkv_store *store, bool clean,
                                      struct tkv_error *err)
{
    struct plan plan = {.clean = clean};

    return take_checkpoint(store, &plan, err);
}

enum tkv_status tkv_checkpoint_renewed(struct tkv_store *store, struct tkv_error *err)
{
    struct plan plan = {.renews_manifest = true};

    return take_checkpoint(store, &plan, err);
}
