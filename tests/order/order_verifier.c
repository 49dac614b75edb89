/* SPDX-License-Identifier: MIT */
/*
 * order_verifier.c - the table: each function asks the rules before the call below, makes the
 * call without holding the mutex, and notes the outcome after it. What has begun and not
 * returned counts neither as done nor as durable.
 */
#include "order_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Before and after a call --------------------------------------------------------- */

static struct order_verifier *verifier_of(struct tkv_os *os)
{
    return (struct order_verifier *)(void *)os;
}

static struct tkv_os *below(struct tkv_os *os)
{
    return verifier_of(os)->state->below;
}

void order_break(struct order_state *s, const char *format, ...)
{
    va_list arguments;
    int used;

    if (s->message[0] != 0)
        return;
    used =
        snprintf(s->message, sizeof s->message, "call %llu, %s of %s, %llu bytes at %llu: ",
                 (unsigned long long)s->call_number, s->call_name, s->call_file,
                 (unsigned long long)s->call_size, (unsigned long long)s->call_offset);
    va_start(arguments, format);
    (void)vsnprintf(s->message + used, sizeof s->message - (size_t)used, format, arguments);
    va_end(arguments);
}

static struct order_state *enter(struct tkv_os *os, const char *call)
{
    struct order_verifier *verifier = verifier_of(os);
    struct order_state *s = verifier->state;

    (void)pthread_mutex_lock(&s->mutex);
    s->call_name = call;
    s->call_file = "the store";
    s->call_number = ++verifier->calls;
    s->call_offset = s->call_size = 0;
    s->message[0] = 0;
    return s;
}

/* A call that changes something; `file` is NULL for the directory. */
static struct order_state *enter_change(struct tkv_os *os, const char *call)
{
    struct order_state *s = enter(os, call);

    verifier_of(os)->checks++;
    if (verifier_of(os)->read_only)
        order_break(s, "the store is open for reading only");
    order_checkpoint_begin(s);
    return s;
}

static void leave(struct tkv_os *os)
{
    struct order_verifier *verifier = verifier_of(os);
    char message[sizeof verifier->state->message];

    memcpy(message, verifier->state->message, sizeof message);
    verifier->state->message[0] = 0;
    (void)pthread_mutex_unlock(&verifier->state->mutex);
    if (message[0] != 0)
        verifier->violated(verifier, message);
}

static void advance(struct order_state *s)
{
    struct order_file *log = order_file_find(s, TKV_WAL_NAME);

    order_log_advance(s, log);
    order_checkpoint_advance(s, log);
}

static struct order_file *file_at(struct order_state *s, int fd)
{
    const struct order_handle *handle = order_handle_of(s, fd);

    return handle == NULL ? NULL : handle->file;
}

static bool is_root(struct order_state *s, int dir)
{
    const struct order_handle *handle = order_handle_of(s, dir);

    return handle != NULL && handle->is_root;
}

static bool is_log(const struct order_file *file)
{
    return file->in_root && strcmp(file->name, TKV_WAL_NAME) == 0;
}

/* ---- Directories --------------------------------------------------------------------- */

static int note_directory(struct tkv_os *os, int fd, bool root)
{
    if (fd < 0)
        return fd;
    order_handle_open(enter(os, "open"), fd,
                      (struct order_handle){.is_directory = true, .is_root = root});
    leave(os);
    return fd;
}

static int order_open_dir(struct tkv_os *os, const char *path, bool create)
{
    return note_directory(os, below(os)->open_dir(below(os), path, create), true);
}

static int order_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    return note_directory(os, below(os)->open_dir_at(below(os), dir, name, create), false);
}

static int order_sync_dir(struct tkv_os *os, int dir)
{
    struct order_state *s = enter_change(os, "sync");
    const bool root = is_root(s, dir);
    const uint64_t stamp = ++s->stamp;
    int result;

    if (root && s->root_sync_failed && pthread_equal(s->root_failed_thread, pthread_self()))
        order_break(s, "the directory is synced again after a failed sync");
    leave(os);
    result = below(os)->sync_dir(below(os), dir);
    s = enter(os, "sync");
    if (root && result < 0) {
        s->root_sync_failed = true;
        s->root_failed_thread = pthread_self();
    }
    if (root && result >= 0 && stamp > s->names_durable)
        s->names_durable = stamp;
    advance(s);
    leave(os);
    return result;
}

static int order_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    return below(os)->list(below(os), dir, fn, context);
}

static bool has_suffix(const char *name, const char *suffix)
{
    const size_t size = strlen(name), end = strlen(suffix);

    return size >= end && strcmp(name + size - end, suffix) == 0;
}

