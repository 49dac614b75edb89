/* SPDX-License-Identifier: MIT */
/*
 * child.h - one process at a time that measures for this one, and ends with it: when this one
 * dies, and when SIGINT or SIGTERM comes. Threads: the main one.
 */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* Have interrupts noticed. */
void bench_catch_interrupts(void);
/* One has come: what ran was killed, and nothing more begins. */
bool bench_is_interrupted(void);

/* Returns 0 in the child; -1 when there is none, for an interrupt or for want of a process. */
pid_t bench_child_begin(void);
/* Returns its status, as waitpid() tells it. */
int bench_child_wait(pid_t child);

#endif
