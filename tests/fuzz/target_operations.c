/* SPDX-License-Identifier: MIT */
/*
 * The input as a program: operations on a store on the simulated disk, faults, kills and power
 * cuts, with the oracle as the judge (tests/oracle.h).
 *
 *     settings u8 | operations, see run_operation()
 *
 *     settings bits 0, 1: durability    bit 2: read with pread    bit 3: compress
 *              bit 4: begin with an empty disk, so that creation can be cut, too
 *
 * After every crash the store is a prefix of what was written, with everything that was
 * promised: all that was acknowledged after a kill, all that was durable after a power cut or
 * a fault. It opens whenever no fault forbids it, and nothing but an injected fault fails.
 */
#include "checksums.h"
#include "fuzz.h"
#include "memory.h"
#include "oracle.h"
#include "simdisk.h"
#include "store.h"

#include <errno.h>

#define OPERATIONS_MAX 32u
#define WALL_MS_FIRST  UINT64_C(1700000000000)

struct run {
    struct fuzz_input in;
    struct simdisk *disk;
    struct oracle *oracle;
    struct tkv_options options;
    struct tkv_store *store;
    bool had_fault;                      /* in this life */
    size_t acked_before, durable_before; /* the operation that runs */
    struct tkv_error err;
};

/* ---- Opening and judging ------------------------------------------------------------------- */

static struct tkv_options take_options(unsigned settings)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = options.data_file_size_max = 64 * 1024;
    options.compact_size_min = 0;
    options.durability = (enum tkv_durability)((settings & 3) % 3);
    options.read_mode = (settings & 4) != 0 ? TKV_READ_PREAD : TKV_READ_MMAP;
    options.compress_level = (settings & 8) != 0 ? 1 : 0;
    return options;
}

static void end_faults(struct run *run)
{
    run->had_fault = run->had_fault || run->disk->faults > 0;
    run->disk->fail_at = 0;
    run->disk->fail_count = 0;
    run->disk->faults = 0;
    run->disk->crash_at = 0; /* nor is there a crash while the store is judged */
}

/* With the faults that are set; what fails for them leaves nothing open. */
static bool open_once(struct run *run)
{
    const enum tkv_status status =
        tkv_open_on(&run->disk->os, "", &run->options, &run->store, NULL, &run->err);

    if (status == TKV_OK)
        return true;
    run->store = NULL;
    FUZZ_CHECK_SAYING(run->disk->faults > 0 || run->disk->crashed, run->err.message);
    FUZZ_CHECK_SAYING(status == TKV_IO || status == TKV_NO_SPACE ||
                          status == TKV_NO_MEMORY || status == TKV_UNSUPPORTED ||
                          status == TKV_CORRUPT,
                      run->err.message);
    FUZZ_CHECK(run->disk->crashed || simdisk_open_count(run->disk) == 0);
    return false;
}

/* Replace the disk by what survives of it. */
static void survive(struct run *run, enum simdisk_model model, uint64_t choice)
{
    struct simdisk *after = simdisk_survivor(run->disk, model, choice, SIMDISK_PAGE);

    simdisk_free(run->disk);
    run->disk = after;
}

static void judge(struct run *run, size_t least)
{
    struct oracle_found found;
    struct oracle_report why;
    struct oracle *before = run->oracle;
    size_t prefix;

    FUZZ_CHECK_SAYING(oracle_read(run->store, &found, &why), why.text);
    FUZZ_CHECK_SAYING(oracle_match(before, &found, least, before->issued,
                                   run->disk->wall_ms, &prefix, &why),
                      why.text);
    run->oracle = oracle_recovered(before, prefix, run->options.durability);
    oracle_free(before);
}

/* The store is closed, or as good as: open it again. `least`: what must be there. */
static void open_again(struct run *run, size_t least)
{
    if (!open_once(run)) {
        /* A fault hit the recovery: again, without it. */
        if (run->disk->crashed)
            survive(run, SIMDISK_KILLED, 0);
        end_faults(run);
        FUZZ_CHECK_SAYING(open_once(run), run->err.message);
    }
    if (run->disk->crashed) {
        (void)tkv_close(run->store, &run->err);
        survive(run, SIMDISK_KILLED, 0);
        FUZZ_CHECK_SAYING(open_once(run), run->err.message);
    }
    end_faults(run);
    judge(run, least);
    run->had_fault = false;
}

/* ---- Crashes ------------------------------------------------------------------------------- */

static void crash(struct run *run, enum simdisk_model model, uint64_t choice)
{
    struct simdisk *after;
    size_t least;

    end_faults(run);
    least = model == SIMDISK_KILLED && !run->had_fault ? run->oracle->acked
                                                       : run->oracle->durable;
    after = simdisk_survivor(run->disk, model, choice, SIMDISK_PAGE);
    (void)tkv_close(run->store, &run->err); /* of the world that has ended */
    FUZZ_CHECK(run->disk->crashed || simdisk_open_count(run->disk) == 0);
    simdisk_free(run->disk);
    run->disk = after;
    open_again(run, least);
}

