/* SPDX-License-Identifier: MIT */
/*
 * apply.c - what happens once a group is in the log: its records, the same bytes, go to the
 * active data file's memory tail and the index learns where they are. Nothing here can fail:
 * index memory was reserved by each writer, tail memory by tkv_apply_prepare().
 */
#include "store.h"

#include "bytes.h"

/* Records of one file lie within 2^32 of its seq_base, so that 32 bits in the index are
 * enough to tell any two of them apart. */
static bool spans_too_far(const struct tkv_store *store, const struct tkv_datafile *file)
{
    return store->applied_seq_next - file->seq_base >= UINT32_MAX / 2;
}

enum tkv_status tkv_apply_rotate(struct tkv_store *store, size_t need,
                                 struct tkv_error *err)
{
    uint64_t capacity = tkv_files_capacity(store);
    struct tkv_datafile *file;
    enum tkv_status status;

    if (need < store->prepared)
        need = store->prepared;
    if (capacity < need + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE)
        capacity = need + TKV_DATA_HEADER_SIZE + TKV_BLOCK_SIZE;
    status = tkv_datafile_new(store->os, store->uuid, store->next_number,
                              store->applied_seq_next, TKV_FILE_FRESH, capacity,
                              store->options.read_mode == TKV_READ_MMAP, &file, err);
    if (status != TKV_OK)
        return status;
    status = tkv_files_add(store, file, err);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    store->next_number++;
    if (store->active != NULL)
        atomic_store(&store->active->sealed, true);
    store->active = file;
    tkv_store_emit(store,
                   (struct tkv_event){.kind = TKV_EVENT_ROTATED, .file = file->number});
    return TKV_OK;
}

enum tkv_status tkv_apply_reserve(struct tkv_store *store, size_t payload_size,
                                  struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    /* A checkpoint may pad the file to a block boundary before the group is applied. */
    if (tkv_datafile_room(store->active) < payload_size + TKV_BLOCK_SIZE ||
        spans_too_far(store, store->active))
        status = tkv_apply_rotate(store, payload_size, err);
    if (status == TKV_OK)
        store->prepared = payload_size;
    return status;
}

/* In the relaxed modes `apply` is the log's lock as well: one that is taken once is cheaper than
 * two. Where the log waits for the device others may go on meanwhile. */
static void lock(struct tkv_store *store) TKV_NO_ANALYSIS
{
    if (store->wal.always)
        tkv_mutex_lock(&store->apply);
}

static void unlock(struct tkv_store *store) TKV_NO_ANALYSIS
{
    if (store->wal.always)
        tkv_mutex_unlock(&store->apply);
}

enum tkv_status tkv_apply_prepare(void *context, size_t payload_size, struct tkv_error *err)
{
    struct tkv_store *store = context;
    enum tkv_status status;

    lock(store);
    status = tkv_apply_reserve(store, payload_size, err);
    unlock(store);
    return status;
}

static bool apply_put(struct tkv_store *store, struct tkv_datafile *file, uint64_t offset,
                      const struct tkv_record *record, uint64_t hash)
{
    const unsigned flags = record->kind == TKV_RECORD_LARGE ? TKV_PLACE_LARGE : 0;
    const struct tkv_location location = {
        .place = tkv_place(file->slot, offset, flags),
        .size = (uint32_t)tkv_record_size(record),
        .seq_low = (uint32_t)record->seq,
        .expires_at_ms = record->expires_at_ms,
    };
    struct tkv_location old;
    bool existed;

    if (flags != 0)
        atomic_store(&store->has_large, true);
    tkv_usage_live(&file->usage, location.size, 1);
    existed = tkv_index_put(store->index, record->key, hash, &location, &old);
    if (existed)
        tkv_files_replaced(store, &old, location.size);
    else
        tkv_usage_add_alone(&store->live_bytes, location.size);
    return existed;
}

