/* SPDX-License-Identifier: MIT */
#include "opening.h"

#include <inttypes.h>
#include <stdio.h>

#include "complain.h"

static struct tkv_options options_for(const struct command *command, enum opening how)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = command->durability;
    options.create = how == OPENING_CREATE;
    options.read_only = how == OPENING_READ;
    /* A bad sector is then a message and not a signal. */
    options.read_mode = TKV_READ_PREAD;
    return options;
}

/* Nothing acknowledged was in the tail, but whoever looks for a lost write wants to know. */
static void tell_cut(const struct command *command, const struct tkv_open_report *report)
{
    if (report->bytes_cut > 0 && !has(command, OPTION_QUIET))
        complain("an unfinished write at the end of the log (%" PRIu64
                 " bytes: %s) was moved to %s/quarantine",
                 report->bytes_cut, report->cut_reason, command->directory);
}

enum tkv_status opening_try(const struct command *command, enum opening how,
                            struct tkv_store **ret_store, struct tkv_error *err)
{
    const struct tkv_options options = options_for(command, how);
    struct tkv_open_report report;
    enum tkv_status status;

    if (command->directory == NULL) {
        *err = (struct tkv_error){.status = TKV_INVALID};
        snprintf(err->message, sizeof err->message,
                 "which store? -d DIR or the variable TINYKV_DIR names it");
        return TKV_INVALID;
    }
    status = tkv_open(command->directory, &options, ret_store, &report, err);
    if (status == TKV_OK && how != OPENING_READ)
        tell_cut(command, &report);
    return opening_judge(command, status, err);
}

enum tkv_status opening_judge(const struct command *command, enum tkv_status status,
                              struct tkv_error *err)
{
    if (status != TKV_NOT_FOUND)
        return status;
    /* Not the exit code of a missing key: a script could not tell them apart. */
    err->status = TKV_IO;
    snprintf(err->message, sizeof err->message, "there is no store in %s",
             command->directory);
    return TKV_IO;
}

/* Not where the manifest is lost, or the log is another store's. */
static bool can_be_salvaged(const struct command *command)
{
    struct tkv_options options = options_for(command, OPENING_READ);
    struct tkv_store *store;

    options.damage = TKV_DAMAGE_NEWEST;
    if (tkv_open(command->directory, &options, &store, NULL, NULL) != TKV_OK)
        return false;
    (void)tkv_close(store, NULL); /* nothing was written */
    return true;
}

int opening_open(const struct command *command, enum opening how,
                 struct tkv_store **ret_store)
{
    struct tkv_error err;
    int code;

    if (opening_try(command, how, ret_store, &err) == TKV_OK)
        return DONE;
    code = complain_of(&err);
    if (code == DAMAGED && !has(command, OPTION_QUIET) && can_be_salvaged(command))
        complain("\"tinykv salvage NEWDIR\" copies what is left to a new store");
    return code;
}

int opening_close(struct tkv_store *store, int code)
{
    struct tkv_error err;

    if (tkv_close(store, &err) == TKV_OK)
        return code;
    return first_failure(code, complain_of(&err));
}
