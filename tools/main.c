/* SPDX-License-Identifier: MIT */
/*
 * main.c - the tinykv command: find the verb, check what it was given, run it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "complain.h"
#include "help.h"
#include "verbs.h"

/* Complain about the first option that the verb has no use for. */
static int check_options(const struct command *command, const struct verb *verb)
{
    const unsigned known = verb->options | HELP_COMMON_OPTIONS;
    size_t position = 0;
    char usage[OPTION_USAGE_SIZE];
    const char *meaning;

    if (!command_describe_option(command->options & ~known, &position, usage, &meaning))
        return DONE;
    for (const char *text = usage;; text++) {
        if (*text == '-')
            return complain_usage("%s does not take %s", verb->name, text);
    }
}

static int check(const struct command *command, const struct verb *verb)
{
    if (command->operand_count < verb->operands_min ||
        command->operand_count > verb->operands_max)
        return complain_usage("usage: tinykv [-d DIR] %s%s%s", verb->name,
                              verb->operands[0] == '\0' ? "" : " ", verb->operands);
    return check_options(command, verb);
}

static int run(const struct command *command)
{
    const struct verb *verb;
    int code;

    if (command->verb == NULL) {
        if (has(command, OPTION_VERSION))
            return run_version(command);
        if (has(command, OPTION_HELP))
            return run_help(command);
        help_usage(stderr);
        return complain_usage("which verb? \"tinykv help\" lists them");
    }
    verb = verb_find(command->verb);
    if (verb == NULL)
        return help_unknown_verb(command->verb);
    if (has(command, OPTION_HELP)) {
        help_verb(verb);
        return DONE;
    }
    code = check(command, verb);
    return code == DONE ? verb->run(command) : code;
}

/* Output that could not be written is a failure, however late that is noticed. */
static int flush_output(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return DONE;
    return complain_errno(errno != 0 ? errno : EIO, "write standard output");
}

/* A file that was opened as one of the three would receive what is meant for another. What takes
 * their place fails, as a closed one does. */
static void keep_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
    }
}

int main(int argc, char **argv)
{
    struct command command;
    int code;

    keep_standard_streams();
    code = command_parse(argc, argv, &command);

    if (code == DONE)
        code = run(&command);
    return first_failure(code, flush_output());
}
