/* SPDX-License-Identifier: MIT */
#include "evidence.h"

#include "file_name.h"
#include "group.h"
#include "test.h"

struct evidence {
    const struct sample *sample;
    const struct wound *wound;
    const struct sample_file *log_file, *manifest_file;
    struct parts log, manifest; /* theirs */
    uint64_t salt;              /* of the newest header */
    uint64_t watermark;         /* a position */
    uint64_t readable;          /* the position of the newest intact checkpoint */
    uint64_t seq_next;          /* above everything that must be there */
};

/* The bytes of a file are there as they were. */
static bool is_intact(const struct evidence *e, const struct sample_file *file,
                      size_t offset, size_t size)
{
    const struct wound *w = e->wound;

    if (w == NULL || &e->sample->image.files[w->file] != file)
        return true;
    if (w->bytes == NULL || w->size < offset + size)
        return false;
    return memcmp(w->bytes + offset, file->bytes + offset, size) == 0;
}

static void raise(uint64_t *value, uint64_t to)
{
    if (*value < to)
        *value = to;
}

static bool is_header(const struct part *part)
{
    return part->kind == PART_HEADER && part->salt != 0;
}

static bool is_group(const struct evidence *e, const struct part *part)
{
    return (part->kind == PART_GROUP || part->kind == PART_OLD_GROUP) &&
           part->salt == e->salt;
}

static void find_salt(struct evidence *e)
{
    uint64_t generation = 0;

    for (size_t i = 0; i < e->log.count; i++) {
        if (is_header(&e->log.items[i]) && e->log.items[i].generation >= generation) {
            generation = e->log.items[i].generation;
            e->salt = e->log.items[i].salt;
        }
    }
}

/* ---- Checkpoints and watermarks ------------------------------------------------------------- */

static void hear_checkpoint(struct evidence *e, const struct part *header)
{
    raise(&e->seq_next, header->seq_next);
    if (header->salt == e->salt)
        raise(&e->readable, header->position);
}

static void hear_witnesses(struct evidence *e)
{
    if (is_intact(e, e->manifest_file, 0, e->manifest_file->size))
        hear_checkpoint(e, &e->manifest.items[0]);
    for (size_t i = 0; i < e->log.count; i++) {
        const struct part *part = &e->log.items[i];

        if (is_header(part) && is_intact(e, e->log_file, part->offset, part->size)) {
            hear_checkpoint(e, part);
            if (part->salt == e->salt)
                raise(&e->watermark, part->durable);
        }
        if (is_group(e, part) &&
            is_intact(e, e->log_file, part->offset, TKV_GROUP_HEADER_SIZE))
            raise(&e->watermark, part->durable);
    }
}

/* The undamaged bytes tell what a watermark is about. */
static void apply_watermark(struct evidence *e)
{
    for (size_t i = 0; i < e->log.count; i++) {
        const struct part *part = &e->log.items[i];

        if (is_header(part) && part->salt == e->salt && part->position <= e->watermark)
            raise(&e->seq_next, part->seq_next);
        if (is_group(e, part) && part->end <= e->watermark)
            raise(&e->seq_next, part->seq + part->count);
    }
}

/* ---- Groups that follow the checkpoint ------------------------------------------------------------ */

static const struct part *group_from(const struct evidence *e, uint64_t position)
{
    const struct part *first = NULL;

    for (size_t i = 0; i < e->log.count; i++) {
        const struct part *part = &e->log.items[i];

        if (is_group(e, part) && part->position >= position &&
            (first == NULL || part->position < first->position))
            first = part;
    }
    return first;
}

/* Within one life of the log sequence numbers have no gaps. */
static void follow_groups(struct evidence *e)
{
    const struct part *group = group_from(e, e->readable);
    uint64_t seq = group == NULL ? 0 : group->seq;

    while (group != NULL && group->seq == seq && seq <= e->seq_next &&
           is_intact(e, e->log_file, group->offset, group->size)) {
        seq += group->count;
        raise(&e->seq_next, seq);
        group = group_from(e, group->end);
    }
}

size_t evidence_least(const struct sample *sample, const struct wound *wound)
{
    struct evidence e = {.sample = sample,
                         .wound = wound,
                         .log_file = sample_find(&sample->image, TKV_WAL_NAME),
                         .manifest_file = sample_find(&sample->image, TKV_MANIFEST_NAME)};

    CHECK(e.log_file != NULL && e.manifest_file != NULL);
    e.log = e.log_file->parts;
    e.manifest = e.manifest_file->parts;
    find_salt(&e);
    hear_witnesses(&e);
    follow_groups(&e);
    apply_watermark(&e);
    return sample_ops_up_to(sample, e.seq_next - 1);
}
