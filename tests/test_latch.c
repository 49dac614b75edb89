/* SPDX-License-Identifier: MIT */
/*
 * test_latch - one thread at a time is inside, and who waits does not keep the holder away
 * from the processor. The linker wraps what lets go of it (--wrap=sched_yield,nanosleep): there
 * the latch is released, as if by its holder.
 */
#include "latch.h"
#include "test.h"

#include <sched.h>
#include <time.h>

TEST_MAIN

static struct tkv_latch latch;
static unsigned yields, naps, release_at_yield, release_at_nap;

int __real_sched_yield(void);
int __wrap_sched_yield(void);
int __real_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);

int __wrap_sched_yield(void) TKV_NO_ANALYSIS
{
    if (release_at_yield == 0 && release_at_nap == 0)
        return __real_sched_yield();
    if (++yields == release_at_yield)
        tkv_latch_release(&latch);
    return 0;
}

int __wrap_nanosleep(const struct timespec *pause, struct timespec *left) TKV_NO_ANALYSIS
{
    if (release_at_nap == 0)
        return __real_nanosleep(pause, left);
    CHECK(pause->tv_sec == 0 && pause->tv_nsec > 0);
    if (++naps == release_at_nap)
        tkv_latch_release(&latch);
    return 0;
}

/* Its holder is this thread, and releases it where it waits. */
static void take_a_taken_one(unsigned at_yield, unsigned at_nap) TKV_NO_ANALYSIS
{
    release_at_yield = at_yield;
    release_at_nap = at_nap;
    yields = naps = 0;
    tkv_latch_init(&latch);
    tkv_latch_take(&latch);
    tkv_latch_take(&latch);
    CHECK(atomic_load(&latch.taken));
    tkv_latch_release(&latch);
    CHECK(!atomic_load(&latch.taken));
    release_at_yield = release_at_nap = 0;
}

TEST(who_waits_yields_and_then_sleeps_until_it_is_free)
{
    take_a_taken_one(1, 0);
    CHECK_EQ(yields, 1);
    CHECK_EQ(naps, 0);
    take_a_taken_one(0, 3);
    CHECK(yields > 1);
    CHECK_EQ(naps, 3);
}

#define THREADS 4
#define TURNS   20000u

static unsigned counter; /* guarded by nothing but the latch */

static void *count(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < TURNS; i++) {
        tkv_latch_take(&latch);
        counter++;
        tkv_latch_release(&latch);
    }
    return NULL;
}

TEST(one_thread_at_a_time_is_inside)
{
    pthread_t threads[THREADS];

    tkv_latch_init(&latch);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(counter, THREADS * TURNS);
}
