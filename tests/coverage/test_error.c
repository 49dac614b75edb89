/* SPDX-License-Identifier: MIT */
/* What callers are told: a text for every status, and an errno even where none was given. */
#include "error.h"
#include "test.h"

#include <errno.h>

TEST_MAIN

TEST(every_status_has_a_text_of_its_own)
{
    static const enum tkv_status all[] = {
        TKV_OK,       TKV_NOT_FOUND, TKV_INVALID,    TKV_TOO_BIG, TKV_NO_MEMORY,
        TKV_NO_SPACE, TKV_IO,        TKV_CORRUPT,    TKV_BUSY,    TKV_READ_ONLY,
        TKV_POISONED, TKV_FORKED,    TKV_UNSUPPORTED};
    const size_t count = sizeof all / sizeof all[0];

    for (size_t i = 0; i < count; i++) {
        CHECK(tkv_status_text(all[i])[0] != 0);
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(tkv_status_text(all[i]), tkv_status_text(all[k])) != 0);
    }
    CHECK(tkv_status_text((enum tkv_status)999)[0] != 0);
}

TEST(a_failure_without_an_errno_is_one_of_input_and_output)
{
    struct tkv_error err = {.message = ""};

    CHECK_EQ(tkv_fail_os(&err, 0, "file", "do it"), TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(tkv_fail_lost(&err, 0, "file", "do it"), TKV_IO);
    CHECK_EQ(err.os_errno, EIO);
    CHECK_EQ(tkv_fail_lost(&err, -ENOSPC, "file", "do it"), TKV_IO);
    CHECK_EQ(err.os_errno, ENOSPC);
    CHECK_EQ(tkv_fail_os(NULL, -ENOSPC, "file", "do it"), TKV_NO_SPACE);
}
