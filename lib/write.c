/* SPDX-License-Identifier: MIT */
/*
 * write.c - put, delete and batches: from the caller's bytes to a commit.
 *
 *   check the arguments -> encode (compress; large values to files of their own) -> reserve
 *   index memory -> commit to the log, which applies it -> wake who has work now
 *
 * Everything that can fail for lack of memory or space comes before the log.
 */
#include "store.h"

#include "codec.h"

#include <stdlib.h>

/* ---- Drafts: encoded records on their way to the log ---------------------------------------- */

struct draft {
    uint8_t *bytes;
    size_t size, capacity;
    struct tkv_wal_item *items;
    size_t count, item_capacity;
    struct tkv_datafile **large; /* files written for it */
    size_t large_count;

    /* Enough for one small record, so that a put allocates nothing. */
    uint8_t first_bytes[1024];
    struct tkv_wal_item first_item;
};

static void draft_init(struct draft *draft)
{
    draft->bytes = draft->first_bytes;
    draft->capacity = sizeof draft->first_bytes;
    draft->items = &draft->first_item;
    draft->item_capacity = 1;
    draft->size = draft->count = draft->large_count = 0;
    draft->large = NULL;
}

static void draft_release(struct draft *draft)
{
    if (draft->bytes != draft->first_bytes)
        free(draft->bytes);
    if (draft->items != &draft->first_item)
        free(draft->items);
    free(draft->large);
}

static bool grow_bytes(struct draft *draft, size_t more)
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

static bool grow_items(struct draft *draft)
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

/* Encode `record`, which may still change before it is sealed in the log. */
static enum tkv_status draft_add(struct draft *draft, const struct tkv_record *record,
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
    return TKV_OK;
}

/* ---- Encoding with the store's options ------------------------------------------------------- */

/* The most that one commit may bring to the log. */
static uint64_t commit_size_max(const struct tkv_store *store)
{
    return store->options.wal_size_max / 4;
}

static bool is_large(const struct tkv_store *store, size_t record_size)
{
    return record_size > commit_size_max(store);
}

static enum tkv_status add_large(struct tkv_store *store, struct draft *draft,
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
    return draft_add(draft, &record, err);
}

static enum tkv_status add_compressed(struct tkv_store *store, struct draft *draft,
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
    status = draft_add(draft, &record, err);
    free(stream);
    return status;
}

static enum tkv_status add_put(struct tkv_store *store, struct draft *draft,
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

    if (is_large(store, tkv_record_size(&record)))
        return add_large(store, draft, record, err);
    if (options->compress_level > 0 && value.size >= options->compress_size_min &&
        value.size > 16)
        return add_compressed(store, draft, record, err);
    return draft_add(draft, &record, err);
}

/* ---- Committing a draft ------------------------------------------------------------------------ */

static struct tkv_record draft_record(const struct draft *draft, size_t i)
{
    const size_t at = draft->items[i].offset;
    struct tkv_record record;

    /* Encoded by draft_add() a moment ago. */
    (void)tkv_record_parse(tkv_bytes(draft->bytes + at, draft->size - at), &record);
    return record;
}

static void unreserve(struct tkv_store *store, const struct draft *draft, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct tkv_record record = draft_record(draft, i);

        if (record.kind != TKV_RECORD_DELETE)
            tkv_index_unreserve(store->index, record.key, draft->items[i].key_hash,
                                record.expires_at_ms != 0);
    }
}

