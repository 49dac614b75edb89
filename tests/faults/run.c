/* SPDX-License-Identifier: MIT */
#include "run.h"

#include "memory.h"
#include "scenario.h"
#include "store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define VIOLATIONS_PRINTED 3u /* of one run */

static void note_event(void *context, const struct tkv_event *event)
{
    struct run *run = context;

    if (event->kind == TKV_EVENT_CORRUPTION && event->status != TKV_IO)
        run_violation(run, "an event calls data file %llu damaged (%s)",
                      (unsigned long long)event->file, tkv_status_text(event->status));
}

/* ---- Making one ------------------------------------------------------------------ */

static void note_broken_rule(struct simdisk *disk, const char *message)
{
    run_violation(disk->context, "broken rule: %s", message);
}

struct run *run_new(const struct scenario *scenario, struct simdisk *disk,
                    struct oracle *oracle, const struct tkv_options *options)
{
    struct run *run = calloc(1, sizeof *run);

    if (run == NULL)
        abort(); /* a test without memory stops */
    run->scenario = scenario;
    run->disk = disk;
    run->oracle = oracle;
    run->options = *options;
    run->options.on_event = note_event;
    run->options.event_context = run;
    disk->context = run;
    disk->violated = note_broken_rule;
    disk->fail_kinds = 0;
    return run;
}

struct run *run_copy(const struct run *base, const struct fault *fault)
{
    struct oracle *oracle =
        oracle_recovered(base->oracle, base->oracle->issued, base->options.durability);
    struct run *run =
        run_new(base->scenario, simdisk_clone(base->disk), oracle, &base->options);

    oracle->acked = base->oracle->acked;
    oracle->durable = base->oracle->durable;
    memcpy(run->unknown, base->unknown, sizeof run->unknown);
    run->fault = *fault;
    run->crash = base->crash;
    return run;
}

void run_free(struct run *run)
{
    if (run == NULL)
        return;
    simdisk_free(run->disk);
    oracle_free(run->oracle);
    free(run);
}

/* ---- The fault ------------------------------------------------------------------- */

void run_arm(struct run *run)
{
    const struct fault *f = &run->fault;

    if (run->armed)
        return;
    run->armed = true;
    run->disk->io_size_max = f->io_size_max;
    memory_arm(0, false);
    if (f->kind == 0)
        return;
    if (f->kind == FAULT_MEMORY) {
        memory_arm(f->at, f->sticky);
    } else if (f->kind == FAULT_THREAD) {
        memory_arm_threads(f->at, f->sticky);
    } else {
        run->disk->fail_kinds = f->kind;
        run->disk->fail_errno = f->os_errno;
        run->disk->fail_sticky = f->sticky;
        run->disk->failed_sync = f->failed_sync;
        run->disk->drops_cache = f->drops_cache;
        run->disk->failed_rename_happens =
            f->kind == SIMDISK_RENAME && f->failed_sync == SIMDISK_FAILED_SYNC_KEEPS;
        run->disk->fail_count = 0;
        run->disk->fail_at = f->at;
    }
}

void run_disarm(struct run *run)
{
    run->disk->fail_at = 0;
    run->disk->fail_kinds = 0;
    run->disk->io_size_max = 0;
    memory_disarm();
}

void run_pause(struct run *run, bool paused)
{
    memory_pause(paused);
    if (!run->armed || run->fault.kind >= FAULT_MEMORY)
        return;
    run->disk->fail_kinds = paused || run->disk->fail_at == 0 ? 0 : run->fault.kind;
}

bool run_is_hit(const struct run *run)
{
    return run->armed && (run->disk->faults > 0 || memory_refused() > 0);
}

/* ---- Judging --------------------------------------------------------------------- */

void run_violation(struct run *run, const char *format, ...)
{
    char fault[FAULT_TEXT_SIZE];
    va_list arguments;

    if (run->crashes || run->violations++ >= VIOLATIONS_PRINTED)
        return;
    fault_print(&run->fault, fault);
    printf("VIOLATION %s: ", run->scenario->name);
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    printf("\n    ./run faults --scenario %s%s%s --fault %s\n", run->scenario->name,
           run->crash != NULL ? " --crash " : "", run->crash != NULL ? run->crash : "",
           fault);
    fflush(stdout);
}