static void take_crash(struct run *run)
{
    static const enum simdisk_model models[] = {
        SIMDISK_KILLED, SIMDISK_NOTHING_PENDING, SIMDISK_PREFIX,    SIMDISK_SUBSET,
        SIMDISK_TORN,   SIMDISK_TRASHED,         SIMDISK_SIZE_ONLY, SIMDISK_ENTRIES_LOST,
        SIMDISK_MASK,   SIMDISK_KILLED};
    const enum simdisk_model model =
        models[fuzz_u8(&run->in) % (sizeof models / sizeof models[0])];
    uint64_t choice = fuzz_u32(&run->in);

    if (model == SIMDISK_PREFIX)
        choice %= simdisk_pending_count(run->disk, SIMDISK_PAGE) + 1;
    crash(run, model, choice);
}

static bool is_poisoned(struct run *run)
{
    struct tkv_stats stats;

    FUZZ_CHECK(tkv_stats(run->store, &stats, &run->err) == TKV_OK);
    return stats.poisoned != TKV_OK;
}

/* After each call: nothing fails without a reason, and what fails has its consequences. */
static void settle(struct run *run, enum tkv_status status)
{
    if (run->disk->crashed) {
        /* A store into a mapping cannot fail: what was acknowledged since was not. */
        run->oracle->acked = run->acked_before;
        run->oracle->durable = run->durable_before;
        take_crash(run);
        return;
    }
    run->had_fault = run->had_fault || run->disk->faults > 0;
    if (status == TKV_OK)
        return;
    FUZZ_CHECK_SAYING(run->had_fault || status == TKV_TOO_BIG, run->err.message);
    FUZZ_CHECK_SAYING(status != TKV_INVALID && status != TKV_BUSY &&
                          status != TKV_READ_ONLY,
                      run->err.message);
    /* The outcome is unknown until the store is opened again. */
    if (status == TKV_IO && !is_poisoned(run))
        crash(run, SIMDISK_KILLED, 0);
}

/* ---- Operations ---------------------------------------------------------------------------- */

static struct oracle_item take_item(struct run *run)
{
    const unsigned what = fuzz_u8(&run->in), size = fuzz_u8(&run->in);
    struct oracle_item item = {.key = what % ORACLE_KEYS, .size = size};

    if (size > 200)
        item.size = (size - 200) * (size > 250 ? 4000u : 80u);
    item.flags = what >= 128 ? ORACLE_SQUEEZABLE : 0;
    return item;
}

static void run_put(struct run *run, bool expires)
{
    const struct oracle_item item = take_item(run);
    const uint64_t expires_at_ms =
        expires ? run->disk->wall_ms + (uint64_t)fuzz_u8(&run->in) * 10 + 1 : ORACLE_NEVER;

    settle(run, oracle_put(run->oracle, run->store, item.key, item.size, item.flags,
                           expires_at_ms, &run->disk->monotonic_us, &run->err));
}

static void run_batch(struct run *run)
{
    struct oracle_item items[ORACLE_BATCH_MAX];
    const size_t count = 1 + fuzz_u8(&run->in) % ORACLE_BATCH_MAX;

    for (size_t i = 0; i < count; i++) {
        items[i] = take_item(run);
        items[i].is_delete = items[i].size % 5 == 4;
        items[i].size = items[i].is_delete ? 0 : items[i].size;
    }
    settle(run, oracle_batch(run->oracle, run->store, items, count,
                             &run->disk->monotonic_us, &run->err));
}

static void run_reopen(struct run *run)
{
    const enum tkv_status status = oracle_close(run->oracle, run->store, &run->err);
    size_t least = run->oracle->acked;

    if (run->disk->crashed) {
        run->oracle->durable = run->durable_before;
        survive(run, SIMDISK_KILLED, 0);
    } else {
        FUZZ_CHECK(simdisk_open_count(run->disk) == 0);
        FUZZ_CHECK_SAYING(status == TKV_OK || run->had_fault || run->disk->faults > 0,
                          run->err.message);
    }
    if (run->had_fault || run->disk->faults > 0)
        least = run->oracle->durable;
    end_faults(run);
    run->options = take_options(fuzz_u8(&run->in));
    open_again(run, least);
}

static void set_fault(struct run *run)
{
    static const unsigned kinds[] = {SIMDISK_FALLIBLE,
                                     SIMDISK_SYNC,
                                     SIMDISK_WRITE,
                                     SIMDISK_OPEN,
                                     SIMDISK_READ,
                                     SIMDISK_RENAME,
                                     SIMDISK_SYNC_DIR,
                                     SIMDISK_UNLINK,
                                     SIMDISK_TRUNCATE,
                                     SIMDISK_MAP,
                                     SIMDISK_CLOSE,
                                     SIMDISK_FILE_SIZE,
                                     SIMDISK_WRITE | SIMDISK_SYNC};
    static const int errors[] = {EIO, ENOSPC, EDQUOT, ENOMEM, EMFILE};
    const unsigned what = fuzz_u8(&run->in);

    run->disk->fail_kinds = kinds[fuzz_u8(&run->in) % (sizeof kinds / sizeof kinds[0])];
    run->disk->fail_errno = errors[what % (sizeof errors / sizeof errors[0])];
    run->disk->fail_sticky = (what & 128) != 0;
    run->disk->failed_sync = (enum simdisk_failed_sync)((what >> 3 & 3) % 3);
    run->disk->fail_at = run->disk->fail_count + 1 + fuzz_u8(&run->in);
}

