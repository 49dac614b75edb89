/* SPDX-License-Identifier: MIT */
/*
 * Deaths at one chosen call, every call in turn: while a store is made, while it recovers from
 * an earlier death, while it is closed. And lives that end without a close.
 */
#include "failpoint.h"
#include "place.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

static bool died_there(int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == FAILPOINT_EXIT)
        return true;
    CHECK_EQ(status, 0);
    return false;
}

static void open_and_close_at(const struct place *place, void *context)
{
    struct tkv_store *store = place_open_on(place, failpoint_os(context));

    place_close(store);
}

#define WHOLE_KEYS 8u

static void expect_whole(struct tkv_store *store)
{
    char key[16];

    for (unsigned i = 0; i < WHOLE_KEYS; i++) {
        snprintf(key, sizeof key, "whole %u", i);
        place_expect(store, key, 1000);
    }
}

/* Records that half a block holds, and one that it does not. */
static void put_large_at(const struct place *place, void *context)
{
    struct tkv_store *store = place_open_on(place, failpoint_os(context));
    char key[16];

    for (unsigned i = 0; i < WHOLE_KEYS; i++) {
        snprintf(key, sizeof key, "whole %u", i);
        place_put(store, key, 1000);
    }
    place_put(store, "torn", 9000); /* three blocks */
    _exit(0);                       /* not closed */
}

/* A death in the middle of some write leaves a torn tail: that is the one wanted. */
static void tear(const struct place *place)
{
    unsigned writes = 1;
    int status;

    for (;; writes++) {
        char spec[FAILPOINT_SPEC_SIZE];
        struct tkv_store *store;
        struct tkv_open_report report;
        struct place readers = *place;
        struct tkv_error err;

        snprintf(spec, sizeof spec, "write:%u:middle", writes);
        status = place_in_child(place, put_large_at, spec);
        CHECK(died_there(status)); /* some write tears the log */
        readers.options.read_only = true;
        if (tkv_open(place->path, &readers.options, &store, &report, &err) != TKV_OK)
            continue;
        place_close(store);
        if (report.bytes_cut > 0)
            return;
    }
}

/* All n-th calls of one name, until there are no more. Returns how many there were. */
static unsigned die_at_each(struct place *place, const char *name,
                            void (*prepare)(struct place *place),
                            void (*look)(struct place *place))
{
    static const char *const moments[] = {"before", "middle", "after"};
    char spec[FAILPOINT_SPEC_SIZE];
    unsigned n = 1;

    for (bool reached = true; reached; n++) {
        for (unsigned m = 0; m < 3 && reached; m++) {
            if (m == 1 && strcmp(name, "write") != 0 && strcmp(name, "store") != 0)
                continue; /* has no middle */
            prepare(place);
            snprintf(spec, sizeof spec, "%s:%u:%s", name, n, moments[m]);
            reached = died_there(place_in_child(place, open_and_close_at, spec));
            look(place);
        }
    }
    return n - 2;
}

static void die_everywhere(void (*prepare)(struct place *place),
                           void (*look)(struct place *place), const char *must_reach)
{
    struct place place = place_new();

    for (unsigned i = 0; i < FAILPOINT_NAMES; i++) {
        const char *name = failpoint_name(i);
        const unsigned count = die_at_each(&place, name, prepare, look);

        if (strstr(must_reach, name) != NULL)
            CHECK(count > 0);
    }
    place_free(&place);
}

static void make_empty(struct place *place)
{
    place_free(place);
    *place = place_new();
}

static void look_for_empty(struct place *place)
{
    struct tkv_store *store = place_open(place);

    place_expect_absent(store, "one");
    place_put(store, "one", 10);
    place_expect(store, "one", 10);
    place_verify(store);
    place_close(store);
}

TEST(a_death_at_any_call_while_a_store_is_made_leaves_one_or_none)
{
    die_everywhere(make_empty, look_for_empty,
                   "open_dir open sync sync_dir rename write lock random");
}

/* Torn once, copied for each death. */
static void make_torn(struct place *place)
{
    char command[1000], torn[250];

    snprintf(torn, sizeof torn, "%s/torn", place->parent);
    if (access(torn, F_OK) != 0) {
        place_fill(place);
        tear(place);
        CHECK_EQ(rename(place->path, torn), 0);
    }
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", place->path, torn,
             place->path);
    CHECK_EQ(system(command), 0);
}

static void look_for_filled(struct place *place)
{
    struct tkv_store *store = place_open(place);

    place_expect_filled(store);
    expect_whole(store);
    place_put(store, "one", 10);
    place_close(store);
    store = place_open(place);
    place_expect_filled(store);
    place_expect(store, "one", 10);
    place_close(store);
}

TEST(a_death_at_any_call_of_a_recovery_changes_nothing)
{
    die_everywhere(make_torn, look_for_filled,
                   "open_dir open_dir_at open sync sync_dir rename write lock random read");
}

static void open_and_tear(const struct place *place, void *context)
{
    (void)context;
    tear(place);
}

TEST(ten_deaths_in_recovery_one_after_another_change_nothing)
{
    struct place place = place_new();

    place_fill(&place);
    CHECK_EQ(place_in_child(&place, open_and_tear, NULL), 0);
    for (unsigned n = 1; n <= 10; n++) {
        char spec[FAILPOINT_SPEC_SIZE];

        snprintf(spec, sizeof spec, "write:%u:middle", n % 3 + 1);
        CHECK(died_there(place_in_child(&place, open_and_close_at, spec)));
    }
    look_for_filled(&place);
    place_free(&place);
}

/* ---- Locks and lives without an end ------------------------------------------------------- */

TEST(who_dies_right_after_locking_leaves_no_lock)
{
    struct place place = place_new();
    char spec[] = "lock:1:after";
    struct tkv_store *store;

    place_fill(&place);
    CHECK(died_there(place_in_child(&place, open_and_close_at, spec)));
    store = place_open(&place);
    place_expect_filled(store);
    place_close(store);
    place_free(&place);
}

static void put_and_exit(const struct place *place, void *context)
{
    struct tkv_store *store = place_open(place);
    const bool *kills = context;

    place_put(store, "one", 1000);
    if (*kills)
        (void)kill(getpid(), SIGKILL);
    exit(0); /* with the handlers of exit(), but no close */
}

TEST(without_a_close_everything_acknowledged_is_there_in_every_mode)
{
    static const enum tkv_durability modes[] = {
        TKV_DURABILITY_ALWAYS, TKV_DURABILITY_INTERVAL, TKV_DURABILITY_NONE};

    for (unsigned i = 0; i < 12; i++) {
        struct place place = place_new();
        struct tkv_store *store;
        bool kills = i % 2 == 1;

        place.options.durability = modes[i / 2 % 3];
        place.options.background = i >= 6;
        place_fill(&place);
        CHECK_EQ(place_in_child(&place, put_and_exit, &kills), kills ? SIGKILL : 0);
        store = place_open(&place); /* at once: the lock went with its holder */
        place_expect(store, "one", 1000);
        place_expect_filled(store);
        place_close(store);
        place_free(&place);
    }
}
