/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>

static enum tkv_status no_memory(struct tkv_error *err)
{
    *err = (struct tkv_error){.status = TKV_NO_MEMORY};
    snprintf(err->message, sizeof err->message, "out of memory for the list of keys");
    return TKV_NO_MEMORY;
}

/* Make room for one more item; false without memory. */
static bool grow(void **items, size_t *capacity, size_t item_size, size_t needed)
{
    size_t wanted = *capacity == 0 ? 1024 : *capacity;
    void *grown;

    if (needed <= *capacity)
        return true;
    while (wanted < needed)
        wanted *= 2;
    grown = realloc(*items, wanted * item_size);
    if (grown == NULL)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

static bool add(struct keys *keys, struct tkv_slice key)
{
    void *bytes = keys->bytes, *ends = keys->ends;
    bool fits = grow(&bytes, &keys->bytes_capacity, 1, keys->bytes_size + key.size);

    keys->bytes = bytes;
    fits = fits && grow(&ends, &keys->capacity, sizeof *keys->ends, keys->count + 1);
    keys->ends = ends;
    if (!fits)
        return false;
    if (key.size > 0)
        memcpy(keys->bytes + keys->bytes_size, key.data, key.size);
    keys->bytes_size += key.size;
    keys->ends[keys->count++] = keys->bytes_size;
    return true;
}

static int compare(const void *left, const void *right)
{
    const struct tkv_slice *a = left, *b = right;
    const size_t shared = a->size < b->size ? a->size : b->size;
    const int order = shared == 0 ? 0 : memcmp(a->data, b->data, shared);

    if (order != 0)
        return order;
    return a->size < b->size ? -1 : a->size > b->size;
}

static bool sort(struct keys *keys)
{
    size_t begin = 0;

    keys->sorted = malloc((keys->count + 1) * sizeof *keys->sorted);
    if (keys->sorted == NULL)
        return false;
    for (size_t i = 0; i < keys->count; i++) {
        keys->sorted[i] = tkv_bytes(keys->bytes + begin, keys->ends[i] - begin);
        begin = keys->ends[i];
    }
    free(keys->ends);
    keys->ends = NULL;
    qsort(keys->sorted, keys->count, sizeof *keys->sorted, compare);
    return true;
}

static enum tkv_status collect(struct tkv_iterator *iterator, struct keys *keys,
                               struct tkv_error *err)
{
    struct tkv_entry entry;
    enum tkv_status status;

    while ((status = tkv_iterator_next(iterator, &entry, err)) == TKV_OK) {
        if (!add(keys, entry.key))
            return no_memory(err);
    }
    if (status != TKV_NOT_FOUND)
        return status;
    return sort(keys) ? TKV_OK : no_memory(err);
}

enum tkv_status keys_collect(struct tkv_store *store, struct keys *ret_keys,
                             struct tkv_error *err)
{
    struct tkv_iterator *iterator;
    enum tkv_status status;

    memset(ret_keys, 0, sizeof *ret_keys);
    status = tkv_iterator_new(store, true, &iterator, err);
    if (status != TKV_OK)
        return status;
    status = collect(iterator, ret_keys, err);
    tkv_iterator_free(iterator);
    return status;
}

void keys_release(struct keys *keys)
{
    free(keys->bytes);
    free(keys->ends);
    free(keys->sorted);
    memset(keys, 0, sizeof *keys);
}
