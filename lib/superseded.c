/* SPDX-License-Identifier: MIT */
#include "superseded.h"

#include <assert.h>
#include <stdlib.h>

/* NULL without memory: what cannot be noted is found out later. */
static atomic_uchar *make_bits(struct tkv_superseded *superseded, uint64_t end)
{
    atomic_uchar *bits = calloc(tkv_superseded_byte(end) + 1, sizeof *bits);

    if (bits == NULL) {
        atomic_store(&superseded->is_complete, false);
        return NULL;
    }
    superseded->end = end;
    atomic_store_explicit(&superseded->bits, bits, memory_order_release);
    return bits;
}

void tkv_superseded_note(struct tkv_superseded *superseded, uint64_t offset, uint64_t end)
{
    atomic_uchar *bits = atomic_load_explicit(&superseded->bits, memory_order_relaxed);
    atomic_uchar *byte;

    if (bits == NULL)
        bits = make_bits(superseded, end);
    if (bits == NULL)
        return;
    assert(offset < superseded->end);
    byte = &bits[tkv_superseded_byte(offset)];
    /* One writer at a time needs no locked instruction. */
    atomic_store_explicit(byte,
                          (unsigned char)(atomic_load_explicit(byte, memory_order_relaxed) |
                                          tkv_superseded_bit(offset)),
                          memory_order_relaxed);
}

void tkv_superseded_forget(struct tkv_superseded *superseded)
{
    free((void *)atomic_load_explicit(&superseded->bits, memory_order_relaxed));
    atomic_store_explicit(&superseded->bits, NULL, memory_order_relaxed);
    atomic_store(&superseded->is_complete, false);
}
