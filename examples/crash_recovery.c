/* SPDX-License-Identifier: MIT */
/*
 * crash_recovery.c - a process that writes is killed; the next one opens the store and finds
 * every write that was acknowledged. What opening had to do is in its report.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "example.h"

enum { ACKNOWLEDGED_MIN = 500 };

static struct tkv_slice key_of(uint32_t number, char buffer[static 32])
{
    return tkv_bytes(buffer, (size_t)snprintf(buffer, 32, "order/%" PRIu32, number));
}

/* Put keys until the end, telling the parent about each one only after it is on disk. */
static void write_forever(const char *directory, int pipe_end)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;
    char buffer[32];

    example_check(tkv_open(directory, &options, &store, NULL, &err), &err);
    for (uint32_t i = 0;; i++) {
        example_check(tkv_put(store, key_of(i, buffer), tkv_bytes(&i, sizeof i), &err),
                      &err);
        if (write(pipe_end, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

/* Kill the child once it has got somewhere; returns how many writes it had acknowledged. */
static uint32_t kill_writer(pid_t child, int pipe_end)
{
    uint32_t number, count = 0;

    while (read(pipe_end, &number, sizeof number) == sizeof number) {
        count = number + 1;
        if (count == ACKNOWLEDGED_MIN)
            (void)kill(child, SIGKILL);
    }
    (void)waitpid(child, NULL, 0);
    return count;
}

static uint32_t crash(const char *directory)
{
    int ends[2];
    pid_t child;

    example_expect(pipe(ends) == 0, "a pipe");
    fflush(stdout);
    child = fork(); /* before the store is opened: a handle belongs to one process */
    example_expect(child >= 0, "a child");
    if (child == 0) {
        (void)close(ends[0]);
        write_forever(directory, ends[1]);
    }
    (void)close(ends[1]);
    return kill_writer(child, ends[0]);
}

static void check_all(struct tkv_store *store, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        char buffer[32];
        struct tkv_error err;
        uint32_t value;
        size_t size;

        example_check(tkv_get(store, key_of(i, buffer), &value, sizeof value, &size, &err),
                      &err);
        example_expect(size == sizeof value && value == i, "the value that was put");
    }
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    const char *directory = example_directory(argc, argv);
    const uint32_t acknowledged = crash(directory);
    struct tkv_open_report report;
    struct tkv_store *store;
    struct tkv_error err;

    example_expect(acknowledged >= ACKNOWLEDGED_MIN,
                   "a child that writes until it is killed");
    example_check(tkv_open(directory, &options, &store, &report, &err), &err);
    printf(
        "killed after %" PRIu32 " acknowledged writes; opening again took %" PRIu64 " us:\n"
        "  closed properly    %s\n"
        "  records replayed   %" PRIu64 " in %" PRIu64 " groups\n"
        "  unfinished bytes   %" PRIu64 " %s\n"
        "  keys               %" PRIu64 "\n",
        acknowledged, report.micros, report.clean ? "yes" : "no", report.records_replayed,
        report.groups_replayed, report.bytes_cut, report.cut_reason, report.keys);
    example_expect(!report.clean, "a store that was not closed");
    check_all(store, acknowledged);
    printf("all %" PRIu32 " are there\n", acknowledged);
    example_check(tkv_close(store, &err), &err);
    return 0;
}
