/* SPDX-License-Identifier: MIT */
/*
 * order_checkpoint.c - the order verifier's rules about the two places that say what a recovery
 * begins with: the manifest and the header blocks of wal.log.
 *
 * Threads: with the verifier's mutex held.
 */
#include "order_private.h"

#define MANIFEST_FILES_AT 112u
#define MANIFEST_FILE     48u

/* ---- The manifest's bytes, read without the engine's decoder ------------------------- */

static bool parse(const struct order_bytes *content, struct order_manifest *m)
{
    const uint8_t *p = content->data;
    uint64_t count;

    if (content->size < MANIFEST_FILES_AT + 4 || memcmp(p, "TKVMANIF", 8) != 0)
        return false;
    count = tkv_get_le32(p + 100);
    if (content->size != MANIFEST_FILES_AT + count * MANIFEST_FILE + 4)
        return false;
    m->epoch = tkv_get_le64(p + 40);
    m->next_number = tkv_get_le64(p + 48);
    m->generation = tkv_get_le64(p + 56);
    m->checkpoint.salt = tkv_get_le64(p + 64);
    m->checkpoint.position = tkv_get_le64(p + 72);
    m->checkpoint.file_offset = tkv_get_le64(p + 80);
    m->checkpoint.seq_next = tkv_get_le64(p + 88);
    m->checkpoint.chain = tkv_get_le32(p + 96);
    m->file_count = 0;
    m->files = order_grow(m->files, &m->file_capacity, (size_t)count + 1, sizeof *m->files);
    for (p += MANIFEST_FILES_AT; m->file_count < count; p += MANIFEST_FILE)
        m->files[m->file_count++] =
            (struct tkv_manifest_file){.number = tkv_get_le64(p),
                                       .durable_size = tkv_get_le64(p + 8),
                                       .sealed = p[25] & 1};
    return true;
}

static bool lists(const struct order_manifest *m, uint64_t number)
{
    for (size_t i = 0; i < m->file_count; i++) {
        if (m->files[i].number == number)
            return true;
    }
    return false;
}

bool order_checkpoint_lists(const struct order_state *s, uint64_t number)
{
    return lists(&s->manifest, number) ||
           (!s->manifest.is_durable && lists(&s->previous, number));
}

/* ---- What was found ------------------------------------------------------------------ */

void order_checkpoint_manifest_found(struct order_state *s, const struct order_file *file)
{
    if (s->manifest.is_known || !parse(&file->content, &s->manifest))
        return;
    memcpy(s->uuid, file->content.data + 24, sizeof s->uuid);
    s->manifest.is_known = true;
}

static void claim(struct order_state *s, uint64_t number, uint64_t size, bool sealed)
{
    struct order_file *file = order_file_number(s, number);

    if (file == NULL)
        return;
    file->claimed = size;
    file->claimed_sealed = sealed;
}

/* The group at one of the three places where it may be; its end, or false. */
static bool follow(struct order_state *s, const struct order_bytes *log,
                   struct tkv_checkpoint *at)
{
    const uint64_t skip = tkv_round_up(at->file_offset, TKV_BLOCK_SIZE) - at->file_offset;
    const uint64_t offsets[3] = {at->file_offset, at->file_offset + skip,
                                 TKV_WAL_RING_START};

    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *p = log->data + offsets[i];
        const uint32_t seed = tkv_group_seed(s->uuid, offsets[i]);
        struct tkv_group g;
        uint64_t extent;
        uint32_t chain;

        if (offsets[i] + TKV_GROUP_HEADER_SIZE > log->size ||
            !tkv_group_decode_header(p, seed, &g) || g.salt != at->salt ||
            g.position != at->position + (i > 0 ? skip : 0) || g.chain != at->chain ||
            g.seq < at->seq_next ||
            g.payload_size > log->size - offsets[i] - TKV_GROUP_HEADER_SIZE ||
            !tkv_group_check_payload(&g, p, p + TKV_GROUP_HEADER_SIZE, seed, &chain))
            continue;
        extent = tkv_group_extent(g.payload_size, g.ends_at_block);
        order_log_found(s, (struct order_group){.position = g.position,
                                                .offset = offsets[i],
                                                .extent = extent,
                                                .seq = g.seq,
                                                .count = g.count});
        *at = (struct tkv_checkpoint){.salt = g.salt,
                                      .position = g.position + extent,
                                      .file_offset = offsets[i] + extent,
                                      .seq_next = g.seq + g.count,
                                      .chain = chain};
        return true;
    }
    return false;
}

