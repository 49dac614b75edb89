/* SPDX-License-Identifier: MIT */
/*
 * compound.c - two things go wrong: the power is cut, or the process killed, at call M of a
 * scenario, and call N of the recovery fails. The recovery after that one must find what the
 * first should have found.
 */
#include "aftermath.h"
#include "memory.h"
#include "store.h"
#include "sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLES 3u /* faults of each survivor, in a short run */

struct crash {
    uint64_t at;
    size_t cut;
    enum simdisk_model model;
};

static const enum simdisk_model models[] = {SIMDISK_KILLED, SIMDISK_NOTHING_PENDING,
                                            SIMDISK_SUBSET, SIMDISK_TORN};
static const size_t cuts[] = {0, 1000};

#define CRASH_TEXT_SIZE 64
#define MODELS          (sizeof models / sizeof *models)
#define CUTS            (sizeof cuts / sizeof *cuts)

/* ---- The crash ------------------------------------------------------------------- */

/* NULL: the scenario ends before that call. */
static struct run *crash_at(struct sweep *sweep, const struct run *base,
                            const struct crash *crash)
{
    const struct fault none = {.kind = 0};
    struct run *run = run_copy(base, &none);

    run->crashes = true;
    run->disk->crash_at = crash->at;
    run->disk->crash_cut = crash->cut;
    sweep->begin("crash", &none);
    sweep->scenario->act(run);
    if (run->store != NULL)
        (void)tkv_close(run->store, NULL);
    run->store = NULL;
    memory_forget();
    if (run->disk->crashed)
        return run;
    run_free(run);
    return NULL;
}

/* What survives of it. The oracle's least is what must be there. */
static struct run *survive(const struct run *crashed, const struct crash *crash,
                           const char *text)
{
    const struct fault none = {.kind = 0};
    struct run *run = run_copy(crashed, &none);

    simdisk_free(run->disk);
    run->disk = simdisk_survivor(crashed->disk, crash->model, crash->at, SIMDISK_PAGE);
    run->disk->fail_kinds = 0;
    run->crash = text;
    if (crash->model != SIMDISK_KILLED)
        run->oracle->acked = run->oracle->durable;
    return run;
}

/* ---- The fault in its recovery ------------------------------------------------------ */

static void check_after(struct run *run, bool opened, const struct oracle_found *found)
{
    static const char *const when[] = {"after a power cut", "opened again"};
    struct simdisk *disks[] = {
        simdisk_survivor(run->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE), run->disk};

    for (size_t i = 0; i < 2; i++) {
        struct oracle_found again;
        struct oracle_report why;
        size_t least;

        disks[i]->context = run;
        disks[i]->violated = run->disk->violated;
        disks[i]->fail_kinds = 0;
        /* A power cut after a kill may take what the recovery has not made durable. */
        least = i == 0 && !opened ? run->oracle->durable : run->oracle->acked;
        if (aftermath_examine(run, disks[i], least, when[i], &again) && opened &&
            !oracle_same(found, &again, &why))
            run_violation(run, "%s it is not what was recovered: %s", when[i], why.text);
    }
    simdisk_free(disks[0]);
}

static bool recover_with(struct sweep *sweep, const struct run *survivor,
                         const struct fault *fault)
{
    struct run *run = run_copy(survivor, fault);
    struct tkv_error err = {.message = ""};
    struct oracle_report why;
    struct oracle_found found;
    enum tkv_status status;
    bool hit;

    sweep->begin(run->crash, fault);
    run_arm(run);
    status = tkv_open_on(&run->disk->os, "store", &run->options, &run->store, NULL, &err);
    hit = run_is_hit(run);
    run_judge(run, "recovery", status, TKV_OK, &err);
    run_disarm(run);
    if (status == TKV_OK) {
        if (!oracle_read(run->store, &found, &why) ||
            !run_match(run, &found, run->oracle->acked, false, &why))
            run_violation(run, "recovered: %s", why.text);
        (void)tkv_close(run->store, NULL);
    }
    run->store = NULL;
    aftermath_check_leaks(run, run->disk, 0, "after a recovery");
    if (hit)
        check_after(run, status == TKV_OK, &found);
    sweep->faults += hit;
    sweep->violations += run->violations;
    run_free(run);
    return hit;
}

