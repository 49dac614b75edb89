/* SPDX-License-Identifier: MIT */
/*
 * load.c - data files when a store is opened: their records are taken from their hints, or read
 * one by one where there is none to be trusted, and then a hint is written if there is room.
 */
#include "store.h"

#include "give_way.h"
#include "hint.h"
#include "large.h"
#include "load_entry.h"
#include "walk.h"

/* ---- Opening --------------------------------------------------------------------- */

enum tkv_status tkv_load_open(struct tkv_store *store,
                              const struct tkv_manifest_file *entry,
                              struct tkv_open_report *report, struct tkv_error *err)
{
    struct tkv_datafile *file;
    enum tkv_status status;

    if (!entry->sealed && entry->durable_size % TKV_BLOCK_SIZE != 0)
        return tkv_fail_corrupt(
            err, TKV_MANIFEST_NAME, 0, 0,
            "data file %llu is open and has %llu bytes, no whole blocks",
            (unsigned long long)entry->number, (unsigned long long)entry->durable_size);
    status = tkv_datafile_open(store->os, store->dir, store->uuid, entry,
                               store->options.read_mode == TKV_READ_MMAP, &file, err);
    if (tkv_gaps_accept(store, status))
        return tkv_gaps_enter_lost(store, entry, report, err);
    if (status != TKV_OK)
        return status;
    status = tkv_files_add(store, file, err);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    report->data_files++;
    return TKV_OK;
}

/* ---- From the hint --------------------------------------------------------------- */

static struct tkv_hint_identity identity_of(const struct tkv_store *store,
                                            struct tkv_datafile *file)
{
    struct tkv_hint_identity identity = {.number = file->number,
                                         .data_size = atomic_load(&file->size)};

    memcpy(identity.uuid, store->uuid, sizeof identity.uuid);
    return identity;
}

/* The records with this sum are those that were durable. */
static bool is_complete(const struct tkv_datafile *file, uint64_t record_sum)
{
    return file->durable_sum == 0 || file->durable_sum == record_sum;
}

/* Nothing has been indexed when this fails with TKV_CORRUPT or TKV_NOT_FOUND. */
static enum tkv_status open_hint(struct tkv_store *store, struct tkv_datafile *file,
                                 struct tkv_hint **ret_hint)
{
    const struct tkv_hint_identity identity = identity_of(store, file);
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;
    uint64_t record_sum = 0;
    enum tkv_status status = tkv_hint_open(store->os, store->dir, &identity, &hint, NULL);

    if (status != TKV_OK)
        return status;
    while (status == TKV_OK && tkv_hint_next(hint, &entry)) {
        status = tkv_load_check(store, file, &entry, NULL);
        record_sum += tkv_datafile_record_share(entry.offset, entry.seq);
    }
    if (status == TKV_OK && !is_complete(file, record_sum))
        status = TKV_CORRUPT;
    if (status != TKV_OK) {
        tkv_hint_free(hint);
        return status;
    }
    tkv_hint_rewind(hint);
    *ret_hint = hint;
    return TKV_OK;
}

#define WINDOW 16u /* entries whose index lines are fetched ahead of their use */

static enum tkv_status load_hint(struct tkv_store *store, struct tkv_datafile *file,
                                 struct tkv_hint *hint, struct tkv_error *err)
{
    struct tkv_hint_entry entries[WINDOW];
    uint64_t hashes[WINDOW], guess;
    enum tkv_status status = TKV_OK;
    unsigned count;

    do {
        for (count = 0; count < WINDOW && tkv_hint_next(hint, &entries[count]); count++) {
            hashes[count] = tkv_index_hash(store->index, entries[count].key);
            tkv_index_prefetch(store->index, hashes[count]);
        }
        for (unsigned i = 0; i < count; i++)
            (void)tkv_index_peek(store->index, hashes[i], &guess);
        for (unsigned i = 0; i < count && status == TKV_OK; i++) {
            file->hint_sum += tkv_datafile_hint_share(
                entries[i].offset, hashes[i], entries[i].kind, entries[i].expires_at_ms);
            status = tkv_load_entry(store, file, &entries[i], hashes[i], err);
        }
    } while (count == WINDOW && status == TKV_OK);
    file->is_from_hint = true;
    return status;
}

