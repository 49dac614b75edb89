/* SPDX-License-Identifier: MIT */
/* fault.h - one thing that goes wrong: which call, how, and for how long. It can be written
 * down as a word and read back, which is how a violation is repeated. */
#ifndef FAULTS_FAULT_H
#define FAULTS_FAULT_H

#include "simdisk.h"

/* Kinds beside those of enum simdisk_call. */
#define FAULT_MEMORY (1u << 21)
#define FAULT_THREAD (1u << 22)

struct fault {
    unsigned kind;    /* 0: none at all */
    uint64_t at;      /* the at-th call of that kind, from 1 */
    int os_errno;     /* 0 with MEMORY and THREAD */
    bool sticky;      /* that call and all later ones of its kind */
    bool drops_cache; /* the next opening does not see what the failed sync lost */
    enum simdisk_failed_sync
        failed_sync;    /* what a failed sync does to the data; with RENAME,
                                             KEEPS: it has happened all the same */
    size_t io_size_max; /* reads and writes move no more; 0: all */
};

struct fault_kind {
    unsigned kind;
    const char *name;
    int errnos[12]; /* that the call may sensibly fail with, those handled apart first */
};

#define FAULT_ERRNOS_FIRST 2u /* of each kind, in a short run */

extern const struct fault_kind fault_kinds[];
extern const size_t fault_kind_count;

#define FAULT_TEXT_SIZE 96

/* kind@at:ERRNO:once|sticky:loses|keeps|reverts|drops:io_size_max; `drops` is one that loses,
 * with drops_cache. */
void fault_print(const struct fault *fault, char out[FAULT_TEXT_SIZE]);
bool fault_parse(const char *text, struct fault *ret_fault);

#endif