static bool is_explained(const struct run *run, enum tkv_status status)
{
    const struct fault *f = &run->fault;
    const bool of_memory = f->kind >= FAULT_MEMORY;
    const bool of_space = f->os_errno == ENOSPC || f->os_errno == EDQUOT;
    const unsigned poisonous = SIMDISK_SYNC | SIMDISK_SYNC_DIR | SIMDISK_RENAME |
                               SIMDISK_WRITE | SIMDISK_WRITE_BACK;

    switch (status) {
    case TKV_NO_MEMORY:
        return of_memory || f->os_errno == ENOMEM;
    case TKV_NO_SPACE:
        return of_space || run->disk_is_full || run->disk_was_full;
    case TKV_IO:
        return !of_memory;
    case TKV_POISONED:
        return (f->kind & poisonous) != 0;
    case TKV_BUSY:
        return f->kind == SIMDISK_LOCK && f->os_errno == EAGAIN;
    case TKV_CORRUPT:
        return (f->kind & (SIMDISK_SYNC | SIMDISK_WRITE_BACK)) != 0 &&
               f->failed_sync == SIMDISK_FAILED_SYNC_REVERTS;
    default:
        return false;
    }
}

/* The file, or the thing that has no name. */
static bool names_its_subject(const struct tkv_error *err)
{
    static const char *const subjects[] = {
        "clock",         "random numbers", "directory", "file system",
        "out of memory", "the disk",       "disk is",   "no space",
        "group failed",  "open again",     "open in",   "open the store"};

    if (err->file[0] != 0 && strstr(err->message, err->file) != NULL)
        return true;
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
        if (strstr(err->message, subjects[i]) != NULL)
            return true;
    }
    return false;
}

void run_judge(struct run *run, const char *what, enum tkv_status status,
               enum tkv_status expected, const struct tkv_error *err)
{
    if (status == expected)
        return;
    if (!run_is_hit(run) && !(run->disk_is_full && status == TKV_NO_SPACE)) {
        run_violation(run, "%s is %s without a fault: %s", what, tkv_status_text(status),
                      status == TKV_OK ? "" : err->message);
        return;
    }
    if (status == TKV_OK) {
        run_violation(run, "%s succeeds instead of being %s", what,
                      tkv_status_text(expected));
        return;
    }
    if (!is_explained(run, status))
        run_violation(run, "%s is %s, which this fault does not explain: %s", what,
                      tkv_status_text(status), err->message);
    if (err->status != status)
        run_violation(run, "%s is %s, but its error says %s", what, tkv_status_text(status),
                      tkv_status_text(err->status));
    if (!names_its_subject(err))
        run_violation(run, "%s: the message names nothing: \"%s\" (file \"%s\")", what,
                      err->message, err->file);
    if (status == TKV_IO && err->os_errno != run->fault.os_errno &&
        strstr(err->message, "group failed") == NULL)
        run_violation(run, "%s: errno %d, not %d: %s", what, err->os_errno,
                      run->fault.os_errno, err->message);
}

/* ---- Opening and closing --------------------------------------------------------- */

/* Which of the writes of unknown outcome are there is known now. */
static void settle_unknown(struct run *run)
{
    struct oracle_report why;
    struct oracle_found found;

    run_pause(run, true);
    if (!oracle_read(run->store, &found, &why) ||
        !run_match(run, &found, run->oracle->acked, true, &why))
        run_violation(run, "opened, it is wrong: %s", why.text);
    run->oracle->acked = run->oracle->durable = run->oracle->issued;
    run_pause(run, false);
}

bool run_open(struct run *run)
{
    struct tkv_error err = {.message = ""};
    enum tkv_status status =
        tkv_open_on(&run->disk->os, "store", &run->options, &run->store, NULL, &err);

    run_judge(run, "open", status, TKV_OK, &err);
    if (status != TKV_OK) {
        run->store = NULL;
        return false;
    }
    if (!run->options.read_only && run->oracle->issued > run->oracle->durable)
        settle_unknown(run);
    return true;
}

