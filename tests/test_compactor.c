/* SPDX-License-Identifier: MIT */
/*
 * The compactor's parts, each alone: which file is picked, which deletes are needed, and a
 * thread that works when it is woken and not otherwise.
 *
 * Method: pick and tombstones are arithmetic, tried on both sides of every bound; memory fails
 * on demand, and what is sorted is compared both ways. A worker's steps are counted with
 * semaphores, and where instants matter its clock stands still: nothing depends on time.
 */
#include "bytes.h"
#include "held_locks.h"
#include "pick.h"
#include "test.h"
#include "tombstones.h"
#include "worker.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

TEST_MAIN

static struct tkv_error err;
static int allocations_left = -1; /* -1: memory is there */
static unsigned reallocations;
static int thread_errno;

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *), void *argument);

void *__wrap_realloc(void *old, size_t size)
{
    if (allocations_left == 0)
        return NULL;
    if (allocations_left > 0)
        allocations_left--;
    reallocations++;
    return __real_realloc(old, size);
}

static atomic_uint joins; /* by any thread */

int __real_pthread_join(pthread_t thread, void **ret_result);
int __wrap_pthread_join(pthread_t thread, void **ret_result);

int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    joins++;
    return __real_pthread_join(thread, ret_result);
}

/* The one thread that there is at a time. */
static struct {
    void *(*run)(void *);
    void *argument;
} begun;

static void *run_and_hold_nothing(void *unused)
{
    void *const result = begun.run(begun.argument);

    (void)unused;
    CHECK(holds_no_lock());
    return result;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *), void *argument)
{
    if (thread_errno != 0)
        return thread_errno;
    begun.run = run;
    begun.argument = argument;
    return __real_pthread_create(thread, attr, run_and_hold_nothing, NULL);
}

/* ---- A clock that stands still ---------------------------------------------------------- */

static bool clock_stands;
static struct timespec now, deadlines[8];
static unsigned sleeps;
static clockid_t clock_of_sleeps = -1;

static const pthread_condattr_t *attr_begun;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __real_pthread_condattr_init(pthread_condattr_t *attr);
int __wrap_pthread_condattr_init(pthread_condattr_t *attr);
int __real_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attr);
int __real_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *deadline);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *deadline);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    if (!clock_stands)
        return __real_clock_gettime(clock, ret_now);
    CHECK_EQ(clock, CLOCK_MONOTONIC);
    *ret_now = now;
    return 0;
}

int __wrap_pthread_condattr_init(pthread_condattr_t *attr)
{
    attr_begun = attr;
    return __real_pthread_condattr_init(attr);
}

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attr)
{
    if (attr != NULL) {
        CHECK(attr == attr_begun); /* nothing in it is left to chance */
        CHECK_EQ(pthread_condattr_getclock(attr, &clock_of_sleeps), 0);
    }
    attr_begun = NULL;
    return __real_pthread_cond_init(condition, attr);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *deadline)
{
    if (!clock_stands)
        return __real_pthread_cond_timedwait(condition, mutex, deadline);
    CHECK(sleeps < 8);
    deadlines[sleeps++] = *deadline;
    return ETIMEDOUT;
}

/* ---- Pick ------------------------------------------------------------------------------- */

#define MIB (UINT64_C(1) << 20)

TEST(a_compaction_is_wanted_beyond_the_factor_and_the_least_size)
{
    const struct tkv_pick_policy policy = {.size_min = 1000, .space_factor = 1.5};

    CHECK(!tkv_pick_wanted(1500, 1000, &policy));
    CHECK(tkv_pick_wanted(1501, 1000, &policy));
    CHECK(!tkv_pick_wanted(1000, 10, &policy));
    CHECK(tkv_pick_wanted(1001, 10, &policy));
    CHECK(!tkv_pick_wanted(2000, 3000, &policy)); /* more kept than there is: no garbage */
}