/* Hints are a cache: whatever is left of one after a power cut may be there. */
static void check_rename(struct order_state *s, struct order_file *file, const char *to)
{
    if (has_suffix(to, ".hint"))
        return;
    if (file->dirty_count > 0 || file->synced_size < file->size)
        order_break(s, "it is renamed to %s before it is synced", to);
    if (strcmp(to, TKV_MANIFEST_NAME) == 0)
        order_checkpoint_manifest_check(s, file);
}

static void note_rename(struct order_state *s, struct order_file *file, const char *to)
{
    struct order_file *replaced = order_file_find(s, to);

    if (replaced != NULL && replaced != file)
        order_file_gone(s, replaced);
    (void)snprintf(file->name, sizeof file->name, "%s", to);
    file->named_stamp = ++s->stamp;
    if (strcmp(to, TKV_MANIFEST_NAME) == 0)
        order_checkpoint_manifest_note(s, file);
}

static int order_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct order_state *s = enter_change(os, "rename");
    struct order_file *file = is_root(s, dir) ? order_file_find(s, from) : NULL;
    int result;

    s->call_file = from;
    if (file != NULL)
        check_rename(s, file, to);
    leave(os);
    result = below(os)->rename(below(os), dir, from, to);
    s = enter(os, "rename");
    if (file != NULL && result >= 0)
        note_rename(s, file, to);
    leave(os);
    return result;
}

static int order_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct order_state *s = enter_change(os, "unlink");
    const bool root = is_root(s, dir);
    struct order_file *file;
    uint64_t number;
    int result;

    s->call_file = name;
    if (root && (strcmp(name, TKV_MANIFEST_NAME) == 0 || strcmp(name, TKV_WAL_NAME) == 0))
        order_break(s, "a store is nothing without it");
    if (root && tkv_file_name_parse(name, &number) == TKV_NAME_DATA &&
        order_checkpoint_lists(s, number))
        order_break(s, "the newest durable manifest lists it");
    leave(os);
    result = below(os)->unlink(below(os), dir, name);
    s = enter(os, "unlink");
    file = root && result >= 0 ? order_file_find(s, name) : NULL;
    if (file != NULL)
        order_file_gone(s, file);
    leave(os);
    return result;
}

static int order_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    return below(os)->fs_info(below(os), dir, ret_info);
}

/* ---- Opening and closing files ------------------------------------------------------- */

static void check_open(struct order_state *s, const char *name, unsigned flags)
{
    const struct order_file *file = order_file_find(s, name);

    if (!(flags & TKV_OS_TRUNCATE))
        return;
    if ((file != NULL && file->claimed > 0) || strcmp(name, TKV_MANIFEST_NAME) == 0 ||
        (strcmp(name, TKV_WAL_NAME) == 0 && s->manifest.is_known))
        order_break(s, "what is durable in it is cut away");
}

static void note_open(struct order_state *s, int fd, bool root, const char *name,
                      unsigned flags)
{
    const bool is_new = (flags & TKV_OS_CREATE) != 0;
    struct order_file *file = order_file_named(s, name, root, is_new);

    if (flags & TKV_OS_TRUNCATE) {
        file->size = file->synced_size = 0;
        file->dirty_count = 0;
        file->content.size = 0;
        file->base = 0;
        file->file_class = 0;
    }
    order_handle_open(s, fd,
                      (struct order_handle){.file = file,
                                            .flags = flags,
                                            .creates = (flags & TKV_OS_TRUNCATE) != 0});
}

static int order_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct order_state *s =
        flags == TKV_OS_READ ? enter(os, "open") : enter_change(os, "open");
    const bool root = is_root(s, dir);
    int fd;

    s->call_file = name;
    if (root)
        check_open(s, name, flags);
    leave(os);
    fd = below(os)->open(below(os), dir, name, flags);
    if (fd < 0)
        return fd;
    note_open(enter(os, "open"), fd, root, name, flags);
    leave(os);
    return fd;
}

static int order_close(struct tkv_os *os, int fd)
{
    struct order_state *s = enter(os, "close");
    struct order_file *file = file_at(s, fd);

    if (file != NULL && file->in_root && strcmp(file->name, TKV_MANIFEST_NAME) == 0)
        order_checkpoint_manifest_found(s, file);
    order_handle_close(s, fd); /* before the number is used again */
    leave(os);
    return below(os)->close(below(os), fd);
}

/* ---- Reading ------------------------------------------------------------------------- */

static void learn_class(struct order_file *file, const uint8_t *data, uint64_t offset,
                        uint64_t size)
{
    const uint64_t at = 48; /* of the class, in a data file's header */

    if (file->number != 0 && file->file_class == 0 && offset <= at && at < offset + size)
        file->file_class = data[at - offset];
}

static void note_read(struct order_state *s, struct order_file *file, const void *buffer,
                      uint64_t size, uint64_t offset)
{
    learn_class(file, buffer, offset, size);
    if (file->in_root &&
        ((is_log(file) && !s->has_begun) || (strcmp(file->name, TKV_MANIFEST_NAME) == 0)))
        order_keep_bytes(file, buffer, (size_t)size, offset);
}

