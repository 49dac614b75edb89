/* SPDX-License-Identifier: MIT */
/*
 * order_fixture.h - a store on an order verifier on the simulated disk, for tests of the
 * verifier. Some of the engine's calls can be made never to arrive, and pass for done; the
 * last header and group that it wrote are kept, to be altered and written beside it.
 */
#ifndef TKV_ORDER_FIXTURE_H
#define TKV_ORDER_FIXTURE_H

#include "order_everywhere.h"
#include "order_verifier.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

#define NAMES_MAX 64u

struct order_fixture {
    struct simdisk *disk;
    struct order_verifier *verifier;
    struct tkv_os *os, real;
    struct tkv_store *store;
    struct tkv_options options;
    char names[NAMES_MAX][TKV_FILE_NAME_SIZE]; /* by descriptor */

    /* Calls that never arrive. */
    const char *lost_sync;
    bool loses_directory_syncs, loses_headers, loses_groups;

    char message[400]; /* of the first broken rule */
    uint8_t header[TKV_BLOCK_SIZE], group[2 * TKV_BLOCK_SIZE]; /* as last written */
    size_t group_size;
    uint64_t group_offset;
    int log_fd, log_direct_fd, data_fd, dir;
};

/* A new store, not opened; or opened, with no rule broken yet. There is one at a time. */
struct order_fixture *new_fixture(enum tkv_durability durability);
struct order_fixture *open_fixture(enum tkv_durability durability);
void open_store(struct order_fixture *f);
/* A new verifier, for the next opening. */
void verify(struct order_fixture *f);
void open_again(struct order_fixture *f);
void put(struct order_fixture *f, const char *key, size_t size);
void checkpoint(struct order_fixture *f);
/* The first broken rule since then is this one. */
void expect_broken(struct order_fixture *f, const char *rule);
void end_broken(struct order_fixture *f, const char *rule);

#endif
