/* SPDX-License-Identifier: MIT */
/*
 * recover.c - from the files of a directory to a store that can serve.
 *
 *   1. MANIFEST and the log's header say which data files there are, how long they durably
 *      are, and where in the log replay begins.
 *   2. The data files are loaded into the index, from hints where those are good.
 *   3. The log is replayed into a memory tail, as if the writes were made again. Its end is a
 *      torn tail, which goes to quarantine, or damage, which refuses (wal/replay.h).
 *   4. The log gets a new identity: a new salt, and positions beyond all that were ever used.
 *      The checkpoint that says so makes everything recovered durable before it is served.
 *   5. Files that belong to nobody are removed.
 *
 * A crash anywhere in here leaves the old checkpoint and the old log as they were, so that the
 * next recovery does the same again. A read-only store stops after 3 and changes nothing.
 */
#include "store.h"

#include "bytes.h"
#include "directory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LOG_SIZE_MAX (UINT64_C(16) << 30) /* the most that option wal_size_max allows */

/* What the directory holds, and what is known about it so far. */
struct recovery {
    struct tkv_store *store;
    struct tkv_open_report *report;

    struct tkv_directory directory;
    struct tkv_manifest manifest;
    struct tkv_wal_header header;
    struct tkv_checkpoint from;

    uint8_t *log;
    uint64_t log_size;
    struct tkv_replay replay;
};

/* ---- Manifest and log header ----------------------------------------------------- */

static struct tkv_manifest_file *listed(struct recovery *r, uint64_t number)
{
    for (size_t i = 0; i < r->manifest.file_count; i++) {
        if (r->manifest.files[i].number == number)
            return &r->manifest.files[i];
    }
    return NULL;
}

/* The header's files are news about those of the manifest that it names. */
static enum tkv_status merge_header(struct recovery *r, struct tkv_error *err)
{
    const struct tkv_wal_header *h = &r->header;

    if (h->manifest_epoch > r->manifest.epoch)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is number %llu, but %s knows number %llu",
                                (unsigned long long)r->manifest.epoch, TKV_WAL_NAME,
                                (unsigned long long)h->manifest_epoch);
    /* One unreadable block may have been the newest header; with both readable there was none
     * newer. */
    if (h->checkpoint.generation + h->is_next_best < r->manifest.checkpoint.generation)
        return tkv_fail_corrupt(
            err, TKV_WAL_NAME, 0, 0, "its header is number %llu, but %s knows number %llu",
            (unsigned long long)h->checkpoint.generation, TKV_MANIFEST_NAME,
            (unsigned long long)r->manifest.checkpoint.generation);
    r->from = r->manifest.checkpoint;
    if (h->manifest_epoch < r->manifest.epoch)
        return TKV_OK;
    /* It was written after the manifest, and nothing is ever counted down. */
    if (h->checkpoint.position < r->manifest.checkpoint.position ||
        h->checkpoint.seq_next < r->manifest.checkpoint.seq_next)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0,
                                "its checkpoint lies before that of %s", TKV_MANIFEST_NAME);
    r->from = h->checkpoint;
    for (uint32_t i = 0; i < h->file_count; i++) {
        struct tkv_manifest_file *file = listed(r, h->files[i].number);

        if (file == NULL)
            return tkv_fail_corrupt(
                err, TKV_WAL_NAME, 0, 0, "its header has data file %llu, %s does not",
                (unsigned long long)h->files[i].number, TKV_MANIFEST_NAME);
        file->durable_size = h->files[i].durable_size;
        file->record_sum = h->files[i].record_sum;
        file->sealed = h->files[i].sealed;
    }
    return TKV_OK;
}

static enum tkv_status read_log(struct recovery *r, int fd, struct tkv_error *err)
{
    struct tkv_os *os = r->store->os;
    enum tkv_status status;
    int result;

    /* After a failed sync the cache may hold what the disk does not, the size included. */
    (void)os->advise(os, fd, TKV_OS_DROP_CACHE);
    result = os->file_size(os, fd, &r->log_size);
    if (result < 0)
        return tkv_fail_os(err, result, TKV_WAL_NAME, "size of %s", TKV_WAL_NAME);
    if (r->log_size < TKV_WAL_RING_START)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, r->log_size, 0,
                                "the file ends in its header");
    status = tkv_wal_read_header(os, fd, &r->header, err);
    if (status != TKV_OK)
        return status;
    r->store->log_bytes = r->log_size;
    if (r->log_size > LOG_SIZE_MAX)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, LOG_SIZE_MAX, 0,
                                "the file has %llu bytes, more than any log",
                                (unsigned long long)r->log_size);
    if (r->log_size < r->header.ring_end)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, r->log_size, 0,
                                "the file had %llu bytes",
                                (unsigned long long)r->header.ring_end);
    r->log = malloc((size_t)r->log_size);
    if (r->log == NULL)
        return tkv_fail_memory(err, (size_t)r->log_size, "the log");
    result = tkv_os_read_all(os, fd, r->log, (size_t)r->log_size, 0);
    if (result < 0)
        return tkv_fail_os(err, result, TKV_WAL_NAME, "read %s", TKV_WAL_NAME);
    return TKV_OK;
}

