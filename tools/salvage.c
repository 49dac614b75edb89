/* SPDX-License-Identifier: MIT */
/*
 * salvage.c - copy what is left of a damaged store to a new one, and say what is not. Nothing
 * is written to the damaged store.
 *
 * It is opened twice: once for the newest value that is left of each key, and once for certain
 * answers only, which tell the values that may have been overwritten or deleted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "complain.h"
#include "json_write.h"
#include "keys.h"
#include "opening.h"
#include "tsv.h"
#include "verbs.h"

struct salvage {
    const struct command *command;
    struct tkv_store *newest, *certain, *target;
    struct tkv_open_report report;
    uint64_t saved, uncertain, lost;
};

static bool is_json(const struct salvage *s)
{
    return has(s->command, OPTION_JSON);
}

/* ---- Opening ------------------------------------------------------------------------- */

static void print_gap(void *context, const struct tkv_event *event)
{
    const struct salvage *s = context;
    char file[32] = "wal.log";

    if (event->kind != TKV_EVENT_CORRUPTION)
        return;
    if (event->file != 0)
        snprintf(file, sizeof file, "%010" PRIu64 ".data", event->file);
    printf(is_json(s) ? "{\"what\":\"gap\",\"file\":\"%s\",\"bytes\":%" PRIu64 "}\n"
                      : "gap\t%s\t%" PRIu64 "\n",
           file, event->bytes);
}

static enum tkv_status open_source(struct salvage *s, enum tkv_damage damage,
                                   struct tkv_store **ret_store, struct tkv_error *err)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    enum tkv_status status;

    options.create = false;
    options.read_only = true;
    options.event_context = s;
    options.damage = damage;
    options.read_mode =
        TKV_READ_PREAD; /* a bad sector is then a message and not a signal */
    if (damage == TKV_DAMAGE_NEWEST)
        options.on_event = print_gap;
    status = tkv_open(s->command->directory, &options, ret_store, &s->report, err);
    return opening_judge(s->command, status, err);
}

/* Where NEWDIR is, or will be; free() it. NULL: nowhere. */
static char *place_of_target(const char *directory)
{
    char *place = realpath(directory, NULL), *parent, *name;
    size_t size = strlen(directory);

    if (place != NULL)
        return place;
    while (size > 1 && directory[size - 1] == '/')
        size--;
    parent = strndup(directory, size);
    if (parent == NULL)
        return NULL;
    name = strrchr(parent, '/');
    if (name != NULL)
        name[name == parent] = '\0';
    place = realpath(name != NULL ? parent : ".", NULL);
    free(parent);
    return place;
}

/* Is it the damaged store or inside of it, under whatever names? A store that is made there would
 * write into the damaged one. */
static bool is_source(const struct salvage *s)
{
    char *place = place_of_target(s->command->operands[0]);
    struct stat source, target;
    bool found = false;

    while (place != NULL && !found && stat(s->command->directory, &source) == 0 &&
           stat(place[0] != '\0' ? place : "/", &target) == 0) {
        found = source.st_dev == target.st_dev && source.st_ino == target.st_ino;
        if (place[0] == '\0')
            break;
        *strrchr(place, '/') = '\0';
    }
    free(place);
    return found;
}

/* Looked for by reading: to open it for writing would replay its log. */
static int check_target_is_free(const char *directory)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store = NULL;
    struct tkv_error err;
    enum tkv_status status;

    options.create = false;
    options.read_only = true;
    status = tkv_open(directory, &options, &store, NULL, &err);
    if (status == TKV_NOT_FOUND)
        return DONE;
    if (status != TKV_OK && status != TKV_CORRUPT) /* that is a store as well */
        return complain_of(&err);
    (void)tkv_close(store, NULL); /* nothing was written */
    return complain_usage("there is a store in %s: salvage makes a new one", directory);
}

static int open_target(struct salvage *s)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_error err;
    const int code = check_target_is_free(s->command->operands[0]);

    if (code != DONE)
        return code;
    options.durability = TKV_DURABILITY_NONE; /* it is synced when it is closed */
    return tkv_open(s->command->operands[0], &options, &s->target, NULL, &err) == TKV_OK
               ? DONE
               : complain_of(&err);
}

