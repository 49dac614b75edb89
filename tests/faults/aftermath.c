/* SPDX-License-Identifier: MIT */
#include "aftermath.h"

#include "memory.h"
#include "store.h"

/* ---- Small checks ---------------------------------------------------------------- */

void aftermath_check_leaks(struct run *run, const struct simdisk *disk, size_t held_before,
                           const char *when)
{
    size_t size = 0;
    const size_t held = memory_held(&size);

    if (held != held_before)
        run_violation(run, "%s: %zu pieces of memory are kept, one of %zu bytes", when,
                      held - held_before, size);
    if (simdisk_open_count(disk) != 0)
        run_violation(run, "%s: %zu descriptors or mappings are kept", when,
                      simdisk_open_count(disk));
}

/* The cache may have fallen back to what is on the medium. */
static bool has_reverted(const struct run *run)
{
    return (run->fault.kind & (SIMDISK_SYNC | SIMDISK_WRITE_BACK)) != 0 &&
           run_is_hit(run) && run->fault.failed_sync == SIMDISK_FAILED_SYNC_REVERTS;
}

/* What the next opening must find when nobody cuts the power: all that was acknowledged, unless
 * the cache has fallen back to what is on the medium. */
static size_t least_after_closing(const struct run *run)
{
    const bool falls_back =
        has_reverted(run) || (run->fault.drops_cache && run_is_hit(run));

    return falls_back ? run->oracle->durable : run->oracle->acked;
}

static enum tkv_status poison_of(const struct run *run)
{
    struct tkv_stats stats;

    return tkv_stats(run->store, &stats, NULL) == TKV_OK ? stats.poisoned : TKV_OK;
}

/* ---- What is on a disk ----------------------------------------------------------- */

static bool check_contents(struct run *run, struct tkv_store *store, size_t least,
                           const char *which, struct oracle_found *ret_found)
{
    struct tkv_error err = {.message = ""};
    struct oracle_report why;
    bool good = true;

    if (!oracle_read(store, ret_found, &why) ||
        !run_match(run, ret_found, least, false, &why)) {
        run_violation(run, "%s: %s", which, why.text);
        good = false;
    }
    if (tkv_close(store, &err) != TKV_OK) {
        run_violation(run, "%s does not close: %s", which, err.message);
        good = false;
    }
    return good;
}

static struct tkv_options healthy_options(const struct run *run)
{
    struct tkv_options options = run->options;

    options.read_only = false;
    options.create = true;
    options.background = false;
    return options;
}

bool aftermath_examine(struct run *run, struct simdisk *disk, size_t least,
                       const char *which, struct oracle_found *ret_found)
{
    const struct tkv_options options = healthy_options(run);
    const size_t held = memory_held(NULL);
    struct tkv_error err = {.message = ""};
    struct tkv_store *store;
    bool good = tkv_open_on(&disk->os, "store", &options, &store, NULL, &err) == TKV_OK;

    if (good)
        good = check_contents(run, store, least, which, ret_found);
    else
        run_violation(run, "%s does not open: %s", which, err.message);
    aftermath_check_leaks(run, disk, held, which);
    return good;
}

static void examine_survivor(struct run *run, enum simdisk_model model, size_t least,
                             const char *which)
{
    struct simdisk *after = simdisk_survivor(run->disk, model, 0, SIMDISK_PAGE);
    struct oracle_found found;

    after->context = run;
    after->violated = run->disk->violated;
    after->fail_kinds = 0;
    (void)aftermath_examine(run, after, least, which, &found);
    simdisk_free(after);
}

/* ---- The store that is still open ------------------------------------------------ */

static void check_poison(struct run *run)
{
    const enum tkv_status poisoned = poison_of(run);
    const unsigned may = SIMDISK_SYNC | SIMDISK_SYNC_DIR | SIMDISK_RENAME | SIMDISK_WRITE |
                         SIMDISK_WRITE_BACK;

    if (poisoned != TKV_OK && (run->fault.kind & may) == 0)
        run_violation(run, "the store is poisoned (%s) by what is no lost write",
                      tkv_status_text(poisoned));
    if (poisoned != TKV_OK && poisoned != TKV_IO)
        run_violation(run, "the store is poisoned by \"%s\", which takes nothing",
                      tkv_status_text(poisoned));
}

/* All of it can be read again once the fault is over. */
static void check_live(struct run *run)
{
    struct oracle_report why;
    struct oracle_found found;
    bool unknown[RUN_WRITES_MAX];

    if (has_reverted(run)) {
        run_get_all(run);
        return;
    }
    if (!oracle_read(run->store, &found, &why)) {
        run_violation(run, "the open store reads badly: %s", why.text);
        return;
    }
    /* What failed cannot be seen before the store is opened again. */
    memcpy(unknown, run->unknown, sizeof unknown);
    for (size_t op = 0; op < run->oracle->issued; op++)
        run->oracle->ops[op].is_out |= unknown[op];
    memset(run->unknown, 0, sizeof run->unknown);
    if (!run_match(run, &found, run->oracle->issued, false, &why))
        run_violation(run, "the open store is wrong: %s", why.text);
    memcpy(run->unknown, unknown, sizeof unknown);
    for (size_t op = 0; op < run->oracle->issued; op++)
        run->oracle->ops[op].is_out &= !unknown[op];
}

/* Unless it is poisoned, the store goes on as if nothing had been. */
static void check_goes_on(struct run *run)
{
    const bool poisoned = poison_of(run) != TKV_OK;
    struct tkv_error err = {.message = ""};
    const enum tkv_status status = oracle_put(run->oracle, run->store, 20, 77, 0,
                                              ORACLE_NEVER, &run->disk->monotonic_us, &err);

    if (run->disk_is_full)
        return;
    if (status != (poisoned ? TKV_POISONED : TKV_OK))
        run_violation(run, "the fault is over, but a put %s: %s (%s)",
                      poisoned ? "in a poisoned store" : "fails", err.message,
                      tkv_status_text(status));
}

/* ---- All of it ------------------------------------------------------------------- */

static void check_open_store(struct run *run)
{
    const struct oracle *oracle = run->oracle;

    run_pause(run, true);
    examine_survivor(run, SIMDISK_KILLED, least_after_closing(run), "after a kill");
    examine_survivor(run, SIMDISK_NOTHING_PENDING, oracle->durable, "after a power cut");
    run_pause(run, false);
    if (run->fault.sticky)
        run_get_all(run);
    /* Half of the sticky faults last until the store is closed. */
    if (!run->fault.sticky || run->fault.at % 2 == 0) {
        run_disarm(run);
        check_live(run);
        if (!run->options.read_only)
            check_goes_on(run);
    }
    check_poison(run);
    run_close(run);
}

/* Whatever failed before, what the next opening recovers, and what it is given, is durable. */
static void check_reopened(struct run *run)
{
    const size_t least = least_after_closing(run);
    struct oracle_found found, again;
    struct oracle_report why;
    struct simdisk *cut;

    if (!aftermath_examine(run, run->disk, least, "opened again", &found))
        return;
    cut = simdisk_survivor(run->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    cut->context = run;
    cut->violated = run->disk->violated;
    cut->fail_kinds = 0;
    if (aftermath_examine(run, cut, least, "opened again after a power cut", &again) &&
        !oracle_same(&found, &again, &why))
        run_violation(run, "a power cut after closing takes something: %s", why.text);
    simdisk_free(cut);
}

void aftermath_check(struct run *run)
{
    if (run->store != NULL)
        check_open_store(run);
    run_disarm(run);
    aftermath_check_leaks(run, run->disk, 0, "after closing");
    check_reopened(run);
}
