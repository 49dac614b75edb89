/* SPDX-License-Identifier: MIT */
#include "reading.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

__attribute__((format(printf, 2, 3))) static bool refuse(struct oracle_report *why,
                                                         const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof why->text, format, arguments);
    va_end(arguments);
    return false;
}

static bool is_damage(enum tkv_status status)
{
    return status == TKV_CORRUPT || status == TKV_IO;
}

/* ---- One by one ---------------------------------------------------------------------------- */

static bool note_error(struct reading *r, unsigned key, enum tkv_status status,
                       const struct tkv_error *err, struct oracle_report *why)
{
    if (!is_damage(status) || err->status != status)
        return refuse(why, "get(key %u) is %d, error %d: %s", key, (int)status,
                      (int)err->status, err->message);
    if (err->file[0] == 0 || err->message[0] == 0)
        return refuse(why, "the error of key %u names no file: %s", key, err->message);
    if (r->unreadable_count == 0)
        r->error = *err;
    r->unreadable[key] = true;
    r->unreadable_count++;
    return true;
}

static bool is_as_noted(const struct reading *r, unsigned key, const void *value,
                        size_t size)
{
    return r->found.present[key] && r->found.size[key] == size &&
           r->found.hash[key] == XXH3_64bits(value, size);
}

static bool read_key(struct tkv_store *store, enum reading_way way, struct reading *r,
                     unsigned key, struct oracle_report *why)
{
    struct tkv_error err = {.message = ""};
    void *value = NULL;
    size_t size = 0;
    const enum tkv_status exists = tkv_exists(store, oracle_key(key), &err);
    const enum tkv_status status =
        tkv_get_copy(store, oracle_key(key), &value, &size, &err);

    if (exists != (status == TKV_NOT_FOUND ? TKV_NOT_FOUND : TKV_OK) &&
        !(way == READING_GAPS && exists == TKV_CORRUPT && status == TKV_CORRUPT))
        return refuse(why, "exists(key %u) is %d, get %d", key, (int)exists, (int)status);
    if (status == TKV_NOT_FOUND)
        return true;
    if (status != TKV_OK)
        return note_error(r, key, status, &err, why);
    r->found.present[key] = true;
    r->found.count++;
    r->found.size[key] = (uint32_t)size;
    r->found.hash[key] = XXH3_64bits(value, size);
    tkv_free(value);
    return true;
}

/* What get_copy said holds for the other ways too. */
static bool agrees(const struct reading *r, unsigned key, enum tkv_status status,
                   const char *way, struct oracle_report *why)
{
    const bool fits = r->unreadable[key]      ? is_damage(status)
                      : r->found.present[key] ? status == TKV_OK
                                              : status == TKV_NOT_FOUND;

    return fits || refuse(why, "%s(key %u) is %d, get_copy says present %d, unreadable %d",
                          way, key, (int)status, r->found.present[key], r->unreadable[key]);
}

static bool read_into_buffer(struct tkv_store *store, const struct reading *r, unsigned key,
                             struct oracle_report *why)
{
    static uint8_t buffer[64 * 1024];
    size_t size = 0;
    const enum tkv_status status =
        tkv_get(store, oracle_key(key), buffer, sizeof buffer, &size, NULL);

    if (!agrees(r, key, status, "get", why))
        return false;
    return status != TKV_OK || is_as_noted(r, key, buffer, size) ||
           refuse(why, "get(key %u) and get_copy differ", key);
}

static bool read_together(struct tkv_store *store, const struct reading *r,
                          struct oracle_report *why)
{
    struct tkv_slice keys[ORACLE_KEYS];
    struct tkv_pin pins[ORACLE_KEYS];
    enum tkv_status statuses[ORACLE_KEYS];
    bool good = true;

    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        keys[key] = oracle_key(key);
    (void)!tkv_multi_get(store, keys, ORACLE_KEYS, pins, statuses, NULL);
    for (unsigned key = 0; key < ORACLE_KEYS && good; key++) {
        good = agrees(r, key, statuses[key], "multi_get", why);
        if (good && statuses[key] == TKV_OK &&
            !is_as_noted(r, key, pins[key].value.data, pins[key].value.size))
            good = refuse(why, "multi_get(key %u) and get_copy differ", key);
    }
    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        tkv_unpin(&pins[key]);
    return good;
}

/* ---- All ------------------------------------------------------------------------------------- */

static unsigned key_number(struct tkv_slice key)
{
    for (unsigned i = 0; i < ORACLE_KEYS; i++) {
        const struct tkv_slice known = oracle_key(i);

        if (known.size == key.size &&
            (key.size == 0 || memcmp(known.data, key.data, key.size) == 0))
            return i;
    }
    return ORACLE_KEYS;
}

static bool check_entry(struct reading *r, enum tkv_status status,
                        const struct tkv_entry *entry, bool seen[ORACLE_KEYS],
                        struct oracle_report *why)
{
    const unsigned key = key_number(entry->key);

    if (key == ORACLE_KEYS || seen[key])
        return refuse(why, "iteration: %s key of %zu bytes",
                      key == ORACLE_KEYS ? "unknown" : "repeated", entry->key.size);
    seen[key] = true;
    if (!agrees(r, key, status, "iterator", why))
        return false;
    if (status != TKV_OK)
        return true;
    r->found.expires_at_ms[key] = entry->expires_at_ms;
    return is_as_noted(r, key, entry->value.data, entry->value.size) ||
           refuse(why, "iterator(key %u) and get_copy differ", key);
}

