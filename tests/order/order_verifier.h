/* SPDX-License-Identifier: MIT */
/*
 * order_verifier.h - a table of system calls around another one (the simulated disk's, or the
 * real one) that watches in which order the engine does things. A store can survive every
 * crash that a test happens to try and still be one reordered write away from a loss; the
 * order itself is what is checked here, at every call:
 *
 *   - a manifest names only bytes that are synced, in files whose names are durable, and it is
 *     itself synced before it is renamed; the same for the entries of a log header;
 *   - a log header or manifest moves the checkpoint only over groups whose records lie, every
 *     one, in durable bytes of data files that it names;
 *   - a header names a manifest that is durable, and goes where the newest durable one is not;
 *   - no byte of the ring is written while a durable checkpoint needs what lies there, none
 *     before both headers have the opening's salt, none in a block with durable groups, none
 *     beyond what was synced as zeros, none after a write or sync of the log failed;
 *   - no watermark (of a group or a header) claims more than is durable;
 *   - a record that refers to a large value is logged when that file and its name are durable;
 *   - nothing writes or cuts bytes of a data file that are durable by checkpoint or manifest;
 *   - no file that the newest manifest lists is unlinked, and MANIFEST and wal.log never;
 *   - a file, or the directory, is not synced again after a sync of it failed;
 *   - no file is closed with unsynced bytes and synced by another descriptor later, which the
 *     system does not tell of an error that came in between;
 *   - writes that bypass the cache are aligned; a read-only store changes nothing;
 *   - in mode ALWAYS no write is acknowledged, in any mode no sync, before its bytes are durable.
 *
 *     struct order_verifier *verifier = order_verifier_new(&disk->os);
 *     tkv_open_on(&verifier->os, ...);
 *     ... order_verifier_acknowledged(verifier, 1) after each write that returned TKV_OK ...
 *     tkv_close(store);
 *     order_verifier_free(verifier);
 *
 * Every test that links with the library gets this without asking: order_everywhere.c stands
 * between the tests and tkv_open(), tkv_put() and so on. One verifier watches one opening of
 * one store. It makes no call of its own on the table below: what it knows of the files as
 * they were found it learns from what the engine reads.
 *
 * Threads: any. It is not held up by, and does not hold up, calls that run at the same time.
 */
#ifndef TKV_ORDER_VERIFIER_H
#define TKV_ORDER_VERIFIER_H

#include "os.h"

struct order_verifier {
    struct tkv_os os; /* first: the table's functions find the verifier by it */

    /* Called, without locks, with a broken rule; the default prints it and aborts. */
    void (*violated)(struct order_verifier *verifier, const char *message);
    void *context;  /* the test's own */
    bool read_only; /* the store was opened so */
    uint64_t calls;
    uint64_t checks; /* rules looked at */

    struct order_state *state;
};

struct order_verifier *order_verifier_new(struct tkv_os *below);
void order_verifier_free(struct order_verifier *verifier); /* NULL is allowed */

/* So many more records were acknowledged in mode ALWAYS. */
void order_verifier_acknowledged(struct order_verifier *verifier, uint64_t records);

/* How many groups were in the log before a sync, and that all of them must be durable now. */
uint64_t order_verifier_groups(struct order_verifier *verifier);
void order_verifier_synced(struct order_verifier *verifier, uint64_t groups);

#endif
