/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - the compactor's view of the store: which file, where survivors go, and in which
 * order things become durable. One step removes one file:
 *
 *   pick      by the counters alone (compactor/pick.h)
 *   copy      survivors to the output file, without any lock (compactor/copy.h)
 *   judge     the deletes: look for older records of their keys in the other files' hints
 *   settle    write and sync the output; sync the log, so that whatever made a record dead is
 *             at least as durable as its removal
 *   publish   the manifest without the file
 *   install   repoint the index, wait for the last reader, unlink
 *
 * Only files that are sealed and durable in full are taken: copying a record that a power cut
 * could still take back would make it durable ahead of its predecessors.
 *
 * A failure before publish leaves the input as it was; what was appended to the output is
 * taken back. A failed sync of the output poisons the store, like any other.
 */
#include "store.h"

#include "bytes.h"
#include "copy.h"
#include "hint.h"
#include "pick.h"
#include "walk.h"

#include <stdlib.h>

/* ---- What is garbage ------------------------------------------------------------------------------ */

/* Tombstones count as garbage until a compaction has found what they hide; then they are
 * needed for as long as that file exists. */
static uint64_t kept_bytes(struct tkv_datafile *file)
{
    const uint64_t live = tkv_usage_get(&file->usage.live_bytes);
    const uint64_t pinned_by = atomic_load(&file->pinned_by);

    return pinned_by == 0 ? live : live + tkv_usage_get(&file->usage.tombstone_bytes);
}

static struct tkv_pick_policy policy_of(const struct tkv_store *store, bool everything)
{
    return (struct tkv_pick_policy){
        .size_min = store->options.compact_size_min,
        .space_factor = store->options.space_factor,
        .everything = everything,
    };
}

static uint64_t kept_in_all(struct tkv_store *store)
{
    return tkv_usage_get(&store->totals.live_bytes) + tkv_usage_get(&store->pinned_bytes);
}

static uint64_t garbage(struct tkv_store *store)
{
    const uint64_t total = tkv_usage_get(&store->disk_bytes), kept = kept_in_all(store);

    return total > kept ? total - kept : 0;
}

bool tkv_reclaim_wanted(struct tkv_store *store)
{
    const struct tkv_pick_policy policy = policy_of(store, false);
    const uint64_t futile =
        atomic_load_explicit(&store->reclaim_futile, memory_order_relaxed);

    if (atomic_load_explicit(&store->poisoned, memory_order_relaxed) != TKV_OK)
        return false;
    /* It did not help a moment ago: wait until there is more to gain. */
    if (futile != 0 && garbage(store) < futile + 64 * 1024)
        return false;
    if (atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        return garbage(store) >= 64 * 1024;
    return tkv_pick_wanted(tkv_usage_get(&store->disk_bytes), kept_in_all(store), &policy);
}

static bool is_eligible(struct tkv_datafile *file)
{
    return atomic_load(&file->sealed) && file->durable == atomic_load(&file->size) &&
           file->durable != 0 && !atomic_load(&file->damaged);
}

/* ---- Pick -------------------------------------------------------------------------------------------- */

struct selection {
    struct tkv_pick_file *files;
    struct tkv_datafile **handles;
    size_t count;
};

static void release_selection(struct selection *s)
{
    free(s->files);
    free(s->handles);
}

/* With `upkeep` held, so that no file is removed meanwhile. */
static enum tkv_status list_candidates(struct tkv_store *store, struct selection *s,
                                       struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);
    const uint64_t now = atomic_load(&store->seq_last);

    s->count = 0;
    s->files = calloc(used + 1, sizeof *s->files);
    s->handles = calloc(used + 1, sizeof *s->handles);
    if (s->files == NULL || s->handles == NULL)
        return tkv_fail_memory(err, used * sizeof *s->files, "a compaction");
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL)
            continue;
        s->handles[s->count] = file;
        s->files[s->count++] = (struct tkv_pick_file){
            .size = atomic_load(&file->size),
            .kept_bytes = kept_bytes(file),
            .age = now > file->seq_max ? now - file->seq_max : 0,
            .eligible = is_eligible(file),
        };
    }
    return TKV_OK;
}

