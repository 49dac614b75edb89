/* SPDX-License-Identifier: MIT */
#include "draft.h"

#include "codec.h"
#include "large.h"
#include "store.h"

#include <stdlib.h>

/* ---- Records and their bytes ----------------------------------------------------- */

void tkv_draft_init(struct tkv_draft *draft)
{
    draft->bytes = draft->first_bytes;
    draft->capacity = sizeof draft->first_bytes;
    draft->items = &draft->first_item;
    draft->item_capacity = 1;
    draft->size = draft->count = draft->deletes = draft->large_count = 0;
    draft->user_bytes = 0;
    draft->large = NULL;
    draft->is_wanted = NULL;
}

void tkv_draft_release(struct tkv_draft *draft)
{
    if (draft->bytes != draft->first_bytes)
        free(draft->bytes);
    if (draft->items != &draft->first_item)
        free(draft->items);
    free(draft->large);
}

static bool grow_bytes(struct tkv_draft *draft, size_t more)
{
    size_t capacity = draft->capacity;
    uint8_t *bytes;

    if (more <= draft->capacity - draft->size)
        return true;
    while (capacity - draft->size < more)
        capacity += capacity / 2;
    bytes = draft->bytes == draft->first_bytes ? malloc(capacity)
                                               : realloc(draft->bytes, capacity);
    if (bytes == NULL)
        return false;
    if (draft->bytes == draft->first_bytes)
        memcpy(bytes, draft->first_bytes, draft->size);
    draft->bytes = bytes;
    draft->capacity = capacity;
    return true;
}

static bool grow_items(struct tkv_draft *draft)
{
    const size_t capacity = draft->item_capacity * 2 + 14;
    struct tkv_wal_item *items;

    if (draft->count < draft->item_capacity)
        return true;
    items = draft->items == &draft->first_item
                ? malloc(capacity * sizeof *items)
                : realloc(draft->items, capacity * sizeof *items);
    if (items == NULL)
        return false;
    if (draft->items == &draft->first_item)
        memcpy(items, &draft->first_item, draft->count * sizeof *items);
    draft->items = items;
    draft->item_capacity = capacity;
    return true;
}

enum tkv_status tkv_draft_add(struct tkv_draft *draft, const struct tkv_record *record,
                              struct tkv_error *err)
{
    const size_t size = tkv_record_size(record);
    struct tkv_wal_item *item;

    if (!grow_bytes(draft, size) || !grow_items(draft))
        return tkv_fail_memory(err, size, "a record");
    item = &draft->items[draft->count++];
    memset(item, 0, sizeof *item);
    item->offset = draft->size;
    item->body_sum = tkv_record_encode(record, draft->bytes + draft->size);
    draft->size += size;
    draft->deletes += record->kind == TKV_RECORD_DELETE;
    draft->user_bytes += record->key.size + record->raw_size;
    return TKV_OK;
}

/* ---- Encoding with the store's options ------------------------------------------- */

#define COMMIT_SIZE_MAX \
    (1024u * 1024 * 1024) /* sizes in a group's header are 32 bits wide */

/* The most that one commit may bring to the log. */
static uint64_t commit_size_max(const struct tkv_store *store)
{
    const uint64_t quarter = store->options.wal_size_max / 4;

    return quarter < COMMIT_SIZE_MAX ? quarter : COMMIT_SIZE_MAX;
}

bool tkv_draft_is_large(const struct tkv_store *store, size_t record_size)
{
    return record_size > commit_size_max(store);
}

static enum tkv_status add_large(struct tkv_store *store, struct tkv_draft *draft,
                                 struct tkv_record record, struct tkv_error *err)
{
    uint8_t reference[TKV_LARGE_REFERENCE_SIZE];
    struct tkv_datafile **large, *file;
    enum tkv_status status;

    large = realloc(draft->large, (draft->large_count + 1) * sizeof *large);
    if (large == NULL)
        return tkv_fail_memory(err, sizeof *large, "a large value");
    draft->large = large;
    status = tkv_large_write(store, record.value, reference, &file, err);
    if (status != TKV_OK)
        return status;
    draft->large[draft->large_count++] = file;
    record.kind = TKV_RECORD_LARGE;
    record.value = tkv_bytes(reference, sizeof reference);
    return tkv_draft_add(draft, &record, err);
}

static enum tkv_status add_compressed(struct tkv_store *store, struct tkv_draft *draft,
                                      struct tkv_record record, struct tkv_error *err)
{
    uint8_t *stream = malloc(record.value.size);
    enum tkv_status status;
    size_t size = 0;

    if (stream != NULL) /* else it is stored as it is */
        size = tkv_codec_deflate(record.value, store->options.compress_level, stream,
                                 record.value.size - 5); /* the raw size takes 4 */
    if (size != 0) {
        record.raw_size = (uint32_t)record.value.size;
        record.codec = TKV_CODEC_ZLIB;
        record.value = tkv_bytes(stream, size);
    }
    status = tkv_draft_add(draft, &record, err);
    free(stream);
    return status;
}

