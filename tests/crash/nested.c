/* SPDX-License-Identifier: MIT */
/*
 * nested.c - a crash in the recovery from a crash, and so on. What comes out must be what came
 * out without: of the last recovery when its process was killed, and even after a power cut
 * when that was durable already.
 */
#include "explorer.h"

#include "chance.h"
#include "test.h"

#define DENSITY_NESTED 25u

void crash_the_recovery(struct explorer *e, const struct simdisk *disk,
                        const struct derived *d, const struct oracle_found *found)
{
    struct explorer *inner = malloc(sizeof *inner);
    struct simdisk *again = simdisk_clone(disk);
    struct tkv_store *store;
    struct tkv_error err;

    CHECK(inner != NULL);
    *inner = *e;
    inner->depth = e->depth + 1;
    inner->random = mix(simdisk_hash(disk));
    inner->density = e->density == 100 && inner->depth == 1 ? 100 : DENSITY_NESTED;
    inner->every_byte = false;
    inner->expected = found;
    inner->is_pinned = e->is_pinned || !d->killed;
    inner->all_killed = e->all_killed && d->killed;
    inner->outer = e;
    inner->outer_derived = d;
    inner->logged_count = 0;
    inner->before = NULL;
    inner->busy = false;
    watch(inner, again);
    if (open_store(inner, again, &e->options, &store, NULL, &err) == TKV_OK) {
        inner->is_pinned = true; /* what is served is durable */
        (void)tkv_close(store, NULL);
    }
    simdisk_free(again);
    free(inner);
}
