/* SPDX-License-Identifier: MIT */
/*
 * order_cover.c - are the records of the groups that a checkpoint releases in durable bytes of
 * data files, every one? What is written to the files that puts write is kept until a durable
 * size covers it; then its records are read, and their sequence numbers remembered.
 *
 * Threads: with the verifier's mutex held.
 */
#include "order_private.h"

#include "datafile.h"
#include "record.h"

static void remember(struct order_state *s, uint64_t first, uint64_t next)
{
    size_t i;

    s->seqs = order_grow(s->seqs, &s->seq_capacity, s->seq_end + 1, sizeof *s->seqs);
    for (i = s->seq_end; i > s->seq_first && s->seqs[i - 1].first > first; i--)
        s->seqs[i] = s->seqs[i - 1];
    if (i > s->seq_first && s->seqs[i - 1].next == first && i == s->seq_end) {
        s->seqs[i - 1].next = next;
        return;
    }
    s->seqs[i] = (struct order_seqs){first, next};
    s->seq_end++;
}

/* Everything from `at` to `size` is records and, up to the next block, zeros. */
static void read_records(struct order_state *s, struct order_file *file, uint64_t at,
                         uint64_t size)
{
    const uint8_t *bytes = file->content.data;

    while (at < size) {
        const uint8_t *p = bytes + (at - file->base);
        uint64_t next = tkv_round_up(at, TKV_BLOCK_SIZE);
        struct tkv_record record;

        if (tkv_record_decode(tkv_bytes(p, (size_t)(size - at)), &record) ==
            TKV_RECORD_GOOD) {
            remember(s, record.seq, record.seq + 1);
            at += tkv_record_size(&record);
            continue;
        }
        next = next < size ? next : size;
        if (next == at || !tkv_is_zero(p, (size_t)(next - at))) {
            order_break(s,
                        "%s is said to be durable up to %llu, without a record "
                        "at offset %llu",
                        file->name, (unsigned long long)size, (unsigned long long)at);
            return;
        }
        at = next;
    }
}

void order_cover_file(struct order_state *s, struct order_file *file, uint64_t size)
{
    struct order_bytes *content = &file->content;
    const uint64_t from = file->base == 0 ? TKV_DATA_HEADER_SIZE : file->base;
    size_t kept;

    if (file->file_class != TKV_FILE_FRESH || size <= file->base || content->size == 0)
        return;
    if (size > file->base + content->size) {
        order_break(s, "%s is said to have %llu bytes, %llu were written", file->name,
                    (unsigned long long)size,
                    (unsigned long long)(file->base + content->size));
        return;
    }
    read_records(s, file, from, size);
    kept = (size_t)(file->base + content->size - size);
    memmove(content->data, content->data + (content->size - kept), kept);
    content->size = kept;
    file->base = size;
}

static bool is_remembered(struct order_state *s, uint64_t first, uint64_t next)
{
    while (s->seq_first < s->seq_end && s->seqs[s->seq_first].next <= first)
        s->seq_first++; /* numbers ascend: nobody asks for these again */
    return s->seq_first < s->seq_end && s->seqs[s->seq_first].first <= first &&
           s->seqs[s->seq_first].next >= next;
}

void order_cover_check(struct order_state *s, uint64_t position)
{
    while (s->covered_end < s->group_end && s->groups[s->covered_end].position < position) {
        const struct order_group *g = &s->groups[s->covered_end++];

        if (!is_remembered(s, g->seq, g->seq + g->count))
            order_break(s,
                        "the checkpoint goes beyond sequence numbers %llu to %llu, which "
                        "are not in durable bytes of the data files",
                        (unsigned long long)g->seq,
                        (unsigned long long)(g->seq + g->count - 1));
    }
    if (s->seq_first == s->seq_end)
        s->seq_first = s->seq_end = 0;
}