/* Needs no reading: nothing in it is live, and no older record is left that its deletes could
 * hide. */
static bool is_plainly_dead(struct tkv_store *store, struct tkv_datafile *file)
{
    const uint32_t used = atomic_load(&store->slots_used);

    if (!is_eligible(file) || tkv_usage_get(&file->usage.live_records) != 0)
        return false;
    if (tkv_usage_get(&file->usage.tombstone_bytes) == 0)
        return true;
    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *other = tkv_files_at(store, slot);

        if (other != NULL && other != file && other->seq_min_put < file->seq_max)
            return false;
    }
    return true;
}

/* ---- Copy --------------------------------------------------------------------------------------------- */

#define OUTPUTS_MAX 4u

/* A file that this job appends to, and how it was before. */
struct output {
    struct tkv_datafile *file;
    bool is_new;
    uint64_t size, records, tombstone_bytes;
};

struct job {
    struct tkv_store *store;
    struct output outputs[OUTPUTS_MAX];
    size_t output_count;
    uint64_t pinned_by;
    struct tkv_copy_job copy;
};

static bool output_fits(const struct job *job, struct tkv_datafile *output, size_t size)
{
    const struct tkv_datafile *source = job->copy.source;

    return tkv_datafile_room(output) >= size + TKV_BLOCK_SIZE &&
           source->seq_base >= output->seq_base &&
           source->seq_max - output->seq_base <= UINT32_MAX / 2;
}

/* The lowest base of all files lets one output take from any of them, until a store has seen
 * billions of writes. */
static uint64_t output_seq_base(const struct job *job)
{
    struct tkv_store *store = job->store;
    const uint32_t used = atomic_load(&store->slots_used);
    uint64_t base = job->copy.source->seq_base;

    for (uint32_t slot = 0; slot < used; slot++) {
        const struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file != NULL && file->file_class != TKV_FILE_LARGE && file->seq_base < base)
            base = file->seq_base;
    }
    if (job->copy.source->seq_max - base > UINT32_MAX / 2)
        base = job->copy.source->seq_base;
    return base;
}

static enum tkv_status begin_output(struct job *job, size_t size, struct tkv_error *err)
{
    struct tkv_store *store = job->store;
    uint64_t capacity = tkv_files_capacity(store), number;
    struct tkv_datafile *file;
    enum tkv_status status;

    if (capacity < size + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE)
        capacity = size + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE;
    tkv_mutex_lock(&store->apply);
    number = store->next_number++;
    tkv_mutex_unlock(&store->apply);
    status = tkv_datafile_new(store->os, store->uuid, number, output_seq_base(job),
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
    if (store->output != NULL)
        atomic_store(&store->output->sealed, true);
    store->output = file;
    return TKV_OK;
}

/* Remember the output as it is before the first append. */
static enum tkv_status note_output(struct job *job, struct tkv_error *err)
{
    struct tkv_datafile *file = job->store->output;

