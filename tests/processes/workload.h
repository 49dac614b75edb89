/* SPDX-License-Identifier: MIT */
/*
 * workload.h - what threads do to a store until their process dies, and whether the next
 * process finds it all again.
 *
 *   parent                       child                              next child
 *   workload_new()  -- fork -->  open, workload_check(),   dies     open, workload_check() ...
 *                                workload_run() .........  *
 *
 * Each thread has keys of its own and does numbered steps on them; what a step does follows
 * from the seed, the thread and the number alone. The workload lies in memory that the
 * processes share: a thread notes there that it issues a step and that the step was
 * acknowledged, so that not even a killed process takes this knowledge along. In any mode of
 * durability, then, a thread's keys must be as after its last acknowledged step, or as after
 * the one step that was under way - all of them, which is order, batches and completeness in
 * one comparison.
 *
 * Beside them are keys that all threads put. They draw a ticket before and after; a write whose
 * second ticket is older than the first of another one that was acknowledged must be gone.
 *
 * Nothing here looks at how long something took, except that a key with an expiry is judged by
 * the clock before and after it was read.
 */
#ifndef TKV_WORKLOAD_H
#define TKV_WORKLOAD_H

#include "tinykv.h"

#include <stdatomic.h>

#define WORKLOAD_THREADS_MAX 8u
#define WORKLOAD_KEYS        48u /* of each thread */
#define WORKLOAD_SHARED_KEYS 6u
#define WORKLOAD_VALUE_MAX   60000u
#define WORKLOAD_BATCH_MAX   6u
#define WORKLOAD_NAME_SIZE   24u
#define WORKLOAD_VIOLATION   3 /* how a child ends that found something wrong */

/* What a key holds: the value that step `step` of `thread` put in life `life`. */
struct workload_held {
    uint64_t step, expires_at_ms; /* expires_at_ms 0: never */
    uint32_t life, size;
    uint8_t thread;
    bool present;
};

struct workload_item {
    unsigned key;
    uint32_t size;
    bool is_delete, expires;
    int64_t expires_after_ms; /* since the life began */
};

struct workload_step {
    struct workload_item items[WORKLOAD_BATCH_MAX];
    unsigned count;
    bool is_batch;
    bool is_shared; /* the key is one of those that all put */
};

/* What the store was last seen to hold. */
struct workload_truth {
    uint64_t verified[WORKLOAD_THREADS_MAX]; /* the last step of each thread in it */
    struct workload_held own[WORKLOAD_THREADS_MAX][WORKLOAD_KEYS];
    struct workload_held shared[WORKLOAD_SHARED_KEYS];
};

struct workload_shared_write {
    uint64_t step, began, ended; /* tickets */
    uint32_t life;
};

struct workload_writer {
    _Atomic uint64_t issued, acked; /* steps */
    _Atomic uint64_t began;         /* ticket of the step that is under way */
    /* The last acknowledged write to each shared key, twice: a process may be killed while it
     * writes one of them. */
    struct workload_shared_write last[WORKLOAD_SHARED_KEYS][2];
    _Atomic unsigned current[WORKLOAD_SHARED_KEYS];
};

struct workload {
    uint64_t seed;
    unsigned threads;
    _Atomic uint32_t life; /* of the steps that are not in the truth yet */
    uint64_t began_ms;     /* when it began */
    struct workload_truth truth[2];
    _Atomic unsigned current; /* which truth */
    _Atomic uint64_t ticket;
    struct workload_writer writers[WORKLOAD_THREADS_MAX];

    /* Counted over all lives. */
    _Atomic uint64_t acknowledged; /* steps */
    _Atomic uint64_t operations;   /* steps and reads */
    _Atomic uint64_t checks;       /* complete ones */
    _Atomic uint64_t lost;         /* keys that held something older than acknowledged */
    char message[256];             /* of the last violation */
};

/* In shared memory; ends the program when there is none. */
struct workload *workload_new(uint64_t seed, unsigned threads);
void workload_free(struct workload *workload);
/* The store is gone: all keys are absent. */
void workload_forget(struct workload *workload);

/* ---- workload_step.c --------------------------------------------------------------------- */

uint64_t workload_mix(uint64_t x);
uint64_t workload_now_ms(void);
struct workload_step workload_step_of(const struct workload *workload, unsigned thread,
                                      uint64_t number);
/* The step's effect on its thread's row of the truth. */
void workload_apply(const struct workload *workload, struct workload_held *row,
                    unsigned thread, uint64_t number);
struct tkv_slice workload_own_key(unsigned thread, unsigned key,
                                  char name[WORKLOAD_NAME_SIZE]);
struct tkv_slice workload_shared_key(unsigned key, char name[WORKLOAD_NAME_SIZE]);
/* The reverse; false for a key that is none of ours. *ret_thread is `threads` for a shared one. */
bool workload_parse_key(const struct workload *workload, struct tkv_slice key,
                        unsigned *ret_thread, unsigned *ret_key);
/* The bytes of a value, which name the write that made it. */
struct tkv_slice workload_value(const struct workload_held *held, unsigned key,
                                uint8_t bytes[WORKLOAD_VALUE_MAX]);
/* Which write made this value; false when none did. */
bool workload_parse_value(struct tkv_slice value, unsigned key,
                          struct workload_held *ret_held);
/* `value` is what `held` says, or absent (NULL) as it says; read between the two instants. */
bool workload_holds(const struct workload_held *held, unsigned key,
                    const struct tkv_slice *value, uint64_t before_ms, uint64_t after_ms);

/* ---- workload_check.c -------------------------------------------------------------------- */

/* Compare the whole store; what it holds is the truth from now on, and a new life begins.
 * Ends the process with WORKLOAD_VIOLATION when something is wrong. */
void workload_check(struct workload *workload, struct tkv_store *store);
/* Note what is wrong and end the process. */
_Noreturn void workload_violation(struct workload *workload, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- workload_run.c ---------------------------------------------------------------------- */

struct workload_plan {
    uint64_t steps; /* of each thread; then the run is over */
    uint64_t
        kill_after_acks; /* of all of them together, SIGKILL to this process; 0: never */
};

/* Write and read from all threads, and beside them compact, checkpoint, sync and iterate. */
void workload_run(struct workload *workload, struct tkv_store *store,
                  const struct workload_plan *plan);

#endif
