/* SPDX-License-Identifier: MIT */
/*
 * Replay follows exactly the groups that were written after the checkpoint, calls a torn tail
 * torn and damage damage.
 *
 * Method: logs are composed group by group in memory, as a writer would and as none would, and
 * replayed. The header blocks lie on a simulated disk.
 */
#include "replay.h"

#include "bytes.h"
#include "checksum.h"
#include "record.h"
#include "simdisk.h"
#include "test.h"

#include <errno.h>
#include <sys/mman.h>

TEST_MAIN

#define START TKV_WAL_RING_START
#define BLOCK TKV_BLOCK_SIZE
#define SALT  UINT64_C(0x5a5a5a5a5a5a5a5a)

static const uint8_t uuid[16] = "the store's uuid";
static struct tkv_error err;

/* ---- Composing a log ----------------------------------------------------------------- */

struct log {
    uint8_t file[START + 8 * BLOCK];
    uint64_t size;
    struct tkv_checkpoint from;
    uint64_t durable_mark;

    /* Where the next group goes, and what it says; each may be changed before. */
    uint64_t offset, position, seq, salt, durable;
    uint32_t chain;
    uint64_t last; /* offset of the last group */

    /* What replay found. */
    uint64_t applied[16]; /* first sequence numbers */
    size_t applied_count;
    enum tkv_status refuse; /* by apply() */
    struct tkv_replay replay;
};

static struct log *begin_log(void)
{
    static struct log log;

    memset(&log, 0, sizeof log);
    log.size = sizeof log.file;
    log.from = (struct tkv_checkpoint){.salt = SALT,
                                       .position = 64 * BLOCK,
                                       .file_offset = START,
                                       .seq_next = 100,
                                       .chain = 0x12345678};
    log.offset = START;
    log.position = log.durable = log.from.position;
    log.seq = 100;
    log.salt = SALT;
    log.chain = log.from.chain;
    return &log;
}

/* A group of `count` records of some 40 bytes. Returns its offset. */
static uint64_t add(struct log *log, uint32_t count, bool to_block)
{
    uint8_t *at = log->file + log->offset, *payload = at + TKV_GROUP_HEADER_SIZE;
    struct tkv_group group = {.salt = log->salt,
                              .position = log->position,
                              .seq = log->seq,
                              .durable = log->durable,
                              .count = count,
                              .chain = log->chain,
                              .ends_at_block = to_block};
    uint64_t extent;

    for (uint32_t i = 0; i < count; i++) {
        const struct tkv_record record = {.kind = TKV_RECORD_PUT,
                                          .key = tkv_text("key"),
                                          .value = tkv_text("thirteen byte")};

        tkv_record_seal(payload, tkv_record_encode(&record, payload), log->seq + i);
        payload += tkv_record_size(&record);
    }
    group.payload_size = (uint32_t)(payload - at) - TKV_GROUP_HEADER_SIZE;
    log->chain = tkv_group_encode(&group, tkv_group_seed(uuid, log->offset), at);
    extent = tkv_group_extent(group.payload_size, to_block);
    log->last = log->offset;
    log->offset += extent;
    log->position += extent;
    log->seq += count;
    return log->last;
}

static void skip_to_block(struct log *log)
{
    const uint64_t skip = tkv_round_up(log->offset, BLOCK) - log->offset;

    log->offset += skip;
    log->position += skip;
}

static void next_lap(struct log *log)
{
    skip_to_block(log);
    log->offset = START;
}

/* ---- Replaying it -------------------------------------------------------------------- */

static enum tkv_status apply(void *context, const struct tkv_group *group,
                             const uint8_t *payload, struct tkv_error *ret_err)
{
    struct log *log = context;
    struct tkv_record record;

    (void)ret_err;
    CHECK(log->applied_count < 16);
    CHECK_EQ(tkv_record_decode(tkv_bytes(payload, group->payload_size), &record),
             TKV_RECORD_GOOD);
    CHECK_EQ(record.seq, group->seq);
    log->applied[log->applied_count++] = group->seq;
    return log->refuse;
}

