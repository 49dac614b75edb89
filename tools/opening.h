/* SPDX-License-Identifier: MIT */
/*
 * opening.h - open the store of a command in the way that its verb needs.
 *
 *   READ    changes nothing and needs no right to write; many may read at a time, but not
 *           while a process writes. The store must exist.
 *   WRITE   takes the lock. The store must exist: a mistyped directory stays empty.
 *   CREATE  the same, and makes the store when there is none.
 */
#ifndef TINYKV_OPENING_H
#define TINYKV_OPENING_H

#include "command.h"

enum opening { OPENING_READ, OPENING_WRITE, OPENING_CREATE };

/* Returns DONE, or another exit code when it has complained. */
int opening_open(const struct command *command, enum opening how,
                 struct tkv_store **ret_store);

/* The same without complaining about the store: returns what the library said. Fails with
 * TKV_INVALID when no directory was named. */
enum tkv_status opening_try(const struct command *command, enum opening how,
                            struct tkv_store **ret_store, struct tkv_error *err);

/* What tkv_open() returned, but TKV_IO with a message of its own where there is no store. */
enum tkv_status opening_judge(const struct command *command, enum tkv_status status,
                              struct tkv_error *err);

/* Close the store; returns `code`, or the failure to close when that is the first one. */
int opening_close(struct tkv_store *store, int code);

#endif