static int64_t order_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                          uint64_t offset)
{
    const int64_t got = below(os)->read(below(os), fd, buffer, size, offset);
    struct order_state *s;
    struct order_file *file;

    if (got <= 0)
        return got;
    s = enter(os, "read");
    file = file_at(s, fd);
    if (file != NULL)
        note_read(s, file, buffer, (uint64_t)got, offset);
    leave(os);
    return got;
}

static int order_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    const int result = below(os)->file_size(below(os), fd, ret_size);
    struct order_file *file;

    if (result < 0)
        return result;
    file = file_at(enter(os, "file_size"), fd);
    if (file != NULL && file->size == UINT64_MAX)
        file->size = *ret_size;
    leave(os);
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
    if (!is_log(file) || handle->creates)
        return;
    if (offset < TKV_WAL_RING_START)
        order_checkpoint_header_check(s, file, data, offset);
    else
        order_log_check(s, file, data, size, offset);
}

/* Bytes below `offset` + `done` are where they belong. */
static void note_content(struct order_state *s, const struct order_handle *handle,
                         const uint8_t *data, uint64_t done, uint64_t offset)
{
    struct order_file *file = handle->file;

    learn_class(file, data, offset, done);
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
        order_mark_clean(file, offset, offset + done);
    else
        order_mark_dirty(s, file, offset, offset + done);
}

/* A header counts once all of it is written; until then it lies in `rest`. */
static void note_log(struct order_state *s, const struct order_handle *handle,
                     const uint8_t *data, size_t size, uint64_t offset, int64_t done)
{
    struct order_file *file = handle->file;
    const bool failed = done < 0, whole = done == (int64_t)size;

    if (failed && handle->flags & TKV_OS_DIRECT_SYNC) {
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
    if (is_log(file) && !handle->creates)
        note_log(s, handle, data, size, offset, done);
    advance(s);
}

static void begin_write(struct order_state *s, const struct order_handle *handle,
                        const void *data, size_t size, uint64_t offset)
{
    s->call_file = handle->file->name;
    s->call_offset = offset;
    s->call_size = size;
    check_write(s, handle, data, size, offset);
    if (is_log(handle->file) && !handle->creates && offset >= TKV_WAL_RING_START &&
        !is_rest(handle->file, size, offset))
        order_log_enter(s, handle->file, data, size, offset);
}

static int64_t order_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    struct order_state *s = enter_change(os, "write");
    struct order_handle *handle = order_handle_of(s, fd), copy = {.file = NULL};
    int64_t done;

    if (handle != NULL && handle->file != NULL) {
        copy = *handle;
        begin_write(s, &copy, data, size, offset);
    }
    leave(os);
    done = below(os)->write(below(os), fd, data, size, offset);
    s = enter(os, "write");
    if (copy.file != NULL)
        note_write(s, &copy, data, size, offset, done);
    leave(os);
    return done;
}

static void order_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size)
{
    struct order_state *s = enter_change(os, "store");
    struct order_handle *handle = order_handle_of(s, fd), copy = {.file = NULL};

    if (handle != NULL && handle->file != NULL) {
        copy = *handle;
        begin_write(s, &copy, data, size, offset);
    }
    leave(os);
    below(os)->store(below(os), fd, map, offset, data, size);
    s = enter(os, "store");
    if (copy.file != NULL)
        note_write(s, &copy, data, size, offset, (int64_t)size);
    leave(os);
}

/* What a compaction has replaced may be given back in pieces. */
static bool is_dropped(const struct order_state *s, const struct order_file *file)
{
    uint64_t number;

    return tkv_file_name_parse(file->name, &number) == TKV_NAME_DATA &&
           !order_checkpoint_lists(s, number);
}

static int order_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    struct order_state *s = enter_change(os, "truncate");
    struct order_file *file = file_at(s, fd);
    int result;

    if (file != NULL) {
        s->call_file = file->name;
        s->call_offset = size;
        if ((size < file->claimed && !is_dropped(s, file)) ||
            (is_log(file) && size < file->synced_size && file->synced_size != UINT64_MAX))
            order_break(s, "what is durable in it is cut away");
    }
    leave(os);
    result = below(os)->truncate(below(os), fd, size);
    s = enter(os, "truncate");
    if (file != NULL && result >= 0) {
        file->size = size;
        file->synced_size = size < file->synced_size ? size : file->synced_size;
        order_mark_clean(file, size, UINT64_MAX);
    }
    leave(os);
    return result;
}

