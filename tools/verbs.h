/* SPDX-License-Identifier: MIT */
/* verbs.h - what the command can do: one table, from which help and checks are made. */
#ifndef TINYKV_VERBS_H
#define TINYKV_VERBS_H

#include "command.h"

/* Each does its work and returns an exit code (complain.h). */
typedef int verb_fn(const struct command *command);

verb_fn run_set, run_get, run_del, run_exists; /* one_key.c */
verb_fn run_list, run_count, run_dump;         /* all_keys.c */
verb_fn run_load;                              /* load.c */
verb_fn run_stats;                             /* stats.c */
verb_fn run_compact, run_verify;               /* upkeep.c */
verb_fn run_salvage;                           /* salvage.c */
verb_fn run_version, run_help;                 /* help.c */

struct verb {
    const char *name;
    const char *operands; /* as help shows them */
    size_t operands_min, operands_max;
    unsigned options; /* that it takes beside -d, --quiet and --help */
    verb_fn *run;
    const char *summary;
    const char *details;
};

extern const struct verb *const verbs[];
extern const size_t verb_count;

const struct verb *verb_find(const char *name);

/* The verb whose name is closest to `name`; NULL when none is close. In suggest.c. */
const struct verb *verb_suggest(const char *name);

#endif
