/* SPDX-License-Identifier: MIT */
/*
 * verify.c - read everything and compare: the manifest and the log's header, every record of
 * every data file against its checksum, every live key through the index against its record,
 * the counters against a recount. Changes nothing; writes wait for the recount.
 */
#include "store.h"

#include "large.h"
#include "walk.h"

#include <stdio.h>
#include <stdlib.h>

struct verify {
    struct tkv_store *store;
    tkv_finding_fn *on_finding;
    void *context;
    struct tkv_verify_report report;
    enum tkv_status failure; /* something that is not a finding, such as no memory ... */
    struct tkv_error error;  /* ... and its detail */
};

static void TKV_COLD report_finding(struct verify *v, const struct tkv_error *error)
{
    struct tkv_finding finding;

    v->report.findings++;
    if (v->on_finding == NULL)
        return;
    memset(&finding, 0, sizeof finding);
    finding.status = error->status;
    memcpy(finding.file, error->file, sizeof finding.file);
    finding.offset = error->offset;
    finding.seq = error->seq;
    memcpy(finding.message, error->message, sizeof finding.message);
    v->on_finding(v->context, &finding);
}

/* Damage and unreadable sectors are findings; anything else ends the verification. */
static void judge(struct verify *v, enum tkv_status status, const struct tkv_error *error)
{
    if (status == TKV_CORRUPT || status == TKV_IO)
        report_finding(v, error);
    else if (status != TKV_OK && v->failure == TKV_OK) {
        v->failure = status;
        v->error = *error;
    }
}

/* ---- Files ----------------------------------------------------------------------- */

static void check_count(struct verify *v, struct tkv_datafile *file, uint64_t counted,
                        uint64_t record_sum)
{
    const uint64_t known = tkv_usage_get(&file->usage.records);
    struct tkv_error error;

    if (counted == known && record_sum == tkv_usage_get(&file->record_sum))
        return;
    (void)tkv_fail_corrupt(&error, file->name, 0, 0,
                           "%llu records, not the %llu that are known",
                           (unsigned long long)counted, (unsigned long long)known);
    report_finding(v, &error);
}

/* How much of a file is there to stay: what a compaction has appended, and whether that filled
 * the file, may be taken back until it is durable. */
static uint64_t end_of(struct tkv_store *store, struct tkv_datafile *file, bool *ret_sealed)
{
    uint64_t end;

    if (file->file_class != TKV_FILE_COMPACTED) {
        /* In this order: what was sealed before does not grow after. */
        *ret_sealed = atomic_load(&file->sealed);
        return atomic_load_explicit(&file->size, memory_order_acquire);
    }
    tkv_mutex_lock(&store->upkeep);
    *ret_sealed = file->durable_sealed || store->options.read_only;
    end = file->durable;
    tkv_mutex_unlock(&store->upkeep);
    return end;
}

/* The value is read through its key, the rest of the first block is zeros. */
static void verify_large_file(struct verify *v, struct tkv_datafile *file)
{
    uint8_t block[TKV_LARGE_AT_CHUNKS];
    struct tkv_error error;
    enum tkv_status status = tkv_datafile_read(file, 0, block, sizeof block, &error);
    uint64_t at = TKV_DATA_HEADER_SIZE;

    while (status == TKV_OK && at < sizeof block && block[at] == 0)
        at++;
    if (status == TKV_OK && at < sizeof block)
        status = tkv_fail_corrupt(&error, file->name, at, 0,
                                  "a byte that is not zero before a large value");
    judge(v, status, &error);
}

static void verify_file(struct verify *v, struct tkv_datafile *file)
{
    bool sealed;
    const uint64_t end = end_of(v->store, file, &sealed);
    uint64_t counted = 0, record_sum = 0;
    struct tkv_walk walk;

    v->report.files++;
    v->report.bytes += end;
    if (file->file_class == TKV_FILE_LARGE) {
        if (!file->lost) /* else its key says so */
            verify_large_file(v, file);
        return;
    }
    tkv_walk_begin(&walk, file, end);
    while (tkv_walk_next(&walk)) {
        counted++;
        record_sum += tkv_datafile_record_share(walk.offset, walk.record.seq);
    }
    judge(v, walk.status, &walk.error);
    if (walk.status == TKV_OK && sealed)
        check_count(v, file, counted, record_sum);
    tkv_walk_end(&walk);
    v->report.records += counted;
}

/* A reference for as long as the file is read: compactions go on meanwhile. */
static struct tkv_datafile *hold_file(struct tkv_store *store, uint32_t slot)
{
    const struct tkv_reader reader = tkv_epoch_enter(&store->epoch);
    struct tkv_datafile *file = tkv_files_at(store, slot);

    if (file != NULL)
        tkv_datafile_reference(file);
    tkv_epoch_leave(reader);
    return file;
}

static void verify_files(struct verify *v)
{
    const uint32_t used = atomic_load(&v->store->slots_used);

    for (uint32_t slot = 0; slot < used && v->failure == TKV_OK; slot++) {
        struct tkv_datafile *file = hold_file(v->store, slot);

        if (file == NULL)
            continue;
        verify_file(v, file);
        tkv_datafile_release(file);
    }
}

/* ---- Keys ------------------------------------------------------------------------ */

