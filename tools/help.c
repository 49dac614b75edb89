/* SPDX-License-Identifier: MIT */
/* help.c - what the command says about itself. */
#include "help.h"

#include <stdio.h>

#include "complain.h"
#include "json_write.h"

void help_usage(FILE *out)
{
    fputs("usage: tinykv [-d DIR] VERB [OPTION...] [OPERAND...]\n", out);
}

static void print_options(unsigned options)
{
    size_t position = 0;
    char usage[OPTION_USAGE_SIZE];
    const char *meaning;

    while (command_describe_option(options, &position, usage, &meaning))
        printf("  %-26s %s\n", usage, meaning);
}

static void help_all(void)
{
    help_usage(stdout);
    printf("\nA crash-safe key-value store in the directory DIR.\n\nVerbs:\n");
    for (size_t i = 0; i < verb_count; i++) {
        char usage[32];

        snprintf(usage, sizeof usage, "%s %s", verbs[i]->name, verbs[i]->operands);
        printf("  %-20s %s\n", usage, verbs[i]->summary);
    }
    printf("\nOptions of every verb, which stand before or behind it; -- ends them:\n");
    print_options(HELP_COMMON_OPTIONS);
    printf("\nExit codes: 0 ok, 1 not found or false, 2 wrong usage or input, 3 damage "
           "found,\n"
           "4 the store is open elsewhere, 5 i/o error, disk full or no store.\n"
           "\n"
           "\"tinykv help VERB\" says more. A beginning:\n"
           "  tinykv -d data set name value\n"
           "  tinykv -d data get name\n");
}

void help_verb(const struct verb *verb)
{
    printf("usage: tinykv [-d DIR] %s%s%s%s\n\n", verb->name,
           verb->options == 0 ? "" : " [OPTION...]", verb->operands[0] == '\0' ? "" : " ",
           verb->operands);
    printf("%s%s%s%s\n", verb->summary, verb->details[0] == '\0' ? "" : "\n\n",
           verb->details, verb->options == 0 ? "" : "\n");
    print_options(verb->options);
}

int help_unknown_verb(const char *name)
{
    const struct verb *suggestion = verb_suggest(name);

    if (suggestion != NULL)
        return complain_usage("there is no verb \"%s\"; did you mean \"%s\"?", name,
                              suggestion->name);
    return complain_usage("there is no verb \"%s\"; \"tinykv help\" lists them", name);
}

int run_help(const struct command *command)
{
    const struct verb *verb;

    if (command->operand_count == 0) {
        help_all();
        return DONE;
    }
    verb = verb_find(command->operands[0]);
    if (verb == NULL)
        return help_unknown_verb(command->operands[0]);
    help_verb(verb);
    return DONE;
}

int run_version(const struct command *command)
{
    if (!has(command, OPTION_JSON)) {
        printf("%s\n", tkv_build_info());
        return DONE;
    }
    printf("{\"version\":");
    json_write_message(stdout, tkv_version());
    printf(",\"build\":");
    json_write_message(stdout, tkv_build_info());
    printf("}\n");
    return DONE;
}
