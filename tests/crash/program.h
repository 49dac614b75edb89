/* SPDX-License-Identifier: MIT */
/*
 * program.h - the operations of one workload, drawn or enumerated before it runs, so that it
 * can be repeated, shortened and written down:
 *
 *     put 2 40; delete 2; batch 2 30, 3 -, 4 1500 z; sync; reopen
 *
 * An item is a key's number and a value's size; "-" is a delete, "z" compresses, "+N" expires
 * after N milliseconds. "tick N" lets N microseconds pass, "crash N" cuts the world off in a
 * way that follows from N and goes on with what is left.
 */
#ifndef CRASH_PROGRAM_H
#define CRASH_PROGRAM_H

#include "oracle.h"
#include "workload.h"

enum operation_kind {
    PUT,
    DELETE,
    BATCH,
    SYNC,
    ROTATE, /* begin another data file */
    CHECKPOINT,
    COMPACT,
    REOPEN,
    CRASH,
    TICK,
    OPERATION_KINDS
};

struct operation {
    enum operation_kind kind;
    unsigned item_count;
    struct oracle_item items[ORACLE_BATCH_MAX]; /* expires_at_ms is from now */
    uint64_t number;                            /* of TICK and CRASH */
};

struct program {
    const struct workload *workload;
    uint64_t seed;
    struct operation *operations;
    size_t count;
    size_t watched_from; /* crashes are looked at from this operation on */
};

#define OPERATION_TEXT_MAX 512u

const char *operation_name(enum operation_kind kind);

/* `count` operations in the workload's mix. */
struct program program_draw(const struct workload *workload, uint64_t seed);
/* False: it is not understood. */
bool program_parse(struct program *program, const char *text);
struct program program_copy(const struct program *program);
void program_free(struct program *program);
void program_print(const struct program *program);

#endif