void run_close(struct run *run)
{
    struct tkv_error err = {.message = ""};

    if (run->store == NULL)
        return;
    run_judge(run, "close", oracle_close(run->oracle, run->store, &err), TKV_OK, &err);
    run->store = NULL;
}

/* ---- Writing --------------------------------------------------------------------- */

/* How far the oracle was before a write. */
struct before {
    size_t acked, durable;
    bool crashed;
};

static struct before note_before(const struct run *run)
{
    return (struct before){run->oracle->acked, run->oracle->durable, run->disk->crashed};
}

static void take_back(struct run *run, const struct before *before)
{
    run->oracle->acked = before->acked;
    run->oracle->durable = before->durable;
}

static void note_write(struct run *run, const char *what, enum tkv_status status,
                       const struct before *before, const struct tkv_error *err)
{
    const size_t op = run->oracle->issued - 1;

    if (op >= RUN_WRITES_MAX)
        abort();
    run->unknown[op] = status == TKV_IO;
    /* What a dead process answers is heard by nobody; a store does not even notice. */
    if (run->disk->crashed) {
        take_back(run, before);
        run->unknown[op] = !before->crashed;
        run->oracle->ops[op].is_out = before->crashed;
    }
    /* What an oracle of mode INTERVAL takes for synced was not when the sync failed. */
    if (run->options.durability == TKV_DURABILITY_INTERVAL && run_is_hit(run))
        run->oracle->durable = before->durable;
    run_judge(run, what, status, TKV_OK, err);
}

static void put(struct run *run, unsigned key, uint32_t size, unsigned flags,
                uint64_t expires_at_ms)
{
    const struct before before = note_before(run);
    struct tkv_error err = {.message = ""};
    const enum tkv_status status =
        oracle_put(run->oracle, run->store, key, size, flags, expires_at_ms,
                   &run->disk->monotonic_us, &err);

    note_write(run, "put", status, &before, &err);
}

void run_put(struct run *run, unsigned key, uint32_t size)
{
    put(run, key, size, 0, ORACLE_NEVER);
}

void run_put_squeezable(struct run *run, unsigned key, uint32_t size)
{
    put(run, key, size, ORACLE_SQUEEZABLE, ORACLE_NEVER);
}

void run_put_expiring(struct run *run, unsigned key, uint32_t size, uint64_t expires_at_ms)
{
    put(run, key, size, 0, expires_at_ms);
}

void run_delete(struct run *run, unsigned key)
{
    const struct before before = note_before(run);
    struct tkv_error err = {.message = ""};
    const enum tkv_status status =
        oracle_delete(run->oracle, run->store, key, &run->disk->monotonic_us, &err);

    note_write(run, "delete", status, &before, &err);
}

void run_batch(struct run *run, const struct oracle_item *items, size_t count)
{
    const struct before before = note_before(run);
    struct tkv_error err = {.message = ""};
    const enum tkv_status status =
        oracle_batch(run->oracle, run->store, items, count, &run->disk->monotonic_us, &err);

    note_write(run, "batch", status, &before, &err);
}

/* ---- Upkeep ---------------------------------------------------------------------- */

void run_sync(struct run *run)
{
    const struct before before = note_before(run);
    struct tkv_error err = {.message = ""};

    run_judge(run, "sync", oracle_sync(run->oracle, run->store, &err), TKV_OK, &err);
    if (run->disk->crashed)
        take_back(run, &before);
}

void run_checkpoint(struct run *run)
{
    struct tkv_error err = {.message = ""};

    run_judge(run, "checkpoint", oracle_checkpoint(run->oracle, run->store, &err), TKV_OK,
              &err);
}

void run_compact(struct run *run)
{
    struct tkv_error err = {.message = ""};

    run_judge(run, "compact", tkv_compact(run->store, NULL, &err), TKV_OK, &err);
}
