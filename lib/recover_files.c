/* SPDX-License-Identifier: MIT */
/*
 * recover_files.c - the data files that the manifest lists: opened, loaded into the index, and
 * those that were being written made ready to grow.
 *
 * When it fails, the store that is being opened is given up with all that it holds; on disk
 * nothing has changed but hints.
 */
#include "recovery.h"

/* ---- Data files ------------------------------------------------------------------ */

/* What the header said of a file differs from what the manifest says: the next header has to
 * say it again. */
static void keep_news(struct tkv_recovery *r)
{
    if (r->header.manifest_epoch != r->manifest.epoch)
        return;
    for (uint32_t i = 0; i < r->header.file_count; i++) {
        struct tkv_datafile *file = tkv_files_find(r->store, r->header.files[i].number);

        if (file != NULL)
            file->listed_size = 0; /* as no durable file has it */
    }
}

enum tkv_status tkv_recovery_open_files(struct tkv_recovery *r, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    for (size_t i = 0; i < r->manifest.file_count && status == TKV_OK; i++)
        status = tkv_load_open(r->store, &r->manifest.files[i], r->report, err);
    if (status == TKV_OK)
        keep_news(r);
    return status;
}

/* While the data files are loaded. */
struct loading {
    uint64_t bytes, loaded_bytes; /* of all data files with records */
    uint64_t expected_keys;       /* for which the index has been presized */
};

static uint64_t bytes_of_records(const struct tkv_recovery *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->manifest.file_count; i++) {
        if (r->manifest.files[i].file_class != TKV_FILE_LARGE)
            bytes += r->manifest.files[i].durable_size;
    }
    return bytes;
}

/* Make the index as large as all files need if they are like those that were loaded, of which
 * some records are dead; but not more than four times as large as it has to be by now. */
static void presize(struct tkv_store *store, struct loading *loading)
{
    const uint64_t keys = tkv_index_count(store->index);
    double all;

    if (keys * 2 <= loading->expected_keys)
        return;
    all = (double)keys * (double)loading->bytes / (double)loading->loaded_bytes /
          store->options.space_factor;
    loading->expected_keys = all < 4.0 * (double)keys ? (uint64_t)all : 4 * keys;
    tkv_index_presize(store->index, loading->expected_keys);
}

enum tkv_status tkv_recovery_load_files(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct loading loading = {bytes_of_records(r), 0, store->options.expected_keys};
    enum tkv_status status = TKV_OK;
    struct tkv_datafile *file;
    struct tkv_error error;
    uint32_t slot = 0;

    store->applied_seq_next = r->from.seq_next; /* all in the data files is older */
    tkv_index_presize(store->index, store->options.expected_keys);
    while (status == TKV_OK && (file = tkv_files_next(store, &slot)) != NULL) {
        if (file->file_class == TKV_FILE_LARGE)
            continue;
        status = tkv_load_file(store, file, r->report, &error);
        loading.loaded_bytes += file->durable;
        presize(store, &loading);
        if (tkv_gaps_accept(store, status)) {
            tkv_gaps_note_body(store, r->report, file, error.offset, r->from.seq_next);
            status = TKV_OK;
        }
    }
    if (status != TKV_OK)
        tkv_error_copy(err, &error);
    if (store->has_tombstones)
        (void)tkv_index_drop_tombstones(store->index);
    return status;
}

static struct tkv_datafile *newest_unsealed(struct tkv_store *store,
                                            enum tkv_file_class file_class)
{
    struct tkv_datafile *newest = NULL, *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->file_class == file_class && !file->durable_sealed &&
            (newest == NULL || file->number > newest->number))
            newest = file;
    }
    return newest;
}

/* The last unsealed files of a class, `count` of them, go on growing, unless they are nearly
 * full; all others are sealed. */
static enum tkv_status reopen(struct tkv_recovery *r, enum tkv_file_class file_class,
                              struct tkv_datafile **ret_files, size_t count,
                              struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const uint64_t capacity = tkv_files_capacity(store);
    enum tkv_status status = TKV_OK;
    struct tkv_datafile *file;
    size_t seen = 0, reopened = 0;

    while (status == TKV_OK && (file = newest_unsealed(store, file_class)) != NULL) {
        file->durable_sealed = true; /* out of the way of the next look */
        if (seen++ >= count || file->durable + 4 * TKV_BLOCK_SIZE > capacity)
            continue;
        ret_files[reopened++] = file;
        status = tkv_datafile_reopen_tail(file, capacity, err);
    }
    for (size_t i = 0; i < reopened; i++)
        ret_files[i]->durable_sealed = false;
    return status;
}

/* Which output received what is not on disk. Taken for the other, it mixes one file. */
static enum tkv_status reopen_outputs(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_datafile **outputs = r->store->outputs;
    enum tkv_status status = reopen(r, TKV_FILE_COMPACTED, outputs, TKV_OUTPUT_COUNT, err);
    struct tkv_datafile *young = outputs[TKV_OUTPUT_YOUNG], *old = outputs[TKV_OUTPUT_OLD];

    if (young != NULL && old != NULL && old->seq_max > young->seq_max) {
        outputs[TKV_OUTPUT_YOUNG] = old;
        outputs[TKV_OUTPUT_OLD] = young;
    }
    return status;
}

enum tkv_status tkv_recovery_reopen(struct tkv_recovery *r, struct tkv_error *err)
{
    enum tkv_status status = reopen(r, TKV_FILE_FRESH, &r->store->active, 1, err);

    return status == TKV_OK && !r->store->options.read_only ? reopen_outputs(r, err)
                                                            : status;
}
