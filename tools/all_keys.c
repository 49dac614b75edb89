/* SPDX-License-Identifier: MIT */
/* all_keys.c - the verbs about all keys: list, dump, count. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "complain.h"
#include "json_write.h"
#include "keys.h"
#include "opening.h"
#include "pair.h"
#include "tsv.h"
#include "verbs.h"

/* How to write one key; `value` has no bytes when it was not asked for. */
typedef void write_fn(FILE *out, const struct pair *pair);

struct listing {
    FILE *out;
    bool with_values;
    write_fn *write;
};

static void write_key_json(FILE *out, const struct pair *pair)
{
    fputc('{', out);
    json_write_bytes(out, "k", pair->key);
    fputs("}\n", out);
}

static void write_key_tsv(FILE *out, const struct pair *pair)
{
    tsv_write(out, pair->key);
    fputc('\n', out);
}

/* A key may expire between two looks at it: then it is not written. */
static enum tkv_status write_with_value(struct tkv_store *store,
                                        const struct listing *listing, struct tkv_slice key,
                                        struct tkv_error *err)
{
    struct tkv_pin pin;
    struct pair pair = {.key = key};
    const enum tkv_status status = tkv_get_pinned(store, key, &pin, err);

    if (status != TKV_OK)
        return status == TKV_NOT_FOUND ? TKV_OK : status;
    pair.value = pin.value;
    pair.ttl_ms = clock_ttl_ms(pin.expires_at_ms);
    listing->write(listing->out, &pair);
    tkv_unpin(&pin);
    return TKV_OK;
}

/* A damaged value is complained about and left out; the others are still worth having. */
static int write_sorted(struct tkv_store *store, const struct listing *listing,
                        const struct keys *keys)
{
    int code = DONE;

    for (size_t i = 0; i < keys->count && !ferror(listing->out); i++) {
        const struct pair bare = {.key = keys->sorted[i]};
        struct tkv_error err;

        if (!listing->with_values)
            listing->write(listing->out, &bare);
        else if (write_with_value(store, listing, bare.key, &err) != TKV_OK)
            code = first_failure(code, complain_of(&err));
    }
    return code;
}

/* With the store open, so that a missing one does not cost an older dump. */
static int write_to_file(struct tkv_store *store, struct listing listing,
                         const struct keys *keys, const char *path)
{
    bool failed;
    int code;

    listing.out = fopen(path, "wb");
    if (listing.out == NULL)
        return complain_errno(errno, "create %s", path);
    code = write_sorted(store, &listing, keys);
    errno = 0;
    failed = ferror(listing.out) != 0;
    failed = fclose(listing.out) != 0 || failed;
    if (failed)
        code =
            first_failure(code, complain_errno(errno != 0 ? errno : EIO, "write %s", path));
    return code;
}

/* `path` is NULL for standard output. */
static int write_all(const struct command *command, const struct listing *listing,
                     const char *path)
{
    struct tkv_store *store;
    struct tkv_error err;
    struct keys keys;
    int code = opening_open(command, OPENING_READ, &store);

    if (code != DONE)
        return code;
    if (keys_collect(store, &keys, &err) != TKV_OK)
        code = complain_of(&err);
    else if (path == NULL)
        code = write_sorted(store, listing, &keys);
    else
        code = write_to_file(store, *listing, &keys, path);
    keys_release(&keys);
    return opening_close(store, code);
}

int run_list(const struct command *command)
{
    struct listing listing = {.out = stdout, .with_values = has(command, OPTION_VALUES)};

    if (has(command, OPTION_VALUES) && has(command, OPTION_KEYS_ONLY))
        return complain_usage("--keys-only and --values contradict each other");
    if (listing.with_values)
        listing.write = has(command, OPTION_JSON) ? pair_write_json : pair_write_tsv;
    else
        listing.write = has(command, OPTION_JSON) ? write_key_json : write_key_tsv;
    return write_all(command, &listing, NULL);
}

int run_dump(const struct command *command)
{
    const struct listing listing = {stdout, true, pair_write_json};
    const char *path = command->operand_count == 0 ? "-" : command->operands[0];

    return write_all(command, &listing, strcmp(path, "-") == 0 ? NULL : path);
}

int run_count(const struct command *command)
{
    struct tkv_store *store;
    struct tkv_stats stats;
    struct tkv_error err;
    int code = opening_open(command, OPENING_READ, &store);

    if (code != DONE)
        return code;
    if (tkv_stats(store, &stats, &err) != TKV_OK)
        code = complain_of(&err);
    else
        printf(has(command, OPTION_JSON) ? "{\"count\":%" PRIu64 "}\n" : "%" PRIu64 "\n",
               stats.keys);
    return opening_close(store, code);
}
