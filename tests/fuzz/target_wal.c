/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as wal.log: header blocks, and the replay of what follows.
 *
 *     control u8 | header size u8 | the header's first bytes | the ring's bytes
 *
 *     control bit 0: header checksum right       bit 4: every record's and group's checksum
 *             bit 1: block B is an older header  bit 5: chains
 *             bit 2: the header's uuid is ours   bit 6: positions
 *             bit 3: ring end fits               bit 7: sequence numbers
 *
 * Replay hands out groups in order, whole, each of which encodes to the very same bytes, and
 * says in the end where the log ended; or it refuses. It takes no memory at all.
 */
#include "checksums.h"
#include "file_name.h"
#include "fuzz.h"
#include "memory.h"
#include "memory_disk.h"
#include "record.h"
#include "replay.h"

#define RING_SIZE_MAX ((size_t)64 * 1024)

static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct replayed {
    struct tkv_replay *replay;
    const uint8_t *file;
    size_t file_size;
    uint64_t groups, records, position, seq_next;
};

static uint32_t count_records(const struct tkv_group *group, const uint8_t *payload)
{
    uint32_t count = 0;
    size_t at = 0;

    while (at < group->payload_size) {
        const struct tkv_slice left = tkv_bytes(payload + at, group->payload_size - at);
        struct tkv_record record;

        FUZZ_CHECK(tkv_record_decode(left, &record) == TKV_RECORD_GOOD);
        FUZZ_CHECK(record.seq == group->seq + count);
        at += tkv_record_size(&record);
        count++;
    }
    return count;
}

static void check_encodes_back(const struct tkv_group *group, const uint8_t *bytes,
                               uint64_t offset)
{
    const size_t size = TKV_GROUP_HEADER_SIZE + group->payload_size;
    uint8_t *again = malloc(size);

    FUZZ_CHECK(again != NULL);
    memcpy(again, bytes, size);
    memset(again, 0xee, TKV_GROUP_HEADER_SIZE);
    (void)tkv_group_encode(group, tkv_group_seed(uuid, offset), again);
    FUZZ_CHECK(memcmp(again, bytes, size) == 0);
    free(again);
}

static enum tkv_status apply(void *context, const struct tkv_group *group,
                             const uint8_t *payload, struct tkv_error *err)
{
    struct replayed *r = context;
    const uint8_t *bytes = payload - TKV_GROUP_HEADER_SIZE;

    (void)err;
    FUZZ_CHECK(payload >= r->file + TKV_WAL_RING_START + TKV_GROUP_HEADER_SIZE);
    FUZZ_CHECK(group->payload_size <= (size_t)(r->file + r->file_size - payload));
    FUZZ_CHECK(group->salt == r->replay->from.salt);
    FUZZ_CHECK(group->position >= r->position && group->seq >= r->seq_next);
    FUZZ_CHECK(count_records(group, payload) == group->count);
    check_encodes_back(group, bytes, (uint64_t)(bytes - r->file));
    r->position = group->position + TKV_GROUP_HEADER_SIZE + group->payload_size;
    r->seq_next = group->seq + group->count;
    r->groups++;
    r->records += group->count;
    return TKV_OK;
}

/* Decoding what was encoded from what was decoded changes nothing. */
static void check_header(const struct tkv_wal_header *header)
{
    struct tkv_wal_header again;
    uint8_t block[TKV_BLOCK_SIZE];
    struct tkv_error err;

    tkv_wal_header_encode(header, block);
    FUZZ_CHECK(tkv_wal_header_decode(block, 0, &again, &err) == TKV_OK);
    again.is_next_best = header->is_next_best;
    FUZZ_CHECK(again.checkpoint.generation == header->checkpoint.generation &&
               again.checkpoint.position == header->checkpoint.position &&
               again.checkpoint.file_offset == header->checkpoint.file_offset &&
               again.checkpoint.seq_next == header->checkpoint.seq_next);
    FUZZ_CHECK(again.file_count == header->file_count && again.clean == header->clean &&
               again.ring_end == header->ring_end &&
               again.durable_mark == header->durable_mark);
    for (uint32_t i = 0; i < header->file_count; i++)
        FUZZ_CHECK(again.files[i].number == header->files[i].number &&
                   again.files[i].durable_size == header->files[i].durable_size &&
                   again.files[i].sealed == header->files[i].sealed &&
                   again.files[i].record_sum == header->files[i].record_sum);
}

