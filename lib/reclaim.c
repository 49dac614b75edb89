/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - one step of the compactor, and in which order things become durable. It removes
 * one file:
 *
 *   pick      by the counters alone (lib/garbage.h)
 *   copy      survivors to an output file, without any lock (compactor/copy.h,
 *             lib/survivors.h)
 *   judge     the deletes (lib/judge.c)
 *   settle    write and sync the output
 *   publish   the manifest without the file, and before it whatever made a record dead: that
 *             must be at least as durable as the removal (lib/condemned.h)
 *   install   repoint the index; then the file is removed
 *
 * A failure before publish leaves the input as it was; what was appended to the output is
 * taken back. A failed sync of the output poisons the store, like any other.
 */
#include "store.h"

#include "condemned.h"
#include "copy.h"
#include "garbage.h"
#include "survivors.h"

struct job {
    struct tkv_store *store;
    struct tkv_survivors survivors;
    uint64_t pinned_by; /* a file that needed deletes hide something of; or 0 */
    struct tkv_copy_job copy;
};

/* struct tkv_copy_job.expired. */
static void count_expired(void *context, const struct tkv_location *location)
{
    const struct tkv_survivors *survivors = context;
    struct tkv_store *store = survivors->store;

    tkv_mutex_lock(&store->apply);
    tkv_files_expired(store, location);
    tkv_mutex_unlock(&store->apply);
}

/* ---- Publish and install --------------------------------------------------------- */

static enum tkv_status publish_without(struct tkv_store *store, struct tkv_datafile *file,
                                       struct tkv_error *err)
{
    enum tkv_status status;

    atomic_store(&file->condemned, true);
    status = tkv_condemned_leave_out(store, err);
    /* Poisoned, nobody knows which manifest is on disk; the file stays out of ours, and stays
     * readable. */
    if (status != TKV_OK && atomic_load(&store->poisoned) == TKV_OK)
        atomic_store(&file->condemned, false);
    return status;
}

/* All are live in their new places before one of them can be overwritten there. */
static void count_live(struct job *job)
{
    tkv_mutex_lock(&job->store->apply);
    for (size_t i = 0; i < job->survivors.output_count; i++) {
        const struct tkv_survivors_output *output = &job->survivors.outputs[i];

        tkv_usage_live(&output->file->usage, output->puts_bytes, output->puts);
    }
    tkv_mutex_unlock(&job->store->apply);
}

/* A record was written again, deleted, or has expired while its copy was on its way. One that
 * may have expired may hide older ones. */
static void count_stale(struct tkv_store *store, const struct tkv_move *move)
{
    const struct tkv_location copy = {
        .place = move->to, .size = move->size, .expires_at_ms = move->expires};
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(copy.place));

    if (move->expires) /* first: else the file might look dead in between */
        tkv_usage_add(&file->usage.tombstone_bytes, copy.size);
    tkv_usage_dead(&file->usage, copy.size, 1);
    tkv_files_superseded(store, &copy);
}

#define STALE_STEP 64u /* counted while writers wait */

/* What was live in the source is so no more, nor are the copies that are stale. */
static void count_dead(struct job *job, uint64_t moved_bytes, uint64_t moved, size_t stale)
{
    size_t counted = 0;

    tkv_mutex_lock(&job->store->apply);
    tkv_usage_dead(&job->copy.source->usage, moved_bytes, moved);
    tkv_mutex_unlock(&job->store->apply);
    while (counted < stale) {
        const size_t left = stale - counted;
        const size_t end = counted + (left < STALE_STEP ? left : STALE_STEP);

        tkv_mutex_lock(&job->store->apply);
        while (counted < end)
            count_stale(job->store, &job->copy.moves[counted++]);
        tkv_mutex_unlock(&job->store->apply);
    }
}

