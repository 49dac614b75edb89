/* SPDX-License-Identifier: MIT */
/*
 * stats.c - the verb that prints every field of struct tkv_stats and struct tkv_file_stats,
 * from one table each: as JSON, as "name value" lines, or as a table for people.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "complain.h"
#include "json_write.h"
#include "opening.h"
#include "verbs.h"

enum kind { COUNT, BYTES, RATIO, FLAG, STATUS };

struct field {
    enum kind kind;
    const char *name;
    size_t offset;
};

#define AT(name) #name, offsetof(struct tkv_stats, name)
static const struct field fields[] = {
    {COUNT,  AT(keys)                      },
    {BYTES,  AT(live_bytes)                },
    {BYTES,  AT(dead_bytes)                },
    {BYTES,  AT(disk_bytes)                },
    {BYTES,  AT(wal_bytes)                 },
    {BYTES,  AT(wal_used_bytes)            },
    {COUNT,  AT(data_files)                },
    {BYTES,  AT(index_bytes)               },
    {RATIO,  AT(index_bytes_per_key)       },
    {COUNT,  AT(seq_last)                  },
    {COUNT,  AT(puts)                      },
    {COUNT,  AT(deletes)                   },
    {COUNT,  AT(gets)                      },
    {COUNT,  AT(gets_missing)              },
    {BYTES,  AT(user_bytes_written)        },
    {BYTES,  AT(wal_bytes_written)         },
    {BYTES,  AT(data_bytes_written)        },
    {COUNT,  AT(fsyncs)                    },
    {COUNT,  AT(groups)                    },
    {COUNT,  AT(group_records)             },
    {COUNT,  AT(group_records_max)         },
    {COUNT,  AT(checkpoints)               },
    {COUNT,  AT(compactions)               },
    {BYTES,  AT(compaction_bytes_read)     },
    {BYTES,  AT(compaction_bytes_written)  },
    {BYTES,  AT(compaction_bytes_reclaimed)},
    {COUNT,  AT(last_compaction_at_ms)     },
    {COUNT,  AT(last_compaction_micros)    },
    {STATUS, AT(poisoned)                  },
    {FLAG,   AT(disk_full)                 },
};
#undef AT

#define AT(name) #name, offsetof(struct tkv_file_stats, name)
static const struct field file_fields[] = {
    {COUNT, AT(number)         },
    {BYTES, AT(size)           },
    {BYTES, AT(live_bytes)     },
    {BYTES, AT(tombstone_bytes)},
    {COUNT, AT(live_records)   },
    {COUNT, AT(records)        },
    {COUNT, AT(seq_min)        },
    {COUNT, AT(seq_max)        },
    {FLAG,  AT(sealed)         },
    {FLAG,  AT(compacted)      },
    {FLAG,  AT(large_value)    },
};
#undef AT

enum {
    FIELD_COUNT = sizeof fields / sizeof fields[0],
    FILE_FIELD_COUNT = sizeof file_fields / sizeof file_fields[0]
};

enum { TEXT_SIZE = 64 };

/* ---- One field ------------------------------------------------------------------- */

/* As in JSON, where a status alone is a string. */
static void field_text(const void *values, const struct field *field, char *ret_text)
{
    const char *const at = (const char *)values + field->offset;

    switch (field->kind) {
    case COUNT:
    case BYTES:
        snprintf(ret_text, TEXT_SIZE, "%" PRIu64, *(const uint64_t *)(const void *)at);
        break;
    case RATIO:
        snprintf(ret_text, TEXT_SIZE, "%.2f", *(const double *)(const void *)at);
        break;
    case FLAG:
        snprintf(ret_text, TEXT_SIZE, "%s", *(const bool *)at ? "true" : "false");
        break;
    case STATUS:
        snprintf(ret_text, TEXT_SIZE, "%s",
                 tkv_status_text(*(const enum tkv_status *)(const void *)at));
        break;
    }
}

/* "12345678" to "12 345 678". */
static void group_digits(const char *digits, char *ret_text)
{
    const size_t size = strlen(digits);
    size_t out = 0;

    for (size_t i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            ret_text[out++] = ' ';
        ret_text[out++] = digits[i];
    }
    ret_text[out] = '\0';
}

static void field_text_for_people(const void *values, const struct field *field,
                                  char *ret_text)
{
    char plain[TEXT_SIZE];

    field_text(values, field, plain);
    if (field->kind == COUNT || field->kind == BYTES)
        group_digits(plain, ret_text);
    else
        snprintf(ret_text, TEXT_SIZE, "%s", plain);
}