enum tkv_status tkv_draft_put(struct tkv_store *store, struct tkv_draft *draft,
                              struct tkv_slice key, struct tkv_slice value,
                              uint64_t expires_at_ms, struct tkv_error *err)
{
    const struct tkv_options *options = &store->options;
    const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                      .codec = TKV_CODEC_STORED,
                                      .expires_at_ms = expires_at_ms,
                                      .raw_size = (uint32_t)value.size,
                                      .key = key,
                                      .value = value};

    if (key.size + TKV_LARGE_REFERENCE_SIZE + 64 > commit_size_max(store))
        return tkv_fail(err, TKV_TOO_BIG,
                        "a key of %zu bytes; with this wal_size_max at most %llu", key.size,
                        (unsigned long long)commit_size_max(store) -
                            TKV_LARGE_REFERENCE_SIZE - 64);
    if (tkv_draft_is_large(store, tkv_record_size(&record)))
        return add_large(store, draft, record, err);
    if (options->compress_level > 0 && value.size >= options->compress_size_min &&
        value.size > 16)
        return add_compressed(store, draft, record, err);
    return tkv_draft_add(draft, &record, err);
}

/* ---- Committing a draft ---------------------------------------------------------- */

void tkv_draft_record(const struct tkv_draft *draft, size_t i, struct tkv_record *ret)
{
    const size_t at = draft->items[i].offset;

    /* Encoded by tkv_draft_add() a moment ago. */
    (void)tkv_record_parse(tkv_bytes(draft->bytes + at, draft->size - at), ret);
}

static void unreserve(struct tkv_store *store, const struct tkv_draft *draft, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tkv_record record;

        tkv_draft_record(draft, i, &record);
        if (record.kind != TKV_RECORD_DELETE)
            tkv_index_unreserve(store->index, record.key, draft->items[i].key_hash,
                                record.expires_at_ms != 0);
    }
}

static enum tkv_status reserve(struct tkv_store *store, struct tkv_draft *draft,
                               struct tkv_error *err)
{
    for (size_t i = 0; i < draft->count; i++) {
        enum tkv_status status = TKV_OK;
        struct tkv_record record;

        tkv_draft_record(draft, i, &record);
        if (draft->items[i].key_hash == 0)
            draft->items[i].key_hash = tkv_index_hash(store->index, record.key);
        if (record.kind != TKV_RECORD_DELETE)
            status = tkv_index_reserve(store->index, record.key, draft->items[i].key_hash,
                                       record.expires_at_ms != 0, err);
        if (status != TKV_OK) {
            unreserve(store, draft, i);
            return status;
        }
    }
    return TKV_OK;
}

static bool is_one_put(const struct tkv_draft *draft)
{
    return draft->count == 1 && draft->deletes == 0;
}

/* While the record is written to the log its key's entry arrives; who deletes has looked already.
 * To find out where it is takes a wait for the key's line, which a new key, without an entry, is
 * spared. What the last put was the next one is, most likely. */
static void fetch_entry(struct tkv_store *store, const struct tkv_draft *draft)
{
    uint64_t guess;

    if (!is_one_put(draft) ||
        atomic_load_explicit(&store->puts_are_new, memory_order_relaxed))
        return;
    (void)tkv_index_peek(store->index, draft->items[0].key_hash, &guess);
    tkv_files_fetch_superseded(store, guess);
}

static void note_whether_new(struct tkv_store *store, const struct tkv_draft *draft)
{
    const bool is_new = !draft->items[0].existed;

    if (is_one_put(draft) &&
        atomic_load_explicit(&store->puts_are_new, memory_order_relaxed) != is_new)
        atomic_store_explicit(&store->puts_are_new, is_new, memory_order_relaxed);
}

enum tkv_status tkv_draft_commit(struct tkv_store *store, struct tkv_draft *draft,
                                 struct tkv_error *err)
{
    struct tkv_wal_write write = {.bytes = draft->bytes,
                                  .size = draft->size,
                                  .items = draft->items,
                                  .count = draft->count,
                                  .deletes = draft->deletes,
                                  .user_bytes = draft->user_bytes,
                                  .is_wanted = draft->is_wanted};
    enum tkv_status status, poisoned;

    if (draft->size > commit_size_max(store))
        return tkv_fail(err, TKV_TOO_BIG,
                        "a commit of %zu bytes; with this wal_size_max at most %llu",
                        draft->size, (unsigned long long)commit_size_max(store));
    status = reserve(store, draft, err);
    if (status != TKV_OK)
        return status;
    fetch_entry(store, draft);
    status = tkv_wal_commit(&store->wal, &write, err);
    if (draft->is_wanted != NULL && status == TKV_NOT_FOUND) /* nothing was reserved */
        return status;
    if (status != TKV_OK) {
        unreserve(store, draft, draft->count);
        poisoned = tkv_wal_poisoned(&store->wal);
        if (poisoned != TKV_OK)
            tkv_store_poison(store, poisoned);
        return status;
    }
    note_whether_new(store, draft);
    tkv_upkeep_after_write(store);
    return TKV_OK;
}

void tkv_draft_abandon(struct tkv_store *store, struct tkv_draft *draft)
{
    for (size_t i = 0; i < draft->large_count; i++)
        tkv_large_abandon(store, draft->large[i]);
}
