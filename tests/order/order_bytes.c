/* SPDX-License-Identifier: MIT */
/* order_bytes.c - the order verifier's calls that read, write, cut and sync. */
#include "order_private.h"

#include <errno.h>

/* ---- Reading ------------------------------------------------------------------------- */

void order_learn_class(struct order_file *file, const uint8_t *data, uint64_t offset,
                       uint64_t size)
{
    const uint64_t at = 48; /* of the class, in a data file's header */

    if (file->number != 0 && file->file_class == 0 && offset <= at && at < offset + size)
        file->file_class = data[at - offset];
}

static void note_read(struct order_state *s, struct order_file *file, const void *buffer,
                      uint64_t size, uint64_t offset)
{
    order_learn_class(file, buffer, offset, size);
    if (file->in_root && ((order_is_log(file) && !s->has_begun) ||
                          (strcmp(file->name, TKV_MANIFEST_NAME) == 0)))
        order_keep_bytes(file, buffer, (size_t)size, offset);
}

int64_t watch_read(struct tkv_os *os, int fd, void *buffer, size_t size, uint64_t offset)
{
    const int64_t got = order_below(os)->read(order_below(os), fd, buffer, size, offset);
    struct order_state *s;
    struct order_file *file;

    if (got <= 0)
        return got;
    s = order_enter(os, "read");
    file = order_file_at(s, fd);
    if (file != NULL)
        note_read(s, file, buffer, (uint64_t)got, offset);
    order_leave(os);
    return got;
}

int watch_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    const int result = order_below(os)->file_size(order_below(os), fd, ret_size);
    struct order_file *file;

    if (result < 0)
        return result;
    file = order_file_at(order_enter(os, "file_size"), fd);
    if (file != NULL && file->size == UINT64_MAX)
        file->size = *ret_size;
    order_leave(os);
    return result;
}

/* ---- Writing ------------------------------------------------------------------------- */

/* The rest of what the last call wrote only in part. */
static bool is_rest(const struct order_file *file, size_t size, uint64_t offset)
{
    return file->rest_size == size && file->rest_offset == offset && size > 0;
}

static void check_data(struct order_state *s, const struct order_file *file,
                       uint64_t offset)
{
    if (file->claimed_sealed)
        order_break(s, "it is sealed");
    if (offset < tkv_round_up(file->claimed, TKV_BLOCK_SIZE))
        order_break(s, "the block is durable up to %llu by a checkpoint",
                    (unsigned long long)file->claimed);
}

static void check_write(struct order_state *s, const struct order_handle *handle,
                        const void *data, size_t size, uint64_t offset)
{
    const struct order_file *file = handle->file;

    if (handle->flags & TKV_OS_DIRECT_SYNC &&
        ((uintptr_t)data | size | offset) % TKV_BLOCK_SIZE != 0)
        order_break(s, "a write that bypasses the cache is not aligned");
    if (is_rest(file, size, offset))
        return;
    if (file->claimed > 0)
        check_data(s, file, offset);
    if (!order_is_log(file) || handle->creates)
        return;
    if (offset < TKV_WAL_RING_START)
        order_checkpoint_header_check(s, file, data, offset);
    else
        order_log_check(s, file, data, size, offset);
}

/* By a write that returns when it is on disk, size included: what is allocated before it has no
 * holes. */
static void note_durable(struct order_file *file, uint64_t from, uint64_t to)
{
    order_mark_clean(file, from, to);
    if ((from <= file->synced_size || to <= file->allocated_size) && to > file->synced_size)
        file->synced_size = to;
}

/* Bytes below `offset` + `done` are where they belong. */
static void note_content(struct order_state *s, const struct order_handle *handle,
                         const uint8_t *data, uint64_t done, uint64_t offset)
{
    struct order_file *file = handle->file;

    order_learn_class(file, data, offset, done);
    if (file->number != 0 && file->file_class > TKV_FILE_FRESH) {
        order_release(file->content.data);
        memset(&file->content, 0, sizeof file->content);
    } else if (file->number != 0 ||
               (file->in_root && strcmp(file->name, TKV_MANIFEST_TEMPORARY_NAME) == 0)) {
        order_keep_bytes(file, data, (size_t)done, offset);
    }
    if (offset + done > file->size)
        file->size = offset + done;
    if (handle->flags & TKV_OS_DIRECT_SYNC)
        note_durable(file, offset, offset + done);
    else
        order_mark_dirty(s, file, offset, offset + done);
}

/* Nothing that was there before can be lost when the disk has no room for more. */
static bool is_refused_growth(const struct order_file *file, uint64_t offset, int64_t done)
{
    return offset >= file->synced_size &&
           (done == -ENOSPC || done == -EDQUOT || done == -EFBIG || done == -ENOMEM);
}

/* A header counts once all of it is written; until then it lies in `rest`. */
static void note_log(struct order_state *s, const struct order_handle *handle,
                     const uint8_t *data, size_t size, uint64_t offset, int64_t done)
{
    struct order_file *file = handle->file;
    const bool failed = done < 0, whole = done == (int64_t)size;

    if (failed && handle->flags & TKV_OS_DIRECT_SYNC &&
        !is_refused_growth(file, offset, done)) {
        file->has_failed = true;
        file->failed_thread = pthread_self();
    }
    if (offset < TKV_WAL_RING_START && !failed && size == TKV_BLOCK_SIZE)
        order_checkpoint_header_note(s, data, offset);
    if (offset >= TKV_WAL_RING_START && (failed || whole))
        order_log_done(s, failed);
}

