/* SPDX-License-Identifier: MIT */
/*
 * demo.c - the promises, shown on real files: fill a store, write half of it again several
 * times so that compaction runs by itself, kill a writer in the middle of its work (more than
 * once), recover, compare every value with its source, delete half and watch the directory
 * shrink. Exits with 0 only when every comparison was right.
 *
 *     tinykv-demo [DIRECTORY...]     files to store; /usr/include and /usr/share/doc
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "../examples/scratch.h"
#include "clock.h"
#include "complain.h"
#include "demo_crash.h"
#include "demo_data.h"

#define MB              1e6
#define TREE_BYTES_MAX  UINT64_C(200000000)
#define REWRITE_FOR_MS  10000
#define SHRINK_LIMIT_MS 15000

enum { REWRITES = 4, KILLS = 3 };

struct demo {
    struct demo_data data;
    char directory[4096];
    struct tkv_store *store; /* NULL while closed */
    uint64_t round;
    /* Of the times that the store was open here; what a killed writer did is not counted. */
    uint64_t user_bytes, data_bytes, compactions;
    uint64_t recovery_micros_max, replayed;
    size_t kills, acknowledged; /* writers killed, and what they had acknowledged */
    size_t wrong;
};

/* Zeros when it fails: the counters are for show. */
static struct tkv_stats stats_of(struct tkv_store *store)
{
    struct tkv_stats stats;
    struct tkv_error err;

    if (tkv_stats(store, &stats, &err) == TKV_OK)
        return stats;
    (void)complain_of(&err);
    return (struct tkv_stats){0};
}

/* ---- The table ------------------------------------------------------------------- */

/* What the files of the store occupy: all of them, and of those the log. */
static void measure(const char *directory, double *ret_all, double *ret_log)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    *ret_all = *ret_log = 0;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        struct stat info;
        double size;

        if (fstatat(dirfd(stream), entry->d_name, &info, 0) != 0 || !S_ISREG(info.st_mode))
            continue;
        size = 512.0 * (double)info.st_blocks;
        *ret_all += size;
        if (strcmp(entry->d_name, "wal.log") == 0)
            *ret_log += size;
    }
    if (stream != NULL)
        (void)closedir(stream);
}

static void print_row(struct demo *demo, const char *what)
{
    const struct tkv_stats stats = stats_of(demo->store);
    double all, log, user, data;

    measure(demo->directory, &all, &log);
    user = (double)(demo->user_bytes + stats.user_bytes_written);
    data = (double)(demo->data_bytes + stats.data_bytes_written);
    printf("%-24s %9" PRIu64 " %9.1f %9.1f %9.1f %9.1f %7" PRIu64 " %8.2f\n", what,
           stats.keys, user / MB, (double)stats.live_bytes / MB, (all - log) / MB, log / MB,
           demo->compactions + stats.compactions, user > 0 ? data / user : 0);
    fflush(stdout);
}

static void print_head(const struct demo *demo)
{
    printf("%zu files of %.1f MB, stored in %s\n\n", demo->data.tree.count,
           (double)demo->data.tree.bytes / MB, demo->directory);
    printf("%-24s %9s %9s %9s %9s %9s %7s %8s\n", "", "", "written", "live", "data", "log",
           "compac-", "write");
    printf("%-24s %9s %9s %9s %9s %9s %7s %8s\n", "", "records", "MB", "MB", "files MB",
           "MB", "tions", "amplif.");
}

static void print_end(const struct demo *demo)
{
    printf("\n%-40s %zu\n", "writers killed", demo->kills);
    printf("%-40s %zu\n", "writes they had acknowledged", demo->acknowledged);
    printf("%-40s %" PRIu64 "\n", "records replayed from the log", demo->replayed);
    printf("%-40s %.1f ms\n", "longest recovery", (double)demo->recovery_micros_max / 1000);
    if (demo->data.skipped > 0)
        printf("%-40s %zu\n", "source files that changed, not compared",
               demo->data.skipped);
    printf("%-40s %zu\n", "lost acknowledged writes", demo->wrong);
}

/* ---- Steps; each returns false after complaining --------------------------------- */

static bool succeeded(enum tkv_status status, const struct tkv_error *err)
{
    if (status != TKV_OK)
        (void)complain_of(err);
    return status == TKV_OK;
}

static bool open_store(struct demo *demo, struct tkv_open_report *ret_report)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_error err;

    return succeeded(tkv_open(demo->directory, &options, &demo->store, ret_report, &err),
                     &err);
}

static bool close_store(struct demo *demo)
{
    const struct tkv_stats stats = stats_of(demo->store);
    struct tkv_error err;
    enum tkv_status status;

    demo->user_bytes += stats.user_bytes_written;
    demo->data_bytes += stats.data_bytes_written;
    demo->compactions += stats.compactions;
    status = tkv_close(demo->store, &err);
    demo->store = NULL;
    return succeeded(status, &err);
}

