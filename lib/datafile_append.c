/* SPDX-License-Identifier: MIT */
/*
 * datafile_append.c - the memory tail of a data file, which receives records and forgets them
 * again when a group was not logged. Nothing here can fail, and nothing gets to disk.
 *
 * Threads: one that appends; others read `size` and what lies before it meanwhile.
 */
#include "datafile.h"

#include "bytes.h"

#include <assert.h>
#include <sys/mman.h>

uint64_t tkv_datafile_room(const struct tkv_datafile *file)
{
    const uint64_t size = atomic_load_explicit(&file->size, memory_order_relaxed);

    return atomic_load(&file->sealed) ? 0 : file->capacity - size;
}

uint64_t tkv_datafile_append(struct tkv_datafile *file, const void *bytes, size_t size)
{
    const uint64_t offset = atomic_load_explicit(&file->size, memory_order_relaxed);
    uint8_t *at = atomic_load_explicit(&file->tail, memory_order_relaxed) +
                  (offset - file->tail_start);

    assert(size <= file->capacity - offset);
    memcpy(at, bytes, size);
    tkv_fetch_to_write((uintptr_t)at + size);
    atomic_store_explicit(&file->size, offset + size, memory_order_release);
    return offset;
}

void tkv_datafile_touch(struct tkv_datafile *file, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    const uint64_t size = atomic_load_explicit(&file->size, memory_order_acquire);
    const uint64_t left = file->capacity - size;
    const uint64_t to = size + (bytes < left ? bytes : left);
    const uint64_t from = file->touched > size ? file->touched : size;
    const uintptr_t tail = (uintptr_t)atomic_load(&file->tail);
    const uintptr_t begin =
        (tail + (uintptr_t)(from - file->tail_start)) / TKV_BLOCK_SIZE * TKV_BLOCK_SIZE;
    const uintptr_t end = tail + (uintptr_t)(to - file->tail_start);

    if (tail == 0 || from >= to)
        return;
    file->touched = to;
    (void)madvise((void *)begin, end - begin, MADV_POPULATE_WRITE); /* or it faults */
#else
    (void)file;
    (void)bytes;
#endif
}

/* One writer at a time: plain loads and stores suffice, atomic for those who look on. */
static void lower(_Atomic uint64_t *counter, uint64_t value)
{
    if (value < atomic_load_explicit(counter, memory_order_relaxed))
        atomic_store_explicit(counter, value, memory_order_relaxed);
}

void tkv_datafile_note_record(struct tkv_datafile *file, uint64_t offset, uint64_t seq,
                              bool is_delete)
{
    if (atomic_load_explicit(&file->seq_min, memory_order_relaxed) == 0)
        atomic_store_explicit(&file->seq_min, seq, memory_order_relaxed);
    lower(&file->seq_min, seq);
    if (seq > atomic_load_explicit(&file->seq_max, memory_order_relaxed))
        atomic_store_explicit(&file->seq_max, seq, memory_order_relaxed);
    if (!is_delete)
        lower(&file->seq_min_put, seq);
    tkv_usage_add_alone(&file->usage.records, 1);
    tkv_usage_add_alone(&file->record_sum, tkv_datafile_record_share(offset, seq));
}

void tkv_datafile_rewind(struct tkv_datafile *file, uint64_t size, uint64_t records,
                         uint64_t record_sum)
{
    assert(size >= file->durable);
    atomic_store(&file->size, size);
    if (atomic_load(&file->written) > size)
        atomic_store(&file->written, size);
    atomic_store(&file->usage.records, records);
    atomic_store(&file->record_sum, record_sum);
}

uint64_t tkv_datafile_pad(struct tkv_datafile *file)
{
    const uint64_t size = atomic_load(&file->size);
    const uint64_t padded = tkv_round_up(size, TKV_BLOCK_SIZE);

    if (padded != size && !atomic_load(&file->sealed)) {
        memset(atomic_load(&file->tail) + (size - file->tail_start), 0,
               (size_t)(padded - size));
        atomic_store_explicit(&file->size, padded, memory_order_release);
        return padded;
    }
    return size;
}