/* ---- Copying --------------------------------------------------------------------------- */

static void tell(const struct salvage *s, const char *what, struct tkv_slice key)
{
    if (has(s->command, OPTION_QUIET))
        return;
    if (is_json(s)) {
        printf("{\"what\":\"%s\",", what);
        json_write_bytes(stdout, "k", key);
        puts("}");
        return;
    }
    printf("%s\t", what);
    tsv_write(stdout, key);
    putchar('\n');
}

static bool is_certain(struct salvage *s, struct tkv_slice key)
{
    return tkv_exists(s->certain, key, NULL) == TKV_OK;
}

static enum tkv_status copy_key(struct salvage *s, struct tkv_slice key,
                                struct tkv_error *err)
{
    struct tkv_pin pin = {.expires_at_ms = 0};
    enum tkv_status status = tkv_get_pinned(s->newest, key, &pin, err);

    if (status == TKV_NOT_FOUND)
        return TKV_OK; /* it has expired meanwhile */
    if (status == TKV_CORRUPT || status == TKV_IO) {
        tell(s, "lost", key);
        s->lost++;
        return TKV_OK;
    }
    if (status == TKV_OK && pin.expires_at_ms == 0)
        status = tkv_put(s->target, key, pin.value, err);
    else if (status == TKV_OK)
        status = tkv_put_expiring(s->target, key, pin.value, pin.expires_at_ms, err);
    tkv_unpin(&pin);
    s->saved += status == TKV_OK;
    if (status == TKV_OK && !is_certain(s, key)) {
        tell(s, "uncertain", key);
        s->uncertain++;
    }
    return status;
}

static int copy_all(struct salvage *s)
{
    struct tkv_error err;
    struct keys keys;
    enum tkv_status status = keys_collect(s->newest, &keys, &err);

    for (size_t i = 0; status == TKV_OK && i < keys.count; i++)
        status = copy_key(s, keys.sorted[i], &err);
    keys_release(&keys);
    return status == TKV_OK ? DONE : complain_of(&err);
}

static void print_summary(const struct salvage *s)
{
    printf(is_json(s) ? "{\"what\":\"summary\",\"saved\":%" PRIu64 ",\"uncertain\":%" PRIu64
                        ",\"lost\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"gap_bytes\":%" PRIu64
                        "}\n"
                      : "%" PRIu64 " keys saved, %" PRIu64 " of them uncertain, %" PRIu64
                        " known keys lost; %" PRIu64 " gaps of %" PRIu64 " bytes\n",
           s->saved, s->uncertain, s->lost, s->report.gaps, s->report.gap_bytes);
}

/* ---- All together ------------------------------------------------------------------------ */

static int close_all(struct salvage *s, int code)
{
    struct tkv_error err;

    (void)tkv_close(s->newest, NULL); /* nothing was written to them */
    (void)tkv_close(s->certain, NULL);
    if (tkv_close(s->target, &err) != TKV_OK)
        code = first_failure(code, complain_of(&err));
    return code;
}

int run_salvage(const struct command *command)
{
    struct salvage s = {.command = command};
    struct tkv_error err;
    int code;

    if (command->directory == NULL)
        return complain_usage("which store? -d DIR or the variable TINYKV_DIR names it");
    if (is_source(&s))
        return complain_usage(
            "%s is the damaged store itself or inside of it: salvage makes a new one",
            command->operands[0]);
    if (open_source(&s, TKV_DAMAGE_CERTAIN, &s.certain, &err) != TKV_OK ||
        open_source(&s, TKV_DAMAGE_NEWEST, &s.newest, &err) != TKV_OK)
        return close_all(&s, complain_of(&err));
    code = open_target(&s);
    if (code == DONE)
        code = copy_all(&s);
    code = close_all(&s, code);
    if (code != DONE)
        return code;
    print_summary(&s);
    return s.lost > 0 || s.report.gaps > 0 ? DAMAGED : DONE;
}
