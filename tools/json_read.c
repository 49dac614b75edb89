/* SPDX-License-Identifier: MIT */
#include "json_read.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "utf8.h"

void json_begin(struct json_reader *reader, char *bytes, size_t size)
{
    *reader = (struct json_reader){.begin = bytes, .at = bytes, .end = bytes + size};
}

static bool refuse(struct json_reader *reader, const char *wrong)
{
    reader->wrong = wrong;
    return false;
}

static void skip_space(struct json_reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t' ||
                                        *reader->at == '\r' || *reader->at == '\n'))
        reader->at++;
}

/* Step over white space and then `c`, if that is what follows. */
static bool take(struct json_reader *reader, char c)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != c)
        return false;
    reader->at++;
    return true;
}

/* ---- Strings --------------------------------------------------------------------- */

static bool read_hex4(struct json_reader *reader, uint32_t *ret_unit)
{
    uint32_t unit = 0;

    if (reader->end - reader->at < 4)
        return refuse(reader, "\\u needs four hexadecimal digits");
    for (int i = 0; i < 4; i++) {
        const char c = *reader->at++;

        unit <<= 4;
        if (c >= '0' && c <= '9')
            unit |= (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            unit |= (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            unit |= (uint32_t)(c - 'A') + 10;
        else
            return refuse(reader, "\\u needs four hexadecimal digits");
    }
    *ret_unit = unit;
    return true;
}

static bool is_surrogate(uint32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdfff;
}

/* Behind "\u": one unit, or two that are a surrogate pair. */
static bool read_code_point(struct json_reader *reader, uint32_t *ret_code_point)
{
    uint32_t low;

    if (!read_hex4(reader, ret_code_point))
        return false;
    if (!is_surrogate(*ret_code_point))
        return true;
    if (*ret_code_point >= 0xdc00 || reader->end - reader->at < 2 ||
        reader->at[0] != '\\' || reader->at[1] != 'u')
        return refuse(reader, "a surrogate without its other half");
    reader->at += 2;
    if (!read_hex4(reader, &low))
        return false;
    if (low < 0xdc00 || low > 0xdfff)
        return refuse(reader, "a surrogate without its other half");
    *ret_code_point = 0x10000 + ((*ret_code_point - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

/* Behind a backslash; writes what it stands for and returns the end of that, or NULL. */
static uint8_t *read_escape(struct json_reader *reader, uint8_t *out)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char c = reader->at < reader->end ? *reader->at++ : '\0';
    const char *letter = c == '\0' ? NULL : strchr(letters, c);
    uint32_t code_point;

    if (letter != NULL) {
        *out = (uint8_t)meanings[letter - letters];
        return out + 1;
    }
    if (c != 'u') {
        (void)refuse(reader, "a backslash before something that is not an escape");
        return NULL;
    }
    if (!read_code_point(reader, &code_point))
        return NULL;
    return out + utf8_encode(code_point, out);
}

/* Copy the bytes up to the next quote, backslash or control character down to `out`. */
static uint8_t *copy_plain(struct json_reader *reader, uint8_t *out)
{
    while (reader->at < reader->end) {
        const uint8_t *bytes = (const uint8_t *)reader->at;
        size_t size;

        if (*bytes == '"' || *bytes == '\\' || *bytes < 0x20)
            break;
        size = utf8_sequence(bytes, (size_t)(reader->end - reader->at));
        if (size == 0) {
            (void)refuse(reader, "invalid UTF-8 (use k64 or v64 for such bytes)");
            return NULL;
        }
        for (size_t i = 0; i < size; i++)
            *out++ = bytes[i];
        reader->at += size;
    }
    return out;
}

static bool read_string(struct json_reader *reader, struct tkv_slice *ret_text)
{
    uint8_t *const begin = (uint8_t *)reader->at;
    uint8_t *out = begin;

    for (;;) {
        out = copy_plain(reader, out);
        if (out == NULL)
            return false;
        if (reader->at == reader->end)
            return refuse(reader, "the line ends inside a string");
        if (*reader->at == '"')
            break;
        if (*reader->at != '\\')
            return refuse(reader, "a control character in a string; escape it");
        reader->at++;
        out = read_escape(reader, out);
        if (out == NULL)
            return false;
        assert(out <= (uint8_t *)reader->at);
    }
    reader->at++;
    *ret_text = tkv_bytes(begin, (size_t)(out - begin));
    return true;
}

/* ---- Numbers --------------------------------------------------------------------- */

static bool skip_digits(struct json_reader *reader)
{
    const char *const begin = reader->at;

    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return reader->at > begin || refuse(reader, "a number without digits");
}

static bool skip_one_of(struct json_reader *reader, const char *characters)
{
    if (reader->at == reader->end || *reader->at == '\0' ||
        strchr(characters, *reader->at) == NULL)
        return false;
    reader->at++;
    return true;
}

static bool read_number(struct json_reader *reader, struct tkv_slice *ret_text)
{
    const char *const begin = reader->at;

    (void)skip_one_of(reader, "-");
    if (!skip_one_of(reader, "0") && !skip_digits(reader))
        return false;
    if (skip_one_of(reader, ".") && !skip_digits(reader))
        return false;
    if (skip_one_of(reader, "eE")) {
        (void)skip_one_of(reader, "+-");
        if (!skip_digits(reader))
            return false;
    }
    *ret_text = tkv_bytes(begin, (size_t)(reader->at - begin));
    return true;
}

/* ---- Objects --------------------------------------------------------------------- */

static bool read_value(struct json_reader *reader, struct json_member *member)
{
    skip_space(reader);
    if (take(reader, '"'))
        return read_string(reader, &member->text);
    if (reader->at < reader->end &&
        (*reader->at == '-' || (*reader->at >= '0' && *reader->at <= '9'))) {
        member->is_number = true;
        return read_number(reader, &member->text);
    }
    return refuse(reader, "a value that is neither a string nor a number");
}

static bool read_member(struct json_reader *reader, struct json_member *member)
{
    *member = (struct json_member){0};
    if (!take(reader, '"'))
        return refuse(reader, "the name of a member is missing");
    if (!read_string(reader, &member->name))
        return false;
    if (!take(reader, ':'))
        return refuse(reader, "':' is missing");
    return read_value(reader, member);
}

static enum json_step finish(struct json_reader *reader)
{
    skip_space(reader);
    if (reader->at == reader->end)
        return JSON_END;
    (void)refuse(reader, "something follows the object");
    return JSON_WRONG;
}

enum json_step json_next(struct json_reader *reader, struct json_member *ret_member)
{
    const bool is_first = reader->at == reader->begin;

    if (is_first && !take(reader, '{')) {
        (void)refuse(reader, "'{' is missing");
        return JSON_WRONG;
    }
    if (take(reader, '}'))
        return finish(reader);
    if (!is_first && !take(reader, ',')) {
        (void)refuse(reader, "',' or '}' is missing");
        return JSON_WRONG;
    }
    return read_member(reader, ret_member) ? JSON_MEMBER : JSON_WRONG;
}
