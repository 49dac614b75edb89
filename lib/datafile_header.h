/* SPDX-License-Identifier: MIT */
/*
 * datafile_header.h - the 64 bytes that a data file begins with; datafile.h has the picture.
 * Pure functions over bytes; tkv_datafile_leftover(), which is beside them, reads such bytes.
 * Private to lib/datafile*.c.
 *
 * Invariant: what encode has written for a file, check accepts for that file, and with a
 * flipped bit it does not.
 */
#ifndef TKV_DATAFILE_HEADER_H
#define TKV_DATAFILE_HEADER_H

#include "datafile.h"
#include "error.h"

void tkv_datafile_header_encode(const uint8_t uuid[16], uint64_t number, uint64_t seq_base,
                                enum tkv_file_class file_class,
                                uint8_t out[TKV_DATA_HEADER_SIZE]);

/* Are these the header of `entry`, a file of the store `uuid`? Else TKV_CORRUPT, or
 * TKV_UNSUPPORTED (another version); `name` is for the message. *ret_seq_base is what the
 * header says: the entry may not know it. */
enum tkv_status tkv_datafile_header_check(const uint8_t bytes[TKV_DATA_HEADER_SIZE],
                                          const uint8_t uuid[16], const char *name,
                                          const struct tkv_manifest_file *entry,
                                          uint64_t *ret_seq_base,
                                          struct tkv_error *err) TKV_COLD;

#endif
