/* SPDX-License-Identifier: MIT */
#include "directory.h"

#include <stdlib.h>

static bool push(uint64_t **numbers, size_t *count, size_t *capacity, uint64_t number)
{
    if (*count == *capacity) {
        const size_t more = *capacity * 2 + 16;
        uint64_t *bigger = realloc(*numbers, more * sizeof *bigger);

        if (bigger == NULL)
            return false;
        *numbers = bigger;
        *capacity = more;
    }
    (*numbers)[(*count)++] = number;
    return true;
}

#define NUMBER_MAX (UINT64_C(1) << 61)

static void note_name(void *context, const char *name)
{
    struct tkv_directory *d = context;
    uint64_t number = 0;

    switch (tkv_file_name_parse(name, &number)) {
    case TKV_NAME_MANIFEST:
        d->has_manifest = true;
        break;
    case TKV_NAME_WAL:
        d->has_wal = true;
        break;
    case TKV_NAME_DATA:
        d->out_of_memory |=
            !push(&d->data_numbers, &d->data_count, &d->data_capacity, number);
        break;
    case TKV_NAME_HINT:
        d->out_of_memory |=
            !push(&d->hint_numbers, &d->hint_count, &d->hint_capacity, number);
        break;
    case TKV_NAME_TEMPORARY:
        d->has_temporaries = true;
        break;
    case TKV_NAME_LOCK:
    case TKV_NAME_QUARANTINE:
    case TKV_NAME_FOREIGN:
        break;
    }
    /* Whatever has a higher number is not a file of this store: it never counts that far. */
    if (number > d->highest_number && number <= NUMBER_MAX)
        d->highest_number = number;
}

enum tkv_status tkv_directory_list(struct tkv_store *store, struct tkv_directory *directory,
                                   struct tkv_error *err)
{
    const int result = store->os->list(store->os, store->dir, note_name, directory);

    if (result < 0)
        return tkv_fail_os(err, result, "", "list the store's directory");
    if (directory->out_of_memory)
        return tkv_fail_memory(err, sizeof *directory, "the directory's file names");
    return TKV_OK;
}

void tkv_directory_release(struct tkv_directory *directory)
{
    free(directory->data_numbers);
    free(directory->hint_numbers);
}

struct cleaning {
    struct tkv_store *store;
    struct tkv_open_report *report;
};

static void unlink_leftover(const struct cleaning *cleaning, const char *name)
{
    struct tkv_store *store = cleaning->store;

    if (store->os->unlink(store->os, store->dir, name) != 0)
        return;
    store->dir_changed = true;
    cleaning->report->files_removed++;
}

static void remove_temporary(void *context, const char *name)
{
    uint64_t number;

    if (tkv_file_name_parse(name, &number) == TKV_NAME_TEMPORARY)
        unlink_leftover(context, name);
}

/* One that is foreign somebody put here, and may want back. */
static void clean_data(const struct cleaning *cleaning,
                       const struct tkv_directory *directory, enum tkv_leftover kind)
{
    struct tkv_store *store = cleaning->store;
    char name[TKV_FILE_NAME_SIZE];

    for (size_t i = 0; i < directory->data_count; i++) {
        if (tkv_files_find(store, directory->data_numbers[i]) != NULL)
            continue;
        tkv_data_name(directory->data_numbers[i], name);
        if (tkv_datafile_leftover(store->os, store->dir, name, store->uuid) == kind)
            unlink_leftover(cleaning, name);
    }
}

static void clean_hints(const struct cleaning *cleaning,
                        const struct tkv_directory *directory)
{
    char name[TKV_FILE_NAME_SIZE];

    for (size_t i = 0; i < directory->hint_count; i++) {
        if (tkv_files_find(cleaning->store, directory->hint_numbers[i]) != NULL)
            continue;
        tkv_hint_name(directory->hint_numbers[i], name);
        unlink_leftover(cleaning, name);
    }
}

void tkv_directory_clean_records(struct tkv_store *store,
                                 const struct tkv_directory *directory,
                                 struct tkv_open_report *report)
{
    const struct cleaning cleaning = {store, report};

    clean_data(&cleaning, directory, TKV_LEFTOVER_RECORDS);
    clean_hints(&cleaning, directory);
}

void tkv_directory_clean(struct tkv_store *store, const struct tkv_directory *directory,
                         struct tkv_open_report *report)
{
    struct cleaning cleaning = {store, report};

    clean_data(&cleaning, directory, TKV_LEFTOVER_VALUE);
    if (directory->has_temporaries)
        (void)store->os->list(store->os, store->dir, remove_temporary, &cleaning);
}
