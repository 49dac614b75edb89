/* SPDX-License-Identifier: MIT */
/*
 * wound_parts.h - wounds of one record, group or entry (wound.h): what a bug, a repair tool or
 * a misdirected write does to them.
 */
#ifndef WOUND_PARTS_H
#define WOUND_PARTS_H

#include "wound.h"

uint64_t wound_part_cases(const struct sample *sample, size_t file);
/* `w->file` is set already, and `number` counts within it. */
void wound_part_make(const struct sample *sample, uint64_t number, struct wound *w);

#endif
