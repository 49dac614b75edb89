/* SPDX-License-Identifier: MIT */
#include "workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define HEAD_SIZE 24u /* of a value: step, life, key, thread, filling */

/* ---- Small things ------------------------------------------------------------------------ */

uint64_t workload_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t workload_now_ms(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        abort();
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct workload *workload_new(uint64_t seed, unsigned threads)
{
    struct workload *workload = mmap(NULL, sizeof *workload, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (workload == MAP_FAILED || threads == 0 || threads > WORKLOAD_THREADS_MAX) {
        fprintf(stderr, "a workload of %u threads: not possible\n", threads);
        exit(2);
    }
    workload->seed = seed;
    workload->threads = threads;
    return workload;
}

void workload_free(struct workload *workload)
{
    (void)munmap(workload, sizeof *workload);
}

void workload_forget(struct workload *workload)
{
    memset(workload->truth, 0, sizeof workload->truth);
    workload->current = 0;
    for (unsigned i = 0; i < workload->threads; i++) {
        const uint64_t next = workload->writers[i].issued;

        memset(&workload->writers[i], 0, sizeof workload->writers[i]);
        workload->writers[i].issued = workload->writers[i].acked = next;
        workload->truth[0].verified[i] = next;
    }
}

/* ---- Steps ------------------------------------------------------------------------------- */

static uint32_t size_of(uint64_t random)
{
    return HEAD_SIZE + (uint32_t)(random % 700);
}

/* Some instants have passed already, some come soon, some never in this test. */
static int64_t expiry_of(uint64_t random)
{
    switch (random % 4) {
    case 0:
        return -1000;
    case 1:
        return 1 + (int64_t)(random >> 8) % 30;
    case 2:
        return 1 + (int64_t)(random >> 8) % 500;
    default:
        return 3600 * 1000;
    }
}

static void make_batch(struct workload_step *step, uint64_t random)
{
    step->is_batch = true;
    step->count = 2 + (unsigned)(random % (WORKLOAD_BATCH_MAX - 1));
    for (unsigned i = 0; i < step->count; i++) {
        const uint64_t r = workload_mix(random + i);

        step->items[i] = (struct workload_item){.key = (unsigned)(r % WORKLOAD_KEYS),
                                                .size = size_of(r >> 16),
                                                .is_delete = (r >> 40) % 4 == 0,
                                                .expires = (r >> 44) % 8 == 0,
                                                .expires_after_ms = expiry_of(r >> 48)};
    }
}

struct workload_step workload_step_of(const struct workload *workload, unsigned thread,
                                      uint64_t number)
{
    const uint64_t r = workload_mix(workload->seed ^ workload_mix(number * 16 + thread));
    const unsigned kind = (unsigned)((r >> 32) % 100);
    struct workload_step step = {.count = 1};
    struct workload_item *item = &step.items[0];

    *item = (struct workload_item){.key = (unsigned)(r % WORKLOAD_KEYS),
                                   .size = size_of(r >> 16)};
    if (kind < 12) {
        item->is_delete = true;
    } else if (kind < 28) {
        make_batch(&step, r);
    } else if (kind < 34) {
        item->expires = true;
        item->expires_after_ms = expiry_of(r >> 48);
    } else if (kind < 37) {
        item->size = 10000 + (uint32_t)(r >> 16) % (WORKLOAD_VALUE_MAX - 10000);
    } else if (kind < 48) {
        step.is_shared = true;
        item->key = (unsigned)(r % WORKLOAD_SHARED_KEYS);
    }
    return step;
}

void workload_apply(const struct workload *workload, struct workload_held *row,
                    unsigned thread, uint64_t number)
{
    const struct workload_step step = workload_step_of(workload, thread, number);

    for (unsigned i = 0; i < step.count && !step.is_shared; i++) {
        const struct workload_item *item = &step.items[i];

        row[item->key] = (struct workload_held){
            .step = number,
            .expires_at_ms =
                !item->expires ? 0 : workload->began_ms + (uint64_t)item->expires_after_ms,
            .life = workload->life,
            .size = item->size,
            .thread = (uint8_t)thread,
            .present = !item->is_delete};
    }
}

/* ---- Keys and values --------------------------------------------------------------------- */

struct tkv_slice workload_own_key(unsigned thread, unsigned key,
                                  char name[WORKLOAD_NAME_SIZE])
{
    snprintf(name, WORKLOAD_NAME_SIZE, "own %u %u", thread % 100, key % 1000);
    return tkv_text(name);
}

struct tkv_slice workload_shared_key(unsigned key, char name[WORKLOAD_NAME_SIZE])
{
    snprintf(name, WORKLOAD_NAME_SIZE, "shared %u", key % 1000);
    return tkv_text(name);
}

bool workload_parse_key(const struct workload *workload, struct tkv_slice key,
                        unsigned *ret_thread, unsigned *ret_key)
{
    char name[WORKLOAD_NAME_SIZE] = "", again[WORKLOAD_NAME_SIZE];
    struct tkv_slice expected;

    if (key.size >= sizeof name)
        return false;
    memcpy(name, key.data, key.size);
    if (sscanf(name, "own %u %u", ret_thread, ret_key) == 2 &&
        *ret_thread < workload->threads && *ret_key < WORKLOAD_KEYS) {
        expected = workload_own_key(*ret_thread, *ret_key, again);
    } else if (sscanf(name, "shared %u", ret_key) == 1 && *ret_key < WORKLOAD_SHARED_KEYS) {
        *ret_thread = workload->threads;
        expected = workload_shared_key(*ret_key, again);
    } else {
        return false;
    }
    return expected.size == key.size && memcmp(expected.data, key.data, key.size) == 0;
}

/* Every third value compresses well. */
static uint64_t word_at(uint64_t seed, uint32_t at)
{
    return workload_mix(seed % 3 == 0 ? seed : seed + at);
}

struct tkv_slice workload_value(const struct workload_held *held, unsigned key,
                                uint8_t bytes[WORKLOAD_VALUE_MAX])
{
    const uint32_t words[4] = {held->life, key, held->thread, held->size};
    const uint64_t seed = workload_mix(held->step * 8 + held->thread) + held->life;

    memcpy(bytes, &held->step, 8);
    memcpy(bytes + 8, words, sizeof words);
    for (uint32_t at = HEAD_SIZE; at < held->size; at += 8) {
        const uint64_t word = word_at(seed, at);
        const uint32_t left = held->size - at;

        memcpy(bytes + at, &word, left < 8 ? left : 8);
    }
    return tkv_bytes(bytes, held->size);
}

bool workload_parse_value(struct tkv_slice value, unsigned key,
                          struct workload_held *ret_held)
{
    static _Thread_local uint8_t expected[WORKLOAD_VALUE_MAX];
    uint32_t words[4];

    if (value.size < HEAD_SIZE || value.size > WORKLOAD_VALUE_MAX)
        return false;
    memset(ret_held, 0, sizeof *ret_held);
    memcpy(&ret_held->step, value.data, 8);
    memcpy(words, (const uint8_t *)value.data + 8, sizeof words);
    ret_held->life = words[0];
    ret_held->thread = (uint8_t)words[2];
    ret_held->size = words[3];
    ret_held->present = true;
    if (words[1] != key || words[2] >= WORKLOAD_THREADS_MAX || words[3] != value.size)
        return false;
    (void)workload_value(ret_held, key, expected);
    return memcmp(expected, value.data, value.size) == 0;
}

bool workload_holds(const struct workload_held *held, unsigned key,
                    const struct tkv_slice *value, uint64_t before_ms, uint64_t after_ms)
{
    struct workload_held found;

    if (!held->present)
        return value == NULL;
    if (value == NULL)
        return held->expires_at_ms != 0 && after_ms >= held->expires_at_ms;
    return (held->expires_at_ms == 0 || before_ms <= held->expires_at_ms) &&
           workload_parse_value(*value, key, &found) && found.step == held->step &&
           found.life == held->life && found.thread == held->thread &&
           found.size == held->size;
}
