/* SPDX-License-Identifier: MIT */
/*
 * gaps.c - a store whose damage may hide writes, opened all the same (enum tkv_damage): what
 * cannot be read, and which answers are certain nevertheless.
 *
 * Invariant: unknown_seq is at least the sequence number of every write that was durable and is
 * not in the index. So a key whose known record is newer is right, and any other key, absent
 * ones included, may have a newer write in a gap.
 *
 * How far a gap reaches: a file written by puts holds nothing as new as the first record of the
 * next such file; any data file nothing as new as the checkpoint; a log that breaks may lack
 * anything. A file with a good hint has no gap: its keys are known, and each is an error.
 *
 * Threads: the gaps are found while a store is being opened, and constant then.
 */
#include "store.h"

#include <stdio.h>

bool tkv_gaps_accept(const struct tkv_store *store, enum tkv_status status)
{
    return store->options.damage != TKV_DAMAGE_REFUSE &&
           (status == TKV_CORRUPT || status == TKV_IO);
}

static void note(struct tkv_store *store, struct tkv_open_report *report, const char *file,
                 uint64_t number, uint64_t offset, uint64_t bytes)
{
    if (report->gaps++ == 0) {
        snprintf(store->gap_file, sizeof store->gap_file, "%s", file);
        store->gap_offset = offset;
    }
    report->gap_bytes += bytes;
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_CORRUPTION,
                                             .status = TKV_CORRUPT,
                                             .file = number,
                                             .bytes = bytes});
}

static void raise_unknown(struct tkv_store *store, uint64_t seq)
{
    if (store->unknown_seq < seq)
        store->unknown_seq = seq;
}

void tkv_gaps_note_log(struct tkv_store *store, struct tkv_open_report *report,
                       uint64_t offset, uint64_t bytes)
{
    note(store, report, TKV_WAL_NAME, 0, offset, bytes);
    raise_unknown(store, UINT64_MAX);
}

/* Below the first sequence number of the next file of its class; below that of the checkpoint,
 * which is the most that any data file has. */
static uint64_t newest_in(struct tkv_store *store, const struct tkv_datafile *file,
                          uint64_t seq_next)
{
    const struct tkv_datafile *other;
    uint64_t end = seq_next;
    uint32_t slot = 0;

    while (file->file_class == TKV_FILE_FRESH &&
           (other = tkv_files_next(store, &slot)) != NULL) {
        if (other->file_class == TKV_FILE_FRESH && other->seq_base > file->seq_base &&
            other->seq_base < end)
            end = other->seq_base;
    }
    return end - 1;
}

void tkv_gaps_note_body(struct tkv_store *store, struct tkv_open_report *report,
                        const struct tkv_datafile *file, uint64_t offset, uint64_t seq_next)
{
    const uint64_t size = file->durable;

    /* What is lost as a whole was counted when it was opened. */
    if (!file->lost)
        note(store, report, file->name, file->number, offset, size - offset);
    raise_unknown(store, newest_in(store, file, seq_next));
}

enum tkv_status tkv_gaps_enter_lost(struct tkv_store *store,
                                    const struct tkv_manifest_file *entry,
                                    struct tkv_open_report *report, struct tkv_error *err)
{
    struct tkv_datafile *file = tkv_datafile_lost(store->os, entry);
    enum tkv_status status;

    if (file == NULL)
        return tkv_fail_memory(err, sizeof *file, "a data file");
    status = tkv_files_add(store, file, err);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    note(store, report, file->name, file->number, 0, entry->durable_size);
    report->data_files++;
    return TKV_OK;
}

enum tkv_status tkv_gaps_check(struct tkv_store *store, const struct tkv_location *location,
                               struct tkv_error *err)
{
    uint64_t seq = 0;

    if (location != NULL) {
        const struct tkv_datafile *file =
            tkv_files_at(store, tkv_place_slot(location->place));

        seq = tkv_datafile_seq(file, location->seq_low);
    }
    if (seq > store->unknown_seq || store->options.damage != TKV_DAMAGE_CERTAIN)
        return TKV_OK;
    return tkv_fail_corrupt(err, store->gap_file, store->gap_offset, seq,
                            "what cannot be read may have a newer write of the key");
}
