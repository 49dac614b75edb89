/* SPDX-License-Identifier: MIT */
/*
 * checkpoint_state.c - the durable state, which is what MANIFEST and the newer of the log's
 * two headers say together: which data files there are, up to which size and with which
 * records they are on disk, and from where the log counts. It is written here and read in
 * recover_state.c. A checkpoint changes it, and so does who takes files out of the set, marks
 * an idle log or begins a closed one anew.
 *
 * Invariants:
 *   - It says no more than is on disk: `durable` sizes, and names that were synced before.
 *   - A header is news about the manifest that it names: files that are not as listed there.
 *     Where a header has no room, or a file is not listed, the manifest is replaced first.
 *   - Headers alternate between two blocks by their generation. One that was not written uses
 *     none up.
 *
 * When something fails:
 *   - No room on the disk, no descriptor left, no memory: the old state stands.
 *   - A header, or a manifest that may or may not have been replaced: poison.
 *
 * Threads: with `upkeep` held.
 */
#include "store.h"

#include <stdlib.h>

/* ---- Manifest -------------------------------------------------------------------- */

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
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (!file->is_being_listed)
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
    status = tkv_flush_directory(store, err);
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

/* ---- Log header ------------------------------------------------------------------ */

/* Every file that is not as the manifest says. False when there is one that the manifest does
 * not know, or more than a header has room for. */
static bool fill_header(struct tkv_store *store, struct tkv_wal_header *header)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;
    bool complete = true;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->durable == 0 || atomic_load(&file->condemned))
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

enum tkv_status tkv_checkpoint_write_header(struct tkv_store *store, bool clean,
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
    status = tkv_checkpoint_write_header(store, clean, false, err);
    if (status != TKV_OK)
        store->checkpoint.generation--;
    return status;
}

enum tkv_status tkv_checkpoint_manifest(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = replace_manifest(store, err);

    if (status != TKV_OK)
        return tkv_space_note_failure(store, status);
    /* With a header that names it, an older manifest put in its place is told apart. */
    return tkv_space_note_failure(store, write_next_header(store, false, err));
}

enum tkv_status tkv_checkpoint_both_headers(struct tkv_store *store, struct tkv_error *err)
{
    return tkv_space_note_failure(store, write_next_header(store, false, err));
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
    return tkv_space_note_failure(store, status);
}

enum tkv_status tkv_checkpoint_mark(struct tkv_store *store, struct tkv_error *err)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    if (state.poisoned != TKV_OK || state.durable <= store->marked)
        return TKV_OK;
    return tkv_space_note_failure(store, write_next_header(store, false, err));
}
