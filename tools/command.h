/* SPDX-License-Identifier: MIT */
/*
 * command.h - one command line, taken apart: the verb, its operands and the options, which
 * may stand before the verb, behind it and between the operands. "--" ends them.
 */
#ifndef TINYKV_COMMAND_H
#define TINYKV_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tinykv.h"

/* Bits: which options were given, and which a verb takes. */
enum option {
    OPTION_DIRECTORY = 1 << 0,
    OPTION_JSON = 1 << 1,
    OPTION_QUIET = 1 << 2,
    OPTION_HELP = 1 << 3,
    OPTION_VERSION = 1 << 4,
    OPTION_DURABILITY = 1 << 5,
    OPTION_TTL_MS = 1 << 6,
    OPTION_BATCH = 1 << 7,
    OPTION_ACK = 1 << 8,
    OPTION_KEYS_ONLY = 1 << 9,
    OPTION_VALUES = 1 << 10,
    OPTION_FILES = 1 << 11,
    OPTION_K64 = 1 << 12
};

struct command {
    const char *verb; /* NULL: none was given */
    char **operands;  /* borrow from argv */
    size_t operand_count;
    unsigned options; /* enum option */
    const char *directory;
    enum tkv_durability durability;
    uint64_t ttl_ms;
    uint64_t batch;
};

static inline bool has(const struct command *command, enum option option)
{
    return (command->options & (unsigned)option) != 0;
}

/* Take argv apart; the operands are gathered at its front. Returns DONE, or MISUSED when it
 * has complained. */
int command_parse(int argc, char **argv, struct command *ret_command);

enum { OPTION_USAGE_SIZE = 32 };

/* Walk through the options that are in `options`, as a user writes them: "    --batch N".
 * Begin with 0 in *position; false at the end. */
bool command_describe_option(unsigned options, size_t *position, char *ret_usage,
                             const char **ret_meaning);

#endif
