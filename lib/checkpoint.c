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
 * When something fails:
 *   - No room on the disk: the old checkpoint stands, the log keeps its bytes, and writes go
 *     on while the ring has room. It is tried again later.
 *   - No descriptor left, a write that failed: likewise; it is tried again later.
 *   - A failed sync, or a manifest that may or may not have been replaced: poison.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

static bool is_empty(struct tkv_datafile *file)
{
    return atomic_load(&file->size) <= TKV_DATA_HEADER_SIZE;
}

static enum tkv_status note_failure(struct tkv_store *store, enum tkv_status status)
{
    if (status == TKV_NO_SPACE)
        tkv_space_exhausted(store);
    return status;
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

static enum tkv_status sync_directory(struct tkv_store *store, struct tkv_error *err)
{
    int result;

    if (!store->dir_changed)
        return TKV_OK;
    result = store->os->sync_dir(store->os, store->dir);
    tkv_usage_add(&store->counters.data_syncs, 1);
    if (result < 0)
        return tkv_flush_note_sync(
            store, tkv_fail_lost(err, result, "", "sync the store's directory"));
    store->dir_changed = false;
    return TKV_OK;
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
    return sync_directory(store, err);
}

/* ---- 4: manifest ----------------------------------------------------------------- */

static int by_number(const void *left, const void *right)
{
    const struct tkv_manifest_file *l = left, *r = right;

    return l->number < r->number ? -1 : l->number > r->number;
}

/* What is durable and belongs to the set. A file that was never synced is left out. */
static enum tkv_status list_files(struct tkv_store *store, struct tkv_manifest *manifest,
                                  struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);
    const size_t size = (size_t)used * sizeof *manifest->files;

    manifest->files = malloc(size + 1);
    if (manifest->files == NULL)
        return tkv_fail_memory(err, size, "a manifest");
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL)
            continue;
        file->is_being_listed = false;
        if (file->durable == 0 || atomic_load(&file->condemned))
            continue;
        file->is_being_listed = true;
        manifest->files[manifest->file_count++] = (struct tkv_manifest_file){
            .number = file->number,
            .durable_size = file->durable,
            .record_sum = file->durable_sum,
            .seq_base = file->seq_base,
            .file_class = file->file_class,
            .sealed = file->durable_sealed,
        };
    }
    qsort(manifest->files, manifest->file_count, sizeof *manifest->files, by_number);
    return TKV_OK;
}

static void note_listed(struct tkv_store *store)
{
    const uint32_t used = atomic_load(&store->slots_used);

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL || !file->is_being_listed)
            continue;
        file->listed = true;
        file->listed_size = file->durable;
        file->listed_sealed = file->durable_sealed;
    }
}

/* A file that a manifest leaves out may have been superseded by what only the log has. Should
 * the disk have lied about that, the next recovery must know that something was there. */
static uint64_t durable_mark(struct tkv_store *store)
{
    const uint64_t from = store->checkpoint.position;
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    if (state.durable <= from)
        return from;
    return state.durable - from < TKV_MANIFEST_MARK_MAX ? state.durable
                                                        : from + TKV_MANIFEST_MARK_MAX;
}

static enum tkv_status replace_manifest(struct tkv_store *store, struct tkv_error *err)
{
    struct tkv_manifest manifest = {.epoch = store->manifest_epoch + 1,
                                    .checkpoint = store->checkpoint};
    enum tkv_status status;
    bool unknown = false;

    memcpy(manifest.uuid, store->uuid, sizeof manifest.uuid);
    /* A manifest must not be durable before the names in it are. */
    status = sync_directory(store, err);
    if (status == TKV_OK)
        status = list_files(store, &manifest, err);
    if (status != TKV_OK)
        return status;
    /* A log whose header is older than this is not the log that belongs to this manifest. */
    manifest.checkpoint.generation = store->header_generation;
    manifest.durable_mark = durable_mark(store);
    /* Files of large values may enter the table at any time: only now is every number that
     * the list can hold below this one. */
    tkv_mutex_lock(&store->apply);
    manifest.next_number = store->next_number;
    tkv_mutex_unlock(&store->apply);
    status = tkv_manifest_write(store->os, store->dir, &manifest, &unknown, err);
    tkv_usage_add(&store->counters.data_syncs, 2);
    tkv_manifest_release(&manifest);
    if (status == TKV_OK) {
        store->manifest_epoch++;
        store->dir_changed = false; /* the directory was synced with the rename */
        note_listed(store);
        return TKV_OK;
    }
    if (unknown)
        tkv_store_poison(store, status);
    return status;
}