TEST(a_store_that_was_emptied_shrinks_below_the_least_size_too)
{
    const struct tkv_pick_policy policy = {.size_min = 100 * MIB, .space_factor = 1.5};

    CHECK(tkv_pick_wanted(MIB, 0, &policy));
    CHECK(!tkv_pick_wanted(MIB - 1, 0, &policy));
    CHECK(tkv_pick_wanted(10 * MIB, 2 * MIB, &policy));
    CHECK(!tkv_pick_wanted(10 * MIB, 2 * MIB + 1, &policy));
    CHECK(!tkv_pick_wanted(10 * MIB, 20 * MIB, &policy));
}

static size_t pick_one(uint64_t size, uint64_t kept, bool everything)
{
    const struct tkv_pick_policy policy = {.everything = everything};
    const struct tkv_pick_file file = {.size = size, .kept_bytes = kept, .eligible = true};

    return tkv_pick(&file, 1, &policy);
}

TEST(a_file_that_would_waste_as_much_again_is_left_alone)
{
    CHECK_EQ(pick_one(100000, 100000 - 4159, true), TKV_PICK_NONE);
    CHECK_EQ(pick_one(100000, 100000 - 4160, true), 0);
    CHECK_EQ(pick_one(100000, 100000, true), TKV_PICK_NONE);
    CHECK_EQ(pick_one(100000, 200000, true), TKV_PICK_NONE); /* counters may be ahead */
    CHECK_EQ(pick_one(4096, 0, true), 0);                    /* plainly dead */
    CHECK_EQ(pick_one(4096, 1, true), TKV_PICK_NONE);
    CHECK_EQ(pick_one(0, 0, true), TKV_PICK_NONE);
}

TEST(by_itself_a_compaction_wants_a_tenth_of_the_file)
{
    CHECK_EQ(pick_one(100000, 90000, false), 0);
    CHECK_EQ(pick_one(100000, 90001, false), TKV_PICK_NONE);
    CHECK_EQ(pick_one(100000, 90001, true), 0);
}

TEST(the_best_file_has_more_garbage_or_is_older_and_is_eligible)
{
    const struct tkv_pick_policy policy = {.everything = true};
    struct tkv_pick_file files[4] = {
        {.size = 100000, .kept_bytes = 50000, .age = 10,   .eligible = true },
        {.size = 100000, .kept_bytes = 40000, .age = 10,   .eligible = true },
        {.size = 100000, .kept_bytes = 60000, .age = 40,   .eligible = true },
        {.size = 100000, .kept_bytes = 0,     .age = 1000, .eligible = false},
    };

    CHECK_EQ(tkv_pick(files, 2, &policy), 1);
    CHECK_EQ(tkv_pick(files, 4, &policy), 2);
    files[0] = files[1]; /* of equals the first */
    CHECK_EQ(tkv_pick(files, 2, &policy), 0);
    files[0].age = 0;
    files[1].age = 0; /* the newest garbage counts as well */
    files[1].kept_bytes = 30000;
    CHECK_EQ(tkv_pick(files, 2, &policy), 1);
    /* dead x (age + 1) / (kept + 4159): 50000 x 3 / 50000 = 3 against 80000 x 1 / 20000 = 4 */
    files[0] = (struct tkv_pick_file){95841, 45841, 2, true};
    files[1] = (struct tkv_pick_file){95841, 15841, 0, true};
    CHECK_EQ(tkv_pick(files, 2, &policy), 1);
    files[0].age = 3; /* 4 against 4, and a bit less or more */
    files[0].kept_bytes++;
    CHECK_EQ(tkv_pick(files, 2, &policy), 1);
    files[0].kept_bytes -= 2;
    files[1].kept_bytes++;
    CHECK_EQ(tkv_pick(files, 2, &policy), 0);
    CHECK_EQ(tkv_pick(files, 0, &policy), TKV_PICK_NONE);
}

/* ---- Tombstones ------------------------------------------------------------------------- */

#define COUNT 5000u