static enum tkv_status run(struct log *log)
{
    log->applied_count = 0;
    memset(&log->replay, 0xee, sizeof log->replay); /* every result is filled in */
    log->replay.uuid = uuid;
    log->replay.from = log->from;
    log->replay.durable_mark = log->durable_mark;
    return tkv_replay_run(&log->replay, log->file, log->size, apply, log, &err);
}

/* Replay ends after `groups` groups with a clean end there. */
static void check_clean_end(struct log *log, size_t groups, uint64_t offset,
                            uint64_t position)
{
    CHECK_OK(run(log));
    CHECK_EQ(log->applied_count, groups);
    CHECK_EQ(log->replay.groups, groups);
    CHECK_EQ(log->replay.file_offset, offset);
    CHECK_EQ(log->replay.position, position);
    CHECK_EQ(log->replay.position_seen, position);
    CHECK_EQ(log->replay.cut_size, 0);
    CHECK(log->replay.cut_reason == NULL);
}

static void check_cut(struct log *log, size_t groups, uint64_t offset, uint64_t size)
{
    CHECK_OK(run(log));
    CHECK_EQ(log->applied_count, groups);
    CHECK_EQ(log->replay.cut_offset, offset);
    CHECK_EQ(log->replay.cut_size, size);
    CHECK_EQ(log->replay.cut_reason != NULL, size > 0);
}

TEST(an_empty_log_ends_where_it_begins)
{
    struct log *log = begin_log();

    check_clean_end(log, 0, START, 64 * BLOCK);
    CHECK_EQ(log->replay.seq_next, 100);
    CHECK_EQ(log->replay.records, 0);
    CHECK_EQ(log->replay.bytes, 0);
}

TEST(groups_are_applied_in_order_wherever_a_writer_may_have_put_them)
{
    const uint64_t first_of[] = {100, 102, 103, 106, 107};
    struct log *log = begin_log();

    log->offset = log->from.file_offset = START + 6 * BLOCK;
    add(log, 2, false); /* at the checkpoint */
    add(log, 1, false); /* right behind */
    skip_to_block(log);
    add(log, 3, true); /* at the next block */
    next_lap(log);
    add(log, 1, false);
    add(log, 1, false);
    check_clean_end(log, 5, log->offset, log->position);
    for (size_t i = 0; i < 5; i++)
        CHECK_EQ(log->applied[i], first_of[i]);
    CHECK_EQ(log->replay.records, 8);
    CHECK_EQ(log->replay.seq_next, 108);
    CHECK_EQ(log->replay.bytes, 136 + 96 + BLOCK + 96 + 96);
}

TEST(the_next_lap_may_follow_in_the_middle_of_a_block)
{
    struct log *log = begin_log();

    log->offset = log->from.file_offset = START + 7 * BLOCK + 64;
    log->position = log->durable = log->from.position = 64 * BLOCK + 64;
    add(log, 1, false);
    next_lap(log);
    add(log, 1, false);
    check_clean_end(log, 2, log->offset, log->position);
    CHECK_EQ(log->replay.position, 65 * BLOCK + 96);
}

/* Wherever in its block the last group ended: at half of it, too. */
TEST(the_next_lap_is_found_from_every_end)
{
    for (uint64_t end = 8; end <= 2 * BLOCK; end += 8) {
        struct log *log = begin_log();

        log->offset = log->from.file_offset = START + end;
        log->position = log->durable = log->from.position = 64 * BLOCK + end;
        next_lap(log);
        add(log, 1, false);
        check_clean_end(log, 1, log->offset, log->position);
    }
}

TEST(a_group_may_end_with_the_file)
{
    struct log *log = begin_log();

    add(log, 1, false);
    log->size = log->offset;
    check_clean_end(log, 1, log->offset, log->position);
    log->size = log->offset - 1; /* and then it does not fit */
    CHECK_OK(run(log));
    CHECK_EQ(log->applied_count, 0);
    log->size = START + TKV_GROUP_HEADER_SIZE;
    check_cut(log, 0, START, TKV_GROUP_HEADER_SIZE);
    log->size = START + TKV_GROUP_HEADER_SIZE - 1; /* not even its header */
    check_cut(log, 0, START, TKV_GROUP_HEADER_SIZE - 1);
    log->size = START + 8;
    check_cut(log, 0, START, 8);
    log->size = START + 7;
    check_clean_end(log, 0, START, 64 * BLOCK);
}