static void verify_keys(struct verify *v)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error error;
    enum tkv_status status = tkv_iterator_new(v->store, false, &iterator, &error);

    if (status != TKV_OK) {
        judge(v, status, &error);
        return;
    }
    memset(&error, 0, sizeof error);
    while (v->failure == TKV_OK &&
           (status = tkv_iterator_next(iterator, &entry, &error)) != TKV_NOT_FOUND) {
        judge(v, status, &error);
        if (status == TKV_OK)
            v->report.keys++;
    }
    tkv_iterator_free(iterator);
}

/* By the index, to be compared with the accounts. */
struct live {
    uint64_t bytes;
    uint64_t superseded; /* records that a compaction would drop all the same */
};

static void count_live(struct tkv_store *store, const struct tkv_location *location,
                       struct live *live)
{
    const struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(location->place));

    live->bytes += location->size;
    live->superseded +=
        file != NULL &&
        tkv_superseded_has(&file->superseded, tkv_place_offset(location->place));
}

static struct live recount_live(struct verify *v)
{
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    struct live live = {0};

    while (v->failure == TKV_OK && !cursor.done) {
        v->failure = tkv_index_step(v->store->index, &cursor, &page, &v->error);
        for (size_t i = 0; i < page.count; i++)
            count_live(v->store, &page.locations[i], &live);
        page.count = 0;
    }
    tkv_index_page_release(&page);
    return live;
}

static uint64_t large_bytes(struct tkv_store *store)
{
    const struct tkv_datafile *file;
    uint64_t bytes = 0;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->file_class == TKV_FILE_LARGE)
            bytes += tkv_usage_get(&file->usage.live_bytes);
    }
    return bytes;
}

/* With `compact`, `upkeep` and `apply` held nothing changes the index or an account. */
static void verify_index(struct verify *v)
{
    struct tkv_store *store = v->store;
    struct tkv_error error;
    struct live live;
    uint64_t known;
    bool consistent;

    tkv_mutex_lock(&store->compact);
    tkv_mutex_lock(&store->upkeep);
    tkv_mutex_lock(&store->apply);
    consistent = tkv_index_check(store->index);
    live = recount_live(v);
    live.bytes += large_bytes(store);
    known = tkv_usage_get(&store->live_bytes);
    tkv_mutex_unlock(&store->apply);
    tkv_mutex_unlock(&store->upkeep);
    tkv_mutex_unlock(&store->compact);
    if (!consistent) {
        (void)tkv_fail(&error, TKV_CORRUPT, "the index in memory contradicts itself");
        report_finding(v, &error);
    }
    if (live.superseded > 0) {
        (void)tkv_fail(&error, TKV_CORRUPT, "%llu live records are noted as superseded",
                       (unsigned long long)live.superseded);
        report_finding(v, &error);
    }
    if (v->failure == TKV_OK && live.bytes != known) {
        (void)tkv_fail(&error, TKV_CORRUPT, "%llu live bytes where the account says %llu",
                       (unsigned long long)live.bytes, (unsigned long long)known);
        report_finding(v, &error);
    }
}

/* ---- What is not data ------------------------------------------------------------- */

static void verify_manifest(struct verify *v)
{
    struct tkv_store *store = v->store;
    struct tkv_manifest manifest;
    struct tkv_error error;
    enum tkv_status status;

    tkv_mutex_lock(&store->upkeep); /* who holds it may be replacing the manifest */
    status = tkv_manifest_read(store->os, store->dir, &manifest, &error);
    tkv_mutex_unlock(&store->upkeep);
    if (status == TKV_OK)
        tkv_manifest_release(&manifest);
    else if (status == TKV_NOT_FOUND)
        (void)tkv_fail_corrupt(&error, TKV_MANIFEST_NAME, 0, 0, "the file is missing");
    judge(v, status == TKV_NOT_FOUND ? TKV_CORRUPT : status, &error);
}

static void verify_log_header(struct verify *v)
{
    struct tkv_store *store = v->store;
    struct tkv_wal_header header;
    struct tkv_error error;
    enum tkv_status status;
    int fd;

    tkv_mutex_lock(&store->upkeep);
    fd = store->os->open(store->os, store->dir, TKV_WAL_NAME, TKV_OS_READ);
    if (fd < 0)
        status = tkv_fail_os(&error, fd, TKV_WAL_NAME, "open %s", TKV_WAL_NAME);
    else
        status = tkv_wal_read_header(store->os, fd, &header, &error);
    if (fd >= 0)
        (void)store->os->close(store->os, fd);
    tkv_mutex_unlock(&store->upkeep);
    if (status == TKV_OK && header.is_next_best)
        status = tkv_fail_corrupt(&error, TKV_WAL_NAME, 0, 0, "one of two header blocks");
    judge(v, status, &error);
}

enum tkv_status tkv_verify(struct tkv_store *store, tkv_finding_fn *on_finding,
                           void *context, struct tkv_verify_report *ret_report,
                           struct tkv_error *err)
{
    struct verify v = {.store = store, .on_finding = on_finding, .context = context};
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK)
        return status;
    verify_manifest(&v);
    verify_log_header(&v);
    verify_files(&v);
    verify_keys(&v);
    verify_index(&v);
    if (ret_report != NULL)
        *ret_report = v.report;
    if (v.failure != TKV_OK) {
        tkv_error_copy(err, &v.error);
        return v.failure;
    }
    if (v.report.findings > 0)
        return tkv_fail(err, TKV_CORRUPT, "%llu findings",
                        (unsigned long long)v.report.findings);
    return TKV_OK;
}
