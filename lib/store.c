/* SPDX-License-Identifier: MIT */
/*
 * store.c - open and close, and what every call on a store checks first.
 */
#include "store.h"

#include "fork_guard.h"

#include <errno.h>
#include <stdlib.h>

/* ---- Small things that everybody needs ------------------------------------------- */

enum tkv_status tkv_store_check(struct tkv_store *store, struct tkv_error *err)
{
    if (store->fork_guard != NULL && *(const volatile uint32_t *)store->fork_guard == 0)
        return tkv_fail(err, TKV_FORKED, "the store was opened before fork()");
    return TKV_OK;
}

enum tkv_status tkv_store_check_writable(struct tkv_store *store, struct tkv_error *err)
{
    const enum tkv_status status = tkv_store_check(store, err);

    if (status != TKV_OK)
        return status;
    if (store->options.read_only)
        return tkv_fail(err, TKV_READ_ONLY, "the store was opened read-only");
    if (atomic_load_explicit(&store->poisoned, memory_order_relaxed) != TKV_OK)
        return tkv_fail(
            err, TKV_POISONED,
            "an earlier write or sync failed (%s); open the store again to write",
            tkv_status_text((enum tkv_status)atomic_load(&store->poisoned)));
    return TKV_OK;
}

void tkv_store_emit(struct tkv_store *store, struct tkv_event event)
{
    if (store->options.on_event != NULL)
        store->options.on_event(store->options.event_context, &event);
}

/* A clock that fails after it has worked at opening does not happen; 0 expires nothing. */
uint64_t tkv_store_now_ms(struct tkv_store *store)
{
    uint64_t now = 0;

    (void)store->os->wall_clock_ms(store->os, &now);
    return now;
}

uint64_t tkv_store_now_us(struct tkv_store *store)
{
    uint64_t now = 0;

    (void)store->os->monotonic_us(store->os, &now);
    return now;
}

void tkv_store_poison(struct tkv_store *store, enum tkv_status status)
{
    int healthy = TKV_OK;

    if (atomic_compare_exchange_strong(&store->poisoned, &healthy, (int)status))
        tkv_store_emit(store,
                       (struct tkv_event){.kind = TKV_EVENT_POISONED, .status = status});
    if (store->wal.os != NULL)
        tkv_wal_poison(&store->wal, status);
}

/* ---- Opening --------------------------------------------------------------------- */

static enum tkv_status check_clocks(struct tkv_store *store, struct tkv_error *err)
{
    uint64_t now;
    int result = store->os->wall_clock_ms(store->os, &now);

    if (result == 0)
        result = store->os->monotonic_us(store->os, &now);
    return result < 0 ? tkv_fail_os(err, result, "", "read the clock") : TKV_OK;
}

static enum tkv_status open_directory(struct tkv_store *store, const char *directory,
                                      struct tkv_error *err)
{
    const bool create = store->options.create && !store->options.read_only;
    struct tkv_os_fs_info info;
    int result;

    store->dir = store->os->open_dir(store->os, directory, create);
    if (store->dir == -ENOENT && !create)
        return tkv_fail(err, TKV_NOT_FOUND, "there is no directory %s", directory);
    if (store->dir < 0)
        return tkv_fail_os(err, store->dir, "", "open directory %s", directory);
    result = store->os->fs_info(store->os, store->dir, &info);
    if (result < 0)
        return tkv_fail_os(err, result, "", "file system of %s", directory);
    atomic_store(&store->disk_bytes, info.total_bytes);
    if (info.is_remote && !store->options.allow_remote)
        return tkv_fail(err, TKV_UNSUPPORTED,
                        "%s is on a network file system; option allow_remote opens it",
                        directory);
    return TKV_OK;
}

static bool has_file(struct tkv_store *store, const char *name)
{
    const int fd = store->os->open(store->os, store->dir, name, TKV_OS_READ);

    if (fd >= 0)
        (void)store->os->close(store->os, fd);
    return fd != -ENOENT;
}

