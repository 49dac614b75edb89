/* SPDX-License-Identifier: MIT */
/*
 * recover.c - from the files of a directory to a store that can serve.
 *
 *   1. MANIFEST and the log's header say which data files there are, how long they durably
 *      are, and where in the log replay begins.
 *   2. The data files are loaded into the index, from hints where those are good; before that
 *      a log is judged that has nothing to replay.
 *   3. The log is replayed into a memory tail, as if the writes were made again. Its end is a
 *      torn tail, which goes to quarantine, or damage, which refuses (wal/replay.h).
 *   4. Files of records that no manifest lists are removed: what was replayed lies in some, and
 *      a full disk has no room for it twice.
 *   5. The log gets a new identity: a new salt, and positions beyond all that were ever used.
 *      The checkpoint that says so makes everything recovered durable before it is served.
 *   6. What else belongs to nobody is removed.
 *
 * A crash before the checkpoint leaves the old one and the old log as they were, so that the
 * next recovery does the same again. A read-only store stops after 3 and changes nothing.
 */
#include "recovery.h"

#include "bytes.h"
#include "large.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- The log --------------------------------------------------------------------- */

static enum tkv_status replay_records(struct tkv_store *store,
                                      const struct tkv_group *group, const uint8_t *payload,
                                      uint64_t offset, struct tkv_error *err)
{
    size_t at = 0;

    while (at < group->payload_size) {
        struct tkv_record record;
        enum tkv_status status = TKV_OK;
        uint64_t hash;

        if (tkv_record_parse(tkv_bytes(payload + at, group->payload_size - at), &record) !=
            TKV_RECORD_GOOD)
            return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, group->seq,
                                    "a record in a group");
        hash = tkv_index_hash(store->index, record.key);
        if (record.kind != TKV_RECORD_DELETE)
            status = tkv_index_reserve(store->index, record.key, hash,
                                       record.expires_at_ms != 0, err);
        if (status != TKV_OK)
            return status;
        (void)tkv_apply_record(store, store->active, offset + at, &record, hash);
        at += tkv_record_size(&record);
    }
    return TKV_OK;
}

static enum tkv_status replay_group(void *context, const struct tkv_group *group,
                                    const uint8_t *payload, struct tkv_error *err)
{
    struct tkv_recovery *r = context;
    struct tkv_store *store = r->store;
    uint64_t offset;
    enum tkv_status status;

    store->applied_seq_next = group->seq;
    if (store->active == NULL)
        status = tkv_apply_rotate(store, group->payload_size, err);
    else
        status = tkv_apply_reserve(store, group->payload_size, err);
    if (status != TKV_OK)
        return status;
    offset = tkv_datafile_append(store->active, payload, group->payload_size);
    store->prepared = 0;
    tkv_usage_add(&store->other_bytes, group->payload_size);
    status = replay_records(store, group, payload, offset, err);
    store->applied_seq_next = group->seq + group->count;
    return status;
}

/* A mark is about positions of the log with its salt, whichever checkpoint counts. */
static uint64_t durable_mark(const struct tkv_recovery *r)
{
    uint64_t mark = 0;

    if (r->manifest.checkpoint.salt == r->from.salt)
        mark = r->manifest.durable_mark;
    if (r->header.checkpoint.salt == r->from.salt && r->header.durable_mark > mark)
        mark = r->header.durable_mark;
    return mark;
}

/* Every opening begins at the ring's start with a salt of its own and positions above all
 * before. If a group there is newer than all that was read, the headers that knew of it are
 * lost. */
static enum tkv_status check_newest_life(const struct tkv_recovery *r,
                                         struct tkv_error *err)
{
    const uint32_t seed = tkv_group_seed(r->store->uuid, TKV_WAL_RING_START);
    struct tkv_group group;

    if (r->log_size < TKV_WAL_RING_START + TKV_BLOCK_SIZE ||
        !tkv_group_decode_header(r->log + TKV_WAL_RING_START, seed, &group) ||
        group.salt == r->from.salt || group.position <= r->replay.position_seen)
        return TKV_OK;
    return tkv_fail_corrupt(err, TKV_WAL_NAME, TKV_WAL_RING_START, group.seq,
                            "a group is newer than both headers");
}

