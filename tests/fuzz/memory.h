/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the account of what the code under test takes from malloc(): how much it holds at
 * most, and that it gives everything back. The linker puts these functions in the place of the
 * C library's (-Wl,--wrap=malloc and so on), so the account is the same in every build, and a
 * leak is found without a leak checker.
 *
 *     memory_begin();
 *     ... parse an input ...
 *     memory_end(2 * size + 4096);      never held more than that, and holds nothing now
 *
 * Blocks of 16 KiB and more are recycled instead of being given back to the system, whose
 * price would be most of a run's time. The address sanitizer still sees what lies beyond the
 * end of such a block, and one that was freed, as forbidden.
 *
 * For one thread.
 */
#ifndef TKV_FUZZ_MEMORY_H
#define TKV_FUZZ_MEMORY_H

#include <stddef.h>
#include <stdint.h>

void memory_begin(void);
/* `limit`: bytes that may have been held at any time since memory_begin(). */
void memory_check(size_t limit);
/* The same, and nothing is held any more. */
void memory_end(size_t limit);

/* From now on the `nth` request (from 1) and all later ones fail; 0: none does. */
void memory_fail_at(uint64_t nth);

#endif
