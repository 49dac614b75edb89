/* SPDX-License-Identifier: MIT */
/*
 * violation.c - what went wrong, and all that is needed to see it again: seed, program, the
 * call at which the world stopped, what survived of what was pending, and how that differs
 * from what is allowed.
 */
#include "explorer.h"

#include "test.h"

static void note(struct explorer *e, const char *what, enum model model)
{
    struct tally *tally = e->tally;

    tally->totals.violations++;
    if (tally->violation[0] != 0)
        return;
    snprintf(tally->violation, sizeof tally->violation, "%s", what);
    tally->violated = model;
    tally->is_nested_violation = e->depth > 0;
}

static void print_program(const struct explorer *e)
{
    printf("    workload %s, seed %" PRIu64 ", operation %u of %zu (%s):\n        ",
           e->workload->name, e->program->seed, e->operation, e->program->count,
           e->operation_name);
    program_print(e->program);
    printf("\n    writes durable %zu, acknowledged %zu, issued %zu\n", e->oracle->durable,
           e->oracle->acked, e->oracle->issued);
}

static void print_fault(const struct sync_fault *fault)
{
    static const char *const how[] = {"clean, new in the cache", "kept",
                                      "clean, old in the cache"};

    if (fault->at != 0)
        printf("    sync %u of the program fails%s; its pages are %s%s\n", fault->at,
               fault->is_late ? " and says so at the next one" : "", how[fault->how],
               fault->drop_cache ? ", until the cache is dropped" : "");
}

static void print_line(void *context, const char *line)
{
    (void)context;
    printf("        %s\n", line);
}

static void print_crash(const struct explorer *e, const struct derived *d)
{
    printf("    crash point: before call %" PRIu64 " (%s)", e->disk->calls + 1, e->call);
    if (d->cut > 0)
        printf(", of which %zu bytes arrived", d->cut);
    printf("; model %s, choice %" PRIu64 "\n", d->name, d->choice);
    if (d->damage != NULL)
        printf("    damage: %s; %zu writes must be there\n", d->damage, d->least);
    if (d->from == NULL)
        return;
    printf("    pending then, and which sectors of it survived:\n");
    simdisk_explain(d->from, d->survivor, d->choice, d->unit == 0 ? SIMDISK_PAGE : d->unit,
                    print_line, NULL);
}

static void print_all(const struct explorer *e, const struct derived *d)
{
    if (e->outer != NULL)
        print_all(e->outer, e->outer_derived);
    if (e->outer != NULL)
        printf("    and in the recovery from that, at depth %u:\n", e->depth);
    if (d != NULL)
        print_crash(e, d);
}

void report_violation(struct explorer *e, const struct derived *d, const char *what,
                      const char *text)
{
    note(e, what, d->model);
    if (e->tally->is_silent)
        return;
    printf("VIOLATION: %s: %s\n", what, text);
    print_program(e);
    print_fault(&e->fault);
    print_all(e, d);
    fflush(stdout);
}

void report_program(struct explorer *e, const char *what, const char *text)
{
    note(e, what, e->fault.at != 0 ? P8 : P0);
    if (e->tally->is_silent)
        return;
    printf("VIOLATION: %s: %s\n", what, text);
    print_program(e);
    print_fault(&e->fault);
    fflush(stdout);
}
