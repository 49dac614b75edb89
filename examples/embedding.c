/* SPDX-License-Identifier: MIT */
/* embedding.c - the least that a program needs: open, put, get, close. */
#include <stdio.h>

#include "example.h"

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;
    char value[64];
    size_t size;

    example_check(tkv_open(example_directory(argc, argv), &options, &store, NULL, &err),
                  &err);

    /* On disk when this returns. */
    example_check(tkv_put(store, tkv_text("planet"), tkv_text("earth"), &err), &err);

    example_check(tkv_get(store, tkv_text("planet"), value, sizeof value, &size, &err),
                  &err);
    printf("planet = %.*s\n", (int)size, value);
    example_expect(size == 5 && memcmp(value, "earth", 5) == 0, "the value that was put");

    /* An absent key is a status, not a failure. */
    example_expect(tkv_get(store, tkv_text("moon"), value, sizeof value, &size, NULL) ==
                       TKV_NOT_FOUND,
                   "no moon");

    example_check(tkv_close(store, &err), &err);
    return 0;
}
