/* SPDX-License-Identifier: MIT */
/*
 * read.c - get, in all its forms: look up, find the record where it lies, verify it, copy or
 * lend the value.
 *
 * A lookup happens inside an epoch, so that the file it leads to cannot be freed meanwhile; a
 * shard is locked for the lookup only. Every read checks the record's checksum, compares the
 * key and the low half of the sequence number with the index: a stale or misdirected block is
 * an error, never another value.
 */
#include "store.h"

#include "codec.h"
#include "large.h"

#include <assert.h>
#include <stdlib.h>

/* ---- The record ------------------------------------------------------------------ */

static enum tkv_status fail_damaged(const struct tkv_datafile *file, uint64_t offset,
                                    uint64_t seq, const char *what, struct tkv_error *err)
{
    return tkv_fail_corrupt(err, file->name, offset, seq, "%s", what);
}

static enum tkv_status check_record(const struct tkv_datafile *file,
                                    const struct tkv_location *location,
                                    struct tkv_slice key, struct tkv_slice bytes,
                                    struct tkv_record *ret_record, struct tkv_error *err)
{
    const uint64_t offset = tkv_place_offset(location->place);
    const uint64_t seq = tkv_datafile_seq(file, location->seq_low);

    if (tkv_record_decode(bytes, ret_record) != TKV_RECORD_GOOD)
        return fail_damaged(file, offset, seq, "record checksum", err);
    if (ret_record->key.size != key.size ||
        (key.size != 0 && memcmp(ret_record->key.data, key.data, key.size) != 0))
        return fail_damaged(file, offset, ret_record->seq, "a record of another key", err);
    if ((uint32_t)ret_record->seq != location->seq_low)
        return fail_damaged(file, offset, ret_record->seq, "an older record of the key",
                            err);
    if (ret_record->kind == TKV_RECORD_DELETE)
        return fail_damaged(file, offset, ret_record->seq, "a delete", err);
    return TKV_OK;
}

enum tkv_status tkv_read_record(struct tkv_store *store,
                                const struct tkv_location *location, struct tkv_slice key,
                                struct tkv_found *ret_found, struct tkv_error *err)
{
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(location->place));
    const uint64_t offset = tkv_place_offset(location->place);
    const uint8_t *bytes;
    uint8_t *own = NULL;
    enum tkv_status status;
    bool outside;

    assert(file != NULL); /* the index points at it, and we are inside an epoch */
    bytes = tkv_datafile_view(file, offset, location->size, &outside);
    if (outside)
        return fail_damaged(file, offset, 0, "the file has no such bytes", err);
    if (bytes == NULL) {
        own = malloc(location->size);
        if (own == NULL)
            return tkv_fail_memory(err, location->size, "a record");
        status = tkv_datafile_read(file, offset, own, location->size, err);
        if (status != TKV_OK) {
            free(own);
            return status;
        }
        bytes = own;
    }
    status = check_record(file, location, key, tkv_bytes(bytes, location->size),
                          &ret_found->record, err);
    if (status != TKV_OK) {
        free(own);
        return status;
    }
    ret_found->file = file;
    ret_found->offset = offset;
    ret_found->bytes = own;
    return TKV_OK;
}

/* ---- The value ------------------------------------------------------------------- */

static enum tkv_status value_size(const struct tkv_found *found, size_t *ret_size,
                                  struct tkv_large_reference *ret_reference,
                                  struct tkv_error *err)
{
    const struct tkv_record *r = &found->record;

    if (r->kind != TKV_RECORD_LARGE) {
        *ret_size = r->codec == TKV_CODEC_ZLIB ? r->raw_size : r->value.size;
        return TKV_OK;
    }
    if (!tkv_large_decode(r->value, ret_reference))
        return fail_damaged(found->file, found->offset, r->seq,
                            "reference to a large value", err);
    *ret_size = ret_reference->raw_size;
    return TKV_OK;
}

static enum tkv_status read_large(struct tkv_store *store, const struct tkv_found *found,
                                  const struct tkv_large_reference *reference, uint8_t *out,
                                  struct tkv_error *err)
{
    struct tkv_datafile *file = tkv_files_find(store, reference->number);

