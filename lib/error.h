/* SPDX-License-Identifier: MIT */
/*
 * error.h - failing is one expression: return tkv_fail(err, TKV_CORRUPT, "...", ...). The
 * function nearest the fact writes the message; callers pass `err` through and stay silent.
 * `err` may be NULL everywhere.
 */
#ifndef TKV_ERROR_H
#define TKV_ERROR_H

#include "tinykv.h"

#if defined(__GNUC__)
#define TKV_PRINTF(format_at, arguments_at) \
    __attribute__((format(printf, format_at, arguments_at)))
/* What leads to such a call is out of the way of what succeeds, and small instead of fast. */
#define TKV_COLD __attribute__((cold))
#else
#define TKV_PRINTF(format_at, arguments_at)
#define TKV_COLD
#endif

/* Write the detail into *err and return `status`. */
enum tkv_status tkv_fail(struct tkv_error *err, enum tkv_status status, const char *format,
                         ...) TKV_PRINTF(3, 4) TKV_COLD;

/*
 * The same for a failed call of struct tkv_os, whose result was `result` (a negative errno):
 * the message ends with the system's text, and the status is TKV_NO_SPACE for ENOSPC and
 * EDQUOT, TKV_NO_MEMORY for ENOMEM, else TKV_IO. `file` is the store's file, "" for none.
 */
enum tkv_status tkv_fail_os(struct tkv_error *err, int64_t result, const char *file,
                            const char *format, ...) TKV_PRINTF(4, 5) TKV_COLD;

/*
 * The same for a sync, or a write that had to be durable: TKV_IO whatever the errno, even of a
 * full disk, because nobody knows what is on disk now.
 */
enum tkv_status tkv_fail_lost(struct tkv_error *err, int64_t result, const char *file,
                              const char *format, ...) TKV_PRINTF(4, 5) TKV_COLD;

/* Damage in `file` at `offset`; `seq` is 0 when unknown. Returns TKV_CORRUPT. */
enum tkv_status tkv_fail_corrupt(struct tkv_error *err, const char *file, uint64_t offset,
                                 uint64_t seq, const char *format, ...)
    TKV_PRINTF(5, 6) TKV_COLD;

/* "out of memory for 4096 bytes of <what>". Returns TKV_NO_MEMORY. */
enum tkv_status tkv_fail_memory(struct tkv_error *err, uint64_t size,
                                const char *what) TKV_COLD;

/* Say what a step has said for whose failure there was no remedy. */
static inline void tkv_error_copy(struct tkv_error *err, const struct tkv_error *reason)
{
    if (err != NULL)
        *err = *reason;
}

#endif
