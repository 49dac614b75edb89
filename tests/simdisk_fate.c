/* SPDX-License-Identifier: MIT */
/*
 * simdisk_fate.c - what becomes of each pending unit in a power cut, and the same in words.
 */
#include "simdisk_private.h"

#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t simdisk_unit_mask(const struct simdisk_pending *p)
{
    unsigned first, last;

    if (p->kind != WRITE)
        return 1;
    first = (unsigned)(p->offset % SIMDISK_PAGE) / SIMDISK_SECTOR;
    last = (unsigned)(p->offset % SIMDISK_PAGE + p->size - 1) / SIMDISK_SECTOR;
    return (uint8_t)((2u << last) - (1u << first));
}

uint64_t simdisk_unit_count(const struct simdisk_pending *p, size_t unit_size)
{
    return unit_size == SIMDISK_SECTOR ? (uint64_t)__builtin_popcount(simdisk_unit_mask(p))
                                       : 1;
}

static uint8_t lowest_bits(uint8_t mask, uint64_t count)
{
    unsigned kept = 0;

    for (unsigned bit = 1; bit <= mask && count > 0; bit <<= 1) {
        if (mask & bit) {
            kept |= bit;
            count--;
        }
    }
    return (uint8_t)kept;
}

static bool is_kept(struct fate *fate)
{
    return (simdisk_next_random(&fate->random) >> 32) % 256 < fate->keep_of_256;
}

static void decide_prefix(const struct simdisk *disk, struct fate *fate, uint64_t left,
                          size_t unit_size)
{
    for (size_t i = 0; i < disk->pending_count && left > 0; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        const uint64_t count = simdisk_unit_count(p, unit_size);
        fate->keep[i] =
            count <= left ? simdisk_unit_mask(p) : lowest_bits(simdisk_unit_mask(p), left);
        left -= min_u64(left, count);
    }
}

static void decide_by_mask(const struct simdisk *disk, struct fate *fate, uint64_t choice)
{
    for (size_t i = 0; i < disk->pending_count && i < 64; i++) {
        if (choice >> i & 1)
            fate->keep[i] = simdisk_unit_mask(&disk->pending[i]);
    }
}

/* From the last unit to the first: one that survives in a page (or sector) brings all
 * earlier ones there along, because what reaches the medium is the cache's page. */
static void decide_at_random(const struct simdisk *disk, struct fate *fate, bool by_sectors)
{
    for (size_t i = disk->pending_count; i-- > 0;) {
        const struct simdisk_pending *p = &disk->pending[i];
        const uint8_t mask = simdisk_unit_mask(p);
        uint8_t *kept;

        if (p->kind != WRITE) {
            fate->keep[i] = is_kept(fate);
            continue;
        }
        kept = &fate->kept[fate->page_base[p->target] + p->offset / SIMDISK_PAGE];
        if (!by_sectors) {
            if (*kept == 0 && is_kept(fate))
                *kept = 0xff;
        } else {
            for (unsigned bit = 1; bit <= mask; bit <<= 1) {
                if (mask & bit & ~(unsigned)*kept && is_kept(fate))
                    *kept = (uint8_t)(*kept | bit);
            }
        }
        fate->keep[i] = mask & *kept;
    }
}

static void decide_sizes_only(const struct simdisk *disk, struct fate *fate)
{
    fate->sizes_survive = true;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (is_data(p))
            fate->keep[i] = p->kind != WRITE;
        else
            fate->keep[i] = is_kept(fate);
    }
}

static void decide_all_data(const struct simdisk *disk, struct fate *fate, bool keep)
{
    for (size_t i = 0; i < disk->pending_count; i++) {
        if (is_data(&disk->pending[i]))
            fate->keep[i] = keep ? simdisk_unit_mask(&disk->pending[i]) : 0;
    }
}

static void decide_entries_apart(const struct simdisk *disk, struct fate *fate)
{
    const unsigned data = (unsigned)(simdisk_next_random(&fate->random) >> 32) % 3;

    fate->shuffle_entries = true;
    decide_at_random(disk, fate, false);
    if (data < 2)
        decide_all_data(disk, fate, data == 1);
}

