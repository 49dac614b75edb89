/* SPDX-License-Identifier: MIT */
/*
 * place.h - a store in a directory of its own below TMPDIR, and children that do something to
 * it. For tests that are about the world around the store.
 */
#ifndef TKV_PLACE_H
#define TKV_PLACE_H

#include "store.h"
#include "test.h"

#include <sys/types.h>

struct place {
    char parent[200];
    char path[220]; /* of the store, in `parent` */
    struct tkv_options options;
};

/* A place without a store; small files and log, no threads. */
struct place place_new(void);
void place_free(struct place *place);

/* Each stops the test when it fails. */
struct tkv_store *place_open(const struct place *place);
struct tkv_store *place_open_on(const struct place *place, struct tkv_os *os);
void place_close(struct tkv_store *store);
void place_put(struct tkv_store *store, const char *key, size_t size);
/* The key has the value that place_put() gave it. */
void place_expect(struct tkv_store *store, const char *key, size_t size);
void place_expect_absent(struct tkv_store *store, const char *key);
void place_verify(struct tkv_store *store);
/* Whole life: open, some keys in a log and in several data files, close. */
void place_fill(const struct place *place);
void place_expect_filled(struct tkv_store *store);

/* Open and close; what the opening returned. */
enum tkv_status place_try_open(const struct place *place, struct tkv_error *ret_err);
/* It opens, with all that place_fill() put, and closes. */
void place_expect_all_well(const struct place *place);
/* Rotations, checkpoints, compactions. */
void place_work_hard(struct tkv_store *store);
void place_path_in(const char *directory, const char *name, char path[600]);

/* Run `body` in a child; returns its wait status. A child that hangs dies of SIGALRM. */
typedef void place_child_fn(const struct place *place, void *context);
int place_in_child(const struct place *place, place_child_fn *body, void *context);
/* The same, to be waited for by the caller. */
pid_t place_start_child(const struct place *place, place_child_fn *body, void *context);

/* A number that follows from the names and contents of all files but LOCK. */
uint64_t place_hash(const struct place *place);

#endif
