/* SPDX-License-Identifier: MIT */
/*
 * generator.h - keys and values, the same for every engine. Which key comes next is drawn
 * before the clock starts; turning a number into 16 bytes costs some 5 ns inside.
 */
#ifndef BENCH_GENERATOR_H
#define BENCH_GENERATOR_H

#include "engine.h"

enum bench_distribution {
    BENCH_UNIFORM,
    BENCH_ZIPF,  /* YCSB's scrambled zipfian, theta 0.99 */
    BENCH_LATEST /* the same without the scrambling: 0 is the hottest */
};

/* xorshift64: fast, and good enough to choose keys. */
uint64_t bench_random(uint64_t *state);

/* How many draws are enough for so many keys: a power of two, not below their number as long as
 * the draws fit into 64 MiB, so that no small part of the keys passes for all of them. */
uint64_t bench_draw_count(uint64_t keys);
/* `count` numbers below `keys`; free() them. */
uint32_t *bench_draw(enum bench_distribution distribution, uint64_t keys, uint64_t count,
                     uint64_t seed);

/* Key number `number` as 16 digits; neighbours do not look alike, nor do they sort so. */
void bench_key(uint64_t number, char key[BENCH_KEY_SIZE]);

/* Bytes that do not compress, for values of `size` to be taken from; free() them. Value
 * number i begins at bench_value(). */
uint8_t *bench_values_new(size_t size);
const uint8_t *bench_value(const uint8_t *values, uint64_t number);

#endif
