/* SPDX-License-Identifier: MIT */
/*
 * wound.h - what can happen to one file of a sample, numbered: kind and number say all.
 *
 *     for (uint64_t n = 0; n < wound_count(sample, WOUND_BIT); n++) {
 *         struct wound wound;
 *         if (wound_make(sample, other, WOUND_BIT, n, &wound)) ...
 *         wound_release(&wound);
 *     }
 */
#ifndef WOUND_H
#define WOUND_H

#include "sample.h"

enum wound_kind {
    WOUND_BIT,    /* one bit flipped */
    WOUND_SECTOR, /* 512 or 4096 bytes zeroed, 0xFF, random, swapped, copied from elsewhere */
    WOUND_TRUNCATE, /* every length */
    WOUND_EXTEND,   /* by zeros, by garbage, by its own beginning */
    WOUND_PART,  /* a record, group or entry duplicated, swapped, removed, zeroed, moved */
    WOUND_STALE, /* 512 or 4096 bytes as they were at an earlier moment */
    WOUND_OLDER, /* the whole file as it was at an earlier moment */
    WOUND_OTHER, /* the whole file of another store */
    WOUND_MISSING,
    WOUND_KINDS
};

struct wound {
    enum wound_kind kind;
    uint64_t number;
    size_t file;    /* of the sample's image */
    size_t offset;  /* the first byte that it is about */
    uint8_t *bytes; /* the file's new content; NULL: the file is gone */
    size_t size;
    char text[160];
};

extern const char *const wound_names[WOUND_KINDS];

uint64_t wound_count(const struct sample *sample, enum wound_kind kind);
/* False when nothing would change. */
bool wound_make(const struct sample *sample, const struct sample *other,
                enum wound_kind kind, uint64_t number, struct wound *ret_wound);
void wound_release(struct wound *wound);
/* Do it to a disk that is like the sample's. */
void wound_inflict(const struct sample *sample, const struct wound *wound,
                   struct simdisk *disk);

#endif
