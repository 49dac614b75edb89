/* SPDX-License-Identifier: MIT */
/*
 * generator.c - the zipfian draw is that of Gray et al., "Quickly generating billion-record
 * synthetic databases" (SIGMOD 1994), scrambled as YCSB does.
 */
#include "generator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define THETA       0.99
#define VALUE_START 4096u /* values begin at one of so many offsets */
#define DRAWS_MIN   (UINT64_C(1) << 20)
#define DRAWS_MAX   (UINT64_C(1) << 24)

uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double uniform01(uint64_t *state)
{
    return (double)(bench_random(state) >> 11) * 0x1p-53;
}

static uint64_t scramble(uint64_t number)
{
    number ^= number >> 31;
    number *= UINT64_C(0x7fb5d329728ea185);
    number ^= number >> 27;
    return number * UINT64_C(0x81dadef4bc2dd44d);
}

struct zipf {
    double n, zeta_n, alpha, eta, half;
};

static struct zipf zipf_new(uint64_t keys)
{
    struct zipf z = {.n = (double)keys, .alpha = 1 / (1 - THETA), .half = pow(0.5, THETA)};

    for (uint64_t i = 1; i <= keys; i++)
        z.zeta_n += pow((double)i, -THETA);
    z.eta = (1 - pow(2 / z.n, 1 - THETA)) / (1 - (1 + z.half) / z.zeta_n);
    return z;
}

static uint64_t zipf_next(const struct zipf *z, uint64_t *state)
{
    const double u = uniform01(state), scaled = u * z->zeta_n;
    uint64_t number;

    if (scaled < 1)
        return 0;
    if (scaled < 1 + z->half)
        return 1;
    number = (uint64_t)(z->n * pow(z->eta * u - z->eta + 1, z->alpha));
    return number < (uint64_t)z->n ? number : (uint64_t)z->n - 1;
}

uint64_t bench_draw_count(uint64_t keys)
{
    uint64_t count = DRAWS_MIN;

    while (count < keys && count < DRAWS_MAX)
        count *= 2;
    return count;
}

uint32_t *bench_draw(enum bench_distribution distribution, uint64_t keys, uint64_t count,
                     uint64_t seed)
{
    uint32_t *draws = malloc(count * sizeof *draws);
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct zipf z = {.n = 0};

    if (draws == NULL)
        bench_die("bench", "draw keys", "no memory");
    if (distribution != BENCH_UNIFORM)
        z = zipf_new(keys);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = distribution == BENCH_UNIFORM ? bench_random(&state) % keys
                                                        : zipf_next(&z, &state);

        if (distribution == BENCH_ZIPF)
            number = scramble(number) % keys;
        draws[i] = (uint32_t)number;
    }
    return draws;
}

/* Eight nibbles, one to each byte, as letters from 'a'. */
static uint64_t spread(uint32_t bits)
{
    uint64_t x = bits;

    x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
    x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return x + UINT64_C(0x6161616161616161);
}

void bench_key(uint64_t number, char key[BENCH_KEY_SIZE])
{
    const uint64_t mixed = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t parts[2] = {spread((uint32_t)(mixed >> 32)), spread((uint32_t)mixed)};

    memcpy(key, parts, BENCH_KEY_SIZE);
}

uint8_t *bench_values_new(size_t size)
{
    uint8_t *values = malloc(size + VALUE_START + 8);
    uint64_t state = 88172645463325252;

    if (values == NULL)
        bench_die("bench", "make values", "no memory");
    for (size_t i = 0; i < size + VALUE_START; i += 8) {
        const uint64_t word = bench_random(&state);

        memcpy(values + i, &word, 8);
    }
    return values;
}

const uint8_t *bench_value(const uint8_t *values, uint64_t number)
{
    return values + number % VALUE_START;
}