static void check_result(const struct replayed *r, enum tkv_status status)
{
    const struct tkv_replay *replay = r->replay;

    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT);
    FUZZ_CHECK(replay->groups == r->groups && replay->records == r->records);
    FUZZ_CHECK(replay->position >= r->position && replay->seq_next >= r->seq_next);
    FUZZ_CHECK(replay->position_seen >= replay->position);
    FUZZ_CHECK(replay->cut_size <= r->file_size &&
               replay->cut_offset <= r->file_size - replay->cut_size);
    FUZZ_CHECK((replay->cut_size == 0) == (replay->cut_reason == NULL));
    FUZZ_CHECK(replay->cut_size == 0 || replay->cut_offset >= TKV_WAL_RING_START);
}

static void check_log(struct memory_disk *disk, const struct memory_file *file)
{
    struct tkv_os *os = &disk->os;
    const int dir = os->open_dir(os, "", false);
    const int fd = os->open(os, dir, TKV_WAL_NAME, TKV_OS_READ);
    struct tkv_replay replay = {.uuid = uuid};
    struct replayed r = {&replay, file->content, file->size, 0, 0, 0, 0};
    struct tkv_wal_header header;
    struct tkv_error err;

    if (tkv_wal_read_header(os, fd, &header, &err) == TKV_OK) {
        check_header(&header);
        replay.from = header.checkpoint;
        replay.durable_mark = header.durable_mark;
        check_result(&r,
                     tkv_replay_run(&replay, file->content, file->size, apply, &r, &err));
    }
    (void)os->close(os, fd);
    (void)os->close(os, dir);
}

static void fix_header(uint8_t *file, unsigned control, size_t size)
{
    static const uint8_t magic[8] = {'T', 'K', 'V', 'W', 'A', 'L', '\r', '\n'};

    if ((control & 4) != 0) {
        memcpy(file, magic, sizeof magic);
        tkv_put_le32(file + 12, 1);
        memcpy(file + 16, uuid, 16);
    }
    if ((control & 8) != 0)
        tkv_put_le64(file + 96, size / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE);
    if ((control & 2) != 0) {
        memcpy(file + TKV_BLOCK_SIZE, file, TKV_BLOCK_SIZE);
        tkv_put_le64(file + TKV_BLOCK_SIZE + 32, tkv_get_le64(file + 32) - 1);
    }
    if ((control & 1) != 0) {
        fix_log_header(file, TKV_BLOCK_SIZE);
        fix_log_header(file + TKV_BLOCK_SIZE, TKV_BLOCK_SIZE);
    }
}

static void fix_ring(uint8_t *file, unsigned control, size_t size)
{
    struct fix_log log = {.salt = tkv_get_le64(file + 40),
                          .position = tkv_get_le64(file + 48),
                          .file_offset = tkv_get_le64(file + 56),
                          .seq_next = tkv_get_le64(file + 64),
                          .chain = tkv_get_le32(file + 72),
                          .what = FIX_RECORDS};

    memcpy(log.uuid, uuid, sizeof uuid);
    log.what |= (control & 32) != 0 ? FIX_CHAIN : 0u;
    log.what |= (control & 64) != 0 ? FIX_POSITION : 0u;
    log.what |= (control & 128) != 0 ? FIX_SEQ : 0u;
    if ((control & 16) != 0)
        fix_log_groups(file, size, &log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    const struct tkv_slice header = fuzz_take(&in, fuzz_u8(&in));
    struct memory_disk *disk = memory_disk();
    struct memory_file *file;

    if (size < 2 || in.left > RING_SIZE_MAX)
        return 0;
    memory_disk_clear(disk);
    file = memory_disk_put(disk, TKV_WAL_NAME, NULL, 0);
    FUZZ_CHECK(memory_file_resize(file, TKV_WAL_RING_START + in.left));
    if (header.size > 0)
        memcpy(file->content, header.data, header.size);
    if (in.left > 0)
        memcpy(file->content + TKV_WAL_RING_START, in.at, in.left);
    fix_header(file->content, control, file->size);
    fix_ring(file->content, control, file->size);
    memory_begin();
    check_log(disk, file);
    memory_end(size + 4096);
    FUZZ_CHECK(disk->open_count == 0);
    return 0;
}
