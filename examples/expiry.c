/* SPDX-License-Identifier: MIT */
/*
 * expiry.c - keys that vanish at an instant: a login that is good for a moment. Expired keys
 * are absent everywhere, and their space is used again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "example.h"

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

int main(int argc, char **argv)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_store *store;
    struct tkv_stats stats;
    struct tkv_error err;
    struct tkv_pin pin;
    const uint64_t expires_at_ms = now_ms() + 300;

    example_check(tkv_open(example_directory(argc, argv), &options, &store, NULL, &err),
                  &err);
    example_check(tkv_put_expiring(store, tkv_text("login/ada"), tkv_text("token 7"),
                                   expires_at_ms, &err),
                  &err);

    if (tkv_get_pinned(store, tkv_text("login/ada"), &pin, &err) == TKV_OK) {
        printf("login/ada is good until %" PRIu64 "\n", pin.expires_at_ms);
        example_expect(pin.expires_at_ms == expires_at_ms, "the instant that was given");
        tkv_unpin(&pin);
    }

    while (now_ms() < expires_at_ms)
        sleep_ms(20);

    example_expect(tkv_exists(store, tkv_text("login/ada"), &err) == TKV_NOT_FOUND,
                   "an absent key once its time has come");
    example_check(tkv_stats(store, &stats, &err), &err);
    printf("now there are %" PRIu64 " keys\n", stats.keys);
    example_expect(argc > 1 || stats.keys == 0, "a count without expired keys");

    example_check(tkv_close(store, &err), &err);
    return 0;
}
