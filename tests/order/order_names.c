/* SPDX-License-Identifier: MIT */
/* order_names.c - the order verifier's calls on directories, and opening and closing files. */
#include "order_private.h"

#include <stdio.h>

/* ---- Directories --------------------------------------------------------------------- */

static int note_directory(struct tkv_os *os, int fd, bool root)
{
    if (fd < 0)
        return fd;
    order_handle_open(order_enter(os, "open"), fd,
                      (struct order_handle){.is_directory = true, .is_root = root});
    order_leave(os);
    return fd;
}

int watch_open_dir(struct tkv_os *os, const char *path, bool create)
{
    return note_directory(os, order_below(os)->open_dir(order_below(os), path, create),
                          true);
}

int watch_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    return note_directory(
        os, order_below(os)->open_dir_at(order_below(os), dir, name, create), false);
}

int watch_sync_dir(struct tkv_os *os, int dir)
{
    struct order_state *s = order_enter_change(os, "sync");
    const bool root = order_is_root(s, dir);
    const uint64_t stamp = ++s->stamp;
    int result;

    if (root && s->root_sync_failed && pthread_equal(s->root_failed_thread, pthread_self()))
        order_break(s, "the directory is synced again after a failed sync");
    order_leave(os);
    result = order_below(os)->sync_dir(order_below(os), dir);
    s = order_enter(os, "sync");
    if (root && result < 0) {
        s->root_sync_failed = true;
        s->root_failed_thread = pthread_self();
    }
    if (root && result >= 0 && stamp > s->names_durable)
        s->names_durable = stamp;
    order_advance(s);
    order_leave(os);
    return result;
}

int watch_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    return order_below(os)->list(order_below(os), dir, fn, context);
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

int watch_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct order_state *s = order_enter_change(os, "rename");
    struct order_file *file = order_is_root(s, dir) ? order_file_find(s, from) : NULL;
    int result;

    s->call_file = from;
    if (file != NULL)
        check_rename(s, file, to);
    order_leave(os);
    result = order_below(os)->rename(order_below(os), dir, from, to);
    s = order_enter(os, "rename");
    if (file != NULL && result >= 0)
        note_rename(s, file, to);
    order_leave(os);
    return result;
}

int watch_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct order_state *s = order_enter_change(os, "unlink");
    const bool root = order_is_root(s, dir);
    struct order_file *file;
    uint64_t number;
    int result;

    s->call_file = name;
    if (root && (strcmp(name, TKV_MANIFEST_NAME) == 0 || strcmp(name, TKV_WAL_NAME) == 0))
        order_break(s, "a store is nothing without it");
    if (root && tkv_file_name_parse(name, &number) == TKV_NAME_DATA &&
        order_checkpoint_lists(s, number))
        order_break(s, "the newest durable manifest lists it");
    order_leave(os);
    result = order_below(os)->unlink(order_below(os), dir, name);
    s = order_enter(os, "unlink");
    file = root && result >= 0 ? order_file_find(s, name) : NULL;
    if (file != NULL)
        order_file_gone(s, file);
    order_leave(os);
    return result;
}

int watch_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    return order_below(os)->fs_info(order_below(os), dir, ret_info);
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

int watch_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct order_state *s =
        flags == TKV_OS_READ ? order_enter(os, "open") : order_enter_change(os, "open");
    const bool root = order_is_root(s, dir);
    int fd;

    s->call_file = name;
    if (root)
        check_open(s, name, flags);
    order_leave(os);
    fd = order_below(os)->open(order_below(os), dir, name, flags);
    if (fd < 0)
        return fd;
    note_open(order_enter(os, "open"), fd, root, name, flags);
    order_leave(os);
    return fd;
}

int watch_close(struct tkv_os *os, int fd)
{
    struct order_state *s = order_enter(os, "close");
    struct order_file *file = order_file_at(s, fd);

    if (file != NULL && file->in_root && strcmp(file->name, TKV_MANIFEST_NAME) == 0)
        order_checkpoint_manifest_found(s, file);
    order_handle_close(s, fd); /* before the number is used again */
    order_leave(os);
    return order_below(os)->close(order_below(os), fd);
}