static enum tkv_status reserve(struct tkv_store *store, struct draft *draft,
                               struct tkv_error *err)
{
    for (size_t i = 0; i < draft->count; i++) {
        const struct tkv_record record = draft_record(draft, i);
        enum tkv_status status = TKV_OK;

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

static enum tkv_status commit(struct tkv_store *store, struct draft *draft,
                              struct tkv_error *err)
{
    struct tkv_wal_write write = {.bytes = draft->bytes,
                                  .size = draft->size,
                                  .items = draft->items,
                                  .count = draft->count};
    enum tkv_status status;

    if (draft->size > commit_size_max(store))
        return tkv_fail(
            err, TKV_TOO_BIG,
            "a commit of %zu bytes, the limit is %llu, a quarter of wal_size_max",
            draft->size, (unsigned long long)commit_size_max(store));
    status = reserve(store, draft, err);
    if (status != TKV_OK)
        return status;
    status = tkv_wal_commit(&store->wal, &write, err);
    if (status != TKV_OK) {
        unreserve(store, draft, draft->count);
        if (status == TKV_IO)
            tkv_store_poison(store, status);
        return status;
    }
    tkv_upkeep_after_write(store);
    return TKV_OK;
}

static void abandon_large(struct tkv_store *store, struct draft *draft)
{
    for (size_t i = 0; i < draft->large_count; i++)
        tkv_large_abandon(store, draft->large[i]);
}

/* ---- Single keys -------------------------------------------------------------------------------- */

static enum tkv_status check_key_value(struct tkv_slice key, struct tkv_slice value,
                                       struct tkv_error *err)
{
    if (key.size > TKV_KEY_SIZE_MAX)
        return tkv_fail(err, TKV_TOO_BIG, "key of %zu bytes, the limit is %u", key.size,
                        TKV_KEY_SIZE_MAX);
    if (value.size > TKV_VALUE_SIZE_MAX)
        return tkv_fail(err, TKV_TOO_BIG, "value of %zu bytes, the limit is %u", value.size,
                        TKV_VALUE_SIZE_MAX);
    if ((key.data == NULL && key.size != 0) || (value.data == NULL && value.size != 0))
        return tkv_fail(err, TKV_INVALID, "a slice of %zu bytes at NULL",
                        key.data == NULL ? key.size : value.size);
    return TKV_OK;
}

static enum tkv_status check_expiry(uint64_t expires_at_ms, struct tkv_error *err)
{
    if (expires_at_ms == 0 || expires_at_ms > INT64_MAX)
        return tkv_fail(err, TKV_INVALID, "expires_at_ms is %llu, not in [1, 2^63)",
                        (unsigned long long)expires_at_ms);
    return TKV_OK;
}

/* A full disk refuses what needs more of it, at once and without touching the log. */
static enum tkv_status check_space(struct tkv_store *store, struct tkv_error *err)
{
    if (!atomic_load_explicit(&store->disk_full, memory_order_relaxed))
        return TKV_OK;
    tkv_upkeep_after_write(store); /* perhaps there is room again */
    if (!atomic_load(&store->disk_full))
        return TKV_OK;
    return tkv_fail(err, TKV_NO_SPACE,
                    "the disk is full: delete something, or make room and try again");
}

static enum tkv_status put(struct tkv_store *store, struct tkv_slice key,
                           struct tkv_slice value, uint64_t expires_at_ms,
                           struct tkv_error *err)
{
    struct draft draft;
    enum tkv_status status = check_space(store, err);

    if (status != TKV_OK)
        return status;
    tkv_upkeep_pace(store, key.size + value.size);
    draft_init(&draft);
    status = add_put(store, &draft, key, value, expires_at_ms, err);
    if (status == TKV_OK)
        status = commit(store, &draft, err);
    if (status != TKV_OK)
        abandon_large(store, &draft);
    draft_release(&draft);
    if (status != TKV_OK)
        return status;
    tkv_usage_add(&store->counters.puts, 1);
    tkv_usage_add(&store->counters.user_bytes_written, key.size + value.size);
    return TKV_OK;
}

enum tkv_status tkv_put(struct tkv_store *store, struct tkv_slice key,
                        struct tkv_slice value, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = check_key_value(key, value, err);
    return status == TKV_OK ? put(store, key, value, 0, err) : status;
}

enum tkv_status tkv_put_expiring(struct tkv_store *store, struct tkv_slice key,
                                 struct tkv_slice value, uint64_t expires_at_ms,
                                 struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = check_key_value(key, value, err);
    if (status == TKV_OK)
        status = check_expiry(expires_at_ms, err);
    return status == TKV_OK ? put(store, key, value, expires_at_ms, err) : status;
}

static enum tkv_status delete_known(struct tkv_store *store, struct tkv_slice key,
                                    bool *ret_existed, struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_DELETE, .key = key};
    struct draft draft;
    enum tkv_status status;

    draft_init(&draft);
    status = draft_add(&draft, &record, err);
    if (status == TKV_OK)
        status = commit(store, &draft, err);
    if (status == TKV_OK) {
        *ret_existed = draft.items[0].existed;
        tkv_usage_add(&store->counters.deletes, 1);
        tkv_usage_add(&store->counters.user_bytes_written, key.size);
    }
    draft_release(&draft);
    return status;
}

enum tkv_status tkv_delete(struct tkv_store *store, struct tkv_slice key, bool *ret_existed,
                           struct tkv_error *err)
{
    struct tkv_location location;
    bool existed = false;
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = check_key_value(key, tkv_bytes(NULL, 0), err);
    if (status != TKV_OK)
        return status;
    /* A key that is not in the index has no record that needs hiding. */
    if (tkv_index_find(store->index, key, tkv_index_hash(store->index, key), &location))
        status = delete_known(store, key, &existed, err);
    if (status == TKV_OK && ret_existed != NULL)
        *ret_existed = existed;
    return status;
}

/* ---- Batches ------------------------------------------------------------------------------------ */

struct tkv_batch {
    struct draft draft;
    uint64_t user_bytes;
    size_t deletes;
    size_t record_size_max;
};

enum tkv_status tkv_batch_new(struct tkv_batch **ret_batch, struct tkv_error *err)
{
    struct tkv_batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL)
        return tkv_fail_memory(err, sizeof *batch, "a batch");
    draft_init(&batch->draft);
    *ret_batch = batch;
    return TKV_OK;
}

