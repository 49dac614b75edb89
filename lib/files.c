/* SPDX-License-Identifier: MIT */
/*
 * files.c - the table of a store's data files, and the accounts of what in them is live.
 *
 * A slot is reused only after every reader that could hold a place in its old file has left:
 * else a place would lead to another file's bytes.
 */
#include "store.h"

#include "large.h"

#include <stdlib.h>

static uint32_t find_free_slot(struct tkv_store *store)
{
    for (uint32_t i = 0; i < TKV_SLOT_COUNT; i++) {
        const uint32_t slot = (store->slot_hint + i) % TKV_SLOT_COUNT;

        if (atomic_load_explicit(&store->files[slot], memory_order_relaxed) == NULL)
            return slot;
        /* Stay low, so that walks over the table are short. */
        if (slot + 1 == atomic_load(&store->slots_used) && slot + 1 < TKV_SLOT_COUNT)
            return slot + 1;
    }
    return TKV_SLOT_COUNT;
}

enum tkv_status tkv_files_add(struct tkv_store *store, struct tkv_datafile *file,
                              struct tkv_error *err)
{
    const uint32_t slot = find_free_slot(store);

    if (slot == TKV_SLOT_COUNT)
        return tkv_fail(err, TKV_TOO_BIG,
                        "the store has %u data files, the most there can be",
                        TKV_SLOT_COUNT);
    file->slot = slot;
    store->slot_hint = slot + 1 < TKV_SLOT_COUNT ? slot + 1 : 0;
    if (slot >= atomic_load(&store->slots_used))
        atomic_store(&store->slots_used, slot + 1);
    tkv_usage_add(&store->other_bytes, atomic_load(&file->size));
    tkv_usage_add(&store->file_count, 1);
    if (file->file_class != TKV_FILE_LARGE)
        (void)tkv_space_note_file(store, file->capacity);
    atomic_store(&store->files[slot], file);
    return TKV_OK;
}

void tkv_files_remove(struct tkv_store *store, struct tkv_datafile *file)
{
    tkv_epoch_wait(&store->epoch);

    tkv_mutex_lock(&store->apply);
    atomic_store(&store->files[file->slot], NULL);
    if (file->slot < store->slot_hint)
        store->slot_hint = file->slot;
    tkv_usage_sub(&store->other_bytes, atomic_load(&file->size));
    tkv_usage_sub(&store->file_count, 1);
    tkv_mutex_unlock(&store->apply);

    /* Walks over the table may have loaded the pointer. */
    tkv_epoch_wait(&store->epoch);
    tkv_removed_add(store, file);
}

struct tkv_datafile *tkv_files_at(struct tkv_store *store, uint32_t slot)
{
    return atomic_load_explicit(&store->files[slot], memory_order_acquire);
}

struct tkv_datafile *tkv_files_next(struct tkv_store *store, uint32_t *slot)
{
    const uint32_t used = atomic_load(&store->slots_used);

    while (*slot < used) {
        struct tkv_datafile *file = tkv_files_at(store, (*slot)++);

        if (file != NULL)
            return file;
    }
    return NULL;
}

struct tkv_datafile *tkv_files_find(struct tkv_store *store, uint64_t number)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->number == number)
            return file;
    }
    return NULL;
}

/* A compaction needs room for a file's live records beside it. */
static uint64_t at_most_of_disk(struct tkv_store *store, uint64_t capacity)
{
    const uint64_t disk_bytes =
        atomic_load_explicit(&store->disk_bytes, memory_order_relaxed);
    const uint64_t share = disk_bytes / TKV_DISK_SHARE;

    if (disk_bytes == 0 || capacity <= share)
        return capacity;
    return share > TKV_FILE_SIZE_MIN ? share : TKV_FILE_SIZE_MIN;
}

uint64_t tkv_files_capacity(struct tkv_store *store)
{
    const uint64_t share = tkv_usage_get(&store->live_bytes) / 256;
    uint64_t capacity = store->options.data_file_size_min;

    if (share > capacity)
        capacity = share;
    if (capacity > store->options.data_file_size_max)
        capacity = store->options.data_file_size_max;
    return at_most_of_disk(store, capacity);
}

