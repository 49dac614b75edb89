/* SPDX-License-Identifier: MIT */
#include "oracle_damaged.h"

#include "oracle_private.h"

#include <stdio.h>

/* An error must say that bytes are not what was written. */
static bool is_damage(enum tkv_status status)
{
    return status == TKV_CORRUPT;
}

static bool read_key(struct tkv_store *store, unsigned key, struct oracle_damaged *damaged,
                     struct oracle_report *why)
{
    struct oracle_found *found = &damaged->found;
    struct tkv_error err = {.message = ""};
    void *value = NULL;
    size_t size = 0;
    const enum tkv_status status =
        tkv_get_copy(store, oracle_key(key), &value, &size, &err);

    damaged->failed[key] = is_damage(status);
    if (status == TKV_OK) {
        found->present[key] = true;
        found->size[key] = (uint32_t)size;
        found->hash[key] = oracle_hash(value, size);
        found->count++;
        tkv_free(value);
    }
    return status == TKV_OK || status == TKV_NOT_FOUND || is_damage(status) ||
           oracle_refuse(why, "get(key %u) is %d: %s", key, (int)status, err.message);
}

static bool check_entry(struct oracle_damaged *damaged, const struct tkv_entry *entry,
                        enum tkv_status status, bool seen[ORACLE_KEYS],
                        struct oracle_report *why)
{
    const unsigned key = oracle_key_number(entry->key);
    struct oracle_found *found = &damaged->found;

    if (key == ORACLE_KEYS || seen[key])
        return oracle_refuse(why, "%s key (%u) in the iteration",
                             key == ORACLE_KEYS ? "unknown" : "repeated", key);
    seen[key] = true;
    if (is_damage(status)) {
        return damaged->failed[key] ||
               oracle_refuse(why, "key %u can be got, but not iterated", key);
    }
    found->expires_at_ms[key] = entry->expires_at_ms;
    return (found->present[key] &&
            found->hash[key] == oracle_hash(entry->value.data, entry->value.size)) ||
           oracle_refuse(why, "get(key %u) and iteration differ", key);
}

static bool check_iteration(struct tkv_store *store, struct oracle_damaged *damaged,
                            struct oracle_report *why)
{
    bool seen[ORACLE_KEYS] = {false}, good = true;
    struct tkv_error err = {.message = ""};
    struct tkv_iterator *iterator;
    enum tkv_status status = tkv_iterator_new(store, false, &iterator, &err);

    if (status != TKV_OK)
        return oracle_refuse(why, "iterator: %s", err.message);
    while (good) {
        struct tkv_entry entry;

        status = tkv_iterator_next(iterator, &entry, &err);
        if (status == TKV_NOT_FOUND)
            break;
        if (status != TKV_OK && !is_damage(status))
            good = oracle_refuse(why, "iteration: %s", err.message);
        else
            good = check_entry(damaged, &entry, status, seen, why);
    }
    tkv_iterator_free(iterator);
    for (unsigned key = 0; key < ORACLE_KEYS && good; key++) {
        if (damaged->found.present[key] && !seen[key])
            good = oracle_refuse(why, "key %u can be got, but is not iterated", key);
    }
    return good;
}

bool oracle_read_damaged(struct tkv_store *store, struct oracle_damaged *ret_found,
                         struct oracle_report *ret_why)
{
    memset(ret_found, 0, sizeof *ret_found);
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (!read_key(store, key, ret_found, ret_why))
            return false;
    }
    return check_iteration(store, ret_found, ret_why);
}

/* The first key that can be read and is not what these writes left, or ORACLE_KEYS. */
static unsigned first_wrong(const struct oracle *oracle, const struct oracle_state *state,
                            const struct oracle_damaged *found, uint64_t now_ms)
{
    unsigned key = 0;

    while (key < ORACLE_KEYS &&
           (found->failed[key] || oracle_key_is(oracle, state, &found->found, key, now_ms)))
        key++;
    return key;
}

/* For the report: after how many writes it would be right, if ever. */
static long fits_anyway(const struct oracle *oracle, const struct oracle_damaged *found,
                        size_t least, uint64_t now_ms)
{
    struct oracle_state state = {{0}};

    for (size_t prefix = 0; prefix < least; prefix++) {
        if (first_wrong(oracle, &state, found, now_ms) == ORACLE_KEYS)
            return (long)prefix;
        oracle_apply(oracle, prefix, &state);
    }
    return -1;
}

bool oracle_match_damaged(const struct oracle *oracle, const struct oracle_damaged *found,
                          size_t least, size_t most, uint64_t now_ms,
                          struct oracle_report *ret_why)
{
    struct oracle_state state = {{0}};
    size_t used = 0;

    for (size_t prefix = 0; prefix <= most; prefix++) {
        unsigned wrong;

        if (prefix > 0)
            oracle_apply(oracle, prefix - 1, &state);
        if (prefix < least)
            continue;
        wrong = first_wrong(oracle, &state, found, now_ms);
        if (wrong == ORACLE_KEYS)
            return true;
        if (used < sizeof ret_why->text - 80)
            used += (size_t)snprintf(
                ret_why->text + used, sizeof ret_why->text - used,
                "after %zu writes key %u is not %s (%u bytes); ", prefix, wrong,
                found->found.present[wrong] ? "this" : "absent", found->found.size[wrong]);
    }
    (void)snprintf(ret_why->text + used, sizeof ret_why->text - used, "fits %ld",
                   fits_anyway(oracle, found, least, now_ms));
    return false;
}

uint64_t oracle_history(const struct oracle *oracle, size_t prefix)
{
    return prefix == 0 ? 0 : oracle->ops[prefix - 1].history;
}

uint64_t oracle_found_hash(const struct oracle_found *found)
{
    return oracle_hash(found, sizeof *found);
}
