/* SPDX-License-Identifier: MIT */
/*
 * iterator.c - every live key, one after another. The index is walked in small steps that copy
 * keys out (index.h says why each is met exactly once); values are read one by one when they
 * are asked for. Between two calls an iterator holds no lock and no epoch, only the pin of the
 * value that it lent.
 */
#include "store.h"

#include <stdlib.h>

struct tkv_iterator {
    struct tkv_store *store;
    bool keys_only;
    struct tkv_index_cursor cursor;
    struct tkv_index_page page;
    size_t at; /* the next key of the page */
    bool told_gaps;
    struct tkv_pin pin;
};

enum tkv_status tkv_iterator_new(struct tkv_store *store, bool keys_only,
                                 struct tkv_iterator **ret_iterator, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check(store, err);
    struct tkv_iterator *iterator;

    if (status != TKV_OK)
        return status;
    iterator = calloc(1, sizeof *iterator);
    if (iterator == NULL)
        return tkv_fail_memory(err, sizeof *iterator, "an iterator");
    iterator->store = store;
    iterator->keys_only = keys_only;
    *ret_iterator = iterator;
    return TKV_OK;
}

void tkv_iterator_free(struct tkv_iterator *iterator)
{
    if (iterator == NULL)
        return;
    tkv_unpin(&iterator->pin);
    tkv_index_page_release(&iterator->page);
    free(iterator);
}

/* TKV_NOT_FOUND when every key has been handed out. */
static enum tkv_status next_key(struct tkv_iterator *iterator, struct tkv_slice *ret_key,
                                struct tkv_location *ret_location, struct tkv_error *err)
{
    size_t from;

    while (iterator->at == iterator->page.count) {
        enum tkv_status status;

        if (iterator->cursor.done)
            return TKV_NOT_FOUND;
        iterator->at = iterator->page.count = 0;
        status =
            tkv_index_step(iterator->store->index, &iterator->cursor, &iterator->page, err);
        if (status != TKV_OK)
            return status;
    }
    from = iterator->at == 0 ? 0 : iterator->page.ends[iterator->at - 1];
    *ret_key =
        tkv_bytes(iterator->page.bytes + from, iterator->page.ends[iterator->at] - from);
    *ret_location = iterator->page.locations[iterator->at];
    iterator->at++;
    return TKV_OK;
}

/* A key that was copied out a while ago may be gone by now: TKV_NOT_FOUND. */
static enum tkv_status look_again(struct tkv_iterator *iterator, struct tkv_entry *entry,
                                  struct tkv_error *err)
{
    enum tkv_status status;

    if (iterator->keys_only)
        return tkv_exists(iterator->store, entry->key, err);
    status = tkv_get_pinned(iterator->store, entry->key, &iterator->pin, err);
    entry->value = iterator->pin.value;
    entry->expires_at_ms = iterator->pin.expires_at_ms;
    return status;
}

/* Where answers are certain, these were not certainly all keys: said once, so that a loop which
 * goes on after damage to one key comes to its end. */
static enum tkv_status end(struct tkv_iterator *iterator, struct tkv_entry *ret_entry,
                           struct tkv_error *err)
{
    const bool has_gaps = iterator->store->unknown_seq != 0 && !iterator->told_gaps;
    enum tkv_status status = TKV_OK;

    if (has_gaps)
        status = tkv_gaps_check(iterator->store, NULL, err);
    iterator->told_gaps = true;
    if (status == TKV_OK)
        return tkv_fail(err, TKV_NOT_FOUND, "no more keys");
    *ret_entry = (struct tkv_entry){.expires_at_ms = 0};
    return status;
}

enum tkv_status tkv_iterator_next(struct tkv_iterator *iterator,
                                  struct tkv_entry *ret_entry, struct tkv_error *err)
{
    enum tkv_status status = tkv_store_check(iterator->store, err);
    struct tkv_location location = {0};

    if (status != TKV_OK)
        return status;
    do {
        struct tkv_entry entry = {
            .value = {"", 0}
        };

        tkv_unpin(&iterator->pin);
        status = next_key(iterator, &entry.key, &location, err);
        if (status == TKV_NOT_FOUND)
            return end(iterator, ret_entry, err);
        if (status != TKV_OK)
            return status;
        entry.expires_at_ms = location.expires_at_ms;
        status = look_again(iterator, &entry, err);
        if (status == TKV_NO_MEMORY) {
            iterator->at--; /* the next call tries it again */
            return status;
        }
        if (status != TKV_NOT_FOUND)
            *ret_entry = entry; /* with a failure, the key tells about which one it is */
    } while (status == TKV_NOT_FOUND);
    return status;
}
