/* SPDX-License-Identifier: MIT */
#include "seen.h"

#include "test.h"

#include <stdlib.h>
#include <unistd.h>

#define FIRST_CAPACITY ((size_t)1 << 14)

static void grow(struct seen *seen)
{
    struct seen bigger = {.capacity = seen->capacity * 2};

    if (bigger.capacity == 0)
        bigger.capacity = FIRST_CAPACITY;
    /* One block, because memory.c knows the file table by its entries. */
    bigger.slots = calloc(1, bigger.capacity * sizeof *bigger.slots);
    CHECK(bigger.slots != NULL);
    for (size_t i = 0; i < seen->capacity; i++) {
        if (seen->slots[i] != 0)
            (void)seen_before(&bigger, seen->slots[i]);
    }
    free(seen->slots);
    *seen = bigger;
}

bool seen_before(struct seen *seen, uint64_t hash)
{
    size_t at;

    hash |= hash == 0;
    if (seen->count * 2 >= seen->capacity)
        grow(seen);
    for (at = hash & (seen->capacity - 1); seen->slots[at] != 0;
         at = (at + 1) & (seen->capacity - 1)) {
        if (seen->slots[at] == hash)
            return true;
    }
    seen->slots[at] = hash;
    seen->count++;
    return false;
}

void seen_free(struct seen *seen)
{
    free(seen->slots);
    *seen = (struct seen){.slots = NULL};
}

bool seen_write(const struct seen *seen, int fd)
{
    const uint8_t *at = (const uint8_t *)seen->slots;
    size_t left = seen->capacity * sizeof *seen->slots;

    while (left > 0) {
        const ssize_t n = write(fd, at, left < (1u << 30) ? left : 1u << 30);

        if (n <= 0)
            return false;
        at += n;
        left -= (size_t)n;
    }
    return true;
}

bool seen_add(struct seen *seen, int fd)
{
    uint64_t slots[4096];
    ssize_t n;

    if (lseek(fd, 0, SEEK_SET) != 0)
        return false;
    while ((n = read(fd, slots, sizeof slots)) > 0) {
        for (size_t i = 0; i < (size_t)n / sizeof slots[0]; i++) {
            if (slots[i] != 0)
                (void)seen_before(seen, slots[i]);
        }
    }
    return n == 0;
}
