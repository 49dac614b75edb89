/* SPDX-License-Identifier: MIT */
#include "pick.h"

/* A store that was emptied shrinks although it is smaller than size_min. */
#define NEARLY_DEAD_BYTES (1024u * 1024)
#define NEARLY_DEAD_SHARE 0.8

/* Rewriting a file for less than this share of it costs more than it brings. */
#define GAIN_SHARE_MIN 0.1

/* What a rewritten file wastes again, at most: its header, and most of its last block. A file
 * with no more garbage would be rewritten forever. */
#define WASTE_MAX (64u + 4095u)

static uint64_t garbage(uint64_t total, uint64_t kept)
{
    return total > kept ? total - kept : 0;
}

static bool is_nearly_dead(uint64_t total, uint64_t kept)
{
    const uint64_t dead = garbage(total, kept);

    return dead >= NEARLY_DEAD_BYTES && (double)dead >= NEARLY_DEAD_SHARE * (double)total;
}

bool tkv_pick_wanted(uint64_t total_bytes, uint64_t live_bytes,
                     const struct tkv_pick_policy *policy)
{
    if (is_nearly_dead(total_bytes, live_bytes))
        return true;
    return total_bytes > policy->size_min &&
           (double)total_bytes > policy->space_factor * (double)live_bytes;
}

static double benefit(const struct tkv_pick_file *file)
{
    const uint64_t dead = garbage(file->size, file->kept_bytes);

    return (double)dead * (double)(file->age + 1) / (double)(file->kept_bytes + WASTE_MAX);
}

static bool is_worth_it(const struct tkv_pick_file *file,
                        const struct tkv_pick_policy *policy)
{
    const uint64_t dead = garbage(file->size, file->kept_bytes);

    if (!file->eligible || file->size == 0)
        return false;
    if (dead <= WASTE_MAX && file->kept_bytes > 0)
        return false;
    return policy->everything || (double)dead >= GAIN_SHARE_MIN * (double)file->size;
}

size_t tkv_pick(const struct tkv_pick_file *files, size_t count,
                const struct tkv_pick_policy *policy)
{
    size_t best = TKV_PICK_NONE;

    for (size_t i = 0; i < count; i++) {
        if (!is_worth_it(&files[i], policy))
            continue;
        if (best == TKV_PICK_NONE || benefit(&files[i]) > benefit(&files[best]))
            best = i;
    }
    return best;
}
