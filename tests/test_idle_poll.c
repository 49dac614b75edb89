/* SPDX-License-Identifier: MIT */
/*
 * A thread that keeps a processor awake: when it runs, where, in which class, and what is left of
 * it when the system refuses.
 *
 * Method: the calls that place the thread are wrapped. What the thread itself does is waited for,
 * however long that takes.
 */
#include "idle_poll.h"
#include "test.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

TEST_MAIN

/* ---- The system ------------------------------------------------------------------ */

static atomic_int class_result, classes_taken;
static atomic_int class_taken;
static atomic_long clock_looks;
static int processor_now, moves, getaffinity_result, create_result;
static cpu_set_t moved_to;

int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *p);
int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *p)
{
    CHECK(pthread_equal(thread, pthread_self()) && p->sched_priority == 0);
    atomic_store(&class_taken, policy);
    atomic_fetch_add(&classes_taken, 1);
    return atomic_load(&class_result);
}

/* Ten microseconds pass with each look at it: who polls looks. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    const long looks = atomic_fetch_add(&clock_looks, 1);

    CHECK_EQ(clock, CLOCK_MONOTONIC);
    *ret_time = (struct timespec){looks / 100000, looks % 100000 * 10000};
    return 0;
}

int __wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set);
int __wrap_pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *set)
{
    (void)thread;
    CHECK_EQ(size, sizeof moved_to);
    moved_to = *set;
    moves++;
    return 0;
}

int __wrap_sched_getcpu(void);
int __wrap_sched_getcpu(void)
{
    return processor_now;
}

int __real_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    if (getaffinity_result != 0) {
        errno = getaffinity_result;
        return -1;
    }
    return __real_sched_getaffinity(pid, size, set);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    return create_result != 0 ? create_result
                              : __real_pthread_create(thread, attributes, start, argument);
}

static void begin(struct tkv_idle_poll *poll)
{
    moves = 0;
    processor_now = 0;
    atomic_store(&class_result, 0);
    atomic_store(&classes_taken, 0);
    atomic_store(&clock_looks, 0);
    CHECK_EQ(tkv_idle_poll_start(poll, 50), 0);
}

static void wait_until_asleep(struct tkv_idle_poll *poll)
{
    while (!atomic_load(&poll->sleeps))
        (void)sched_yield();
}

static void nudge(struct tkv_idle_poll *poll, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        tkv_idle_poll_nudge(poll, 3);
}

struct elsewhere {
    struct tkv_idle_poll *poll;
    unsigned writers;
};

static void *nudge_once(void *argument)
{
    const struct elsewhere *e = argument;

    tkv_idle_poll_nudge(e->poll, e->writers);
    return NULL;
}

static void nudge_elsewhere(struct tkv_idle_poll *poll, unsigned writers)
{
    struct elsewhere e = {poll, writers};
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, nudge_once, &e), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- When it runs ---------------------------------------------------------------- */

TEST(it_sleeps_until_nudged_and_again_when_nudges_stay_away)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    for (int i = 1; i <= 100; i++) {
        wait_until_asleep(&poll);
        CHECK(atomic_load(&clock_looks) >= 6 * i); /* 50 us were to be polled */
        tkv_idle_poll_nudge(&poll, 3); /* whoever finds it asleep takes the flag back */
    }
    wait_until_asleep(&poll);
    tkv_idle_poll_stop(&poll);
}

TEST(groups_of_three_to_eight_and_whoever_commits_alone_are_polled_for)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    for (unsigned i = 0; i < 7; i++) {
        tkv_idle_poll_nudge(&poll, 1); /* may be one of two that take turns */
        tkv_idle_poll_nudge(&poll, 9);
    }
    CHECK_EQ(atomic_load(&poll.nudges), 0);
    tkv_idle_poll_nudge(&poll, 1);
    CHECK_EQ(atomic_load(&poll.nudges), 1);
    tkv_idle_poll_nudge(&poll, 2);
    nudge_elsewhere(&poll, 2);
    CHECK_EQ(atomic_load(&poll.nudges), 1);
    nudge_elsewhere(&poll, 3);
    tkv_idle_poll_nudge(&poll, 8);
    CHECK_EQ(atomic_load(&poll.nudges), 3);
    tkv_idle_poll_stop(&poll);
}

