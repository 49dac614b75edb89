/* SPDX-License-Identifier: MIT */
/*
 * compaction_demo.c - watch the data files grow past 5 MB and the compactor shrink them while
 * the same few keys are written over and over; then delete everything and watch again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "example.h"

#define MB 1e6

enum { KEYS = 500, VALUE_SIZE = 4000, ROUNDS = 16 };

/* Called from the compactor's thread: one line, and no call back into the store. */
static void tell(void *context, const struct tkv_event *event)
{
    (void)context;
    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED ||
        event->kind == TKV_EVENT_FILE_REMOVED || event->kind == TKV_EVENT_ROTATED)
        printf("    %-20s file %" PRIu64 ", %.2f MB\n", tkv_event_text(event->kind),
               event->file, (double)event->bytes / MB);
}

static struct tkv_stats stats_of(struct tkv_store *store)
{
    struct tkv_stats stats;
    struct tkv_error err;

    example_check(tkv_stats(store, &stats, &err), &err);
    return stats;
}

static void show_size(struct tkv_store *store, const char *when)
{
    const struct tkv_stats stats = stats_of(store);

    printf("%-14s %5.2f MB on disk, %5.2f MB live, %2" PRIu64 " files, %" PRIu64
           " compactions\n",
           when, (double)stats.disk_bytes / MB, (double)stats.live_bytes / MB,
           stats.data_files, stats.compactions);
}

static void write_round(struct tkv_store *store, unsigned round)
{
    static char value[VALUE_SIZE];
    struct tkv_error err;

    memset(value, (int)('a' + round % 26), sizeof value);
    for (unsigned i = 0; i < KEYS; i++)
        example_check(
            tkv_put(store, tkv_bytes(&i, sizeof i), tkv_bytes(value, sizeof value), &err),
            &err);
}

static void check_values(struct tkv_store *store, unsigned round)
{
    for (unsigned i = 0; i < KEYS; i++) {
        struct tkv_error err;
        struct tkv_pin pin;

        example_check(tkv_get_pinned(store, tkv_bytes(&i, sizeof i), &pin, &err), &err);
        example_expect(pin.value.size == VALUE_SIZE &&
                           *(const char *)pin.value.data == (char)('a' + round % 26),
                       "the value of the last round");
        tkv_unpin(&pin);
    }
}

/* The compactor works in the background; wait for it, but not for ever. */
static bool wait_until_below(struct tkv_store *store, double bytes)
{
    for (int i = 0; i < 500; i++) {
        if ((double)stats_of(store).disk_bytes < bytes)
            return true;
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;

    options.durability = TKV_DURABILITY_INTERVAL;
    options.on_event = tell;
    example_check(tkv_open(example_directory(argc, argv), &options, &store, NULL, &err),
                  &err);

    for (unsigned round = 0; round < ROUNDS; round++) {
        char when[32];

        write_round(store, round);
        snprintf(when, sizeof when, "round %u:", round + 1);
        show_size(store, when);
    }
    check_values(store, ROUNDS - 1);

    /* 2 MB live, times the space factor, and one data file. */
    example_expect(wait_until_below(store, 1.4 * KEYS * (VALUE_SIZE + 64) + 5.1 * MB),
                   "data files within their bound");
    show_size(store, "after a rest:");

    for (unsigned i = 0; i < KEYS; i++)
        example_check(tkv_delete(store, tkv_bytes(&i, sizeof i), NULL, &err), &err);
    example_check(tkv_compact(store, NULL, &err), &err);
    show_size(store, "all deleted:");
    example_expect(stats_of(store).disk_bytes < 100000, "almost nothing on disk");

    example_check(tkv_close(store, &err), &err);
    return 0;
}
