/* SPDX-License-Identifier: MIT */
#include "wound_parts.h"

#include "test.h"

enum part_fate {
    DUPLICATED,       /* again behind itself, the file as long as before */
    DUPLICATED_GROWN, /* likewise, and the file longer */
    SWAPPED,          /* with the next one */
    REMOVED,          /* the rest moved up, zeros at the end */
    REMOVED_SHRUNK,   /* likewise, and the file shorter */
    ZEROED,
    ZEROED_TO_BLOCK, /* and everything behind it in its block */
    OVER_NEXT,       /* written where the next one is */
    OVER_PREVIOUS,
    OVER_ANY,
    FATES
};

static const char *const names[FATES] = {"duplicated",
                                         "duplicated, the file grown",
                                         "swapped with the next",
                                         "removed",
                                         "removed, the file shrunk",
                                         "zeroed",
                                         "zeroed to the end of its block",
                                         "written over the next",
                                         "written over the previous",
                                         "written over another"};

uint64_t wound_part_cases(const struct sample *sample, size_t file)
{
    return FATES * (uint64_t)sample->image.files[file].parts.count;
}

/* Exchange what lies at [a, a+size_a) and [b, b+size_b), whatever is between them. */
static void swap_parts(struct wound *w, const struct part *a, const struct part *b)
{
    const size_t from = a->offset, gap = b->offset - (a->offset + a->size);
    uint8_t *copy = malloc(b->offset + b->size - from);

    CHECK(copy != NULL);
    memcpy(copy, w->bytes + from, b->offset + b->size - from);
    memcpy(w->bytes + from, copy + (b->offset - from), b->size);
    memcpy(w->bytes + from + b->size, copy + a->size, gap);
    memcpy(w->bytes + from + b->size + gap, copy, a->size);
    free(copy);
}

static void write_over(struct wound *w, const struct part *part, const struct part *target)
{
    const size_t left = w->size - target->offset;

    memmove(w->bytes + target->offset, w->bytes + part->offset,
            part->size < left ? part->size : left);
}

static void duplicate(struct wound *w, const struct part *part, bool is_grown)
{
    const size_t end = part->offset + part->size;

    memmove(w->bytes + end + part->size, w->bytes + end, w->size - end);
    memcpy(w->bytes + end, w->bytes + part->offset, part->size);
    if (is_grown)
        w->size += part->size;
}

static void take_out(struct wound *w, const struct part *part, bool is_shrunk)
{
    const size_t end = part->offset + part->size;

    memmove(w->bytes + part->offset, w->bytes + end, w->size - end);
    memset(w->bytes + w->size - part->size, 0, part->size);
    if (is_shrunk)
        w->size -= part->size;
}

static void zero(struct wound *w, const struct part *part, bool to_block)
{
    size_t end = part->offset + part->size;

    if (to_block)
        end = (end + 4095) / 4096 * 4096;
    if (end > w->size)
        end = w->size;
    memset(w->bytes + part->offset, 0, end - part->offset);
}

void wound_part_make(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = &sample->image.files[w->file];
    const struct parts *parts = &file->parts;
    const size_t at = (size_t)(number / FATES);
    const enum part_fate fate = (enum part_fate)(number % FATES);
    const struct part *part = &parts->items[at];
    const struct part *next = at + 1 < parts->count ? part + 1 : part;
    const struct part *any = &parts->items[sample_mix(w->number) % parts->count];

    w->bytes = malloc(file->size + part->size + 1);
    CHECK(w->bytes != NULL);
    memcpy(w->bytes, file->bytes, file->size);
    w->size = file->size;
    w->offset = part->offset;
    if (fate == DUPLICATED || fate == DUPLICATED_GROWN)
        duplicate(w, part, fate == DUPLICATED_GROWN);
    if (fate == SWAPPED && next != part && next->offset >= part->offset + part->size)
        swap_parts(w, part, next);
    if (fate == REMOVED || fate == REMOVED_SHRUNK)
        take_out(w, part, fate == REMOVED_SHRUNK);
    if (fate == ZEROED || fate == ZEROED_TO_BLOCK)
        zero(w, part, fate == ZEROED_TO_BLOCK);
    if (fate == OVER_NEXT)
        write_over(w, part, next);
    if (fate == OVER_PREVIOUS)
        write_over(w, part, at > 0 ? part - 1 : part);
    if (fate == OVER_ANY)
        write_over(w, part, any);
    snprintf(w->text, sizeof w->text, "part %zu at %zu, %zu bytes, %s", at, part->offset,
             part->size, names[fate]);
}
