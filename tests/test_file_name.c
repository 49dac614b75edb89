/* SPDX-License-Identifier: MIT */
/*
 * Every file has exactly one name, and every other name belongs to somebody else.
 *
 * Method: print and parse numbers around each change of length; then near misses of each
 * name: cut, extended, in the wrong case.
 */
#include "file_name.h"
#include "test.h"

TEST_MAIN

static const uint64_t untouched = 0x7777777777777777;

static void check_name(const char *name, enum tkv_file_kind kind, uint64_t expected_number)
{
    uint64_t number = untouched;

    if (tkv_file_name_parse(name, &number) != kind)
        fprintf(stderr, "  \"%s\"\n", name);
    CHECK_EQ(tkv_file_name_parse(name, &number), kind);
    CHECK_EQ(number, expected_number);
}

static void check_foreign(const char *name)
{
    check_name(name, TKV_NAME_FOREIGN, untouched);
}

TEST(numbers_come_back_from_their_names)
{
    const uint64_t numbers[] = {1,          9,           10,          123456789,
                                9999999999, 10000000000, 10000000001, 999999999999999999,
                                INT64_MAX};
    char name[TKV_FILE_NAME_SIZE];

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        tkv_data_name(numbers[i], name);
        check_name(name, TKV_NAME_DATA, numbers[i]);
        tkv_hint_name(numbers[i], name);
        check_name(name, TKV_NAME_HINT, numbers[i]);
        tkv_hint_temporary_name(numbers[i], name);
        check_name(name, TKV_NAME_TEMPORARY, untouched);
    }
}

TEST(names_look_as_documented)
{
    char name[TKV_FILE_NAME_SIZE];

    tkv_data_name(1, name);
    CHECK_STR(name, "0000000001.data");
    tkv_hint_name(4294967296, name);
    CHECK_STR(name, "4294967296.hint");
    tkv_hint_temporary_name(INT64_MAX, name);
    CHECK_STR(name, "9223372036854775807.hint.tmp");
}

TEST(fixed_names_are_known)
{
    check_name("LOCK", TKV_NAME_LOCK, untouched);
    check_name("MANIFEST", TKV_NAME_MANIFEST, untouched);
    check_name("wal.log", TKV_NAME_WAL, untouched);
    check_name("quarantine", TKV_NAME_QUARANTINE, untouched);
    check_name("MANIFEST.tmp", TKV_NAME_TEMPORARY, untouched);
    check_name("wal.log.tmp", TKV_NAME_TEMPORARY, untouched);
}

TEST(numbers_have_one_spelling_only)
{
    check_foreign("1.data");
    check_foreign("000000001.data");   /* nine digits */
    check_foreign("00000000001.data"); /* more than needed */
    check_foreign("01234567890.hint");
    check_foreign("0000000000.data");           /* zero */
    check_foreign("9223372036854775808.data");  /* 2^63 */
    check_foreign("18446744073709551616.data"); /* 2^64 */
    check_foreign("18446744073709551617.data");
    check_foreign("99999999999999999999999.data");
    check_foreign("+000000001.data");
    check_foreign("-000000001.data");
    check_foreign(" 000000001.data");
    check_foreign("0x00000001.data");
    check_foreign("00000 0001.data");
}

TEST(near_misses_are_foreign)
{
    static const char *const ours[] = {"LOCK",
                                       "MANIFEST",
                                       "wal.log",
                                       "quarantine",
                                       "MANIFEST.tmp",
                                       "wal.log.tmp",
                                       "0000000001.data",
                                       "0000000001.hint",
                                       "0000000001.hint.tmp"};
    char name[64];

    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        const size_t size = strlen(ours[i]);

        for (size_t cut = 0; cut < size; cut++) {
            snprintf(name, sizeof name, "%.*s", (int)cut, ours[i]);
            if (strcmp(name, "MANIFEST") != 0 && strcmp(name, "wal.log") != 0 &&
                strcmp(name, "0000000001.hint") != 0)
                check_foreign(name);
        }
        snprintf(name, sizeof name, "%s~", ours[i]);
        check_foreign(name);
        snprintf(name, sizeof name, "%s ", ours[i]);
        check_foreign(name);
        snprintf(name, sizeof name, ".%s", ours[i]);
        check_foreign(name);
        for (size_t j = 0; j < size; j++) { /* the other case of each letter, or garbage */
            snprintf(name, sizeof name, "%s", ours[i]);
            name[j] = (char)(name[j] ^ 0x20);
            check_foreign(name);
        }
    }
}

TEST(files_of_others_are_foreign)
{
    check_foreign("");
    check_foreign(".");
    check_foreign("..");
    check_foreign(".nfs0000000001");
    check_foreign("lost+found");
    check_foreign("LOCK.tmp");
    check_foreign("0000000001.data.tmp");
    check_foreign("0000000001");
    check_foreign("0000000001.");
    check_foreign(".hint.tmp");
    check_foreign("abc.hint.tmp");
    check_foreign("000000001.hint.tmp");
    check_foreign("0000000001.hint.tmp.tmp");
    check_foreign("MANIFEST.prev");
    check_foreign("wal.log.1");
}
