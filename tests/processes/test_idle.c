/* SPDX-License-Identifier: MIT */
/*
 * What the flusher does when nobody calls any more: it syncs what mode INTERVAL has promised,
 * and says in the log's header how far an idle log is on disk. Waited for without a limit;
 * the watchdog ends what never comes.
 */
#include "place.h"

#include <time.h>
#include <unistd.h>

TEST_MAIN

#define WATCHDOG_SECONDS 120u

static void pause_1_ms(void)
{
    (void)nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* How far the log is on disk, and how far it goes. */
static bool is_synced(struct tkv_store *store)
{
    struct tkv_wal_state state;

    tkv_wal_state(&store->wal, &state);
    return state.durable >= state.head_position;
}

static bool is_marked(struct tkv_store *store)
{
    struct tkv_wal_state state;
    uint64_t marked;

    tkv_wal_state(&store->wal, &state);
    tkv_mutex_lock(&store->upkeep);
    marked = store->marked;
    tkv_mutex_unlock(&store->upkeep);
    return marked >= state.head_position;
}

static void put_last_and_wait(enum tkv_durability durability,
                              bool (*is_done)(struct tkv_store *store))
{
    struct place place = place_new();
    struct tkv_store *store;

    place.options.background = true;
    place.options.durability = durability;
    place.options.interval_ms = 5;
    store = place_open(&place);
    (void)alarm(WATCHDOG_SECONDS);
    for (unsigned i = 0; i < 3; i++) {
        place_put(store, "last", 100 + i);
        while (!is_done(store))
            pause_1_ms();
    }
    (void)alarm(0);
    place_close(store);
    place_free(&place);
}

TEST(the_last_write_is_synced_after_the_interval_without_another_call)
{
    put_last_and_wait(TKV_DURABILITY_INTERVAL, is_synced);
}

TEST(an_idle_log_is_marked_without_another_call)
{
    put_last_and_wait(TKV_DURABILITY_ALWAYS, is_marked);
    put_last_and_wait(TKV_DURABILITY_INTERVAL, is_marked);
}
