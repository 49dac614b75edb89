/* SPDX-License-Identifier: MIT */
/*
 * fork_guard.h - one word that reads as nonzero in the process that made it and as zero in
 * every child of fork(), so that a call on an inherited store costs one load to refuse. A page
 * with MADV_WIPEONFORK (Linux 4.14).
 */
#ifndef TKV_FORK_GUARD_H
#define TKV_FORK_GUARD_H

#include <stdint.h>

const uint32_t *tkv_fork_guard_new(void); /* NULL where the kernel cannot */
void tkv_fork_guard_free(const uint32_t *guard);

#endif
