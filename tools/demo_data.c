/* SPDX-License-Identifier: MIT */
#include "demo_data.h"

#include <inttypes.h>
#include <stdlib.h>

#include "complain.h"

#define BATCH_BYTES ((size_t)1 << 20)

enum { ROUND_SIZE = 8, COMPLAINTS_MAX = 5 };

static uint64_t largest(const struct tree *tree)
{
    uint64_t size = 0;

    for (size_t i = 0; i < tree->count; i++) {
        if (tree->files[i].size > size)
            size = tree->files[i].size;
    }
    return size;
}

bool demo_data_init(struct demo_data *data, const char *const *roots, size_t root_count,
                    uint64_t bytes_max)
{
    bool fits = true;

    *data = (struct demo_data){.tree.bytes_max = bytes_max};
    for (size_t i = 0; i < root_count; i++)
        fits = fits && tree_add(&data->tree, roots[i]);
    data->rounds = calloc(data->tree.count + 1, sizeof *data->rounds);
    data->buffer = malloc(ROUND_SIZE + (size_t)largest(&data->tree));
    if (!fits || data->rounds == NULL || data->buffer == NULL) {
        complain("out of memory");
        return false;
    }
    if (data->tree.count == 0) {
        complain("no readable files; give a directory with some");
        return false;
    }
    return true;
}

void demo_data_release(struct demo_data *data)
{
    tree_release(&data->tree);
    free(data->rounds);
    free(data->buffer);
}

static void put_round(uint8_t *bytes, uint64_t round)
{
    for (int i = 0; i < ROUND_SIZE; i++)
        bytes[i] = (uint8_t)(round >> 8 * i);
}

static uint64_t get_round(struct tkv_slice value)
{
    const uint8_t *bytes = value.data;
    uint64_t round = 0;

    for (int i = 0; i < ROUND_SIZE && value.size >= ROUND_SIZE; i++)
        round |= (uint64_t)bytes[i] << 8 * i;
    return round;
}

bool demo_data_value(struct demo_data *data, size_t index, uint64_t round,
                     struct tkv_slice *ret_value)
{
    const struct tree_file *file = &data->tree.files[index];

    put_round(data->buffer, round);
    if (!tree_read(file, data->buffer + ROUND_SIZE))
        return false;
    *ret_value = tkv_bytes(data->buffer, ROUND_SIZE + (size_t)file->size);
    return true;
}

/* ---- Writing --------------------------------------------------------------------- */

static enum tkv_status flush(struct tkv_store *store, struct tkv_batch *batch,
                             struct tkv_error *err)
{
    const enum tkv_status status = tkv_write(store, batch, err);

    tkv_batch_clear(batch);
    return status;
}

/* A value that is large for a batch goes by itself. */
static enum tkv_status write_one(struct tkv_store *store, struct tkv_batch *batch,
                                 struct tkv_slice key, struct tkv_slice value,
                                 struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    if (value.size >= BATCH_BYTES)
        return tkv_put(store, key, value, err);
    if (tkv_batch_bytes(batch) + value.size > BATCH_BYTES)
        status = flush(store, batch, err);
    return status == TKV_OK ? tkv_batch_put(batch, key, value, err) : status;
}

/* A coin for each file and round. */
static bool takes_part(size_t index, uint64_t round)
{
    const uint64_t mixed = (index + 1) * UINT64_C(0x9e3779b97f4a7c15) * (2 * round + 1);

    return round == 1 || (mixed >> 40 & 1) != 0;
}

enum tkv_status demo_data_write(struct demo_data *data, struct tkv_store *store,
                                uint64_t round, struct tkv_error *err)
{
    struct tkv_batch *batch;
    enum tkv_status status = tkv_batch_new(&batch, err);

    if (status != TKV_OK)
        return status;
    for (size_t i = 0; i < data->tree.count && status == TKV_OK; i++) {
        struct tkv_slice value;

        if (!takes_part(i, round) || !demo_data_value(data, i, round, &value))
            continue;
        status = write_one(store, batch, demo_data_key(data, i), value, err);
        data->rounds[i] = round;
    }
    if (status == TKV_OK)
        status = flush(store, batch, err);
    tkv_batch_free(batch);
    return status;
}

enum tkv_status demo_data_delete_half(struct demo_data *data, struct tkv_store *store,
                                      struct tkv_error *err)
{
    struct tkv_batch *batch;
    enum tkv_status status = tkv_batch_new(&batch, err);

    if (status != TKV_OK)
        return status;
    for (size_t i = 0; i < data->tree.count && status == TKV_OK; i += 2) {
        status = tkv_batch_delete(batch, demo_data_key(data, i), err);
        data->rounds[i] = 0;
    }
    if (status == TKV_OK)
        status = flush(store, batch, err);
    tkv_batch_free(batch);
    return status;
}

/* ---- Verifying ------------------------------------------------------------------- */

/* What is wrong with the value, in words; NULL when it is right. */
static const char *judge(struct demo_data *data, size_t index, struct tkv_slice found)
{
    struct tkv_slice expected;

    if (get_round(found) != data->rounds[index])
        return get_round(found) < data->rounds[index] ? "an acknowledged write is lost"
                                                      : "a value that was never written";
    if (!demo_data_value(data, index, data->rounds[index], &expected)) {
        data->skipped++;
        return NULL;
    }
    if (found.size != expected.size || memcmp(found.data, expected.data, found.size) != 0)
        return "the value is not the content of the file";
    return NULL;
}

static bool is_right(struct demo_data *data, struct tkv_store *store, size_t index,
                     bool is_in_flight, uint64_t round)
{
    const struct tkv_slice key = demo_data_key(data, index);
    const char *wrong = NULL;
    struct tkv_error err;
    struct tkv_pin pin = {0};
    const enum tkv_status status = tkv_get_pinned(store, key, &pin, &err);

    if (status == TKV_NOT_FOUND)
        wrong = data->rounds[index] == 0 ? NULL : "an acknowledged write is lost";
    else if (status != TKV_OK)
        wrong = err.message;
    else if (data->rounds[index] == 0 && !is_in_flight)
        wrong = "a deleted key is back";
    if (status == TKV_OK && is_in_flight && get_round(pin.value) == round)
        data->rounds[index] = round;
    if (status == TKV_OK && wrong == NULL)
        wrong = judge(data, index, pin.value);
    tkv_unpin(&pin);
    if (wrong != NULL)
        complain("%s: %s (round %" PRIu64 " expected)", data->tree.files[index].path, wrong,
                 data->rounds[index]);
    return wrong == NULL;
}

size_t demo_data_verify(struct demo_data *data, struct tkv_store *store, size_t in_flight,
                        uint64_t round)
{
    size_t wrong = 0;

    for (size_t i = 0; i < data->tree.count && wrong < COMPLAINTS_MAX; i++)
        wrong += !is_right(data, store, i, i == in_flight, round);
    return wrong;
}