/* ---- What is not the next group ------------------------------------------------------ */

#define FAR (UINT64_C(1) << 40) /* no group is so far from the checkpoint */

enum strange {
    SALT_OF_ANOTHER_LIFE,
    POSITION_TOO_HIGH,
    POSITION_OF_AN_EARLIER_LAP,
    ANOTHER_PREDECESSOR,
    SEQ_USED_BEFORE,
    SEQ_FAR_BEYOND,
    STRANGE_COUNT
};

static void make_strange(struct log *log, enum strange what)
{
    if (what == SALT_OF_ANOTHER_LIFE)
        log->salt++;
    if (what == POSITION_TOO_HIGH)
        log->position += 8;
    if (what == POSITION_OF_AN_EARLIER_LAP) {
        log->position -= 8 * BLOCK;
        log->durable = log->position;
    }
    if (what == ANOTHER_PREDECESSOR)
        log->chain ^= 1;
    if (what == SEQ_USED_BEFORE)
        log->seq--;
    if (what == SEQ_FAR_BEYOND)
        log->seq = log->from.seq_next + FAR + 1;
}

/* The second group is not what must come next: replay ends before it, and it is kept as
 * evidence unless it is from an earlier lap or life. */
TEST(a_group_that_cannot_be_the_next_ends_the_log)
{
    for (enum strange what = 0; what < STRANGE_COUNT; what++) {
        struct log *log = begin_log();
        uint64_t offset, position;

        add(log, 2, false);
        offset = log->offset;
        position = log->position;
        make_strange(log, what);
        add(log, 1, false);
        if (what == SALT_OF_ANOTHER_LIFE || what == POSITION_OF_AN_EARLIER_LAP)
            check_clean_end(log, 1, offset, position);
        else
            check_cut(log, 1, offset, 96);
        CHECK_EQ(log->replay.position, position);
    }
}

/* At the end lies a group that names the place after it; there, one of another life. */
TEST(a_group_is_judged_by_its_own_header_and_not_by_the_one_before)
{
    struct log *log = begin_log();
    uint64_t position;
    uint32_t chain;

    add(log, 1, false);
    chain = log->chain;
    position = log->position = tkv_round_up(log->position, BLOCK);
    add(log, 1, false);
    log->offset = START + BLOCK;
    log->position = position;
    log->chain = chain;
    log->seq = 101;
    log->salt++;
    add(log, 1, false);
    check_cut(log, 1, START + 96, 96);
}

/* A sequence number may be left out: its group failed before it was written. */
TEST(a_gap_in_the_sequence_numbers_is_no_end)
{
    struct log *log = begin_log();

    add(log, 1, false);
    log->seq += 5;
    add(log, 1, false);
    check_clean_end(log, 2, log->offset, log->position);
    CHECK_EQ(log->replay.seq_next, 107);
    log->seq = log->from.seq_next + FAR;
    add(log, 1, false);
    check_clean_end(log, 3, log->offset, log->position);
}

TEST(a_failure_to_apply_ends_the_replay_with_it)
{
    struct log *log = begin_log();

    add(log, 1, false);
    add(log, 1, false);
    log->refuse = TKV_NO_MEMORY;
    CHECK_EQ(run(log), TKV_NO_MEMORY);
    CHECK_EQ(log->applied_count, 1);
    CHECK_EQ(log->replay.groups, 0);
}

/* ---- Torn, or damaged ---------------------------------------------------------------- */

TEST(a_torn_last_group_is_cut_whole_whatever_is_left_of_it)
{
    for (size_t byte = 0; byte < 96; byte++) {
        struct log *log = begin_log();
        uint64_t at;
        bool header;

        add(log, 1, false);
        skip_to_block(log);
        at = add(log, 1, false);
        log->file[at + byte] ^= 0x40;
        header = byte < TKV_GROUP_HEADER_SIZE;
        if (byte < 8) { /* not even the salt: these bytes were never a group of this log */
            check_clean_end(log, 1, START + 96, 64 * BLOCK + 96);
            continue;
        }
        check_cut(log, 1, at, header ? BLOCK : 96);
        CHECK_STR(log->replay.cut_reason, "a group that was not written completely");
        CHECK_EQ(log->replay.position, 64 * BLOCK + 96);
        CHECK_EQ(log->replay.seq_next, header ? 101 : 102);
        CHECK_EQ(log->replay.position_seen, 64 * BLOCK + (header ? 96 : BLOCK + 96));
    }
}