    for (size_t i = 0; i < job->output_count; i++) {
        if (job->outputs[i].file == file)
            return TKV_OK;
    }
    if (job->output_count == OUTPUTS_MAX)
        return tkv_fail(err, TKV_TOO_BIG, "a compaction of %s needs more than %u files",
                        job->copy.source->name, OUTPUTS_MAX);
    job->outputs[job->output_count++] = (struct output){
        .file = file,
        .is_new = file->durable == 0,
        .size = atomic_load(&file->size),
        .records = tkv_usage_get(&file->usage.records),
        .tombstone_bytes = tkv_usage_get(&file->usage.tombstone_bytes),
    };
    return TKV_OK;
}

/* struct tkv_copy_job.append. */
static enum tkv_status append_survivor(void *context, const struct tkv_record *record,
                                       const uint8_t *bytes, size_t size,
                                       uint64_t *ret_place, struct tkv_error *err)
{
    struct job *job = context;
    struct tkv_store *store = job->store;
    const unsigned flags = record->kind == TKV_RECORD_LARGE ? TKV_PLACE_LARGE : 0;
    enum tkv_status status = TKV_OK;
    uint64_t offset;

    if (store->output == NULL || !output_fits(job, store->output, size))
        status = begin_output(job, size, err);
    if (status == TKV_OK)
        status = note_output(job, err);
    if (status != TKV_OK)
        return status;
    offset = tkv_datafile_append(store->output, bytes, size);
    tkv_datafile_note_record(store->output, record->seq, record->kind == TKV_RECORD_DELETE);
    tkv_usage_add(&store->totals.records, 1);
    tkv_usage_add(&store->disk_bytes, size);
    if (record->kind == TKV_RECORD_DELETE) {
        tkv_usage_add(&store->output->usage.tombstone_bytes, size);
        tkv_usage_add(&store->totals.tombstone_bytes, size);
    }
    *ret_place = tkv_place(store->output->slot, offset, flags);
    return TKV_OK;
}

/* struct tkv_copy_job.expired. */
static void count_expired(void *context, const struct tkv_location *location)
{
    struct job *job = context;

    tkv_mutex_lock(&job->store->apply);
    tkv_files_expired(job->store, location);
    tkv_mutex_unlock(&job->store->apply);
}

/* ---- Judge the deletes ------------------------------------------------------------------------------------ */

static void note_older(struct job *job, struct tkv_datafile *file, struct tkv_slice key,
                       uint64_t seq)
{
    if (tkv_tombstones_note(&job->copy.tombstones, tkv_index_hash(job->store->index, key),
                            seq))
        job->pinned_by = file->number;
}

static enum tkv_status note_from_hint(struct job *job, struct tkv_datafile *file)
{
    struct tkv_hint_identity identity = {.number = file->number,
                                         .data_size = atomic_load(&file->size)};
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;
    enum tkv_status status;

    memcpy(identity.uuid, job->store->uuid, sizeof identity.uuid);
    status = tkv_hint_open(job->store->os, job->store->dir, &identity, &hint, NULL);
    if (status != TKV_OK)
        return status;
    while (tkv_hint_next(hint, &entry)) {
        if (entry.kind != TKV_RECORD_DELETE)
            note_older(job, file, entry.key, entry.seq);
    }
    tkv_hint_free(hint);
    return TKV_OK;
}

static enum tkv_status note_from_records(struct job *job, struct tkv_datafile *file,
                                         struct tkv_error *err)
{
    struct tkv_walk walk;
    enum tkv_status status;

    tkv_walk_begin(&walk, file, atomic_load(&file->size));
    while (tkv_walk_next(&walk)) {
        if (walk.record.kind != TKV_RECORD_DELETE)
            note_older(job, file, walk.record.key, walk.record.seq);
    }
    status = walk.status;
    if (status != TKV_OK && err != NULL)
        *err = walk.error;
    tkv_walk_end(&walk);
    return status;
}

static void need_all(struct tkv_tombstones *tombstones)
{
    for (size_t i = 0; i < tombstones->count; i++)
        tombstones->items[i].needed = true;
    tombstones->undecided = 0;
}

/* A file that holds an older record pins the delete; every file that could is looked at. */
static enum tkv_status judge_tombstones(struct job *job, struct tkv_error *err)
{
    struct tkv_store *store = job->store;
    struct tkv_tombstones *tombstones = &job->copy.tombstones;
    const uint32_t used = atomic_load(&store->slots_used);

    for (uint32_t slot = 0; slot < used && tombstones->undecided > 0; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL || file == job->copy.source ||
            file->file_class == TKV_FILE_LARGE || file->seq_min_put >= tombstones->seq_max)
            continue;
        if (note_from_hint(job, file) == TKV_OK)
            continue;
        if (note_from_records(job, file, err) != TKV_OK) {
            need_all(tombstones); /* what cannot be read may hold anything */
            job->pinned_by = file->number;
        }
    }
    return TKV_OK;
}

/* ---- Settle and publish -------------------------------------------------------------------------------------- */

static enum tkv_status settle_output(struct tkv_store *store, struct tkv_datafile *output,
                                     struct tkv_error *err)
{
    const uint64_t before = atomic_load(&output->size),
                   from = atomic_load(&output->written);
    const uint64_t target = tkv_datafile_pad(output);
    enum tkv_status status;

