/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - what a store must contain, kept beside it by a test. Writes go through the
 * oracle, which remembers them in commit order; after a crash and a recovery the store must
 * equal the oracle after some prefix of that order:
 *
 *     0            durable          acked        issued
 *     +---------------+---------------+------------+
 *     | must be there | must survive  | may be     |
 *     | in any case   | a killed      | there,     |
 *     |               | process       | whole      |
 *     +---------------+---------------+------------+
 *
 *     struct oracle *oracle = oracle_new(TKV_DURABILITY_ALWAYS, 0);
 *     (void)oracle_put(oracle, store, 3, 100, 0, ORACLE_NEVER, &disk->monotonic_us, &err);
 *     ... crash, open the survivor ...
 *     if (!oracle_read(store, &found, &why) ||
 *         !oracle_match(oracle, &found, oracle->durable, oracle->issued, now_ms, &prefix, &why))
 *         puts(why.text);
 *
 * Keys are numbers, each with a text of its own; a value's bytes follow from the write that
 * made it, so that no value passes for another. Only for writes from one thread.
 */
#ifndef TKV_ORACLE_H
#define TKV_ORACLE_H

#include "tinykv.h"

#define ORACLE_KEYS       24u
#define ORACLE_SQUEEZABLE 1u /* the value compresses well */
#define ORACLE_BATCH_MAX  8u
#define ORACLE_NEVER      0u

struct oracle_item {
    unsigned key;
    bool is_delete;
    unsigned flags;
    uint32_t size;
    uint64_t expires_at_ms; /* ORACLE_NEVER, or an instant */
    uint64_t hash;          /* of the value; the oracle's */
};

struct oracle_op {
    size_t first_item, item_count;
    uint64_t acked_us;
    uint64_t history; /* a hash of all writes up to this one */
    bool is_out;      /* failed in a way that leaves nothing behind */
};

struct oracle {
    enum tkv_durability durability;
    uint64_t interval_us; /* INTERVAL: writes acknowledged longer ago are durable */

    struct oracle_op *ops;
    size_t issued, op_capacity;
    struct oracle_item *items;
    size_t item_count, item_capacity;
    uint64_t value_salt; /* values of different lives of a store differ */

    size_t acked;   /* a killed process keeps this prefix */
    size_t durable; /* a power cut keeps this one */
};

struct oracle_report {
    char text[512];
};

/* What a store was found to contain. */
struct oracle_found {
    bool present[ORACLE_KEYS];
    uint32_t size[ORACLE_KEYS];
    uint64_t hash[ORACLE_KEYS], expires_at_ms[ORACLE_KEYS];
    size_t count;
};

struct oracle *oracle_new(enum tkv_durability durability, uint64_t interval_us);
void oracle_free(struct oracle *oracle); /* NULL is allowed */
/* The same writes up to `prefix`, all of them durable: the oracle of a recovered store. */
struct oracle *oracle_recovered(const struct oracle *oracle, size_t prefix,
                                enum tkv_durability durability);

struct tkv_slice oracle_key(unsigned key);

/* Writes. `now_us` is the store's monotonic clock before and after; what the store returns is
 * returned. TKV_IO leaves the write issued; other failures take it out. */
enum tkv_status oracle_put(struct oracle *oracle, struct tkv_store *store, unsigned key,
                           uint32_t size, unsigned flags, uint64_t expires_at_ms,
                           const uint64_t *now_us, struct tkv_error *err);
enum tkv_status oracle_delete(struct oracle *oracle, struct tkv_store *store, unsigned key,
                              const uint64_t *now_us, struct tkv_error *err);
enum tkv_status oracle_batch(struct oracle *oracle, struct tkv_store *store,
                             const struct oracle_item *items, size_t count,
                             const uint64_t *now_us, struct tkv_error *err);

/* tkv_sync(), tkv_checkpoint() and tkv_close(): durable when they succeed. */
enum tkv_status oracle_sync(struct oracle *oracle, struct tkv_store *store,
                            struct tkv_error *err);
enum tkv_status oracle_checkpoint(struct oracle *oracle, struct tkv_store *store,
                                  struct tkv_error *err);
enum tkv_status oracle_close(struct oracle *oracle, struct tkv_store *store,
                             struct tkv_error *err);

/* Read the whole store in every way there is, and compare the ways with each other. */
bool oracle_read(struct tkv_store *store, struct oracle_found *ret_found,
                 struct oracle_report *ret_why);
/* Is it the state after `least` to `most` writes? *ret_prefix: after how many, the most that
 * fit. */
bool oracle_match(const struct oracle *oracle, const struct oracle_found *found,
                  size_t least, size_t most, uint64_t now_ms, size_t *ret_prefix,
                  struct oracle_report *ret_why);
bool oracle_same(const struct oracle_found *left, const struct oracle_found *right,
                 struct oracle_report *ret_why);

#endif
