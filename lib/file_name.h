/* SPDX-License-Identifier: MIT */
/* file_name.h - the only place that spells the names of a store's files; it both prints and
 * parses them. */
#ifndef TKV_FILE_NAME_H
#define TKV_FILE_NAME_H

#include <stdbool.h>
#include <stdint.h>

#define TKV_LOCK_NAME       "LOCK"
#define TKV_MANIFEST_NAME   "MANIFEST"
#define TKV_WAL_NAME        "wal.log"
#define TKV_QUARANTINE_NAME "quarantine"

/* Files on their way to the names above; what a crash leaves of them is garbage. */
#define TKV_MANIFEST_TEMPORARY_NAME "MANIFEST.tmp"
#define TKV_WAL_TEMPORARY_NAME      "wal.log.tmp"

#define TKV_FILE_NAME_SIZE 32 /* enough for any of them, terminator included */

enum tkv_file_kind {
    TKV_NAME_FOREIGN, /* not ours: never touched */
    TKV_NAME_LOCK,
    TKV_NAME_MANIFEST,
    TKV_NAME_WAL,
    TKV_NAME_QUARANTINE,
    TKV_NAME_DATA,
    TKV_NAME_HINT,
    TKV_NAME_TEMPORARY /* MANIFEST.tmp, wal.log.tmp, <number>.hint.tmp */
};

void tkv_data_name(uint64_t number, char out[TKV_FILE_NAME_SIZE]); /* 0000000001.data */
void tkv_hint_name(uint64_t number, char out[TKV_FILE_NAME_SIZE]); /* 0000000001.hint */
void tkv_hint_temporary_name(uint64_t number, char out[TKV_FILE_NAME_SIZE]);

/* *ret_number is set for DATA and HINT only: at least ten digits, no more than needed, not
 * zero, and below 2^63. */
enum tkv_file_kind tkv_file_name_parse(const char *name, uint64_t *ret_number);

#endif