static void add(struct tkv_tombstones *t, uint64_t hash, uint64_t seq)
{
    uint8_t bytes[40];

    memset(bytes, (int)(seq % 251), sizeof bytes);
    CHECK_OK(tkv_tombstones_add(t, hash, seq, bytes, 20 + (uint32_t)(seq % 20), &err));
}

/* Hashes are spread evenly, over all their bits. */
static uint64_t spread(uint64_t number)
{
    return number * UINT64_C(0x9e3779b97f4a7c15);
}

TEST(deletes_are_found_by_hash_and_keep_their_records)
{
    struct tkv_tombstones t = {0};
    unsigned needed = 0;

    reallocations = 0;
    for (uint64_t i = 0; i < COUNT; i++)
        add(&t, spread(i * 7919 % COUNT / 2), i + 1); /* two of each hash */
    CHECK(reallocations <= 2 * 13);                   /* twice as much each time, of both */
    CHECK_EQ(t.count, COUNT);
    CHECK_EQ(t.undecided, COUNT);
    CHECK_EQ(t.seq_max, COUNT);
    CHECK_OK(tkv_tombstones_list(&t, &err));
    for (size_t i = 0; i < COUNT; i++) {
        const struct tkv_tombstone *item = &t.items[i];

        CHECK_EQ(item->hash, spread(i * 7919 % COUNT / 2));
        CHECK_EQ(item->seq, i + 1); /* as they came */
        CHECK_EQ(item->size, 20 + item->seq % 20);
        for (size_t k = 0; k < item->size; k++)
            CHECK_EQ(t.bytes[item->at + k], item->seq % 251);
    }
    for (uint64_t number = 0; number < COUNT / 2; number += 3)
        needed += tkv_tombstones_note(&t, spread(number), 1) ? 2 : 0;
    CHECK_EQ(needed, t.count - t.undecided);
    for (size_t i = 0; i < COUNT; i++)
        CHECK_EQ(t.items[i].needed, i * 7919 % COUNT / 2 % 3 == 0);
    CHECK(!tkv_tombstones_note(&t, spread(COUNT), 1));
    CHECK(!tkv_tombstones_note(&t, UINT64_MAX, 1));
    CHECK(!tkv_tombstones_note(&t, 0, 1)); /* already needed */
    tkv_tombstones_release(&t);
    CHECK_EQ(t.count + t.capacity + t.bytes_size, 0);
    CHECK(t.lists == NULL);
}

TEST(a_delete_is_needed_for_older_records_only)
{
    struct tkv_tombstones t = {0};

    add(&t, 5, 100);
    add(&t, 5, 50);
    CHECK_EQ(t.seq_max, 100);
    CHECK_OK(tkv_tombstones_list(&t, &err));
    CHECK(!tkv_tombstones_note(&t, 5, 101));
    CHECK_EQ(t.undecided, 2);
    CHECK(tkv_tombstones_note(&t, 5, 100)); /* not newer: kept, to be safe */
    CHECK(t.items[0].needed);
    CHECK(!t.items[1].needed);
    CHECK_EQ(t.undecided, 1);
    CHECK(!tkv_tombstones_note(&t, 5, 51));
    CHECK(tkv_tombstones_note(&t, 5, 50));
    CHECK_EQ(t.undecided, 0);
    tkv_tombstones_release(&t);
}

TEST(a_delete_of_a_long_key_has_room)
{
    static uint8_t record[60000];
    struct tkv_tombstones t = {0};

    memset(record, 7, sizeof record);
    for (uint32_t size = 10000; size <= sizeof record; size += 25000) {
        CHECK_OK(tkv_tombstones_add(&t, size, size, record, size, &err));
        CHECK(t.bytes_capacity >= t.bytes_size);
    }
    CHECK_EQ(t.bytes_size, 10000 + 35000 + 60000);
    for (size_t i = 0; i < t.bytes_size; i++)
        CHECK_EQ(t.bytes[i], 7);
    tkv_tombstones_release(&t);
}

