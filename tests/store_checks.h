/* SPDX-License-Identifier: MIT */
/* store_checks.h - values that follow from numbers, and a whole store looked at. */
#ifndef TKV_STORE_CHECKS_H
#define TKV_STORE_CHECKS_H

#include "test.h"
#include "tinykv.h"

static inline size_t count_iterated(struct tkv_store *store)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    enum tkv_status status;
    struct tkv_error err;
    size_t count = 0;

    CHECK_OK(tkv_iterator_new(store, false, &iterator, &err));
    while ((status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK)
        count++;
    CHECK_EQ(status, TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    return count;
}

static inline void print_finding(void *context, const struct tkv_finding *finding)
{
    (void)context;
    fprintf(stderr, "  %s at %llu: %s\n", finding->file,
            (unsigned long long)finding->offset, finding->message);
}

static inline void check_verifies(struct tkv_store *store)
{
    struct tkv_verify_report report;
    struct tkv_error err;

    CHECK_OK(tkv_verify(store, print_finding, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
    CHECK_EQ(report.keys, count_iterated(store));
}

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Bytes that follow from a number and do not compress. */
static inline void fill(uint8_t *bytes, size_t size, uint64_t seed)
{
    for (size_t at = 0; at < size; at += 8) {
        const uint64_t word = mix(seed + at);

        memcpy(bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

#endif
