/* SPDX-License-Identifier: MIT */
#include "copy.h"

#include "give_way.h"
#include "walk.h"

#include <stdlib.h>

static enum tkv_status push_move(struct tkv_copy_job *job, const struct tkv_move *move,
                                 struct tkv_error *err)
{
    if (job->move_count == job->move_capacity) {
        const size_t capacity = job->move_capacity * 2 + 256;
        struct tkv_move *moves = realloc(job->moves, capacity * sizeof *moves);

        if (moves == NULL)
            return tkv_fail_memory(err, capacity * sizeof *moves, "moves of a compaction");
        job->moves = moves;
        job->move_capacity = capacity;
    }
    job->moves[job->move_count++] = *move;
    return TKV_OK;
}

static const uint8_t *bytes_of(const struct tkv_walk *walk)
{
    return walk->bytes + (walk->offset - walk->bytes_offset);
}

/* ---- What becomes of one record -------------------------------------------------- */

static enum tkv_status keep(struct tkv_copy_job *job, const struct tkv_walk *walk,
                            uint64_t hash, uint64_t from, struct tkv_error *err)
{
    struct tkv_move move = {.hash = hash,
                            .from = from,
                            .size = (uint32_t)walk->size,
                            .expires = walk->record.expires_at_ms != 0};
    enum tkv_status status =
        job->append(job->context, &walk->record, bytes_of(walk), walk->size, &move.to, err);

    if (status == TKV_OK)
        status = push_move(job, &move, err);
    job->bytes_out += walk->size;
    return status;
}

/* The record of an expired key hides older ones like a delete, and is shorter as one. */
static enum tkv_status set_aside_expired(struct tkv_copy_job *job,
                                         const struct tkv_walk *walk, uint64_t hash,
                                         struct tkv_error *err)
{
    const struct tkv_record as_delete = {.kind = TKV_RECORD_DELETE,
                                         .key = walk->record.key};
    const size_t size = tkv_record_size(&as_delete);
    uint8_t *bytes = malloc(size);
    enum tkv_status status;

    if (bytes == NULL)
        return tkv_fail_memory(err, size, "an expired record");
    tkv_record_seal(bytes, tkv_record_encode(&as_delete, bytes), walk->record.seq);
    status = tkv_tombstones_add(&job->tombstones, hash, walk->record.seq, bytes,
                                (uint32_t)size, err);
    free(bytes);
    return status;
}

/* Whether only the index knows what becomes of a record that was not noted as superseded. */
static bool needs_index(const struct tkv_copy_job *job, const struct tkv_record *record)
{
    return record->kind == TKV_RECORD_DELETE || record->expires_at_ms != 0 ||
           !atomic_load(&job->source->superseded.is_complete);
}

static bool is_expired(const struct tkv_copy_job *job, const struct tkv_record *record)
{
    return record->expires_at_ms != 0 && record->expires_at_ms <= job->now_ms;
}

/* Which is not known to be superseded. */
static enum tkv_status copy_put(struct tkv_copy_job *job, const struct tkv_walk *walk,
                                uint64_t hash, struct tkv_error *err)
{
    const struct tkv_record *record = &walk->record;
    const unsigned flags = record->kind == TKV_RECORD_LARGE ? TKV_PLACE_LARGE : 0;
    const uint64_t place = tkv_place(job->source->slot, walk->offset, flags);
    struct tkv_location location;
    bool known, is_live;

    if (!needs_index(job, record))
        return keep(job, walk, hash, place, err);
    known = tkv_index_find(job->index, record->key, hash, &location);
    is_live = known && (location.place & ~(uint64_t)TKV_PLACE_EXPIRES) == place;

    if (is_expired(job, record) && (is_live || !known)) {
        if (is_live && tkv_index_remove_at(job->index, record->key, hash, place, &location))
            job->expired(job->context, &location);
        return set_aside_expired(job, walk, hash, err);
    }
    if (is_live)
        return keep(job, walk, hash, place, err);
    job->records_dropped++;
    return TKV_OK;
}

static enum tkv_status copy_delete(struct tkv_copy_job *job, const struct tkv_walk *walk,
                                   uint64_t hash, struct tkv_error *err)
{
    struct tkv_location location;

    /* A later put of the key hides whatever this delete hides. */
    if (tkv_index_find(job->index, walk->record.key, hash, &location)) {
        job->records_dropped++;
        return TKV_OK;
    }
    return tkv_tombstones_add(&job->tombstones, hash, walk->record.seq, bytes_of(walk),
                              (uint32_t)walk->size, err);
}

static enum tkv_status copy_record(struct tkv_copy_job *job, const struct tkv_walk *walk,
                                   struct tkv_error *err)
{
    const uint64_t hash = tkv_index_hash(job->index, walk->record.key);

    job->hint_sum += tkv_datafile_hint_share(walk->offset, hash, walk->record.kind,
                                             walk->record.expires_at_ms);
    if (tkv_superseded_has(&job->source->superseded, walk->offset)) {
        job->records_dropped++;
        return TKV_OK;
    }
    return walk->record.kind == TKV_RECORD_DELETE ? copy_delete(job, walk, hash, err)
                                                  : copy_put(job, walk, hash, err);
}

