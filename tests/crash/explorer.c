/* SPDX-License-Identifier: MIT */
#include "explorer.h"

#include "chance.h"
#include "store.h"
#include "test.h"

#include <time.h>

double now_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

bool is_enough(const struct tally *tally)
{
    return tally->violation[0] != 0 || tally->totals.unique >= tally->unique_limit ||
           tally->is_late;
}

enum tkv_status open_store(struct explorer *e, struct simdisk *disk,
                           const struct tkv_options *options, struct tkv_store **ret_store,
                           struct tkv_open_report *ret_report, struct tkv_error *err)
{
    e->tally->totals.opens++;
    return tkv_open_on(&disk->os, "", options, ret_store, ret_report, err);
}

/* ---- Operations -------------------------------------------------------------------------- */

/* Items of an operation, as of now. */
static void place_items(const struct explorer *e, const struct operation *o,
                        struct oracle_item items[ORACLE_BATCH_MAX])
{
    for (unsigned i = 0; i < o->item_count; i++) {
        items[i] = o->items[i];
        if (items[i].expires_at_ms != ORACLE_NEVER)
            items[i].expires_at_ms += e->disk->wall_ms;
    }
}

static enum tkv_status run_write(struct explorer *e, const struct operation *o,
                                 struct tkv_error *err)
{
    const uint64_t *now_us = &e->disk->monotonic_us;
    struct oracle_item items[ORACLE_BATCH_MAX];

    place_items(e, o, items);
    if (o->kind == BATCH)
        return oracle_batch(e->oracle, e->store, items, o->item_count, now_us, err);
    if (o->kind == DELETE)
        return oracle_delete(e->oracle, e->store, items[0].key, now_us, err);
    return oracle_put(e->oracle, e->store, items[0].key, items[0].size, items[0].flags,
                      items[0].expires_at_ms, now_us, err);
}

/* Puts do this when a data file is full. */
static enum tkv_status run_rotate(struct explorer *e, struct tkv_error *err)
{
    enum tkv_status status;

    tkv_mutex_lock(&e->store->apply);
    status = tkv_apply_rotate(e->store, 0, err);
    tkv_mutex_unlock(&e->store->apply);
    return status;
}

static void tick(struct explorer *e, uint64_t micros)
{
    e->disk->monotonic_us += micros;
    e->disk->wall_ms += micros / 8;
}

static enum tkv_status run_reopen(struct explorer *e, struct tkv_error *err)
{
    enum tkv_status status = oracle_close(e->oracle, e->store, err);

    e->store = NULL;
    if (status != TKV_OK)
        return status;
    silent_settled(e, e->oracle->issued, true);
    return open_store(e, e->disk, &e->options, &e->store, NULL, err);
}

static void check_reopened(struct explorer *e)
{
    struct oracle_found found;
    struct oracle_report why;
    size_t prefix;

    e->busy = true;
    if (!oracle_read(e->store, &found, &why) ||
        !oracle_match(e->oracle, &found, e->oracle->issued, e->oracle->issued,
                      e->disk->wall_ms, &prefix, &why))
        report_program(e, "a closed store differs", why.text);
    e->busy = false;
}

/* ---- Crashing the program itself --------------------------------------------------------- */

/* Stop the world in the middle of an operation or between two. */
static void cut_off(struct explorer *e, uint64_t *random)
{
    struct simdisk *disk = e->disk;
    const struct oracle_item item = {.key = (unsigned)below(random, ORACLE_KEYS),
                                     .size = (uint32_t)below(random, 2000)};
    const size_t acked = e->oracle->acked, durable = e->oracle->durable;
    struct tkv_error err;

    disk->crash_kinds = SIMDISK_MUTATING;
    disk->crash_at = disk->crash_count + 1 + below(random, 3);
    disk->crash_cut = (size_t)below(random, 5000);
    (void)oracle_put(e->oracle, e->store, item.key, item.size, 0, ORACLE_NEVER,
                     &disk->monotonic_us, &err);
    if (!disk->crashed && below(random, 2) == 0)
        (void)oracle_checkpoint(e->oracle, e->store, &err);
    if (disk->crashed) { /* nobody lives to see what the calls returned */
        e->oracle->acked = acked;
        e->oracle->durable = durable;
    }
}

static struct simdisk *what_is_left(struct explorer *e, uint64_t *random,
                                    struct derived *ret_derived)
{
    static const enum simdisk_model models[] = {
        SIMDISK_KILLED, SIMDISK_NOTHING_PENDING, SIMDISK_PREFIX,    SIMDISK_SUBSET,
        SIMDISK_TORN,   SIMDISK_TRASHED,         SIMDISK_SIZE_ONLY, SIMDISK_ENTRIES_LOST};
    const enum simdisk_model model = models[below(random, 8)];
    const size_t unit = below(random, 2) == 0 ? SIMDISK_PAGE : SIMDISK_SECTOR;
    uint64_t choice = draw(random);

    if (model == SIMDISK_PREFIX)
        choice %= simdisk_pending_count(e->disk, unit) + 1;
    *ret_derived = (struct derived){.model = (enum model)model,
                                    .name = "the program's own crash",
                                    .from = e->disk,
                                    .survivor = model,
                                    .choice = choice,
                                    .unit = unit,
                                    .killed = model == SIMDISK_KILLED};
    return simdisk_survivor(e->disk, model, choice, unit);
}

