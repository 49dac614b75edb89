/* SPDX-License-Identifier: MIT */
#include "epoch.h"

#include <sched.h>
#include <time.h>

void tkv_epoch_init(struct tkv_epoch *epoch)
{
    for (unsigned i = 0; i < TKV_EPOCH_STRIPES; i++) {
        struct tkv_epoch_stripe *s = &epoch->stripes[i];

        atomic_init(&s->readers[0], 0);
        atomic_init(&s->readers[1], 0);
        atomic_init(&s->gets, 0);
        atomic_init(&s->gets_missing, 0);
    }
    atomic_init(&epoch->phase, 0);
    tkv_mutex_init(&epoch->lock);
}

void tkv_epoch_destroy(struct tkv_epoch *epoch)
{
    tkv_mutex_destroy(&epoch->lock);
}

static void drain(struct tkv_epoch *epoch, unsigned phase)
{
    const struct timespec pause = {0, 50 * 1000};

    for (unsigned i = 0; i < TKV_EPOCH_STRIPES; i++) {
        unsigned tries = 0;

        while (atomic_load(&epoch->stripes[i].readers[phase]) != 0) {
            if (++tries < 10)
                (void)sched_yield();
            else
                (void)nanosleep(&pause, NULL);
        }
    }
}

void tkv_epoch_wait(struct tkv_epoch *epoch)
{
    tkv_mutex_lock(&epoch->lock);
    /* A reader may have loaded the phase before the flip and count itself after the drain; it
     * is in the counter that the second round drains. */
    for (unsigned round = 0; round < 2; round++) {
        const unsigned old = atomic_load(&epoch->phase) & 1;

        atomic_store(&epoch->phase, old ^ 1);
        drain(epoch, old);
    }
    tkv_mutex_unlock(&epoch->lock);
}