static bool apply_delete(struct tkv_store *store, struct tkv_datafile *file,
                         const struct tkv_record *record, uint64_t hash)
{
    const uint64_t size = tkv_record_size(record);
    struct tkv_location old;
    bool existed;

    tkv_usage_add_alone(&file->usage.tombstone_bytes, size);
    existed = tkv_index_remove(store->index, record->key, hash, &old);
    if (!existed)
        return false;
    tkv_files_dead(store, &old);
    return old.expires_at_ms == 0 || old.expires_at_ms > tkv_store_now_ms(store);
}

bool tkv_apply_record(struct tkv_store *store, struct tkv_datafile *file, uint64_t offset,
                      const struct tkv_record *record, uint64_t hash)
{
    tkv_datafile_note_record(file, offset, record->seq, record->kind == TKV_RECORD_DELETE);
    if (record->kind == TKV_RECORD_DELETE)
        return apply_delete(store, file, record, hash);
    return apply_put(store, file, offset, record, hash);
}

#define WINDOW 16u /* keys of a batch whose index lines are fetched together */

/* What the next keys of a batch will change. */
static void fetch_ahead(struct tkv_store *store, const struct tkv_wal_write *write,
                        size_t from)
{
    const size_t left = write->count - from;
    uint64_t guess;

    for (size_t i = from; i < from + (left < WINDOW ? left : WINDOW); i++) {
        (void)tkv_index_peek(store->index, write->items[i].key_hash, &guess);
        tkv_files_fetch_superseded(store, guess);
    }
}

/* Likewise for all writes of one key; who writes alone has done it before, where it pays. */
static void fetch_single_keys(struct tkv_store *store, const struct tkv_wal_applied *group)
{
    const struct tkv_wal_write *write;
    uint64_t guess;

    for (write = group->writes; write != NULL; write = write->next) {
        if (write->count == 1)
            tkv_index_prefetch(store->index, write->items[0].key_hash);
    }
    for (write = group->writes; write != NULL; write = write->next) {
        if (write->count != 1)
            continue;
        (void)tkv_index_peek(store->index, write->items[0].key_hash, &guess);
        tkv_files_fetch_superseded(store, guess);
    }
}

static void count_write(struct tkv_store *store, const struct tkv_wal_write *write)
{
    struct tkv_counters *c = &store->counters;

    tkv_usage_add_alone(&c->puts, write->count - write->deletes);
    tkv_usage_add_alone(&c->deletes, write->deletes);
    tkv_usage_add_alone(&c->user_bytes_written, write->user_bytes);
}

static void apply_write(struct tkv_store *store, const struct tkv_wal_applied *group,
                        struct tkv_wal_write *write, uint64_t group_offset)
{
    for (size_t i = 0; i < write->count; i++) {
        struct tkv_wal_item *item = &write->items[i];
        const size_t at = write->payload_offset + item->offset;
        struct tkv_record record;

        if (i % WINDOW == 0 && write->count > 1)
            fetch_ahead(store, write, i);
        /* These bytes were encoded by this process a moment ago. */
        if (tkv_record_parse(tkv_bytes(group->payload + at, group->payload_size - at),
                             &record) != TKV_RECORD_GOOD)
            continue;
        item->existed = tkv_apply_record(store, store->active, group_offset + at, &record,
                                         item->key_hash);
    }
}

void tkv_apply_group(void *context, const struct tkv_wal_applied *group)
{
    struct tkv_store *store = context;
    uint64_t offset;

    if (group->writes->next != NULL)
        fetch_single_keys(store, group);
    lock(store);
    offset = tkv_datafile_append(store->active, group->payload, group->payload_size);
    for (struct tkv_wal_write *w = group->writes; w != NULL; w = w->next) {
        apply_write(store, group, w, offset);
        count_write(store, w);
    }
    store->prepared = 0;
    store->applied_end = group->end;
    store->applied_seq_next = group->seq_next;
    store->applied_chain = group->chain;
    tkv_usage_add_alone(&store->applied_bytes, group->payload_size);
    atomic_store_explicit(&store->log_head, group->end.position, memory_order_relaxed);
    atomic_store_explicit(&store->seq_last, group->seq_next - 1, memory_order_release);
    unlock(store);
}
