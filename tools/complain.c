/* SPDX-License-Identifier: MIT */
#include "complain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages quote what they were given: nothing in it may reach a terminal as a command. */
static void say(const char *format, va_list arguments, const char *suffix)
{
    char message[1024];

    vsnprintf(message, sizeof message, format, arguments);
    for (char *c = message; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    fprintf(stderr, "tinykv: %s%s\n", message, suffix);
}

void complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(format, arguments, "");
    va_end(arguments);
}

int complain_usage(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(format, arguments, "");
    va_end(arguments);
    return MISUSED;
}

int complain_errno(int os_errno, const char *format, ...)
{
    va_list arguments;
    char suffix[160];

    snprintf(suffix, sizeof suffix, ": %s", strerror(os_errno));
    va_start(arguments, format);
    say(format, arguments, suffix);
    va_end(arguments);
    return FAILED;
}

int complain_of(const struct tkv_error *err)
{
    complain("%s", err->message);
    return exit_code_of(err->status);
}

int exit_code_of(enum tkv_status status)
{
    switch (status) {
    case TKV_OK:
        return DONE;
    case TKV_NOT_FOUND:
        return NOT_THERE;
    case TKV_INVALID:
    case TKV_TOO_BIG:
        return MISUSED;
    case TKV_CORRUPT:
        return DAMAGED;
    case TKV_BUSY:
        return LOCKED;
    case TKV_NO_MEMORY:
    case TKV_NO_SPACE:
    case TKV_IO:
    case TKV_READ_ONLY:
    case TKV_POISONED:
    case TKV_FORKED:
    case TKV_UNSUPPORTED:
        break;
    }
    return FAILED;
}
