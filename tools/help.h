/* SPDX-License-Identifier: MIT */
/* help.h - what the command says about itself. */
#ifndef TINYKV_HELP_H
#define TINYKV_HELP_H

#include <stdio.h>

#include "verbs.h"

/* Options that every verb takes. */
#define HELP_COMMON_OPTIONS (OPTION_DIRECTORY | OPTION_QUIET | OPTION_HELP)

void help_usage(FILE *out);
void help_verb(const struct verb *verb);

/* Complain, with the verb that may have been meant; returns MISUSED. */
int help_unknown_verb(const char *name);

#endif
