/* SPDX-License-Identifier: MIT */
/*
 * order_log.c - the order verifier's rules about groups in the ring of wal.log. Those that a
 * checkpoint has not released stand in a queue, in the order of the log; one at a time is
 * being written, the last.
 *
 * Threads: with the verifier's mutex held.
 */
#include "order_private.h"

#include "large.h"
#include "record.h"

/* ---- The queue ----------------------------------------------------------------------- */

static void make_room(struct order_state *s)
{
    const size_t gone = s->group_first;

    if (gone >= 64 && gone > s->group_end / 2) {
        memmove(s->groups, s->groups + gone, (s->group_end - gone) * sizeof *s->groups);
        s->group_first = 0;
        s->group_end -= gone;
        s->covered_end = s->covered_end > gone ? s->covered_end - gone : 0;
        s->durable_end -= gone;
    }
    s->groups =
        order_grow(s->groups, &s->group_capacity, s->group_end + 1, sizeof *s->groups);
}

void order_log_found(struct order_state *s, struct order_group group)
{
    make_room(s);
    group.done = true;
    s->groups[s->group_end++] = group;
    s->durable_end = s->group_end;
}

void order_log_advance(struct order_state *s, const struct order_file *log)
{
    while (log != NULL && s->durable_end < s->group_end) {
        const struct order_group *g = &s->groups[s->durable_end];

        if (!g->done || !order_is_clean(log, g->offset, g->offset + g->extent))
            return;
        s->durable_end++;
        s->records_durable += g->count;
    }
}

void order_log_release(struct order_state *s, uint64_t position)
{
    if (position > s->released)
        s->released = position;
    while (s->group_first < s->group_end && s->groups[s->group_first].position < position) {
        if (s->durable_end == s->group_first) {
            s->records_durable += s->groups[s->group_first].count;
            s->durable_end++; /* in the data files */
        }
        s->group_first++;
        s->popped++;
    }
    if (s->covered_end < s->group_first)
        s->covered_end = s->group_first;
}

bool order_log_is_durable_to(const struct order_state *s, uint64_t position)
{
    return s->durable_end == s->group_end || s->groups[s->durable_end].position >= position;
}

/* ---- Before a group is written ------------------------------------------------------- */

static bool decode(const struct order_state *s, const uint8_t *data, size_t size,
                   uint64_t offset, struct tkv_group *ret_group)
{
    return size >= TKV_GROUP_HEADER_SIZE &&
           tkv_group_decode_header(data, tkv_group_seed(s->uuid, offset), ret_group) &&
           ret_group->payload_size <= size - TKV_GROUP_HEADER_SIZE;
}

/* The oldest group's block is left alone as well. */
static bool is_needed(const struct order_state *s, uint64_t from, uint64_t to)
{
    const struct order_group *first, *last;
    uint64_t begin, end;

    if (s->group_first == s->group_end)
        return false;
    first = &s->groups[s->group_first];
    last = &s->groups[s->group_end - 1];
    begin = first->offset / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
    end = last->offset + last->extent;
    if (first->offset <= last->offset)
        return from < end && to > begin;
    return from < end || to > begin;
}

/* Group by group: behind the end of the ring there is nothing between two laps. */
static bool holds_group(const struct order_state *s, uint64_t from, uint64_t to)
{
    for (size_t i = s->group_first; i < s->group_end; i++) {
        const struct order_group *g = &s->groups[i];

        if (from < g->offset + g->extent && to > g->offset)
            return true;
    }
    return false;
}

/* The ring grows by zeros behind what is synced, or behind what the headers say: the file may be
 * longer when an earlier process was killed while it grew. */
static bool is_growth(const struct order_state *s, const struct order_file *log,
                      const uint8_t *data, size_t size, uint64_t offset)
{
    bool behind = offset > 0;

    for (unsigned i = 0; i < 2; i++)
        behind = behind && offset >= s->headers[i].ring_end;
    return (offset >= log->synced_size ||
            (behind && !holds_group(s, offset, offset + size))) &&
           tkv_is_zero(data, size < 8 ? size : 8);
}

