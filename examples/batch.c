/* SPDX-License-Identifier: MIT */
/*
 * batch.c - writes that belong together. Money moves between two accounts in one batch, so
 * that no crash, at whatever moment, leaves it in both or in neither.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "example.h"

static uint64_t balance(struct tkv_store *store, const char *account)
{
    struct tkv_error err;
    uint64_t amount;
    size_t size;

    example_check(tkv_get(store, tkv_text(account), &amount, sizeof amount, &size, &err),
                  &err);
    example_expect(size == sizeof amount, "a balance of eight bytes");
    return amount;
}

static void add_balance(struct tkv_batch *batch, const char *account, uint64_t amount)
{
    struct tkv_error err;

    example_check(
        tkv_batch_put(batch, tkv_text(account), tkv_bytes(&amount, sizeof amount), &err),
        &err);
}

static void transfer(struct tkv_store *store, struct tkv_batch *batch, const char *from,
                     const char *to, uint64_t amount)
{
    struct tkv_error err;

    tkv_batch_clear(batch); /* its memory is used again */
    add_balance(batch, from, balance(store, from) - amount);
    add_balance(batch, to, balance(store, to) + amount);
    example_check(tkv_write(store, batch, &err), &err);
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_batch *batch;
    struct tkv_error err;

    example_check(tkv_open(example_directory(argc, argv), &options, &store, NULL, &err),
                  &err);
    example_check(tkv_batch_new(&batch, &err), &err);

    add_balance(batch, "alice", 100);
    add_balance(batch, "bob", 20);
    example_check(tkv_write(store, batch, &err), &err);

    for (int i = 0; i < 3; i++)
        transfer(store, batch, "alice", "bob", 10);
    printf("alice %" PRIu64 ", bob %" PRIu64 "\n", balance(store, "alice"),
           balance(store, "bob"));
    example_expect(balance(store, "alice") == 70 && balance(store, "bob") == 50,
                   "30 moved from alice to bob");

    tkv_batch_free(batch);
    example_check(tkv_close(store, &err), &err);
    return 0;
}
