/* SPDX-License-Identifier: MIT */
/*
 * idle_poll.c - the thread that loops, and where it does. A thread that waits again and again is
 * followed to its processor. When several take turns the loop goes where the scheduler puts it,
 * which is where nobody runs: to move it each time costs more than it brings.
 */
#include "idle_poll.h"

#include "worker.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#if defined(__linux__) && defined(SCHED_IDLE)

/* Of one thread in succession: more than a leader of groups for others leads (wal/lead.c), or
 * the loop would move just as it hands over. */
#define NUDGES_TO_FOLLOW 8u
#define TURNS_TO_LET_GO  8u /* of others since, none of them followed */
#define ANYWHERE         (-1)

#define WRITERS_MAX 8u

/* ---- The loop -------------------------------------------------------------------- */

static uint64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Without reading the clock; where there is an instruction for it, some microseconds in which the
 * core is left to its other thread. */
static void pause_for_a_moment(void)
{
    for (unsigned i = 0; i < 32; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
    }
}

/* Returns how many nudges there were. */
static uint64_t poll_until_quiet(struct tkv_idle_poll *poll)
{
    uint64_t seen = atomic_load(&poll->nudges);
    uint64_t from_us = now_us();

    while (now_us() < from_us + poll->micros) {
        const uint64_t nudges = atomic_load_explicit(&poll->nudges, memory_order_relaxed);

        if (nudges != seen)
            from_us = now_us();
        seen = nudges;
        pause_for_a_moment();
    }
    return seen;
}

static void poll_once(struct tkv_idle_poll *poll, unsigned turn)
{
    const uint64_t seen = poll_until_quiet(poll);

    atomic_store(&poll->sleeps, true);
    /* A nudge that came in between has seen the flag or is seen here. */
    if (atomic_load(&poll->nudges) == seen && !atomic_load(&poll->stopping))
        tkv_gate_wait(&poll->wake, turn);
    atomic_store(&poll->sleeps, false);
}

/* Lives until it is stopped even if it may not poll: the C library would move the caller
 * instead of a thread that has ended. */
static void *run(void *argument)
{
    const struct sched_param none = {0};
    struct tkv_idle_poll *poll = argument;

    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        atomic_store(&poll->refused, true);
    while (true) {
        const unsigned turn = tkv_gate_turn(&poll->wake);

        if (atomic_load(&poll->stopping))
            return NULL;
        if (atomic_load(&poll->refused))
            tkv_gate_wait(&poll->wake, turn);
        else
            poll_once(poll, turn);
    }
}

/* ---- Where it loops -------------------------------------------------------------- */

static void move_loop(struct tkv_idle_poll *poll, int processor)
{
    cpu_set_t set = poll->anywhere;

    if (processor == poll->processor)
        return;
    poll->processor = processor;
    if (processor != ANYWHERE) {
        CPU_ZERO(&set);
        CPU_SET((unsigned)processor, &set);
    }
    /* Where it is not allowed to go it stays: that costs speed, nothing else. */
    (void)pthread_setaffinity_np(poll->thread, sizeof set, &set);
}

static void follow(struct tkv_idle_poll *poll)
{
    const pthread_t self = pthread_self();

    if (!pthread_equal(poll->nudger, self)) {
        poll->nudger = self;
        poll->nudger_times = 0;
        poll->turns++;
    }
    if (++poll->nudger_times >= NUDGES_TO_FOLLOW) {
        poll->nudger_times = NUDGES_TO_FOLLOW;
        poll->turns = 0;
        move_loop(poll, sched_getcpu());
    } else if (poll->turns >= TURNS_TO_LET_GO) {
        move_loop(poll, ANYWHERE);
    }
}

/* ---- Starting and stopping ------------------------------------------------------- */

int tkv_idle_poll_start(struct tkv_idle_poll *poll, uint32_t micros)
{
    int result;

    memset(poll, 0, sizeof *poll);
    poll->micros = micros;
    poll->processor = ANYWHERE;
    if (sched_getaffinity(0, sizeof poll->anywhere, &poll->anywhere) != 0)
        return errno; /* a set too small for the processors, or a sandbox */
    tkv_gate_init(&poll->wake);
    result = tkv_worker_thread(&poll->thread, run, poll);
    poll->started = result == 0;
    return result;
}

/* Of groups of one, those of a writer who is alone: others are of two that take turns. */
static bool is_worth_it(struct tkv_idle_poll *poll, unsigned writers)
{
    if (writers > WRITERS_MAX)
        return false;
    follow(poll);
    return writers > 2 || (writers == 1 && poll->nudger_times == NUDGES_TO_FOLLOW);
}

void tkv_idle_poll_nudge(struct tkv_idle_poll *poll, unsigned writers)
{
    if (!poll->started || atomic_load(&poll->refused) || !is_worth_it(poll, writers))
        return;
    atomic_fetch_add(&poll->nudges, 1);
    if (atomic_load(&poll->sleeps) && atomic_exchange(&poll->sleeps, false))
        tkv_gate_open(&poll->wake);
}

void tkv_idle_poll_stop(struct tkv_idle_poll *poll)
{
    if (!poll->started)
        return;
    move_loop(poll, ANYWHERE); /* to whichever processor has time for it to end */
    atomic_store(&poll->stopping, true);
    tkv_gate_open(&poll->wake);
    (void)pthread_join(poll->thread, NULL);
    tkv_gate_destroy(&poll->wake);
    poll->started = false;
}

#else

int tkv_idle_poll_start(struct tkv_idle_poll *poll, uint32_t micros)
{
    memset(poll, 0, sizeof *poll);
    (void)micros;
    return 0;
}

void tkv_idle_poll_nudge(struct tkv_idle_poll *poll, unsigned writers)
{
    (void)poll;
    (void)writers;
}

void tkv_idle_poll_stop(struct tkv_idle_poll *poll)
{
    (void)poll;
}

#endif
