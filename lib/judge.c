/* SPDX-License-Identifier: MIT */
/*
 * judge.c - which of a file's deletes are still needed: those that hide an older record of
 * their key in another file. The hints of the files that could hold one are read, or the
 * records themselves.
 *
 * When something fails: what cannot be read may hold anything, so all deletes are needed.
 *
 * Threads: with `compact` held, so that no file is removed meanwhile.
 */
#include "store.h"

#include "give_way.h"
#include "hint.h"
#include "tombstones.h"
#include "walk.h"

struct judge {
    struct tkv_store *store;
    struct tkv_tombstones *tombstones;
    uint64_t pinned_by; /* number of a file that holds something older; or 0 */
};

static void note_older(struct judge *judge, struct tkv_datafile *file, struct tkv_slice key,
                       uint64_t seq)
{
    if (tkv_tombstones_note(judge->tombstones, tkv_index_hash(judge->store->index, key),
                            seq))
        judge->pinned_by = file->number;
}

static enum tkv_status note_from_hint(struct judge *judge, struct tkv_datafile *file)
{
    struct tkv_hint_identity identity = {.number = file->number,
                                         .data_size = atomic_load(&file->size)};
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;
    uint64_t record_sum = 0, entries = 0;
    enum tkv_status status;

    memcpy(identity.uuid, judge->store->uuid, sizeof identity.uuid);
    status = tkv_hint_open(judge->store->os, judge->store->dir, &identity, &hint, NULL);
    if (status != TKV_OK)
        return status;
    while (tkv_hint_next(hint, &entry)) {
        tkv_give_way_after(++entries);
        record_sum += tkv_datafile_record_share(entry.offset, entry.seq);
        if (entry.kind != TKV_RECORD_DELETE)
            note_older(judge, file, entry.key, entry.seq);
    }
    tkv_hint_free(hint);
    /* A hint of other records: what it made needed in vain does no harm. */
    return record_sum == tkv_usage_get(&file->record_sum) ? TKV_OK : TKV_CORRUPT;
}

static enum tkv_status note_from_records(struct judge *judge, struct tkv_datafile *file)
{
    struct tkv_walk walk;
    enum tkv_status status;

    tkv_walk_begin(&walk, file, atomic_load(&file->size));
    while (tkv_walk_next(&walk)) {
        if (walk.record.kind != TKV_RECORD_DELETE)
            note_older(judge, file, walk.record.key, walk.record.seq);
    }
    status = walk.status;
    tkv_walk_end(&walk);
    return status;
}

static void need_all(struct tkv_tombstones *tombstones)
{
    for (size_t i = 0; i < tombstones->count; i++)
        tombstones->items[i].needed = true;
    tombstones->undecided = 0;
}

uint64_t tkv_judge_tombstones(struct tkv_store *store, const struct tkv_datafile *source,
                              struct tkv_tombstones *tombstones)
{
    struct judge judge = {.store = store, .tombstones = tombstones};
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while (tombstones->undecided > 0 && (file = tkv_files_next(store, &slot)) != NULL) {
        if (file == source || file->file_class == TKV_FILE_LARGE ||
            file->seq_min_put >= tombstones->seq_max)
            continue;
        if (note_from_hint(&judge, file) == TKV_OK)
            continue;
        if (note_from_records(&judge, file) != TKV_OK) {
            need_all(tombstones); /* what cannot be read may hold anything */
            judge.pinned_by = file->number;
        }
    }
    return judge.pinned_by;
}
