/* SPDX-License-Identifier: MIT */
/*
 * give_way.h - whoever works through a whole file lets others have the processor now and then.
 *
 * A turn of the processor lasts some 3 ms (the base slice of Linux' EEVDF scheduler), a commit a
 * twentieth of that. Where there are as many busy threads as processors, a writer that the device
 * has served would wait for the end of the compactor's turn, and its whole group with it. To give
 * a turn up costs half a microsecond where nobody wants it, and brings nothing beside somebody
 * who uses it to the end: then all keep theirs for 50 ms, so that a thread at work loses no more
 * than a sixteenth of its time.
 *
 * All keep theirs as well while nobody in this process waits for the device: no log in mode ALWAYS
 * is open, and no log is being synced. What a relaxed writer waits for is the end of this work.
 */
#ifndef TKV_GIVE_WAY_H
#define TKV_GIVE_WAY_H

#include <stdint.h>

/* Each takes some 50 us. */
#define TKV_STRETCH_BYTES 16384u /* of a file that is read */
#define TKV_STRETCH_ITEMS 128u   /* entries looked up, or read from a hint */

/* From now on somebody may wait for the device; and no longer. */
void tkv_give_way_begin(void);
void tkv_give_way_end(void);

void tkv_give_way(void);

/* `done` items, one more than at the last call. */
static inline void tkv_give_way_after(uint64_t done)
{
    if (done % TKV_STRETCH_ITEMS == 0)
        tkv_give_way();
}

/* As far as `to`, and the last time `*from`. */
static inline void tkv_give_way_at(uint64_t *from, uint64_t to)
{
    if (to - *from < TKV_STRETCH_BYTES)
        return;
    *from = to;
    tkv_give_way();
}

#endif
