/* SPDX-License-Identifier: MIT */
#include "oracle_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LONG_KEY_SIZE 300u

/* ---- Small things ------------------------------------------------------------------------ */

static void *must(void *memory)
{
    if (memory == NULL)
        abort(); /* a test without memory stops */
    return memory;
}

bool oracle_refuse(struct oracle_report *why, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
    return false;
}

uint64_t oracle_hash(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- Keys and values --------------------------------------------------------------------- */

/* Key 0 is empty, key 1 is long, the others are short and of two sizes. */
struct tkv_slice oracle_key(unsigned key)
{
    static char texts[ORACLE_KEYS][8], long_key[LONG_KEY_SIZE];

    if (key == 0)
        return tkv_bytes(NULL, 0);
    if (key == 1) {
        if (long_key[0] == 0)
            memset(long_key, 'k', sizeof long_key);
        return tkv_bytes(long_key, sizeof long_key);
    }
    if (texts[key][0] == 0)
        snprintf(texts[key], sizeof texts[key], key % 2 == 0 ? "k%u" : "key%u", key % 100);
    return tkv_text(texts[key]);
}

unsigned oracle_key_number(struct tkv_slice key)
{
    for (unsigned i = 0; i < ORACLE_KEYS; i++) {
        const struct tkv_slice known = oracle_key(i);

        if (known.size == key.size &&
            (key.size == 0 || memcmp(known.data, key.data, key.size) == 0))
            return i;
    }
    return ORACLE_KEYS;
}

/* The bytes of the value of item number `number`, in memory that the caller frees. */
static uint8_t *make_value(const struct oracle *oracle, size_t number,
                           const struct oracle_item *item)
{
    uint8_t *value = must(malloc(item->size + 8u));
    const uint64_t seed = mix(oracle->value_salt ^ mix(number * 64 + item->key));

    for (uint32_t at = 0; at < item->size; at += 8) {
        const bool plain = (item->flags & ORACLE_SQUEEZABLE) != 0 && at % 256 != 0;
        const uint64_t word = plain ? seed : mix(seed + at);

        memcpy(value + at, &word, 8);
    }
    return value;
}

/* ---- The oracle ---------------------------------------------------------------------------- */

struct oracle *oracle_new(enum tkv_durability durability, uint64_t interval_us)
{
    struct oracle *oracle = must(calloc(1, sizeof *oracle));

    oracle->durability = durability;
    oracle->interval_us = interval_us;
    return oracle;
}

void oracle_free(struct oracle *oracle)
{
    if (oracle == NULL)
        return;
    free(oracle->ops);
    free(oracle->items);
    free(oracle);
}

struct oracle *oracle_recovered(const struct oracle *oracle, size_t prefix,
                                enum tkv_durability durability)
{
    struct oracle *copy = oracle_new(durability, oracle->interval_us);

    copy->op_capacity = prefix + 16;
    copy->ops = must(malloc(copy->op_capacity * sizeof *copy->ops));
    if (prefix > 0)
        memcpy(copy->ops, oracle->ops, prefix * sizeof *copy->ops);
    copy->item_count =
        prefix == 0 ? 0
                    : copy->ops[prefix - 1].first_item + copy->ops[prefix - 1].item_count;
    copy->item_capacity = copy->item_count + 16;
    copy->items = must(malloc(copy->item_capacity * sizeof *copy->items));
    if (copy->item_count > 0)
        memcpy(copy->items, oracle->items, copy->item_count * sizeof *copy->items);
    copy->issued = copy->acked = copy->durable = prefix;
    copy->value_salt = mix(oracle->value_salt + oracle->issued + 1);
    return copy;
}

/* ---- Writes ------------------------------------------------------------------------------------ */

static void issue(struct oracle *oracle, size_t item_count)
{
    if (oracle->issued == oracle->op_capacity) {
        oracle->op_capacity = oracle->op_capacity * 2 + 64;
        oracle->ops = must(realloc(oracle->ops, oracle->op_capacity * sizeof *oracle->ops));
    }
    const size_t first = oracle->item_count - item_count;
    const uint64_t before =
        oracle->issued == 0 ? 0 : oracle->ops[oracle->issued - 1].history;

    oracle->ops[oracle->issued++] = (struct oracle_op){
        .first_item = first,
        .item_count = item_count,
        .history = XXH3_64bits_withSeed(oracle->items + first,
                                        item_count * sizeof *oracle->items, before),
    };
}

/* Returns the value, which the caller frees; NULL for a delete. */
static uint8_t *add_item(struct oracle *oracle, struct oracle_item item)
{
    uint8_t *value = NULL;

    if (oracle->item_count == oracle->item_capacity) {
        oracle->item_capacity = oracle->item_capacity * 2 + 64;
        oracle->items =
            must(realloc(oracle->items, oracle->item_capacity * sizeof *oracle->items));
    }
    if (!item.is_delete) {
        value = make_value(oracle, oracle->item_count, &item);
        item.hash = XXH3_64bits(value, item.size);
    }
    /* Byte by byte, for the hash of a history. */
    memset(&oracle->items[oracle->item_count], 0, sizeof item);
    oracle->items[oracle->item_count].key = item.key;
    oracle->items[oracle->item_count].is_delete = item.is_delete;
    oracle->items[oracle->item_count].flags = item.flags;
    oracle->items[oracle->item_count].size = item.size;
    oracle->items[oracle->item_count].expires_at_ms = item.expires_at_ms;
    oracle->items[oracle->item_count].hash = item.hash;
    oracle->item_count++;
    return value;
}

/* What an inline store has synced by itself when a write that began at `began_us` is done. */
static void note_interval(struct oracle *oracle, uint64_t began_us)
{
    if (oracle->durability != TKV_DURABILITY_INTERVAL || oracle->interval_us == 0)
        return;
    while (oracle->durable < oracle->acked &&
           (oracle->ops[oracle->durable].is_out ||
            oracle->ops[oracle->durable].acked_us + oracle->interval_us <= began_us))
        oracle->durable++;
}

static enum tkv_status note(struct oracle *oracle, enum tkv_status status,
                            uint64_t began_us, uint64_t ended_us)
{
    struct oracle_op *op = &oracle->ops[oracle->issued - 1];

    op->acked_us = ended_us;
    if (status != TKV_OK) {
        op->is_out = status != TKV_IO;
        return status;
    }
    oracle->acked = oracle->issued;
    if (oracle->durability == TKV_DURABILITY_ALWAYS)
        oracle->durable = oracle->issued;
    else if (!oracle->items[op->first_item].is_delete)
        note_interval(oracle, began_us);
    return status;
}

enum tkv_status oracle_put(struct oracle *oracle, struct tkv_store *store, unsigned key,
                           uint32_t size, unsigned flags, uint64_t expires_at_ms,
                           const uint64_t *now_us, struct tkv_error *err)
{
    const uint64_t began_us = *now_us;
    uint8_t *value = add_item(oracle, (struct oracle_item){.key = key,
                                                           .size = size,
                                                           .flags = flags,
                                                           .expires_at_ms = expires_at_ms});
    enum tkv_status status;

    issue(oracle, 1);
    if (expires_at_ms == ORACLE_NEVER)
        status = tkv_put(store, oracle_key(key), tkv_bytes(value, size), err);
    else
        status = tkv_put_expiring(store, oracle_key(key), tkv_bytes(value, size),
                                  expires_at_ms, err);
    free(value);
    return note(oracle, status, began_us, *now_us);
}

enum tkv_status oracle_delete(struct oracle *oracle, struct tkv_store *store, unsigned key,
                              const uint64_t *now_us, struct tkv_error *err)
{
    const uint64_t began_us = *now_us;

    (void)add_item(oracle, (struct oracle_item){.key = key, .is_delete = true});
    issue(oracle, 1);
    return note(oracle, tkv_delete(store, oracle_key(key), NULL, err), began_us, *now_us);
}

static enum tkv_status add_to_batch(struct tkv_batch *batch, const struct oracle_item *item,
                                    const uint8_t *value, struct tkv_error *err)
{
    const struct tkv_slice key = oracle_key(item->key);

    if (item->is_delete)
        return tkv_batch_delete(batch, key, err);
    if (item->expires_at_ms != ORACLE_NEVER)
        return tkv_batch_put_expiring(batch, key, tkv_bytes(value, item->size),
                                      item->expires_at_ms, err);
    return tkv_batch_put(batch, key, tkv_bytes(value, item->size), err);
}

/* All items are noted, also when there is no memory for the batch. */
static enum tkv_status make_batch(struct oracle *oracle, const struct oracle_item *items,
                                  size_t count, struct tkv_batch **ret_batch,
                                  struct tkv_error *err)
{
    enum tkv_status status = tkv_batch_new(ret_batch, err);

    for (size_t i = 0; i < count; i++) {
        uint8_t *value = add_item(oracle, items[i]);

        if (status == TKV_OK)
            status = add_to_batch(*ret_batch, &items[i], value, err);
        free(value);
    }
    return status;
}

enum tkv_status oracle_batch(struct oracle *oracle, struct tkv_store *store,
                             const struct oracle_item *items, size_t count,
                             const uint64_t *now_us, struct tkv_error *err)
{
    const uint64_t began_us = *now_us;
    struct tkv_batch *batch = NULL;
    enum tkv_status status = make_batch(oracle, items, count, &batch, err);

    issue(oracle, count);
    if (status == TKV_OK)
        status = tkv_write(store, batch, err);
    tkv_batch_free(batch);
    return note(oracle, status, began_us, *now_us);
}

static enum tkv_status note_durable(struct oracle *oracle, enum tkv_status status)
{
    if (status == TKV_OK)
        oracle->durable = oracle->acked;
    return status;
}

enum tkv_status oracle_sync(struct oracle *oracle, struct tkv_store *store,
                            struct tkv_error *err)
{
    return note_durable(oracle, tkv_sync(store, err));
}

enum tkv_status oracle_checkpoint(struct oracle *oracle, struct tkv_store *store,
                                  struct tkv_error *err)
{
    return note_durable(oracle, tkv_checkpoint(store, err));
}

enum tkv_status oracle_close(struct oracle *oracle, struct tkv_store *store,
                             struct tkv_error *err)
{
    return note_durable(oracle, tkv_close(store, err));
}

/* ---- Comparing ---------------------------------------------------------------------------------------- */

void oracle_apply(const struct oracle *oracle, size_t op, struct oracle_state *state)
{
    const struct oracle_op *o = &oracle->ops[op];

    if (o->is_out)
        return;
    for (size_t i = o->first_item; i < o->first_item + o->item_count; i++)
        state->items[oracle->items[i].key] = oracle->items[i].is_delete ? 0 : i + 1;
}

bool oracle_key_is(const struct oracle *oracle, const struct oracle_state *state,
                   const struct oracle_found *found, unsigned key, uint64_t now_ms)
{
    const struct oracle_item *item =
        state->items[key] == 0 ? NULL : &oracle->items[state->items[key] - 1];

    if (item != NULL && item->expires_at_ms != 0 && item->expires_at_ms <= now_ms)
        item = NULL;
    if (found->present[key] != (item != NULL))
        return false;
    return item == NULL ||
           (item->size == found->size[key] && item->hash == found->hash[key] &&
            item->expires_at_ms == found->expires_at_ms[key]);
}

/* ORACLE_KEYS when all agree, else the first key that does not. */
static unsigned first_difference(const struct oracle *oracle,
                                 const struct oracle_state *state,
                                 const struct oracle_found *found, uint64_t now_ms)
{
    unsigned key = 0;

    while (key < ORACLE_KEYS && oracle_key_is(oracle, state, found, key, now_ms))
        key++;
    return key;
}

/* For the report: which write the value that was found comes from. */
static long origin(const struct oracle *oracle, const struct oracle_found *found,
                   unsigned key)
{
    if (!found->present[key])
        return -1;
    for (size_t op = oracle->issued; op-- > 0;) {
        const struct oracle_op *o = &oracle->ops[op];

        for (size_t i = o->first_item; i < o->first_item + o->item_count; i++) {
            if (oracle->items[i].key == key && !oracle->items[i].is_delete &&
                oracle->items[i].hash == found->hash[key])
                return (long)op;
        }
    }
    return -2;
}

static bool explain(const struct oracle *oracle, const struct oracle_found *found,
                    size_t least, size_t most, uint64_t now_ms, struct oracle_report *why)
{
    struct oracle_state state = {{0}};
    size_t used = 0;

    for (size_t op = 0; op < least; op++)
        oracle_apply(oracle, op, &state);
    used += (size_t)snprintf(why->text, sizeof why->text,
                             "no prefix from %zu to %zu fits; against %zu:", least, most,
                             least);
    for (unsigned key = 0; key < ORACLE_KEYS && used < sizeof why->text - 60; key++) {
        struct oracle_found one = {.count = 0};
        struct oracle_state wanted = {{0}};

        one.present[key] = found->present[key];
        one.size[key] = found->size[key];
        one.hash[key] = found->hash[key];
        one.expires_at_ms[key] = found->expires_at_ms[key];
        wanted.items[key] = state.items[key];
        if (first_difference(oracle, &wanted, &one, now_ms) == ORACLE_KEYS)
            continue;
        used += (size_t)snprintf(why->text + used, sizeof why->text - used,
                                 " key %u is of write %ld, not item %zu;", key,
                                 origin(oracle, found, key), state.items[key]);
    }
    return false;
}

bool oracle_match(const struct oracle *oracle, const struct oracle_found *found,
                  size_t least, size_t most, uint64_t now_ms, size_t *ret_prefix,
                  struct oracle_report *ret_why)
{
    struct oracle_state state = {{0}};
    bool any = false;

    for (size_t prefix = 0; prefix <= most; prefix++) {
        if (prefix > 0)
            oracle_apply(oracle, prefix - 1, &state);
        if (prefix >= least &&
            first_difference(oracle, &state, found, now_ms) == ORACLE_KEYS) {
            *ret_prefix = prefix;
            any = true;
        }
    }
    return any || explain(oracle, found, least, most, now_ms, ret_why);
}

bool oracle_same(const struct oracle_found *left, const struct oracle_found *right,
                 struct oracle_report *ret_why)
{
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (left->present[key] != right->present[key] ||
            left->size[key] != right->size[key] || left->hash[key] != right->hash[key] ||
            left->expires_at_ms[key] != right->expires_at_ms[key])
            return oracle_refuse(
                ret_why, "key %u differs: present %d, then %d; %u bytes, then %u", key,
                left->present[key], right->present[key], left->size[key], right->size[key]);
    }
    return true;
}
