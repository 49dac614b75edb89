/* SPDX-License-Identifier: MIT */
/*
 * failed_sync.c - P8: a sync returns an error, every sync of a program in turn. The pages are
 * clean afterwards, with the new bytes in the cache or the old ones, or still dirty; the error
 * comes now, or at the next call. Of the store is asked:
 *
 *   - The caller is told, and no later write is taken: the store is poisoned. (Not for a file
 *     that nothing depends on yet: a new manifest, the compactor's output.)
 *   - Reads are right, or an error where the cache has forgotten what was written.
 *   - After a kill and after a power cut the contract holds. When the error came late, the
 *     writes that were acknowledged in between may be missing, or the store may refuse.
 */
#include "explorer.h"

#include "chance.h"
#include "oracle_damaged.h"
#include "test.h"

static const struct sync_fault faults[] = {
    {.how = SIMDISK_FAILED_SYNC_LOSES},
    {                                               .how = SIMDISK_FAILED_SYNC_LOSES,              .drop_cache = true},
    {                                               .how = SIMDISK_FAILED_SYNC_KEEPS                               },
    {              .how = SIMDISK_FAILED_SYNC_REVERTS},
    {                                .how = SIMDISK_FAILED_SYNC_LOSES, .is_late = true},
    { .how = SIMDISK_FAILED_SYNC_LOSES,                                .is_late = true, .drop_cache = true},
    {                                             .how = SIMDISK_FAILED_SYNC_REVERTS,                                .is_late = true},
};

#define FAULTS (sizeof faults / sizeof faults[0])

static bool is_in_doubt(const struct explorer *e)
{
    return e->fault.how == SIMDISK_FAILED_SYNC_REVERTS || e->fault.is_late;
}

/* The store that is open now. */
static void check_live(struct explorer *e)
{
    const struct derived d = {.model = P8, .name = "P8, still open"};
    struct oracle_damaged found;
    struct oracle_report why;

    if (!oracle_read_damaged(e->store, &found, &why)) {
        report_violation(e, &d, "after a failed sync the store reads badly", why.text);
        return;
    }
    for (unsigned key = 0; key < ORACLE_KEYS && !is_in_doubt(e); key++) {
        if (found.failed[key]) {
            report_violation(e, &d, "after a failed sync a read fails", "");
            return;
        }
    }
    if (!oracle_match_damaged(e->oracle, &found, e->oracle->acked, e->oracle->issued,
                              e->disk->wall_ms, &why))
        report_violation(e, &d, "after a failed sync a read is wrong", why.text);
}

static bool is_allowed(const struct explorer *e, enum tkv_status status)
{
    if (status == TKV_OK || status == TKV_IO || status == TKV_POISONED)
        return true;
    return status == TKV_CORRUPT && is_in_doubt(e);
}

/* What the system failed to make durable will not be, whatever the oracle thinks of time. */
static void forget_durable(struct explorer *e)
{
    if (e->fault.happened && e->workload->durability != TKV_DURABILITY_ALWAYS &&
        e->oracle->durable > e->fault.durable_before)
        e->oracle->durable = e->fault.durable_before;
}

static void run(struct explorer *e, const struct operation *o)
{
    const bool was_poisoned = e->is_poisoned;
    struct tkv_error err = {.message = ""};
    const enum tkv_status status = run_operation(e, o, &err);

    forget_durable(e);
    if (!e->fault.happened) {
        if (status != TKV_OK)
            report_program(e, "an operation fails", err.message);
        return;
    }
    if (!is_allowed(e, status))
        report_program(e, "a failed sync is called something else", err.message);
    if (was_poisoned && o->kind == PUT && status != TKV_POISONED)
        report_program(e, "a write is taken after a failed sync", err.message);
    if (status == TKV_IO && o->kind != COMPACT && !e->fault.is_harmless)
        e->is_poisoned = true;
    if (e->store == NULL || is_enough(e->tally))
        return;
    e->busy = true;
    check_live(e);
    derive_all(e);
    e->busy = false;
}

/* After the program: a write, which must be refused now, and a close. */
static void run_rest(struct explorer *e)
{
    static const struct operation put = {
        .kind = PUT, .item_count = 1, .items = {{.key = 7, .size = 20}}};
    static const struct operation reopen = {.kind = REOPEN};

    if (!e->fault.happened || is_enough(e->tally))
        return;
    if (e->store != NULL)
        run(e, &put);
    if (e->store != NULL && !is_enough(e->tally))
        run(e, &reopen); /* tells what the close says; it may well fail */
    if (e->store == NULL && !is_enough(e->tally)) {
        e->busy = true;
        derive_all(e);
    }
}

/* Returns how many syncs there were; *ret_first: how many before the watched operations. */
static unsigned explore_fault(struct tally *tally, const struct program *program,
                              const struct sync_fault *fault, unsigned *ret_first)
{
    struct explorer *e = explorer_new(tally, program);
    struct tkv_error err = {.message = ""};
    unsigned syncs;

    e->fault = *fault;
    e->busy = true;
    if (open_store(e, e->disk, &e->options, &e->store, NULL, &err) != TKV_OK &&
        !e->fault.happened)
        report_program(e, "an empty directory does not open", err.message);
    while (e->store != NULL && e->operation < program->count && !is_enough(tally)) {
        if (e->operation == program->watched_from && ret_first != NULL)
            *ret_first = e->syncs;
        e->operation_name = operation_name(program->operations[e->operation].kind);
        run(e, &program->operations[e->operation++]);
    }
    syncs = e->syncs;
    run_rest(e);
    e->busy = true;
    if (e->store != NULL)
        (void)tkv_close(e->store, NULL);
    e->store = NULL;
    if (simdisk_open_count(e->disk) != 0)
        report_program(e, "after a failed sync close leaks descriptors or mappings", "");
    explorer_free(e);
    return syncs;
}

void explore_failed_syncs(struct tally *tally, const struct program *program)
{
    static const struct sync_fault none = {.at = 0};
    const bool all = tally->is_thorough || program->count <= 2;
    unsigned first = 0;
    const unsigned last = explore_fault(tally, program, &none, &first);

    for (unsigned at = first + 1; at <= last; at++) {
        for (size_t i = 0; i < FAULTS && !is_enough(tally); i++) {
            struct sync_fault fault = faults[i];

            if (!all && mix(program->seed + at) % FAULTS != i)
                continue;
            fault.at = at;
            (void)explore_fault(tally, program, &fault, NULL);
        }
    }
}