/* Counters begin at 1 and are counted up one by one, or byte by byte: none comes near this
 * end, from which a recovered store could count on for ever all the same. */
#define COUNTER_END (UINT64_C(1) << 62)

static enum tkv_status check_counters(const struct recovery *r, struct tkv_error *err)
{
    const struct {
        const char *file, *name;
        uint64_t value;
    } counters[] = {
        {TKV_MANIFEST_NAME, "epoch",       r->manifest.epoch                },
        {TKV_MANIFEST_NAME, "next number", r->manifest.next_number          },
        {TKV_MANIFEST_NAME, "generation",  r->manifest.checkpoint.generation},
        {TKV_WAL_NAME,      "generation",  r->header.checkpoint.generation  },
        {TKV_WAL_NAME,      "position",    r->from.position                 },
        {TKV_WAL_NAME,      "seq next",    r->from.seq_next                 },
    };

    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        if (counters[i].value >= COUNTER_END)
            return tkv_fail_corrupt(err, counters[i].file, 0, 0, "its %s is %llu",
                                    counters[i].name,
                                    (unsigned long long)counters[i].value);
    }
    return TKV_OK;
}

static enum tkv_status open_log(struct recovery *r, struct tkv_error *err)
{
    struct tkv_os *os = r->store->os;
    const int fd = os->open(os, r->store->dir, TKV_WAL_NAME, TKV_OS_READ);
    enum tkv_status status;

    if (fd == -ENOENT)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0, "the file is missing");
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    status = read_log(r, fd, err);
    (void)os->close(os, fd);
    return status;
}

/* The header is believed when it could be read; else the manifest's checkpoint stands alone. */
static void do_without_log(struct recovery *r)
{
    free(r->log);
    r->log = NULL;
    if (memcmp(r->header.uuid, r->store->uuid, sizeof r->header.uuid) != 0 ||
        merge_header(r, NULL) != TKV_OK) {
        memset(&r->header, 0, sizeof r->header);
        r->from = r->manifest.checkpoint;
    }
    tkv_gaps_note_log(r->store, r->report, 0, r->log_size);
    r->log_size = 0;
}

static enum tkv_status read_state(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = tkv_manifest_read(store->os, store->dir, &r->manifest, err);

    if (status != TKV_OK)
        return status;
    memcpy(store->uuid, r->manifest.uuid, sizeof store->uuid);
    status = open_log(r, err);
    if (tkv_gaps_accept(store, status)) {
        do_without_log(r);
        return check_counters(r, err);
    }
    if (status != TKV_OK)
        return status;
    if (memcmp(r->header.uuid, store->uuid, sizeof store->uuid) != 0)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 16, 0,
                                "it belongs to another store than %s", TKV_MANIFEST_NAME);
    status = merge_header(r, err);
    return status == TKV_OK ? check_counters(r, err) : status;
}

/* ---- Data files ------------------------------------------------------------------ */

/* What the header said of a file differs from what the manifest says: the next header has to
 * say it again. */
static void keep_news(struct recovery *r)
{
    if (r->header.manifest_epoch != r->manifest.epoch)
        return;
    for (uint32_t i = 0; i < r->header.file_count; i++) {
        struct tkv_datafile *file = tkv_files_find(r->store, r->header.files[i].number);

        if (file != NULL)
            file->listed_size = 0; /* as no durable file has it */
    }
}

static enum tkv_status open_files(struct recovery *r, struct tkv_error *err)
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

static uint64_t bytes_of_records(const struct recovery *r)
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

static enum tkv_status load_files(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const uint32_t used = atomic_load(&store->slots_used);
    struct loading loading = {bytes_of_records(r), 0, store->options.expected_keys};
    enum tkv_status status = TKV_OK;
    struct tkv_error error;

    store->applied_seq_next = r->from.seq_next; /* all in the data files is older */
    tkv_index_presize(store->index, store->options.expected_keys);
    for (uint32_t slot = 0; slot < used && status == TKV_OK; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

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
    if (status != TKV_OK && err != NULL)
        *err = error;
    if (store->has_tombstones)
        (void)tkv_index_drop_tombstones(store->index);
    return status;
}

static struct tkv_datafile *newest_unsealed(struct tkv_store *store,
                                            enum tkv_file_class file_class)
{
    const uint32_t used = atomic_load(&store->slots_used);
    struct tkv_datafile *newest = NULL;

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file->file_class == file_class && !file->durable_sealed &&
            (newest == NULL || file->number > newest->number))
            newest = file;
    }
    return newest;
}

