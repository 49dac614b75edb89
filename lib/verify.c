/* SPDX-License-Identifier: MIT */
/*
 * verify.c - read everything and compare: every record of every data file against its
 * checksum, every live key through the index against its record, the counters against a
 * recount. Changes nothing.
 */
#include "store.h"

#include "walk.h"

#include <stdio.h>
#include <stdlib.h>

struct verify {
    struct tkv_store *store;
    tkv_finding_fn *on_finding;
    void *context;
    struct tkv_verify_report report;
    enum tkv_status failure; /* something that is not a finding, such as no memory */
};

static void report_finding(struct verify *v, const struct tkv_error *error)
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
    else if (status != TKV_OK && v->failure == TKV_OK)
        v->failure = status;
}

/* ---- Files ----------------------------------------------------------------------- */

static void check_count(struct verify *v, struct tkv_datafile *file, uint64_t counted)
{
    const uint64_t known = tkv_usage_get(&file->usage.records);
    struct tkv_error error;

    /* Files that still grow may have grown since. */
    if (!atomic_load(&file->sealed) || counted == known)
        return;
    (void)tkv_fail_corrupt(&error, file->name, 0, 0, "%llu records where %llu are known",
                           (unsigned long long)counted, (unsigned long long)known);
    report_finding(v, &error);
}

static void verify_file(struct verify *v, struct tkv_datafile *file)
{
    const uint64_t end = atomic_load_explicit(&file->size, memory_order_acquire);
    uint64_t counted = 0;
    struct tkv_walk walk;

    v->report.files++;
    v->report.bytes += end;
    if (file->file_class == TKV_FILE_LARGE)
        return; /* read through its key */
    tkv_walk_begin(&walk, file, end);
    while (tkv_walk_next(&walk))
        counted++;
    judge(v, walk.status, &walk.error);
    if (walk.status == TKV_OK)
        check_count(v, file, counted);
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

static void verify_keys(struct verify *v, struct tkv_error *err)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error error;
    enum tkv_status status = tkv_iterator_new(v->store, false, &iterator, err);

    if (status != TKV_OK) {
        v->failure = status;
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

static void verify_index(struct verify *v)
{
    struct tkv_error error;

    if (tkv_index_check(v->store->index))
        return;
    (void)tkv_fail(&error, TKV_CORRUPT, "the index in memory contradicts itself");
    report_finding(v, &error);
}

enum tkv_status tkv_verify(struct tkv_store *store, tkv_finding_fn *on_finding,
                           void *context, struct tkv_verify_report *ret_report,
                           struct tkv_error *err)
{
    struct verify v = {.store = store, .on_finding = on_finding, .context = context};
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK)
        return status;
    verify_files(&v);
    verify_keys(&v, err);
    verify_index(&v);
    if (ret_report != NULL)
        *ret_report = v.report;
    if (v.failure != TKV_OK)
        return tkv_fail(err, v.failure, "the verification did not finish: %s",
                        tkv_status_text(v.failure));
    if (v.report.findings > 0)
        return tkv_fail(err, TKV_CORRUPT, "%llu findings",
                        (unsigned long long)v.report.findings);
    return TKV_OK;
}
