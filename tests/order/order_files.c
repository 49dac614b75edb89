/* SPDX-License-Identifier: MIT */
/*
 * order_files.c - files, names and descriptors as the order verifier sees them, and which of
 * their bytes are durable.
 *
 * Invariant: bytes outside of a file's dirty ranges, below its synced size, are on disk. wal.log
 * as it was found is dirty as a whole: a process that was killed may have written it last.
 *
 * Threads: with the verifier's mutex held.
 */
#include "order_private.h"

#include <stdio.h>

/* ---- Names --------------------------------------------------------------------------- */

struct order_file *order_file_find(struct order_state *s, const char *name)
{
    for (size_t i = 0; i < s->file_count; i++) {
        struct order_file *file = s->files[i];

        if (file->in_root && !file->is_gone && strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

struct order_file *order_file_number(struct order_state *s, uint64_t number)
{
    for (size_t i = 0; i < s->file_count; i++) {
        struct order_file *file = s->files[i];

        if (!file->is_gone && file->number == number)
            return file;
    }
    return NULL;
}

/* Which files were durable before this opening is for the checkpoint that was found to say;
 * only the log is in doubt. */
static void take_as_found(struct order_file *file)
{
    file->size = file->synced_size = UINT64_MAX;
    if (strcmp(file->name, TKV_WAL_NAME) != 0)
        return;
    file->dirty = order_grow(NULL, &file->dirty_capacity, 1, sizeof *file->dirty);
    file->dirty[file->dirty_count++] = (struct order_range){0, UINT64_MAX, 0};
    file->synced_size = 0;
}

struct order_file *order_file_named(struct order_state *s, const char *name, bool in_root,
                                    bool is_new)
{
    struct order_file *file = in_root ? order_file_find(s, name) : NULL;
    uint64_t number;

    if (file != NULL)
        return file;
    file = order_zeroed(sizeof *file);
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    file->in_root = in_root;
    if (in_root && tkv_file_name_parse(name, &number) == TKV_NAME_DATA)
        file->number = number;
    if (is_new)
        file->named_stamp = ++s->stamp;
    else
        take_as_found(file);
    s->files = order_grow(s->files, &s->file_capacity, s->file_count + 1, sizeof(void *));
    s->files[s->file_count++] = file;
    return file;
}

static void sweep(struct order_state *s, struct order_file *file)
{
    if (!file->is_gone || file->handles > 0)
        return;
    for (size_t i = 0; i < s->file_count; i++) {
        if (s->files[i] == file)
            s->files[i] = s->files[--s->file_count];
    }
    order_release(file->dirty);
    order_release(file->content.data);
    order_release(file);
}

void order_file_gone(struct order_state *s, struct order_file *file)
{
    file->is_gone = true;
    sweep(s, file);
}

bool order_is_name_durable(const struct order_state *s, const struct order_file *file)
{
    return file->named_stamp < s->names_durable;
}

/* ---- Descriptors --------------------------------------------------------------------- */

struct order_handle *order_handle_of(struct order_state *s, int fd)
{
    return fd >= 0 && (size_t)fd < s->handle_count ? &s->handles[fd] : NULL;
}

void order_handle_open(struct order_state *s, int fd, struct order_handle handle)
{
    const size_t need = (size_t)fd + 1;

    s->handles = order_grow(s->handles, &s->handle_capacity, need, sizeof *s->handles);
    while (s->handle_count < need)
        memset(&s->handles[s->handle_count++], 0, sizeof *s->handles);
    s->handles[fd] = handle;
    if (handle.file != NULL)
        handle.file->handles++;
}

static bool has_unsynced_writes(const struct order_file *file)
{
    for (size_t i = 0; i < file->dirty_count; i++) {
        if (file->dirty[i].stamp > 0) /* written in this opening */
            return true;
    }
    return false;
}

void order_handle_close(struct order_state *s, int fd)
{
    struct order_handle *handle = order_handle_of(s, fd);
    struct order_file *file = handle == NULL ? NULL : handle->file;

    if (handle == NULL)
        return;
    memset(handle, 0, sizeof *handle);
    if (file == NULL)
        return;
    file->handles--;
    file->was_let_go |= file->handles == 0 && has_unsynced_writes(file);
    /* Nothing is checked about files of directories below that outlives the descriptor. */
    file->is_gone |= !file->in_root;
    sweep(s, file);
}

/* ---- Durable bytes ------------------------------------------------------------------- */

bool order_is_clean(const struct order_file *file, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < file->dirty_count; i++) {
        if (file->dirty[i].from < to && from < file->dirty[i].to)
            return false;
    }
    return true;
}

static void add_range(struct order_file *file, struct order_range range)
{
    file->dirty = order_grow(file->dirty, &file->dirty_capacity, file->dirty_count + 1,
                             sizeof *file->dirty);
    file->dirty[file->dirty_count++] = range;
}

/* While a sync runs, bytes written before and after its beginning are told apart. */
void order_mark_dirty(struct order_state *s, struct order_file *file, uint64_t from,
                      uint64_t to)
{
    struct order_range *last =
        file->dirty_count == 0 ? NULL : &file->dirty[file->dirty_count - 1];

    if (from >= to)
        return;
    if (last != NULL && file->syncs_running == 0 && from <= last->to && to >= last->from) {
        last->from = from < last->from ? from : last->from;
        last->to = to > last->to ? to : last->to;
        last->stamp = ++s->stamp;
        return;
    }
    add_range(file, (struct order_range){from, to, ++s->stamp});
}

void order_mark_clean(struct order_file *file, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < file->dirty_count;) {
        const struct order_range r = file->dirty[i];

        if (r.from >= to || from >= r.to) {
            i++;
            continue;
        }
        file->dirty[i] = file->dirty[--file->dirty_count];
        if (r.from < from)
            add_range(file, (struct order_range){r.from, from, r.stamp});
        if (to < r.to)
            add_range(file, (struct order_range){to, r.to, r.stamp});
    }
}

void order_mark_synced(struct order_file *file, uint64_t stamp, uint64_t size)
{
    for (size_t i = 0; i < file->dirty_count;) {
        if (file->dirty[i].stamp < stamp)
            file->dirty[i] = file->dirty[--file->dirty_count];
        else
            i++;
    }
    /* `size` was so when the sync began: a durable write may have made the file longer since, a
     * truncation shorter. */
    if (size > file->size)
        size = file->size;
    if (size > file->synced_size)
        file->synced_size = size;
}

/* ---- Content that rules look at ------------------------------------------------------ */

void order_keep_bytes(struct order_file *file, const void *data, size_t size,
                      uint64_t offset)
{
    struct order_bytes *content = &file->content;
    uint64_t end;

    if (content->size == 0 && file->number != 0)
        file->base = offset;
    if (offset < file->base || size == 0)
        return;
    offset -= file->base;
    end = offset + size;
    content->data = order_grow(content->data, &content->capacity, (size_t)end, 1);
    if (offset > content->size)
        memset(content->data + content->size, 0, (size_t)(offset - content->size));
    memcpy(content->data + offset, data, size);
    if (end > content->size)
        content->size = (size_t)end;
}