static uint64_t install(struct job *job)
{
    struct tkv_move *moves = job->copy.moves;
    uint64_t moved_bytes = 0;
    size_t stale = 0;

    count_live(job);
    for (size_t i = 0; i < job->copy.move_count; i++) {
        if (tkv_copy_install(&job->copy, i))
            moved_bytes += moves[i].size;
        else
            moves[stale++] = moves[i]; /* its place is behind */
    }
    count_dead(job, moved_bytes, job->copy.move_count - stale, stale);
    return job->copy.move_count - stale;
}

/* Tombstones that stayed have a witness now; they are no garbage while it exists. */
static void note_pins(struct job *job)
{
    struct tkv_store *store = job->store;

    if (job->pinned_by == 0)
        return;
    for (size_t i = 0; i < job->survivors.output_count; i++) {
        struct tkv_datafile *output = job->survivors.outputs[i].file;
        const uint64_t bytes = tkv_usage_get(&output->usage.tombstone_bytes);

        atomic_store(&output->pinned_by, job->pinned_by);
        tkv_usage_add(&store->pinned_bytes, bytes - atomic_load(&output->pinned_bytes));
        atomic_store(&output->pinned_bytes, bytes);
    }
}

/* ---- One step -------------------------------------------------------------------- */

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
    enum tkv_status status = tkv_flush_begin(store, err);
    uint64_t moved;

    if (status == TKV_OK)
        status = tkv_survivors_settle(store, err);
    if (status == TKV_OK)
        status = publish_without(store, source, err);
    if (status != TKV_OK)
        return status;
    moved = install(job);
    tkv_retire_soon(store);
    note_pins(job);
    tkv_condemned_remove(store, source);
    count_compaction(store, job, gain, started_us);
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_COMPACTION_INSTALLED,
                                             .file = number,
                                             .count = moved,
                                             .bytes = gain});
    *ret_reclaimed = gain;
    return TKV_OK;
}

/* A hint that is not of these records can have put keys into the index that were not met
 * here: without the file they would point nowhere. `apply` makes the count exact. */
static enum tkv_status check_all_live_met(struct job *job, struct tkv_error *err)
{
    struct tkv_datafile *source = job->copy.source;
    uint64_t live;

    tkv_mutex_lock(&job->store->apply);
    live = tkv_usage_get(&source->usage.live_records);
    tkv_mutex_unlock(&job->store->apply);
    if (live <= job->copy.move_count)
        return TKV_OK;
    return tkv_fail_corrupt(
        err, source->name, 0, 0, "%llu of the %llu live records are not in the file",
        (unsigned long long)(live - job->copy.move_count), (unsigned long long)live);
}

/* Read and copy, with no lock but `compact`. */
static enum tkv_status gather(struct job *job, struct tkv_error *err)
{
    enum tkv_status status = tkv_copy_run(&job->copy, err);

    if (status == TKV_OK)
        status = check_all_live_met(job, err);
    if (status != TKV_OK)
        return status;
    if (job->copy.tombstones.count > 0)
        job->pinned_by =
            tkv_judge_tombstones(job->store, job->copy.source, &job->copy.tombstones);
    status = tkv_copy_tombstones(&job->copy, err);
    if (status == TKV_OK && !tkv_copy_balances(&job->copy))
        status = tkv_fail_corrupt(
            err, job->copy.source->name, 0, 0,
            "%llu records went into a compaction, not those that were known",
            (unsigned long long)job->copy.records_in);
    return status;
}

/* A damaged file stays where it is, for what can still be read from it. */
static void set_damaged_aside(struct tkv_store *store, struct tkv_datafile *file,
                              enum tkv_status status)
{
    atomic_store(&file->damaged, true);
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_CORRUPTION,
                                             .status = status,
                                             .file = file->number});
}

static enum tkv_status compact_file(struct tkv_store *store, struct tkv_datafile *source,
                                    bool is_paced, uint64_t *ret_reclaimed,
                                    struct tkv_error *err)
{
    const uint64_t started_us = tkv_store_now_us(store);
    struct job job = {
        .store = store,
        .survivors = {.store = store,                 .source = source},
        .copy = { .source = source,
                      .index = store->index,
                      .now_ms = tkv_store_now_ms(store),
                      .append = tkv_survivors_append,
                      .expired = count_expired}
    };
    enum tkv_status status;