void tkv_files_live(struct tkv_store *store, struct tkv_datafile *file, uint64_t size)
{
    tkv_usage_live(&file->usage, size, 1);
    tkv_usage_add_alone(&store->live_bytes, size);
}

/* The value in a file of its own goes with the record that refers to it. Inside an epoch: the
 * record may lie in a memory tail that is being given back. */
static void unreference_large(struct tkv_store *store, struct tkv_datafile *file,
                              const struct tkv_location *old)
{
    struct tkv_large_reference reference;
    const struct tkv_reader reader = tkv_epoch_enter(&store->epoch);
    struct tkv_record record;
    uint8_t *bytes = malloc(old->size);

    /* Damage to the record leaves the value's file in place: space lost, nothing else. The
     * checksum must hold, and it must be this record, lest another key's value be given up. */
    if (bytes != NULL &&
        tkv_datafile_read(file, tkv_place_offset(old->place), bytes, old->size, NULL) ==
            TKV_OK &&
        tkv_record_decode(tkv_bytes(bytes, old->size), &record) == TKV_RECORD_GOOD &&
        record.kind == TKV_RECORD_LARGE && (uint32_t)record.seq == old->seq_low &&
        tkv_large_decode(record.value, &reference))
        tkv_large_unreferenced(store, &reference);
    free(bytes);
    tkv_epoch_leave(reader);
}

void tkv_files_superseded(struct tkv_store *store, const struct tkv_location *old)
{
    const uint32_t slot = tkv_place_slot(old->place);
    struct tkv_datafile *file = tkv_files_at(store, slot);
    struct tkv_superseded *superseded = &file->superseded;
    uintptr_t bits;

    if (old->expires_at_ms != 0)
        return;
    tkv_superseded_note(superseded, tkv_place_offset(old->place), file->capacity);
    bits = (uintptr_t)atomic_load_explicit(&superseded->bits, memory_order_relaxed);
    if (slot < TKV_FETCH_SLOTS &&
        atomic_load_explicit(&store->superseded_at[slot], memory_order_relaxed) != bits)
        atomic_store_explicit(&store->superseded_at[slot], bits, memory_order_relaxed);
}

static void count_dead(struct tkv_store *store, const struct tkv_location *old)
{
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(old->place));

    tkv_usage_dead(&file->usage, old->size, 1);
    tkv_files_superseded(store, old);
    if ((old->place & TKV_PLACE_LARGE) != 0)
        unreference_large(store, file, old);
}

void tkv_files_dead(struct tkv_store *store, const struct tkv_location *old)
{
    count_dead(store, old);
    tkv_usage_sub_alone(&store->live_bytes, old->size);
}

void tkv_files_replaced(struct tkv_store *store, const struct tkv_location *old,
                        uint32_t size)
{
    count_dead(store, old);
    if (size != old->size)
        tkv_usage_add_alone(&store->live_bytes, (uint64_t)size - old->size);
}

void tkv_files_expired(struct tkv_store *store, const struct tkv_location *old)
{
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(old->place));

    /* In this order: a file that looks dead in between would be removed unread. */
    tkv_usage_add(&file->usage.tombstone_bytes, old->size);
    tkv_files_dead(store, old);
}

void tkv_files_unlink_hint(struct tkv_store *store, const struct tkv_datafile *file)
{
    char hint[TKV_FILE_NAME_SIZE];

    tkv_hint_name(file->number, hint);
    (void)store->os->unlink(store->os, store->dir, hint);
}

void tkv_files_unlink_hints(struct tkv_store *store)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->hinted_size == 0)
            continue;
        tkv_files_unlink_hint(store, file);
        file->hinted_size = 0;
    }
}

enum tkv_status tkv_files_sync_names(struct tkv_store *store, struct tkv_error *err)
{
    store->dir_changed = true;
    return tkv_flush_directory(store, err);
}

void tkv_files_unlink(struct tkv_store *store, const struct tkv_datafile *file)
{
    (void)store->os->unlink(store->os, store->dir, file->name);
    tkv_files_unlink_hint(store, file);
}
