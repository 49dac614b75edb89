/* SPDX-License-Identifier: MIT */
/*
 * demo_data.h - what the demonstration stores, and how it knows that nothing was lost.
 *
 * The value of a file's path is eight bytes with the number of the round that wrote it, then
 * the content. A ledger holds, for each file, the round that must be found; so an older value
 * that came back, or an acknowledged one that is gone, is noticed.
 */
#ifndef TINYKV_DEMO_DATA_H
#define TINYKV_DEMO_DATA_H

#include "tinykv.h"
#include "tree.h"

struct demo_data {
    struct tree tree;
    uint64_t *rounds; /* the ledger; 0: the key must be absent */
    uint8_t *buffer;  /* for one value */
    size_t skipped;   /* source files that have changed or gone meanwhile */
};

/* Complains when it returns false. */
bool demo_data_init(struct demo_data *data, const char *const *roots, size_t root_count,
                    uint64_t bytes_max);
void demo_data_release(struct demo_data *data);

/* The value of file `index` in `round`, borrowed from data->buffer; false when the source is
 * not what it was. */
bool demo_data_value(struct demo_data *data, size_t index, uint64_t round,
                     struct tkv_slice *ret_value);

static inline struct tkv_slice demo_data_key(const struct demo_data *data, size_t index)
{
    return tkv_text(data->tree.files[index].path);
}

/* Write files in batches, as `round`, and enter that in the ledger: in round 1 all, later a
 * different half each time, so that live and dead records lie side by side. */
enum tkv_status demo_data_write(struct demo_data *data, struct tkv_store *store,
                                uint64_t round, struct tkv_error *err);

/* Delete every other file. */
enum tkv_status demo_data_delete_half(struct demo_data *data, struct tkv_store *store,
                                      struct tkv_error *err);

/* Compare every key with the ledger and every value with its source, byte for byte. The file
 * `in_flight` (SIZE_MAX: none) was being written as `round` when the writer was killed, and
 * may hold that or what it held before; the ledger is then set to what is found. Returns how
 * many keys are wrong; complains about the first few. */
size_t demo_data_verify(struct demo_data *data, struct tkv_store *store, size_t in_flight,
                        uint64_t round);

#endif