/* What an unreadable header leaves unknown, is cut to the end of its block or of the file. */
TEST(the_cut_does_not_reach_beyond_the_block_or_the_file)
{
    struct log *log = begin_log();

    add(log, 1, false);
    add(log, 1, false);
    log->file[log->last + 12] ^= 1;
    check_cut(log, 1, START + 96, BLOCK - 96);
    log->size = START + 200;
    check_cut(log, 1, START + 96, 104);
    log = begin_log();
    add(log, 1, false);
    add(log, 1, true);
    log->file[log->last + TKV_GROUP_HEADER_SIZE] ^= 1;
    log->size = log->last + 97;
    check_cut(log, 1, START + 96, 97); /* its extent is known, the file ends before */
}

TEST(a_group_that_says_it_is_larger_than_the_file_is_cut_to_the_end_of_its_block)
{
    struct log *log = begin_log();
    const uint32_t seed = tkv_group_seed(uuid, START + 96);
    uint8_t *header = log->file + START + 96;

    add(log, 1, false);
    add(log, 1, false);
    tkv_put_le32(header + 12, 1u << 20);
    tkv_put_le32(header + 8, tkv_crc32(tkv_crc32(seed, header, 8), header + 12,
                                       TKV_GROUP_HEADER_SIZE - 12));
    check_cut(log, 1, START + 96, BLOCK - 96);
}

TEST(later_groups_without_their_predecessor_are_cut_and_never_numbered_again)
{
    struct log *log = begin_log();
    uint64_t lost;

    add(log, 1, true);
    lost = add(log, 1, true);
    add(log, 4, true);
    add(log, 1, true);
    memset(log->file + lost, 0, BLOCK);
    check_cut(log, 1, lost + BLOCK, 2 * BLOCK);
    CHECK_STR(log->replay.cut_reason, "later groups without their predecessor");
    CHECK_EQ(log->replay.seq_next, 107);
    CHECK_EQ(log->replay.position, 65 * BLOCK);
    CHECK_EQ(log->replay.position_seen, 68 * BLOCK);
    /* With a torn one before them, the cut begins there. */
    tkv_put_le64(log->file + lost, SALT);
    check_cut(log, 1, lost, 3 * BLOCK);
    CHECK_STR(log->replay.cut_reason, "a group that was not written completely");
}

/* The lost group was the last of its lap; what follows lies before it in the file. */
TEST(later_groups_of_the_next_lap_are_cut_too)
{
    struct log *log = begin_log();
    uint64_t lost;

    log->offset = log->from.file_offset = START + 6 * BLOCK;
    add(log, 1, true);
    lost = add(log, 1, true);
    next_lap(log);
    add(log, 2, true);
    log->file[lost + TKV_GROUP_HEADER_SIZE] ^= 1;
    check_cut(log, 1, START, 8 * BLOCK); /* from the first of them to the last */
    CHECK_EQ(log->replay.seq_next, 104);
    CHECK_EQ(log->replay.position_seen, 67 * BLOCK);
}

/* Where the lost group ended, nobody knows: its header is unreadable. */
TEST(the_cut_reaches_from_the_first_to_the_last_of_what_is_left)
{
    struct log *log = begin_log();
    uint64_t lost;

    log->offset = log->from.file_offset = START + 5 * BLOCK;
    lost = add(log, 1, true);
    next_lap(log);
    for (int i = 0; i < 4; i++)
        add(log, 1, true);
    memset(log->file + START, 0, 3 * BLOCK);
    log->file[lost + 12] ^= 1;
    check_cut(log, 0, START + 3 * BLOCK, 3 * BLOCK);
    CHECK_STR(log->replay.cut_reason, "a group that was not written completely");
}

