/* SPDX-License-Identifier: MIT */
/* model.c - states that a store may have after a power cut. */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool same_stamp(const struct lab_stamp *left, const struct lab_stamp *right)
{
    if (left->life == 0 || right->life == 0)
        return left->life == right->life;
    return left->life == right->life && left->thread == right->thread &&
           left->item == right->item && left->step == right->step;
}

/* ---- One thread ---------------------------------------------------------------------- */

struct walk {
    const struct lab_stamp *found;
    struct lab_stamp expected[LAB_KEYS];
    size_t differing;
};

static void set_key(struct walk *walk, unsigned key, struct lab_stamp stamp)
{
    walk->differing -= !same_stamp(&walk->expected[key], &walk->found[key]);
    walk->expected[key] = stamp;
    walk->differing += !same_stamp(&walk->expected[key], &walk->found[key]);
}

static void apply_step(struct walk *walk, const struct lab_step *step,
                       struct lab_stamp stamp)
{
    for (size_t i = 0; i < step->count; i++) {
        stamp.item = (uint16_t)i;
        set_key(walk, step->items[i].key,
                step->items[i].is_delete ? (struct lab_stamp){0} : stamp);
    }
}

static void begin_walk(struct walk *walk, const struct lab_stamp *base,
                       const struct lab_stamp *found)
{
    walk->found = found;
    memcpy(walk->expected, base, sizeof walk->expected);
    walk->differing = 0;
    for (unsigned key = 0; key < LAB_KEYS; key++)
        walk->differing += !same_stamp(&base[key], &found[key]);
}

/* Where the keys come closest, and the first one that differs there. */
static void explain(uint64_t seed, uint32_t life, unsigned thread, struct walk *walk,
                    const struct lab_stamp *base, uint64_t closest,
                    struct lab_report *ret_why)
{
    unsigned key = 0;

    begin_walk(walk, base, walk->found);
    for (uint64_t step = 1; step <= closest; step++) {
        const struct lab_step s = lab_step_of(seed, life, thread, step);

        apply_step(walk, &s, (struct lab_stamp){life, (uint16_t)thread, 0, step});
    }
    while (same_stamp(&walk->expected[key], &walk->found[key]))
        key++;
    snprintf(ret_why->text, sizeof ret_why->text,
             "thread %u is in no state that it went through; closest after step %" PRIu64
             ", where %zu keys differ: key %u holds life %u step %" PRIu64
             " instead of life %u step %" PRIu64,
             thread, closest, walk->differing, key, walk->found[key].life,
             walk->found[key].step, walk->expected[key].life, walk->expected[key].step);
}

bool lab_model_match(uint64_t seed, uint32_t life, unsigned thread,
                     const struct lab_state *base, const struct lab_state *found,
                     uint64_t issued, struct lab_range *ret_range,
                     struct lab_report *ret_why)
{
    struct walk walk;
    struct lab_range range = {0, 0};
    bool matched = false;
    uint64_t closest = 0;
    size_t fewest;

    begin_walk(&walk, base->keys[thread], found->keys[thread]);
    fewest = walk.differing;
    for (uint64_t step = 0; step <= issued; step++) {
        const struct lab_step s = lab_step_of(seed, life, thread, step);

        if (step > 0)
            apply_step(&walk, &s, (struct lab_stamp){life, (uint16_t)thread, 0, step});
        if (walk.differing < fewest) {
            fewest = walk.differing;
            closest = step;
        }
        if (walk.differing > 0)
            continue;
        range.least = matched ? range.least : step;
        range.most = step;
        matched = true;
    }
    if (matched)
        *ret_range = range;
    else
        explain(seed, life, thread, &walk, base->keys[thread], closest, ret_why);
    return matched;
}

uint64_t lab_model_lost(const struct lab_range *range, uint64_t durable)
{
    return durable > range->most ? durable - range->most : 0;
}

/* ---- Between threads ----------------------------------------------------------------- */

bool lab_model_has_hole(const struct lab_tickets tickets[][LAB_STEPS_MAX + 1],
                        const struct lab_range ranges[LAB_THREADS],
                        const uint64_t issued[LAB_THREADS], struct lab_report *ret_why)
{
    for (unsigned gone = 0; gone < LAB_THREADS; gone++) {
        const uint64_t missing = ranges[gone].most + 1;
        const uint64_t ack =
            missing <= issued[gone] ? atomic_load(&tickets[gone][missing].ack) : 0;

        for (unsigned there = 0; there < LAB_THREADS && ack != 0; there++) {
            const uint64_t present = ranges[there].least;

            if (present == 0 || ack > atomic_load(&tickets[there][present].issue))
                continue;
            snprintf(ret_why->text, sizeof ret_why->text,
                     "step %" PRIu64 " of thread %u survived and step %" PRIu64
                     " of thread %u did not, though acknowledged before the other began",
                     present, there, missing, gone);
            return true;
        }
    }
    return false;
}

bool lab_state_equal(const struct lab_state *left, const struct lab_state *right,
                     struct lab_report *ret_why)
{
    for (unsigned thread = 0; thread < LAB_THREADS; thread++)
        for (unsigned key = 0; key < LAB_KEYS; key++) {
            const struct lab_stamp *l = &left->keys[thread][key];
            const struct lab_stamp *r = &right->keys[thread][key];

            if (same_stamp(l, r))
                continue;
            snprintf(ret_why->text, sizeof ret_why->text,
                     "thread %u key %u held life %u step %" PRIu64
                     " and then life %u step %" PRIu64,
                     thread, key, l->life, l->step, r->life, r->step);
            return false;
        }
    return true;
}