static bool read_entries(struct tkv_store *store, enum reading_way way, struct reading *r,
                         struct oracle_report *why)
{
    bool seen[ORACLE_KEYS] = {false}, good = true;
    struct tkv_iterator *iterator;
    struct tkv_entry entry = {.expires_at_ms = 0};
    struct tkv_error err;
    enum tkv_status status;

    if (tkv_iterator_new(store, false, &iterator, &err) != TKV_OK)
        return refuse(why, "iterator: %s", err.message);
    while (good && (status = tkv_iterator_next(iterator, &entry, &err)) != TKV_NOT_FOUND) {
        if (status != TKV_OK && !is_damage(status))
            good = refuse(why, "iteration: %s", err.message);
        else if (status != TKV_OK && entry.key.data == NULL)
            good = way == READING_GAPS || refuse(why, "iteration: gaps: %s", err.message);
        else
            good = check_entry(r, status, &entry, seen, why);
    }
    tkv_iterator_free(iterator);
    for (unsigned key = 0; key < ORACLE_KEYS && good; key++) {
        if (way == READING_GAPS && r->unreadable[key])
            continue;
        if (seen[key] != (r->found.present[key] || r->unreadable[key]))
            good = refuse(why, "iteration and get disagree whether key %u exists", key);
    }
    return good;
}

/* A damaged value is a finding. */
static bool verify(struct tkv_store *store, const struct reading *r,
                   struct oracle_report *why)
{
    struct tkv_verify_report report;
    struct tkv_error err = {.message = ""};
    const enum tkv_status status = tkv_verify(store, NULL, NULL, &report, &err);

    if (status != TKV_OK && status != TKV_CORRUPT)
        return refuse(why, "verify is %d: %s", (int)status, err.message);
    if (r->unreadable_count > 0 && status == TKV_OK)
        return refuse(why, "verify finds nothing, but %zu keys are errors",
                      r->unreadable_count);
    return report.keys == r->found.count ||
           refuse(why, "verify counted %" PRIu64 " keys, get %zu", report.keys,
                  r->found.count);
}

bool reading_take(struct tkv_store *store, enum reading_way way, struct reading *r,
                  struct oracle_report *why)
{
    const bool is_quick = way == READING_QUICK;
    struct tkv_stats stats;

    memset(r, 0, sizeof *r);
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (!read_key(store, way, r, key, why))
            return false;
    }
    for (unsigned key = 0; key < ORACLE_KEYS && !is_quick; key++) {
        if (!read_into_buffer(store, r, key, why))
            return false;
    }
    if ((!is_quick && !read_together(store, r, why)) || !read_entries(store, way, r, why))
        return false;
    if (way == READING_GAPS)
        return true;
    if (tkv_stats(store, &stats, NULL) != TKV_OK ||
        stats.keys != r->found.count + r->unreadable_count)
        return refuse(why, "stats.keys is %" PRIu64 ", %zu can be read, %zu cannot",
                      stats.keys, r->found.count, r->unreadable_count);
    return is_quick || verify(store, r, why);
}

/* ---- Against the oracle ----------------------------------------------------------------------- */

static bool is_right(const struct reading *r, unsigned key, const struct oracle_item *item,
                     uint64_t now_ms)
{
    if (r->unreadable[key])
        return true;
    if (item != NULL && (item->is_delete || (item->expires_at_ms != ORACLE_NEVER &&
                                             item->expires_at_ms <= now_ms)))
        item = NULL;
    if (item == NULL || !r->found.present[key])
        return item == NULL && !r->found.present[key];
    return item->size == r->found.size[key] && item->hash == r->found.hash[key] &&
           item->expires_at_ms == r->found.expires_at_ms[key];
}

bool reading_matches(const struct oracle *oracle, const struct reading *r, size_t least,
                     size_t most, uint64_t now_ms, size_t *ret_prefix,
                     struct oracle_report *why)
{
    const struct oracle_item *last[ORACLE_KEYS] = {NULL};
    unsigned wrong = ORACLE_KEYS;
    bool any = false;

    for (size_t prefix = 0; prefix <= most; prefix++) {
        const struct oracle_op *op = prefix == 0 ? NULL : &oracle->ops[prefix - 1];
        unsigned key = 0;

        for (size_t i = 0; op != NULL && !op->is_out && i < op->item_count; i++)
            last[oracle->items[op->first_item + i].key] =
                &oracle->items[op->first_item + i];
        if (prefix < least)
            continue;
        while (key < ORACLE_KEYS && is_right(r, key, last[key], now_ms))
            key++;
        if (key == ORACLE_KEYS) {
            *ret_prefix = prefix;
            any = true;
        }
        wrong = key;
    }
    return any || refuse(why, "no prefix from %zu to %zu fits; after %zu key %u differs",
                         least, most, most, wrong);
}

static bool was_written(const struct oracle *oracle, const struct reading *r, unsigned key)
{
    for (size_t i = 0; i < oracle->item_count; i++) {
        const struct oracle_item *item = &oracle->items[i];

        if (item->key == key && !item->is_delete && item->size == r->found.size[key] &&
            item->hash == r->found.hash[key])
            return true;
    }
    return false;
}

bool reading_is_of_its_keys(const struct oracle *oracle, const struct reading *r,
                            struct oracle_report *why)
{
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (r->found.present[key] && !was_written(oracle, r, key))
            return refuse(why, "the value of key %u was never written", key);
    }
    return true;
}
