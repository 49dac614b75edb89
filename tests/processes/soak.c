/* SPDX-License-Identifier: MIT */
/*
 * Hours of work in one process must leave no trace but the data: round after round,
 *
 *   a child opens the store, writes from several threads and is killed;
 *   the resident process opens the same store - a recovery -, checks everything that was
 *   acknowledged (workload.h), writes and reads from several threads, compacts, verifies,
 *   measures itself, and closes.
 *
 *     soak [--minutes M] [--seed X] [--threads T]
 *
 * Asserted: nothing lost; as many descriptors at the end as after the first round; the data
 * files within what tinykv.h promises, before and after a compaction; and, when there were
 * enough rounds, resident memory in the last tenth of them no more than in the second tenth (the
 * first is warm-up) plus a tenth and 4 MiB. The medians of the tenths are what is compared, so
 * that one odd round decides nothing.
 */
#include "order_everywhere.h"
#include "workload.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS_MAX      200000u
#define STEPS           1500u
#define ROUNDS_TO_JUDGE 100u /* the allocator's arenas have grown up by then */
#define RSS_SLACK_BYTES (4u << 20)

struct soak {
    struct workload *workload;
    char directory[200];
    uint64_t seed, until_ms;
    double minutes;
    unsigned threads;
    /* Results. */
    unsigned rounds, kills, descriptors_first, descriptors_last;
    double disk_factor_max; /* data files over promise, after a compaction */
    uint64_t rss_bytes[ROUNDS_MAX];
};

