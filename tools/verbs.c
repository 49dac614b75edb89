/* SPDX-License-Identifier: MIT */
#include "verbs.h"

#include <stdint.h>
#include <string.h>

#define ANY_NUMBER SIZE_MAX

static const struct verb set_verb = {
    .name = "set",
    .operands = "KEY VALUE|-",
    .operands_min = 2,
    .operands_max = 2,
    .options = OPTION_JSON | OPTION_K64 | OPTION_DURABILITY | OPTION_TTL_MS,
    .run = run_set,
    .summary = "set KEY to VALUE, or to what standard input holds",
    .details = "Makes the store when there is none.",
};

static const struct verb get_verb = {
    .name = "get",
    .operands = "KEY",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_JSON | OPTION_K64,
    .run = run_get,
    .summary = "print the value of KEY",
    .details = "Prints the bytes of the value and nothing else; on a terminal a newline\n"
               "follows. Exits 1 when there is no such key.",
};

static const struct verb del_verb = {
    .name = "del",
    .operands = "KEY...",
    .operands_min = 1,
    .operands_max = ANY_NUMBER,
    .options = OPTION_JSON | OPTION_K64 | OPTION_DURABILITY,
    .run = run_del,
    .summary = "delete keys, all together",
    .details =
        "The keys are deleted in one atomic batch. Exits 1 when one of them was not\n"
        "there; the others are deleted all the same.",
};

static const struct verb exists_verb = {
    .name = "exists",
    .operands = "KEY",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_JSON | OPTION_K64,
    .run = run_exists,
    .summary = "exit 0 when KEY is there, 1 when not",
    .details = "Prints nothing without --json.",
};

static const struct verb list_verb = {
    .name = "list",
    .operands = "",
    .options = OPTION_JSON | OPTION_KEYS_ONLY | OPTION_VALUES,
    .run = run_list,
    .summary = "print the keys, sorted by their bytes",
    .details =
        "One key a line, with the escapes \\t \\n \\\\ and \\xHH. With --values a tab and\n"
        "the value follow, escaped likewise: \"load\" reads that.",
};

static const struct verb count_verb = {
    .name = "count",
    .operands = "",
    .options = OPTION_JSON,
    .run = run_count,
    .summary = "print how many keys there are",
    .details = "Expired keys do not count.",
};

static const struct verb load_verb = {
    .name = "load",
    .operands = "[FILE|-]",
    .operands_max = 1,
    .options = OPTION_JSON | OPTION_DURABILITY | OPTION_BATCH | OPTION_ACK,
    .run = run_load,
    .summary = "set many keys from JSON Lines or tab-separated text",
    .details =
        "Each line is {\"k\":\"key\",\"v\":\"value\"}, or the key, a tab and the value "
        "with\n"
        "the escapes \\t \\n \\\\ and \\xHH. In JSON, \"k64\" and \"v64\" take base64 "
        "instead,\n"
        "and \"ttl_ms\":N lets the key expire. Empty lines are skipped. A wrong line "
        "stops\n"
        "the load with its number and exit code 2; earlier batches stay. Makes the store\n"
        "when there is none.\n"
        "\n"
        "A batch is written whole or not at all, unless it is too big for the log: then\n"
        "it is written in parts. With --ack, \"ack N\" is printed after each commit: the\n"
        "first N lines of the input will survive what the durability mode promises.",
};

static const struct verb dump_verb = {
    .name = "dump",
    .operands = "[FILE|-]",
    .operands_max = 1,
    .options = OPTION_JSON,
    .run = run_dump,
    .summary = "write everything as JSON Lines, sorted by key",
    .details =
        "What \"load\" reads: the same keys and values, byte for byte. Keys that are not\n"
        "UTF-8 are written as \"k64\", such values as \"v64\"; a key that expires has\n"
        "\"ttl_ms\", the time that it has left.",
};

static const struct verb stats_verb = {
    .name = "stats",
    .operands = "",
    .options = OPTION_JSON | OPTION_FILES,
    .run = run_stats,
    .summary = "print sizes and counters",
    .details =
        "A table on a terminal, else one \"name value\" a line. The counters of work\n"
        "begin when a store is opened, so most are about this command only.",
};

static const struct verb compact_verb = {
    .name = "compact",
    .operands = "",
    .options = OPTION_JSON | OPTION_DURABILITY,
    .run = run_compact,
    .summary = "give dead bytes back, print how many",
    .details = "",
};

static const struct verb verify_verb = {
    .name = "verify",
    .operands = "",
    .options = OPTION_JSON,
    .run = run_verify,
    .summary = "read and check every byte, print what is damaged",
    .details =
        "Changes nothing. One line for each finding: the file, the offset, the sequence\n"
        "number (0: unknown) and what is wrong, separated by tabs; then a summary.\n"
        "Exits 3 when there are findings.",
};

static const struct verb salvage_verb = {
    .name = "salvage",
    .operands = "NEWDIR",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_JSON,
    .run = run_salvage,
    .summary = "copy what is left of a damaged store to a new one",
    .details =
        "Changes nothing in the damaged store. One line for each gap (\"gap\", the file, "
        "its\n"
        "bytes), for each key whose value may have been overwritten or deleted\n"
        "(\"uncertain\") and for each key whose value cannot be read (\"lost\"); then a\n"
        "summary. Keys that nobody knows of are in no line but that of the gap. Exits 3\n"
        "when anything is missing. A damaged MANIFEST cannot be salvaged.",
};

static const struct verb version_verb = {
    .name = "version",
    .operands = "",
    .options = OPTION_JSON,
    .run = run_version,
    .summary = "print the version and what this build is made of",
    .details = "",
};

static const struct verb help_verb = {
    .name = "help",
    .operands = "[VERB]",
    .operands_max = 1,
    .options = 0,
    .run = run_help,
    .summary = "explain everything, or one verb",
    .details = "",
};

const struct verb *const verbs[] = {
    &set_verb,    &get_verb,     &del_verb,     &exists_verb, &list_verb,
    &count_verb,  &load_verb,    &dump_verb,    &stats_verb,  &compact_verb,
    &verify_verb, &salvage_verb, &version_verb, &help_verb,
};

const size_t verb_count = sizeof verbs / sizeof verbs[0];

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < verb_count; i++) {
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
    }
    return NULL;
}