TEST(without_memory_a_delete_is_refused_and_the_others_stay)
{
    const uint8_t record[100] = {1};

    for (int left = 0; left < 2; left++) { /* for the items, for the bytes */
        const size_t least = left == 0 ? sizeof(struct tkv_tombstone) : sizeof record;
        struct tkv_tombstones t = {0};
        const char *size;

        allocations_left = left;
        CHECK_EQ(tkv_tombstones_add(&t, 1, 1, record, sizeof record, &err), TKV_NO_MEMORY);
        size = strpbrk(err.message, "0123456789"); /* how much there was none of */
        CHECK(size != NULL && strtoull(size, NULL, 10) >= least);
        CHECK_EQ(t.count, 0);
        CHECK_EQ(t.undecided, 0);
        allocations_left = -1;
        CHECK_OK(tkv_tombstones_add(&t, 1, 1, record, sizeof record, &err));
        CHECK_EQ(t.count, 1);
        tkv_tombstones_release(&t);
    }
}

/* ---- The worker ------------------------------------------------------------------------- */

struct work {
    struct tkv_worker worker;
    sem_t begun, go_on;
    uint32_t pauses[8]; /* what each step returns */
    bool woken[8];
    unsigned steps;
    bool blocks_signals;
};

static uint32_t step(void *context, bool woken)
{
    struct work *w = context;
    const unsigned number = w->steps;
    sigset_t mask;

    CHECK(number < 8);
    w->woken[number] = woken;
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    w->blocks_signals = sigismember(&mask, SIGTERM) == 1;
    w->steps++;
    CHECK_EQ(sem_post(&w->begun), 0);
    while (sem_wait(&w->go_on) != 0)
        CHECK_EQ(errno, EINTR);
    return w->pauses[number];
}

static void start(struct work *w)
{
    CHECK_EQ(sem_init(&w->begun, 0, 0), 0);
    CHECK_EQ(sem_init(&w->go_on, 0, 0), 0);
    memset(&w->worker, 0xee, sizeof w->worker); /* whatever was there */
    CHECK_EQ(tkv_worker_start(&w->worker, step, w), 0);
    CHECK(w->worker.started);
}

static void wait_for_step(struct work *w)
{
    while (sem_wait(&w->begun) != 0)
        CHECK_EQ(errno, EINTR);
}

static void finish_step(struct work *w)
{
    CHECK_EQ(sem_post(&w->go_on), 0);
}

TEST(a_worker_works_when_woken_and_comes_back_when_it_said_so)
{
    static struct work w;
    sigset_t mask;

    w = (struct work){
        .pauses = {TKV_WORKER_FOREVER, 0, 0, 1, 1200, TKV_WORKER_FOREVER}
    };
    start(&w);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    CHECK_EQ(sigismember(&mask, SIGTERM), 0); /* ours are as they were */
    tkv_worker_wake(&w.worker);
    wait_for_step(&w); /* 0: the first is a wake */
    finish_step(&w);
    tkv_worker_wake(&w.worker);
    wait_for_step(&w); /* 1: so is the next, and it comes back at once */
    finish_step(&w);
    wait_for_step(&w);          /* 2 */
    tkv_worker_wake(&w.worker); /* during a step: not lost */
    finish_step(&w);
    wait_for_step(&w); /* 3: then after a millisecond */
    finish_step(&w);
    wait_for_step(&w); /* 4: then after more than a second */
    finish_step(&w);
    wait_for_step(&w); /* 5: then never */
    finish_step(&w);
    tkv_worker_join(&w.worker);
    tkv_worker_wake(&w.worker); /* by another worker, that has not ended yet */
    CHECK(w.worker.started);
    tkv_worker_stop(&w.worker);
    CHECK_EQ(w.steps, 6);
    CHECK(w.woken[0] && w.woken[1] && !w.woken[2] && w.woken[3]);
    CHECK(!w.woken[4] && !w.woken[5]);
    CHECK(w.blocks_signals);
    CHECK(!w.worker.started);
    tkv_worker_wake(&w.worker); /* harmless from now on */
    tkv_worker_stop(&w.worker);
}