/* ---- What the walk will meet ----------------------------------------------------- */

#define WINDOW 16u /* records whose index lines, then entries, are fetched together */

/* Records behind those that are being worked on, as a glimpse shows them. */
struct lookahead {
    uint64_t hashes[WINDOW]; /* of those that the index must be asked for */
    size_t count;
    uint64_t end; /* where the record behind them begins */
};

static void fetch_lines(const struct tkv_copy_job *job, const struct tkv_walk *walk,
                        struct lookahead *ahead)
{
    struct tkv_record record;
    uint64_t hash;

    ahead->count = 0;
    for (unsigned i = 0; i < WINDOW; i++) {
        const uint64_t offset = ahead->end;

        if (!tkv_walk_glimpse(walk, &ahead->end, &record))
            return;
        if (tkv_superseded_has(&job->source->superseded, offset) ||
            !needs_index(job, &record))
            continue;
        hash = tkv_index_hash(job->index, record.key);
        tkv_index_prefetch(job->index, hash);
        ahead->hashes[ahead->count++] = hash;
    }
}

/* Of the records whose lines are here by now fetch the entries, and the lines of the next. */
static void fetch_ahead(const struct tkv_copy_job *job, const struct tkv_walk *walk,
                        struct lookahead *ahead)
{
    uint64_t guess;

    if (ahead->end <= walk->offset) { /* at the beginning, and behind padding */
        ahead->end = walk->offset;
        fetch_lines(job, walk, ahead);
    }
    for (size_t i = 0; i < ahead->count; i++)
        (void)tkv_index_peek(job->index, ahead->hashes[i], &guess);
    fetch_lines(job, walk, ahead);
}

/* ---- The whole file -------------------------------------------------------------- */

enum tkv_status tkv_copy_run(struct tkv_copy_job *job, struct tkv_error *err)
{
    struct lookahead ahead = {0};
    struct tkv_walk walk;
    enum tkv_status status = TKV_OK;

    tkv_walk_begin(&walk, job->source, atomic_load(&job->source->size));
    while (status == TKV_OK && tkv_walk_next(&walk)) {
        if (job->records_in % WINDOW == 0)
            fetch_ahead(job, &walk, &ahead);
        job->records_in++;
        job->record_sum += tkv_datafile_record_share(walk.offset, walk.record.seq);
        job->bytes_in += walk.size;
        status = copy_record(job, &walk, err);
    }
    if (status == TKV_OK && walk.status != TKV_OK) {
        status = walk.status;
        tkv_error_copy(err, &walk.error);
    }
    tkv_walk_end(&walk);
    return status == TKV_OK ? tkv_tombstones_list(&job->tombstones, err) : status;
}

enum tkv_status tkv_copy_tombstones(struct tkv_copy_job *job, struct tkv_error *err)
{
    struct tkv_tombstones *t = &job->tombstones;
    enum tkv_status status = TKV_OK;

    for (size_t i = 0; i < t->count && status == TKV_OK; i++) {
        const uint8_t *bytes = t->bytes + t->items[i].at;
        struct tkv_record record;
        uint64_t place;

        if (!t->items[i].needed) {
            job->records_dropped++;
            continue;
        }
        (void)tkv_record_parse(tkv_bytes(bytes, t->items[i].size), &record); /* verified */
        status = job->append(job->context, &record, bytes, t->items[i].size, &place, err);
        job->bytes_out += t->items[i].size;
    }
    return status;
}

bool tkv_copy_balances(const struct tkv_copy_job *job)
{
    uint64_t kept = job->move_count;

    for (size_t i = 0; i < job->tombstones.count; i++)
        kept += job->tombstones.items[i].needed;
    return job->records_in == kept + job->records_dropped &&
           job->records_in == tkv_usage_get(&job->source->usage.records) &&
           job->record_sum == tkv_usage_get(&job->source->record_sum) &&
           (!job->source->is_from_hint || job->hint_sum == job->source->hint_sum);
}

static void fetch_moves(const struct tkv_copy_job *job, size_t from)
{
    const size_t left = job->move_count - from;
    const size_t end = from + (left < WINDOW ? left : WINDOW);
    uint64_t guess;

    for (size_t i = from; i < end; i++)
        tkv_index_prefetch(job->index, job->moves[i].hash);
    for (size_t i = from; i < end; i++)
        (void)tkv_index_peek(job->index, job->moves[i].hash, &guess);
}

bool tkv_copy_install(struct tkv_copy_job *job, size_t i)
{
    const struct tkv_move *m = &job->moves[i];

    tkv_give_way_after(i);
    if (i % WINDOW == 0)
        fetch_moves(job, i);
    return tkv_index_move(job->index, m->hash, m->from, m->to);
}

void tkv_copy_release(struct tkv_copy_job *job)
{
    free(job->moves);
    tkv_tombstones_release(&job->tombstones);
    job->moves = NULL;
    job->move_count = job->move_capacity = 0;
}
