/* SPDX-License-Identifier: MIT */
/*
 * simdisk_survivor.c - new disks with what survives of one: all of it when the process was
 * killed, and what the model says when the power was cut.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <stdlib.h>
#include <string.h>

static struct simdisk *new_like(const struct simdisk *disk)
{
    struct simdisk *after = simdisk_new_without_root();

    after->capacity = disk->capacity;
    after->io_size_max = disk->io_size_max;
    after->root_is_missing = disk->root_is_missing;
    after->is_remote = disk->is_remote;
    after->is_read_only = disk->is_read_only;
    after->no_direct_sync = disk->no_direct_sync;
    after->no_allocation = disk->no_allocation;
    after->failed_sync = disk->failed_sync;
    after->drops_cache = disk->drops_cache;
    after->wall_ms = disk->wall_ms;
    after->monotonic_us = disk->monotonic_us;
    after->random_state = disk->random_state;
    after->violated = disk->violated;
    after->context = disk->context;
    after->inodes = simdisk_checked(calloc(disk->inode_count + 1, sizeof *after->inodes));
    after->inode_count = disk->inode_count;
    after->inode_capacity = disk->inode_count + 1;
    for (size_t i = 0; i < disk->directory_count; i++)
        (void)simdisk_add_directory(after, disk->directories[i].name);
    return after;
}

/* ---- Survivors: the process was killed ------------------------------------------- */

/* What is known of the first `size` bytes, in whole pages. */
static void copy_page_hashes(struct simdisk_inode *to, const struct simdisk_inode *from,
                             uint64_t size)
{
    const size_t count = min_u64(from->page_hash_count, size / SIMDISK_PAGE);

    to->page_hashes = simdisk_copy_of(from->page_hashes, count * sizeof *to->page_hashes);
    to->page_hash_count = to->page_hash_capacity = count;
}

static void copy_inode(struct simdisk *after, size_t i, const struct simdisk_inode *from)
{
    struct simdisk_inode *to = &after->inodes[i];

    to->in_use = true;
    memcpy(to->name, from->name, sizeof to->name);
    to->content = simdisk_copy_of(from->content, from->size);
    to->capacity = from->size;
    to->size = from->size;
    to->durable_size = from->durable_size;
    to->extent = from->extent;
    after->used_bytes += tkv_round_up(to->size, SIMDISK_PAGE);
    copy_page_hashes(to, from, from->size);
    if (from->dirty_count == 0)
        return;
    to->dirty = simdisk_copy_of(from->dirty, from->dirty_count * sizeof *to->dirty);
    to->dirty_at =
        simdisk_copy_of(from->dirty_at, from->dirty_at_count * sizeof *to->dirty_at);
    to->saved = simdisk_checked(malloc(from->dirty_count * SIMDISK_PAGE));
    to->dirty_count = to->dirty_capacity = to->saved_capacity = from->dirty_count;
    to->dirty_at_count = to->dirty_at_capacity = from->dirty_at_count;
    for (size_t k = 0; k < to->dirty_count; k++) {
        if (!to->dirty[k].was_empty) {
            memcpy(to->saved + k * SIMDISK_PAGE, from->saved + k * SIMDISK_PAGE,
                   SIMDISK_PAGE);
        }
    }
}

static void copy_pending(struct simdisk *after, const struct simdisk *disk)
{
    after->pending = simdisk_grow(after->pending, &after->pending_capacity,
                                  disk->pending_count, sizeof *after->pending);
    after->bytes = simdisk_grow(after->bytes, &after->bytes_capacity, disk->bytes_size, 1);
    for (size_t i = 0; i < disk->pending_count; i++) {
        struct simdisk_pending p = disk->pending[i];
        if (is_data(&p) && !after->inodes[p.target].in_use)
            continue;
        if (p.in_flight) {
            if (p.seen == 0)
                continue;
            p.size = p.seen;
            p.file_size = min_u64(p.file_size, after->inodes[p.target].size);
            p.in_flight = false;
        }
        simdisk_add_pending(after, p, disk->bytes + p.at);
    }
}

static struct simdisk *survive_kill(const struct simdisk *disk)
{
    struct simdisk *after = new_like(disk);
    bool *named = simdisk_named_inodes(disk);

    for (size_t i = 0; i < disk->directory_count; i++) {
        simdisk_copy_entries(&after->directories[i].now, &disk->directories[i].now);
        simdisk_copy_entries(&after->directories[i].durable, &disk->directories[i].durable);
    }
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].in_use && named[i])
            copy_inode(after, i, &disk->inodes[i]);
    }
    copy_pending(after, disk);
    free(named);
    return after;
}

/* ---- Survivors: the power was cut ------------------------------------------------ */

static void survive_entries(struct simdisk *after, const struct simdisk *disk,
                            struct fate *fate)
{
    size_t *order = simdisk_checked(malloc((disk->pending_count + 1) * sizeof *order));
    size_t count = 0;

