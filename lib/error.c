/* SPDX-License-Identifier: MIT */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static void describe(struct tkv_error *err, enum tkv_status status, const char *file,
                     const char *format, va_list arguments) TKV_PRINTF(4, 0);

static void describe(struct tkv_error *err, enum tkv_status status, const char *file,
                     const char *format, va_list arguments)
{
    memset(err, 0, sizeof *err);
    err->status = status;
    snprintf(err->file, sizeof err->file, "%s", file);
    vsnprintf(err->message, sizeof err->message, format, arguments);
}

enum tkv_status tkv_fail(struct tkv_error *err, enum tkv_status status, const char *format,
                         ...)
{
    va_list arguments;

    if (err == NULL)
        return status;
    va_start(arguments, format);
    describe(err, status, "", format, arguments);
    va_end(arguments);
    return status;
}

static enum tkv_status status_of_errno(int os_errno)
{
    if (os_errno == ENOSPC || os_errno == EDQUOT)
        return TKV_NO_SPACE;
    if (os_errno == ENOMEM)
        return TKV_NO_MEMORY;
    return TKV_IO;
}

/* strerror_r() has two incompatible forms; both leave the text in `buffer` or return it. */
static const char *text_of_errno(int os_errno, char *buffer, size_t size)
{
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(os_errno, buffer, size);
#else
    if (strerror_r(os_errno, buffer, size) != 0)
        snprintf(buffer, size, "error %d", os_errno);
    return buffer;
#endif
}

static void describe_os(struct tkv_error *err, enum tkv_status status, int os_errno,
                        const char *file, const char *format, va_list arguments)
    TKV_PRINTF(5, 0);

static void describe_os(struct tkv_error *err, enum tkv_status status, int os_errno,
                        const char *file, const char *format, va_list arguments)
{
    char system_text[96];
    size_t used;

    describe(err, status, file, format, arguments);
    err->os_errno = os_errno;
    used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, ": %s",
             text_of_errno(os_errno, system_text, sizeof system_text));
}

enum tkv_status tkv_fail_os(struct tkv_error *err, int64_t result, const char *file,
                            const char *format, ...)
{
    const int os_errno = result < 0 ? (int)-result : EIO;
    const enum tkv_status status = status_of_errno(os_errno);
    va_list arguments;

    if (err == NULL)
        return status;
    va_start(arguments, format);
    describe_os(err, status, os_errno, file, format, arguments);
    va_end(arguments);
    return status;
}

enum tkv_status tkv_fail_lost(struct tkv_error *err, int64_t result, const char *file,
                              const char *format, ...)
{
    va_list arguments;

    if (err == NULL)
        return TKV_IO;
    va_start(arguments, format);
    describe_os(err, TKV_IO, result < 0 ? (int)-result : EIO, file, format, arguments);
    va_end(arguments);
    return TKV_IO;
}

enum tkv_status tkv_fail_corrupt(struct tkv_error *err, const char *file, uint64_t offset,
                                 uint64_t seq, const char *format, ...)
{
    va_list arguments;
    char detail[200];

    if (err == NULL)
        return TKV_CORRUPT;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    (void)tkv_fail(err, TKV_CORRUPT,
                   "%s is damaged at offset %llu (sequence number %llu): %s", file,
                   (unsigned long long)offset, (unsigned long long)seq, detail);
    snprintf(err->file, sizeof err->file, "%s", file);
    err->offset = offset;
    err->seq = seq;
    return TKV_CORRUPT;
}

enum tkv_status tkv_fail_memory(struct tkv_error *err, uint64_t size, const char *what)
{
    return tkv_fail(err, TKV_NO_MEMORY, "out of memory for %llu bytes of %s",
                    (unsigned long long)size, what);
}

const char *tkv_status_text(enum tkv_status status)
{
    switch (status) {
    case TKV_OK:
        return "ok";
    case TKV_NOT_FOUND:
        return "not found";
    case TKV_INVALID:
        return "invalid argument";
    case TKV_TOO_BIG:
        return "too big";
    case TKV_NO_MEMORY:
        return "out of memory";
    case TKV_NO_SPACE:
        return "disk full";
    case TKV_IO:
        return "i/o error";
    case TKV_CORRUPT:
        return "corrupt";
    case TKV_BUSY:
        return "busy";
    case TKV_READ_ONLY:
        return "read-only";
    case TKV_POISONED:
        return "poisoned by a failed sync";
    case TKV_FORKED:
        return "opened by the parent process";
    case TKV_UNSUPPORTED:
        return "not supported";
    }
    return "unknown status";
}
