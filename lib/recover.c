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

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define QUARANTINE_SIZE_MAX (64u * 1024 * 1024)

/* What the directory holds, and what is known about it so far. */
struct recovery {
    struct tkv_store *store;
    struct tkv_open_report *report;

    bool has_manifest, has_wal;
    uint64_t *data_numbers;
    size_t data_count, data_capacity;
    uint64_t *hint_numbers;
    size_t hint_count, hint_capacity;
    uint64_t highest_number;
    bool has_temporaries;
    bool out_of_memory;

    struct tkv_manifest manifest;
    struct tkv_wal_header header;
    struct tkv_checkpoint from;
    uint64_t generation; /* the highest seen */

    uint8_t *log;
    uint64_t log_size;
    struct tkv_replay replay;
};

/* ---- The directory ---------------------------------------------------------------------------- */

static bool push(uint64_t **numbers, size_t *count, size_t *capacity, uint64_t number)
{
    if (*count == *capacity) {
        const size_t more = *capacity * 2 + 16;
        uint64_t *bigger = realloc(*numbers, more * sizeof *bigger);

        if (bigger == NULL)
            return false;
        *numbers = bigger;
        *capacity = more;
    }
    (*numbers)[(*count)++] = number;
    return true;
}

static void note_name(void *context, const char *name)
{
    struct recovery *r = context;
    uint64_t number = 0;

    switch (tkv_file_name_parse(name, &number)) {
    case TKV_NAME_MANIFEST:
        r->has_manifest = true;
        break;
    case TKV_NAME_WAL:
        r->has_wal = true;
        break;
    case TKV_NAME_DATA:
        r->out_of_memory |=
            !push(&r->data_numbers, &r->data_count, &r->data_capacity, number);
        break;
    case TKV_NAME_HINT:
        r->out_of_memory |=
            !push(&r->hint_numbers, &r->hint_count, &r->hint_capacity, number);
        break;
    case TKV_NAME_TEMPORARY:
        r->has_temporaries = true;
        break;
    case TKV_NAME_LOCK:
    case TKV_NAME_QUARANTINE:
    case TKV_NAME_FOREIGN:
        break;
    }
    if (number > r->highest_number)
        r->highest_number = number;
}

static enum tkv_status list_directory(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const int result = store->os->list(store->os, store->dir, note_name, r);

    if (result < 0)
        return tkv_fail_os(err, result, "", "list the store's directory");
    if (r->out_of_memory)
        return tkv_fail_memory(err, sizeof *r, "the directory's file names");
    return TKV_OK;
}

/* ---- A new store --------------------------------------------------------------------------------- */

/* Without a manifest there may be the remains of a creation that was interrupted: a log in
 * which nothing was ever written. Anything more is a store that has lost its manifest. */
static enum tkv_status check_remains(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_wal_header header;
    enum tkv_status status;
    int fd;

    if (r->data_count > 0)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is missing, but there are %zu data files",
                                r->data_count);
    if (!r->has_wal)
        return TKV_OK;
    fd = store->os->open(store->os, store->dir, TKV_WAL_NAME, TKV_OS_READ);
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    status = tkv_wal_read_header(store->os, fd, &header, NULL);
    (void)store->os->close(store->os, fd);
    if (status == TKV_OK && header.checkpoint.generation > 1)
        return tkv_fail_corrupt(err, TKV_MANIFEST_NAME, 0, 0,
                                "it is missing, but %s has been in use", TKV_WAL_NAME);
    return TKV_OK;
}

static enum tkv_status draw(struct tkv_store *store, void *bytes, size_t size,
                            struct tkv_error *err)
{
    const int result = store->os->random(store->os, bytes, size);

    return result < 0 ? tkv_fail_os(err, result, "", "random numbers") : TKV_OK;
}

static enum tkv_status draw_salt(struct tkv_store *store, uint64_t *ret_salt,
                                 struct tkv_error *err)
{
    enum tkv_status status;

    do {
        status = draw(store, ret_salt, sizeof *ret_salt, err);
    } while (status == TKV_OK && *ret_salt == 0);
    return status;
}

