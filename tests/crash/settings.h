/* SPDX-License-Identifier: MIT */
/*
 * settings.h - what the command line asks for, and the crash models by name.
 */
#ifndef CRASH_SETTINGS_H
#define CRASH_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The models of docs/testing.md. P3 includes every exhaustive subset. */
enum model { P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, MODEL_COUNT };

struct settings {
    uint64_t states; /* stop after so many different ones; 0: no limit */
    double seconds;  /* or after so long; 0: no limit */
    uint64_t seed;
    unsigned processes;
    unsigned models; /* bit i for Pi */
    const char
        *only; /* workloads whose name has this in it, or has not what follows a minus */
    const char *program; /* or these operations, see program.h; NULL for none */
    bool all_subsets;    /* of up to 12 pending units, always */
    bool is_long; /* so many states are wanted that short programs get all of theirs */
};

/* False: the usage was printed. */
bool settings_parse(struct settings *settings, int argc, char **argv);

static inline bool settings_have(const struct settings *settings, enum model model)
{
    return (settings->models >> model & 1) != 0;
}

#endif
