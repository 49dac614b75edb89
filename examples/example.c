/* SPDX-License-Identifier: MIT */
#include "example.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "scratch.h"

static char scratch[4096];
static pid_t owner;

/* A child that a program forked must not take the directory away from its parent. */
static void clean_up(void)
{
    if (getpid() == owner)
        scratch_remove(scratch);
}

const char *example_directory(int argc, char **argv)
{
    if (argc > 1)
        return argv[1];
    if (!scratch_make(scratch, sizeof scratch)) {
        perror(scratch);
        exit(1);
    }
    owner = getpid();
    if (atexit(clean_up) != 0)
        fprintf(stderr, "%s will not be removed\n", scratch);
    return scratch;
}

void example_check(enum tkv_status status, const struct tkv_error *err)
{
    if (status == TKV_OK)
        return;
    fprintf(stderr, "%s: %s\n", tkv_status_text(status), err->message);
    exit(1);
}

void example_expect(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "expected: %s\n", what);
    exit(1);
}
