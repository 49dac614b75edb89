/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c - evidence: what recovery cuts from the log goes to a directory of its own.
 *
 * Invariant: what is cut is durable there before the log is overwritten. When that fails,
 * opening fails, and nothing is cut. The newest evidence is kept, the oldest makes room for
 * it: after the new is durable, and as far as that can be done.
 *
 * Threads: only while a store is being opened.
 */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

#define QUARANTINE_SIZE_MAX  (64u * 1024 * 1024) /* of one tail, and of all but the newest */
#define QUARANTINE_COUNT_MAX 16u                 /* tails */

static void evidence_name(uint64_t position, const char *suffix, char out[64])
{
    snprintf(out, 64, "wal-%020llu.%s", (unsigned long long)position, suffix);
}

static enum tkv_status write_evidence(struct tkv_store *store, int dir, const char *name,
                                      const void *bytes, size_t size, struct tkv_error *err)
{
    struct tkv_os *os = store->os;
    int fd = os->open(os, dir, name, TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_TRUNCATE);
    int result;

    if (fd < 0)
        return tkv_fail_os(err, fd, TKV_QUARANTINE_NAME, "create %s in %s", name,
                           TKV_QUARANTINE_NAME);
    result = tkv_os_write_all(os, fd, bytes, size, 0);
    if (result == 0)
        result = os->sync(os, fd);
    (void)os->close(os, fd); /* synced, or failed already */
    if (result < 0)
        return tkv_fail_os(err, result, TKV_QUARANTINE_NAME, "write %s in %s", name,
                           TKV_QUARANTINE_NAME);
    return TKV_OK;
}

/* ---- Making room ------------------------------------------------------------------ */

struct evidence {
    uint64_t *positions;
    size_t count, capacity;
};

/* A name that was not made here is left alone; a position that there is no memory for stays
 * until the next time. */
static void note_evidence(void *context, const char *name)
{
    struct evidence *e = context;
    unsigned long long position;
    char expected[64];

    if (sscanf(name, "wal-%20llu.torn", &position) != 1)
        return;
    evidence_name(position, "torn", expected);
    if (strcmp(name, expected) != 0)
        return;
    if (e->count == e->capacity) {
        const size_t more = e->capacity * 2 + QUARANTINE_COUNT_MAX;
        uint64_t *bigger = realloc(e->positions, more * sizeof *bigger);

        if (bigger == NULL)
            return;
        e->positions = bigger;
        e->capacity = more;
    }
    e->positions[e->count++] = position;
}

/* Log positions only grow, from one life of a store to the next; but what is there may be of
 * another store. */
static int by_age(const void *left, const void *right)
{
    const uint64_t *l = left, *r = right;

    return *l > *r ? -1 : *l < *r;
}

static uint64_t size_of(struct tkv_os *os, int dir, const char *name)
{
    const int fd = os->open(os, dir, name, TKV_OS_READ);
    uint64_t size = 0;

    if (fd < 0)
        return 0;
    if (os->file_size(os, fd, &size) < 0)
        size = 0;
    (void)os->close(os, fd); /* it was not even read */
    return size;
}

/* `newest` was written just now, and stays. */
static void trim(struct tkv_os *os, int dir, uint64_t newest)
{
    struct evidence e = {NULL, 0, 0};
    uint64_t bytes = 0;
    unsigned count = 1;
    char name[64];

    if (os->list(os, dir, note_evidence, &e) < 0)
        e.count = 0;
    if (e.count > 0)
        qsort(e.positions, e.count, sizeof *e.positions, by_age);
    for (size_t i = 0; i < e.count; i++) {
        if (e.positions[i] == newest)
            continue;
        evidence_name(e.positions[i], "torn", name);
        bytes += size_of(os, dir, name);
        if (++count <= QUARANTINE_COUNT_MAX && bytes <= QUARANTINE_SIZE_MAX)
            continue;
        (void)os->unlink(os, dir, name);
        evidence_name(e.positions[i], "txt", name);
        (void)os->unlink(os, dir, name);
    }
    free(e.positions);
}

/* ---- A torn tail ------------------------------------------------------------------ */

enum tkv_status tkv_quarantine_tail(struct tkv_store *store,
                                    const struct tkv_replay *replay, const uint8_t *log,
                                    struct tkv_error *err)
{
    const size_t size = replay->cut_size < QUARANTINE_SIZE_MAX ? (size_t)replay->cut_size
                                                               : QUARANTINE_SIZE_MAX;
    char name[64], note[256];
    enum tkv_status status;
    int dir, result;

    if (replay->cut_size == 0)
        return TKV_OK;
    dir = store->os->open_dir_at(store->os, store->dir, TKV_QUARANTINE_NAME, true);
    if (dir < 0)
        return tkv_fail_os(err, dir, TKV_QUARANTINE_NAME, "make %s", TKV_QUARANTINE_NAME);
    evidence_name(replay->position, "torn", name);
    status = write_evidence(store, dir, name, log + replay->cut_offset, size, err);
    if (status == TKV_OK) {
        const int length = snprintf(
            note, sizeof note,
            "cut from %s: offset %llu, %llu bytes, log position %llu; %zu are kept\n"
            "reason: %s\n",
            TKV_WAL_NAME, (unsigned long long)replay->cut_offset,
            (unsigned long long)replay->cut_size, (unsigned long long)replay->position,
            size, replay->cut_reason);
        evidence_name(replay->position, "txt", name);
        status = write_evidence(store, dir, name, note, (size_t)length, err);
    }
    if (status == TKV_OK) {
        result = store->os->sync_dir(store->os, dir);
        if (result == 0)
            result = store->os->sync_dir(store->os, store->dir);
        if (result < 0)
            status = tkv_fail_os(err, result, TKV_QUARANTINE_NAME, "sync %s",
                                 TKV_QUARANTINE_NAME);
    }
    if (status == TKV_OK)
        trim(store->os, dir, replay->position);
    (void)store->os->close(store->os, dir);
    return status;
}
