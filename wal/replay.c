/* SPDX-License-Identifier: MIT */
#include "replay.h"

#include "error.h"
#include "file_name.h"

/* A header lies in the block of its generation, as tkv_wal_write_header() puts it; the first one
 * of a store in both. In the other block it was misdirected, and the next one would go over the
 * newest. */
static bool is_in_its_block(const struct tkv_wal_header *header, unsigned block)
{
    const uint64_t generation = header->checkpoint.generation;

    return generation <= 1 || generation % 2 == block;
}

enum tkv_status tkv_wal_read_header(struct tkv_os *os, int fd,
                                    struct tkv_wal_header *ret_header,
                                    struct tkv_error *err)
{
    struct tkv_wal_header best, header;
    enum tkv_status status[2];
    bool found = false;

    for (unsigned i = 0; i < 2; i++) {
        uint8_t block[TKV_BLOCK_SIZE];
        const uint64_t offset = (uint64_t)i * TKV_BLOCK_SIZE;
        const int result = tkv_os_read_all(os, fd, block, sizeof block, offset);

        if (result < 0)
            return tkv_fail_os(err, result, TKV_WAL_NAME, "read %s", TKV_WAL_NAME);
        status[i] = tkv_wal_header_decode(block, offset, &header, err);
        if (status[i] == TKV_UNSUPPORTED)
            return status[i];
        if (status[i] == TKV_OK && !is_in_its_block(&header, i))
            status[i] = TKV_CORRUPT;
        if (status[i] != TKV_OK)
            continue;
        if (!found || header.checkpoint.generation > best.checkpoint.generation)
            best = header;
        found = true;
    }
    if (!found)
        return tkv_fail_corrupt(err, TKV_WAL_NAME, 0, 0,
                                "neither header block is readable");
    best.is_next_best = status[0] != TKV_OK || status[1] != TKV_OK;
    *ret_header = best;
    return TKV_OK;
}

/* No group is so far from the checkpoint, in bytes or in sequence numbers: one that says so is
 * forged, and must not bring the counters to their end. */
#define FAR (UINT64_C(1) << 40)

/* A place where the next group may begin. */
struct place {
    uint64_t position;
    uint64_t offset;
};

struct scan {
    struct tkv_replay *replay;
    const uint8_t *file;
    uint64_t size;
    uint32_t chain;
    uint64_t watermark;
};

/* A group header of this log at `offset`, whatever its position. */
static bool header_at(const struct scan *scan, uint64_t offset, struct tkv_group *ret_group)
{
    if (offset + TKV_GROUP_HEADER_SIZE > scan->size)
        return false;
    if (tkv_get_le64(scan->file + offset) != scan->replay->from.salt)
        return false;
    return tkv_group_decode_header(scan->file + offset,
                                   tkv_group_seed(scan->replay->uuid, offset), ret_group);
}

static bool payload_fits(const struct scan *scan, uint64_t offset,
                         const struct tkv_group *g)
{
    return g->payload_size <= scan->size - offset - TKV_GROUP_HEADER_SIZE;
}

/* The group that must come next is at this place, whole. */
static bool next_group_at(struct scan *scan, struct place place,
                          struct tkv_group *ret_group)
{
    const uint8_t *header = scan->file + place.offset;
    struct tkv_group g;
    uint32_t chain;

    if (!header_at(scan, place.offset, &g))
        return false;
    if (g.position != place.position || g.chain != scan->chain)
        return false;
    if (g.seq < scan->replay->seq_next || g.seq - scan->replay->from.seq_next > FAR)
        return false;
    if (!payload_fits(scan, place.offset, &g))
        return false;
    if (!tkv_group_check_payload(&g, header, header + TKV_GROUP_HEADER_SIZE,
                                 tkv_group_seed(scan->replay->uuid, place.offset), &chain))
        return false;
    scan->chain = chain;
    *ret_group = g;
    return true;
}

/* The three places where a writer may have put the group after `end`: right there, at the
 * next block, at the start of the ring (wal/ring.h). */
static unsigned candidates(struct place end, struct place out[3])
{
    const uint64_t skip = tkv_round_up(end.offset, TKV_BLOCK_SIZE) - end.offset;
    unsigned count = 0;

    out[count++] = end;
    if (skip != 0)
        out[count++] = (struct place){end.position + skip, end.offset + skip};
    if (end.offset + skip != TKV_WAL_RING_START)
        out[count++] = (struct place){end.position + skip, TKV_WAL_RING_START};
    return count;
}

static bool find_next(struct scan *scan, struct place end, struct place *ret_place,
                      struct tkv_group *ret_group)
{
    struct place places[3];
    const unsigned count = candidates(end, places);

    for (unsigned i = 0; i < count; i++) {
        if (next_group_at(scan, places[i], ret_group)) {
            *ret_place = places[i];
            return true;
        }
    }
    return false;
}

/* Bytes that were being written when the world stopped carry this log's salt, and no valid
 * header that places them before the end. Anything else is unused space: zeros, or groups of
 * earlier laps and lives. */
static bool is_torn_group(const struct scan *scan, struct place place)
{
    struct tkv_group g;

    if (place.offset + 8 > scan->size ||
        tkv_get_le64(scan->file + place.offset) != scan->replay->from.salt)
        return false;
    return !header_at(scan, place.offset, &g) || g.position >= place.position;
}