static uint64_t first_ring_end(const struct tkv_options *options)
{
    const uint64_t size = options->wal_size_max < TKV_WAL_SIZE_FIRST ? options->wal_size_max
                                                                     : TKV_WAL_SIZE_FIRST;

    return size / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
}

/* wal.log is complete and durable, name included, before a manifest makes it a store. */
static enum tkv_status create_store(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_checkpoint first = {.generation = 1,
                                   .position = TKV_BLOCK_SIZE,
                                   .file_offset = TKV_WAL_RING_START,
                                   .seq_next = 1};
    struct tkv_wal_header header;
    struct tkv_manifest manifest = {.epoch = 1, .next_number = 1};
    enum tkv_status status;
    bool unknown;
    int result;

    status = draw(store, manifest.uuid, sizeof manifest.uuid, err);
    if (status == TKV_OK)
        status = draw_salt(store, &first.salt, err);
    if (status != TKV_OK)
        return status;
    memset(&header, 0, sizeof header);
    memcpy(header.uuid, manifest.uuid, sizeof header.uuid);
    header.checkpoint = first;
    header.manifest_epoch = 1;
    header.ring_end = first_ring_end(&store->options);
    status = tkv_wal_create(store->os, store->dir, &header, err);
    if (status != TKV_OK)
        return status;
    result = store->os->sync_dir(store->os, store->dir);
    if (result < 0)
        return tkv_fail_os(err, result, "", "sync the store's directory");
    manifest.checkpoint = first;
    r->report->created = true;
    return tkv_manifest_write(store->os, store->dir, &manifest, &unknown, err);
}

/* ---- Manifest and log header ------------------------------------------------------------------------ */

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
    r->from = r->manifest.checkpoint;
    if (h->manifest_epoch < r->manifest.epoch)
        return TKV_OK;
    r->from = h->checkpoint;
    for (uint32_t i = 0; i < h->file_count; i++) {
        struct tkv_manifest_file *file = listed(r, h->files[i].number);

        if (file == NULL)
            return tkv_fail_corrupt(
                err, TKV_WAL_NAME, 0, 0, "its header has data file %llu, %s does not",
                (unsigned long long)h->files[i].number, TKV_MANIFEST_NAME);
        file->durable_size = h->files[i].durable_size;
        file->sealed = h->files[i].sealed;
    }
    return TKV_OK;
}

static enum tkv_status read_log(struct recovery *r, int fd, struct tkv_error *err)
{
    struct tkv_os *os = r->store->os;
    enum tkv_status status;
    int result = os->file_size(os, fd, &r->log_size);

    if (result < 0)
        return tkv_fail_os(err, result, TKV_WAL_NAME, "size of %s", TKV_WAL_NAME);
    if (r->log_size < TKV_WAL_RING_START)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, r->log_size, 0,
                                "the file ends in its header");
    /* After a failed sync the cache may hold what the disk does not. */
    (void)os->advise(os, fd, TKV_OS_DROP_CACHE);
    status = tkv_wal_read_header(os, fd, &r->header, err);
    if (status != TKV_OK)
        return status;
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

static enum tkv_status read_state(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = tkv_manifest_read(store->os, store->dir, &r->manifest, err);
    int fd;

    if (status != TKV_OK)
        return status;
    memcpy(store->uuid, r->manifest.uuid, sizeof store->uuid);
    fd = store->os->open(store->os, store->dir, TKV_WAL_NAME, TKV_OS_READ);
    if (fd == -ENOENT)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0, "the file is missing");
    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    status = read_log(r, fd, err);
    (void)store->os->close(store->os, fd);
    if (status != TKV_OK)
        return status;
    if (memcmp(r->header.uuid, store->uuid, sizeof store->uuid) != 0)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 16, 0,
                                "it belongs to another store than %s", TKV_MANIFEST_NAME);
    status = merge_header(r, err);
    /* The next header goes where this one is not: its block follows from the generation. */
    r->generation = r->header.checkpoint.generation;
    while (r->generation < r->manifest.checkpoint.generation)
        r->generation += 2;
    return status;
}

