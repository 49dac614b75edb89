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

#endif
