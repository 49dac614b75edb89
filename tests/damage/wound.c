/* SPDX-License-Identifier: MIT */
#include "wound.h"

#include "wound_parts.h"

#include "test.h"

#include <stdarg.h>

#define SECTOR 512u
#define BLOCK  4096u

const char *const wound_names[WOUND_KINDS] = {
    "bit", "sector", "truncate", "extend", "part", "stale", "older", "other", "missing"};

/* ---- What a wound does to a copy of the file ------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void say(struct wound *w, const char *format,
                                                      ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(w->text, sizeof w->text, format, arguments);
    va_end(arguments);
}

/* A copy of the file with room behind it. */
static void copy_file(struct wound *w, const struct sample_file *file, size_t room)
{
    w->bytes = malloc(file->size + room + 1);
    CHECK(w->bytes != NULL);
    memcpy(w->bytes, file->bytes, file->size);
    w->size = file->size;
}

static void fill_random(uint8_t *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            seed = sample_mix(seed);
        bytes[i] = (uint8_t)(seed >> (i % 8 * 8));
    }
}

/* ---- Finding the file that a number falls into ------------------------------------------------- */

typedef uint64_t cases_fn(const struct sample *sample, size_t file);

static uint64_t count_all(const struct sample *sample, cases_fn *cases)
{
    uint64_t count = 0;

    for (size_t i = 0; i < sample->image.count; i++)
        count += cases(sample, i);
    return count;
}

static const struct sample_file *locate(const struct sample *sample, cases_fn *cases,
                                        uint64_t *number, struct wound *w)
{
    for (w->file = 0; *number >= cases(sample, w->file); w->file++)
        *number -= cases(sample, w->file);
    return &sample->image.files[w->file];
}

/* ---- Bits --------------------------------------------------------------------------------------- */

static uint64_t bit_cases(const struct sample *sample, size_t file)
{
    return 8 * (uint64_t)sample->image.files[file].size;
}

static void make_bit(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, bit_cases, &number, w);

    copy_file(w, file, 0);
    w->offset = (size_t)(number / 8);
    w->bytes[w->offset] ^= (uint8_t)(1u << number % 8);
    say(w, "bit %u of byte %zu", (unsigned)(number % 8), w->offset);
}

/* ---- Sectors --------------------------------------------------------------------------------------- */

enum sector_fate {
    ZEROED,
    SET,
    RANDOM,
    SWAPPED_NEXT,
    SWAPPED,
    COPIED,
    COPIED_FROM_OTHER,
    FATES
};

static const char *const fate_names[FATES] = {"zeroed",
                                              "set to 0xff",
                                              "random",
                                              "swapped with the next",
                                              "swapped with one at",
                                              "overwritten by the one at",
                                              "overwritten by another file's at"};

static uint64_t unit_count(size_t size, size_t unit)
{
    return (size + unit - 1) / unit;
}

static uint64_t sector_cases(const struct sample *sample, size_t file)
{
    const size_t size = sample->image.files[file].size;

    return FATES * (unit_count(size, SECTOR) + unit_count(size, BLOCK));
}

static void swap_bytes(uint8_t *left, uint8_t *right, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = left[i];

        left[i] = right[i];
        right[i] = byte;
    }
}

static void spoil_unit(const struct sample *sample, struct wound *w, enum sector_fate fate,
                       size_t unit)
{
    const uint64_t chance = sample_mix(w->number);
    const size_t left = w->size - w->offset, size = left < unit ? left : unit;
    uint8_t *at = w->bytes + w->offset;
    size_t from = fate == SWAPPED_NEXT
                      ? w->offset + unit
                      : (size_t)(chance % unit_count(w->size, unit)) * unit;
    const struct sample_file *other =
        &sample->image.files[chance / 4096 % sample->image.count];

    if (fate == ZEROED)
        memset(at, 0, size);
    if (fate == SET)
        memset(at, 0xff, size);
    if (fate == RANDOM)
        fill_random(at, size, chance);
    if ((fate == SWAPPED_NEXT || fate == SWAPPED) && from != w->offset &&
        from + size <= w->size)
        swap_bytes(at, w->bytes + from, size);
    if (fate == COPIED && from + size <= w->size)
        memmove(at, w->bytes + from, size);
    if (fate == COPIED_FROM_OTHER && other->size >= size) {
        from = (size_t)(chance % ((other->size - size) / unit + 1)) * unit;
        memcpy(at, other->bytes + from, size);
    }
    say(w, "%zu bytes at %zu %s %zu", size, w->offset, fate_names[fate], from);
}

static void make_sector(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, sector_cases, &number, w);
    const uint64_t sectors = FATES * unit_count(file->size, SECTOR);
    const size_t unit = number < sectors ? SECTOR : BLOCK;

    if (number >= sectors)
        number -= sectors;
    copy_file(w, file, 0);
    w->offset = (size_t)(number / FATES) * unit;
    spoil_unit(sample, w, (enum sector_fate)(number % FATES), unit);
}

/* ---- Lengths ---------------------------------------------------------------------------------------- */

static uint64_t truncate_cases(const struct sample *sample, size_t file)
{
    return sample->image.files[file].size;
}

static void make_truncate(const struct sample *sample, uint64_t number, struct wound *w)
{
    copy_file(w, locate(sample, truncate_cases, &number, w), 0);
    w->size = w->offset = (size_t)number;
    say(w, "cut to %zu bytes", w->size);
}

static const size_t extents[] = {1, 8, 64, 511, 512, 4096, 8192, 65536};

#define EXTENTS (sizeof extents / sizeof extents[0])

