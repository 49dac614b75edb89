/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base64.h"
#include "complain.h"
#include "json_read.h"
#include "json_write.h"
#include "tsv.h"

static bool refuse(char *wrong, const char *format, ...) PRINTF_LIKE(2, 3);

static bool refuse(char *wrong, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(wrong, PAIR_WRONG_SIZE, format, arguments);
    va_end(arguments);
    return false;
}

static bool check_sizes(const struct pair *pair, char *wrong)
{
    if (pair->key.size > TKV_KEY_SIZE_MAX)
        return refuse(wrong, "the key has %zu bytes, the limit is %u", pair->key.size,
                      TKV_KEY_SIZE_MAX);
    if (pair->value.size > TKV_VALUE_SIZE_MAX)
        return refuse(wrong, "the value has %zu bytes, the limit is %u", pair->value.size,
                      TKV_VALUE_SIZE_MAX);
    return true;
}

/* ---- JSON ------------------------------------------------------------------------ */

enum { HAS_KEY = 1, HAS_VALUE = 2, HAS_TTL = 4 };

static const struct member_spec {
    const char *name;
    unsigned has;
    bool is_base64;
} member_specs[] = {
    {"k",      HAS_KEY,   false},
    {"k64",    HAS_KEY,   true },
    {"v",      HAS_VALUE, false},
    {"v64",    HAS_VALUE, true },
    {"ttl_ms", HAS_TTL,   false},
};

static const struct member_spec *find_spec(struct tkv_slice name)
{
    for (size_t i = 0; i < sizeof member_specs / sizeof member_specs[0]; i++) {
        const char *known = member_specs[i].name;

        if (strlen(known) == name.size && memcmp(known, name.data, name.size) == 0)
            return &member_specs[i];
    }
    return NULL;
}

bool pair_parse_ttl(struct tkv_slice text, uint64_t *ret_ttl_ms)
{
    const char *digits = text.data;
    uint64_t ttl_ms = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (digits[i] < '0' || digits[i] > '9' || ttl_ms > TTL_MS_MAX / 10)
            return false;
        ttl_ms = 10 * ttl_ms + (uint64_t)(digits[i] - '0');
    }
    if (ttl_ms == 0 || ttl_ms > TTL_MS_MAX)
        return false;
    *ret_ttl_ms = ttl_ms;
    return true;
}

static bool take_bytes(const struct member_spec *spec, struct tkv_slice text,
                       struct tkv_slice *ret_bytes, char *wrong)
{
    if (spec->is_base64) {
        /* The slice points into the caller's line, which is ours to change. */
        if (!base64_decode((char *)(uintptr_t)text.data, text.size, &text.size))
            return refuse(wrong, "member \"%s\" is not base64", spec->name);
    }
    *ret_bytes = text;
    return true;
}

static bool take_member(struct pair *pair, unsigned *has, const struct json_member *member,
                        char *wrong)
{
    const struct member_spec *spec = find_spec(member->name);

    if (spec == NULL)
        return refuse(wrong, "unknown member \"%.*s\"",
                      member->name.size < 60 ? (int)member->name.size : 60,
                      (const char *)member->name.data);
    if ((*has & spec->has) != 0)
        return refuse(wrong, "member \"%s\" comes on top of another of its kind",
                      spec->name);
    *has |= spec->has;
    if (member->is_number != (spec->has == HAS_TTL))
        return refuse(wrong, "member \"%s\" must be a %s", spec->name,
                      spec->has == HAS_TTL ? "number" : "string");
    if (spec->has == HAS_KEY)
        return take_bytes(spec, member->text, &pair->key, wrong);
    if (spec->has == HAS_VALUE)
        return take_bytes(spec, member->text, &pair->value, wrong);
    if (!pair_parse_ttl(member->text, &pair->ttl_ms))
        return refuse(wrong, "ttl_ms must be a whole number from 1 to %" PRIu64,
                      TTL_MS_MAX);
    return true;
}

static bool parse_json(char *line, size_t size, struct pair *pair, char *wrong)
{
    struct json_reader reader;
    struct json_member member;
    enum json_step step;
    unsigned has = 0;

    json_begin(&reader, line, size);
    while ((step = json_next(&reader, &member)) == JSON_MEMBER) {
        if (!take_member(pair, &has, &member, wrong))
            return false;
    }
    if (step == JSON_WRONG)
        return refuse(wrong, "byte %zu: %s", json_column(&reader), reader.wrong);
    if ((has & HAS_KEY) == 0)
        return refuse(wrong, "there is no \"k\" or \"k64\"");
    if ((has & HAS_VALUE) == 0)
        return refuse(wrong, "there is no \"v\" or \"v64\"");
    return true;
}

/* ---- TSV ------------------------------------------------------------------------- */

static bool parse_tsv(char *line, size_t size, struct pair *pair, char *wrong)
{
    char *const tab = memchr(line, '\t', size);
    size_t key_size, value_size;

    if (tab == NULL)
        return refuse(wrong, "neither JSON nor a key, a tab and a value");
    key_size = (size_t)(tab - line);
    value_size = size - key_size - 1;
    if (memchr(tab + 1, '\t', value_size) != NULL)
        return refuse(wrong, "a second tab; one in the value is written \\t");
    if (!tsv_decode(line, key_size, &key_size) ||
        !tsv_decode(tab + 1, value_size, &value_size))
        return refuse(wrong, "a backslash that begins none of \\t \\n \\\\ \\xHH");
    pair->key = tkv_bytes(line, key_size);
    pair->value = tkv_bytes(tab + 1, value_size);
    return true;
}

/* ---- Both ------------------------------------------------------------------------ */

bool pair_parse(char *line, size_t size, struct pair *ret_pair, char *ret_wrong)
{
    const bool is_json = size > 0 && line[0] == '{';
    struct pair pair = {0};

    if (!(is_json ? parse_json : parse_tsv)(line, size, &pair, ret_wrong))
        return false;
    if (!check_sizes(&pair, ret_wrong))
        return false;
    *ret_pair = pair;
    return true;
}

void pair_write_json(FILE *out, const struct pair *pair)
{
    fputc('{', out);
    json_write_bytes(out, "k", pair->key);
    fputc(',', out);
    json_write_bytes(out, "v", pair->value);
    if (pair->ttl_ms != 0)
        fprintf(out, ",\"ttl_ms\":%" PRIu64, pair->ttl_ms);
    fputs("}\n", out);
}

void pair_write_tsv(FILE *out, const struct pair *pair)
{
    tsv_write_first(out, pair->key);
    fputc('\t', out);
    tsv_write(out, pair->value);
    fputc('\n', out);
}
