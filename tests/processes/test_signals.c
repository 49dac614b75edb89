/* SPDX-License-Identifier: MIT */
/*
 * Signals that interrupt system calls, and threads that meet trouble together: a poisoned store
 * under readers and writers, a close beside a compaction. A watchdog turns a deadlock into a
 * failure.
 */
#include "place.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

TEST_MAIN

#define SIGNALS_WANTED   2000u
#define WATCHDOG_SECONDS 120u

/* ---- Signals ----------------------------------------------------------------------------- */

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* Without SA_RESTART: whatever call it meets returns EINTR. */
static void ring_every(long microseconds)
{
    const struct itimerval timer = {
        {0, microseconds},
        {0, microseconds}
    };
    struct sigaction action = {.sa_handler = count_signal};

    CHECK_EQ(sigaction(SIGPROF, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void work_under_signals(const struct place *place)
{
    struct tkv_store *store = place_open(place);
    struct tkv_error err;
    char key[16];

    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "key %u", i % 20);
        place_put(store, key, 200 + i * 50);
        place_expect(store, key, 200 + i * 50);
    }
    place_put(store, "big", 100000);
    CHECK_OK(tkv_sync(store, &err));
    CHECK_OK(tkv_checkpoint(store, &err));
    CHECK_OK(tkv_compact(store, NULL, &err));
    place_expect(store, "big", 100000);
    place_expect_filled(store);
    place_close(store);
}

TEST(signals_that_interrupt_system_calls_are_not_noticed)
{
    struct place place = place_new();

    place_fill(&place);
    signals = 0;
    ring_every(150);
    for (unsigned round = 0; signals < (sig_atomic_t)SIGNALS_WANTED; round++) {
        place.options.durability = (enum tkv_durability)(round % 3);
        place.options.background = round % 2 == 1;
        place.options.read_mode = round % 4 < 2 ? TKV_READ_MMAP : TKV_READ_PREAD;
        work_under_signals(&place);
    }
    CHECK_EQ(setitimer(ITIMER_REAL,
                       &(struct itimerval){
                           {0, 0},
                           {0, 0}
    },
                       NULL),
             0);
    CHECK(signal(SIGALRM, SIG_DFL) != SIG_ERR);
    place_free(&place);
}

/* ---- Poison ------------------------------------------------------------------------------ */

#define READERS 3u
#define WRITERS 3u

static atomic_bool syncs_fail;

static int fail_sync(struct tkv_os *os, int fd)
{
    (void)os;
    return atomic_load(&syncs_fail) ? -EIO : tkv_os_posix()->sync(tkv_os_posix(), fd);
}

/* So that every commit needs a sync. */
static int open_without_direct(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    (void)os;
    if ((flags & TKV_OS_DIRECT_SYNC) != 0)
        return -EINVAL;
    return tkv_os_posix()->open(tkv_os_posix(), dir, name, flags);
}

struct crowd {
    struct tkv_store *store;
    _Atomic unsigned refused; /* writers that have ended */
    _Atomic unsigned reads;   /* after the poison */
};

static void *write_until_refused(void *context)
{
    struct crowd *crowd = context;
    struct tkv_error err;
    enum tkv_status status = TKV_OK;

    for (unsigned i = 0; status == TKV_OK; i++)
        status = tkv_put(crowd->store, tkv_text("more"), tkv_bytes(&i, sizeof i), &err);
    CHECK(status == TKV_IO || status == TKV_POISONED);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(tkv_put(crowd->store, tkv_text("more"), tkv_bytes(&i, sizeof i), &err),
                 TKV_POISONED);
    CHECK_EQ(tkv_sync(crowd->store, &err), TKV_POISONED);
    atomic_fetch_add(&crowd->refused, 1);
    return NULL;
}

static void *read_on(void *context)
{
    struct crowd *crowd = context;
    char key[16];

    for (unsigned i = 0; atomic_load(&crowd->refused) < WRITERS || i % 500 != 0; i++) {
        snprintf(key, sizeof key, "fill %u", i % 40);
        place_expect(crowd->store, key, 100 + i % 40 * 150);
        if (atomic_load(&crowd->refused) > 0)
            atomic_fetch_add(&crowd->reads, 1);
    }
    return NULL;
}

TEST(readers_go_on_while_a_poisoned_store_refuses_writers_and_it_closes)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        struct place place = place_new();
        struct tkv_os os = *tkv_os_posix();
        struct crowd crowd = {0};
        pthread_t threads[READERS + WRITERS];
        struct tkv_store *store;
        struct tkv_error err;

        place.options.background = true;
        place.options.interval_ms = 5;
        place.options.durability =
            mode == 0 ? TKV_DURABILITY_ALWAYS : TKV_DURABILITY_INTERVAL;
        place_fill(&place);
        os.sync = fail_sync;
        os.open = open_without_direct;
        atomic_store(&syncs_fail, false);
        crowd.store = place_open_on(&place, &os);
        (void)alarm(WATCHDOG_SECONDS);
        for (unsigned i = 0; i < READERS + WRITERS; i++)
            CHECK_EQ(pthread_create(&threads[i], NULL,
                                    i < READERS ? read_on : write_until_refused, &crowd),
                     0);
        atomic_store(&syncs_fail, true);
        for (unsigned i = 0; i < READERS + WRITERS; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK(tkv_close(crowd.store, &err) != TKV_OK);
        (void)alarm(0);
        store = place_open(&place);
        place_expect_filled(store);
        place_close(store);
        place_free(&place);
    }
}

