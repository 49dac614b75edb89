/* SPDX-License-Identifier: MIT */
#include "sweep.h"

#include "aftermath.h"
#include "memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- One run --------------------------------------------------------------------- */

/* A store that the preparation leaves open is killed. */
struct run *sweep_prepare(const struct sweep *sweep)
{
    const struct tkv_options options = scenario_options(sweep->scenario);
    struct simdisk *disk = simdisk_new(sweep->seed), *killed;
    struct run *run =
        run_new(sweep->scenario, disk, oracle_new(options.durability, 1000), &options);

    sweep->begin("prepare", &run->fault);
    if (sweep->scenario->prepare != NULL)
        sweep->scenario->prepare(run);
    if (run->store == NULL)
        return run;
    killed = simdisk_clone(disk);
    (void)tkv_close(run->store, NULL);
    simdisk_free(disk);
    run->store = NULL;
    run->disk = killed;
    killed->context = run;
    return run;
}

bool sweep_run(struct sweep *sweep, const struct run *base, const struct fault *fault)
{
    struct run *run = run_copy(base, fault);
    bool hit;

    sweep->begin(NULL, fault);
    sweep->scenario->act(run);
    hit = run_is_hit(run);
    /* A run without a fault is a run too. */
    if (hit || fault->kind == 0) {
        sweep->faults++;
        aftermath_check(run);
    } else {
        run_close(run);
        run_disarm(run);
    }
    memory_forget();
    sweep->violations += run->violations;
    run_free(run);
    return hit;
}

/* ---- All of them ----------------------------------------------------------------- */

/* False: there is no call of that kind at all. */
static bool sweep_calls(struct sweep *sweep, const struct run *base, struct fault fault)
{
    for (fault.at = 1; sweep_run(sweep, base, &fault); fault.at++)
        ;
    return fault.at > 1;
}

static bool sweep_durations(struct sweep *sweep, const struct run *base, struct fault fault)
{
    fault.sticky = false;
    if (!sweep_calls(sweep, base, fault))
        return false;
    fault.sticky = true;
    return sweep_calls(sweep, base, fault);
}

static void sweep_kind(struct sweep *sweep, const struct run *base,
                       const struct fault_kind *kind)
{
    const size_t errnos = sweep->is_quick ? FAULT_ERRNOS_FIRST : 12;
    struct fault fault = {.kind = kind->kind};

    for (size_t i = 0; i < errnos && (i == 0 || kind->errnos[i] != 0); i++) {
        fault.os_errno = kind->errnos[i];
        fault.failed_sync = SIMDISK_FAILED_SYNC_LOSES;
        if (!sweep_durations(sweep, base, fault))
            return;
    }
    if (kind->kind != SIMDISK_SYNC && kind->kind != SIMDISK_RENAME &&
        kind->kind != SIMDISK_WRITE_BACK)
        return;
    fault.os_errno = EIO;
    fault.failed_sync = SIMDISK_FAILED_SYNC_KEEPS;
    (void)sweep_durations(sweep, base, fault);
    if (kind->kind == SIMDISK_RENAME)
        return;
    fault.failed_sync = SIMDISK_FAILED_SYNC_REVERTS;
    (void)sweep_durations(sweep, base, fault);
    fault.failed_sync = SIMDISK_FAILED_SYNC_LOSES;
    fault.drops_cache = true;
    (void)sweep_durations(sweep, base, fault);
}

/* Short reads and writes change nothing; and when one of them fails after others have moved a
 * part, half of the bytes are there. */
static void sweep_short(struct sweep *sweep, const struct run *base)
{
    static const size_t sizes[] = {1, 7, 512, 4096};
    struct fault fault = {.kind = 0};

    for (size_t i = sweep->is_quick ? 1 : 0; i < sizeof sizes / sizeof *sizes; i++) {
        fault.io_size_max = sizes[i];
        (void)sweep_run(sweep, base, &fault);
    }
    fault.io_size_max = 4096;
    fault.kind = SIMDISK_WRITE;
    fault.os_errno = EIO;
    (void)sweep_durations(sweep, base, fault);
    fault.os_errno = ENOSPC;
    if (!sweep->is_quick)
        (void)sweep_durations(sweep, base, fault);
    fault.kind = SIMDISK_READ;
    fault.os_errno = EIO;
    if (!sweep->is_quick)
        (void)sweep_durations(sweep, base, fault);
}

static void sweep_only(struct sweep *sweep, const struct run *base)
{
    struct fault fault;

    if (!fault_parse(sweep->only_fault, &fault)) {
        printf("no fault: %s\n", sweep->only_fault);
        exit(2);
    }
    if (!sweep_run(sweep, base, &fault) && fault.kind != 0)
        printf("%s is not reached\n", sweep->only_fault);
}

static void sweep_threaded(struct sweep *sweep, const struct run *base)
{
    struct fault fault = {.kind = FAULT_THREAD};

    (void)sweep_durations(sweep, base, fault);
    fault = (struct fault){.kind = FAULT_MEMORY, .at = 1, .sticky = true};
    (void)sweep_run(sweep, base, &fault);
}

static void sweep_all(struct sweep *sweep, const struct run *base)
{
    const struct fault none = {.kind = 0};

    (void)sweep_run(sweep, base, &none);
    if ((sweep->scenario->flags & SCENARIO_IS_THREADED) != 0) {
        sweep_threaded(sweep, base);
        return;
    }
    for (size_t i = 0; i < fault_kind_count; i++) {
        if (fault_kinds[i].kind != FAULT_THREAD)
            sweep_kind(sweep, base, &fault_kinds[i]);
    }
    sweep_short(sweep, base);
}

void sweep_faults(struct sweep *sweep)
{
    struct run *base = sweep_prepare(sweep);

    sweep->violations += base->violations;
    if (sweep->only_fault != NULL)
        sweep_only(sweep, base);
    else
        sweep_all(sweep, base);
    run_free(base);
}