void simdisk_decide(const struct simdisk *disk, struct fate *fate, enum simdisk_model model,
                    uint64_t choice, size_t unit_size)
{
    static const unsigned chances[] = {32, 128, 224};

    fate->random = simdisk_mix(choice);
    fate->keep_of_256 = chances[fate->random % 3];
    switch (model) {
    case SIMDISK_KILLED: /* not a power cut */
    case SIMDISK_NOTHING_PENDING:
        break;
    case SIMDISK_PREFIX:
        decide_prefix(disk, fate, choice, unit_size);
        break;
    case SIMDISK_SUBSET:
        decide_at_random(disk, fate, false);
        break;
    case SIMDISK_TORN:
        decide_at_random(disk, fate, true);
        break;
    case SIMDISK_SIZE_ONLY:
        fate->keep_of_256 = 256;
        decide_sizes_only(disk, fate);
        break;
    case SIMDISK_TRASHED:
        decide_sizes_only(disk, fate);
        break;
    case SIMDISK_ENTRIES_LOST:
        decide_entries_apart(disk, fate);
        break;
    case SIMDISK_MASK:
        decide_by_mask(disk, fate, choice);
        break;
    }
}

void simdisk_init_fate(const struct simdisk *disk, struct fate *fate)
{
    size_t pages = 0;

    *fate = (struct fate){.keep = NULL};
    fate->page_base =
        simdisk_checked(malloc((disk->inode_count + 1) * sizeof *fate->page_base));
    for (size_t i = 0; i < disk->inode_count; i++) {
        fate->page_base[i] = pages;
        pages += (disk->inodes[i].extent + SIMDISK_PAGE - 1) / SIMDISK_PAGE;
    }
    fate->keep = simdisk_checked(calloc(disk->pending_count + 2 * pages + 1, 1));
    fate->kept = fate->keep + disk->pending_count;
    fate->touched = fate->kept + pages;
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        if (p->kind == WRITE) {
            const size_t page = fate->page_base[p->target] + p->offset / SIMDISK_PAGE;
            fate->touched[page] |= simdisk_unit_mask(p);
        }
    }
}

void simdisk_release_fate(struct fate *fate)
{
    free(fate->keep);
    free(fate->page_base);
}

/* ---- In words -------------------------------------------------------------------- */

static void name_unit(const struct simdisk *disk, const struct simdisk_pending *p,
                      char *text, size_t size)
{
    const char *names = (const char *)disk->bytes + p->at;
    const char *file = is_data(p) ? disk->inodes[p->target].name : "";

    switch (p->kind) {
    case WRITE:
        (void)snprintf(text, size, "write %s %llu+%u", file, (unsigned long long)p->offset,
                       p->size);
        break;
    case GROW:
    case TRUNCATE:
        (void)snprintf(text, size, "size of %s %llu", file,
                       (unsigned long long)p->file_size);
        break;
    case RENAME:
        (void)snprintf(text, size, "rename %s %s", names, names + strlen(names) + 1);
        break;
    default:
        (void)snprintf(text, size, "%s %s", p->kind == LINK ? "create" : "unlink", names);
    }
}

static void explain_unit(const struct simdisk *disk, const struct simdisk_pending *p,
                         uint8_t mask, simdisk_line_fn *fn, void *context)
{
    char line[3 * (SIMDISK_NAME_SIZE_MAX + 1)], name[2 * (SIMDISK_NAME_SIZE_MAX + 1) + 32];
    char sectors[SECTORS_PER_PAGE + 1] = "";

    name_unit(disk, p, name, sizeof name);
    for (unsigned k = 0; k < SECTORS_PER_PAGE && p->kind == WRITE; k++)
        sectors[k] = ".01"[(simdisk_unit_mask(p) >> k & 1) * (1 + (mask >> k & 1))];
    (void)snprintf(line, sizeof line, "%s: %s%s", name,
                   p->kind == WRITE ? sectors : (mask ? "there" : "lost"),
                   p->doomed ? " (doomed)" : "");
    fn(context, line);
}

void simdisk_explain(const struct simdisk *disk, enum simdisk_model model, uint64_t choice,
                     size_t unit_size, simdisk_line_fn *fn, void *context)
{
    struct fate fate;

    (void)pthread_mutex_lock(mutex_of(disk));
    simdisk_init_fate(disk, &fate);
    simdisk_decide(disk, &fate, model, choice, unit_size);
    for (size_t i = 0; i < disk->pending_count; i++) {
        const struct simdisk_pending *p = &disk->pending[i];
        explain_unit(disk, p, model == SIMDISK_KILLED ? simdisk_unit_mask(p) : fate.keep[i],
                     fn, context);
    }
    simdisk_release_fate(&fate);
    (void)pthread_mutex_unlock(mutex_of(disk));
}