    if (file == NULL)
        return tkv_fail_corrupt(err, found->file->name, found->offset, found->record.seq,
                                "it refers to data file %llu, which does not exist",
                                (unsigned long long)reference->number);
    return tkv_large_read(file, reference, out, err);
}

/* Unpack the value into `out`, which has the size that value_size() said. */
static enum tkv_status copy_value(struct tkv_store *store, const struct tkv_found *found,
                                  const struct tkv_large_reference *reference, uint8_t *out,
                                  size_t size, struct tkv_error *err)
{
    const struct tkv_record *r = &found->record;
    enum tkv_status status;

    if (r->kind == TKV_RECORD_LARGE)
        return read_large(store, found, reference, out, err);
    if (r->codec == TKV_CODEC_STORED) {
        if (size != 0)
            memcpy(out, r->value.data, size);
        return TKV_OK;
    }
    status = tkv_codec_inflate(r->value, out, size);
    if (status == TKV_CORRUPT)
        return fail_damaged(found->file, found->offset, r->seq, "compressed value", err);
    if (status != TKV_OK)
        return tkv_fail_memory(err, size, "decompression");
    return TKV_OK;
}

/* ---- Looking up ------------------------------------------------------------------ */

/* `now_ms` is the instant of the whole operation; 0: nobody has looked at the clock yet. */
static bool has_expired(struct tkv_store *store, const struct tkv_location *location,
                        uint64_t *now_ms)
{
    if (location->expires_at_ms == 0)
        return false;
    if (*now_ms == 0)
        *now_ms = tkv_store_now_ms(store);
    return location->expires_at_ms <= *now_ms;
}

static void count_gets(struct tkv_reader reader, size_t count, size_t missing)
{
    atomic_fetch_add_explicit(&reader.stripe->gets, count, memory_order_relaxed);
    if (missing > 0)
        atomic_fetch_add_explicit(&reader.stripe->gets_missing, missing,
                                  memory_order_relaxed);
}

static enum tkv_status fail_absent(struct tkv_error *err)
{
    /* The common case of a cache-like use: not worth formatting a message for. */
    if (err != NULL) {
        memset(err, 0, sizeof *err);
        err->status = TKV_NOT_FOUND;
        memcpy(err->message, "no such key", sizeof "no such key");
    }
    return TKV_NOT_FOUND;
}

/* What the index says of a key: TKV_OK with its place, TKV_NOT_FOUND (`err` is left alone), or
 * TKV_CORRUPT when the index may not know its newest write. */
static enum tkv_status judge(struct tkv_store *store, bool is_known,
                             const struct tkv_location *location, uint64_t *now_ms,
                             struct tkv_error *err)
{
    if (store->unknown_seq != 0) {
        const enum tkv_status status =
            tkv_gaps_check(store, is_known ? location : NULL, err);

        if (status != TKV_OK)
            return status;
    }
    return is_known && !has_expired(store, location, now_ms) ? TKV_OK : TKV_NOT_FOUND;
}

/* Fetch the lines that a small record has at `place`, which may be a guess. Inside an epoch:
 * the data file is looked at. */
static void prefetch_record(void *context, uint64_t place)
{
    struct tkv_store *store = context;
    struct tkv_datafile *file = tkv_files_at(store, tkv_place_slot(place));
    uintptr_t bytes;
    bool outside;

    if (file == NULL)
        return;
    bytes = (uintptr_t)tkv_datafile_view(file, tkv_place_offset(place), 1, &outside);
    if (bytes == 0)
        return;
    for (unsigned line = 0; line < 3; line++)
        __builtin_prefetch((const void *)(bytes + line * 64));
}

/* Inside an epoch. Node and record are fetched at the same time, as far as the guess is right.
 * A found->bytes that is not NULL is the caller's to free. */
static enum tkv_status find_record(struct tkv_store *store, struct tkv_slice key,
                                   struct tkv_found *ret_found, struct tkv_error *err)
{
    const uint64_t hash = tkv_index_hash(store->index, key);
    struct tkv_location location;
    uint64_t now_ms = 0;
    const bool is_known =
        tkv_index_find_fetching(store->index, key, hash, prefetch_record, store, &location);
    const enum tkv_status status = judge(store, is_known, &location, &now_ms, err);

