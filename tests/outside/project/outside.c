/* SPDX-License-Identifier: MIT */
/* outside.c - a program that knows nothing of TinyKv but its header. */
#include <stdio.h>
#include <stdlib.h>
#include <tinykv.h>

static int complain(const struct tkv_error *err)
{
    fprintf(stderr, "outside: %s\n", err->message);
    return 1;
}

static int use(struct tkv_store *store)
{
    struct tkv_error err;
    char value[16];
    size_t size;

    if (tkv_put(store, tkv_text("key"), tkv_text("value"), &err) != TKV_OK ||
        tkv_get(store, tkv_text("key"), value, sizeof value, &size, &err) != TKV_OK)
        return complain(&err);
    printf("%.*s from %s\n", (int)size, value, tkv_version());
    return size == 5 && memcmp(value, "value", 5) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_error err;
    int code;

    if (tkv_open(argc > 1 ? argv[1] : "outside.store", &options, &store, NULL, &err) !=
        TKV_OK)
        return complain(&err);
    code = use(store);
    if (tkv_close(store, &err) != TKV_OK)
        return complain(&err);
    return code;
}