/* ---- Data files -------------------------------------------------------------------------------------- */

static enum tkv_status open_file(struct recovery *r, const struct tkv_manifest_file *entry,
                                 struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_datafile *file;
    enum tkv_status status;

    if (!entry->sealed && entry->durable_size % TKV_BLOCK_SIZE != 0)
        return tkv_fail_corrupt(
            err, TKV_MANIFEST_NAME, 0, 0,
            "data file %llu is open and has %llu bytes, no whole blocks",
            (unsigned long long)entry->number, (unsigned long long)entry->durable_size);
    status = tkv_datafile_open(store->os, store->dir, store->uuid, entry,
                               store->options.read_mode == TKV_READ_MMAP, &file, err);
    if (status != TKV_OK)
        return status;
    status = tkv_files_add(store, file, err);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    r->report->data_files++;
    return TKV_OK;
}

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
        status = open_file(r, &r->manifest.files[i], err);
    if (status == TKV_OK)
        keep_news(r);
    return status;
}

/* Records take some 50 bytes at least; more keys than that there cannot be. */
static uint64_t guess_keys(const struct recovery *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->manifest.file_count; i++) {
        if (r->manifest.files[i].file_class != TKV_FILE_LARGE)
            bytes += r->manifest.files[i].durable_size;
    }
    return bytes / 256;
}

static enum tkv_status load_files(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const uint32_t used = atomic_load(&store->slots_used);
    enum tkv_status status = TKV_OK;

    tkv_index_presize(store->index, store->options.expected_keys > 0
                                        ? store->options.expected_keys
                                        : guess_keys(r));
    for (uint32_t slot = 0; slot < used && status == TKV_OK; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file->file_class != TKV_FILE_LARGE)
            status = tkv_load_file(store, file, r->report, err);
    }
    if (store->has_tombstones)
        (void)tkv_index_drop_tombstones(store->index);
    return status;
}

/* The last unsealed file of its class goes on growing; it may be nearly full. */
static enum tkv_status reopen(struct recovery *r, enum tkv_file_class file_class,
                              struct tkv_datafile **ret_file, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const uint32_t used = atomic_load(&store->slots_used);
    struct tkv_datafile *newest = NULL;

    for (uint32_t slot = 0; slot < used; slot++) {
        struct tkv_datafile *file = tkv_files_at(store, slot);

        if (file->file_class != file_class || file->durable_sealed)
            continue;
        file->durable_sealed = true; /* until one of them is reopened */
        if (newest == NULL || file->number > newest->number)
            newest = file;
    }
    if (newest == NULL || newest->durable + 4 * TKV_BLOCK_SIZE > tkv_files_capacity(store))
        return TKV_OK;
    newest->durable_sealed = false;
    *ret_file = newest;
    return tkv_datafile_reopen_tail(newest, store->dir, tkv_files_capacity(store),
                                    store->options.read_only, err);
}

/* ---- The log ------------------------------------------------------------------------------------------ */

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

