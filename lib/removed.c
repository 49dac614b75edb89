/* SPDX-License-Identifier: MIT */
/*
 * removed.c - what is left of data files that have been removed: memory, a mapping, and space that
 * the file system frees with the last descriptor. A few wait for the flusher, while there is room
 * on the disk; whoever finds no place for one does the work himself.
 *
 * To take a file of 5 MB out of the page cache and off the disk occupies the system for 2 ms. A
 * device that is told of freed space at once (the mount option discard) does nothing else for
 * 1.5 ms then, nor does a commit get through. So a file is cut before it is closed, in steps that
 * are short where writers wait for the device, and one at a time.
 *
 * When something fails: all at once then.
 *
 * Threads: any; for tkv_removed_abandon() the only one.
 */
#include "store.h"

#include "give_way.h"

#define STEP_SIZE        (32u * 1024 * 1024)
#define STEP_SIZE_ALWAYS (256u * 1024) /* where every writer waits for the device */

static uint64_t step_size(const struct tkv_store *store)
{
    return store->options.durability == TKV_DURABILITY_ALWAYS ? STEP_SIZE_ALWAYS
                                                              : STEP_SIZE;
}

/* Not for a large value: were its name to come back after a power cut, an expired record would
 * refer to half of it. Nor for a file that somebody keeps under another name. */
void tkv_removed_prepare(struct tkv_store *store, struct tkv_datafile *file)
{
    file->left = atomic_load(&file->size);
    if (file->left > step_size(store) && file->file_class != TKV_FILE_LARGE)
        file->cut_fd = store->os->open(store->os, store->dir, file->name,
                                       TKV_OS_WRITE | TKV_OS_ONLY_NAME);
}

/* One step. False: the rest goes with the last descriptor, whose owner may be a reader. */
static bool cut(struct tkv_store *store, struct tkv_datafile *file)
    TKV_REQUIRES(store->removing)
{
    const uint64_t step = step_size(store);

    if (file->cut_fd < 0 || file->left <= step || atomic_load(&file->references) != 1)
        return false;
    tkv_datafile_unmap(file);
    file->left -= step;
    return store->os->truncate(store->os, file->cut_fd, file->left) == 0;
}

static void release(struct tkv_datafile *file)
{
    if (file->cut_fd >= 0) /* a reader may keep the rest for long */
        (void)file->os->close(file->os, file->cut_fd);
    file->cut_fd = -1;
    tkv_datafile_release(file);
}

static bool keep(struct tkv_store *store, struct tkv_datafile *file)
{
    for (unsigned i = 0; i < TKV_REMOVED_MAX; i++) {
        struct tkv_datafile *none = NULL;

        if (atomic_compare_exchange_strong(&store->removed[i], &none, file))
            return true;
    }
    return false;
}

static void finish(struct tkv_store *store, struct tkv_datafile *file)
{
    bool more;

    do {
        tkv_mutex_lock(&store->removing);
        more = cut(store, file);
        tkv_mutex_unlock(&store->removing);
        tkv_give_way();
    } while (more);
    release(file);
}

void tkv_removed_add(struct tkv_store *store, struct tkv_datafile *file)
{
    /* On a full disk somebody waits for the room. */
    if (store->flusher.started && !atomic_load(&store->disk_full) && keep(store, file))
        tkv_worker_wake(&store->flusher);
    else
        finish(store, file);
}

/* It stays where it is until nothing is left to cut: who looks for room must see it. */
static void step_at(struct tkv_store *store, unsigned place) TKV_REQUIRES(store->removing)
{
    struct tkv_datafile *file = atomic_load(&store->removed[place]);

    if (cut(store, file))
        return;
    atomic_store(&store->removed[place], NULL);
    release(file);
}

static unsigned first_that_waits(struct tkv_store *store)
{
    unsigned i = 0;

    while (i < TKV_REMOVED_MAX && atomic_load(&store->removed[i]) == NULL)
        i++;
    return i;
}

bool tkv_removed_step(struct tkv_store *store)
{
    unsigned place;

    tkv_mutex_lock(&store->removing);
    place = first_that_waits(store);
    if (place < TKV_REMOVED_MAX)
        step_at(store, place);
    tkv_mutex_unlock(&store->removing);
    if (place < TKV_REMOVED_MAX)
        tkv_give_way(); /* the system's part is long enough */
    return place < TKV_REMOVED_MAX;
}

void tkv_removed_finish(struct tkv_store *store)
{
    while (tkv_removed_step(store))
        ;
}

void tkv_removed_abandon(struct tkv_store *store)
{
    for (unsigned i = 0; i < TKV_REMOVED_MAX; i++) {
        if (atomic_load(&store->removed[i]) != NULL)
            release(atomic_exchange(&store->removed[i], NULL));
    }
}