/* ---- From the data file ---------------------------------------------------------- */

static bool entry_of(const struct tkv_walk *walk, struct tkv_hint_entry *ret_entry)
{
    struct tkv_large_reference reference = {0};

    if (walk->record.kind == TKV_RECORD_LARGE &&
        !tkv_large_decode(walk->record.value, &reference))
        return false;
    *ret_entry = (struct tkv_hint_entry){
        .kind = walk->record.kind,
        .seq = walk->record.seq,
        .offset = walk->offset,
        .size = (uint32_t)walk->size,
        .expires_at_ms = walk->record.expires_at_ms,
        .large_number = reference.number,
        .key = walk->record.key,
    };
    return true;
}

typedef enum tkv_status entry_fn(void *context, struct tkv_datafile *file,
                                 const struct tkv_hint_entry *entry, struct tkv_error *err);

/* *ret_padding: where the first padding is, 0 for none; not wanted when NULL. */
static enum tkv_status for_each_entry(struct tkv_datafile *file, uint64_t from,
                                      entry_fn *use, void *context, uint64_t *ret_padding,
                                      struct tkv_error *err)
{
    struct tkv_hint_entry entry;
    struct tkv_walk walk;
    enum tkv_status status = TKV_OK;

    tkv_walk_begin(&walk, file, atomic_load(&file->size));
    walk.next = from;
    while (status == TKV_OK && tkv_walk_next(&walk)) {
        if (!entry_of(&walk, &entry))
            status = tkv_fail_corrupt(err, file->name, walk.offset, walk.record.seq,
                                      "reference to a large value");
        else
            status = use(context, file, &entry, err);
    }
    if (status == TKV_OK && walk.status != TKV_OK) {
        status = walk.status;
        tkv_error_copy(err, &walk.error);
    }
    if (ret_padding != NULL)
        *ret_padding = walk.padding;
    tkv_walk_end(&walk);
    return status;
}

struct scan {
    struct tkv_store *store;
    struct tkv_hint_writer *hint; /* NULL: none is wanted */
};

static enum tkv_status load_and_hint(void *context, struct tkv_datafile *file,
                                     const struct tkv_hint_entry *entry,
                                     struct tkv_error *err)
{
    struct scan *scan = context;
    enum tkv_status status = tkv_load_check(scan->store, file, entry, err);

    if (status == TKV_OK)
        status = tkv_load_entry(scan->store, file, entry,
                                tkv_index_hash(scan->store->index, entry->key), err);
    if (status == TKV_OK && scan->hint != NULL &&
        tkv_hint_writer_add(scan->hint, entry, NULL) != TKV_OK) {
        tkv_hint_writer_free(scan->hint);
        scan->hint = NULL;
    }
    return status;
}

static void write_hint(struct tkv_store *store, struct tkv_datafile *file,
                       struct tkv_hint_writer *hint)
{
    const struct tkv_hint_identity identity = identity_of(store, file);

    if (!tkv_space_permits(store, tkv_hint_writer_size(hint)))
        return;
    tkv_space_take(store, tkv_hint_writer_size(hint));
    if (tkv_hint_writer_write(hint, store->os, store->dir, &identity, NULL) == TKV_OK)
        file->hinted_size = identity.data_size;
}

/* Records that turned into zeros up to their padding can be anywhere from the first one on. */
static enum tkv_status check_sum(struct tkv_datafile *file, uint64_t padding,
                                 struct tkv_error *err)
{
    if (is_complete(file, tkv_usage_get(&file->record_sum)))
        return TKV_OK;
    return tkv_fail_corrupt(err, file->name, padding != 0 ? padding : TKV_DATA_HEADER_SIZE,
                            0, "records are missing");
}