    tkv_usage_add(&store->disk_bytes, target - before);
    status = tkv_datafile_write(output, store->dir, target, &store->dir_changed, err);
    tkv_usage_add(&store->counters.data_bytes_written,
                  atomic_load(&output->written) - from);
    tkv_usage_add(&store->counters.compaction_bytes_written,
                  atomic_load(&output->written) - from);
    if (status != TKV_OK)
        return status;
    tkv_usage_add(&store->counters.data_syncs, 1);
    status = tkv_datafile_sync(output, err);
    if (status != TKV_OK) {
        tkv_store_poison(store, status);
        return status;
    }
    output->durable = target;
    output->durable_sealed = atomic_load(&output->sealed);
    return TKV_OK;
}

/* All of the compactor's files, those of an earlier step that failed half-way included. */
static enum tkv_status settle(struct tkv_store *store, struct tkv_error *err)
{
    const uint32_t used = atomic_load(&store->slots_used);
    enum tkv_status status = TKV_OK;

    for (uint32_t slot = 0; slot < used && status == TKV_OK; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file != NULL && file->file_class == TKV_FILE_COMPACTED &&
            file->durable != atomic_load(&file->size))
            status = settle_output(store, file, err);
    }
    if (status == TKV_OK)
        status = tkv_wal_sync(&store->wal, err);
    if (status == TKV_IO)
        tkv_store_poison(store, status);
    return status;
}

static enum tkv_status publish_without(struct tkv_store *store, struct tkv_datafile *file,
                                       struct tkv_error *err)
{
    enum tkv_status status;

    atomic_store(&file->condemned, true);
    status = tkv_checkpoint_manifest(store, err);
    /* Poisoned, nobody knows which manifest is on disk; the file stays out of ours, and stays
     * readable. */
    if (status != TKV_OK && atomic_load(&store->poisoned) == TKV_OK)
        atomic_store(&file->condemned, false);
    return status;
}

/* ---- Install and remove ----------------------------------------------------------------------------------------- */

static uint64_t install(struct job *job)
{
    struct tkv_store *store = job->store;
    struct tkv_datafile *source = job->copy.source;
    uint64_t moved = 0;

    for (size_t i = 0; i < job->copy.move_count; i++) {
        const struct tkv_move *m = &job->copy.moves[i];
        struct tkv_datafile *to = tkv_files_at(store, tkv_place_slot(m->to));

        /* Live in the new place before it can be overwritten there. */
        tkv_usage_live(&to->usage, m->size);
        if (tkv_copy_install(&job->copy, i)) {
            tkv_usage_dead(&source->usage, m->size);
            moved++;
        } else {
            tkv_usage_dead(&to->usage, m->size);
        }
    }
    return moved;
}

/* What cannot be unlinked now is a leftover that the next opening removes. */
static void unlink_hint(struct tkv_store *store, const struct tkv_datafile *file)
{
    char hint[TKV_FILE_NAME_SIZE];

    tkv_hint_name(file->number, hint);
    (void)store->os->unlink(store->os, store->dir, hint);
}

static void unlink_file(struct tkv_store *store, const struct tkv_datafile *file)
{
    (void)store->os->unlink(store->os, store->dir, file->name);
    unlink_hint(store, file);
}

/* What `file` pinned is garbage again, as far as known. */
static void unpin_tombstones(struct tkv_store *store, uint64_t number)
{
    const uint32_t used = atomic_load(&store->slots_used);

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file == NULL ||
            (file->number != number && atomic_load(&file->pinned_by) != number))
            continue;
        tkv_usage_sub(&store->pinned_bytes, atomic_exchange(&file->pinned_bytes, 0));
        atomic_store(&file->pinned_by, 0);
    }
}

static void remove_file(struct tkv_store *store, struct tkv_datafile *file)
{
    const struct tkv_event event = {.kind = TKV_EVENT_FILE_REMOVED,
                                    .file = file->number,
                                    .bytes = atomic_load(&file->size)};

    unpin_tombstones(store, file->number);
    unlink_file(store, file);
    tkv_files_remove(store, file);
    tkv_store_emit(store, event);
}

