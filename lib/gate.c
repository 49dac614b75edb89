/* SPDX-License-Identifier: MIT */
/* gate.c - on Linux a futex, elsewhere a condition variable. */

#include "gate.h"

unsigned tkv_gate_turn(const struct tkv_gate *gate)
{
    return atomic_load_explicit(&gate->turn, memory_order_acquire);
}

#ifdef __linux__

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void tkv_gate_init(struct tkv_gate *gate)
{
    atomic_init(&gate->turn, 0);
}

void tkv_gate_destroy(struct tkv_gate *gate)
{
    (void)gate;
}

void tkv_gate_wait(struct tkv_gate *gate, unsigned turn)
{
    /* It returns for signals too, and at once when the gate has just been opened. */
    while (atomic_load_explicit(&gate->turn, memory_order_acquire) == turn)
        (void)syscall(SYS_futex, &gate->turn, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
}

void tkv_gate_open(struct tkv_gate *gate)
{
    atomic_fetch_add_explicit(&gate->turn, 1, memory_order_release);
    (void)syscall(SYS_futex, &gate->turn, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#else

void tkv_gate_init(struct tkv_gate *gate)
{
    atomic_init(&gate->turn, 0);
    tkv_mutex_init(&gate->lock);
    (void)pthread_cond_init(&gate->opened, NULL);
}

void tkv_gate_destroy(struct tkv_gate *gate)
{
    (void)pthread_cond_destroy(&gate->opened);
    tkv_mutex_destroy(&gate->lock);
}

void tkv_gate_wait(struct tkv_gate *gate, unsigned turn) TKV_NO_ANALYSIS
{
    tkv_mutex_lock(&gate->lock);
    while (atomic_load(&gate->turn) == turn)
        (void)pthread_cond_wait(&gate->opened, &gate->lock.handle);
    tkv_mutex_unlock(&gate->lock);
}

void tkv_gate_open(struct tkv_gate *gate)
{
    tkv_mutex_lock(&gate->lock);
    atomic_fetch_add(&gate->turn, 1);
    (void)pthread_cond_broadcast(&gate->opened);
    tkv_mutex_unlock(&gate->lock);
}

#endif