static enum tkv_status replay_log(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_open_report *report = r->report;
    enum tkv_status status;

    r->replay.uuid = store->uuid;
    r->replay.from = r->from;
    /* A mark is about positions of the log with that salt, whichever checkpoint counts. */
    if (r->header.checkpoint.salt == r->from.salt)
        r->replay.durable_mark = r->header.durable_mark;
    store->applied_seq_next = r->from.seq_next;
    status = tkv_replay_run(&r->replay, r->log, r->log_size, replay_group, r, err);
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

/* ---- Quarantine ------------------------------------------------------------------------------------------ */

static enum tkv_status write_evidence(struct tkv_store *store, int dir, const char *name,
                                      const void *bytes, size_t size, struct tkv_error *err)
{
    struct tkv_os *os = store->os;
    int fd = os->open(os, dir, name, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    int result;

    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_QUARANTINE_NAME, "create %s in %s", name,
                           TKV_QUARANTINE_NAME);
    result = tkv_os_write_all(os, fd, bytes, size, 0);
    if (result == 0)
        result = os->sync(os, fd);
    (void)os->close(os, fd); /* synced, or failed already */
    if (result < 0)
        return tkv_fail_os(err, result, TKV_QUARANTINE_NAME, "write %s in %s", name,
                           TKV_QUARANTINE_NAME);
    return TKV_OK;
}

/* Keep what is cut, with a note that says where it was. Doing it again after a crash writes
 * the same two files again. */
static enum tkv_status quarantine_tail(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    const struct tkv_replay *replay = &r->replay;
    const size_t size = replay->cut_size < QUARANTINE_SIZE_MAX ? (size_t)replay->cut_size
                                                               : QUARANTINE_SIZE_MAX;
    char name[64], note[256];
    enum tkv_status status;
    int dir, result;

    if (replay->cut_size == 0)
        return TKV_OK;
    dir = store->os->open_dir_at(store->os, store->dir, TKV_QUARANTINE_NAME, true);
    if (dir < 0)
        return tkv_fail_os(err, dir, TKV_QUARANTINE_NAME, "make %s", TKV_QUARANTINE_NAME);
    snprintf(name, sizeof name, "wal-%020llu.torn", (unsigned long long)replay->position);
    status = write_evidence(store, dir, name, r->log + replay->cut_offset, size, err);
    if (status == TKV_OK) {
        const int length = snprintf(
            note, sizeof note,
            "cut from %s: offset %llu, %llu bytes, log position %llu\nreason: %s\n",
            TKV_WAL_NAME, (unsigned long long)replay->cut_offset,
            (unsigned long long)replay->cut_size, (unsigned long long)replay->position,
            replay->cut_reason);
        snprintf(name, sizeof name, "wal-%020llu.txt",
                 (unsigned long long)replay->position);
        status = write_evidence(store, dir, name, note, (size_t)length, err);
    }
    if (status == TKV_OK) {
        result = store->os->sync_dir(store->os, dir);
        if (result == 0)
            result = store->os->sync_dir(store->os, store->dir);
        if (result < 0)
            status = tkv_fail_os(err, result, TKV_QUARANTINE_NAME, "sync %s",
                                 TKV_QUARANTINE_NAME);
    }
    (void)store->os->close(store->os, dir);
    return status;
}

/* ---- Large values ------------------------------------------------------------------------------------------ */

static enum tkv_status adopt_large(struct recovery *r, const struct tkv_location *location,
                                   struct tkv_slice key, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    struct tkv_large_reference reference;
    struct tkv_found found;
    enum tkv_status status = tkv_read_record(store, location, key, &found, err);
    bool good;

    if (status != TKV_OK)
        return status;
    good = tkv_large_decode(found.record.value, &reference);
    free(found.bytes);
    if (!good)
        return tkv_fail_corrupt(err, found.file->name, found.offset, 0,
                                "reference to a large value");
    if (tkv_files_find(store, reference.number) == NULL) {
        const struct tkv_manifest_file entry = {
            .number = reference.number,
            .durable_size = tkv_large_file_size(&reference),
            .seq_base = TKV_SEQ_BASE_ANY,
            .file_class = TKV_FILE_LARGE,
            .sealed = true,
        };
        status = open_file(r, &entry, err);
        if (status != TKV_OK)
            return status;
        tkv_files_find(store, reference.number)->listed = false;
    }
    tkv_large_referenced(store, &reference);
    return TKV_OK;
}

/* Files of large values are live when a live record refers to them. */
static enum tkv_status adopt_large_values(struct recovery *r, struct tkv_error *err)
{
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    enum tkv_status status = TKV_OK;

    if (!atomic_load(&r->store->has_large))
        return TKV_OK;
    while (status == TKV_OK && !cursor.done) {
        status = tkv_index_step(r->store->index, &cursor, &page, err);
        for (size_t i = 0; status == TKV_OK && i < page.count; i++) {
            const size_t from = i == 0 ? 0 : page.ends[i - 1];

            if ((page.locations[i].place & TKV_PLACE_LARGE) == 0)
                continue;
            status = adopt_large(r, &page.locations[i],
                                 tkv_bytes(page.bytes + from, page.ends[i] - from), err);
        }
    }
    tkv_index_page_release(&page);
    return status;
}

/* ---- A new identity ------------------------------------------------------------------------------------------ */

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
        .owner = {store, tkv_apply_prepare, tkv_apply_group, tkv_checkpoint_make_room},
        .seq_next = store->applied_seq_next,
        .ring_end = r->log_size / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE,
    };
    enum tkv_status status = draw_salt(store, &config.salt, err);

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
    store->checkpoint.generation = r->generation;
    store->checkpoint.salt = config.salt;
    store->checkpoint.position = config.position;
    store->manifest_epoch = r->manifest.epoch;
    return TKV_OK;
}

