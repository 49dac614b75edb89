/* SPDX-License-Identifier: MIT */
/*
 * datafile.c - a data file made, opened, mapped and read. datafile_append.c has the memory that
 * receives records, datafile_write.c how they get to disk.
 */
#include "datafile.h"

#include "bytes.h"
#include "datafile_header.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- Making and opening -------------------------------------------------------------- */

static struct tkv_datafile *blank(struct tkv_os *os, uint64_t number, uint64_t seq_base,
                                  enum tkv_file_class file_class, bool use_map)
{
    struct tkv_datafile *file = calloc(1, sizeof *file);

    if (file == NULL)
        return NULL;
    file->os = os;
    tkv_data_name(number, file->name);
    file->number = number;
    file->seq_base = seq_base;
    file->file_class = file_class;
    file->use_map = use_map;
    atomic_init(&file->seq_min_put, UINT64_MAX);
    file->fd = file->cut_fd = -1;
    atomic_init(&file->references, 1);
    return file;
}

enum tkv_status tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16], uint64_t number,
                                 uint64_t seq_base, enum tkv_file_class file_class,
                                 uint64_t capacity, bool use_map,
                                 struct tkv_datafile **ret_file, struct tkv_error *err)
{
    struct tkv_datafile *file = blank(os, number, seq_base, file_class, use_map);
    uint8_t *tail;

    capacity = tkv_round_up(capacity, TKV_BLOCK_SIZE);
    tail = malloc((size_t)capacity);
    if (file == NULL || tail == NULL) {
        free(tail);
        free(file);
        return tkv_fail_memory(err, (size_t)capacity, "an active data file");
    }
    tkv_datafile_header_encode(uuid, number, seq_base, file_class, tail);
    file->capacity = capacity;
    atomic_store(&file->superseded.is_complete, true);
    atomic_store(&file->size, TKV_DATA_HEADER_SIZE);
    atomic_store(&file->tail, tail);
    *ret_file = file;
    return TKV_OK;
}

static enum tkv_status open_checked(struct tkv_datafile *file, int dir,
                                    const uint8_t uuid[16],
                                    const struct tkv_manifest_file *entry,
                                    struct tkv_error *err)
{
    uint8_t header[TKV_DATA_HEADER_SIZE];
    uint64_t size;
    int result;

    file->fd = file->os->open(file->os, dir, file->name, TKV_OS_READ);
    if (file->fd == -ENOENT)
        return tkv_fail_corrupt(err, file->name, 0, 0, "the file is missing");
    if (file->fd < 0)
        return tkv_fail_os(err, file->fd, file->name, "open %s", file->name);
    result = file->os->file_size(file->os, file->fd, &size);
    if (result < 0)
        return tkv_fail_os(err, result, file->name, "size of %s", file->name);
    if (size < entry->durable_size || entry->durable_size < TKV_DATA_HEADER_SIZE)
        return tkv_fail_corrupt(err, file->name, size, 0, "%llu bytes where %s says %llu",
                                (unsigned long long)size, TKV_MANIFEST_NAME,
                                (unsigned long long)entry->durable_size);
    if (entry->durable_size > SIZE_MAX / 4) /* with pointers of 32 bits; none is so large */
        return tkv_fail(err, TKV_UNSUPPORTED,
                        "%s has %llu bytes, more than can be read here", file->name,
                        (unsigned long long)entry->durable_size);
    result = tkv_os_read_all(file->os, file->fd, header, sizeof header, 0);
    if (result < 0)
        return tkv_fail_os(err, result, file->name, "read the header of %s", file->name);
    return tkv_datafile_header_check(header, uuid, file->name, entry, &file->seq_base, err);
}

void tkv_datafile_map(struct tkv_datafile *file, uint64_t size)
{
    void *map;

    if (!file->use_map || size == 0 || atomic_load(&file->map) != NULL)
        return;
    if (tkv_os_map(file->os, file->fd, size, false, &map) < 0)
        return;
    file->map_size = (size_t)size;
    atomic_store(&file->map, map);
}

void tkv_datafile_unmap(struct tkv_datafile *file)
{
    uint8_t *map = atomic_exchange(&file->map, NULL);

    if (map != NULL)
        tkv_os_unmap(file->os, map, file->map_size);
}

static void adopt_entry(struct tkv_datafile *file, const struct tkv_manifest_file *entry)
{
    file->exists = true;
    file->durable = file->tail_start = file->capacity = entry->durable_size;
    atomic_store(&file->size, entry->durable_size);
    atomic_store(&file->written, entry->durable_size);
    atomic_store(&file->sealed, true);
    file->durable_sum = entry->record_sum;
    file->durable_sealed = entry->sealed;
    file->listed = true;
    file->listed_sealed = entry->sealed;
    file->listed_size = entry->durable_size;
}

struct tkv_datafile *tkv_datafile_lost(struct tkv_os *os,
                                       const struct tkv_manifest_file *entry)
{
    struct tkv_datafile *file =
        blank(os, entry->number, entry->seq_base, entry->file_class, false);

    if (file == NULL)
        return NULL;
    adopt_entry(file, entry);
    file->lost = true;
    return file;
}

enum tkv_status tkv_datafile_open(struct tkv_os *os, int dir, const uint8_t uuid[16],
                                  const struct tkv_manifest_file *entry, bool use_map,
                                  struct tkv_datafile **ret_file, struct tkv_error *err)
{
    struct tkv_datafile *file =
        blank(os, entry->number, entry->seq_base, entry->file_class, use_map);
    enum tkv_status status;