static int order_sync(struct tkv_os *os, int fd)
{
    struct order_state *s = enter_change(os, "sync");
    struct order_file *file = file_at(s, fd);
    const uint64_t stamp = ++s->stamp;
    uint64_t size = 0;
    int result;

    if (file != NULL) {
        s->call_file = file->name;
        if (file->has_failed && pthread_equal(file->failed_thread, pthread_self()))
            order_break(s, "it is synced again after a write or sync of it failed");
        file->syncs_running++;
        size = file->size;
    }
    leave(os);
    result = below(os)->sync(below(os), fd);
    s = enter(os, "sync");
    if (file != NULL) {
        file->syncs_running--;
        file->has_failed |= result < 0;
        file->failed_thread = pthread_self();
        if (result >= 0)
            order_mark_synced(file, stamp, size);
        advance(s);
    }
    leave(os);
    return result;
}

/* ---- The others ---------------------------------------------------------------------- */

static int order_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    return below(os)->advise(below(os), fd, advice);
}

static int order_map(struct tkv_os *os, int fd, size_t size, bool writable,
                     void **ret_address)
{
    return below(os)->map(below(os), fd, size, writable, ret_address);
}

static int order_unmap(struct tkv_os *os, void *address, size_t size)
{
    return below(os)->unmap(below(os), address, size);
}

static int order_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    return below(os)->lock(below(os), dir, fd, shared);
}

static int order_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    return below(os)->wall_clock_ms(below(os), ret_ms);
}

static int order_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    return below(os)->monotonic_us(below(os), ret_us);
}

static int order_random(struct tkv_os *os, void *buffer, size_t size)
{
    return below(os)->random(below(os), buffer, size);
}

/* ---- Lifetime ------------------------------------------------------------------------ */

static const struct tkv_os order_os = {
    .open_dir = order_open_dir,
    .open_dir_at = order_open_dir_at,
    .sync_dir = order_sync_dir,
    .list = order_list,
    .rename = order_rename,
    .unlink = order_unlink,
    .fs_info = order_fs_info,
    .open = order_open,
    .close = order_close,
    .read = order_read,
    .write = order_write,
    .sync = order_sync,
    .truncate = order_truncate,
    .file_size = order_file_size,
    .advise = order_advise,
    .map = order_map,
    .unmap = order_unmap,
    .store = order_store,
    .lock = order_lock,
    .wall_clock_ms = order_wall_clock_ms,
    .monotonic_us = order_monotonic_us,
    .random = order_random,
};

static void print_and_abort(struct order_verifier *verifier, const char *message)
{
    (void)verifier;
    fprintf(stderr, "order: %s\n", message);
    fflush(NULL);
    abort();
}

struct order_verifier *order_verifier_new(struct tkv_os *below_it)
{
    struct order_verifier *verifier = order_zeroed(sizeof *verifier);

    verifier->os = order_os;
    verifier->violated = print_and_abort;
    verifier->state = order_zeroed(sizeof *verifier->state);
    verifier->state->below = below_it;
    (void)pthread_mutex_init(&verifier->state->mutex, NULL);
    return verifier;
}

void order_verifier_free(struct order_verifier *verifier)
{
    struct order_state *s;

    if (verifier == NULL)
        return;
    s = verifier->state;
    for (size_t i = 0; i < s->file_count; i++) {
        order_release(s->files[i]->dirty);
        order_release(s->files[i]->content.data);
        order_release(s->files[i]);
    }
    order_release(s->files);
    order_release(s->handles);
    order_release(s->manifest.files);
    order_release(s->previous.files);
    order_release(s->groups);
    order_release(s->seqs);
    (void)pthread_mutex_destroy(&s->mutex);
    order_release(s);
    order_release(verifier);
}

/* ---- Acknowledgements ---------------------------------------------------------------- */

void order_verifier_acknowledged(struct order_verifier *verifier, uint64_t records)
{
    struct order_state *s = enter(&verifier->os, "acknowledgement");

    verifier->checks++;
    s->records_acknowledged += records;
    if (s->records_acknowledged > s->records_durable)
        order_break(s, "%llu records are acknowledged, %llu are durable",
                    (unsigned long long)s->records_acknowledged,
                    (unsigned long long)s->records_durable);
    leave(&verifier->os);
}

uint64_t order_verifier_groups(struct order_verifier *verifier)
{
    struct order_state *s = enter(&verifier->os, "sync");
    uint64_t groups = s->popped + (s->group_end - s->group_first);

    if (s->group_end > s->group_first && !s->groups[s->group_end - 1].done)
        groups--;
    leave(&verifier->os);
    return groups;
}

void order_verifier_synced(struct order_verifier *verifier, uint64_t groups)
{
    struct order_state *s = enter(&verifier->os, "sync");
    const uint64_t durable = s->popped + (s->durable_end - s->group_first);

    verifier->checks++;
    if (durable < groups)
        order_break(s, "it has returned, and of %llu groups %llu are durable",
                    (unsigned long long)groups, (unsigned long long)durable);
    leave(&verifier->os);
}
