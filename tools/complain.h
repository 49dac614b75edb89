/* SPDX-License-Identifier: MIT */
/*
 * complain.h - what the command says on standard error, and the exit code that goes with it.
 * Data goes to standard output, everything else comes through here.
 */
#ifndef TINYKV_COMPLAIN_H
#define TINYKV_COMPLAIN_H

#include "tinykv.h"

enum exit_code {
    DONE = 0,
    NOT_THERE = 1, /* not found, or the condition is false */
    MISUSED = 2,   /* wrong arguments or wrong input */
    DAMAGED = 3,   /* bytes on disk are not what was written */
    LOCKED = 4,    /* another process has the store open */
    FAILED = 5     /* an I/O error, a full disk, no memory, no store */
};

#if defined(__GNUC__)
#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))
#else
#define PRINTF_LIKE(at, first)
#endif

/* "tinykv: " and the message, on a line of its own. */
void complain(const char *format, ...) PRINTF_LIKE(1, 2);

/* The same; returns MISUSED. */
int complain_usage(const char *format, ...) PRINTF_LIKE(1, 2);

/* What the library said; returns the exit code for it. */
int complain_of(const struct tkv_error *err);

/* "MESSAGE: " and the text of errno; returns FAILED. */
int complain_errno(int os_errno, const char *format, ...) PRINTF_LIKE(2, 3);

int exit_code_of(enum tkv_status status);

/* Of two exit codes, the one to end with: the first failure wins. */
static inline int first_failure(int earlier, int later)
{
    return earlier != DONE ? earlier : later;
}

#endif