/* The newer header block, and what it says of data files. */
static bool find_header(struct order_state *s, const struct order_bytes *log,
                        struct tkv_wal_header *ret_header)
{
    struct tkv_wal_header header;
    bool found = false;

    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *block = log->data + i * TKV_BLOCK_SIZE;

        /* One that a disk put into the wrong block is none. */
        if (tkv_wal_header_decode(block, 0, &header, NULL) != TKV_OK ||
            (header.checkpoint.generation > 1 && header.checkpoint.generation % 2 != i))
            continue;
        order_checkpoint_header_note(s, block, (uint64_t)i * TKV_BLOCK_SIZE);
        if (!found || header.checkpoint.generation > ret_header->checkpoint.generation)
            *ret_header = header;
        found = true;
    }
    return found;
}

void order_checkpoint_begin(struct order_state *s)
{
    struct order_file *log = order_file_find(s, TKV_WAL_NAME);
    struct tkv_wal_header header = {.file_count = 0};
    struct tkv_checkpoint at;

    if (s->has_begun || !s->manifest.is_known || log == NULL ||
        log->content.size < TKV_WAL_RING_START)
        return;
    s->has_begun = true;
    if (!find_header(s, &log->content, &header))
        return;
    for (size_t i = 0; i < s->manifest.file_count; i++)
        claim(s, s->manifest.files[i].number, s->manifest.files[i].durable_size,
              s->manifest.files[i].sealed);
    at = s->manifest.checkpoint;
    if (header.manifest_epoch == s->manifest.epoch) {
        at = header.checkpoint;
        for (uint32_t i = 0; i < header.file_count; i++)
            claim(s, header.files[i].number, header.files[i].durable_size,
                  header.files[i].sealed);
    }
    s->released = at.position;
    while (follow(s, &log->content, &at))
        ;
    s->position_next = at.position;
    s->seq_next = at.seq_next;
    order_release(log->content.data);
    memset(&log->content, 0, sizeof log->content);
}

/* ---- What both rely on --------------------------------------------------------------- */

static void check_file(struct order_state *s, uint64_t number, uint64_t size, bool sealed)
{
    struct order_file *file = order_file_number(s, number);

    if (file == NULL) {
        order_break(s, "data file %llu does not exist", (unsigned long long)number);
        return;
    }
    if (!order_is_name_durable(s, file))
        order_break(s, "the name of %s is not durable yet", file->name);
    if (!order_is_clean(file, 0, size) || file->synced_size < size)
        order_break(s, "%s is said to be durable up to %llu, but is not synced that far",
                    file->name, (unsigned long long)size);
    if (size < file->claimed || (file->claimed_sealed && size != file->claimed))
        order_break(s, "%s was durable up to %llu, and is said to be up to %llu",
                    file->name, (unsigned long long)file->claimed,
                    (unsigned long long)size);
    order_cover_file(s, file, size);
    claim(s, number, size, sealed);
}

static uint64_t newest_durable_generation(const struct order_state *s)
{
    uint64_t newest = 0;

    for (unsigned i = 0; i < 2; i++) {
        const struct order_header *h = &s->headers[i];

        if (h->is_known && h->is_durable && h->generation > newest)
            newest = h->generation;
    }
    return newest;
}

/* ---- The manifest -------------------------------------------------------------------- */

void order_checkpoint_manifest_check(struct order_state *s, const struct order_file *file)
{
    struct order_manifest m = {.files = NULL};

    if (!parse(&file->content, &m)) {
        order_break(s, "it is not a manifest");
        return;
    }
    if (s->manifest.is_known && !s->manifest.is_durable)
        order_break(s, "the manifest before it is not durable yet");
    if (m.epoch != (s->manifest.is_known ? s->manifest.epoch + 1 : 1))
        order_break(s, "epoch %llu follows %llu", (unsigned long long)m.epoch,
                    (unsigned long long)s->manifest.epoch);
    if (s->has_begun && m.generation > newest_durable_generation(s))
        order_break(s, "it knows header %llu, which is not durable",
                    (unsigned long long)m.generation);
    for (size_t i = 0; i < m.file_count; i++) {
        check_file(s, m.files[i].number, m.files[i].durable_size, m.files[i].sealed);
        if (m.files[i].number >= m.next_number)
            order_break(s, "data file %llu is not below the next number %llu",
                        (unsigned long long)m.files[i].number,
                        (unsigned long long)m.next_number);
    }
    order_cover_check(s, m.checkpoint.position);
    order_release(m.files);
}