static void retire_outputs(struct job *job)
{
    struct tkv_store *store = job->store;
    bool any = false;

    for (size_t i = 0; i < job->output_count; i++) {
        struct tkv_datafile *file = job->outputs[i].file;

        if (tkv_datafile_is_settled(file))
            tkv_load_write_hint(store, file);
        any |= tkv_datafile_retire_tail(file);
    }
    if (any)
        tkv_epoch_wait(&store->epoch);
    for (size_t i = 0; i < job->output_count; i++)
        tkv_datafile_free_tail(job->outputs[i].file);
}

/* Tombstones that stayed have a witness now; they are no garbage while it exists. */
static void note_pins(struct job *job)
{
    struct tkv_store *store = job->store;

    if (job->pinned_by == 0)
        return;
    for (size_t i = 0; i < job->output_count; i++) {
        struct tkv_datafile *output = job->outputs[i].file;
        const uint64_t bytes = tkv_usage_get(&output->usage.tombstone_bytes);

        atomic_store(&output->pinned_by, job->pinned_by);
        tkv_usage_add(&store->pinned_bytes, bytes - atomic_load(&output->pinned_bytes));
        atomic_store(&output->pinned_bytes, bytes);
    }
}

/* ---- When it fails ------------------------------------------------------------------- */

static void undo_counts(struct tkv_store *store, const struct output *output)
{
    struct tkv_usage *usage = &output->file->usage;

    tkv_usage_sub(&store->totals.records, tkv_usage_get(&usage->records) - output->records);
    tkv_usage_sub(&store->totals.tombstone_bytes,
                  tkv_usage_get(&usage->tombstone_bytes) - output->tombstone_bytes);
    tkv_usage_sub(&store->disk_bytes, atomic_load(&output->file->size) - output->size);
    atomic_store(&usage->tombstone_bytes, output->tombstone_bytes);
}

/* Nothing points at what was appended: take it back, lest a full disk fill up with attempts.
 * A poisoned store is left as it is. */
static void undo_outputs(struct job *job)
{
    struct tkv_store *store = job->store;

    if (atomic_load(&store->poisoned) != TKV_OK)
        return;
    tkv_mutex_lock(&store->upkeep);
    for (size_t i = 0; i < job->output_count; i++) {
        const struct output *output = &job->outputs[i];

        if (output->file->durable > output->size)
            continue; /* synced already: garbage that the next manifest lists */
        undo_counts(store, output);
        tkv_datafile_rewind(output->file, output->size, output->records);
        if (!output->is_new)
            continue;
        if (store->output == output->file)
            store->output = NULL;
        if (output->file->exists)
            unlink_file(store, output->file);
        tkv_files_remove(store, output->file);
    }
    tkv_mutex_unlock(&store->upkeep);
}

/* ---- One step ------------------------------------------------------------------------------------------------------ */

static void count_compaction(struct tkv_store *store, const struct job *job,
                             uint64_t reclaimed, uint64_t started_us)
{
    struct tkv_counters *c = &store->counters;

    tkv_usage_add(&c->compactions, 1);
    tkv_usage_add(&c->compaction_bytes_read, job->copy.bytes_in);
    tkv_usage_add(&c->compaction_bytes_reclaimed, reclaimed);
    atomic_store(&c->last_compaction_at_ms, tkv_store_now_ms(store));
    atomic_store(&c->last_compaction_micros, tkv_store_now_us(store) - started_us);
}

/* With `upkeep` held: from copied bytes to a smaller store. */
static enum tkv_status finish(struct job *job, uint64_t started_us, uint64_t *ret_reclaimed,
                              struct tkv_error *err)
{
    struct tkv_store *store = job->store;
    struct tkv_datafile *source = job->copy.source;
    const uint64_t number = source->number, size = atomic_load(&source->size);
    const uint64_t gain = size > job->copy.bytes_out ? size - job->copy.bytes_out : 0;
    enum tkv_status status = settle(store, err);
    uint64_t moved;