/* ---- All fields ------------------------------------------------------------------ */

static void print_json(const void *values, const struct field *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[TEXT_SIZE];

        field_text(values, &table[i], text);
        printf("%s\"%s\":", i == 0 ? "" : ",", table[i].name);
        if (table[i].kind == STATUS)
            json_write_message(stdout, text);
        else
            fputs(text, stdout);
    }
}

static void print_lines(const void *values, const struct field *table, size_t count,
                        const char *prefix)
{
    for (size_t i = 0; i < count; i++) {
        char text[TEXT_SIZE];

        field_text(values, &table[i], text);
        printf("%s%s %s\n", prefix, table[i].name, text);
    }
}

static void print_table(const void *values)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        char text[TEXT_SIZE];

        field_text_for_people(values, &fields[i], text);
        printf("%-28s %18s%s\n", fields[i].name, text,
               fields[i].kind == BYTES ? " bytes" : "");
    }
}

static void print_file_row(const struct tkv_file_stats *file)
{
    for (size_t i = 0; i < FILE_FIELD_COUNT; i++) {
        const int width = (int)strlen(file_fields[i].name);
        char text[TEXT_SIZE];

        field_text(file, &file_fields[i], text);
        printf("%s%*s", i == 0 ? "" : "  ", width < 10 ? 10 : width, text);
    }
    printf("\n");
}

static void print_file_table(const struct tkv_file_stats *files, size_t count)
{
    printf("\n");
    for (size_t i = 0; i < FILE_FIELD_COUNT; i++)
        printf("%s%10s", i == 0 ? "" : "  ", file_fields[i].name);
    printf("\n");
    for (size_t i = 0; i < count; i++)
        print_file_row(&files[i]);
}

static void print_files(const struct command *command, const struct tkv_file_stats *files,
                        size_t count)
{
    if (!has(command, OPTION_JSON) && isatty(STDOUT_FILENO)) {
        print_file_table(files, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        char prefix[48];

        if (has(command, OPTION_JSON)) {
            fputs(i == 0 ? "{" : ",{", stdout);
            print_json(&files[i], file_fields, FILE_FIELD_COUNT);
            fputs("}", stdout);
            continue;
        }
        snprintf(prefix, sizeof prefix, "file.%" PRIu64 ".", files[i].number);
        print_lines(&files[i], file_fields, FILE_FIELD_COUNT, prefix);
    }
}

static void print_stats(const struct command *command, const struct tkv_stats *stats)
{
    if (has(command, OPTION_JSON))
        print_json(stats, fields, FIELD_COUNT);
    else if (isatty(STDOUT_FILENO))
        print_table(stats);
    else
        print_lines(stats, fields, FIELD_COUNT, "");
}

/* ---- The verb -------------------------------------------------------------------- */

/* *ret_files is to be freed. */
static int read_files(struct tkv_store *store, struct tkv_file_stats **ret_files,
                      size_t *ret_count)
{
    struct tkv_file_stats *files;
    struct tkv_error err;
    size_t count;

    if (tkv_file_stats(store, NULL, 0, &count, &err) != TKV_OK)
        return complain_of(&err);
    files = calloc(count + 1, sizeof *files);
    if (files == NULL)
        return complain_errno(ENOMEM, "describe %zu files", count);
    if (tkv_file_stats(store, files, count, ret_count, &err) != TKV_OK) {
        free(files);
        return complain_of(&err);
    }
    *ret_files = files;
    return DONE;
}

static int print(struct tkv_store *store, const struct command *command)
{
    struct tkv_file_stats *files = NULL;
    struct tkv_stats stats;
    struct tkv_error err;
    size_t count = 0;
    int code = DONE;

    if (tkv_stats(store, &stats, &err) != TKV_OK)
        return complain_of(&err);
    if (has(command, OPTION_FILES))
        code = read_files(store, &files, &count);
    if (code != DONE)
        return code;
    fputs(has(command, OPTION_JSON) ? "{" : "", stdout);
    print_stats(command, &stats);
    if (has(command, OPTION_FILES)) {
        fputs(has(command, OPTION_JSON) ? ",\"files\":[" : "", stdout);
        print_files(command, files, count);
        fputs(has(command, OPTION_JSON) ? "]" : "", stdout);
    }
    fputs(has(command, OPTION_JSON) ? "}\n" : "", stdout);
    free(files);
    return DONE;
}

int run_stats(const struct command *command)
{
    struct tkv_store *store;
    const int code = opening_open(command, OPENING_READ, &store);

    return code == DONE ? opening_close(store, print(store, command)) : code;
}