/* The clock stands: each sleep is over as soon as it is known when it would end. */
TEST(a_worker_sleeps_to_the_nanosecond_that_its_step_named)
{
    static const uint32_t pauses[] = {1, 999, 1000, 61001};
    static const long nanoseconds[] = {0, 998999999, 999000000, 999999999};

    for (size_t i = 0; i < sizeof nanoseconds / sizeof nanoseconds[0]; i++) {
        static struct work w;

        w = (struct work){
            .pauses = {pauses[0], pauses[1], pauses[2], pauses[3], TKV_WORKER_FOREVER}
        };
        now = (struct timespec){.tv_sec = 5, .tv_nsec = nanoseconds[i]};
        clock_stands = true;
        sleeps = 0;
        start(&w);
        tkv_worker_wake(&w.worker);
        for (unsigned step_number = 0; step_number < 5; step_number++) {
            wait_for_step(&w);
            finish_step(&w);
        }
        tkv_worker_stop(&w.worker);
        clock_stands = false;
        CHECK_EQ(clock_of_sleeps, CLOCK_MONOTONIC);
        CHECK_EQ(sleeps, 4);
        for (unsigned k = 0; k < 4; k++) {
            const uint64_t end = UINT64_C(5000000000) + (uint64_t)nanoseconds[i] +
                                 UINT64_C(1000000) * pauses[k];

            CHECK_EQ(deadlines[k].tv_sec, end / 1000000000);
            CHECK_EQ(deadlines[k].tv_nsec, end % 1000000000);
        }
    }
}

static void *stop(void *argument)
{
    tkv_worker_stop(argument);
    return NULL;
}

TEST(stopping_waits_for_the_step_that_is_under_way_and_begins_no_other)
{
    static struct work w;
    pthread_t stopper;
    bool stopping = false;

    w = (struct work){.pauses = {0}};
    start(&w);
    tkv_worker_wake(&w.worker);
    wait_for_step(&w);
    CHECK_EQ(__real_pthread_create(&stopper, NULL, stop, &w.worker), 0);
    while (!stopping) {
        tkv_mutex_lock(&w.worker.lock);
        stopping = w.worker.stopping;
        tkv_mutex_unlock(&w.worker.lock);
    }
    CHECK(w.worker.started);
    finish_step(&w);
    CHECK_EQ(pthread_join(stopper, NULL), 0);
    CHECK_EQ(w.steps, 1);
}

/* The pause lets it fall asleep; without one this passes as well. */
TEST(a_worker_that_sleeps_is_woken)
{
    static struct work w;

    w = (struct work){
        .pauses = {TKV_WORKER_FOREVER, TKV_WORKER_FOREVER}
    };
    start(&w);
    for (int round = 0; round < 2; round++) {
        (void)usleep(20000);
        tkv_worker_wake(&w.worker);
        wait_for_step(&w);
        finish_step(&w);
    }
    (void)usleep(20000);
    tkv_worker_stop(&w.worker);
    CHECK_EQ(w.steps, 2);
}

TEST(a_worker_that_sleeps_forever_stops_at_once)
{
    static struct work w;

    w = (struct work){.steps = 0};
    start(&w);
    tkv_worker_stop(&w.worker);
    CHECK_EQ(w.steps, 0);
}

TEST(a_worker_whose_thread_cannot_be_made_does_nothing)
{
    static struct work w;

    joins = 0;
    thread_errno = EAGAIN;
    CHECK_EQ(tkv_worker_start(&w.worker, step, &w), EAGAIN);
    thread_errno = 0;
    CHECK(tkv_is_zero((const uint8_t *)&w.worker, sizeof w.worker));
    tkv_worker_wake(&w.worker);
    tkv_worker_stop(&w.worker);
    CHECK(tkv_is_zero((const uint8_t *)&w.worker, sizeof w.worker));
    CHECK_EQ(w.steps, 0);
    CHECK_EQ(atomic_load(&joins), 0);
}
