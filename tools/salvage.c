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
#include <sys/stat.h>

#include "complain.h"
#include "keys.h"
#include "tsv.h"
#include "verbs.h"

struct salvage {
    const struct command *command;
    struct tkv_store *newest, *certain, *target;
    struct tkv_open_report report;
    uint64_t saved, uncertain, lost;
};

/* ---- Opening ------------------------------------------------------------------------- */

static void print_gap(void *context, const struct tkv_event *event)
{
    (void)context;
    if (event->kind != TKV_EVENT_CORRUPTION)
        return;
    if (event->file == 0)
        printf("gap\twal.log\t%" PRIu64 "\n", event->bytes);
    else
        printf("gap\t%010" PRIu64 ".data\t%" PRIu64 "\n", event->file, event->bytes);
}

static enum tkv_status open_source(struct salvage *s, enum tkv_damage damage,
                                   struct tkv_store **ret_store, struct tkv_error *err)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.create = false;
    options.read_only = true;
    options.damage = damage;
    options.read_mode =
        TKV_READ_PREAD; /* a bad sector is then a message and not a signal */
    if (damage == TKV_DAMAGE_NEWEST)
        options.on_event = print_gap;
    return tkv_open(s->command->directory, &options, ret_store, &s->report, err);
}

/* Under whatever names: a store that is made there would write into the damaged one. */
static bool is_source(const struct salvage *s)
{
    struct stat source, target;

    return stat(s->command->directory, &source) == 0 &&
           stat(s->command->operands[0], &target) == 0 && source.st_dev == target.st_dev &&
           source.st_ino == target.st_ino;
}

static int open_target(struct salvage *s)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_open_report report;
    struct tkv_error err;

    options.durability = TKV_DURABILITY_NONE; /* it is synced when it is closed */
    if (tkv_open(s->command->operands[0], &options, &s->target, &report, &err) != TKV_OK)
        return complain_of(&err);
    return report.created
               ? DONE
               : complain_usage("there is a store in %s: salvage makes a new one",
                                s->command->operands[0]);
}

/* ---- Copying --------------------------------------------------------------------------- */

static void tell(const struct salvage *s, const char *what, struct tkv_slice key)
{
    if (has(s->command, OPTION_QUIET))
        return;
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
        return complain_usage("%s is the damaged store itself: salvage makes a new one",
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
    printf("%" PRIu64 " keys saved, %" PRIu64 " of them uncertain, %" PRIu64
           " known keys lost; %" PRIu64 " gaps of %" PRIu64 " bytes\n",
           s.saved, s.uncertain, s.lost, s.report.gaps, s.report.gap_bytes);
    return s.lost > 0 || s.report.gaps > 0 ? DAMAGED : DONE;
}
