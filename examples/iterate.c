/* SPDX-License-Identifier: MIT */
/*
 * iterate.c - visit every key, in no particular order, while the store stays open for writes:
 * here the visitor itself deletes what it has seen enough of.
 */
#include <inttypes.h>
#include <stdio.h>

#include "example.h"

static void fill(struct tkv_store *store)
{
    struct tkv_batch *batch;
    struct tkv_error err;

    example_check(tkv_batch_new(&batch, &err), &err);
    for (unsigned i = 0; i < 1000; i++) {
        char key[32], value[32];

        snprintf(key, sizeof key, "sensor/%u", i);
        snprintf(value, sizeof value, "%u", i * i);
        example_check(tkv_batch_put(batch, tkv_text(key), tkv_text(value), &err), &err);
    }
    example_check(tkv_write(store, batch, &err), &err);
    tkv_batch_free(batch);
}

/* Deletes every key with a short value; returns how many keys it was shown. */
static unsigned visit(struct tkv_store *store)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error err;
    enum tkv_status status;
    unsigned seen = 0;

    example_check(tkv_iterator_new(store, false, &iterator, &err), &err);
    while ((status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK) {
        seen++;
        if (entry.value.size < 5)
            example_check(tkv_delete(store, entry.key, NULL, &err), &err);
    }
    if (status != TKV_NOT_FOUND) /* which is how an iteration ends */
        example_check(status, &err);
    tkv_iterator_free(iterator);
    return seen;
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_stats stats;
    struct tkv_error err;
    unsigned seen;

    options.durability = TKV_DURABILITY_INTERVAL; /* a killed process still loses nothing */
    example_check(tkv_open(example_directory(argc, argv), &options, &store, NULL, &err),
                  &err);
    fill(store);
    seen = visit(store);
    example_check(tkv_stats(store, &stats, &err), &err);
    printf("saw %u keys, kept %" PRIu64 "\n", seen, stats.keys);
    if (argc == 1)
        example_expect(seen == 1000 && stats.keys == 900, "every key once, 100 deleted");
    example_check(tkv_close(store, &err), &err);
    return 0;
}