    if (status == TKV_OK)
        status = publish_without(store, source, err);
    if (status != TKV_OK)
        return status;
    moved = install(job);
    retire_outputs(job);
    note_pins(job);
    remove_file(store, source);
    count_compaction(store, job, gain, started_us);
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_COMPACTION_INSTALLED,
                                             .file = number,
                                             .count = moved,
                                             .bytes = gain});
    *ret_reclaimed = gain;
    return TKV_OK;
}

/* Read and copy, with no lock but `compact`. */
static enum tkv_status gather(struct job *job, struct tkv_error *err)
{
    enum tkv_status status = tkv_copy_run(&job->copy, err);

    if (status == TKV_OK && job->copy.tombstones.count > 0)
        status = judge_tombstones(job, err);
    if (status == TKV_OK)
        status = tkv_copy_tombstones(&job->copy, err);
    if (status == TKV_OK && !tkv_copy_balances(&job->copy))
        status =
            tkv_fail_corrupt(err, job->copy.source->name, 0, 0,
                             "%llu records went into a compaction, not as many as counted",
                             (unsigned long long)job->copy.records_in);
    return status;
}

/* A damaged file stays where it is, for what can still be read from it. */
static void set_damaged_aside(struct tkv_store *store, struct tkv_datafile *file)
{
    atomic_store(&file->damaged, true);
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_CORRUPTION,
                                             .status = TKV_CORRUPT,
                                             .file = file->number});
}

static enum tkv_status compact_file(struct tkv_store *store, struct tkv_datafile *source,
                                    uint64_t *ret_reclaimed, struct tkv_error *err)
{
    const uint64_t started_us = tkv_store_now_us(store);
    struct job job = {
        .store = store,
        .copy = {.source = source,
                 .index = store->index,
                 .now_ms = tkv_store_now_ms(store),
                 .append = append_survivor,
                 .expired = count_expired}
    };
    enum tkv_status status;

    job.copy.context = &job;
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_COMPACTION_PICKED,
                                             .file = source->number,
                                             .bytes = atomic_load(&source->size)});
    status = gather(&job, err);
    if (status == TKV_OK) {
        tkv_store_emit(store,
                       (struct tkv_event){.kind = TKV_EVENT_COMPACTION_COPIED,
                                          .file = source->number,
                                          .count = job.copy.move_count,
                                          .bytes = job.copy.bytes_out,
                                          .micros = tkv_store_now_us(store) - started_us});
        tkv_mutex_lock(&store->upkeep);
        status = finish(&job, started_us, ret_reclaimed, err);
        tkv_mutex_unlock(&store->upkeep);
    } else if (status == TKV_CORRUPT || status == TKV_IO) {
        set_damaged_aside(store, source);
    }
    if (status != TKV_OK)
        undo_outputs(&job);
    tkv_copy_release(&job.copy);
    return status;
}

/* With `upkeep` held. All that are dead go in one manifest. */
static enum tkv_status remove_dead(struct tkv_store *store, const struct selection *s,
                                   bool *ret_did, uint64_t *ret_reclaimed,
                                   struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++) {
        if (!is_plainly_dead(store, s->handles[i]))
            continue;
        atomic_store(&s->handles[i]->condemned, true);
        unlink_hint(store, s->handles[i]); /* room for the manifest when the disk is full */
        count++;
    }
    if (count == 0)
        return TKV_OK;
    status = tkv_wal_sync(&store->wal, err);
    if (status == TKV_IO)
        tkv_store_poison(store, status);
    if (status == TKV_OK)
        status = tkv_checkpoint_manifest(store, err);
    for (size_t i = 0; i < s->count; i++) {
        if (!atomic_load(&s->handles[i]->condemned))
            continue;
        if (status == TKV_OK) {
            *ret_reclaimed += atomic_load(&s->handles[i]->size);
            remove_file(store, s->handles[i]);
        } else if (atomic_load(&store->poisoned) == TKV_OK) {
            atomic_store(&s->handles[i]->condemned, false);
        }
    }
    *ret_did = status == TKV_OK;
    return status;
}

/* What is worth compacting may not be sealed or durable yet. With `upkeep` held. */
static enum tkv_status roll(struct tkv_store *store, bool everything, struct tkv_error *err)
{
    const struct tkv_pick_policy policy = policy_of(store, everything);
    struct tkv_pick_file file = {.eligible = true};
    enum tkv_status status = TKV_OK;

