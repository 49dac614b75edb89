/* SPDX-License-Identifier: MIT */
/* demo_crash.h - a writer that is killed in the middle of its work. */
#ifndef TINYKV_DEMO_CRASH_H
#define TINYKV_DEMO_CRASH_H

#include "demo_data.h"

struct demo_crash {
    size_t acknowledged; /* files 0 .. acknowledged - 1 were */
    bool was_killed;     /* false: it failed by itself, or was done too soon */
};

/*
 * Fork a child that opens the store (which nobody may have open) in mode ALWAYS and writes
 * every file, in order and one by one, as `round`; kill it once `kill_after` writes have been
 * acknowledged. What it had acknowledged is entered in the ledger. False, with a complaint,
 * when there is no child.
 */
bool demo_crash(struct demo_data *data, const char *directory, uint64_t round,
                size_t kill_after, struct demo_crash *ret_crash);

#endif