    if (status == TKV_NOT_FOUND)
        return fail_absent(err);
    return status == TKV_OK ? tkv_read_record(store, &location, key, ret_found, err)
                            : status;
}

/* ---- tkv_get --------------------------------------------------------------------- */

static enum tkv_status get_here(struct tkv_store *store, const struct tkv_found *found,
                                void *buffer, size_t buffer_size, size_t *ret_size,
                                struct tkv_error *err)
{
    struct tkv_large_reference reference;
    size_t size = 0;
    enum tkv_status status = value_size(found, &size, &reference, err);

    if (status != TKV_OK)
        return status;
    if (size > buffer_size) {
        *ret_size = size;
        return tkv_fail(err, TKV_TOO_BIG, "the value has %zu bytes, the buffer %zu", size,
                        buffer_size);
    }
    status = copy_value(store, found, &reference, buffer, size, err);
    if (status == TKV_OK)
        *ret_size = size;
    return status;
}

enum tkv_status tkv_get(struct tkv_store *store, struct tkv_slice key, void *buffer,
                        size_t buffer_size, size_t *ret_size, struct tkv_error *err)
{
    struct tkv_reader reader;
    struct tkv_found found;
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK || (status = tkv_check_key(key, err)) != TKV_OK)
        return status;
    reader = tkv_epoch_enter(&store->epoch);
    status = find_record(store, key, &found, err);
    if (status == TKV_OK) {
        status = get_here(store, &found, buffer, buffer_size, ret_size, err);
        free(found.bytes);
    }
    count_gets(reader, 1, status == TKV_NOT_FOUND);
    tkv_epoch_leave(reader);
    return status;
}

/* ---- tkv_get_copy ---------------------------------------------------------------- */

static enum tkv_status copy_here(struct tkv_store *store, const struct tkv_found *found,
                                 void **ret_value, size_t *ret_size, struct tkv_error *err)
{
    struct tkv_large_reference reference;
    uint8_t *value;
    size_t size = 0;
    enum tkv_status status = value_size(found, &size, &reference, err);

    if (status != TKV_OK)
        return status;
    value = malloc(size + 1);
    if (value == NULL)
        return tkv_fail_memory(err, size, "a value");
    status = copy_value(store, found, &reference, value, size, err);
    if (status != TKV_OK) {
        free(value);
        return status;
    }
    value[size] = 0;
    *ret_value = value;
    *ret_size = size;
    return TKV_OK;
}

enum tkv_status tkv_get_copy(struct tkv_store *store, struct tkv_slice key,
                             void **ret_value, size_t *ret_size, struct tkv_error *err)
{
    struct tkv_reader reader;
    struct tkv_found found;
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK || (status = tkv_check_key(key, err)) != TKV_OK)
        return status;
    reader = tkv_epoch_enter(&store->epoch);
    status = find_record(store, key, &found, err);
    if (status == TKV_OK) {
        status = copy_here(store, &found, ret_value, ret_size, err);
        free(found.bytes);
    }
    count_gets(reader, 1, status == TKV_NOT_FOUND);
    tkv_epoch_leave(reader);
    return status;
}

void tkv_free(void *value)
{
    free(value);
}

/* ---- Pins ------------------------------------------------------------------------ */

/* holds[0]: a referenced data file, holds[1]: memory of its own. Either may be NULL. Frees
 * found->bytes. */
static enum tkv_status pin_here(struct tkv_store *store, const struct tkv_found *found,
                                struct tkv_pin *ret_pin, struct tkv_error *err)
{
    const struct tkv_record *r = &found->record;
    void *copy = NULL;
    size_t size = 0;
    enum tkv_status status;

    if (r->kind == TKV_RECORD_PUT && r->codec == TKV_CODEC_STORED && found->bytes == NULL) {
        tkv_datafile_reference(found->file);
        *ret_pin = (struct tkv_pin){
            r->value, r->expires_at_ms, {found->file, NULL}
        };
        return TKV_OK;
    }
    status = copy_here(store, found, &copy, &size, err);
    free(found->bytes);
    if (status == TKV_OK)
        *ret_pin = (struct tkv_pin){
            tkv_bytes(copy, size), r->expires_at_ms, {NULL, copy}
        };
    return status;
}

