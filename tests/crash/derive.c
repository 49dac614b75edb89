/* SPDX-License-Identifier: MIT */
/*
 * derive.c - the disks that a kill or a power cut could leave at one moment: P0 to P7.
 */
#include "explorer.h"

#include "chance.h"
#include "test.h"

#define SMALL_WRITE_SIZE   256u /* of a write that is cut at every byte, so many come first */
#define SUBSET_UNITS_MAX   12u /* all subsets of so many */
#define SUBSET_UNITS_FEW   5u  /* ... or of so many, when states are scarce */
#define SUBSETS_RANDOM     256u
#define SUBSETS_RANDOM_FEW 8u

static bool is_chosen(struct explorer *e)
{
    return below(&e->random, 100) < e->density;
}

static bool is_wanted(const struct explorer *e, enum model model)
{
    /* Whatever is derived after a failed sync is P8. */
    return settings_have(e->tally->settings, e->fault.at != 0 ? P8 : model) &&
           !is_enough(e->tally);
}

static void derive(struct explorer *e, const struct simdisk *disk, enum model model,
                   const char *name, enum simdisk_model survivor, uint64_t choice,
                   size_t unit)
{
    if (!is_wanted(e, model))
        return;
    examine(e, simdisk_survivor(disk, survivor, choice, unit),
            (struct derived){.model = model,
                             .name = name,
                             .from = disk,
                             .survivor = survivor,
                             .choice = choice,
                             .unit = unit});
}

/* ---- P2: what was issued first --------------------------------------------------------- */

static void derive_prefixes(struct explorer *e, const struct simdisk *disk, size_t unit,
                            uint64_t few)
{
    const uint64_t count = simdisk_pending_count(disk, unit);

    for (uint64_t k = 1; k <= count; k++) {
        if (count <= few || k == count || below(&e->random, count) < few)
            derive(e, disk, P2, unit == SIMDISK_PAGE ? "P2 pages" : "P2 sectors",
                   SIMDISK_PREFIX, k, unit);
    }
}

/* ---- P3: any subset ---------------------------------------------------------------------- */

static void derive_subset(struct explorer *e, const struct simdisk *disk, uint64_t mask)
{
    derive(e, disk, P3, "P3 subset", SIMDISK_MASK, mask, SIMDISK_PAGE);
}

/* Beyond what can be enumerated: each one alone, all but each, every suffix, and some by
 * chance. (None, and every prefix, are P1 and P2.) */
static void derive_some_subsets(struct explorer *e, const struct simdisk *disk,
                                uint64_t count, unsigned random)
{
    const uint64_t all = count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;

    for (uint64_t i = 0; i < count && i < 64 && random > SUBSETS_RANDOM_FEW; i++) {
        derive_subset(e, disk, UINT64_C(1) << i);
        derive_subset(e, disk, all & ~(UINT64_C(1) << i));
        derive_subset(e, disk, all & UINT64_MAX << i);
    }
    for (unsigned i = 0; i < random; i++)
        derive_subset(e, disk, draw(&e->random) & all);
}

static void derive_subsets(struct explorer *e, const struct simdisk *disk)
{
    const uint64_t count = simdisk_pending_count(disk, SIMDISK_PAGE);
    const bool all = e->tally->settings->all_subsets || e->tally->is_thorough;
    const bool most = all || (e->tally->settings->is_long &&
                              e->workload->kind == EXHAUSTIVE && e->program->count <= 2);
    const uint64_t limit = most ? SUBSET_UNITS_MAX : SUBSET_UNITS_FEW;

    if (count < 2)
        return;
    if (e->depth > 0 || e->workload->kind == SEEDED) {
        derive_some_subsets(e, disk, count, 3);
        return;
    }
    if (count > limit) {
        derive_some_subsets(e, disk, count, most ? SUBSETS_RANDOM : SUBSETS_RANDOM_FEW);
        return;
    }
    for (uint64_t mask = 1; mask < (UINT64_C(1) << count); mask++)
        derive_subset(e, disk, mask);
}

/* ---- P3 to P7 by chance ------------------------------------------------------------------ */

static void derive_sampled(struct explorer *e, const struct simdisk *disk)
{
    static const struct {
        enum model model;
        enum simdisk_model survivor;
        const char *name;
    } models[] = {
        {P3, SIMDISK_SUBSET,       "P3"},
        {P4, SIMDISK_TORN,         "P4"},
        {P4, SIMDISK_TORN,         "P4"},
        {P5, SIMDISK_TRASHED,      "P5"},
        {P6, SIMDISK_SIZE_ONLY,    "P6"},
        {P7, SIMDISK_ENTRIES_LOST, "P7"}
    };

    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        const uint64_t choice = models[i].survivor == SIMDISK_SIZE_ONLY && is_chosen(e)
                                    ? below(&e->random, 2) * 7
                                    : draw(&e->random) % 1000000;

        if (is_chosen(e))
            derive(e, disk, models[i].model, models[i].name, models[i].survivor, choice,
                   SIMDISK_PAGE);
    }
}