/* Whatever its payload was: its number may have been seen. */
TEST(a_torn_group_right_at_the_end_is_never_numbered_again)
{
    struct log *log = begin_log();

    add(log, 1, false);
    add(log, 3, false);
    log->file[log->last + TKV_GROUP_HEADER_SIZE] ^= 1;
    check_cut(log, 1, log->last, log->offset - log->last);
    CHECK_EQ(log->replay.seq_next, 104);
    CHECK_EQ(log->replay.position_seen, log->position);
}

/* Forged ones would bring the counters to their end. */
TEST(of_later_groups_only_those_that_are_not_too_far_count)
{
    for (uint64_t beyond = 0; beyond <= 8; beyond += 8) {
        struct log *log = begin_log();

        add(log, 1, true);
        log->offset += BLOCK;
        log->position = log->from.position + FAR + beyond;
        add(log, 1, true);
        check_cut(log, 1, beyond == 0 ? log->last : 0, beyond == 0 ? BLOCK : 0);
        CHECK_EQ(log->replay.position_seen,
                 beyond == 0 ? log->position : log->from.position + BLOCK);
        CHECK_EQ(log->replay.seq_next, beyond == 0 ? 102 : 101);

        log = begin_log();
        add(log, 1, true);
        log->offset += BLOCK;
        log->position += BLOCK;
        log->seq = log->from.seq_next + FAR + beyond;
        add(log, 1, true);
        check_cut(log, 1, log->last, BLOCK);
        CHECK_EQ(log->replay.position_seen, log->position);
        CHECK_EQ(log->replay.seq_next, beyond == 0 ? log->seq : 101);
    }
}

TEST(remains_of_an_earlier_lap_are_not_evidence_of_anything)
{
    struct log *log = begin_log();
    const uint64_t position = log->position;
    uint64_t end;

    log->position -= 8 * BLOCK;
    log->durable = log->position;
    log->seq = 10;
    for (int i = 0; i < 8; i++)
        add(log, 1, true);
    log->offset = START;
    log->position = position;
    log->chain = log->from.chain;
    log->seq = 100;
    log->durable = position;
    add(log, 1, true);
    end = log->offset;
    check_clean_end(log, 1, end, position + BLOCK);
    CHECK_EQ(log->replay.seq_next, 101);
}

/* Bytes that were on disk are gone; one witness is enough, from the next byte on. */
TEST(damage_is_told_by_the_header_and_by_a_later_group)
{
    for (int witness = 0; witness < 2; witness++) {
        for (uint64_t beyond = 0; beyond <= 16; beyond += 8) {
            struct log *log = begin_log();
            const uint64_t end = log->position + BLOCK;
            uint64_t lost;

            add(log, 1, true);
            lost = add(log, 1, true);
            if (witness == 0)
                log->durable_mark = end - 8 + beyond;
            log->durable = end - 8 + (witness == 1 ? beyond : 0);
            add(log, 1, true);
            memset(log->file + lost, 0, BLOCK);
            CHECK_EQ(run(log), beyond > 8 ? TKV_CORRUPT : TKV_OK);
            CHECK_EQ(log->applied_count, 1);
            if (beyond <= 8)
                continue;
            CHECK_STR(err.file, "wal.log");
            CHECK_EQ(err.offset, START + BLOCK);
            CHECK_EQ(err.seq, 101);
        }
    }
}

/* Its header suffices, also where the file ends with it. */
TEST(a_later_group_is_a_witness_wherever_it_begins)
{
    for (uint64_t shift = 0; shift < 128; shift += 8) {
        struct log *log = begin_log();
        uint64_t lost;

        lost = add(log, 1, true);
        log->offset += shift;
        log->position += shift;
        log->durable = log->position;
        add(log, 1, false);
        log->size = log->last + TKV_GROUP_HEADER_SIZE;
        memset(log->file + lost, 0, BLOCK);
        CHECK_EQ(run(log), TKV_CORRUPT);
        log->size--;
        CHECK_OK(run(log));
    }
}

/* There it may have been if its header would have had room. */
TEST(damage_right_at_the_end_is_placed_there_or_at_the_rings_start)
{
    for (uint64_t more = 0; more < 2; more++) {
        struct log *log = begin_log();

        add(log, 1, false);
        log->durable_mark = log->position + 8;
        log->size = log->offset + TKV_GROUP_HEADER_SIZE - more;
        CHECK_EQ(run(log), TKV_CORRUPT);
        CHECK_EQ(err.offset, more == 0 ? log->offset : START);
    }
}