/* ---- Upkeep without threads of its own --------------------------------------------------- */

static void *put_often(void *context)
{
    struct tkv_store *store = context;
    struct tkv_error err;

    for (unsigned i = 0; i < 300; i++)
        CHECK_OK(tkv_put(store, tkv_text("more"), tkv_bytes(&i, sizeof i), &err));
    return NULL;
}

/* For the thread sanitizer: who syncs the log when there is no flusher to do it. */
TEST(writers_without_a_flusher_sync_the_interval_one_at_a_time)
{
    struct place place = place_new();
    pthread_t threads[WRITERS];
    struct tkv_store *store;

    place.options.durability = TKV_DURABILITY_INTERVAL;
    place.options.interval_ms = 1;
    store = place_open(&place);
    for (unsigned i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, put_often, store), 0);
    for (unsigned i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    place_verify(store);
    place_close(store);
    place_free(&place);
}

/* ---- Close beside a compaction ----------------------------------------------------------- */

static void note_picked(void *context, const struct tkv_event *event)
{
    if (event->kind == TKV_EVENT_COMPACTION_PICKED)
        atomic_store((atomic_bool *)context, true);
}

TEST(a_store_is_closed_in_the_middle_of_a_compaction)
{
    struct place place = place_new();
    atomic_bool picked = false;
    unsigned in_the_middle = 0, random = 1;

    place.options.background = true;
    place.options.durability = TKV_DURABILITY_NONE;
    place.options.on_event = note_picked;
    place.options.event_context = &picked;
    place_fill(&place);
    (void)alarm(WATCHDOG_SECONDS);
    while (in_the_middle < 30) {
        struct tkv_store *store = place_open(&place);
        char key[16];

        atomic_store(&picked, false);
        /* At random, so that files are neither whole nor plainly dead. */
        for (unsigned i = 0; !atomic_load(&picked); i++) {
            random = random * 1664525 + 1013904223;
            snprintf(key, sizeof key, "busy %u", (random >> 16) % 300);
            place_put(store, key, 500 + i % 100);
        }
        place_close(store);
        in_the_middle++;
        if (in_the_middle % 10 != 0)
            continue;
        store = place_open(&place);
        place_expect_filled(store);
        place_close(store);
    }
    (void)alarm(0);
    place_free(&place);
}