/* Remove what no manifest lists and no record refers to. Failing to is harmless. */
static void remove_leftovers(struct recovery *r)
{
    struct tkv_store *store = r->store;
    struct tkv_os *os = store->os;
    char name[TKV_FILE_NAME_SIZE];

    for (size_t i = 0; i < r->data_count; i++) {
        if (tkv_files_find(store, r->data_numbers[i]) != NULL)
            continue;
        tkv_data_name(r->data_numbers[i], name);
        if (os->unlink(os, store->dir, name) == 0)
            r->report->files_removed++;
    }
    for (size_t i = 0; i < r->hint_count; i++) {
        if (tkv_files_find(store, r->hint_numbers[i]) != NULL)
            continue;
        tkv_hint_name(r->hint_numbers[i], name);
        if (os->unlink(os, store->dir, name) == 0)
            r->report->files_removed++;
    }
}

static void remove_temporary(void *context, const char *name)
{
    struct recovery *r = context;
    uint64_t number;

    if (tkv_file_name_parse(name, &number) == TKV_NAME_TEMPORARY &&
        r->store->os->unlink(r->store->os, r->store->dir, name) == 0)
        r->report->files_removed++;
}

static enum tkv_status begin_life(struct recovery *r, struct tkv_error *err)
{
    struct tkv_store *store = r->store;
    enum tkv_status status = quarantine_tail(r, err);

    /* Likewise the name of the manifest that was just read, before a header refers to it. */
    store->dir_changed = true;
    if (status == TKV_OK)
        status = start_log(r, err);
    if (status == TKV_OK && store->active == NULL)
        status = tkv_apply_rotate(store, 0, err);
    if (status == TKV_OK) {
        tkv_mutex_lock(&store->upkeep);
        status = tkv_checkpoint_locked(store, false, err);
        tkv_mutex_unlock(&store->upkeep);
    }
    if (status != TKV_OK)
        return status;
    remove_leftovers(r);
    if (r->has_temporaries)
        (void)store->os->list(store->os, store->dir, remove_temporary, r);
    return TKV_OK;
}

/* ---- All together ---------------------------------------------------------------------------------------------- */

static enum tkv_status find_or_create(struct recovery *r, struct tkv_error *err)
{
    enum tkv_status status = list_directory(r, err);

    if (status != TKV_OK || r->has_manifest)
        return status;
    status = check_remains(r, err);
    if (status != TKV_OK)
        return status;
    if (!r->store->options.create || r->store->options.read_only)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no store in this directory");
    return create_store(r, err);
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
    if (store->next_number <= r->highest_number)
        store->next_number = r->highest_number + 1;
    status = reopen(r, TKV_FILE_FRESH, &store->active, err);
    if (status == TKV_OK && !store->options.read_only)
        status = reopen(r, TKV_FILE_COMPACTED, &store->output, err);
    if (status == TKV_OK)
        status = replay_log(r, err);
    if (status == TKV_OK)
        status = adopt_large_values(r, err);
    if (status == TKV_OK && !store->options.read_only)
        status = begin_life(r, err);
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
    free(r.data_numbers);
    free(r.hint_numbers);
    return status;
}
