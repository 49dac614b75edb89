/* SPDX-License-Identifier: MIT */
/*
 * order_verifier.c - one order verifier: what happens before and after every call, the calls
 * that no rule is about, and acknowledgements.
 */
#include "order_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Before and after a call --------------------------------------------------------- */

struct order_verifier *order_verifier_of(struct tkv_os *os)
{
    return (struct order_verifier *)(void *)os;
}

struct tkv_os *order_below(struct tkv_os *os)
{
    return order_verifier_of(os)->state->below;
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

struct order_state *order_enter(struct tkv_os *os, const char *call)
{
    struct order_verifier *verifier = order_verifier_of(os);
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
struct order_state *order_enter_change(struct tkv_os *os, const char *call)
{
    struct order_state *s = order_enter(os, call);

    order_verifier_of(os)->checks++;
    if (order_verifier_of(os)->read_only)
        order_break(s, "the store is open for reading only");
    order_checkpoint_begin(s);
    return s;
}

void order_leave(struct tkv_os *os)
{
    struct order_verifier *verifier = order_verifier_of(os);
    char message[sizeof verifier->state->message];

    memcpy(message, verifier->state->message, sizeof message);
    verifier->state->message[0] = 0;
    (void)pthread_mutex_unlock(&verifier->state->mutex);
    if (message[0] != 0)
        verifier->violated(verifier, message);
}

void order_advance(struct order_state *s)
{
    struct order_file *log = order_file_find(s, TKV_WAL_NAME);

    order_log_advance(s, log);
    order_checkpoint_advance(s, log);
}

struct order_file *order_file_at(struct order_state *s, int fd)
{
    const struct order_handle *handle = order_handle_of(s, fd);

    return handle == NULL ? NULL : handle->file;
}

bool order_is_root(struct order_state *s, int dir)
{
    const struct order_handle *handle = order_handle_of(s, dir);

    return handle != NULL && handle->is_root;
}

bool order_is_log(const struct order_file *file)
{
    return file->in_root && strcmp(file->name, TKV_WAL_NAME) == 0;
}

/* ---- The others ---------------------------------------------------------------------- */

static int watch_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    return order_below(os)->advise(order_below(os), fd, advice);
}

static int watch_map(struct tkv_os *os, int fd, size_t size, bool writable,
                     void **ret_address)
{
    return order_below(os)->map(order_below(os), fd, size, writable, ret_address);
}

static int watch_unmap(struct tkv_os *os, void *address, size_t size)
{
    return order_below(os)->unmap(order_below(os), address, size);
}

static int watch_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    return order_below(os)->lock(order_below(os), dir, fd, shared);
}

static int watch_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    return order_below(os)->wall_clock_ms(order_below(os), ret_ms);
}

static int watch_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    return order_below(os)->monotonic_us(order_below(os), ret_us);
}

static int watch_random(struct tkv_os *os, void *buffer, size_t size)
{
    return order_below(os)->random(order_below(os), buffer, size);
}

/* ---- Lifetime ------------------------------------------------------------------------ */

static const struct tkv_os order_os = {
    .open_dir = watch_open_dir,
    .open_dir_at = watch_open_dir_at,
    .sync_dir = watch_sync_dir,
    .list = watch_list,
    .rename = watch_rename,
    .unlink = watch_unlink,
    .fs_info = watch_fs_info,
    .open = watch_open,
    .close = watch_close,
    .read = watch_read,
    .write = watch_write,
    .sync = watch_sync,
    .truncate = watch_truncate,
    .allocate = watch_allocate,
    .file_size = watch_file_size,
    .advise = watch_advise,
    .map = watch_map,
    .unmap = watch_unmap,
    .store = watch_store,
    .lock = watch_lock,
    .wall_clock_ms = watch_wall_clock_ms,
    .monotonic_us = watch_monotonic_us,
    .random = watch_random,
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
    struct order_state *s = order_enter(&verifier->os, "acknowledgement");

    verifier->checks++;
    s->records_acknowledged += records;
    if (s->records_acknowledged > s->records_durable)
        order_break(s, "%llu records are acknowledged, %llu are durable",
                    (unsigned long long)s->records_acknowledged,
                    (unsigned long long)s->records_durable);
    order_leave(&verifier->os);
}

uint64_t order_verifier_groups(struct order_verifier *verifier)
{
    struct order_state *s = order_enter(&verifier->os, "sync");
    uint64_t groups = s->popped + (s->group_end - s->group_first);

    if (s->group_end > s->group_first && !s->groups[s->group_end - 1].done)
        groups--;
    order_leave(&verifier->os);
    return groups;
}

void order_verifier_synced(struct order_verifier *verifier, uint64_t groups)
{
    struct order_state *s = order_enter(&verifier->os, "sync");
    const uint64_t durable = s->popped + (s->durable_end - s->group_first);

    verifier->checks++;
    if (durable < groups)
        order_break(s, "it has returned, and of %llu groups %llu are durable",
                    (unsigned long long)groups, (unsigned long long)durable);
    order_leave(&verifier->os);
}