    job.survivors.is_paced = is_paced;
    job.copy.context = &job.survivors;
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
        status =
            tkv_store_check_writable(store, err); /* after the copying, which takes long */
        if (status == TKV_OK)
            status = finish(&job, started_us, ret_reclaimed, err);
        tkv_mutex_unlock(&store->upkeep);
    } else if (status == TKV_CORRUPT || status == TKV_IO) {
        set_damaged_aside(store, source, status);
    }
    if (status != TKV_OK)
        tkv_survivors_undo(&job.survivors);
    tkv_survivors_release(&job.survivors);
    tkv_copy_release(&job.copy);
    return status;
}

/* The next victim, or NULL; files that are plainly dead are removed on the way. */
static enum tkv_status choose(struct tkv_store *store, uint64_t below,
                              struct tkv_datafile **ret_source, bool *ret_did,
                              uint64_t *ret_reclaimed, struct tkv_error *err)
{
    struct tkv_garbage_list s = {0};
    enum tkv_status status = tkv_garbage_list(store, &s, err);

    *ret_source = NULL;
    if (status == TKV_OK)
        status = tkv_condemned_remove_dead(store, &s, ret_did, ret_reclaimed, err);
    if (status == TKV_OK && !*ret_did)
        *ret_source = tkv_garbage_pick(store, &s, below);
    tkv_garbage_release(&s);
    return status;
}

static enum tkv_status step(struct tkv_store *store, uint64_t below, bool *ret_did,
                            uint64_t *ret_reclaimed, struct tkv_error *err)
{
    struct tkv_datafile *source = NULL;
    struct tkv_error reason;
    enum tkv_status status;

    tkv_mutex_lock(&store->upkeep);
    status = tkv_store_check_writable(store, err);
    if (status == TKV_OK)
        status = choose(store, below, &source, ret_did, ret_reclaimed, err);
    if (status == TKV_OK && source == NULL && !*ret_did) {
        status = tkv_garbage_roll(store, below, err);
        if (status == TKV_OK)
            status = choose(store, below, &source, ret_did, ret_reclaimed, err);
    }
    /* Its copy may use the reserve: this has the files removed before give back what they hold. */
    if (source != NULL)
        (void)tkv_space_permits(store, atomic_load(&source->size));
    tkv_mutex_unlock(&store->upkeep);
    if (status != TKV_OK || source == NULL)
        return status;
    /* Nobody else removes files while `compact` is held. */
    status = compact_file(store, source,
                          below == TKV_RECLAIM_AUTOMATIC && store->compactor.started,
                          ret_reclaimed, &reason);
    if (status == TKV_CORRUPT && atomic_load(&source->damaged))
        status = TKV_OK; /* there may be others that are whole */
    *ret_did = status == TKV_OK;
    if (status != TKV_OK)
        tkv_error_copy(err, &reason);
    return status;
}

enum tkv_status tkv_reclaim_step(struct tkv_store *store, uint64_t below, bool *ret_did,
                                 uint64_t *ret_reclaimed, struct tkv_error *err)
{
    enum tkv_status status;
    uint64_t reclaimed = 0;

    *ret_did = false;
    tkv_mutex_lock(&store->compact);
    status = step(store, below, ret_did, &reclaimed, err);
    atomic_store(&store->copies_kept, tkv_usage_get(&store->copied_bytes));
    tkv_mutex_unlock(&store->compact);
    atomic_store(&store->reclaim_futile,
                 status == TKV_OK && *ret_did ? 0 : tkv_garbage_bytes(store) + 1);
    if (ret_reclaimed != NULL)
        *ret_reclaimed = reclaimed;
    return status;
}
