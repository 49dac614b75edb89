/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c - evidence: what recovery cuts from the log goes to a directory of its own.
 *
 * Invariant: what is cut is durable there before the log is overwritten. When that fails,
 * opening fails, and nothing is cut.
 *
 * Threads: only while a store is being opened.
 */
#include "store.h"

#include <stdio.h>

#define QUARANTINE_SIZE_MAX (64u * 1024 * 1024)

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
    snprintf(name, sizeof name, "wal-%020llu.torn", (unsigned long long)replay->position);
    status = write_evidence(store, dir, name, log + replay->cut_offset, size, err);
    if (status == TKV_OK) {
        const int length = snprintf(
            note, sizeof note,
            "cut from %s: offset %llu, %llu bytes, log position %llu; %zu are kept\n"
            "reason: %s\n",
            TKV_WAL_NAME, (unsigned long long)replay->cut_offset,
            (unsigned long long)replay->cut_size, (unsigned long long)replay->position,
            size, replay->cut_reason);
        snprintf(name, sizeof name, "wal-%020llu.txt",
                 (unsigned long long)replay->position);
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
    (void)store->os->close(store->os, dir);
    return status;
}