void tkv_batch_free(struct tkv_batch *batch)
{
    if (batch == NULL)
        return;
    draft_release(&batch->draft);
    free(batch);
}

static enum tkv_status batch_add(struct tkv_batch *batch, const struct tkv_record *record,
                                 struct tkv_error *err)
{
    enum tkv_status status = draft_add(&batch->draft, record, err);

    if (status != TKV_OK)
        return status;
    batch->user_bytes += record->key.size + record->value.size;
    if (tkv_record_size(record) > batch->record_size_max)
        batch->record_size_max = tkv_record_size(record);
    return TKV_OK;
}

enum tkv_status tkv_batch_put(struct tkv_batch *batch, struct tkv_slice key,
                              struct tkv_slice value, struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                      .raw_size = (uint32_t)value.size,
                                      .key = key,
                                      .value = value};
    enum tkv_status status = check_key_value(key, value, err);

    return status == TKV_OK ? batch_add(batch, &record, err) : status;
}

enum tkv_status tkv_batch_put_expiring(struct tkv_batch *batch, struct tkv_slice key,
                                       struct tkv_slice value, uint64_t expires_at_ms,
                                       struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                      .expires_at_ms = expires_at_ms,
                                      .raw_size = (uint32_t)value.size,
                                      .key = key,
                                      .value = value};
    enum tkv_status status = check_key_value(key, value, err);

    if (status == TKV_OK)
        status = check_expiry(expires_at_ms, err);
    return status == TKV_OK ? batch_add(batch, &record, err) : status;
}

enum tkv_status tkv_batch_delete(struct tkv_batch *batch, struct tkv_slice key,
                                 struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_DELETE, .key = key};
    enum tkv_status status = check_key_value(key, tkv_bytes(NULL, 0), err);

    if (status == TKV_OK)
        status = batch_add(batch, &record, err);
    if (status == TKV_OK)
        batch->deletes++;
    return status;
}

size_t tkv_batch_count(const struct tkv_batch *batch)
{
    return batch->draft.count;
}

size_t tkv_batch_bytes(const struct tkv_batch *batch)
{
    return batch->draft.size;
}

void tkv_batch_clear(struct tkv_batch *batch)
{
    batch->draft.size = batch->draft.count = 0;
    batch->user_bytes = 0;
    batch->deletes = batch->record_size_max = 0;
}

/* A draft that shares the batch's bytes; only the items are its own. */
static enum tkv_status borrow_batch(const struct draft *from, struct draft *draft,
                                    struct tkv_error *err)
{
    draft_init(draft);
    if (from->count > 1) {
        draft->items = malloc(from->count * sizeof *draft->items);
        if (draft->items == NULL) {
            draft_init(draft);
            return tkv_fail_memory(err, from->count * sizeof *draft->items, "a batch");
        }
    }
    memcpy(draft->items, from->items, from->count * sizeof *draft->items);
    draft->count = from->count;
    draft->bytes = from->bytes;
    draft->size = from->size;
    return TKV_OK;
}

/* The same records, compressed or beside the log as the store's options say. */
static enum tkv_status encode_again(struct tkv_store *store, const struct draft *from,
                                    struct draft *draft, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    draft_init(draft);
    for (size_t i = 0; i < from->count && status == TKV_OK; i++) {
        const struct tkv_record r = draft_record(from, i);

        if (r.kind == TKV_RECORD_DELETE)
            status = draft_add(draft, &r, err);
        else
            status = add_put(store, draft, r.key, r.value, r.expires_at_ms, err);
    }
    return status;
}

static enum tkv_status write_batch(struct tkv_store *store, const struct tkv_batch *batch,
                                   struct tkv_error *err)
{
    const bool as_it_is =
        store->options.compress_level == 0 && !is_large(store, batch->record_size_max);
    struct draft draft;
    enum tkv_status status = as_it_is ? borrow_batch(&batch->draft, &draft, err)
                                      : encode_again(store, &batch->draft, &draft, err);

    if (status == TKV_OK)
        status = commit(store, &draft, err);
    if (status != TKV_OK)
        abandon_large(store, &draft);
    if (as_it_is)
        draft.bytes = draft.first_bytes; /* the batch's */
    draft_release(&draft);
    return status;
}

enum tkv_status tkv_write(struct tkv_store *store, const struct tkv_batch *batch,
                          struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status != TKV_OK || batch->draft.count == 0)
        return status;
    if (batch->deletes < batch->draft.count)
        status = check_space(store, err);
    if (status != TKV_OK)
        return status;
    tkv_upkeep_pace(store, batch->user_bytes);
    status = write_batch(store, batch, err);
    if (status != TKV_OK)
        return status;
    tkv_usage_add(&store->counters.puts, batch->draft.count - batch->deletes);
    tkv_usage_add(&store->counters.deletes, batch->deletes);
    tkv_usage_add(&store->counters.user_bytes_written, batch->user_bytes);
    return TKV_OK;
}