/* ---- 5: log header --------------------------------------------------------------- */

/* Every file that is not as the manifest says. False when there is one that the manifest does
 * not know, or more than a header has room for. */
static bool fill_header(struct tkv_store *store, struct tkv_wal_header *header)
{
    const uint32_t used = atomic_load(&store->slots_used);
    bool complete = true;

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL || file->durable == 0 || atomic_load(&file->condemned))
            continue;
        if (!file->listed) {
            complete = false;
            continue;
        }
        if (file->listed_size == file->durable &&
            file->listed_sealed == file->durable_sealed)
            continue;
        if (header->file_count == TKV_WAL_HEADER_FILES_MAX) {
            complete = false;
            continue;
        }
        header->files[header->file_count++] = (struct tkv_wal_header_file){
            file->number, file->durable, file->durable_sealed, file->durable_sum};
    }
    return complete;
}

static enum tkv_status write_header(struct tkv_store *store, bool clean,
                                    bool renews_manifest, struct tkv_error *err)
{
    struct tkv_wal_header header;
    enum tkv_status status;

    memset(&header, 0, sizeof header);
    if (!fill_header(store, &header) || renews_manifest) {
        status = replace_manifest(store, err);
        if (status != TKV_OK)
            return status;
        header.file_count = 0;
        (void)fill_header(store, &header);
    }
    memcpy(header.uuid, store->uuid, sizeof header.uuid);
    header.checkpoint = store->checkpoint;
    header.manifest_epoch = store->manifest_epoch;
    header.clean = clean;
    status = tkv_wal_write_header(&store->wal, &header, err);
    if (status != TKV_OK) {
        tkv_store_poison(store, tkv_wal_poisoned(&store->wal)); /* its own reason */
        return status;
    }
    store->marked = header.durable_mark;
    store->header_generation = header.checkpoint.generation;
    return TKV_OK;
}

/* A generation that was not written is used again: the next one would go over the newest. */
static enum tkv_status write_next_header(struct tkv_store *store, bool clean,
                                         struct tkv_error *err)
{
    enum tkv_status status;

    store->checkpoint.generation++;
    status = write_header(store, clean, false, err);
    if (status != TKV_OK)
        store->checkpoint.generation--;
    return status;
}

enum tkv_status tkv_checkpoint_manifest(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = replace_manifest(store, err);

    if (status != TKV_OK)
        return note_failure(store, status);
    /* With a header that names it, an older manifest put in its place is told apart. */
    return note_failure(store, write_next_header(store, false, err));
}

enum tkv_status tkv_checkpoint_both_headers(struct tkv_store *store, struct tkv_error *err)
{
    return note_failure(store, write_next_header(store, false, err));
}

enum tkv_status tkv_checkpoint_restarted(struct tkv_store *store,
                                         const struct tkv_ring_place *place,
                                         struct tkv_error *err)
{
    enum tkv_status status;

    store->checkpoint.position = place->position;
    store->checkpoint.file_offset = place->file_offset;
    status = write_next_header(store, true, err);
    if (status == TKV_OK)
        status = write_next_header(store, true, err);
    return note_failure(store, status);
}

enum tkv_status tkv_checkpoint_mark(struct tkv_store *store, struct tkv_error *err)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    if (state.poisoned != TKV_OK || state.durable <= store->marked)
        return TKV_OK;
    return note_failure(store, write_next_header(store, false, err));
}

/* ---- All together ---------------------------------------------------------------- */

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
    status = write_header(store, plan->clean, plan->renews_manifest, err);
    if (status != TKV_OK) {
        store->checkpoint = old;
        exchange(plan);
    }
    return status;
}

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
        return note_failure(store, status);
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