    tkv_mutex_lock(&store->apply);
    file.size = atomic_load(&store->active->size);
    file.kept_bytes = tkv_usage_get(&store->active->usage.live_bytes);
    if (file.size > TKV_BLOCK_SIZE && tkv_pick(&file, 1, &policy) == 0)
        status = tkv_apply_rotate(store, 0, err);
    tkv_mutex_unlock(&store->apply);
    if (status == TKV_OK)
        status = tkv_checkpoint_locked(store, false, err);
    return status;
}

/* Close the output when it is worth compacting itself. With `upkeep` and `compact` held. */
static void roll_output(struct tkv_store *store, bool everything)
{
    const struct tkv_pick_policy policy = policy_of(store, everything);
    struct tkv_datafile *output = store->output;
    struct tkv_pick_file file = {.eligible = true};

    if (output == NULL)
        return;
    file.size = atomic_load(&output->size);
    file.kept_bytes = kept_bytes(output);
    if (file.size <= TKV_BLOCK_SIZE || output->durable != file.size ||
        tkv_pick(&file, 1, &policy) != 0)
        return;
    atomic_store(&output->sealed, true);
    output->durable_sealed = true;
    store->output = NULL;
    if (tkv_datafile_retire_tail(output)) {
        tkv_epoch_wait(&store->epoch);
        tkv_datafile_free_tail(output);
    }
}

/* The next victim, or NULL; files that are plainly dead are removed on the way. */
static enum tkv_status choose(struct tkv_store *store, bool everything,
                              struct tkv_datafile **ret_source, bool *ret_did,
                              uint64_t *ret_reclaimed, struct tkv_error *err)
{
    const struct tkv_pick_policy policy = policy_of(store, everything);
    struct selection s = {0};
    enum tkv_status status = list_candidates(store, &s, err);
    size_t picked;

    *ret_source = NULL;
    if (status == TKV_OK)
        status = remove_dead(store, &s, ret_did, ret_reclaimed, err);
    if (status == TKV_OK && !*ret_did) {
        picked = tkv_pick(s.files, s.count, &policy);
        if (picked != TKV_PICK_NONE)
            *ret_source = s.handles[picked];
    }
    release_selection(&s);
    return status;
}

static enum tkv_status step(struct tkv_store *store, bool everything, bool *ret_did,
                            uint64_t *ret_reclaimed, struct tkv_error *err)
{
    struct tkv_datafile *source = NULL;
    enum tkv_status status;

    tkv_mutex_lock(&store->upkeep);
    status = tkv_store_check_writable(store, err);
    if (status == TKV_OK)
        status = choose(store, everything, &source, ret_did, ret_reclaimed, err);
    if (status == TKV_OK && source == NULL && !*ret_did) {
        roll_output(store, everything);
        status = roll(store, everything, err);
        if (status == TKV_OK)
            status = choose(store, everything, &source, ret_did, ret_reclaimed, err);
    }
    tkv_mutex_unlock(&store->upkeep);
    if (status != TKV_OK || source == NULL)
        return status;
    /* Nobody else removes files while `compact` is held. */
    status = compact_file(store, source, ret_reclaimed, err);
    if (status == TKV_CORRUPT && atomic_load(&source->damaged)) {
        *ret_did = true; /* there may be others that are whole */
        return TKV_OK;
    }
    *ret_did = status == TKV_OK;
    return status;
}

enum tkv_status tkv_reclaim_step(struct tkv_store *store, bool everything, bool *ret_did,
                                 uint64_t *ret_reclaimed, struct tkv_error *err)
{
    enum tkv_status status;
    uint64_t reclaimed = 0;

    *ret_did = false;
    tkv_mutex_lock(&store->compact);
    status = step(store, everything, ret_did, &reclaimed, err);
    tkv_mutex_unlock(&store->compact);
    atomic_store(&store->reclaim_futile,
                 status == TKV_OK && *ret_did ? 0 : garbage(store) + 1);
    if (ret_reclaimed != NULL)
        *ret_reclaimed = reclaimed;
    return status;
}
