/* SPDX-License-Identifier: MIT */
/*
 * refusal.h - does an error name the damage: the file, where in it, and which write?
 */
#ifndef REFUSAL_H
#define REFUSAL_H

#include "wound.h"

bool refusal_is_right(const struct sample *sample, const struct wound *wound,
                      const struct tkv_error *err, struct oracle_report *ret_why);

/* Damage to such a file costs nothing but time. */
bool refusal_is_harmless(const char *file_name);

#endif