TEST(it_runs_only_where_nobody_else_wants_to)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    wait_until_asleep(&poll);
    CHECK_EQ(atomic_load(&classes_taken), 1);
    CHECK_EQ(atomic_load(&class_taken), SCHED_IDLE);
    tkv_idle_poll_stop(&poll);
}

TEST(it_can_be_stopped_while_it_sleeps)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    wait_until_asleep(&poll);
    tkv_idle_poll_stop(&poll);
    CHECK(!poll.started);
}

TEST(it_can_be_stopped_while_it_polls)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    tkv_idle_poll_nudge(&poll, 3);
    tkv_idle_poll_stop(&poll);
    CHECK(!poll.started);
}

/* ---- Where it runs --------------------------------------------------------------- */

TEST(a_thread_that_comes_again_and_again_is_followed)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    nudge(&poll, 7);
    CHECK_EQ(moves, 0);
    nudge(&poll, 100);
    CHECK_EQ(moves, 1);
    CHECK(CPU_COUNT(&moved_to) == 1 && CPU_ISSET(0, &moved_to));
    processor_now = 1;
    nudge(&poll, 100);
    CHECK_EQ(moves, 2);
    CHECK(CPU_COUNT(&moved_to) == 1 && CPU_ISSET(1, &moved_to));
    tkv_idle_poll_stop(&poll);
}

TEST(threads_that_take_turns_are_not_followed)
{
    struct tkv_idle_poll poll;

    begin(&poll);
    for (unsigned i = 0; i < 10; i++) {
        nudge(&poll, 7);
        nudge_elsewhere(&poll, 3);
    }
    CHECK_EQ(moves, 0);
    tkv_idle_poll_stop(&poll);
}

TEST(a_thread_is_let_go_when_others_take_turns_and_not_before)
{
    struct tkv_idle_poll poll;
    cpu_set_t mine;

    CHECK_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    begin(&poll);
    nudge(&poll, 8);
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned turn = 1; turn <= 6; turn += 2) {
            nudge_elsewhere(&poll, 3);
            nudge(&poll, turn < 5 ? 1 : 8);
        }
        CHECK_EQ(moves, 1);
    }
    for (unsigned turn = 1; turn <= 8; turn += 2) {
        CHECK_EQ(moves, 1);
        nudge_elsewhere(&poll, 3);
        nudge(&poll, 1);
    }
    CHECK_EQ(moves, 2);
    CHECK(CPU_EQUAL(&moved_to, &mine)); /* and not beyond what the process may use */
    tkv_idle_poll_stop(&poll);
}

/* ---- What the system refuses ----------------------------------------------------- */

TEST(without_its_class_it_never_polls)
{
    struct tkv_idle_poll poll;

    atomic_store(&clock_looks, 0);
    atomic_store(&class_result, EPERM);
    CHECK_EQ(tkv_idle_poll_start(&poll, 50), 0);
    nudge(&poll, 100);
    tkv_idle_poll_stop(&poll); /* waits for its end */
    CHECK(!atomic_load(
        &poll.sleeps)); /* which it has never been, so that nudges wake nobody */
    atomic_store(&class_result, 0);
}

TEST(when_it_cannot_start_nudging_and_stopping_do_nothing)
{
    struct tkv_idle_poll poll;

    getaffinity_result = EINVAL;
    CHECK_EQ(tkv_idle_poll_start(&poll, 50), EINVAL);
    getaffinity_result = 0;
    nudge(&poll, 100);
    tkv_idle_poll_stop(&poll);
    create_result = EAGAIN;
    CHECK_EQ(tkv_idle_poll_start(&poll, 50), EAGAIN);
    create_result = 0;
    nudge(&poll, 100);
    tkv_idle_poll_stop(&poll);
    CHECK_EQ(atomic_load(&poll.nudges), 0);
}
