/* SPDX-License-Identifier: MIT */
/*
 * checksums.h - make the checksums of a store's files right again after a mutation, so that a
 * fuzzer gets past them to what they protect. A CRC is no authentication: whoever forges a
 * file forges its checksums, too, and the engine must stand that. Written from docs/format.md,
 * not with the engine's encoders, which refuse to write what a forger would.
 *
 * All take any bytes and stay within `size`.
 */
#ifndef TKV_FUZZ_CHECKSUMS_H
#define TKV_FUZZ_CHECKSUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Records one after another, padding skipped; returns where the last one ends. With
 * `seq_first` not 0 they also get ascending sequence numbers. */
size_t fix_records(uint8_t *bytes, size_t size, uint64_t seq_first);

void fix_manifest(uint8_t *bytes, size_t size, bool with_size);
void fix_hint(uint8_t *bytes, size_t size);
void fix_data_file(uint8_t *bytes, size_t size); /* header and records */

void fix_log_header(uint8_t *bytes, size_t size); /* one block */

/* What is made right in the groups of a log, beside the checksums. */
enum fix_group { FIX_CHAIN = 1, FIX_POSITION = 2, FIX_SEQ = 4, FIX_RECORDS = 8 };

struct fix_log {
    uint8_t uuid[16];
    uint64_t salt;
    uint64_t file_offset, position, seq_next; /* where the first group begins */
    uint32_t chain;
    unsigned what; /* enum fix_group */
};

/* Groups with this salt, from file_offset on, each after the other, then anywhere. */
void fix_log_groups(uint8_t *bytes, size_t size, const struct fix_log *log);

#endif
