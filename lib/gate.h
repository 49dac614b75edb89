/* SPDX-License-Identifier: MIT */
/*
 * gate.h - many threads wait until one opens the gate; then it is closed again for those who
 * come next. One system call wakes them all, however many they are: a semaphore each costs one
 * a thread, and a condition variable makes them queue for its mutex again.
 *
 * Everything that was done before opening is seen by those who waited. Threads: any.
 */
#ifndef TKV_GATE_H
#define TKV_GATE_H

#include "lock.h"

#include <stdatomic.h>

struct tkv_gate {
    atomic_uint turn; /* how often it was opened */
#ifndef __linux__
    struct tkv_mutex lock;
    pthread_cond_t opened;
#endif
};

void tkv_gate_init(struct tkv_gate *gate);
void tkv_gate_destroy(struct tkv_gate *gate);

/* The turn to wait for; to be read before anybody could open the gate for it. */
unsigned tkv_gate_turn(const struct tkv_gate *gate);

/* Returns once the gate has been opened since `turn` was read. */
void tkv_gate_wait(struct tkv_gate *gate, unsigned turn);
void tkv_gate_open(struct tkv_gate *gate);

#endif
