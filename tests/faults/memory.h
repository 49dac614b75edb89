/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the engine's memory, counted and refused on demand. The linker sends every call
 * of malloc() and its relatives here (--wrap); the harness's own files do not make any
 * (own_memory.h), so what arrives is the engine's, and all of it must have been given back
 * when a store is closed.
 */
#ifndef FAULTS_MEMORY_H
#define FAULTS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Refuse request number `at` (from 1; 0: none), with `sticky` all later ones too. Also starts
 * counting anew. */
void memory_arm(uint64_t at, bool sticky);
/* The same for threads that are started. */
void memory_arm_threads(uint64_t at, bool sticky);
void memory_disarm(void);
/* Neither counted nor refused until resumed. */
void memory_pause(bool paused);
uint64_t memory_refused(void); /* requests, threads included, since armed */

/* What the engine holds. `ret_newest` may be NULL; it gets the size of the newest one. */
size_t memory_held(size_t *ret_newest);
/* Begin with nothing, whatever is held: after a violation, so that it is told once. */
void memory_forget(void);

#endif