static bool verify(struct demo *demo, size_t in_flight)
{
    const size_t wrong = demo_data_verify(&demo->data, demo->store, in_flight, demo->round);

    demo->wrong += wrong;
    return wrong == 0;
}

static bool fill_and_rewrite(struct demo *demo)
{
    const uint64_t begun_ms = clock_steady_ms();
    struct tkv_open_report report;
    struct tkv_error err;
    char what[32];

    if (!open_store(demo, &report))
        return false;
    for (int i = 0; i <= REWRITES; i++) {
        if (i > 2 && clock_steady_ms() - begun_ms > REWRITE_FOR_MS)
            break; /* a slow disk; enough has been shown */
        demo->round++;
        if (!succeeded(demo_data_write(&demo->data, demo->store, demo->round, &err), &err))
            return false;
        snprintf(what, sizeof what, i == 0 ? "filled" : "half of it again, %d", i);
        print_row(demo, what);
    }
    return verify(demo, SIZE_MAX) && close_store(demo);
}

static bool kill_and_recover(struct demo *demo, size_t kill_after)
{
    struct tkv_open_report report;
    struct demo_crash crash;
    char what[32];

    demo->round++;
    if (!demo_crash(&demo->data, demo->directory, demo->round, kill_after, &crash))
        return false;
    if (!crash.was_killed) {
        complain("the writer ended by itself after %zu writes", crash.acknowledged);
        return false;
    }
    if (!open_store(demo, &report))
        return false;
    demo->kills++;
    demo->acknowledged += crash.acknowledged;
    demo->replayed += report.records_replayed;
    if (report.micros > demo->recovery_micros_max)
        demo->recovery_micros_max = report.micros;
    if (!verify(demo, crash.acknowledged))
        return false;
    snprintf(what, sizeof what, "killed at %zu", crash.acknowledged);
    print_row(demo, what);
    return close_store(demo);
}

/* The bound that the store promises for its data files. */
static bool has_shrunk(struct demo *demo)
{
    const struct tkv_options options = TKV_OPTIONS_DEFAULT;
    const struct tkv_stats stats = stats_of(demo->store);

    return (double)stats.disk_bytes <= options.space_factor * (double)stats.live_bytes +
                                           (double)options.data_file_size_min;
}

static bool delete_half(struct demo *demo)
{
    const uint64_t begun_ms = clock_steady_ms();
    struct tkv_open_report report;
    struct tkv_error err;

    if (!open_store(demo, &report) ||
        !succeeded(demo_data_delete_half(&demo->data, demo->store, &err), &err))
        return false;
    print_row(demo, "half deleted");
    while (!has_shrunk(demo)) {
        if (clock_steady_ms() - begun_ms > SHRINK_LIMIT_MS) {
            print_row(demo, "still");
            complain("the directory has not shrunk in %d s", SHRINK_LIMIT_MS / 1000);
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    print_row(demo, "compacted");
    return verify(demo, SIZE_MAX) && close_store(demo);
}

static bool run(struct demo *demo)
{
    bool good;

    print_head(demo);
    good = fill_and_rewrite(demo);
    for (size_t i = 1; i <= KILLS && good; i++)
        good = kill_and_recover(demo, 1 + i * demo->data.tree.count / (2 * (KILLS + 1)));
    good = good && delete_half(demo);
    print_end(demo);
    if (!good && demo->store != NULL)
        (void)tkv_close(demo->store, NULL);
    return good;
}

/* Every byte is there several times over, so stay well below what is free. */
static uint64_t tree_bytes_max(const char *directory)
{
    struct statvfs info;
    uint64_t sixth;

    if (statvfs(directory, &info) != 0)
        return TREE_BYTES_MAX;
    sixth = (uint64_t)info.f_bavail * info.f_frsize / 6;
    return sixth < TREE_BYTES_MAX ? sixth : TREE_BYTES_MAX;
}

int main(int argc, char **argv)
{
    static const char *const roots[] = {"/usr/include", "/usr/share/doc"};
    const char *const *chosen = argc > 1 ? (const char *const *)(argv + 1) : roots;
    struct demo demo = {0};
    bool good;

    if (!scratch_make(demo.directory, sizeof demo.directory))
        return complain_errno(errno, "create %s", demo.directory);
    good = demo_data_init(&demo.data, chosen, argc > 1 ? (size_t)argc - 1 : 2,
                          tree_bytes_max(demo.directory));
    good = good && run(&demo);
    demo_data_release(&demo.data);
    scratch_remove(demo.directory);
    return good ? DONE : NOT_THERE;
}