/* A store, or one that has lost its manifest: recovery tells which. */
static bool has_remains(struct tkv_store *store)
{
    return has_file(store, TKV_MANIFEST_NAME) || has_file(store, TKV_WAL_NAME);
}

/* Read-only media may have no LOCK and cannot get one; then nobody can write there either. */
static enum tkv_status take_lock(struct tkv_store *store, const char *directory,
                                 struct tkv_error *err)
{
    struct tkv_os *os = store->os;
    const bool shared = store->options.read_only;
    int result;

    if (!shared && !store->options.create && !has_remains(store))
        return tkv_fail(err, TKV_NOT_FOUND, "there is no store in %s", directory);
    store->lock_fd = os->open(os, store->dir, TKV_LOCK_NAME,
                              shared ? TKV_OS_READ : TKV_OS_WRITE | TKV_OS_CREATE);
    if (store->lock_fd == -ENOENT && shared)
        return TKV_OK;
    if (store->lock_fd < 0)
        return tkv_fail_os(err, store->lock_fd, TKV_LOCK_NAME, "open %s/%s", directory,
                           TKV_LOCK_NAME);
    result = os->lock(os, store->dir, store->lock_fd, shared);
    if (result == -EWOULDBLOCK)
        return tkv_fail(err, TKV_BUSY, "the store in %s is open in %s", directory,
                        shared ? "a writing process"
                               : "another process, or twice in this one");
    if (result < 0)
        return tkv_fail_os(err, result, TKV_LOCK_NAME, "lock %s/%s", directory,
                           TKV_LOCK_NAME);
    return TKV_OK;
}

static struct tkv_store *new_store(struct tkv_os *os, const struct tkv_options *options)
{
    /* The epoch's stripes are cache-line aligned. */
    struct tkv_store *store =
        aligned_alloc(_Alignof(struct tkv_store), sizeof(struct tkv_store));

    if (store == NULL)
        return NULL;
    memset(store, 0, sizeof *store);
    store->os = os;
    store->options = *options;
    store->dir = store->lock_fd = -1;
    tkv_epoch_init(&store->epoch);
    tkv_mutex_init(&store->apply);
    tkv_mutex_init(&store->compact);
    tkv_mutex_init(&store->upkeep);
    tkv_mutex_init(&store->removing);
    return store;
}

/* Memory and descriptors. In a forked child this is all there is to do: the parent's files and
 * its lock stay as they are, and no lock of ours is touched. */
static void abandon_store(struct tkv_store *store)
{
    const uint32_t used = atomic_load(&store->slots_used);

    tkv_wal_abandon(&store->wal);
    tkv_removed_abandon(store);
    for (uint32_t slot = 0; store->files != NULL && slot < used; slot++)
        tkv_datafile_release(tkv_files_at(store, slot));
    free((void *)store->files);
    tkv_index_free(store->index);
    if (store->lock_fd >= 0)
        (void)store->os->close(store->os, store->lock_fd);
    if (store->dir >= 0)
        (void)store->os->close(store->os, store->dir);
    tkv_fork_guard_free(store->fork_guard);
    free(store);
}

static void free_store(struct tkv_store *store)
{
    tkv_wal_close(&store->wal);
    tkv_mutex_destroy(&store->removing);
    tkv_mutex_destroy(&store->upkeep);
    tkv_mutex_destroy(&store->compact);
    tkv_mutex_destroy(&store->apply);
    tkv_epoch_destroy(&store->epoch);
    abandon_store(store);
}

static enum tkv_status make_index(struct tkv_store *store, struct tkv_error *err)
{
    uint64_t seed;
    int result = store->os->random(store->os, &seed, sizeof seed);

    if (result < 0)
        return tkv_fail_os(err, result, "", "random numbers");
    store->files = calloc(TKV_SLOT_COUNT, sizeof *store->files);
    if (store->files == NULL)
        return tkv_fail_memory(err, TKV_SLOT_COUNT * sizeof *store->files,
                               "the file table");
    return tkv_index_new(seed, 0, &store->index, err);
}

