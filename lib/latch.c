/* SPDX-License-Identifier: MIT */
#include "latch.h"

#include <sched.h>
#include <time.h>

#define SPINS  200u /* about as long as a section takes */
#define YIELDS 10u

static bool is_taken(const struct tkv_latch *latch)
{
    return atomic_load_explicit(&latch->taken, memory_order_relaxed);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void tkv_latch_wait(const struct tkv_latch *latch)
{
    const struct timespec pause = {0, 50 * 1000};

    for (unsigned i = 0; i < SPINS && is_taken(latch); i++)
        relax();
    /* Its holder has lost the processor, or makes a table grow. Yielding alone would never let
     * it go on if it has a lower priority. */
    for (unsigned i = 0; is_taken(latch); i++) {
        if (i < YIELDS)
            (void)sched_yield();
        else
            (void)nanosleep(&pause, NULL);
    }
}
