/* SPDX-License-Identifier: MIT */
/*
 * load_entry.c - what one record of a data file means for the index, when a store is opened.
 *
 * Files are loaded in any order: compaction mixes ages. The newest sequence number of a key
 * wins, deletes included, so a delete occupies a place in the index until all files are
 * loaded; else an older record met later would bring its key back.
 */
#include "load_entry.h"

/* The whole sequence number of what the index points at. */
static uint64_t seq_at(struct tkv_store *store, const struct tkv_location *location)
{
    const struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(location->place));

    return tkv_datafile_seq(file, location->seq_low);
}

static void count_dead(struct tkv_store *store, const struct tkv_location *old)
{
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(old->place));

    if ((old->place & TKV_PLACE_TOMBSTONE) != 0)
        return;
    tkv_files_superseded(store, old);
    tkv_usage_dead(&file->usage, old->size, 1);
    tkv_usage_sub_alone(&store->live_bytes, old->size);
}

static void count_record(struct tkv_datafile *file, const struct tkv_hint_entry *entry)
{
    const bool is_delete = entry->kind == TKV_RECORD_DELETE;

    tkv_datafile_note_record(file, entry->offset, entry->seq, is_delete);
    if (is_delete)
        tkv_usage_add_alone(&file->usage.tombstone_bytes, entry->size);
}

static unsigned flags_of(enum tkv_record_kind kind)
{
    if (kind == TKV_RECORD_DELETE)
        return TKV_PLACE_TOMBSTONE;
    return kind == TKV_RECORD_LARGE ? TKV_PLACE_LARGE : 0;
}

/* A key that another file had already, or one that expires. */
static enum tkv_status load_newer(struct tkv_store *store,
                                  const struct tkv_hint_entry *entry, uint64_t hash,
                                  const struct tkv_location *location, bool *ret_is_newest,
                                  struct tkv_error *err)
{
    struct tkv_location old;
    enum tkv_status status;

    *ret_is_newest = !tkv_index_find(store->index, entry->key, hash, &old) ||
                     seq_at(store, &old) < entry->seq;
    if (!*ret_is_newest)
        return TKV_OK;
    status =
        tkv_index_reserve(store->index, entry->key, hash, entry->expires_at_ms != 0, err);
    if (status == TKV_OK && tkv_index_put(store->index, entry->key, hash, location, &old))
        count_dead(store, &old);
    return status;
}

enum tkv_status tkv_load_entry(struct tkv_store *store, struct tkv_datafile *file,
                               const struct tkv_hint_entry *entry, uint64_t hash,
                               struct tkv_error *err)
{
    const struct tkv_location location = {
        .place = tkv_place(file->slot, entry->offset, flags_of(entry->kind)),
        .size = entry->size,
        .seq_low = (uint32_t)entry->seq,
        .expires_at_ms = entry->expires_at_ms,
    };
    bool is_newest = false;
    enum tkv_status status = TKV_OK;

    count_record(file, entry);
    if (entry->expires_at_ms == 0)
        status = tkv_index_add(store->index, entry->key, hash, &location, &is_newest, err);
    if (status == TKV_OK && !is_newest)
        status = load_newer(store, entry, hash, &location, &is_newest, err);
    if (status == TKV_OK && !is_newest && entry->kind != TKV_RECORD_DELETE)
        tkv_files_superseded(store, &location);
    if (status != TKV_OK || !is_newest)
        return status;
    if (entry->kind == TKV_RECORD_LARGE)
        atomic_store(&store->has_large, true);
    if (entry->kind == TKV_RECORD_DELETE) {
        store->has_tombstones = true;
        return TKV_OK;
    }
    tkv_usage_live(&file->usage, entry->size, 1);
    tkv_usage_add_alone(&store->live_bytes, entry->size);
    return TKV_OK;
}

enum tkv_status tkv_load_check(struct tkv_store *store, struct tkv_datafile *file,
                               const struct tkv_hint_entry *entry, struct tkv_error *err)
{
    const uint64_t end = atomic_load(&file->size);

    if (entry->seq >= store->applied_seq_next)
        return tkv_fail_corrupt(err, file->name, entry->offset, entry->seq,
                                "the checkpoint is at sequence number %llu",
                                (unsigned long long)store->applied_seq_next);

    if (entry->seq < file->seq_base || entry->seq - file->seq_base > UINT32_MAX)
        return tkv_fail_corrupt(err, file->name, entry->offset, entry->seq,
                                "the file's sequence numbers begin at %llu",
                                (unsigned long long)file->seq_base);
    if (entry->offset < TKV_DATA_HEADER_SIZE || entry->offset > end ||
        entry->size > end - entry->offset || entry->offset > TKV_PLACE_OFFSET_MAX)
        return tkv_fail_corrupt(err, file->name, entry->offset, entry->seq,
                                "a hint beyond the end of the file");
    return TKV_OK;
}