static void set_crash(struct run *run)
{
    run->disk->crash_kinds = SIMDISK_MUTATING;
    run->disk->crash_at = run->disk->crash_count + 1 + fuzz_u8(&run->in);
    run->disk->crash_cut = fuzz_u16(&run->in);
}

static void read_all(struct run *run)
{
    struct oracle_found found;
    struct oracle_report why;
    size_t prefix;

    end_faults(run);
    if (run->had_fault)
        return; /* pages that the system threw away may be missing until it is opened again */
    FUZZ_CHECK_SAYING(oracle_read(run->store, &found, &why), why.text);
    FUZZ_CHECK_SAYING(oracle_match(run->oracle, &found, run->oracle->acked,
                                   run->oracle->issued, run->disk->wall_ms, &prefix, &why),
                      why.text);
}

static void run_operation(struct run *run)
{
    const unsigned what = fuzz_u8(&run->in) % 16;

    run->acked_before = run->oracle->acked;
    run->durable_before = run->oracle->durable;
    switch (what) {
    case 4:
        settle(run, oracle_delete(run->oracle, run->store, fuzz_u8(&run->in) % ORACLE_KEYS,
                                  &run->disk->monotonic_us, &run->err));
        break;
    case 5:
        run_batch(run);
        break;
    case 6:
        settle(run, oracle_sync(run->oracle, run->store, &run->err));
        break;
    case 7:
        settle(run, oracle_checkpoint(run->oracle, run->store, &run->err));
        break;
    case 8:
        settle(run, tkv_compact(run->store, NULL, &run->err));
        break;
    case 9:
        run_reopen(run);
        break;
    case 10:
        take_crash(run);
        break;
    case 11:
        read_all(run);
        break;
    case 12:
        set_fault(run);
        break;
    case 13:
        set_crash(run);
        break;
    case 14:
        run->disk->wall_ms += fuzz_u16(&run->in);
        run->disk->monotonic_us += UINT64_C(1000) * fuzz_u16(&run->in);
        break;
    default:
        run_put(run, what == 15);
        break;
    }
}

/* ---- A run --------------------------------------------------------------------------------- */

/* The log as small as it can be: it grows on demand, and less of it has to be searched. */
static void shrink_log(struct simdisk *disk)
{
    static const uint64_t size = 16384;
    uint8_t block[TKV_BLOCK_SIZE];

    for (uint64_t at = 0; at < 2 * TKV_BLOCK_SIZE; at += TKV_BLOCK_SIZE) {
        FUZZ_CHECK(simdisk_file_read(disk, "wal.log", block, sizeof block, at) > 0);
        tkv_put_le64(block + 96, size);
        fix_log_header(block, sizeof block);
        FUZZ_CHECK(simdisk_file_write(disk, "wal.log", block, sizeof block, at) > 0);
    }
    FUZZ_CHECK(simdisk_file_truncate(disk, "wal.log", size) >= 0);
}

static struct simdisk *first_disk(bool is_empty)
{
    static struct simdisk *created;
    const struct tkv_options options = take_options(0);
    struct tkv_store *store;
    struct tkv_error err;

    if (is_empty) {
        struct simdisk *disk = simdisk_new(1);

        disk->wall_ms = WALL_MS_FIRST;
        return disk;
    }
    if (created == NULL) {
        created = simdisk_new(1);
        created->wall_ms = WALL_MS_FIRST;
        FUZZ_CHECK(tkv_open_on(&created->os, "", &options, &store, NULL, &err) == TKV_OK);
        FUZZ_CHECK(tkv_close(store, &err) == TKV_OK);
        shrink_log(created);
    }
    return simdisk_clone(created);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {
        .in = {data, size}
    };
    const unsigned settings = fuzz_u8(&run.in);

    simdisk_free(first_disk(false)); /* made once, outside of the account */
    memory_begin();
    run.options = take_options(settings);
    run.disk = first_disk((settings & 16) != 0);
    run.oracle = oracle_new(run.options.durability, 0);
    if ((settings & 16) != 0)
        set_crash(&run);
    open_again(&run, 0);
    for (unsigned i = 0; i < OPERATIONS_MAX && run.in.left > 0; i++)
        run_operation(&run);
    crash(&run, SIMDISK_KILLED, 0);
    FUZZ_CHECK_SAYING(tkv_close(run.store, &run.err) == TKV_OK, run.err.message);
    FUZZ_CHECK(simdisk_open_count(run.disk) == 0);
    simdisk_free(run.disk);
    oracle_free(run.oracle);
    memory_end(SIZE_MAX);
    return 0;
}