    for (size_t i = 0; i < disk->directory_count; i++)
        simdisk_copy_entries(&after->directories[i].now, &disk->directories[i].durable);
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (!is_data(&disk->pending[i]) && fate->keep[i])
            order[count++] = i;
    }
    for (size_t i = count; fate->shuffle_entries && i > 1; i--) {
        const size_t other = (simdisk_next_random(&fate->random) >> 32) % i;
        const size_t swapped = order[i - 1];
        order[i - 1] = order[other];
        order[other] = swapped;
    }
    for (size_t i = 0; i < count; i++) {
        const struct simdisk_pending *p = &disk->pending[order[i]];
        simdisk_apply_entry_operation(&after->directories[p->directory].now, p,
                                      (const char *)disk->bytes + p->at);
    }
    for (size_t i = 0; i < disk->directory_count; i++)
        simdisk_copy_entries(&after->directories[i].durable, &after->directories[i].now);
    free(order);
}

/* The medium's bytes, with room for every pending unit. */
static void survive_content(struct simdisk_inode *to, const struct simdisk_inode *from)
{
    const size_t common = min_u64(from->size, from->durable_size);

    to->in_use = true;
    memcpy(to->name, from->name, sizeof to->name);
    to->capacity = max_u64(from->extent, from->durable_size);
    to->size = from->durable_size;
    to->extent = to->capacity;
    if (to->capacity == 0)
        return;
    to->content = simdisk_checked(malloc(to->capacity));
    if (common > 0)
        memcpy(to->content, from->content, common);
    memset(to->content + common, 0, to->capacity - common);
    copy_page_hashes(to, from, common);
    for (size_t i = 0; i < from->dirty_count; i++) {
        const uint64_t start = (uint64_t)from->dirty[i].page * SIMDISK_PAGE;
        size_t size;
        /* All that survives of what is pending, and all that does not, lies there. */
        simdisk_touch(to, start, start + SIMDISK_PAGE);
        if (start >= to->size)
            continue;
        size = min_u64(SIMDISK_PAGE, to->size - start);
        if (from->dirty[i].was_empty)
            memset(to->content + start, 0, size);
        else
            memcpy(to->content + start, from->saved + i * SIMDISK_PAGE, size);
    }
}

static void survive_reachable(struct simdisk *after, const struct simdisk *disk,
                              uint32_t directory)
{
    const struct entries *entries = &after->directories[directory].now;

    for (size_t i = 0; i < entries->count; i++) {
        const uint32_t target = entries->items[i].target;
        if (entries->items[i].is_directory)
            survive_reachable(after, disk, target);
        else if (!after->inodes[target].in_use)
            survive_content(&after->inodes[target], &disk->inodes[target]);
    }
}

static void apply_data(struct simdisk_inode *inode, const struct simdisk_pending *p,
                       const uint8_t *data, uint8_t mask, bool size_survives)
{
    const uint8_t full = simdisk_unit_mask(p);
    const uint64_t page = p->offset / SIMDISK_PAGE * SIMDISK_PAGE;

    if (p->kind == TRUNCATE) {
        if (mask == 0)
            return;
        if (p->file_size < inode->size) {
            memset(inode->content + p->file_size, 0, inode->capacity - p->file_size);
        }
        simdisk_touch(inode, p->file_size, inode->capacity);
        inode->size = p->file_size;
        return;
    }
    if (size_survives || mask & (full & -full))
        inode->size = max_u64(inode->size, p->file_size);
    if (p->kind != WRITE || mask == 0)
        return;
    if (mask == full) {
        memcpy(inode->content + p->offset, data, p->size);
        return;
    }
    for (unsigned k = 0; k < SECTORS_PER_PAGE; k++) {
        const uint64_t sector = page + k * SIMDISK_SECTOR;
        const uint64_t from = max_u64(sector, p->offset);
        const uint64_t to = min_u64(sector + SIMDISK_SECTOR, p->offset + p->size);
        if (mask >> k & 1)
            memcpy(inode->content + from, data + (from - p->offset), to - from);
    }
}

static void survive_data(struct simdisk *after, const struct simdisk *disk,
                         const struct fate *fate)
{
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (is_data(p) && after->inodes[p->target].in_use) {
            apply_data(&after->inodes[p->target], p, disk->bytes + p->at, fate->keep[i],
                       fate->sizes_survive);
        }
    }
}

/* What is in a sector that was being written and is not there: garbage always (P5), or by
 * chance its old bytes, zeros or garbage (P4). */
