/* SPDX-License-Identifier: MIT */
/*
 * late_failure.h - a small store (small_store.h) in which one file is worth compacting, on a disk
 * of which chosen calls fail from the moment on at which the compaction has copied its records.
 */
#ifndef TKV_LATE_FAILURE_H
#define TKV_LATE_FAILURE_H

#include "small_store.h"

#include <errno.h>

static unsigned late_kinds;  /* of calls: they fail after the copying; 0: none */
static uint64_t late_at = 1; /* from the first one on, or from a later one on */

static inline void fail_when_copied(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED || late_kinds == 0)
        return;
    f->disk->fail_kinds = late_kinds;
    f->disk->fail_count = 0;
    f->disk->fail_errno = EIO;
    f->disk->fail_at = late_at;
    f->disk->fail_sticky = true;
    late_kinds = 0;
    late_at = 1;
}

static inline void end_failing(struct fixture *f)
{
    f->disk->fail_at = 0;
    f->disk->fail_sticky = false;
}

/* A file with one live record, and what else is full of garbage. */
static inline void put_garbage(struct fixture *f, unsigned count)
{
    put_bytes(f, "live", 1, 100);
    for (unsigned i = 0; i < count; i++)
        put_bytes(f, "garbage", 2, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
}

/* Mode NONE stores into the mapped log: what fails is the output's. */
static inline void begin_failing_late(struct fixture *f, unsigned kinds)
{
    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.on_event = fail_when_copied;
    open_again(f);
    put_garbage(f, 20);
    late_kinds = kinds;
    CHECK_EQ(tkv_compact(f->store, NULL, &err), TKV_IO);
    CHECK_EQ(late_kinds, 0);
    end_failing(f);
    CHECK(tkv_files_find(f->store, 1) != NULL);
}

#endif