static void begin_replay(struct tkv_recovery *r)
{
    r->replay.uuid = r->store->uuid;
    r->replay.from = r->from;
    r->replay.durable_mark = durable_mark(r);
    r->replay.seq_next = r->from.seq_next;
}

static enum tkv_status read_groups(struct tkv_recovery *r, tkv_replay_fn *apply,
                                   struct tkv_error *err)
{
    enum tkv_status status = tkv_replay_run(&r->replay, r->log, r->log_size, apply, r, err);

    return status == TKV_OK ? check_newest_life(r, err) : status;
}

static enum tkv_status refuse_group(void *context, const struct tkv_group *group,
                                    const uint8_t *payload, struct tkv_error *err)
{
    (void)context;
    (void)group;
    (void)payload;
    return tkv_fail(err, TKV_BUSY, "there is something to replay");
}

/* A log that ends where it begins, and well, as after a close: its memory goes back before the
 * files are loaded, which need as much. Of any other one nothing is concluded yet. */
static void release_empty_log(struct tkv_recovery *r)
{
    if (r->log == NULL || read_groups(r, refuse_group, NULL) != TKV_OK ||
        r->replay.cut_size > 0)
        return;
    free(r->log);
    r->log = NULL;
    r->is_log_empty = true;
}

static enum tkv_status replay_log(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_open_report *report = r->report;
    enum tkv_status status = TKV_OK;

    atomic_store(&store->seq_last, r->from.seq_next - 1);
    report->seq_last = r->from.seq_next - 1;
    if (r->log == NULL && !r->is_log_empty)
        return TKV_OK;
    if (r->log != NULL)
        status = read_groups(r, replay_group, err);
    if (tkv_gaps_accept(store, status)) {
        tkv_gaps_note_log(store, report, r->replay.file_offset,
                          r->replay.position_seen - r->replay.position);
        status = TKV_OK;
    }
    report->groups_replayed = r->replay.groups;
    report->records_replayed = r->replay.records;
    report->bytes_replayed = r->replay.bytes;
    report->seq_last = store->applied_seq_next - 1;
    if (status != TKV_OK)
        return status;
    atomic_store(&store->seq_last, store->applied_seq_next - 1);
    store->applied_seq_next = r->replay.seq_next;
    report->clean = !report->created && r->header.clean && r->replay.groups == 0 &&
                    r->replay.cut_size == 0;
    report->bytes_cut = r->replay.cut_size;
    if (r->replay.cut_size > 0)
        snprintf(report->cut_reason, sizeof report->cut_reason, "%s", r->replay.cut_reason);
    return TKV_OK;
}

/* ---- A new identity -------------------------------------------------------------- */

/* What a killed process left may be seen and not be durable yet: the size of a log that was
 * growing; the header that was just read, before the only durable one is overwritten. */
static enum tkv_status settle_log(struct tkv_store *store, struct tkv_error *err)
{
    const int result = store->os->sync(store->os, store->wal.fd);

    return result < 0 ? tkv_fail_os(err, result, TKV_WAL_NAME, "sync %s", TKV_WAL_NAME)
                      : TKV_OK;
}

/* With the ring as long as the header says, whatever the file has beyond: the sync of a growth
 * that nobody confirmed may have failed, and then no later sync makes those blocks durable. */
static enum tkv_status start_log(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_wal_config config = {
        .os = store->os,
        .dir = store->dir,
        .always = store->options.durability == TKV_DURABILITY_ALWAYS,
        .size_max = store->options.wal_size_max,
        .owner = {store, tkv_apply_prepare, tkv_apply_group, tkv_log_room_make,
                  tkv_upkeep_before_wait},
        .lock = &store->apply,
        .seq_next = store->applied_seq_next,
        .ring_end = r->header.ring_end,
    };
    enum tkv_status status = tkv_create_salt(store, &config.salt, err);

    if (status != TKV_OK)
        return status;
    if (config.size_max < config.ring_end)
        config.size_max = config.ring_end;
    memcpy(config.uuid, store->uuid, sizeof config.uuid);
    /* Beyond every group that may lie anywhere in the file, readable or not. */
    config.position = tkv_round_up(r->replay.position_seen + r->log_size, TKV_BLOCK_SIZE) +
                      TKV_BLOCK_SIZE;
    status = tkv_wal_open(&store->wal, &config, err);
    if (status == TKV_OK)
        status = settle_log(store, err);
    if (status != TKV_OK)
        return status;
    store->applied_end = (struct tkv_ring_place){config.position, TKV_WAL_RING_START, 0};
    store->applied_chain = 0;
    /* The next header goes where this one is not: its block follows from the generation. */
    store->checkpoint.generation = store->header_generation =
        r->header.checkpoint.generation;
    store->checkpoint.salt = config.salt;
    store->checkpoint.position = config.position;
    store->manifest_epoch = r->manifest.epoch;
    return TKV_OK;
}

