/* SPDX-License-Identifier: MIT */
/*
 * batch.c - several puts and deletes that are committed as one.
 *
 * Invariant: a batch knows no store; its records are encoded as they are. tkv_write() lends
 * them to the log, or encodes them again where the store compresses or a value is large. The
 * batch stays unchanged and may be written again.
 *
 * When something fails: an addition that fails leaves the batch without that record; a
 * tkv_write() that fails has written nothing, or with TKV_IO all or nothing.
 *
 * Threads: a batch belongs to one thread at a time.
 */
#include "draft.h"
#include "store.h"

#include <stdlib.h>

/* ---- Collecting ------------------------------------------------------------------ */

struct tkv_batch {
    struct tkv_draft draft;
    size_t record_size_max;
};

enum tkv_status tkv_batch_new(struct tkv_batch **ret_batch, struct tkv_error *err)
{
    struct tkv_batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL)
        return tkv_fail_memory(err, sizeof *batch, "a batch");
    tkv_draft_init(&batch->draft);
    *ret_batch = batch;
    return TKV_OK;
}

void tkv_batch_free(struct tkv_batch *batch)
{
    if (batch == NULL)
        return;
    tkv_draft_release(&batch->draft);
    free(batch);
}

static enum tkv_status batch_add(struct tkv_batch *batch, const struct tkv_record *record,
                                 struct tkv_error *err)
{
    enum tkv_status status = tkv_draft_add(&batch->draft, record, err);

    if (status == TKV_OK && tkv_record_size(record) > batch->record_size_max)
        batch->record_size_max = tkv_record_size(record);
    return status;
}

enum tkv_status tkv_batch_put(struct tkv_batch *batch, struct tkv_slice key,
                              struct tkv_slice value, struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                      .raw_size = (uint32_t)value.size,
                                      .key = key,
                                      .value = value};
    enum tkv_status status = tkv_write_check(key, value, err);

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
    enum tkv_status status = tkv_write_check(key, value, err);

    if (status == TKV_OK)
        status = tkv_write_check_expiry(expires_at_ms, err);
    return status == TKV_OK ? batch_add(batch, &record, err) : status;
}

enum tkv_status tkv_batch_delete(struct tkv_batch *batch, struct tkv_slice key,
                                 struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_DELETE, .key = key};
    enum tkv_status status = tkv_write_check(key, tkv_bytes(NULL, 0), err);

    return status == TKV_OK ? batch_add(batch, &record, err) : status;
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
    batch->draft.size = batch->draft.count = batch->draft.deletes = 0;
    batch->draft.user_bytes = 0;
    batch->record_size_max = 0;
}

/* ---- Writing it ------------------------------------------------------------------ */

/* A draft that shares the batch's bytes; only the items are its own. */
static enum tkv_status borrow_batch(const struct tkv_draft *from, struct tkv_draft *draft,
                                    struct tkv_error *err)
{
    tkv_draft_init(draft);
    if (from->count > 1) {
        draft->items = malloc(from->count * sizeof *draft->items);
        if (draft->items == NULL) {
            tkv_draft_init(draft);
            return tkv_fail_memory(err, from->count * sizeof *draft->items, "a batch");
        }
    }
    memcpy(draft->items, from->items, from->count * sizeof *draft->items);
    draft->count = from->count;
    draft->deletes = from->deletes;
    draft->user_bytes = from->user_bytes;
    draft->bytes = from->bytes;
    draft->size = from->size;
    return TKV_OK;
}

/* The same records, compressed or beside the log as the store's options say. */
static enum tkv_status encode_again(struct tkv_store *store, const struct tkv_draft *from,
                                    struct tkv_draft *draft, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    tkv_draft_init(draft);
    for (size_t i = 0; i < from->count && status == TKV_OK; i++) {
        struct tkv_record r;

        tkv_draft_record(from, i, &r);
        if (r.kind == TKV_RECORD_DELETE)
            status = tkv_draft_add(draft, &r, err);
        else
            status = tkv_draft_put(store, draft, r.key, r.value, r.expires_at_ms, err);
    }
    return status;
}

static enum tkv_status promise(struct tkv_store *store, const struct tkv_draft *draft,
                               struct tkv_error *err)
{
    if (draft->deletes < draft->count)
        return tkv_promise_puts(store, draft->size, err);
    return tkv_promise_deletes(store, draft->size, err);
}

static enum tkv_status write_batch(struct tkv_store *store, const struct tkv_batch *batch,
                                   bool *ret_is_on_disk, struct tkv_error *err)
{
    const bool as_it_is = store->options.compress_level == 0 &&
                          !tkv_draft_is_large(store, batch->record_size_max);
    struct tkv_draft draft;
    enum tkv_status status = as_it_is ? borrow_batch(&batch->draft, &draft, err)
                                      : encode_again(store, &batch->draft, &draft, err);

    if (status == TKV_OK)
        status = tkv_draft_commit(store, &draft, err);
    if (status != TKV_OK)
        tkv_draft_abandon(store, &draft);
    if (as_it_is)
        draft.bytes = draft.first_bytes; /* the batch's */
    *ret_is_on_disk = draft.large_count > 0;
    tkv_draft_release(&draft);
    return status;
}

enum tkv_status tkv_write(struct tkv_store *store, const struct tkv_batch *batch,
                          struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);
    bool is_on_disk;

    if (status != TKV_OK || batch->draft.count == 0)
        return status;
    status = promise(store, &batch->draft, err);
    if (status != TKV_OK)
        return status;
    tkv_pace_writer(store, batch->draft.user_bytes);
    status = write_batch(store, batch, &is_on_disk, err);
    tkv_promise_settle(store, batch->draft.size, is_on_disk);
    return status;
}
