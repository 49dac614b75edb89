/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as the name of a file in a store's directory. What is taken for the name of a data
 * file or a hint is exactly what the engine itself would write for that number, so no file of
 * anybody else is ever touched.
 */
#include "file_name.h"
#include "fuzz.h"
#include "memory.h"

static void check_name(const char *name)
{
    char printed[TKV_FILE_NAME_SIZE] = "";
    uint64_t number = 0;
    const enum tkv_file_kind kind = tkv_file_name_parse(name, &number);

    switch (kind) {
    case TKV_NAME_DATA:
        tkv_data_name(number, printed);
        break;
    case TKV_NAME_HINT:
        tkv_hint_name(number, printed);
        break;
    case TKV_NAME_LOCK:
    case TKV_NAME_MANIFEST:
    case TKV_NAME_WAL:
    case TKV_NAME_QUARANTINE:
    case TKV_NAME_TEMPORARY:
        FUZZ_CHECK(strlen(name) < TKV_FILE_NAME_SIZE && strchr(name, '/') == NULL);
        return;
    case TKV_NAME_FOREIGN:
        return;
    }
    FUZZ_CHECK(number != 0 && number <= INT64_MAX);
    FUZZ_CHECK(strcmp(printed, name) == 0);
}

static void check_number(uint64_t number)
{
    char name[TKV_FILE_NAME_SIZE];
    uint64_t again = 0;

    if (number == 0 || number > INT64_MAX)
        return;
    tkv_data_name(number, name);
    FUZZ_CHECK(tkv_file_name_parse(name, &again) == TKV_NAME_DATA && again == number);
    tkv_hint_name(number, name);
    FUZZ_CHECK(tkv_file_name_parse(name, &again) == TKV_NAME_HINT && again == number);
    tkv_hint_temporary_name(number, name);
    FUZZ_CHECK(tkv_file_name_parse(name, &again) == TKV_NAME_TEMPORARY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    char *name;

    memory_begin();
    name = malloc(size + 1);
    FUZZ_CHECK(name != NULL);
    if (size > 0)
        memcpy(name, data, size);
    name[size] = 0;
    check_name(name);
    check_number(fuzz_u64(&in));
    free(name);
    memory_end(size + 64);
    return 0;
}