static void check_place(struct order_state *s, const struct order_file *log,
                        const struct tkv_group *g, uint64_t from, uint64_t to)
{
    const uint64_t block = g->position / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
    const uint64_t kept = block > s->released ? block : s->released;

    if (to > log->synced_size)
        order_break(s, "a group lies beyond the log's synced size %llu",
                    (unsigned long long)log->synced_size);
    if (is_needed(s, from, to))
        order_break(s, "a group overwrites groups that no durable checkpoint has released");
    if (g->position > kept && g->durable > kept)
        order_break(s, "a group begins in a block of bytes that were durable before");
}

static void check_identity(struct order_state *s, const struct tkv_group *g)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!s->headers[i].is_known || !s->headers[i].is_durable ||
            s->headers[i].salt != g->salt)
            order_break(s, "a group is logged before header %u with its salt is durable",
                        i);
    }
    if (g->position < s->position_next)
        order_break(s, "position %llu was used before", (unsigned long long)g->position);
    if (g->seq < s->seq_next)
        order_break(s, "sequence number %llu was used before", (unsigned long long)g->seq);
    if (!order_log_is_durable_to(s, g->durable))
        order_break(s, "a group says that position %llu is durable, which it is not",
                    (unsigned long long)g->durable);
}

/* A reference is worth nothing without the file. */
static void check_references(struct order_state *s, const struct tkv_group *g,
                             const uint8_t *payload)
{
    struct tkv_large_reference reference;
    struct tkv_record record;

    for (size_t at = 0; at < g->payload_size; at += tkv_record_size(&record)) {
        const struct order_file *file;

        if (tkv_record_parse(tkv_bytes(payload + at, g->payload_size - at), &record) !=
            TKV_RECORD_GOOD) {
            order_break(s, "a group with something else than records");
            return;
        }
        if (record.kind != TKV_RECORD_LARGE || !tkv_large_decode(record.value, &reference))
            continue;
        file = order_file_number(s, reference.number);
        if (file == NULL || !order_is_name_durable(s, file) || file->dirty_count > 0 ||
            file->synced_size < tkv_large_file_size(&reference))
            order_break(s, "a record refers to data file %llu, which is not durable",
                        (unsigned long long)reference.number);
    }
}

void order_log_check(struct order_state *s, const struct order_file *log,
                     const uint8_t *data, size_t size, uint64_t offset)
{
    struct tkv_group g;

    if (log->has_failed && pthread_equal(log->failed_thread, pthread_self()))
        order_break(s, "the log is written after a write or sync of it failed");
    if (is_growth(s, log, data, size, offset))
        return;
    if (!order_is_name_durable(s, log))
        order_break(s, "the log's name is not durable yet");
    if (!decode(s, data, size, offset, &g)) {
        order_break(s, "these bytes are no group");
        return;
    }
    check_place(s, log, &g, offset, offset + size);
    check_identity(s, &g);
    check_references(s, &g, data + TKV_GROUP_HEADER_SIZE);
}

/* ---- Around the write ---------------------------------------------------------------- */

void order_log_enter(struct order_state *s, const struct order_file *log,
                     const uint8_t *data, size_t size, uint64_t offset)
{
    struct tkv_group g;

    if (is_growth(s, log, data, size, offset) || !decode(s, data, size, offset, &g))
        return;
    make_room(s);
    s->groups[s->group_end++] = (struct order_group){
        .position = g.position,
        .offset = offset,
        .extent = size,
        .seq = g.seq,
        .count = g.count,
    };
}

void order_log_done(struct order_state *s, bool failed)
{
    struct order_group *last;

    if (s->group_end == s->group_first || s->groups[s->group_end - 1].done)
        return;
    last = &s->groups[s->group_end - 1];
    if (failed) {
        s->group_end--; /* the next one may go to the same place */
        return;
    }
    last->done = true;
    s->position_next = last->position + last->extent;
    s->seq_next = last->seq + last->count;
}