static uint64_t extend_cases(const struct sample *sample, size_t file)
{
    (void)sample;
    (void)file;
    return 3 * EXTENTS;
}

static void make_extend(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, extend_cases, &number, w);
    const size_t extent = extents[number / 3];
    uint8_t *end;

    copy_file(w, file, extent);
    w->offset = w->size;
    end = w->bytes + w->size;
    w->size += extent;
    memset(end, 0, extent);
    if (number % 3 == 1)
        fill_random(end, extent, w->number);
    if (number % 3 == 2)
        memcpy(end, file->bytes, extent < file->size ? extent : file->size);
    say(w, "%zu bytes of %s behind it", extent,
        number % 3 == 0   ? "zeros"
        : number % 3 == 1 ? "garbage"
                          : "its beginning");
}

/* ---- Earlier moments ------------------------------------------------------------------------------------ */

static uint64_t stale_cases(const struct sample *sample, size_t file)
{
    const size_t size = sample->image.files[file].size;

    return sample->moment_count * (unit_count(size, SECTOR) + unit_count(size, BLOCK));
}

/* What was not there yet at that moment is zero: a lost write to a file that grew. */
static void make_stale(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, stale_cases, &number, w);
    const uint64_t sectors = sample->moment_count * unit_count(file->size, SECTOR);
    const size_t unit = number < sectors ? SECTOR : BLOCK;
    const struct sample_file *old;
    size_t moment, size, old_size;

    if (number >= sectors)
        number -= sectors;
    moment = (size_t)(number % sample->moment_count);
    old = sample_find(&sample->moments[moment], file->name);
    copy_file(w, file, 0);
    w->offset = (size_t)(number / sample->moment_count) * unit;
    size = w->size - w->offset < unit ? w->size - w->offset : unit;
    old_size = old == NULL || old->size < w->offset ? 0 : old->size - w->offset;
    memset(w->bytes + w->offset, 0, size);
    if (old_size > 0)
        memcpy(w->bytes + w->offset, old->bytes + w->offset,
               old_size < size ? old_size : size);
    say(w, "%zu bytes at %zu as at moment %zu", size, w->offset, moment);
}

static uint64_t older_cases(const struct sample *sample, size_t file)
{
    (void)file;
    return sample->moment_count;
}

static void make_older(const struct sample *sample, uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, older_cases, &number, w);
    const struct sample_file *old = sample_find(&sample->moments[number], file->name);

    if (old != NULL)
        copy_file(w, old, 0);
    say(w, "as at moment %u", (unsigned)number);
}

/* ---- Whole files ------------------------------------------------------------------------------------------ */

static uint64_t one_case(const struct sample *sample, size_t file)
{
    (void)sample;
    (void)file;
    return 1;
}

static void make_other(const struct sample *sample, const struct sample *other,
                       uint64_t number, struct wound *w)
{
    const struct sample_file *file = locate(sample, one_case, &number, w);
    const struct sample_file *stranger = sample_find(&other->image, file->name);

    if (stranger != NULL)
        copy_file(w, stranger, 0);
    else
        copy_file(w, file, 0);
    say(w, "that of another store");
}

static void make_missing(const struct sample *sample, uint64_t number, struct wound *w)
{
    (void)locate(sample, one_case, &number, w);
    say(w, "missing");
}

/* ---- Any kind ----------------------------------------------------------------------------------------------- */

uint64_t wound_count(const struct sample *sample, enum wound_kind kind)
{
    static cases_fn *const cases[WOUND_KINDS] = {
        bit_cases,   sector_cases, truncate_cases, extend_cases, wound_part_cases,
        stale_cases, older_cases,  one_case,       one_case};

    return count_all(sample, cases[kind]);
}

static bool changes_something(const struct sample *sample, const struct wound *w)
{
    const struct sample_file *file = &sample->image.files[w->file];

    if (w->bytes == NULL)
        return true;
    return w->size != file->size || memcmp(w->bytes, file->bytes, w->size) != 0;
}

bool wound_make(const struct sample *sample, const struct sample *other,
                enum wound_kind kind, uint64_t number, struct wound *w)
{
    memset(w, 0, sizeof *w);
    w->kind = kind;
    w->number = number;
    switch (kind) {
    case WOUND_BIT:
        make_bit(sample, number, w);
        break;
    case WOUND_SECTOR:
        make_sector(sample, number, w);
        break;
    case WOUND_TRUNCATE:
        make_truncate(sample, number, w);
        break;
    case WOUND_EXTEND:
        make_extend(sample, number, w);
        break;
    case WOUND_PART:
        (void)locate(sample, wound_part_cases, &number, w);
        wound_part_make(sample, number, w);
        break;
    case WOUND_STALE:
        make_stale(sample, number, w);
        break;
    case WOUND_OLDER:
        make_older(sample, number, w);
        break;
    case WOUND_OTHER:
        make_other(sample, other, number, w);
        break;
    case WOUND_MISSING:
    case WOUND_KINDS:
        make_missing(sample, number, w);
        break;
    }
    return changes_something(sample, w);
}

void wound_release(struct wound *wound)
{
    free(wound->bytes);
    wound->bytes = NULL;
}

void wound_inflict(const struct sample *sample, const struct wound *w, struct simdisk *disk)
{
    const struct sample_file *file = &sample->image.files[w->file];

    if (w->bytes == NULL) {
        CHECK_EQ(simdisk_file_unlink(disk, file->name), 0);
        return;
    }
    CHECK(simdisk_file_write(disk, file->name, w->bytes, w->size, 0) >= 0);
    if (w->size != file->size)
        CHECK(simdisk_file_truncate(disk, file->name, w->size) >= 0);
}
