/* SPDX-License-Identifier: MIT */
/*
 * replay.h - reading wal.log back after a crash, and telling a torn tail from damage.
 *
 * Groups are followed from the checkpoint on, each proved by salt, position, chain and both
 * checksums. The first place B that holds no such group is the end of the log. Then:
 *
 *   W = the largest of: the header's durable mark, the `durable` of every group before B, and
 *       the `durable` of every group header found anywhere in the ring with a position
 *       beyond B and this log's salt.
 *
 *   W <= B   Nothing before B was lost and nothing behind it was acknowledged as durable: the
 *            tail is torn, or empty. It is cut.
 *   W >  B   Bytes that were on disk are damaged. The log is refused, never shortened.
 *
 * The idea of an explicit durable watermark is the persist record of Alagappan et al.,
 * "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018. Its limit holds here: the
 * last group alone, damaged before any later group or mark was written, looks torn.
 */
#ifndef TKV_REPLAY_H
#define TKV_REPLAY_H

#include "group.h"
#include "os.h"

/* Both header blocks as read; the newer valid one counts. Never fails on damage to one. */
enum tkv_status tkv_wal_read_header(struct tkv_os *os, int fd,
                                    struct tkv_wal_header *ret_header,
                                    struct tkv_error *err);

/* Called for each group in order; `payload` holds group->count verified records. A failure
 * ends the replay with it. */
typedef enum tkv_status tkv_replay_fn(void *context, const struct tkv_group *group,
                                      const uint8_t *payload, struct tkv_error *err);

struct tkv_replay {
    /* In. */
    const uint8_t *uuid;
    struct tkv_checkpoint from;
    uint64_t durable_mark; /* of the header that belongs to `from`, else 0 */

    /* Out, also when replay fails; the places not when `apply` does. */
    uint64_t groups, records, bytes;
    uint64_t position;      /* B: where the log ends */
    uint64_t file_offset;   /* of B */
    uint64_t position_seen; /* no group anywhere ends beyond it */
    uint64_t seq_next;      /* beyond every sequence number seen, cut groups included */
    uint64_t cut_offset, cut_size; /* the torn bytes in wal.log; size 0: a clean end */
    const char *cut_reason;        /* static text; NULL when nothing was cut */
};

/* `file` is the whole log as read into memory, `size` bytes. Pure but for `apply`. */
enum tkv_status tkv_replay_run(struct tkv_replay *replay, const uint8_t *file,
                               uint64_t size, tkv_replay_fn *apply, void *context,
                               struct tkv_error *err);

#endif
