/* SPDX-License-Identifier: MIT */
/*
 * idle_poll.h - keeps the processor on which a thread waits for the disk from going to sleep.
 *
 * A write of one block takes the device some 50 µs, in which the processor has nothing to do. It
 * stops, and to be started again by the device's interrupt takes a good part of that time once
 * more; in a virtual machine the hypervisor must bring it back. A thread that merely loops, in
 * the class of scheduling that gets what nobody else of its control group wants (SCHED_IDLE),
 * keeps it running. Beside other groups it counts like any thread.
 * Linux has the same for all processes of a guest: cpuidle-haltpoll (Documentation/virt/
 * guest-halt-polling.rst), where it is turned on.
 *
 * When something fails: a system that refuses SCHED_IDLE, or has none, is not polled at all.
 *
 * Threads: nudges come one at a time; starting and stopping are alone. There is no lock: a thread
 * of that class that was interrupted with one would not run again while anybody else wants to.
 * For the same reason stopping can take 100 ms where all processors are busy.
 */
#ifndef TKV_IDLE_POLL_H
#define TKV_IDLE_POLL_H

#include "gate.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct tkv_idle_poll {
    pthread_t thread;
    bool started;
    uint32_t micros;
    _Atomic uint64_t nudges;
    atomic_bool sleeps; /* and is to be woken by the next nudge */
    atomic_bool stopping;
    atomic_bool refused; /* the class was */
    struct tkv_gate wake;

    /* The nudging thread's: who came the last times, how often another one, and where the
     * loop is because of it. */
    pthread_t nudger;
    unsigned nudger_times, turns;
    int processor; /* -1: anywhere */
#ifdef __linux__
    cpu_set_t anywhere; /* where the thread may run that started it */
#endif
};

/* Poll for `micros` after each nudge. 0 or a positive errno; then nudge and stop do nothing, as
 * on a zeroed one. */
int tkv_idle_poll_start(struct tkv_idle_poll *poll, uint32_t micros);
/* The calling thread is about to wait for the disk, for so many writers. More than 8 keep the
 * processors awake by waking each other, and so do two: then it does nothing. */
void tkv_idle_poll_nudge(struct tkv_idle_poll *poll, unsigned writers);
void tkv_idle_poll_stop(struct tkv_idle_poll *poll);

#endif
