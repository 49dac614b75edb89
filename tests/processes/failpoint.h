/* SPDX-License-Identifier: MIT */
/*
 * failpoint.h - the real file system, with a place in it where the process ends at once:
 *
 *     TKV_FAILPOINT=sync:3:before     at the third sync, before it is done
 *     TKV_FAILPOINT=write:12          at the twelfth write, half done (a write or a store; any
 *                                     other call is done)
 *     TKV_FAILPOINT=rename:1:after    after the first rename
 *
 * Every function of struct tkv_os is such a place, under its own name. The process ends with
 * _exit(FAILPOINT_EXIT): nothing is flushed, closed or told.
 */
#ifndef TKV_FAILPOINT_H
#define TKV_FAILPOINT_H

#include "os.h"

#define FAILPOINT_EXIT      42
#define FAILPOINT_NAMES     23u
#define FAILPOINT_SPEC_SIZE 64u

/* The n-th name, for whoever wants to try them all. */
const char *failpoint_name(unsigned n);

/* A table over tkv_os_posix(), one for the process. `spec` is as above; NULL or empty: no such
 * place. A spec that cannot be read ends the program with a message. */
struct tkv_os *failpoint_os(const char *spec);

#endif