/* ---- Measuring --------------------------------------------------------------------------- */

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL || fscanf(file, "%*u %lu", &pages) != 1)
        abort();
    (void)fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned descriptor_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    if (dir == NULL)
        abort();
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void measure_disk(struct soak *soak, struct tkv_store *store,
                         const struct tkv_options *options)
{
    struct tkv_stats stats;
    struct tkv_error err;
    double promised, factor;

    if (tkv_compact(store, NULL, &err) != TKV_OK ||
        tkv_stats(store, &stats, &err) != TKV_OK)
        workload_violation(soak->workload, "compact: %s", err.message);
    promised = options->space_factor * (double)stats.live_bytes +
               (double)options->data_file_size_min;
    factor = (double)stats.disk_bytes / promised;
    if (factor > soak->disk_factor_max)
        soak->disk_factor_max = factor;
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* The median of the n-th tenth of the rounds. */
static uint64_t median_of_tenth(const struct soak *soak, unsigned n)
{
    const size_t first = soak->rounds * n / 10, end = soak->rounds * (n + 1) / 10;
    const size_t count = end > first ? end - first : 1;
    uint64_t *sorted = calloc(count, sizeof *sorted), median;

    if (sorted == NULL)
        abort();
    memcpy(sorted, soak->rss_bytes + first, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    median = sorted[count / 2];
    free(sorted);
    return median;
}

/* ---- One round --------------------------------------------------------------------------- */

static struct tkv_options options_of(const struct soak *soak)
{
    const uint64_t random = workload_mix(soak->seed + soak->rounds);
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.durability = (enum tkv_durability)(random % 3);
    options.interval_ms = 10;
    options.wal_size_max = 1024 * 1024;
    options.data_file_size_min = 256 * 1024;
    options.compact_size_min = 0;
    options.compress_level = (random >> 8) % 2;
    options.read_mode = (random >> 9) % 2 == 0 ? TKV_READ_MMAP : TKV_READ_PREAD;
    return options;
}

static struct tkv_store *open_store(struct soak *soak, const struct tkv_options *options)
{
    struct tkv_store *store;
    struct tkv_error err;

    if (tkv_open(soak->directory, options, &store, NULL, &err) != TKV_OK)
        workload_violation(soak->workload, "open: %s", err.message);
    workload_check(soak->workload, store);
    return store;
}

static void kill_one(struct soak *soak)
{
    const struct tkv_options options = options_of(soak);
    const struct workload_plan plan = {
        .steps = UINT32_MAX,
        .kill_after_acks = 1 + workload_mix(soak->seed * 3 + soak->rounds) % 2000};
    const pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        workload_run(soak->workload, open_store(soak, &options), &plan);
    if (pid <= 0)
        _exit(1);
    (void)waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        _exit(WORKLOAD_VIOLATION); /* the child has said why */
    soak->kills++;
}

static void do_round(struct soak *soak)
{
    const struct tkv_options options = options_of(soak);
    const struct workload_plan plan = {.steps = STEPS};
    struct tkv_store *store;
    struct tkv_error err;

    kill_one(soak);
    store = open_store(soak, &options);
    workload_run(soak->workload, store, &plan);
    measure_disk(soak, store, &options);
    if (tkv_compact(store, NULL, &err) != TKV_OK)
        workload_violation(soak->workload, "compact: %s", err.message);
    measure_disk(soak, store, &options);
    if (tkv_verify(store, NULL, NULL, NULL, &err) != TKV_OK)
        workload_violation(soak->workload, "verify: %s", err.message);
    soak->rss_bytes[soak->rounds] = resident_bytes();
    if (tkv_close(store, &err) != TKV_OK)
        workload_violation(soak->workload, "close: %s", err.message);
    soak->descriptors_last = descriptor_count();
    if (soak->rounds++ == 0)
        soak->descriptors_first = soak->descriptors_last;
}

static _Noreturn void reside(struct soak *soak)
{
    do
        do_round(soak);
    while (workload_now_ms() < soak->until_ms && soak->rounds < ROUNDS_MAX);
    _exit(0);
}

/* ---- All of them ------------------------------------------------------------------------- */

static void read_arguments(struct soak *soak, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (value[0] != '\0' && strcmp(argv[i], "--minutes") == 0)
            soak->minutes = strtod(value, NULL);
        else if (value[0] != '\0' && strcmp(argv[i], "--seed") == 0)
            soak->seed = strtoull(value, NULL, 10);
        else if (value[0] != '\0' && strcmp(argv[i], "--threads") == 0)
            soak->threads = (unsigned)strtoul(value, NULL, 10);
        else {
            fprintf(stderr, "usage: soak [--minutes M] [--seed X] [--threads T]\n");
            exit(2);
        }
    }
}

static unsigned is_wrong(bool wrong, const char *what)
{
    if (wrong)
        printf("violation: %s\n", what);
    return wrong;
}

static int report(const struct soak *soak, int status)
{
    const struct workload *workload = soak->workload;
    const uint64_t first = median_of_tenth(soak, 1), last = median_of_tenth(soak, 9);
    unsigned violations = 0;

    if (status != 0)
        printf("the resident process ended with wait status %#x: %s\n", (unsigned)status,
               workload->message);
    violations += is_wrong(status != 0, "the work was not done to the end");
    violations += is_wrong(soak->rounds >= ROUNDS_TO_JUDGE &&
                               last > first + first / 10 + RSS_SLACK_BYTES,
                           "memory grows");
    violations += is_wrong(soak->descriptors_last != soak->descriptors_first,
                           "descriptors are left open");
    violations += is_wrong(soak->disk_factor_max > 1, "more space than promised");
    printf("rss_tenths_bytes=");
    for (unsigned n = 0; n < 10; n++)
        printf("%s%" PRIu64, n == 0 ? "" : ",", median_of_tenth(soak, n));
    printf("\n");
    printf("seed=%" PRIu64 " threads=%u kills=%u checks=%" PRIu64 "\n", soak->seed,
           soak->threads, soak->kills, (uint64_t)workload->checks);
    printf("%u passed, %u failed\n", violations == 0, violations != 0);
    printf("minutes=%.1f cycles=%u operations=%" PRIu64 " lost=%" PRIu64
           " violations=%u rss_first_bytes=%" PRIu64 " rss_last_bytes=%" PRIu64
           " descriptors_first=%u descriptors_last=%u disk_max_factor=%.2f\n",
           soak->minutes, soak->rounds, (uint64_t)workload->operations,
           (uint64_t)workload->lost, violations, first, last, soak->descriptors_first,
           soak->descriptors_last, soak->disk_factor_max);
    return violations == 0 ? 0 : 1;
}

static void remove_directory(const struct soak *soak)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf '%s'", soak->directory);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", soak->directory);
}

int main(int argc, char **argv)
{
    struct soak *soak =
        mmap(NULL, sizeof *soak, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0, code;
    pid_t pid;

    if (soak == MAP_FAILED)
        return 1;
    soak->seed = 1;
    soak->minutes = 10;
    soak->threads = 4;
    read_arguments(soak, argc, argv);
    soak->workload = workload_new(soak->seed, soak->threads);
    soak->until_ms = workload_now_ms() + (uint64_t)(soak->minutes * 60000);
    snprintf(soak->directory, sizeof soak->directory, "%s/tinykv-soak-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    if (mkdtemp(soak->directory) == NULL) {
        perror(soak->directory);
        return 1;
    }
    (void)order_watch(false); /* it is the engine's memory that is measured */
    pid = fork();
    if (pid == 0)
        reside(soak);
    (void)waitpid(pid, &status, 0);
    code = report(soak, status);
    if (code == 0)
        remove_directory(soak);
    else
        printf("the directory is kept: %s\n", soak->directory);
    return code;
}
