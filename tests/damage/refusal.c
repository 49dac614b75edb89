/* SPDX-License-Identifier: MIT */
#include "refusal.h"

#include "file_name.h"
#include "group.h"
#include "test.h"

#include <stdarg.h>

__attribute__((format(printf, 2, 3))) static bool refuse(struct oracle_report *why,
                                                         const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
    return false;
}

bool refusal_is_harmless(const char *name)
{
    uint64_t number;

    if (strncmp(name, TKV_QUARANTINE_NAME "/", strlen(TKV_QUARANTINE_NAME) + 1) == 0)
        return true;
    switch (tkv_file_name_parse(name, &number)) {
    case TKV_NAME_LOCK:
    case TKV_NAME_HINT:
    case TKV_NAME_FOREIGN:
        return true;
    default:
        return false;
    }
}

/* The manifest and the log vouch for each other: when one of them is whole but not the one
 * that belongs to the other, the message names both. */
static bool names_the_file(const struct sample_file *file, const struct wound *wound,
                           const struct tkv_error *err)
{
    if (strcmp(err->file, file->name) == 0)
        return true;
    if (strcmp(file->name, TKV_WAL_NAME) != 0 && strcmp(file->name, TKV_MANIFEST_NAME) != 0)
        return false;
    return wound->kind != WOUND_BIT && (strcmp(err->file, TKV_WAL_NAME) == 0 ||
                                        strcmp(err->file, TKV_MANIFEST_NAME) == 0);
}

/* Where the log stops being readable may be the end of the ring, and the damaged group at its
 * beginning. */
static bool is_at(const struct sample_file *file, const struct part *part, uint64_t offset)
{
    return offset == part->offset ||
           (part->kind == PART_GROUP && part->offset == TKV_WAL_RING_START &&
            offset > part->offset && offset < file->size);
}

/* One flipped bit: the error points at the record or group that it is in. */
static bool points_at(const struct sample_file *file, const struct wound *wound,
                      const struct tkv_error *err, struct oracle_report *why)
{
    const struct part *part = parts_at(&file->parts, wound->offset);

    if (part == NULL || part->seq == 0)
        return true;
    if (is_at(file, part, err->offset) &&
        (part->kind != PART_GROUP || err->seq == part->seq))
        return true;
    return refuse(why, "the error is at %llu, seq %llu; the damage at %zu, seq %llu: %s",
                  (unsigned long long)err->offset, (unsigned long long)err->seq,
                  part->offset, (unsigned long long)part->seq, err->message);
}

bool refusal_is_right(const struct sample *sample, const struct wound *wound,
                      const struct tkv_error *err, struct oracle_report *why)
{
    const struct sample_file *file = &sample->image.files[wound->file];

    if (err->status != TKV_CORRUPT)
        return refuse(why, "refused with status %d: %s", (int)err->status, err->message);
    if (refusal_is_harmless(file->name))
        return refuse(why, "refused because of %s: %s", file->name, err->message);
    if (!names_the_file(file, wound, err))
        return refuse(why, "refused because of %s, but %s is damaged: %s", err->file,
                      file->name, err->message);
    return wound->kind != WOUND_BIT || points_at(file, wound, err, why);
}
