/* SPDX-License-Identifier: MIT */
/*
 * parts.h - of which pieces a file of the store consists: headers, records, groups, entries.
 * Read from the undamaged bytes, without the engine's own reading of files.
 */
#ifndef PARTS_H
#define PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sample_file;

enum part_kind {
    PART_HEADER,
    PART_PUT,
    PART_DELETE,
    PART_LARGE,       /* a record that refers to a large value */
    PART_VALUE,       /* of a large value: its chunks */
    PART_TABLE,       /* likewise: their checksums */
    PART_GROUP,       /* that replay reads */
    PART_OLD_GROUP,   /* of this log, before the newest checkpoint */
    PART_STALE_GROUP, /* of an earlier life */
    PART_ENTRY,       /* of a manifest or a hint */
    PART_FOOTER,
    PART_KINDS
};

struct part {
    enum part_kind kind;
    bool is_compressed, is_expiring, is_compacted;
    size_t offset, size;
    uint64_t seq;                    /* the first, of records and groups; else 0 */
    uint32_t count;                  /* records of a group */
    uint64_t position, end, durable; /* of a group */
    uint64_t seq_next;               /* of a header of the log or a manifest */
    uint64_t salt;                   /* likewise, and of a group */
    uint64_t generation;             /* of a header of the log */
};

struct parts {
    struct part *items;
    size_t count, capacity;
};

void parts_read(const struct sample_file *file, struct parts *ret_parts);
void parts_release(struct parts *parts);
/* The one that holds the byte at `offset`, or NULL. */
const struct part *parts_at(const struct parts *parts, size_t offset);

#endif
