/* SPDX-License-Identifier: MIT */
/*
 * oracle_read.c - read a whole store in every way there is, and compare the ways.
 */
#include "oracle_private.h"

#include <inttypes.h>
#include <stdio.h>

static bool read_entries(struct tkv_store *store, struct oracle_found *found,
                         struct oracle_report *why)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error err;
    enum tkv_status status = tkv_iterator_new(store, false, &iterator, &err);

    if (status != TKV_OK)
        return oracle_refuse(why, "iterator: %s", err.message);
    while ((status = tkv_iterator_next(iterator, &entry, &err)) == TKV_OK) {
        const unsigned key = oracle_key_number(entry.key);

        if (key == ORACLE_KEYS || found->present[key]) {
            status = TKV_CORRUPT;
            snprintf(err.message, sizeof err.message, "%s key of %zu bytes (%u)",
                     key == ORACLE_KEYS ? "unknown" : "repeated", entry.key.size, key);
            break;
        }
        found->present[key] = true;
        found->size[key] = (uint32_t)entry.value.size;
        found->hash[key] = oracle_hash(entry.value.data, entry.value.size);
        found->expires_at_ms[key] = entry.expires_at_ms;
        found->count++;
    }
    tkv_iterator_free(iterator);
    return status == TKV_NOT_FOUND || oracle_refuse(why, "iteration: %s", err.message);
}

static bool is_as_found(const struct oracle_found *found, unsigned key, const void *value,
                        size_t size)
{
    return found->present[key] && found->size[key] == size &&
           found->hash[key] == oracle_hash(value, size);
}

static bool read_one(struct tkv_store *store, const struct oracle_found *found,
                     unsigned key, struct oracle_report *why)
{
    const enum tkv_status expected = found->present[key] ? TKV_OK : TKV_NOT_FOUND;
    struct tkv_error err = {.message = ""};
    size_t size = 0;
    void *value = NULL;
    enum tkv_status status = tkv_exists(store, oracle_key(key), &err);
    bool same;

    if (status != expected)
        return oracle_refuse(why, "exists(key %u) is %d, iteration says %d", key,
                             (int)status, (int)expected);
    status = tkv_get_copy(store, oracle_key(key), &value, &size, &err);
    if (status != expected)
        return oracle_refuse(why, "get(key %u) is %d, iteration says %d: %s", key,
                             (int)status, (int)expected, err.message);
    if (status != TKV_OK)
        return true;
    same = is_as_found(found, key, value, size);
    tkv_free(value);
    return same || oracle_refuse(why, "get(key %u) and iteration differ", key);
}

static bool read_together(struct tkv_store *store, const struct oracle_found *found,
                          struct oracle_report *why)
{
    struct tkv_slice keys[ORACLE_KEYS];
    struct tkv_pin pins[ORACLE_KEYS];
    enum tkv_status statuses[ORACLE_KEYS], status;
    struct tkv_error err = {.message = ""};
    bool good = true;

    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        keys[key] = oracle_key(key);
    status = tkv_multi_get(store, keys, ORACLE_KEYS, pins, statuses, &err);
    if (status != TKV_OK)
        good = oracle_refuse(why, "multi_get: %s", err.message);
    for (unsigned key = 0; key < ORACLE_KEYS && good; key++) {
        if (statuses[key] != (found->present[key] ? TKV_OK : TKV_NOT_FOUND))
            good = oracle_refuse(why, "multi_get(key %u) is %d", key, (int)statuses[key]);
        else if (statuses[key] == TKV_OK &&
                 !is_as_found(found, key, pins[key].value.data, pins[key].value.size))
            good = oracle_refuse(why, "multi_get(key %u) and iteration differ", key);
    }
    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        tkv_unpin(&pins[key]);
    return good;
}

static void keep_finding(void *context, const struct tkv_finding *finding)
{
    struct oracle_report *why = context;

    (void)oracle_refuse(why, "verify: %s at %" PRIu64 ": %s", finding->file,
                        finding->offset, finding->message);
}

bool oracle_read(struct tkv_store *store, struct oracle_found *ret_found,
                 struct oracle_report *ret_why)
{
    struct tkv_verify_report report;
    struct tkv_stats stats;
    struct tkv_error err;

    memset(ret_found, 0, sizeof *ret_found);
    if (!read_entries(store, ret_found, ret_why))
        return false;
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (!read_one(store, ret_found, key, ret_why))
            return false;
    }
    if (!read_together(store, ret_found, ret_why))
        return false;
    if (tkv_stats(store, &stats, &err) != TKV_OK || stats.keys != ret_found->count)
        return oracle_refuse(ret_why, "stats.keys is %" PRIu64 ", iteration found %zu",
                             stats.keys, ret_found->count);
    oracle_refuse(ret_why, "verify failed");
    if (tkv_verify(store, keep_finding, ret_why, &report, &err) != TKV_OK)
        return false;
    return report.keys == ret_found->count ||
           oracle_refuse(ret_why, "verify counted %" PRIu64 " keys, iteration %zu",
                         report.keys, ret_found->count);
}