TEST(damage_is_placed_where_bytes_of_this_log_lie_though_not_right_at_the_end)
{
    struct log *log = begin_log();
    uint64_t lost;

    add(log, 1, false);
    skip_to_block(log);
    lost = add(log, 1, false);
    log->durable = log->position;
    add(log, 1, false);
    log->file[lost + TKV_GROUP_HEADER_SIZE] ^= 1;
    CHECK_EQ(run(log), TKV_CORRUPT);
    CHECK_EQ(err.offset, lost);
    CHECK_EQ(err.seq, 101);
    tkv_put_le64(log->file + START + 96, SALT); /* and then right there too */
    CHECK_EQ(run(log), TKV_CORRUPT);
    CHECK_EQ(err.offset, START + 96);
}

/* A later group's witness counts although the group itself cannot be read any more. */
TEST(a_header_of_a_damaged_later_group_is_witness_enough)
{
    struct log *log = begin_log();
    uint64_t lost;

    add(log, 1, true);
    lost = add(log, 1, true);
    log->durable = log->position;
    add(log, 1, true);
    memset(log->file + lost, 0, BLOCK);
    log->file[log->last + TKV_GROUP_HEADER_SIZE] ^= 1;
    CHECK_EQ(run(log), TKV_CORRUPT);
    log->file[log->last + 16] ^= 1; /* an unreadable header is none */
    CHECK_OK(run(log));
}

TEST(a_later_group_in_the_last_bytes_of_the_file_is_seen)
{
    struct log *log = begin_log();

    add(log, 1, true);
    log->durable = log->position + BLOCK;
    log->position += 3 * BLOCK;
    log->offset = log->size - 96;
    add(log, 1, false);
    CHECK_EQ(run(log), TKV_CORRUPT);
    log->size -= 40; /* its header is the end of the file */
    CHECK_EQ(run(log), TKV_CORRUPT);
    log->size -= 1;
    CHECK_OK(run(log));
}

