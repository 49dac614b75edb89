/* SPDX-License-Identifier: MIT */
/*
 * write.c - put and delete of single keys: from the caller's bytes to a commit.
 *
 *   check the arguments -> encode (compress; large values to files of their own) -> reserve
 *   index memory -> commit to the log, which applies it -> wake who has work now
 *
 * Everything that can fail for lack of memory or space comes before the log; lib/draft.h does
 * all but the first. Threads: any.
 */
#include "draft.h"
#include "store.h"

/* ---- Arguments, for batches too -------------------------------------------------- */

enum tkv_status tkv_fail_key(struct tkv_slice key, struct tkv_error *err)
{
    if (key.size > TKV_KEY_SIZE_MAX)
        return tkv_fail(err, TKV_TOO_BIG, "key of %zu bytes, the limit is %u", key.size,
                        TKV_KEY_SIZE_MAX);
    return tkv_fail(err, TKV_INVALID, "a key of %zu bytes at NULL", key.size);
}

enum tkv_status tkv_write_check(struct tkv_slice key, struct tkv_slice value,
                                struct tkv_error *err)
{
    const enum tkv_status status = tkv_check_key(key, err);

    if (status != TKV_OK)
        return status;
    if (value.size > TKV_VALUE_SIZE_MAX)
        return tkv_fail(err, TKV_TOO_BIG, "value of %zu bytes, the limit is %u", value.size,
                        TKV_VALUE_SIZE_MAX);
    if (value.data == NULL && value.size != 0)
        return tkv_fail(err, TKV_INVALID, "a value of %zu bytes at NULL", value.size);
    return TKV_OK;
}

enum tkv_status tkv_write_check_expiry(uint64_t expires_at_ms, struct tkv_error *err)
{
    if (expires_at_ms == 0 || expires_at_ms > INT64_MAX)
        return tkv_fail(err, TKV_INVALID, "expires_at_ms is %llu, not in [1, 2^63)",
                        (unsigned long long)expires_at_ms);
    return TKV_OK;
}

/* ---- Single keys ----------------------------------------------------------------- */

static enum tkv_status put(struct tkv_store *store, struct tkv_slice key,
                           struct tkv_slice value, uint64_t expires_at_ms,
                           struct tkv_error *err)
{
    const uint64_t hash = tkv_index_hash(store->index, key);
    struct tkv_draft draft;
    enum tkv_status status;

    tkv_index_prefetch(store->index, hash);
    status = tkv_promise_puts(store, key.size + value.size, err);
    if (status != TKV_OK)
        return status;
    tkv_pace_writer(store, key.size + value.size);
    tkv_draft_init(&draft);
    status = tkv_draft_put(store, &draft, key, value, expires_at_ms, err);
    if (status == TKV_OK) {
        draft.items[0].key_hash = hash;
        status = tkv_draft_commit(store, &draft, err);
    }
    if (status != TKV_OK)
        tkv_draft_abandon(store, &draft);
    tkv_promise_settle(store, key.size + value.size, draft.large_count > 0);
    tkv_draft_release(&draft);
    return status;
}

enum tkv_status tkv_put(struct tkv_store *store, struct tkv_slice key,
                        struct tkv_slice value, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = tkv_write_check(key, value, err);
    return status == TKV_OK ? put(store, key, value, 0, err) : status;
}

enum tkv_status tkv_put_expiring(struct tkv_store *store, struct tkv_slice key,
                                 struct tkv_slice value, uint64_t expires_at_ms,
                                 struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = tkv_write_check(key, value, err);
    if (status == TKV_OK)
        status = tkv_write_check_expiry(expires_at_ms, err);
    return status == TKV_OK ? put(store, key, value, expires_at_ms, err) : status;
}

static bool is_there(struct tkv_store *store, struct tkv_slice key, uint64_t hash)
{
    struct tkv_location location;

    return tkv_index_find(store->index, key, hash, &location);
}

/* A key that is not in the index has no record that needs hiding. */
static bool is_wanted(void *context, const struct tkv_wal_write *write)
{
    struct tkv_record record;

    (void)tkv_record_parse(tkv_bytes(write->bytes, write->size), &record);
    return is_there(context, record.key, write->items[0].key_hash);
}

/* A file goes with it that need not be compacted first. */
static bool frees_file(struct tkv_store *store, struct tkv_slice key, uint64_t hash)
{
    struct tkv_location location;

    return tkv_index_find(store->index, key, hash, &location) &&
           (location.place & TKV_PLACE_LARGE) != 0;
}

static enum tkv_status commit_delete(struct tkv_store *store, struct tkv_draft *draft,
                                     struct tkv_slice key, uint64_t hash,
                                     struct tkv_error *err)
{
    enum tkv_status status = tkv_promise_deletes(store, draft->size, err);

    if (status == TKV_NO_SPACE && frees_file(store, key, hash) &&
        tkv_promise_last(store, draft->size))
        status = TKV_OK;
    if (status != TKV_OK)
        return status;
    draft->items[0].key_hash = hash;
    draft->is_wanted = is_wanted;
    status = tkv_draft_commit(store, draft, err);
    tkv_promise_settle(store, draft->size, false);
    return status;
}

/* While the key's line arrives the record is encoded, while its entry does the log is got
 * ready: only then is the key compared. */
static enum tkv_status delete_key(struct tkv_store *store, struct tkv_slice key,
                                  bool *ret_existed, struct tkv_error *err)
{
    const struct tkv_record record = {.kind = TKV_RECORD_DELETE, .key = key};
    const uint64_t hash = tkv_index_hash(store->index, key);
    struct tkv_error reason;
    struct tkv_draft draft;
    enum tkv_status status;
    uint64_t guess;

    tkv_index_prefetch(store->index, hash);
    tkv_draft_init(&draft);
    status = tkv_draft_add(&draft, &record, &reason);
    if (status == TKV_OK && tkv_index_peek(store->index, hash, &guess)) {
        tkv_files_fetch_superseded(store, guess);
        status = commit_delete(store, &draft, key, hash, &reason);
        *ret_existed = status == TKV_OK && draft.items[0].existed;
    }
    tkv_draft_release(&draft);
    if (status == TKV_OK || status == TKV_NOT_FOUND || !is_there(store, key, hash))
        return TKV_OK; /* what failed was not needed */
    tkv_error_copy(err, &reason);
    return status;
}

enum tkv_status tkv_delete(struct tkv_store *store, struct tkv_slice key, bool *ret_existed,
                           struct tkv_error *err)
{
    bool existed = false;
    enum tkv_status status = tkv_store_check_writable(store, err);

    if (status == TKV_OK)
        status = tkv_write_check(key, tkv_bytes(NULL, 0), err);
    if (status == TKV_OK)
        status = delete_key(store, key, &existed, err);
    if (status == TKV_OK && ret_existed != NULL)
        *ret_existed = existed;
    return status;
}