/* The last unsealed files of a class, `count` of them, go on growing, unless they are nearly
 * full; all others are sealed. */
static enum tkv_status reopen(struct recovery *r, enum tkv_file_class file_class,
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
static enum tkv_status reopen_outputs(struct recovery *r, struct tkv_error *err)
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
    struct recovery *r = context;
    struct tkv_store *store = r->store;
    uint64_t offset;
    enum tkv_status status;

    store->applied_seq_next = group->seq;
    if (store->active == NULL)
        status = tkv_apply_rotate(store, group->payload_size, err);
    else
        status = tkv_apply_prepare(store, group->payload_size, err);
    if (status != TKV_OK)
        return status;
    offset = tkv_datafile_append(store->active, payload, group->payload_size);
    store->prepared = 0;
    tkv_usage_add(&store->disk_bytes, group->payload_size);
    status = replay_records(store, group, payload, offset, err);
    store->applied_seq_next = group->seq + group->count;
    return status;
}

/* A mark is about positions of the log with its salt, whichever checkpoint counts. */
static uint64_t durable_mark(const struct recovery *r)
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
static enum tkv_status check_newest_life(const struct recovery *r, struct tkv_error *err)
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

static enum tkv_status replay_log(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_open_report *report = r->report;
    enum tkv_status status;

    r->replay.uuid = store->uuid;
    r->replay.from = r->from;
    r->replay.durable_mark = durable_mark(r);
    r->replay.seq_next = r->from.seq_next;
    atomic_store(&store->seq_last, r->from.seq_next - 1);
    if (r->log == NULL)
        return TKV_OK;
    status = tkv_replay_run(&r->replay, r->log, r->log_size, replay_group, r, err);
    if (status == TKV_OK)
        status = check_newest_life(r, err);
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

static enum tkv_status start_log(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_wal_config config = {
        .os = store->os,
        .dir = store->dir,
        .always = store->options.durability == TKV_DURABILITY_ALWAYS,
        .size_max = store->options.wal_size_max,
        .owner = {store, tkv_apply_prepare, tkv_apply_group, tkv_log_room_make},
        .seq_next = store->applied_seq_next,
 /* Not what the file has beyond: the sync of a growth that nobody confirmed may have
         * failed, and then no later sync makes those blocks durable. */
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
    const uint32_t used = atomic_load(&store->slots_used);
    enum tkv_status status = TKV_OK;

    for (uint32_t slot = 0; slot < used && status == TKV_OK; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file->exists && atomic_load(&file->tail) != NULL)
            status = tkv_datafile_reopen_file(file, store->dir, err);
    }
    return status;
}

static enum tkv_status begin_life(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = tkv_quarantine_tail(store, &r->replay, r->log, err);

    if (status == TKV_OK)
        status = reopen_files(store, err);
    /* Likewise the name of the manifest that was just read, before a header refers to it. */
    store->dir_changed = true;
    if (status == TKV_OK)
        status = start_log(r, err);
    if (status == TKV_OK && store->active == NULL)
        status = tkv_apply_rotate(store, 0, err);
    if (status == TKV_OK) {
        tkv_mutex_lock(&store->upkeep);
        status = tkv_checkpoint_locked(store, false, err);
        if (status == TKV_OK)
            status = tkv_checkpoint_both_headers(store, err);
        tkv_mutex_unlock(&store->upkeep);
    }
    if (status != TKV_OK)
        return status;
    if (!store->keeps_large)
        tkv_directory_clean(store, &r->directory, r->report);
    return TKV_OK;
}

/* ---- All together ---------------------------------------------------------------- */

static enum tkv_status find_or_create(struct recovery *r, struct tkv_error *err)
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

static enum tkv_status recover(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = find_or_create(r, err);

    if (status == TKV_OK)
        status = read_state(r, err);
    if (status == TKV_OK)
        status = open_files(r, err);
    if (status == TKV_OK)
        status = load_files(r, err);
    if (status != TKV_OK)
        return status;

    store->next_number = r->manifest.next_number;
    if (store->next_number <= r->directory.highest_number)
        store->next_number = r->directory.highest_number + 1;
    status = reopen(r, TKV_FILE_FRESH, &store->active, 1, err);
    if (status == TKV_OK && !store->options.read_only)
        status = reopen_outputs(r, err);
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
    struct recovery r = {.store = store, .report = report};
    enum tkv_status status = recover(&r, err);

    tkv_manifest_release(&r.manifest);
    free(r.log);
    tkv_directory_release(&r.directory);
    return status;
}
