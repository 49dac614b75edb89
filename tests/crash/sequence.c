/* SPDX-License-Identifier: MIT */
#include "sequence.h"

#include "chance.h"
#include "test.h"

#define LONG_COUNT (SEQUENCE_COUNT - SEQUENCE_OPERATIONS)
#define TEXT_MAX   128u

static const char *const operations[SEQUENCE_OPERATIONS] = {
    "put 2 40", "put 5 700",  "put 2 9000", "delete 2", "batch 2 100, 5 30", "sync",
    "rotate",   "checkpoint", "compact",    "reopen",   "put 2 60 +1000"};

static unsigned gcd(unsigned a, unsigned b)
{
    return b == 0 ? a : gcd(b, a % b);
}

/* A permutation of the long ones. */
static unsigned shuffled(unsigned number, uint64_t seed)
{
    unsigned factor = 1 + (unsigned)(mix(seed) % (LONG_COUNT - 1));

    while (gcd(factor, LONG_COUNT) != 1)
        factor = factor % (LONG_COUNT - 1) + 1;
    return (unsigned)((uint64_t)number * factor % LONG_COUNT);
}

/* As numbers with as many digits to the base of 11 as there are operations. */
static struct program program_of(const struct workload *workload, uint64_t seed,
                                 unsigned digits, unsigned count)
{
    struct program p = {.workload = workload, .seed = seed, .watched_from = count - 1};
    char text[TEXT_MAX] = "";
    unsigned divisor = 1;

    for (unsigned i = 1; i < count; i++)
        divisor *= SEQUENCE_OPERATIONS;
    for (size_t used = 0; divisor > 0; divisor /= SEQUENCE_OPERATIONS) {
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s%s", used == 0 ? "" : "; ",
                             operations[digits / divisor % SEQUENCE_OPERATIONS]);
        CHECK(used < sizeof text);
    }
    CHECK(program_parse(&p, text) && p.count == count);
    return p;
}

struct program sequence_program(const struct workload *workload, uint64_t seed,
                                unsigned number)
{
    unsigned of_length = SEQUENCE_OPERATIONS, count = 1;

    if (number >= SEQUENCE_OPERATIONS)
        number = SEQUENCE_OPERATIONS + shuffled(number - SEQUENCE_OPERATIONS, seed);
    while (number >= of_length) {
        number -= of_length;
        of_length *= SEQUENCE_OPERATIONS;
        count++;
    }
    return program_of(workload, seed, number, count);
}