void order_checkpoint_manifest_note(struct order_state *s, const struct order_file *file)
{
    struct order_manifest oldest = s->previous;

    s->previous = s->manifest;
    memset(&s->manifest, 0, sizeof s->manifest);
    s->manifest.is_known = parse(&file->content, &s->manifest);
    s->manifest.renamed_stamp = ++s->stamp;
    if (s->manifest.is_known)
        memcpy(s->uuid, file->content.data + 24, sizeof s->uuid);
    order_release(oldest.files);
}

/* ---- Log headers --------------------------------------------------------------------- */

static void check_header_place(struct order_state *s, const struct order_file *log,
                               const struct tkv_wal_header *header, unsigned block)
{
    const struct order_header *other = &s->headers[1 - block];
    const struct order_header *same = &s->headers[block];
    const uint64_t generation = header->checkpoint.generation;

    if (generation % 2 != block)
        order_break(s, "header %llu goes to the wrong block",
                    (unsigned long long)generation);
    if ((other->is_known && generation <= other->generation) ||
        (same->is_known && generation <= same->generation))
        order_break(s, "header %llu is not newer than what is there",
                    (unsigned long long)generation);
    if (same->is_known && (!other->is_known || other->generation < same->generation))
        order_break(s, "the newest header is overwritten");
    if (other->is_known && !other->is_durable)
        order_break(s, "the other header is not durable yet");
    if (header->ring_end > log->synced_size)
        order_break(s, "the ring is said to end at %llu, %llu bytes are synced",
                    (unsigned long long)header->ring_end,
                    (unsigned long long)log->synced_size);
}

void order_checkpoint_header_check(struct order_state *s, const struct order_file *log,
                                   const uint8_t *bytes, uint64_t offset)
{
    struct tkv_wal_header header;

    if (log->has_failed && pthread_equal(log->failed_thread, pthread_self()))
        order_break(s, "a header is written after a write or sync of the log failed");
    if (offset % TKV_BLOCK_SIZE != 0 ||
        tkv_wal_header_decode(bytes, offset, &header, NULL) != TKV_OK) {
        order_break(s, "these bytes are no log header");
        return;
    }
    check_header_place(s, log, &header, (unsigned)(offset / TKV_BLOCK_SIZE));
    if (!order_is_name_durable(s, log))
        order_break(s, "the log's name is not durable yet");
    if (!s->manifest.is_durable || header.manifest_epoch != s->manifest.epoch)
        order_break(s, "it builds upon manifest %llu, which is not durable",
                    (unsigned long long)header.manifest_epoch);
    if (!order_log_is_durable_to(s, header.durable_mark))
        order_break(s, "it says that position %llu is durable, which it is not",
                    (unsigned long long)header.durable_mark);
    if (header.checkpoint.position < s->released)
        order_break(s, "its checkpoint %llu lies before the last one",
                    (unsigned long long)header.checkpoint.position);
    for (uint32_t i = 0; i < header.file_count; i++) {
        if (!lists(&s->manifest, header.files[i].number))
            order_break(s, "it names data file %llu, which manifest %llu does not list",
                        (unsigned long long)header.files[i].number,
                        (unsigned long long)header.manifest_epoch);
        check_file(s, header.files[i].number, header.files[i].durable_size,
                   header.files[i].sealed);
    }
    order_cover_check(s, header.checkpoint.position);
}

void order_checkpoint_header_note(struct order_state *s, const uint8_t *block,
                                  uint64_t offset)
{
    struct tkv_wal_header header;

    if (tkv_wal_header_decode(block, offset, &header, NULL) != TKV_OK)
        return;
    s->headers[offset / TKV_BLOCK_SIZE] =
        (struct order_header){.is_known = true,
                              .generation = header.checkpoint.generation,
                              .salt = header.checkpoint.salt,
                              .position = header.checkpoint.position,
                              .epoch = header.manifest_epoch,
                              .ring_end = header.ring_end};
}

/* ---- What has become durable --------------------------------------------------------- */

void order_checkpoint_advance(struct order_state *s, const struct order_file *log)
{
    struct order_manifest *m = &s->manifest;

    for (unsigned i = 0; i < 2 && log != NULL; i++) {
        struct order_header *h = &s->headers[i];
        const uint64_t from = (uint64_t)i * TKV_BLOCK_SIZE;

        if (!h->is_known || h->is_durable ||
            !order_is_clean(log, from, from + TKV_BLOCK_SIZE))
            continue;
        h->is_durable = true;
        if (h->epoch >= m->epoch)
            order_log_release(s, h->position);
    }
    if (m->is_known && !m->is_durable && m->renamed_stamp < s->names_durable) {
        m->is_durable = true;
        order_log_release(s, m->checkpoint.position);
    }
}