static enum tkv_status open_store(struct tkv_store *store, const char *directory,
                                  struct tkv_open_report *report, struct tkv_error *err)
{
    const uint64_t started_us = tkv_store_now_us(store);
    enum tkv_status status = check_clocks(store, err);

    if (status == TKV_OK)
        status = open_directory(store, directory, err);
    if (status == TKV_OK)
        status = take_lock(store, directory, err);
    if (status == TKV_OK)
        status = make_index(store, err);
    if (status == TKV_OK)
        status = tkv_recover(store, report, err);
    if (status == TKV_OK)
        tkv_upkeep_start(store);
    report->micros = tkv_store_now_us(store) - started_us;
    return status;
}

static void tell_opened(struct tkv_store *store, const struct tkv_open_report *report)
{
    if (report->bytes_cut > 0)
        tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_TAIL_CUT,
                                                 .bytes = report->bytes_cut});
    if (report->records_replayed > 0)
        tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_RECOVERED,
                                                 .count = report->records_replayed,
                                                 .bytes = report->bytes_replayed});
    tkv_store_emit(store, (struct tkv_event){.kind = TKV_EVENT_OPENED,
                                             .count = report->keys,
                                             .bytes = tkv_files_disk_bytes(store),
                                             .micros = report->micros});
}

enum tkv_status tkv_open_on(struct tkv_os *os, const char *directory,
                            const struct tkv_options *options, struct tkv_store **ret_store,
                            struct tkv_open_report *ret_report, struct tkv_error *err)
{
    struct tkv_open_report report;
    struct tkv_error reason; /* also of what is only told in the report */
    struct tkv_store *store;
    enum tkv_status status;

    memset(&report, 0, sizeof report);
    if (ret_report != NULL)
        *ret_report = report;
    status = tkv_options_check(options, err);
    if (status != TKV_OK)
        return status;
    store = new_store(os, options);
    if (store == NULL)
        return tkv_fail_memory(err, sizeof *store, "a store");
    store->fork_guard = tkv_fork_guard_new();
    status = open_store(store, directory, &report, &reason);
    if (ret_report != NULL)
        *ret_report = report;
    if (status != TKV_OK) {
        tkv_error_copy(err, &reason);
        free_store(store);
        return status;
    }
    tell_opened(store, &report);
    *ret_store = store;
    return TKV_OK;
}

enum tkv_status tkv_open(const char *directory, const struct tkv_options *options,
                         struct tkv_store **ret_store, struct tkv_open_report *ret_report,
                         struct tkv_error *err)
{
    return tkv_open_on(tkv_os_posix(), directory, options, ret_store, ret_report, err);
}

/* ---- Closing --------------------------------------------------------------------- */

/* Hints for the files that are still growing make the next opening read nothing in full. */
static void write_last_hints(struct tkv_store *store)
{
    if (store->active != NULL && store->active->durable > TKV_DATA_HEADER_SIZE)
        tkv_load_write_hint(store, store->active);
    for (unsigned i = 0; i < TKV_OUTPUT_COUNT; i++) {
        struct tkv_datafile *output = store->outputs[i];

        if (output != NULL && output->durable > TKV_DATA_HEADER_SIZE)
            tkv_load_write_hint(store, output);
    }
}

static enum tkv_status last_checkpoint(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status;

    tkv_mutex_lock(&store->upkeep);
    status = tkv_checkpoint_locked(store, true, err);
    if (status == TKV_OK) {
        tkv_retire(store);
        write_last_hints(store);
        tkv_log_room_shrink(store);
    }
    tkv_mutex_unlock(&store->upkeep);
    return status;
}

enum tkv_status tkv_close(struct tkv_store *store, struct tkv_error *err)
{
    enum tkv_status status = TKV_OK;

    if (store == NULL)
        return TKV_OK;
    if (tkv_store_check(store, NULL) != TKV_OK) {
        abandon_store(store);
        return TKV_OK;
    }
    tkv_upkeep_stop(store);
    if (!store->options.read_only)
        status = last_checkpoint(store, err);
    free_store(store);
    return status;
}