/* ---- All of them ------------------------------------------------------------------------- */

void derive_power_cuts(struct explorer *e, const struct simdisk *disk)
{
    const bool exhaustive = e->density == 100 && e->depth == 0;

    if (is_chosen(e))
        derive(e, disk, P1, "P1", SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    if (simdisk_pending_count(disk, SIMDISK_PAGE) == 0)
        return;
    if (is_chosen(e))
        derive_prefixes(e, disk, SIMDISK_PAGE, exhaustive ? 64 : 6);
    if (is_chosen(e))
        derive_prefixes(e, disk, SIMDISK_SECTOR, exhaustive ? 32 : 2);
    if (is_chosen(e))
        derive_subsets(e, disk);
    derive_sampled(e, disk);
}

/* Many calls change nothing: what can be left before the next one was looked at. */
static bool is_new(struct explorer *e)
{
    const struct oracle *oracle = e->oracle;
    const uint64_t position = oracle->durable << 40 ^ oracle->acked << 20 ^ oracle->issued;
    const uint64_t pending = simdisk_pending_count(e->disk, SIMDISK_PAGE);
    const uint64_t point =
        mix(simdisk_hash(e->disk) ^ mix(position) ^ mix(pending * 2 + e->is_pinned));

    if (point == e->last_point)
        return false;
    e->last_point = point;
    return true;
}

void derive_all(struct explorer *e)
{
    if (now_seconds() >= e->tally->deadline && e->tally->deadline > 0)
        e->tally->is_late = true;
    if (is_enough(e->tally) || !is_new(e))
        return;
    if (is_wanted(e, P0) && is_chosen(e))
        examine(e, simdisk_clone(e->disk),
                (struct derived){.model = P0,
                                 .name = "P0",
                                 .from = e->disk,
                                 .survivor = SIMDISK_KILLED,
                                 .killed = true});
    derive_power_cuts(e, e->disk);
}

/* ---- Writes, half done ------------------------------------------------------------------- */

/* A copy of the disk on which the first `cut` bytes of the write are there, and pending. */
static struct simdisk *write_half(const struct explorer *e, const struct half_write *w,
                                  size_t cut)
{
    struct simdisk *disk = simdisk_clone(e->disk);
    struct tkv_os *os = &disk->os;
    const int root = os->open_dir(os, "", false);
    int dir = root, fd;

    if (e->directories[w->fd][0] != 0)
        dir = os->open_dir_at(os, root, e->directories[w->fd], false);
    fd = os->open(os, dir, e->names[w->fd], TKV_OS_WRITE);
    if (fd < 0) { /* unlinked or renamed meanwhile; nothing can come of it */
        simdisk_free(disk);
        return NULL;
    }
    if (cut > 0)
        CHECK_EQ(tkv_os_write_all(os, fd, w->data, cut, w->offset), 0);
    CHECK_EQ(os->close(os, fd), 0);
    if (dir != root)
        CHECK_EQ(os->close(os, dir), 0);
    CHECK_EQ(os->close(os, root), 0);
    return disk;
}

static void examine_cut(struct explorer *e, const struct half_write *w, size_t cut)
{
    struct simdisk *disk;

    if (!is_wanted(e, P0) || (disk = write_half(e, w, cut)) == NULL)
        return;
    examine(e, disk,
            (struct derived){.model = P0,
                             .name = "P0",
                             .from = e->disk,
                             .survivor = SIMDISK_KILLED,
                             .cut = cut,
                             .killed = true});
}

static void derive_cuts(struct explorer *e, const struct half_write *w)
{
    const size_t cuts[] = {1,           16,      w->size / 2,
                           w->size - 1, w->size, (size_t)below(&e->random, w->size) + 1};
    const bool short_program = e->workload->kind == EXHAUSTIVE && e->program->count <= 2;

    if ((e->every_byte ||
         (short_program && w->size <= SMALL_WRITE_SIZE && e->depth == 0)) &&
        w->size <= 2 * SIMDISK_PAGE) {
        for (size_t cut = 1; cut <= w->size; cut++) {
            if (cut <= SMALL_WRITE_SIZE || cut % 61 == 0 || cut + 2 > w->size)
                examine_cut(e, w, cut);
        }
    }
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        if (is_chosen(e) && cuts[i] > 0 && cuts[i] <= w->size)
            examine_cut(e, w, cuts[i]);
    }
}

void derive_half_writes(struct explorer *e, const struct half_write *w)
{
    struct simdisk *disk;

    derive_cuts(e, w);
    if (!e->direct[w->fd] || is_enough(e->tally))
        return; /* the rest comes before the next call */
    disk = write_half(e, w, w->size);
    if (disk == NULL)
        return;
    derive_power_cuts(e, disk);
    simdisk_free(disk);
}
