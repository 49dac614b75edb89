/* SPDX-License-Identifier: MIT */
/*
 * call_order.c - the same operations on the real file system and on the simulated disk, so that
 * call_order.py can compare which file calls they lead to, in which order.
 *
 *     call_order simulated MODE                     prints the trace (simdisk_trace())
 *     call_order real MODE write DIRECTORY          works, then ends without closing
 *     call_order real MODE recover DIRECTORY        opens what the former left, works, closes
 *
 * MODE is always, no-direct (always, on a file system without direct writes), interval or none.
 * The simulated run does both phases, with a killed process between them.
 *
 * What could differ by chance is taken from here on both sides: clocks, random bytes, the room
 * on the disk, the order of a directory's entries. No threads.
 */
#include "simdisk.h"
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_MAX 256u

static struct tkv_os *real_os;  /* the table that the real world gave */
static struct tkv_os simulated; /* the functions that the simulated disk had */
static uint64_t ticks;
static bool is_simulated, no_direct;

static _Noreturn void stop(const char *what)
{
    fprintf(stderr, "call_order: %s\n", what);
    exit(1);
}

/* ---- What must not differ ---------------------------------------------------------------- */

static int fixed_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    (void)os;
    *ret_ms = UINT64_C(1700000000000) + ticks++;
    return 0;
}

static int fixed_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    (void)os;
    *ret_us = 1000 + ticks++;
    return 0;
}

static int fixed_random(struct tkv_os *os, void *buffer, size_t size)
{
    (void)os;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)(ticks++ * 167 + 13);
    return 0;
}

static int fixed_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    (void)os, (void)dir;
    *ret_info = (struct tkv_os_fs_info){.free_bytes = UINT64_C(1) << 30,
                                        .total_bytes = UINT64_C(1) << 31};
    return 0;
}

struct names {
    char *names[NAMES_MAX];
    size_t count;
};

static void keep_name(void *context, const char *name)
{
    struct names *n = context;

    if (n->count == NAMES_MAX || (n->names[n->count++] = strdup(name)) == NULL)
        stop("too many names");
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sorted_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    struct names n = {.count = 0};
    const int result = is_simulated ? simulated.list(os, dir, keep_name, &n)
                                    : real_os->list(real_os, dir, keep_name, &n);

    qsort(n.names, n.count, sizeof n.names[0], compare);
    for (size_t i = 0; i < n.count; i++) {
        fn(context, n.names[i]);
        free(n.names[i]);
    }
    return result;
}

static int open_without_direct(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    (void)os;
    if (flags & TKV_OS_DIRECT_SYNC && no_direct)
        return -EINVAL;
    return real_os->open(real_os, dir, name, flags);
}

static void fix(struct tkv_os *os)
{
    os->wall_clock_ms = fixed_wall_clock_ms;
    os->monotonic_us = fixed_monotonic_us;
    os->random = fixed_random;
    os->fs_info = fixed_fs_info;
    os->list = sorted_list;
}

/* ---- The operations ---------------------------------------------------------------------- */

static struct tkv_options options_of(const char *mode)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    if (strcmp(mode, "interval") == 0)
        options.durability = TKV_DURABILITY_INTERVAL;
    else if (strcmp(mode, "none") == 0)
        options.durability = TKV_DURABILITY_NONE;
    else if (strcmp(mode, "always") != 0 && strcmp(mode, "no-direct") != 0)
        stop("no such mode");
    no_direct = strcmp(mode, "no-direct") == 0;
    options.interval_ms = 1; /* of the clock above */
    options.background = false;
    options.wal_size_max = 128 * 1024;
    options.data_file_size_min = 64 * 1024;
    options.compact_size_min = 0;
    return options;
}

static void must(enum tkv_status status, const struct tkv_error *err)
{
    if (status != TKV_OK)
        stop(err->message);
}

