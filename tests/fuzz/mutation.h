/* SPDX-License-Identifier: MIT */
/*
 * mutation.h - what a fuzzer's input does to the files of a small store. Each mutation is
 *
 *     file u8 | what u8 | offset u16 | ...       what % 10:
 *
 *     0 write    size u8, bytes                  5 copy     file u8, from u16, size u16
 *     1 flip     bit u8                          6 rename   name u8, number u8
 *     2 cut      at the offset                   7 field    which u8, field u8, u64
 *     3 grow     by the offset, zeros            8 twin     name u8, number u8: copy the file
 *     4 remove                                   9 add      delta u8 to the u64 at the offset
 *
 * An offset counts from a place that matters: what / 10 chooses the file's beginning, a group or
 * a record in it, or the second header block. "field" writes a field of the header, of a record
 * or of a group by its number in the format.
 */
#ifndef TKV_FUZZ_MUTATION_H
#define TKV_FUZZ_MUTATION_H

#include "fuzz.h"
#include "memory_disk.h"

enum mutate {
    MUTATE_ONLY,
    MUTATE_AND_FIX,    /* checksums and chains of the files that were changed */
    MUTATE_AND_FIX_ALL /* and positions and sequence numbers of groups */
};

/* Use up the input. */
void mutate(struct memory_disk *disk, struct fuzz_input *in, enum mutate how);

#endif