enum tkv_status tkv_get_pinned(struct tkv_store *store, struct tkv_slice key,
                               struct tkv_pin *ret_pin, struct tkv_error *err)
{
    struct tkv_reader reader;
    struct tkv_found found;
    enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK || (status = tkv_check_key(key, err)) != TKV_OK)
        return status;
    reader = tkv_epoch_enter(&store->epoch);
    status = find_record(store, key, &found, err);
    if (status == TKV_OK)
        status = pin_here(store, &found, ret_pin, err);
    count_gets(reader, 1, status == TKV_NOT_FOUND);
    tkv_epoch_leave(reader);
    return status;
}

void tkv_unpin(struct tkv_pin *pin)
{
    tkv_datafile_release(pin->holds[0]);
    free(pin->holds[1]);
    memset(pin, 0, sizeof *pin);
}

/* ---- tkv_multi_get --------------------------------------------------------------- */

#define GROUP_COUNT 16

static void get_group(struct tkv_store *store, const struct tkv_slice *keys, size_t count,
                      uint64_t *now_ms, struct tkv_pin *pins, enum tkv_status *statuses,
                      struct tkv_error *err)
{
    struct tkv_location locations[GROUP_COUNT];
    uint64_t hashes[GROUP_COUNT];
    bool found[GROUP_COUNT];

    for (size_t i = 0; i < count; i++) {
        hashes[i] = tkv_index_hash(store->index, keys[i]);
        tkv_index_prefetch(store->index, hashes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t guess;

        found[i] = tkv_index_peek(store->index, hashes[i], &guess);
        if (found[i])
            prefetch_record(store, guess);
    }
    for (size_t i = 0; i < count; i++) {
        if (found[i])
            found[i] = tkv_index_find(store->index, keys[i], hashes[i], &locations[i]);
        if (found[i]) /* nearly always at the guess */
            prefetch_record(store, locations[i].place);
    }
    for (size_t i = 0; i < count; i++) {
        struct tkv_found record;

        memset(&pins[i], 0, sizeof pins[i]);
        statuses[i] = judge(store, found[i], &locations[i], now_ms, err);
        if (statuses[i] == TKV_OK)
            statuses[i] = tkv_read_record(store, &locations[i], keys[i], &record, err);
        if (statuses[i] == TKV_OK)
            statuses[i] = pin_here(store, &record, &pins[i], err);
        if (statuses[i] != TKV_OK && statuses[i] != TKV_NOT_FOUND)
            err = NULL; /* it tells of the first */
    }
}

enum tkv_status tkv_multi_get(struct tkv_store *store, const struct tkv_slice *keys,
                              size_t count, struct tkv_pin *pins, enum tkv_status *statuses,
                              struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check(store, err), first = TKV_OK;
    uint64_t now_ms = 0;

    for (size_t i = 0; i < count && status == TKV_OK; i++)
        status = tkv_check_key(keys[i], err);
    if (status != TKV_OK)
        return status;

    for (size_t at = 0; at < count; at += GROUP_COUNT) {
        const size_t group = count - at < GROUP_COUNT ? count - at : GROUP_COUNT;
        const struct tkv_reader reader = tkv_epoch_enter(&store->epoch);
        size_t missing = 0;

        get_group(store, keys + at, group, &now_ms, pins + at, statuses + at,
                  first == TKV_OK ? err : NULL);
        for (size_t i = at; i < at + group; i++) {
            missing += statuses[i] == TKV_NOT_FOUND;
            if (first == TKV_OK && statuses[i] != TKV_NOT_FOUND)
                first = statuses[i];
        }
        count_gets(reader, group, missing);
        tkv_epoch_leave(reader);
    }
    return first;
}

/* ---- tkv_exists ------------------------------------------------------------------ */

enum tkv_status tkv_exists(struct tkv_store *store, struct tkv_slice key,
                           struct tkv_error *err)
{
    struct tkv_location location;
    enum tkv_status status = tkv_store_check(store, err);
    uint64_t now_ms = 0;
    bool is_known;

    if (status != TKV_OK || (status = tkv_check_key(key, err)) != TKV_OK)
        return status;
    is_known =
        tkv_index_find(store->index, key, tkv_index_hash(store->index, key), &location);
    status = judge(store, is_known, &location, &now_ms, err);
    return status == TKV_NOT_FOUND ? fail_absent(err) : status;
}