/* Only now that nothing can be refused any more: the files that grow again are cut to their
 * durable sizes. Replay may have begun another active file; the first one was sealed then. */
static enum tkv_status reopen_files(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while (status == TKV_OK && (file = tkv_files_next(store, &slot)) != NULL) {
        if (file->exists && atomic_load(&file->tail) != NULL)
            status = tkv_datafile_reopen_file(file, store->dir, err);
    }
    return status;
}

/* What was replayed may lie in files that no manifest lists yet as well: there is not always room
 * for it twice. */
static enum tkv_status remove_first_copies(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status;

    /* The name of the manifest that was just read, before what it does not list is gone, and
     * before a header refers to it. */
    store->dir_changed = true;
    status = tkv_flush_directory(store, err);
    if (status != TKV_OK)
        return status;
    tkv_directory_clean_records(store, &r->directory, r->report);
    return tkv_flush_directory(store, err);
}

static enum tkv_status begin_life(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = tkv_quarantine_tail(store, &r->replay, r->log, err);

    if (status == TKV_OK)
        status = reopen_files(store, err);
    if (status == TKV_OK)
        status = start_log(r, err);
    if (status == TKV_OK)
        status = remove_first_copies(r, err);
    if (status == TKV_OK && store->active == NULL)
        status = tkv_apply_rotate(store, 0, err);
    if (status == TKV_OK) {
        tkv_mutex_lock(&store->upkeep);
        status = tkv_checkpoint_locked(store, false, err);
        if (status == TKV_OK)
            status = tkv_checkpoint_both_headers(store, err);
        tkv_retire(store);
        tkv_mutex_unlock(&store->upkeep);
    }
    if (status != TKV_OK)
        return status;
    tkv_wal_cut(&store->wal); /* by what it had grown when no header said so yet */
    if (!store->keeps_large)
        tkv_directory_clean(store, &r->directory, r->report);
    return TKV_OK;
}

/* ---- All together ---------------------------------------------------------------- */

static enum tkv_status find_or_create(struct tkv_recovery *r, struct tkv_error *err)
{
    enum tkv_status status = tkv_directory_list(r->store, &r->directory, err);

    if (status != TKV_OK || r->directory.has_manifest)
        return status;
    status = tkv_create_check_remains(r->store, r->directory.data_count,
                                      r->directory.has_wal, err);
    if (status != TKV_OK)
        return status;
    if (!r->store->options.create || r->store->options.read_only)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no store in this directory");
    return tkv_create_store(r->store, r->report, err);
}

static enum tkv_status recover(struct tkv_recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = find_or_create(r, err);

    if (status == TKV_OK)
        status = tkv_recovery_read_state(r, err);
    if (status != TKV_OK)
        return status;
    begin_replay(r);
    release_empty_log(r);
    status = tkv_recovery_open_files(r, err);
    if (status == TKV_OK)
        status = tkv_recovery_load_files(r, err);
    if (status != TKV_OK)
        return status;

    store->next_number = r->manifest.next_number;
    if (store->next_number <= r->directory.highest_number)
        store->next_number = r->directory.highest_number + 1;
    status = tkv_recovery_reopen(r, err);
    if (status == TKV_OK)
        status = replay_log(r, err);
    if (status == TKV_OK)
        status = tkv_large_adopt(store, r->report, err);
    if (status == TKV_OK && !store->options.read_only)
        status = begin_life(r, err);
    tkv_upkeep_expire(store);
    r->report->keys = tkv_index_count(store->index);
    return status;
}

enum tkv_status tkv_recover(struct tkv_store *store, struct tkv_open_report *report,
                            struct tkv_error *err)
{
    struct tkv_recovery r = {.store = store, .report = report};
    enum tkv_status status = recover(&r, err);

    tkv_manifest_release(&r.manifest);
    free(r.log);
    tkv_directory_release(&r.directory);
    return status;
}