/* The file ends at a page that cannot be read. */
TEST(nothing_behind_the_end_of_the_file_is_read)
{
    struct log *log = begin_log();
    uint8_t *pages = mmap(NULL, sizeof log->file + BLOCK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *const end = pages + sizeof log->file;

    CHECK(pages != MAP_FAILED);
    CHECK_EQ(mprotect(end, BLOCK, PROT_NONE), 0);
    add(log, 1, false);
    skip_to_block(log);
    add(log, 1, false);
    for (log->size = START; log->size <= START + 2 * BLOCK; log->size++) {
        log->applied_count = 0;
        memset(&log->replay, 0, sizeof log->replay);
        log->replay.uuid = uuid;
        log->replay.from = log->from;
        memcpy(end - log->size, log->file, log->size);
        CHECK_OK(
            tkv_replay_run(&log->replay, end - log->size, log->size, apply, log, &err));
        CHECK_EQ(log->applied_count,
                 (log->size >= START + 96) + (log->size >= START + BLOCK + 96));
    }
    CHECK_EQ(munmap(pages, sizeof log->file + BLOCK), 0);
}

/* ---- The header blocks --------------------------------------------------------------- */

struct blocks {
    struct simdisk *disk;
    int fd;
};

static struct blocks write_blocks(uint64_t first, uint64_t second)
{
    static struct tkv_wal_header header;
    struct blocks b = {.disk = simdisk_new(1)};
    struct tkv_os *os = &b.disk->os;
    uint8_t block[TKV_BLOCK_SIZE];

    header = (struct tkv_wal_header){
        .checkpoint = {.salt = 1, .file_offset = START, .seq_next = 1},
          .ring_end = START
    };
    for (uint64_t i = 0; i < 2; i++) {
        header.checkpoint.generation = i == 0 ? first : second;
        tkv_wal_header_encode(&header, block);
        CHECK(simdisk_file_write(b.disk, "wal.log", block, sizeof block, i * BLOCK) > 0);
    }
    b.fd = os->open(os, os->open_dir(os, "", false), "wal.log", TKV_OS_READ);
    CHECK(b.fd >= 0);
    return b;
}

static enum tkv_status read_blocks(const struct blocks *b, struct tkv_wal_header *ret)
{
    return tkv_wal_read_header(&b->disk->os, b->fd, ret, &err);
}

TEST(the_newer_of_two_header_blocks_counts)
{
    for (uint64_t i = 0; i < 2; i++) {
        struct blocks b = write_blocks(6 + 2 * i, 7);
        static struct tkv_wal_header header;

        CHECK_OK(read_blocks(&b, &header));
        CHECK_EQ(header.checkpoint.generation, 7 + i);
        CHECK(!header.is_next_best);
        simdisk_free(b.disk);
    }
}

TEST(a_header_in_the_block_of_the_other_does_not_count)
{
    struct blocks b = write_blocks(6, 8);
    static struct tkv_wal_header header;

    CHECK_OK(read_blocks(&b, &header));
    CHECK_EQ(header.checkpoint.generation, 6);
    CHECK(header.is_next_best);
    simdisk_free(b.disk);
    b = write_blocks(7, 9);
    CHECK_OK(read_blocks(&b, &header));
    CHECK_EQ(header.checkpoint.generation, 9);
    simdisk_free(b.disk);
}

/* The first one of a store lies in both; no other does. */
TEST(only_the_first_header_may_lie_in_either_block)
{
    static const uint64_t generations[][2] = {
        {0, 0},
        {1, 1},
        {1, 2},
        {3, 1}
    };

    for (unsigned i = 0; i < 4; i++) {
        struct blocks b = write_blocks(generations[i][0], generations[i][1]);
        static struct tkv_wal_header header;

        CHECK_OK(read_blocks(&b, &header));
        CHECK_EQ(header.checkpoint.generation, i == 0 ? 0 : 1);
        CHECK_EQ(header.is_next_best, i >= 2);
        simdisk_free(b.disk);
    }
}

TEST(one_unreadable_header_block_leaves_the_other_and_is_told)
{
    for (uint64_t i = 0; i < 2; i++) {
        struct blocks b = write_blocks(6, 7);
        static struct tkv_wal_header header;
        const uint8_t byte = 0xff;

        CHECK_EQ(simdisk_file_write(b.disk, "wal.log", &byte, 1, i * BLOCK + 100), 1);
        CHECK_OK(read_blocks(&b, &header));
        CHECK_EQ(header.checkpoint.generation, i == 0 ? 7 : 6);
        CHECK(header.is_next_best);
        CHECK_EQ(simdisk_file_write(b.disk, "wal.log", &byte, 1, (1 - i) * BLOCK + 100), 1);
        memset(&err, 0xee, sizeof err);
        CHECK_EQ(read_blocks(&b, &header), TKV_CORRUPT);
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.offset, 0);
        CHECK_EQ(err.seq, 0);
        simdisk_free(b.disk);
    }
}

TEST(a_header_block_of_a_newer_format_is_not_taken_for_damage)
{
    for (uint64_t i = 0; i < 2; i++) {
        struct blocks b = write_blocks(6, 7);
        static struct tkv_wal_header header;
        uint8_t block[TKV_BLOCK_SIZE];

        CHECK(simdisk_file_read(b.disk, "wal.log", block, sizeof block, i * BLOCK) > 0);
        tkv_put_le32(block + 12, TKV_FORMAT_VERSION + 1);
        tkv_put_le32(block + 8, tkv_crc32(0, block + 12, sizeof block - 12));
        CHECK(simdisk_file_write(b.disk, "wal.log", block, sizeof block, i * BLOCK) > 0);
        CHECK_EQ(read_blocks(&b, &header), TKV_UNSUPPORTED);
        simdisk_free(b.disk);
    }
}

TEST(a_header_block_that_cannot_be_read_is_an_error_and_no_damage)
{
    for (uint64_t at = 1; at <= 2; at++) {
        struct blocks b = write_blocks(6, 7);
        static struct tkv_wal_header header;

        b.disk->fail_kinds = SIMDISK_READ;
        b.disk->fail_count = 0;
        b.disk->fail_at = at;
        b.disk->fail_errno = EIO;
        CHECK_EQ(read_blocks(&b, &header), TKV_IO);
        simdisk_free(b.disk);
    }
}