static enum tkv_status scan_file(struct tkv_store *store, struct tkv_datafile *file,
                                 struct tkv_error *err)
{
    struct scan scan = {store, NULL};
    uint64_t padding;
    enum tkv_status status;

    if (!store->options.read_only && tkv_hint_writer_new(&scan.hint, NULL) != TKV_OK)
        scan.hint = NULL;
    status =
        for_each_entry(file, TKV_DATA_HEADER_SIZE, load_and_hint, &scan, &padding, err);
    if (status == TKV_OK)
        status = check_sum(file, padding, err);
    if (status == TKV_OK && scan.hint != NULL && file->durable_sealed)
        write_hint(store, file, scan.hint);
    tkv_hint_writer_free(scan.hint);
    return status;
}

enum tkv_status tkv_load_file(struct tkv_store *store, struct tkv_datafile *file,
                              struct tkv_open_report *report, struct tkv_error *err)
{
    struct tkv_hint *hint;
    enum tkv_status status = open_hint(store, file, &hint);

    atomic_store(&file->superseded.is_complete, true); /* as long as there is memory */
    if (status == TKV_OK) {
        status = load_hint(store, file, hint, err);
        tkv_hint_free(hint);
        file->hinted_size = atomic_load(&file->size);
        report->hints_used++;
    } else {
        report->hints_rebuilt++;
        status = scan_file(store, file, err);
    }
    file->durable_sum = tkv_usage_get(&file->record_sum); /* known from here on */
    if (status != TKV_OK)
        atomic_store(&file->superseded.is_complete, false);
    return status;
}

/* ---- Writing a hint later -------------------------------------------------------- */

struct listing {
    struct tkv_hint_writer *hint;
    uint64_t record_sum;
};

static enum tkv_status add_to_hint(void *context, struct tkv_datafile *file,
                                   const struct tkv_hint_entry *entry,
                                   struct tkv_error *err)
{
    struct listing *listing = context;

    (void)file;
    listing->record_sum += tkv_datafile_record_share(entry->offset, entry->seq);
    return tkv_hint_writer_add(listing->hint, entry, err);
}

/* What an older hint says needs no reading: damage that has come since then costs the keys that
 * it hits, and not the opening of the store. */
static enum tkv_status add_old_hint(struct tkv_store *store, struct tkv_datafile *file,
                                    struct listing *listing)
{
    struct tkv_hint_identity identity = identity_of(store, file);
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;
    enum tkv_status status;

    identity.data_size = file->hinted_size;
    status = tkv_hint_open(store->os, store->dir, &identity, &hint, NULL);
    if (status != TKV_OK)
        return status;
    for (uint64_t i = 0; status == TKV_OK && tkv_hint_next(hint, &entry); i++) {
        tkv_give_way_after(i);
        status = add_to_hint(listing, file, &entry, NULL);
    }
    tkv_hint_free(hint);
    return status;
}

void tkv_load_write_hint(struct tkv_store *store, struct tkv_datafile *file)
{
    const uint64_t from = file->hinted_size > 0 ? file->hinted_size : TKV_DATA_HEADER_SIZE;
    struct listing listing = {NULL, 0};
    enum tkv_status status = TKV_OK;

    if (file->hinted_size == atomic_load(&file->size) || !tkv_space_permits(store, 0) ||
        tkv_hint_writer_new(&listing.hint, NULL) != TKV_OK)
        return;
    if (file->hinted_size > 0)
        status = add_old_hint(store, file, &listing);
    if (status != TKV_OK)
        file->hinted_size = 0; /* the next one is made without it */
    if (status == TKV_OK)
        status = for_each_entry(file, from, add_to_hint, &listing, NULL, NULL);
    /* A hint of other records than those that were written would make damage the truth. */
    if (status == TKV_OK && listing.record_sum == tkv_usage_get(&file->record_sum))
        write_hint(store, file, listing.hint);
    tkv_hint_writer_free(listing.hint);
}
