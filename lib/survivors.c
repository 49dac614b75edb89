/* SPDX-License-Identifier: MIT */
#include "survivors.h"

#include "store.h"

#include <stdlib.h>

/* ---- Appending ------------------------------------------------------------------- */

/* What outlives its second file is likely to outlive more of them. */
static struct tkv_datafile **output_of(const struct tkv_survivors *survivors)
{
    const bool again = survivors->source->file_class == TKV_FILE_COMPACTED;

    return &survivors->store->outputs[again ? TKV_OUTPUT_OLD : TKV_OUTPUT_YOUNG];
}

static bool output_fits(const struct tkv_survivors *survivors, struct tkv_datafile *output,
                        size_t size)
{
    const struct tkv_datafile *source = survivors->source;

    return tkv_datafile_room(output) >= size + TKV_BLOCK_SIZE &&
           source->seq_base >= output->seq_base &&
           source->seq_max - output->seq_base <= UINT32_MAX / 2;
}

/* The lowest base of all files lets one output take from any of them, until a store has seen
 * billions of writes. */
static uint64_t output_seq_base(const struct tkv_survivors *survivors)
{
    struct tkv_store *store = survivors->store;
    const struct tkv_datafile *file;
    uint64_t base = survivors->source->seq_base;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->file_class != TKV_FILE_LARGE && file->seq_base < base)
            base = file->seq_base;
    }
    if (survivors->source->seq_max - base > UINT32_MAX / 2)
        base = survivors->source->seq_base;
    return base;
}

static enum tkv_status begin_output(struct tkv_survivors *survivors, size_t size,
                                    struct tkv_error *err)
{
    struct tkv_store *store = survivors->store;
    struct tkv_datafile **output = output_of(survivors);
    uint64_t capacity = tkv_files_capacity(store), number;
    struct tkv_datafile *file;
    enum tkv_status status;

    if (capacity < size + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE)
        capacity = size + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE;
    tkv_mutex_lock(&store->apply);
    number = store->next_number++;
    tkv_mutex_unlock(&store->apply);
    status = tkv_datafile_new(store->os, store->uuid, number, output_seq_base(survivors),
                              TKV_FILE_COMPACTED, capacity,
                              store->options.read_mode == TKV_READ_MMAP, &file, err);
    if (status != TKV_OK)
        return status;
    tkv_mutex_lock(&store->apply);
    status = tkv_files_add(store, file, err);
    tkv_mutex_unlock(&store->apply);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    if (*output != NULL)
        atomic_store(&(*output)->sealed, true);
    *output = file;
    return TKV_OK;
}

/* Remember the output as it is before the first append. */
static enum tkv_status note_output(struct tkv_survivors *survivors,
                                   struct tkv_survivors_output **ret_output,
                                   struct tkv_error *err)
{
    struct tkv_datafile *file = *output_of(survivors);
    struct tkv_survivors_output *outputs;

    for (size_t i = 0; i < survivors->output_count; i++) {
        *ret_output = &survivors->outputs[i];
        if ((*ret_output)->file == file)
            return TKV_OK;
    }
    outputs = realloc(survivors->outputs, (survivors->output_count + 1) * sizeof *outputs);
    if (outputs == NULL)
        return tkv_fail_memory(err, sizeof *outputs, "a compaction's outputs");
    survivors->outputs = outputs;
    *ret_output = &outputs[survivors->output_count++];
    **ret_output = (struct tkv_survivors_output){
        .file = file,
        .is_new = file->durable == 0,
        .size = atomic_load(&file->size),
        .records = tkv_usage_get(&file->usage.records),
        .record_sum = tkv_usage_get(&file->record_sum),
    };
    return TKV_OK;
}

enum tkv_status tkv_survivors_append(void *context, const struct tkv_record *record,
                                     const uint8_t *bytes, size_t size, uint64_t *ret_place,
                                     struct tkv_error *err)
{
    struct tkv_survivors *survivors = context;
    struct tkv_store *store = survivors->store;
    struct tkv_datafile **output = output_of(survivors);
    struct tkv_survivors_output *noted = NULL;
    const unsigned flags = record->kind == TKV_RECORD_LARGE ? TKV_PLACE_LARGE : 0;
    enum tkv_status status = TKV_OK;
    uint64_t offset;

