/* SPDX-License-Identifier: MIT */
/* one_key.c - the verbs about single keys: set, get, del, exists. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base64.h"
#include "clock.h"
#include "complain.h"
#include "json_write.h"
#include "opening.h"
#include "pair.h"
#include "verbs.h"

/* ---- Keys and values from the command line --------------------------------------- */

/* Operand `index` as a key, decoded in place when it is base64. */
static int take_key(const struct command *command, size_t index, struct tkv_slice *ret_key)
{
    char *const text = command->operands[index];
    size_t size = strlen(text);

    if (has(command, OPTION_K64) && !base64_decode(text, size, &size))
        return complain_usage("the key is not base64");
    if (size > TKV_KEY_SIZE_MAX)
        return complain_usage("the key has %zu bytes, the limit is %u", size,
                              TKV_KEY_SIZE_MAX);
    *ret_key = tkv_bytes(text, size);
    return DONE;
}

/* All of standard input, at most one byte more than a value can have. *ret_bytes is to be
 * freed. */
static int read_input(char **ret_bytes, size_t *ret_size)
{
    size_t capacity = 0, size = 0, got;
    char *bytes = NULL;

    do {
        if (size == capacity) {
            char *grown;

            capacity = capacity == 0 ? 65536 : 2 * capacity;
            grown = realloc(bytes, capacity);
            if (grown == NULL) {
                free(bytes);
                return complain_errno(ENOMEM, "read standard input");
            }
            bytes = grown;
        }
        got = fread(bytes + size, 1, capacity - size, stdin);
        size += got;
    } while (got > 0 && size <= TKV_VALUE_SIZE_MAX);
    if (ferror(stdin)) {
        free(bytes);
        return complain_errno(errno, "read standard input");
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return DONE;
}

/* *ret_owned is to be freed in any case. */
static int take_value(const char *operand, struct tkv_slice *ret_value, char **ret_owned)
{
    size_t size = 0;
    int code;

    *ret_owned = NULL;
    if (strcmp(operand, "-") != 0) {
        *ret_value = tkv_text(operand);
        return DONE;
    }
    code = read_input(ret_owned, &size);
    if (code != DONE)
        return code;
    if (size > TKV_VALUE_SIZE_MAX)
        return complain_usage("the value has more than %u bytes", TKV_VALUE_SIZE_MAX);
    *ret_value = tkv_bytes(*ret_owned, size);
    return DONE;
}

static int not_there(const struct command *command, struct tkv_slice key)
{
    const int size = key.size < 200 ? (int)key.size : 200;

    if (!has(command, OPTION_QUIET))
        complain("no such key: %.*s", size, (const char *)key.data);
    return NOT_THERE;
}

/* ---- set ------------------------------------------------------------------------- */

static int put(struct tkv_store *store, const struct command *command, struct tkv_slice key,
               struct tkv_slice value)
{
    struct tkv_error err;
    enum tkv_status status;

    if (has(command, OPTION_TTL_MS))
        status =
            tkv_put_expiring(store, key, value, clock_wall_ms() + command->ttl_ms, &err);
    else
        status = tkv_put(store, key, value, &err);
    if (status != TKV_OK)
        return complain_of(&err);
    if (has(command, OPTION_JSON)) {
        printf("{");
        json_write_bytes(stdout, "k", key);
        printf(",\"bytes\":%zu}\n", value.size);
    }
    return DONE;
}

int run_set(const struct command *command)
{
    struct tkv_slice key, value;
    struct tkv_store *store;
    char *owned = NULL;
    int code = take_key(command, 0, &key);

    if (code == DONE)
        code = take_value(command->operands[1], &value, &owned);
    if (code == DONE)
        code = opening_open(command, OPENING_CREATE, &store);
    if (code == DONE)
        code = opening_close(store, put(store, command, key, value));
    free(owned);
    return code;
}

/* ---- get ------------------------------------------------------------------------- */

static void print_value(const struct command *command, struct tkv_slice key,
                        const struct tkv_pin *pin)
{
    if (has(command, OPTION_JSON)) {
        const struct pair pair = {
            .key = key,
            .value = pin->value,
            .ttl_ms = clock_ttl_ms(pin->expires_at_ms),
        };

        pair_write_json(stdout, &pair);
        return;
    }
    if (pin->value.size > 0)
        fwrite(pin->value.data, 1, pin->value.size, stdout);
    if (isatty(STDOUT_FILENO))
        fputc('\n', stdout);
}

static int get(struct tkv_store *store, const struct command *command, struct tkv_slice key)
{
    struct tkv_error err;
    struct tkv_pin pin;
    const enum tkv_status status = tkv_get_pinned(store, key, &pin, &err);

    if (status == TKV_NOT_FOUND)
        return not_there(command, key);
    if (status != TKV_OK)
        return complain_of(&err);
    print_value(command, key, &pin);
    tkv_unpin(&pin);
    return DONE;
}

int run_get(const struct command *command)
{
    struct tkv_store *store;
    struct tkv_slice key;
    int code = take_key(command, 0, &key);

    if (code == DONE)
        code = opening_open(command, OPENING_READ, &store);
    if (code == DONE)
        code = opening_close(store, get(store, command, key));
    return code;
}

/* ---- exists ---------------------------------------------------------------------- */

static int exists(struct tkv_store *store, const struct command *command,
                  struct tkv_slice key)
{
    struct tkv_error err;
    const enum tkv_status status = tkv_exists(store, key, &err);

    if (status != TKV_OK && status != TKV_NOT_FOUND)
        return complain_of(&err);
    if (has(command, OPTION_JSON)) {
        printf("{");
        json_write_bytes(stdout, "k", key);
        printf(",\"exists\":%s}\n", status == TKV_OK ? "true" : "false");
    }
    return status == TKV_OK ? DONE : NOT_THERE;
}

int run_exists(const struct command *command)
{
    struct tkv_store *store;
    struct tkv_slice key;
    int code = take_key(command, 0, &key);

    if (code == DONE)
        code = opening_open(command, OPENING_READ, &store);
    if (code == DONE)
        code = opening_close(store, exists(store, command, key));
    return code;
}

/* ---- del ------------------------------------------------------------------------- */

/* Add those keys to the batch that are there. */
static int gather(struct tkv_store *store, const struct command *command,
                  struct tkv_batch *batch, size_t *ret_missing)
{
    struct tkv_error err;

    for (size_t i = 0; i < command->operand_count; i++) {
        enum tkv_status status;
        struct tkv_slice key;
        const int code = take_key(command, i, &key);

        if (code != DONE)
            return code;
        status = tkv_exists(store, key, &err);
        if (status == TKV_NOT_FOUND) {
            (void)not_there(command, key);
            ++*ret_missing;
            continue;
        }
        if (status == TKV_OK)
            status = tkv_batch_delete(batch, key, &err);
        if (status != TKV_OK)
            return complain_of(&err);
    }
    return DONE;
}

static int del(struct tkv_store *store, const struct command *command,
               struct tkv_batch *batch)
{
    struct tkv_error err;
    size_t missing = 0;
    const int code = gather(store, command, batch, &missing);

    if (code != DONE)
        return code;
    if (tkv_write(store, batch, &err) != TKV_OK)
        return complain_of(&err);
    if (has(command, OPTION_JSON))
        printf("{\"deleted\":%zu,\"missing\":%zu}\n", tkv_batch_count(batch), missing);
    return missing == 0 ? DONE : NOT_THERE;
}

int run_del(const struct command *command)
{
    struct tkv_batch *batch = NULL;
    struct tkv_store *store;
    struct tkv_error err;
    int code;

    if (tkv_batch_new(&batch, &err) != TKV_OK)
        return complain_of(&err);
    code = opening_open(command, OPENING_WRITE, &store);
    if (code == DONE)
        code = opening_close(store, del(store, command, batch));
    tkv_batch_free(batch);
    return code;
}
