/* SPDX-License-Identifier: MIT */
/*
 * evidence.h - what a damaged store still says about what it must contain. Judged from the
 * undamaged bytes and from which of them are still there, not with the engine's replay.
 */
#ifndef EVIDENCE_H
#define EVIDENCE_H

#include "wound.h"

/*
 * A store that opens must have at least so many of the first writes: those before the newest
 * intact checkpoint, those in groups that can be read without a gap from there, and those that
 * an intact watermark says were durable. `wound` may be NULL.
 */
size_t evidence_least(const struct sample *sample, const struct wound *wound);

/*
 * The wounded data file is as well-formed as one that never had the records that it lost, and
 * it has no hint that lists them: nothing on the disk tells that they were there. Only records
 * before the padding of a block can be lost in this way.
 */
bool evidence_is_gone(const struct sample *sample, const struct wound *wound);

#endif
