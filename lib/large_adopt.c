/* SPDX-License-Identifier: MIT */
/*
 * large_adopt.c - while a store is being opened: which files of large values are live, namely
 * those that a live record refers to. The manifest need not list them.
 *
 * When something fails, opening fails: a reference without its file is damage. Not so when the
 * key expires: once it has, its file may be removed before its record is. Then the record is a
 * delete, or, with a clock that was set back, a key whose value cannot be read any more. Nor
 * when the record itself is damaged: it costs its key, and since nobody knows which file it
 * refers to, no file of a large value is given up.
 *
 * Threads: only while a store is being opened.
 */
#include "large.h"

#include "store.h"

#include <errno.h>
#include <stdlib.h>

/* The file is gone, and may be. */
static bool is_expired_without_file(struct tkv_store *store,
                                    const struct tkv_location *location,
                                    struct tkv_slice key, uint64_t number)
{
    struct tkv_location old;
    char name[TKV_FILE_NAME_SIZE];
    int fd;

    if (location->expires_at_ms == 0)
        return false;
    tkv_data_name(number, name);
    fd = store->os->open(store->os, store->dir, name, TKV_OS_READ);
    if (fd >= 0)
        (void)store->os->close(store->os, fd);
    if (fd != -ENOENT)
        return false;
    if (location->expires_at_ms <= tkv_store_now_ms(store) &&
        tkv_index_remove_at(store->index, key, tkv_index_hash(store->index, key),
                            location->place, &old))
        tkv_files_expired(store, &old);
    return true;
}

static enum tkv_status adopt_large(struct tkv_store *store,
                                   const struct tkv_location *location,
                                   struct tkv_slice key, struct tkv_open_report *report,
                                   struct tkv_error *err)
{
    struct tkv_large_reference reference;
    struct tkv_found found;
    enum tkv_status status = tkv_read_record(store, location, key, &found, err);
    bool good;

    /* What cannot be read costs its own key. */
    if (status == TKV_CORRUPT || status == TKV_IO) {
        store->keeps_large = true;
        return TKV_OK;
    }
    if (status != TKV_OK)
        return status;
    good = tkv_large_decode(found.record.value, &reference);
    free(found.bytes);
    if (!good)
        return tkv_fail_corrupt(err, found.file->name, found.offset, 0,
                                "reference to a large value");
    if (tkv_files_find(store, reference.number) == NULL &&
        is_expired_without_file(store, location, key, reference.number))
        return TKV_OK;
    if (tkv_files_find(store, reference.number) == NULL) {
        const struct tkv_manifest_file entry = {
            .number = reference.number,
            .durable_size = tkv_large_file_size(&reference),
            .seq_base = TKV_SEQ_BASE_ANY,
            .file_class = TKV_FILE_LARGE,
            .sealed = true,
        };
        status = tkv_load_open(store, &entry, report, err);
        if (status != TKV_OK)
            return status;
        tkv_files_find(store, reference.number)->listed = false;
    }
    tkv_large_referenced(store, &reference);
    return TKV_OK;
}

/* What no readable record refers to may be what an unreadable one does. */
static void keep_unreferenced(struct tkv_store *store)
{
    struct tkv_datafile *file;
    uint32_t slot = 0;

    while ((file = tkv_files_next(store, &slot)) != NULL) {
        if (file->file_class == TKV_FILE_LARGE &&
            tkv_usage_get(&file->usage.live_records) == 0)
            atomic_store(&file->damaged, true);
    }
}

enum tkv_status tkv_large_adopt(struct tkv_store *store, struct tkv_open_report *report,
                                struct tkv_error *err)
{
    struct tkv_index_cursor cursor = {0};
    struct tkv_index_page page = {0};
    enum tkv_status status = TKV_OK;

    if (!atomic_load(&store->has_large))
        return TKV_OK;
    while (status == TKV_OK && !cursor.done) {
        status = tkv_index_step(store->index, &cursor, &page, err);
        for (size_t i = 0; status == TKV_OK && i < page.count; i++) {
            const size_t from = i == 0 ? 0 : page.ends[i - 1];

            if ((page.locations[i].place & TKV_PLACE_LARGE) == 0)
                continue;
            status =
                adopt_large(store, &page.locations[i],
                            tkv_bytes(page.bytes + from, page.ends[i] - from), report, err);
        }
    }
    tkv_index_page_release(&page);
    if (store->keeps_large)
        keep_unreferenced(store);
    return status;
}