static void note_write(struct order_state *s, const struct order_handle *handle,
                       const void *data, size_t size, uint64_t offset, int64_t done)
{
    struct order_file *file = handle->file;

    file->rest_size = 0;
    if (done < 0) {
        order_mark_dirty(s, file, offset, offset + size);
    } else {
        note_content(s, handle, data, (uint64_t)done, offset);
        if ((uint64_t)done < size) {
            file->rest_offset = offset + (uint64_t)done;
            file->rest_size = size - (size_t)done;
            order_mark_dirty(s, file, file->rest_offset, offset + size);
        }
    }
    if (order_is_log(file) && !handle->creates)
        note_log(s, handle, data, size, offset, done);
    order_advance(s);
}

static void begin_write(struct order_state *s, const struct order_handle *handle,
                        const void *data, size_t size, uint64_t offset)
{
    s->call_file = handle->file->name;
    s->call_offset = offset;
    s->call_size = size;
    check_write(s, handle, data, size, offset);
    if (order_is_log(handle->file) && !handle->creates && offset >= TKV_WAL_RING_START &&
        !is_rest(handle->file, size, offset))
        order_log_enter(s, handle->file, data, size, offset);
}

int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                    uint64_t offset)
{
    struct order_state *s = order_enter_change(os, "write");
    struct order_handle *handle = order_handle_of(s, fd), copy = {.file = NULL};
    int64_t done;

    if (handle != NULL && handle->file != NULL) {
        copy = *handle;
        begin_write(s, &copy, data, size, offset);
    }
    order_leave(os);
    done = order_below(os)->write(order_below(os), fd, data, size, offset);
    s = order_enter(os, "write");
    if (copy.file != NULL)
        note_write(s, &copy, data, size, offset, done);
    order_leave(os);
    return done;
}

void watch_store(struct tkv_os *os, int fd, void *map, uint64_t offset, const void *data,
                 size_t size)
{
    struct order_state *s = order_enter_change(os, "store");
    struct order_handle *handle = order_handle_of(s, fd), copy = {.file = NULL};

    if (handle != NULL && handle->file != NULL) {
        copy = *handle;
        begin_write(s, &copy, data, size, offset);
    }
    order_leave(os);
    order_below(os)->store(order_below(os), fd, map, offset, data, size);
    s = order_enter(os, "store");
    if (copy.file != NULL)
        note_write(s, &copy, data, size, offset, (int64_t)size);
    order_leave(os);
}

/* What a compaction has replaced may be given back in pieces. */
static bool is_dropped(const struct order_state *s, const struct order_file *file)
{
    uint64_t number;

    return tkv_file_name_parse(file->name, &number) == TKV_NAME_DATA &&
           !order_checkpoint_lists(s, number);
}

/* Behind the end of the ring lie zeros of a growth that no header speaks of, synced or not:
 * one that fails gives them back. */
static bool cuts_ring(const struct order_state *s, uint64_t size)
{
    for (size_t i = 0; i < sizeof s->headers / sizeof s->headers[0]; i++) {
        if (s->headers[i].is_known && size < s->headers[i].ring_end)
            return true;
    }
    return false;
}

int watch_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct order_state *s = order_enter_change(os, "truncate");
    struct order_file *file = order_file_at(s, fd);
    int result;

    if (file != NULL) {
        s->call_file = file->name;
        s->call_offset = size;
        if ((size < file->claimed && !is_dropped(s, file)) ||
            (order_is_log(file) && cuts_ring(s, size)))
            order_break(s, "what is durable in it is cut away");
    }
    order_leave(os);
    result = order_below(os)->truncate(order_below(os), fd, size);
    s = order_enter(os, "truncate");
    if (file != NULL && result >= 0) {
        file->size = size;
        file->synced_size = size < file->synced_size ? size : file->synced_size;
        file->allocated_size = size < file->allocated_size ? size : file->allocated_size;
        order_mark_clean(file, size, UINT64_MAX);
    }
    order_leave(os);
    return result;
}

int watch_allocate(struct tkv_os *os, int fd, uint64_t size)
{
    struct order_state *s = order_enter_change(os, "allocate");
    struct order_file *file = order_file_at(s, fd);
    int result;

    if (file != NULL)
        s->call_file = file->name;
    order_leave(os);
    result = order_below(os)->allocate(order_below(os), fd, size);
    s = order_enter(os, "allocate");
    if (file != NULL && result >= 0) {
        file->allocated_size = size > file->allocated_size ? size : file->allocated_size;
        file->size = size > file->size ? size : file->size;
    }
    order_leave(os);
    return result;
}

int watch_sync(struct tkv_os *os, int fd)
{
    struct order_state *s = order_enter_change(os, "sync");
    struct order_file *file = order_file_at(s, fd);
    const uint64_t stamp = ++s->stamp;
    uint64_t size = 0;
    int result;

    if (file != NULL) {
        s->call_file = file->name;
        if (file->has_failed && pthread_equal(file->failed_thread, pthread_self()))
            order_break(s, "it is synced again after a write or sync of it failed");
        if (file->was_let_go)
            order_break(s,
                        "it was closed with unsynced bytes: nobody may know of an error");
        file->syncs_running++;
        size = file->size;
    }
    order_leave(os);
    result = order_below(os)->sync(order_below(os), fd);
    s = order_enter(os, "sync");
    if (file != NULL) {
        file->syncs_running--;
        file->has_failed |= result < 0;
        file->failed_thread = pthread_self();
        if (result >= 0)
            order_mark_synced(file, stamp, size);
        order_advance(s);
    }
    order_leave(os);
    return result;
}
