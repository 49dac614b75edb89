/* SPDX-License-Identifier: MIT */
/* run_read.c - reading under faults: what comes back was written for that key and is the
 * newest, or it is an error. */
#include "run.h"

#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

const struct oracle_item *run_expects(const struct run *run, unsigned key)
{
    const struct oracle *oracle = run->oracle;

    for (size_t op = oracle->issued; op-- > 0;) {
        const struct oracle_op *o = &oracle->ops[op];

        if (o->is_out || run->unknown[op])
            continue;
        for (size_t i = o->first_item + o->item_count; i-- > o->first_item;) {
            const struct oracle_item *item = &oracle->items[i];

            if (item->key != key)
                continue;
            if (item->is_delete ||
                (item->expires_at_ms != 0 && item->expires_at_ms <= run->disk->wall_ms))
                return NULL;
            return item;
        }
    }
    return NULL;
}

static void check_value(struct run *run, const char *what, unsigned key, const void *value,
                        size_t size)
{
    const struct oracle_item *item = run_expects(run, key);

    /* Without a clock nothing expires. */
    if (item == NULL && run->fault.kind == SIMDISK_CLOCK && run_is_hit(run))
        return;
    if (item == NULL)
        run_violation(run, "%s finds key %u, which is not there", what, key);
    else if (item->size != size || item->hash != XXH3_64bits(value, size))
        run_violation(run, "%s reads %zu wrong bytes for key %u", what, size, key);
}

/* A status without a value. */
static void check_status(struct run *run, const char *what, unsigned key,
                         enum tkv_status status, const struct tkv_error *err)
{
    if (status == TKV_NOT_FOUND && run_expects(run, key) != NULL)
        run_violation(run, "%s does not find key %u", what, key);
    else if (status != TKV_NOT_FOUND)
        run_judge(run, what, status, TKV_OK, err);
}

void run_get(struct run *run, unsigned key)
{
    struct tkv_error err = {.message = ""};
    size_t size = 0;
    void *value = NULL;
    const enum tkv_status status =
        tkv_get_copy(run->store, oracle_key(key), &value, &size, &err);

    if (status == TKV_OK)
        check_value(run, "get", key, value, size);
    else
        check_status(run, "get", key, status, &err);
    tkv_free(value);
}

void run_get_pinned(struct run *run, unsigned key)
{
    struct tkv_error err = {.message = ""};
    struct tkv_pin pin = {
        .value = {NULL, 0}
    };
    const enum tkv_status status = tkv_get_pinned(run->store, oracle_key(key), &pin, &err);

    if (status == TKV_OK)
        check_value(run, "pinned get", key, pin.value.data, pin.value.size);
    else
        check_status(run, "pinned get", key, status, &err);
    tkv_unpin(&pin);
}

void run_multi_get(struct run *run)
{
    struct tkv_slice keys[ORACLE_KEYS];
    struct tkv_pin pins[ORACLE_KEYS];
    enum tkv_status statuses[ORACLE_KEYS], status;
    struct tkv_error err = {.message = ""};
    bool any_failed = false;

    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        keys[key] = oracle_key(key);
    status = tkv_multi_get(run->store, keys, ORACLE_KEYS, pins, statuses, &err);
    run_judge(run, "multi-get", status, TKV_OK, &err);
    for (unsigned key = 0; key < ORACLE_KEYS; key++) {
        if (statuses[key] == TKV_OK)
            check_value(run, "multi-get", key, pins[key].value.data, pins[key].value.size);
        else if (statuses[key] == TKV_NOT_FOUND)
            check_status(run, "multi-get", key, statuses[key], &err);
        else
            any_failed = true;
        tkv_unpin(&pins[key]);
    }
    if (any_failed != (status != TKV_OK))
        run_violation(run, "multi-get is %s, its keys are not", tkv_status_text(status));
}

static unsigned number_of(struct tkv_slice key)
{
    for (unsigned i = 0; i < ORACLE_KEYS; i++) {
        const struct tkv_slice known = oracle_key(i);

        if (known.size == key.size &&
            (key.size == 0 || memcmp(known.data, key.data, key.size) == 0))
            return i;
    }
    return ORACLE_KEYS;
}

static void check_entry(struct run *run, const struct tkv_entry *entry, bool keys_only,
                        bool seen[ORACLE_KEYS])
{
    const unsigned key = number_of(entry->key);

    if (key == ORACLE_KEYS || seen[key])
        run_violation(run, "iteration returns %s key",
                      key == ORACLE_KEYS ? "an unknown" : "a repeated");
    else if (keys_only && run_expects(run, key) == NULL)
        run_violation(run, "iteration returns key %u, which is not there", key);
    else if (!keys_only)
        check_value(run, "iteration", key, entry->value.data, entry->value.size);
    if (key < ORACLE_KEYS)
        seen[key] = true;
}

/* A value that cannot be read does not end it, and no key is left out. */
void run_iterate(struct run *run, bool keys_only)
{
    struct tkv_error err = {.message = ""};
    bool seen[ORACLE_KEYS] = {false}, any_failed = false;
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    enum tkv_status status = tkv_iterator_new(run->store, keys_only, &iterator, &err);
    unsigned steps = 0;

    run_judge(run, "iterator", status, TKV_OK, &err);
    if (status != TKV_OK)
        return;
    while ((status = tkv_iterator_next(iterator, &entry, &err)) != TKV_NOT_FOUND) {
        any_failed |= status != TKV_OK;
        if (status == TKV_OK)
            check_entry(run, &entry, keys_only, seen);
        else
            run_judge(run, "iteration", status, TKV_OK, &err);
        if (++steps > 4 * ORACLE_KEYS || status == TKV_NO_MEMORY)
            break;
    }
    tkv_iterator_free(iterator);
    for (unsigned key = 0; key < ORACLE_KEYS && !any_failed; key++) {
        if (run_expects(run, key) != NULL && !seen[key])
            run_violation(run, "iteration leaves out key %u", key);
    }
}

static void tell_finding(void *context, const struct tkv_finding *finding)
{
    struct run *run = context;

    if (finding->status != TKV_IO || !run_is_hit(run))
        run_violation(run, "verify: %s at %llu: %s", finding->file,
                      (unsigned long long)finding->offset, finding->message);
}

void run_verify(struct run *run)
{
    struct tkv_error err = {.message = ""};
    struct tkv_verify_report report;
    const enum tkv_status status = tkv_verify(run->store, tell_finding, run, &report, &err);

    /* What cannot be read is a finding, and findings are TKV_CORRUPT. */
    if (status != TKV_CORRUPT || !run_is_hit(run))
        run_judge(run, "verify", status, TKV_OK, &err);
}

void run_stats(struct run *run)
{
    struct tkv_error err = {.message = ""};
    struct tkv_file_stats files[8];
    struct tkv_stats stats;
    size_t count;

    run_judge(run, "stats", tkv_stats(run->store, &stats, &err), TKV_OK, &err);
    run_judge(run, "file stats", tkv_file_stats(run->store, files, 8, &count, &err), TKV_OK,
              &err);
}

void run_get_all(struct run *run)
{
    for (unsigned key = 0; key < ORACLE_KEYS; key++)
        run_get(run, key);
}
