/* SPDX-License-Identifier: MIT */
/*
 * shrink.c - delta debugging: operations are left out, in halves, quarters and so on, and then
 * values become smaller, as long as some crash of the program still goes wrong in the same way.
 */
#include "explorer.h"

#include "test.h"

#define SECONDS_MAX 30.0

struct search {
    const struct settings *settings;
    const char *what;
    enum model model;
    bool has_nested;
    double deadline;
};

/* Every crash of it is looked at, in the model that showed it. */
static bool still_fails(const struct search *s, const struct program *program)
{
    struct settings settings = *s->settings;
    struct tally tally = {.settings = &settings,
                          .unique_limit = UINT64_MAX,
                          .deadline = s->deadline,
                          .is_silent = true,
                          .is_thorough = true,
                          .has_nested = s->has_nested};

    settings.models = 1u << s->model;
    if (s->model == P8)
        explore_failed_syncs(&tally, program);
    else
        explore(&tally, program);
    seen_free(&tally.seen);
    return strcmp(tally.violation, s->what) == 0;
}

static struct program without(const struct program *program, size_t from, size_t count)
{
    struct program p = program_copy(program);

    memmove(p.operations + from, p.operations + from + count,
            (p.count - from - count) * sizeof *p.operations);
    p.count -= count;
    p.watched_from = 0;
    return p;
}

/* Takes `candidate`; true when it becomes `best`. */
static bool accept(const struct search *s, struct program *best, struct program candidate)
{
    if (now_seconds() < s->deadline && still_fails(s, &candidate)) {
        program_free(best);
        *best = candidate;
        return true;
    }
    program_free(&candidate);
    return false;
}

static void drop_operations(const struct search *s, struct program *best)
{
    for (size_t size = best->count; size > 0; size /= 2) {
        for (size_t at = 0; at + size <= best->count;) {
            if (size == best->count || !accept(s, best, without(best, at, size)))
                at += size;
        }
    }
}

static void drop_items(const struct search *s, struct program *best)
{
    for (size_t i = 0; i < best->count; i++) {
        for (unsigned k = 0;
             best->operations[i].item_count > 1 && k < best->operations[i].item_count;) {
            struct program p = program_copy(best);
            struct operation *o = &p.operations[i];

            memmove(&o->items[k], &o->items[k + 1],
                    (o->item_count - k - 1) * sizeof o->items[0]);
            o->item_count--;
            if (!accept(s, best, p))
                k++;
        }
    }
}

static void shrink_values(const struct search *s, struct program *best)
{
    for (size_t i = 0; i < best->count; i++) {
        for (unsigned k = 0; k < best->operations[i].item_count; k++) {
            uint32_t size = best->operations[i].items[k].size;

            for (uint32_t smaller = 0; smaller < size; smaller = (smaller + size + 1) / 2) {
                struct program p = program_copy(best);

                p.operations[i].items[k].size = smaller;
                if (accept(s, best, p))
                    size = smaller;
                else if (size - smaller < 16)
                    break;
            }
        }
    }
}

struct program shrink(const struct settings *settings, const struct program *program,
                      const struct tally *seen)
{
    const struct search s = {.settings = settings,
                             .what = seen->violation,
                             .model = seen->violated,
                             .has_nested = seen->is_nested_violation,
                             .deadline = now_seconds() + SECONDS_MAX};
    struct program best = program_copy(program);

    best.watched_from = 0;
    if (still_fails(&s, &best)) {
        drop_operations(&s, &best);
        drop_items(&s, &best);
        shrink_values(&s, &best);
    }
    return best;
}
