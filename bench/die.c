/* SPDX-License-Identifier: MIT */
/* die.c - the way out of a run that is worth nothing. */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void bench_die(const char *engine, const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", engine, what, why);
    exit(1);
}
