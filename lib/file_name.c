/* SPDX-License-Identifier: MIT */
#include "file_name.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DATA_SUFFIX      ".data"
#define HINT_SUFFIX      ".hint"
#define TEMPORARY_SUFFIX ".tmp"

#define NUMBER_END ((uint64_t)1 << 63)

enum { DIGITS_MIN = 10, DIGITS_MAX = 19 };

static_assert(DIGITS_MAX + sizeof HINT_SUFFIX TEMPORARY_SUFFIX <= TKV_FILE_NAME_SIZE,
              "the longest name fits");

static void print_name(uint64_t number, const char *suffix, char out[TKV_FILE_NAME_SIZE])
{
    assert(number != 0);
    assert(number < NUMBER_END);
    snprintf(out, TKV_FILE_NAME_SIZE, "%0*" PRIu64 "%s", DIGITS_MIN, number, suffix);
}

void tkv_data_name(uint64_t number, char out[TKV_FILE_NAME_SIZE])
{
    print_name(number, DATA_SUFFIX, out);
}

void tkv_hint_name(uint64_t number, char out[TKV_FILE_NAME_SIZE])
{
    print_name(number, HINT_SUFFIX, out);
}

void tkv_hint_temporary_name(uint64_t number, char out[TKV_FILE_NAME_SIZE])
{
    print_name(number, HINT_SUFFIX TEMPORARY_SUFFIX, out);
}

/* Exactly what print_name() prints for some number, up to the suffix that is returned; NULL
 * otherwise, so that no file has two names. */
static const char *parse_number(const char *name, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t digits = 0;

    for (; name[digits] >= '0' && name[digits] <= '9'; digits++) {
        if (digits == DIGITS_MAX)
            return NULL;
        number = number * 10 + (uint64_t)(name[digits] - '0');
    }
    if (digits < DIGITS_MIN || (digits > DIGITS_MIN && name[0] == '0'))
        return NULL;
    if (number == 0 || number >= NUMBER_END)
        return NULL;
    *ret_number = number;
    return name + digits;
}

enum tkv_file_kind tkv_file_name_parse(const char *name, uint64_t *ret_number)
{
    static const struct {
        const char *name;
        enum tkv_file_kind kind;
    } fixed[] = {
        {TKV_LOCK_NAME,               TKV_NAME_LOCK      },
        {TKV_MANIFEST_NAME,           TKV_NAME_MANIFEST  },
        {TKV_WAL_NAME,                TKV_NAME_WAL       },
        {TKV_QUARANTINE_NAME,         TKV_NAME_QUARANTINE},
        {TKV_MANIFEST_TEMPORARY_NAME, TKV_NAME_TEMPORARY },
        {TKV_WAL_TEMPORARY_NAME,      TKV_NAME_TEMPORARY },
    };
    const char *suffix;
    uint64_t number;

    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (strcmp(name, fixed[i].name) == 0)
            return fixed[i].kind;
    }
    suffix = parse_number(name, &number);
    if (suffix == NULL)
        return TKV_NAME_FOREIGN;
    if (strcmp(suffix, HINT_SUFFIX TEMPORARY_SUFFIX) == 0)
        return TKV_NAME_TEMPORARY;
    if (strcmp(suffix, DATA_SUFFIX) != 0 && strcmp(suffix, HINT_SUFFIX) != 0)
        return TKV_NAME_FOREIGN;
    *ret_number = number;
    return strcmp(suffix, DATA_SUFFIX) == 0 ? TKV_NAME_DATA : TKV_NAME_HINT;
}
