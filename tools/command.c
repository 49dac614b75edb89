/* SPDX-License-Identifier: MIT */
#include "command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "pair.h"

#define BATCH_MAX UINT64_C(1000000)

static const struct option_spec {
    enum option option;
    char letter; /* 0: none */
    const char *name;
    const char *value; /* NULL: takes none */
    const char *meaning;
} option_specs[] = {
    {OPTION_DIRECTORY,  'd', "dir",        "DIR",  "the store (or TINYKV_DIR)"       },
    {OPTION_JSON,       0,   "json",       NULL,   "print JSON"                      },
    {OPTION_K64,        0,   "k64",        NULL,   "KEY is written in base64"        },
    {OPTION_DURABILITY, 0,   "durability", "MODE", "always (default), interval, none"},
    {OPTION_TTL_MS,     0,   "ttl-ms",     "N",    "expire after N milliseconds"     },
    {OPTION_BATCH,      0,   "batch",      "N",    "commit N lines at once (1000)"   },
    {OPTION_ACK,        0,   "ack",        NULL,   "print \"ack N\" after a commit"  },
    {OPTION_KEYS_ONLY,  0,   "keys-only",  NULL,   "print the keys (default)"        },
    {OPTION_VALUES,     0,   "values",     NULL,   "print the values, too"           },
    {OPTION_FILES,      0,   "files",      NULL,   "describe each data file, too"    },
    {OPTION_QUIET,      'q', "quiet",      NULL,   "say nothing but errors"          },
    {OPTION_HELP,       'h', "help",       NULL,   "explain, and do nothing"         },
    {OPTION_VERSION,    0,   "version",    NULL,   "print the version"               },
};

enum { OPTION_COUNT = sizeof option_specs / sizeof option_specs[0] };

/* ---- Values of options ----------------------------------------------------------- */

static int parse_durability(const char *text, enum tkv_durability *ret_durability)
{
    static const char *const names[] = {
        [TKV_DURABILITY_ALWAYS] = "always",
        [TKV_DURABILITY_INTERVAL] = "interval",
        [TKV_DURABILITY_NONE] = "none",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_durability = (enum tkv_durability)i;
            return DONE;
        }
    }
    return complain_usage("--durability is \"%s\", not always, interval or none", text);
}

static int parse_count(const char *name, const char *text, uint64_t max,
                       uint64_t *ret_count)
{
    uint64_t count;

    if (!pair_parse_ttl(tkv_text(text), &count) || count > max)
        return complain_usage("--%s is \"%s\", not a number from 1 to %" PRIu64, name, text,
                              max);
    *ret_count = count;
    return DONE;
}

static int take_option(struct command *command, const struct option_spec *spec,
                       const char *value)
{
    command->options |= (unsigned)spec->option;
    switch (spec->option) {
    case OPTION_DIRECTORY:
        command->directory = value;
        return DONE;
    case OPTION_DURABILITY:
        return parse_durability(value, &command->durability);
    case OPTION_TTL_MS:
        return parse_count(spec->name, value, TTL_MS_MAX, &command->ttl_ms);
    case OPTION_BATCH:
        return parse_count(spec->name, value, BATCH_MAX, &command->batch);
    default:
        return DONE;
    }
}

/* ---- Arguments ------------------------------------------------------------------- */

/* "--name", "--name=value", "-d" or "-dvalue". *ret_value is NULL when none is attached. */
static const struct option_spec *find_option(const char *argument, const char **ret_value)
{
    *ret_value = NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_spec *spec = &option_specs[i];
        const size_t size = strlen(spec->name);

        if (spec->letter != 0 && argument[1] == spec->letter) {
            if (argument[2] != '\0')
                *ret_value = argument + 2;
            return spec;
        }
        if (argument[1] != '-' || strncmp(argument + 2, spec->name, size) != 0)
            continue;
        if (argument[2 + size] == '=')
            *ret_value = argument + 2 + size + 1;
        if (argument[2 + size] == '=' || argument[2 + size] == '\0')
            return spec;
    }
    return NULL;
}

/* argv[*index] is an option; *index moves on to its value when that is a separate argument. */
static int parse_option(struct command *command, int argc, char **argv, int *index)
{
    const char *const argument = argv[*index], *value;
    const struct option_spec *const spec = find_option(argument, &value);

    if (spec == NULL)
        return complain_usage("unknown option %s (\"--\" goes before operands that begin "
                              "with a dash)",
                              argument);
    if (spec->value == NULL && value != NULL)
        return complain_usage("option %s takes no value", argument);
    if (spec->value != NULL && value == NULL) {
        if (*index + 1 == argc)
            return complain_usage("option %s needs a value", argument);
        value = argv[++*index];
    }
    return take_option(command, spec, value);
}

int command_parse(int argc, char **argv, struct command *ret_command)
{
    struct command command = {.batch = 1000, .operands = argv + 1};
    bool only_operands = false;
    int kept = 0;

    for (int i = 1; i < argc; i++) {
        char *const argument = argv[i];

        if (!only_operands && strcmp(argument, "--") == 0) {
            only_operands = true;
        } else if (only_operands || argument[0] != '-' || argument[1] == '\0') {
            command.operands[kept++] = argument;
        } else {
            const int code = parse_option(&command, argc, argv, &i);

            if (code != DONE)
                return code;
        }
    }
    command.operand_count = (size_t)kept;
    if (kept > 0) {
        command.verb = command.operands[0];
        command.operands++;
        command.operand_count--;
    }
    if (command.directory == NULL)
        command.directory = getenv("TINYKV_DIR");
    if (command.directory != NULL && command.directory[0] == '\0')
        command.directory = NULL;
    *ret_command = command;
    return DONE;
}

bool command_describe_option(unsigned options, size_t *position, char *ret_usage,
                             const char **ret_meaning)
{
    while (*position < OPTION_COUNT) {
        const struct option_spec *spec = &option_specs[(*position)++];
        char letter[8] = "    ";

        if ((options & (unsigned)spec->option) == 0)
            continue;
        if (spec->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", spec->letter);
        snprintf(ret_usage, OPTION_USAGE_SIZE, "%s--%s%s%s", letter, spec->name,
                 spec->value == NULL ? "" : " ", spec->value == NULL ? "" : spec->value);
        *ret_meaning = spec->meaning;
        return true;
    }
    return false;
}
