/* SPDX-License-Identifier: MIT */
/*
 * chance.h - numbers that follow from a seed.
 */
#ifndef CRASH_CHANCE_H
#define CRASH_CHANCE_H

#include <stdint.h>

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state);
}

static inline uint64_t below(uint64_t *state, uint64_t limit)
{
    return draw(state) % limit;
}

#endif