    if (*output == NULL || !output_fits(survivors, *output, size))
        status = begin_output(survivors, size, err);
    if (status == TKV_OK)
        status = note_output(survivors, &noted, err);
    if (status != TKV_OK)
        return status;
    if (survivors->is_paced)
        tkv_pace_copy(store, &survivors->paced_bytes, &survivors->paced_from_us, size);
    offset = tkv_datafile_append(*output, bytes, size);
    tkv_datafile_note_record(*output, offset, record->seq,
                             record->kind == TKV_RECORD_DELETE);
    tkv_usage_add_alone(&store->copied_bytes, size);
    if (record->kind == TKV_RECORD_DELETE) {
        tkv_usage_add(&(*output)->usage.tombstone_bytes, size);
        noted->tombstone_bytes += size;
    } else {
        noted->puts_bytes += size;
        noted->puts++;
    }
    *ret_place = tkv_place((*output)->slot, offset, flags);
    return TKV_OK;
}

/* ---- Made durable ---------------------------------------------------------------- */

static bool is_output(const struct tkv_datafile *file)
{
    return file->file_class == TKV_FILE_COMPACTED;
}

/* Sealed without another byte, because the next record did not fit, is news as well. */
static bool is_durable_as_it_is(struct tkv_datafile *file)
{
    return file->durable == atomic_load(&file->size) &&
           file->durable_sealed == atomic_load(&file->sealed);
}

static enum tkv_status settle_output(struct tkv_store *store, struct tkv_datafile *output,
                                     struct tkv_error *err)
{
    const uint64_t before = atomic_load(&output->size);
    const uint64_t target = tkv_datafile_pad(output);
    enum tkv_status status;

    tkv_usage_add_alone(&store->copied_bytes, target - before);
    status = tkv_flush_file(store, output, target, err);
    if (status != TKV_OK)
        return status;
    status = tkv_flush_sync(store, output, err);
    if (status != TKV_OK)
        return status;
    output->durable = target;
    output->durable_sum = tkv_usage_get(&output->record_sum);
    output->durable_sealed = atomic_load(&output->sealed);
    return TKV_OK;
}

enum tkv_status tkv_survivors_settle(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while (status == TKV_OK && (file = tkv_files_next(store, &slot)) != NULL) {
        if (is_output(file) && !is_durable_as_it_is(file))
            status = settle_output(store, file, err);
    }
    return status; /* a failed sync has poisoned; anything else takes the output back */
}

void tkv_survivors_release(struct tkv_survivors *survivors)
{
    free(survivors->outputs);
    survivors->outputs = NULL;
    survivors->output_count = 0;
}

/* ---- When it fails --------------------------------------------------------------- */

static void undo_counts(struct tkv_store *store, const struct tkv_survivors_output *output)
{
    tkv_usage_add_alone(&store->copied_bytes,
                        output->size - atomic_load(&output->file->size));
    tkv_usage_sub(&output->file->usage.tombstone_bytes, output->tombstone_bytes);
}

/* Left on the disk it would be space that no account knows. */
static void cut_what_was_written(struct tkv_store *store,
                                 const struct tkv_survivors_output *output)
{
    if (!output->is_new && atomic_load(&output->file->written) > output->size)
        (void)store->os->truncate(store->os, output->file->fd, output->size);
}

void tkv_survivors_undo(struct tkv_survivors *survivors)
{
    struct tkv_store *store = survivors->store;

    if (atomic_load(&store->poisoned) != TKV_OK)
        return;
    tkv_mutex_lock(&store->upkeep);
    for (size_t i = 0; i < survivors->output_count; i++) {
        const struct tkv_survivors_output *output = &survivors->outputs[i];

        if (output->file->durable > output->size) {
            /* Synced already: garbage that the next manifest lists, and nobody noted. */
            atomic_store(&output->file->superseded.is_complete, false);
            continue;
        }
        undo_counts(store, output);
        cut_what_was_written(store, output);
        tkv_datafile_rewind(output->file, output->size, output->records,
                            output->record_sum);
        if (!output->is_new)
            continue;
        for (unsigned j = 0; j < TKV_OUTPUT_COUNT; j++) {
            if (store->outputs[j] == output->file)
                store->outputs[j] = NULL;
        }
        if (output->file->exists)
            tkv_files_unlink(store, output->file);
        tkv_files_remove(store, output->file);
    }
    tkv_mutex_unlock(&store->upkeep);
}