static void spoil_sectors(struct simdisk_inode *inode, const uint8_t *kept,
                          const uint8_t *touched, struct fate *fate, bool always)
{
    for (uint64_t offset = 0; offset < inode->size; offset += SIMDISK_SECTOR) {
        const uint64_t page = offset / SIMDISK_PAGE;
        const unsigned bit = 1u << offset / SIMDISK_SECTOR % SECTORS_PER_PAGE;
        const size_t size = min_u64(SIMDISK_SECTOR, inode->size - offset);
        unsigned what;

        if (offset % SIMDISK_PAGE == 0 && touched[page] == 0) {
            offset += SIMDISK_PAGE - SIMDISK_SECTOR;
            continue;
        }
        if (!(touched[page] & ~(unsigned)kept[page] & bit))
            continue;
        what = always ? 0 : (unsigned)(simdisk_next_random(&fate->random) >> 32) % 3;
        if (what == 0)
            simdisk_fill_random(&fate->random, inode->content + offset, size);
        else if (what == 1)
            memset(inode->content + offset, 0, size);
    }
}

/* A page that some file has, or had, at this very moment; zeros when the choice is bad. */
static void fill_stale(const struct simdisk *disk, struct fate *fate, uint8_t *p,
                       size_t size)
{
    const uint64_t chance = simdisk_next_random(&fate->random) >> 16;
    const struct simdisk_inode *inode = &disk->inodes[chance % disk->inode_count];
    const uint64_t pages = inode->size / SIMDISK_PAGE;
    const uint64_t page = pages == 0 ? 0 : chance / disk->inode_count / 2 % pages;

    if (inode->in_use && pages > 0 && chance & 1)
        memcpy(p, inode->content + page * SIMDISK_PAGE, size);
}

static void spoil_growth(const struct simdisk *disk, struct simdisk_inode *inode,
                         uint64_t old_size, struct fate *fate)
{
    for (uint64_t offset = tkv_round_up(old_size, SIMDISK_PAGE); offset < inode->size;
         offset += SIMDISK_PAGE) {
        fill_stale(disk, fate, inode->content + offset,
                   min_u64(SIMDISK_PAGE, inode->size - offset));
    }
}

static void spoil(struct simdisk *after, const struct simdisk *disk, struct fate *fate,
                  enum simdisk_model model, uint64_t choice)
{
    for (size_t i = 0; i < after->inode_count; i++) {
        struct simdisk_inode *inode = &after->inodes[i];
        const uint8_t *kept = fate->kept + fate->page_base[i];
        const uint8_t *touched = fate->touched + fate->page_base[i];

        if (!inode->in_use)
            continue;
        if (disk->inodes[i].pending_count > 0 &&
            (model == SIMDISK_TORN || model == SIMDISK_TRASHED))
            spoil_sectors(inode, kept, touched, fate, model == SIMDISK_TRASHED);
        if (model == SIMDISK_SIZE_ONLY && choice != 0)
            spoil_growth(disk, inode, disk->inodes[i].durable_size, fate);
        inode->durable_size = inode->extent = inode->size;
        after->used_bytes += tkv_round_up(inode->size, SIMDISK_PAGE);
    }
}

static struct simdisk *survive_power_cut(const struct simdisk *disk,
                                         enum simdisk_model model, uint64_t choice,
                                         size_t unit_size)
{
    struct simdisk *after = new_like(disk);
    struct fate fate;

    simdisk_init_fate(disk, &fate);
    simdisk_decide(disk, &fate, model, choice, unit_size);
    survive_entries(after, disk, &fate);
    survive_reachable(after, disk, ROOT);
    survive_data(after, disk, &fate);
    spoil(after, disk, &fate, model, choice);
    simdisk_release_fate(&fate);
    return after;
}

struct simdisk *simdisk_survivor(const struct simdisk *disk, enum simdisk_model model,
                                 uint64_t choice, size_t unit_size)
{
    struct simdisk *after;

    (void)pthread_mutex_lock(mutex_of(disk));
    if (model == SIMDISK_KILLED)
        after = survive_kill(disk);
    else
        after = survive_power_cut(disk, model, choice, unit_size);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return after;
}

struct simdisk *simdisk_clone(const struct simdisk *disk)
{
    return simdisk_survivor(disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
}

/* ---- Counts ---------------------------------------------------------------------- */

uint64_t simdisk_pending_count(const struct simdisk *disk, size_t unit_size)
{
    uint64_t count = 0;

    (void)pthread_mutex_lock(mutex_of(disk));
    for (size_t i = 0; i < disk->pending_count; i++)
        count += simdisk_unit_count(&disk->pending[i], unit_size);
    (void)pthread_mutex_unlock(mutex_of(disk));
    return count;
}

size_t simdisk_open_count(const struct simdisk *disk)
{
    size_t count;

    (void)pthread_mutex_lock(mutex_of(disk));
    count = disk->mapping_count;
    for (size_t i = 0; i < disk->handle_count; i++)
        count += disk->handles[i].in_use;
    (void)pthread_mutex_unlock(mutex_of(disk));
    return count;
}