/* The handles that the checks have opened are not known by name: close and open. */
static bool go_on_with(struct explorer *e, struct simdisk *disk, const struct derived *d)
{
    struct oracle_found found;
    struct oracle_report why;
    struct oracle *oracle;
    struct tkv_error err;
    size_t prefix;

    if (!open_and_read(e, disk, &e->options, d, "the main line", &e->store, &found))
        return false;
    if (!oracle_match(e->oracle, &found, d->killed ? e->oracle->acked : e->oracle->durable,
                      e->oracle->issued, disk->wall_ms, &prefix, &why)) {
        report_violation(e, d, "the main line is not a prefix", why.text);
        return false;
    }
    oracle = oracle_recovered(e->oracle, prefix, e->options.durability);
    oracle_free(e->oracle);
    e->oracle = oracle;
    if (oracle_close(e->oracle, e->store, &err) == TKV_OK) {
        e->store = NULL;
        return true;
    }
    e->store = NULL;
    report_violation(e, d, "the main line does not close", err.message);
    return false;
}

static enum tkv_status run_crash(struct explorer *e, const struct operation *o,
                                 struct tkv_error *err)
{
    uint64_t random = mix(o->number);
    struct simdisk *old = e->disk, *after;
    struct derived d;
    bool good;

    e->busy = true;
    cut_off(e, &random);
    after = what_is_left(e, &random, &d);
    old->crashed = true;
    (void)tkv_close(e->store, NULL);
    e->store = NULL;
    good = go_on_with(e, after, &d);
    silent_forget(e);
    watch(e, after);
    simdisk_free(old);
    if (!good)
        return TKV_OK; /* said already; the program ends here */
    silent_settled(e, e->oracle->issued, true);
    e->busy = false;
    return open_store(e, after, &e->options, &e->store, NULL, err);
}

/* ---- One after the other ----------------------------------------------------------------- */

enum tkv_status run_operation(struct explorer *e, const struct operation *o,
                              struct tkv_error *err)
{
    switch (o->kind) {
    case SYNC:
        return oracle_sync(e->oracle, e->store, err);
    case ROTATE:
        return run_rotate(e, err);
    case CHECKPOINT:
        return oracle_checkpoint(e->oracle, e->store, err);
    case COMPACT:
        return tkv_compact(e->store, NULL, err);
    case REOPEN:
        return run_reopen(e, err);
    case CRASH:
        return run_crash(e, o, err);
    case TICK:
        tick(e, o->number);
        return TKV_OK;
    default:
        return run_write(e, o, err);
    }
}

static void step(struct explorer *e, const struct operation *o)
{
    struct tkv_error err = {.message = ""};
    enum tkv_status status;

    e->operation_name = operation_name(o->kind);
    status = run_operation(e, o, &err);
    if (status != TKV_OK)
        report_program(e, "an operation fails", err.message);
    else if (o->kind == CHECKPOINT)
        silent_settled(e, e->oracle->issued, false);
    else if (o->kind == REOPEN)
        check_reopened(e);
}

/* Longer sequences are many, and their last operation alone is new. */
static unsigned density_of(const struct tally *tally, const struct program *program)
{
    static const unsigned of_length[] = {100, 100, 100, 60, 30};

    if (tally->is_thorough)
        return 100;
    if (program->workload->kind == EXHAUSTIVE && program->count <= 4)
        return of_length[program->count];
    return program->workload->density;
}

struct explorer *explorer_new(struct tally *tally, const struct program *program)
{
    const struct workload *w = program->workload;
    struct explorer *e = malloc(sizeof *e);
    struct simdisk *disk = simdisk_new(program->seed);

    CHECK(e != NULL);
    *e = (struct explorer){.tally = tally,
                           .program = program,
                           .workload = w,
                           .random = mix(program->seed + 1),
                           .options = workload_options(w),
                           .operation_name = "open",
                           .call = "",
                           .density = density_of(tally, program),
                           .every_byte = w->every_byte,
                           .all_killed = true};
    e->oracle = oracle_new(w->durability, (uint64_t)e->options.interval_ms * 1000);
    disk->wall_ms = WALL_MS_FIRST;
    disk->no_direct_sync = w->no_direct_sync;
    disk->no_allocation = w->no_allocation;
    watch(e, disk);
    tally->totals.runs++;
    return e;
}

void explorer_free(struct explorer *e)
{
    silent_forget(e);
    simdisk_free(e->disk);
    oracle_free(e->oracle);
    free(e);
}

void explore(struct tally *tally, const struct program *program)
{
    struct explorer *e = explorer_new(tally, program);
    struct tkv_error err = {.message = ""};

    e->busy = !program->workload->from_nothing;
    if (open_store(e, e->disk, &e->options, &e->store, NULL, &err) != TKV_OK)
        report_program(e, "an empty directory does not open", err.message);
    while (e->store != NULL && e->operation < program->count && !is_enough(tally)) {
        e->busy = e->operation < program->watched_from;
        e->operation++;
        if (!e->busy)
            silent_note(e);
        step(e, &program->operations[e->operation - 1]);
        if (!e->busy && e->store != NULL)
            derive_silent(e);
    }
    e->busy = e->busy || is_enough(tally) || program->workload->kind == EXHAUSTIVE;
    e->operation_name = "close";
    if (e->store != NULL && oracle_close(e->oracle, e->store, &err) != TKV_OK)
        report_program(e, "close fails", err.message);
    explorer_free(e);
}