static void put(struct tkv_store *store, unsigned key, size_t size)
{
    static uint8_t value[100000];
    struct tkv_error err;
    char name[32];

    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)(i * 31 + key + i / 256);
    snprintf(name, sizeof name, "key %u", key);
    must(tkv_put(store, tkv_text(name), tkv_bytes(value, size), &err), &err);
}

static void write_batch(struct tkv_store *store, unsigned first)
{
    struct tkv_batch *batch;
    struct tkv_error err;
    char name[32];

    must(tkv_batch_new(&batch, &err), &err);
    for (unsigned i = first; i < first + 20; i++) {
        snprintf(name, sizeof name, "key %u", i);
        if (i % 5 == 0)
            must(tkv_batch_delete(batch, tkv_text(name), &err), &err);
        else
            must(tkv_batch_put(batch, tkv_text(name), tkv_text("in a batch"), &err), &err);
    }
    must(tkv_write(store, batch, &err), &err);
    tkv_batch_free(batch);
}

/* Fill, overwrite, delete, rotate, go around the log, large values, compact. */
static void work(struct tkv_store *store)
{
    struct tkv_error err;

    for (unsigned i = 0; i < 300; i++)
        put(store, i % 60, 20 + i * 37 % 3000);
    put(store, 7, 90000);
    put(store, 8, 60000);
    write_batch(store, 0);
    must(tkv_sync(store, &err), &err);
    for (unsigned i = 0; i < 40; i++)
        put(store, i % 10, 5000);
    must(tkv_put_expiring(store, tkv_text("brief"), tkv_text("v"), 1700000000001, &err),
         &err);
    must(tkv_checkpoint(store, &err), &err);
    must(tkv_delete(store, tkv_text("key 7"), NULL, &err), &err);
    must(tkv_compact(store, NULL, &err), &err);
    write_batch(store, 30);
    for (unsigned i = 0; i < 25; i++)
        put(store, 100 + i, 700);
}

static struct tkv_store *open_store(struct tkv_os *os, const char *mode, const char *path)
{
    const struct tkv_options options = options_of(mode);
    struct tkv_store *store;
    struct tkv_error err;

    must(tkv_open_on(os, path, &options, &store, NULL, &err), &err);
    return store;
}

static void recover_and_close(struct tkv_os *os, const char *mode, const char *path)
{
    struct tkv_store *store = open_store(os, mode, path);
    struct tkv_error err;

    work(store);
    must(tkv_close(store, &err), &err);
}

/* ---- The two worlds ---------------------------------------------------------------------- */

static int run_real(const char *mode, const char *phase, const char *path)
{
    static struct tkv_os os;

    real_os = tkv_os_posix();
    os = *real_os;
    fix(&os);
    os.open = open_without_direct;
    if (strcmp(phase, "write") == 0)
        work(open_store(&os, mode, path));
    else
        recover_and_close(&os, mode, path);
    _exit(0);
}

static void print_trace(struct simdisk *disk)
{
    if (disk->trace != NULL)
        fputs(disk->trace, stdout);
}

static int run_simulated(const char *mode)
{
    struct simdisk *disk = simdisk_new(1), *after;

    is_simulated = true;
    simulated = disk->os;
    fix(&disk->os);
    (void)options_of(mode);
    disk->no_direct_sync = no_direct;
    simdisk_trace(disk);
    work(open_store(&disk->os, mode, "store"));
    print_trace(disk);
    after = simdisk_survivor(disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    fix(&after->os);
    ticks = 0;
    simdisk_trace(after);
    recover_and_close(&after->os, mode, "store");
    print_trace(after);
    fflush(stdout);
    _exit(0); /* the first store was not closed, as a killed process closes none */
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "simulated") == 0)
        return run_simulated(argv[2]);
    if (argc == 5 && strcmp(argv[1], "real") == 0)
        return run_real(argv[2], argv[3], argv[4]);
    fprintf(stderr,
            "usage: call_order simulated MODE | real MODE write|recover DIRECTORY\n");
    return 2;
}