    if (file == NULL)
        return tkv_fail_memory(err, sizeof *file, "a data file");
    status = open_checked(file, dir, uuid, entry, err);
    if (status != TKV_OK) {
        tkv_datafile_release(file);
        return status;
    }
    (void)os->advise(os, file->fd, TKV_OS_RANDOM); /* advice only */
    adopt_entry(file, entry);
    if (entry->sealed)
        tkv_datafile_settle(file);
    else
        tkv_datafile_map(file, entry->durable_size);
    *ret_file = file;
    return TKV_OK;
}

enum tkv_status tkv_datafile_reopen_tail(struct tkv_datafile *file, uint64_t capacity,
                                         struct tkv_error *err)
{
    const uint64_t start = file->tail_start;
    uint8_t *tail;

    assert(start % TKV_BLOCK_SIZE == 0);
    capacity = tkv_round_up(capacity, TKV_BLOCK_SIZE);
    assert(capacity > start);
    tkv_datafile_unmap(file); /* nobody reads yet, and it may grow */
    tkv_datafile_map(file, capacity);
    tail = malloc((size_t)(capacity - start));
    if (tail == NULL)
        return tkv_fail_memory(err, (size_t)(capacity - start), "an active data file");
    file->capacity = capacity;
    tkv_superseded_forget(&file->superseded); /* it was of a shorter file, ... */
    file->is_from_hint = false;               /* ... and so is the sum */
    atomic_store(&file->tail, tail);
    atomic_store(&file->sealed, false);
    return TKV_OK;
}

enum tkv_status tkv_datafile_reopen_file(struct tkv_datafile *file, int dir,
                                         struct tkv_error *err)
{
    struct tkv_os *os = file->os;
    const int fd = os->open(os, dir, file->name, TKV_OS_WRITE);
    int result;

    if (fd < 0)
        return tkv_fail_os(err, fd, file->name, "open %s for writing", file->name);
    (void)os->close(os, file->fd); /* nothing was written through it */
    file->fd = fd;
    /* What lies beyond does not exist; the log has it, if anybody has. */
    result = os->truncate(os, fd, file->tail_start);
    return result < 0 ? tkv_fail_os(err, result, file->name, "cut %s", file->name) : TKV_OK;
}

void tkv_datafile_reference(struct tkv_datafile *file)
{
    atomic_fetch_add(&file->references, 1);
}

void tkv_datafile_release(struct tkv_datafile *file)
{
    if (file == NULL || atomic_fetch_sub(&file->references, 1) != 1)
        return;
    tkv_datafile_unmap(file);
    if (file->fd >= 0)
        (void)file->os->close(file->os, file->fd); /* synced before, or of no interest */
    free(file->retired_tail);
    free(atomic_load(&file->tail));
    tkv_superseded_forget(&file->superseded);
    free(file);
}

/* ---- Reading ------------------------------------------------------------------------- */

static bool is_outside(struct tkv_datafile *file, uint64_t offset, size_t size)
{
    const uint64_t end = atomic_load_explicit(&file->size, memory_order_acquire);

    return offset > end || size > end - offset;
}

const uint8_t *tkv_datafile_view(struct tkv_datafile *file, uint64_t offset, size_t size,
                                 bool *ret_outside)
{
    const uint8_t *tail = atomic_load_explicit(&file->tail, memory_order_acquire);
    const uint8_t *map;

    *ret_outside = is_outside(file, offset, size);
    if (*ret_outside)
        return NULL;
    if (tail != NULL && offset >= file->tail_start)
        return tail + (offset - file->tail_start);
    /* What the tail still holds may not be in the file yet. */
    if (tail != NULL && size > file->tail_start - offset)
        return NULL;
    map = atomic_load_explicit(&file->map, memory_order_acquire);
    if (map != NULL && offset + size <= file->map_size)
        return map + offset;
    return NULL;
}

static enum tkv_status read_from_disk(struct tkv_datafile *file, uint64_t offset,
                                      void *buffer, size_t size, struct tkv_error *err)
{
    int result;

    if (file->lost)
        return tkv_fail_corrupt(err, file->name, offset, 0, "the file cannot be read");
    result = tkv_os_read_all(file->os, file->fd, buffer, size, offset);
    if (result < 0)
        return tkv_fail_os(err, result, file->name, "read %zu bytes at offset %llu of %s",
                           size, (unsigned long long)offset, file->name);
    return TKV_OK;
}

enum tkv_status tkv_datafile_read(struct tkv_datafile *file, uint64_t offset, void *buffer,
                                  size_t size, struct tkv_error *err)
{
    const uint8_t *tail = atomic_load_explicit(&file->tail, memory_order_acquire);
    bool outside;
    const uint8_t *bytes = tkv_datafile_view(file, offset, size, &outside);

    if (outside)
        return tkv_fail_corrupt(err, file->name, offset, 0, "%zu bytes beyond its end",
                                size);
    if (bytes != NULL) {
        memcpy(buffer, bytes, size);
        return TKV_OK;
    }
    if (tail != NULL && offset < file->tail_start && size > file->tail_start - offset) {
        const size_t below = (size_t)(file->tail_start - offset);
        const enum tkv_status status = tkv_datafile_read(file, offset, buffer, below, err);

        memcpy((uint8_t *)buffer + below, tail, size - below);
        return status;
    }
    return read_from_disk(file, offset, buffer, size, err);
}