/* ---- All of them, or a sample ---------------------------------------------------------- */

static void recover_with_all(struct sweep *sweep, const struct run *survivor)
{
    for (size_t i = 0; i < fault_kind_count; i++) {
        struct fault fault = {.kind = fault_kinds[i].kind,
                              .os_errno = fault_kinds[i].errnos[0]};

        for (unsigned sticky = 0; sticky < 2; sticky++) {
            fault.sticky = sticky != 0;
            for (fault.at = 1; recover_with(sweep, survivor, &fault); fault.at++)
                ;
        }
    }
}

static uint64_t draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static void recover_with_some(struct sweep *sweep, const struct run *survivor,
                              uint64_t random)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        const struct fault_kind *kind = &fault_kinds[draw(&random) % fault_kind_count];
        struct fault fault = {.kind = kind->kind,
                              .os_errno = kind->errnos[0],
                              .sticky = draw(&random) % 2 != 0,
                              .at = 1 + draw(&random) % 12};

        while (!recover_with(sweep, survivor, &fault) && fault.at > 1)
            fault.at /= 2;
    }
}

struct seen {
    uint64_t *hashes;
    size_t count, capacity;
};

/* The same disk with the same obligations has been through all of it. */
static bool was_seen(struct seen *seen, const struct run *survivor)
{
    const uint64_t hash = simdisk_hash(survivor->disk) * 31 + survivor->oracle->acked;

    for (size_t i = 0; i < seen->count; i++) {
        if (seen->hashes[i] == hash)
            return true;
    }
    if (seen->count == seen->capacity) {
        seen->capacity = seen->capacity * 2 + 64;
        seen->hashes = realloc(seen->hashes, seen->capacity * sizeof *seen->hashes);
        if (seen->hashes == NULL)
            abort(); /* a test without memory stops */
    }
    seen->hashes[seen->count++] = hash;
    return false;
}

static void examine_crash(struct sweep *sweep, const struct run *base, struct crash crash,
                          struct seen *seen)
{
    struct run *crashed = crash_at(sweep, base, &crash);
    char text[CRASH_TEXT_SIZE];

    for (size_t i = 0; crashed != NULL && i < MODELS; i++) {
        struct run *survivor;

        crash.model = models[i];
        snprintf(text, sizeof text, "%" PRIu64 "/%zu/%d", crash.at, crash.cut,
                 (int)crash.model);
        if (sweep->only_crash != NULL && strcmp(sweep->only_crash, text) != 0)
            continue;
        survivor = survive(crashed, &crash, text);
        if (sweep->only_fault != NULL) {
            struct fault fault;

            if (fault_parse(sweep->only_fault, &fault))
                (void)recover_with(sweep, survivor, &fault);
        } else if (!was_seen(seen, survivor)) {
            if (sweep->is_quick)
                recover_with_some(sweep, survivor, sweep->seed + crash.at);
            else
                recover_with_all(sweep, survivor);
        }
        run_free(survivor);
    }
    run_free(crashed);
}

static bool is_reached(struct sweep *sweep, const struct run *base,
                       const struct crash *crash)
{
    struct run *run = crash_at(sweep, base, crash);
    const bool reached = run != NULL;

    run_free(run);
    return reached;
}

void sweep_compounds(struct sweep *sweep)
{
    const uint64_t step = sweep->is_quick ? 7 : 1;
    struct run *base = sweep_prepare(sweep);
    struct crash crash = {.at = 1};
    struct seen seen = {NULL, 0, 0};

    while (is_reached(sweep, base, &crash)) {
        for (size_t i = 0; i < CUTS; i++) {
            crash.cut = cuts[i];
            examine_crash(sweep, base, crash, &seen);
        }
        crash.at += sweep->only_crash != NULL ? 1 : step;
    }
    free(seen.hashes);
    run_free(base);
}