static void note_cut(struct tkv_replay *r, uint64_t offset, uint64_t size,
                     const char *reason)
{
    if (r->cut_size == 0) {
        r->cut_offset = offset;
        r->cut_size = size;
        r->cut_reason = reason;
        return;
    }
    if (offset < r->cut_offset) {
        r->cut_size += r->cut_offset - offset;
        r->cut_offset = offset;
    }
    if (offset + size > r->cut_offset + r->cut_size)
        r->cut_size = offset + size - r->cut_offset;
}

static uint64_t extent_at(const struct scan *scan, uint64_t offset)
{
    const uint64_t to_block = tkv_round_up(offset + 1, TKV_BLOCK_SIZE) - offset;
    struct tkv_group g;
    uint64_t extent;

    if (!header_at(scan, offset, &g) || !payload_fits(scan, offset, &g))
        return offset + to_block <= scan->size ? to_block : scan->size - offset;
    extent = tkv_group_extent(g.payload_size, g.ends_at_block);
    return offset + extent <= scan->size ? extent : scan->size - offset;
}

/* Does the salt stand at one of eight places from here on? Nearly nowhere, so this is what a scan
 * takes its time for: no branch between them. */
static bool is_salted(const uint8_t *at, uint64_t salt)
{
    bool found = false;

    for (unsigned i = 0; i < 8; i++)
        found |= tkv_get_le64(at + i * 8) == salt;
    return found;
}

/* From `offset` on; none where fewer than eight bytes are left. */
static uint64_t find_salt(const struct scan *scan, uint64_t offset)
{
    const uint64_t salt = scan->replay->from.salt;

    while (offset + 64 <= scan->size && !is_salted(scan->file + offset, salt))
        offset += 64;
    while (offset + 8 <= scan->size && tkv_get_le64(scan->file + offset) != salt)
        offset += 8;
    return offset;
}

/* Look through the whole ring for headers of groups that lie beyond the end. */
static void scan_beyond(struct scan *scan, struct place end)
{
    struct tkv_replay *r = scan->replay;

    for (uint64_t offset = find_salt(scan, TKV_WAL_RING_START);
         offset + TKV_GROUP_HEADER_SIZE <= scan->size;
         offset = find_salt(scan, offset + 8)) {
        struct tkv_group g;
        uint64_t group_end;

        if (!header_at(scan, offset, &g) || g.position < end.position ||
            g.position - scan->replay->from.position > FAR)
            continue;
        if (g.durable > scan->watermark)
            scan->watermark = g.durable;
        if (g.seq <= r->from.seq_next + FAR && g.seq + g.count > r->seq_next)
            r->seq_next = g.seq + g.count;
        group_end = g.position + tkv_group_extent(g.payload_size, g.ends_at_block);
        if (group_end > r->position_seen)
            r->position_seen = group_end;
        note_cut(r, offset, extent_at(scan, offset),
                 "later groups without their predecessor");
    }
}

/* Where the group that should follow was, for the message: where bytes of this log lie, else
 * right at the end, or at the start of the ring when that is the end of the file. */
static uint64_t where_it_breaks(const struct scan *scan, const struct place *places,
                                unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (is_torn_group(scan, places[i]))
            return places[i].offset;
    }
    return places[0].offset + TKV_GROUP_HEADER_SIZE <= scan->size ? places[0].offset
                                                                  : TKV_WAL_RING_START;
}

static enum tkv_status judge_tail(struct scan *scan, struct place end,
                                  struct tkv_error *err)
{
    struct tkv_replay *r = scan->replay;
    struct place places[3];
    const unsigned count = candidates(end, places);
    const uint64_t seq_wanted = r->seq_next;

    for (unsigned i = 0; i < count; i++) {
        if (is_torn_group(scan, places[i]))
            note_cut(r, places[i].offset, extent_at(scan, places[i].offset),
                     "a group that was not written completely");
    }
    scan_beyond(scan, end);
    if (scan->watermark > end.position)
        return tkv_fail_corrupt(
            err, TKV_WAL_NAME, where_it_breaks(scan, places, count), seq_wanted,
            "the log was on disk up to position %llu, but is readable only to %llu",
            (unsigned long long)scan->watermark, (unsigned long long)end.position);
    return TKV_OK;
}

enum tkv_status tkv_replay_run(struct tkv_replay *replay, const uint8_t *file,
                               uint64_t size, tkv_replay_fn *apply, void *context,
                               struct tkv_error *err)
{
    struct scan scan = {replay, file, size, replay->from.chain, replay->durable_mark};
    struct place end = {replay->from.position, replay->from.file_offset};
    struct place place;
    struct tkv_group group;

    replay->groups = replay->records = replay->bytes = 0;
    replay->seq_next = replay->from.seq_next;
    replay->cut_offset = replay->cut_size = 0;
    replay->cut_reason = NULL;
    if (end.offset > size) {
        replay->position = replay->position_seen = end.position;
        replay->file_offset = end.offset;
        return tkv_fail_corrupt(err, TKV_WAL_NAME, size, replay->seq_next,
                                "the checkpoint is at offset %llu, beyond the file's end",
                                (unsigned long long)end.offset);
    }

    while (find_next(&scan, end, &place, &group)) {
        const uint64_t extent = tkv_group_extent(group.payload_size, group.ends_at_block);
        enum tkv_status status;

        status = apply(context, &group, file + place.offset + TKV_GROUP_HEADER_SIZE, err);
        if (status != TKV_OK)
            return status;
        end.position = place.position + extent;
        end.offset = place.offset + extent;
        replay->groups++;
        replay->records += group.count;
        replay->bytes += extent;
        replay->seq_next = group.seq + group.count;
    }
    replay->position = replay->position_seen = end.position;
    replay->file_offset = end.offset;
    return judge_tail(&scan, end, err);
}
