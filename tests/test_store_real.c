/* SPDX-License-Identifier: MIT */
/*
 * What tinykv.h promises where threads, processes and bulk are the subject: a store on the
 * real disk. The other test_store*.c have the rest, on the simulated one.
 */
#include "store_checks.h"

#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

static struct tkv_error err;

struct place {
    char directory[64];
    struct tkv_options options;
    struct tkv_store *store;
};

static struct place begin_real(void)
{
    struct place p = {.directory = "/tmp/tkv-test-store-XXXXXX",
                      .options = TKV_OPTIONS_DEFAULT};

    CHECK(mkdtemp(p.directory) != NULL);
    return p;
}

static void reopen_real(struct place *p)
{
    if (p->store != NULL)
        CHECK_OK(tkv_close(p->store, &err));
    p->store = NULL;
    CHECK_OK(tkv_open(p->directory, &p->options, &p->store, NULL, &err));
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    char name[400];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) != 0)
            remove_tree(name);
    }
    if (dir != NULL)
        (void)closedir(dir);
    (void)rmdir(path);
}

static void end_real(struct place *p)
{
    if (p->store != NULL)
        CHECK_OK(tkv_close(p->store, &err));
    remove_tree(p->directory);
}

TEST(a_value_of_100_mb_makes_the_round_trip)
{
    const size_t size = 100u * 1000 * 1000 + 13;
    struct place p = begin_real();
    uint8_t *value = malloc(size);
    struct tkv_pin pin;
    void *copy;
    size_t got;

    CHECK(value != NULL);
    fill(value, size, 5);
    reopen_real(&p);
    CHECK_OK(tkv_put(p.store, tkv_text("big"), tkv_bytes(value, size), &err));
    CHECK_OK(tkv_put(p.store, tkv_text("small"), tkv_text("v"), &err));
    for (int i = 0; i < 2; i++) {
        CHECK_OK(tkv_get_copy(p.store, tkv_text("big"), &copy, &got, &err));
        CHECK_EQ(got, size);
        CHECK(memcmp(copy, value, size) == 0);
        tkv_free(copy);
        CHECK_OK(tkv_get_pinned(p.store, tkv_text("big"), &pin, &err));
        CHECK_EQ(pin.value.size, size);
        CHECK(memcmp(pin.value.data, value, size) == 0);
        tkv_unpin(&pin);
        reopen_real(&p);
    }
    CHECK_OK(tkv_delete(p.store, tkv_text("big"), NULL, &err));
    CHECK_OK(tkv_compact(p.store, NULL, &err));
    CHECK_EQ(tkv_exists(p.store, tkv_text("big"), &err), TKV_NOT_FOUND);
    {
        struct tkv_stats stats;

        CHECK_OK(tkv_stats(p.store, &stats, &err));
        CHECK(stats.disk_bytes < 1000 * 1000);
    }
    free(value);
    end_real(&p);
}

TEST(compression_saves_space_and_returns_the_same_bytes)
{
    struct place p = begin_real();
    static uint8_t value[30000], got[30000];
    struct tkv_stats stats;
    char key[16];
    size_t size;

    p.options.compress_level = 3;
    p.options.durability = TKV_DURABILITY_NONE;
    reopen_real(&p);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%u", i);
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)(k / 64 + i);
        CHECK_OK(tkv_put(p.store, tkv_text(key), tkv_bytes(value, sizeof value - i), &err));
    }
    reopen_real(&p);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%u", i);
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = (uint8_t)(k / 64 + i);
        CHECK_OK(tkv_get(p.store, tkv_text(key), got, sizeof got, &size, &err));
        CHECK_EQ(size, sizeof value - i);
        CHECK(memcmp(got, value, size) == 0);
    }
    CHECK_OK(tkv_stats(p.store, &stats, &err));
    CHECK(stats.disk_bytes < 3u * 1000 * 1000);
    check_verifies(p.store);
    end_real(&p);
}

TEST(a_forked_child_cannot_use_the_store_and_cannot_harm_it)
{
    struct place p = begin_real();
    char byte;
    size_t size;
    pid_t child;
    int outcome;

    reopen_real(&p);
    CHECK_OK(tkv_put(p.store, tkv_text("k"), tkv_text("v"), &err));
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct tkv_stats stats;

        if (tkv_put(p.store, tkv_text("k"), tkv_text("x"), NULL) != TKV_FORKED ||
            tkv_get(p.store, tkv_text("k"), &byte, 1, &size, NULL) != TKV_FORKED ||
            tkv_delete(p.store, tkv_text("k"), NULL, NULL) != TKV_FORKED ||
            tkv_exists(p.store, tkv_text("k"), NULL) != TKV_FORKED ||
            tkv_sync(p.store, NULL) != TKV_FORKED ||
            tkv_compact(p.store, NULL, NULL) != TKV_FORKED ||
            tkv_stats(p.store, &stats, NULL) != TKV_FORKED)
            _exit(1);
        (void)tkv_close(p.store, NULL);
        _exit(0);
    }
    CHECK(waitpid(child, &outcome, 0) == child);
    CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    CHECK_OK(tkv_put(p.store, tkv_text("l"), tkv_text("w"), &err));
    {
        struct tkv_store *second;

        CHECK_EQ(tkv_open(p.directory, &p.options, &second, NULL, &err), TKV_BUSY);
    }
    reopen_real(&p);
    CHECK_OK(tkv_get(p.store, tkv_text("k"), &byte, 1, &size, &err));
    CHECK_EQ(byte, 'v');
    CHECK_OK(tkv_exists(p.store, tkv_text("l"), &err));
    end_real(&p);
}

/* ---- Threads ---------------------------------------------------------------------------------------------------------- */

#define WRITERS          4u
#define KEYS_EACH        50u
#define THREAD_VALUE_MAX 2000u

struct shared {
    struct tkv_store *store;
    _Atomic unsigned acked[WRITERS]
                          [KEYS_EACH]; /* version plus one; an odd multiple of ... */
    atomic_bool stop;
    unsigned rounds;
};

struct worker {
    struct shared *shared;
    unsigned number;
};

static size_t thread_value(unsigned writer, unsigned key, unsigned version, uint8_t *value)
{
    const uint64_t seed = mix((uint64_t)writer << 48 | (uint64_t)key << 32 | version);
    const size_t size = 8 + seed % (THREAD_VALUE_MAX - 8);

    fill(value, size, seed);
    memcpy(value, &version, sizeof version);
    return size;
}

/* Versions of a key count up; each seventh is a delete. */
static void *write_many(void *context)
{
    const struct worker *w = context;
    struct shared *s = w->shared;
    uint8_t value[THREAD_VALUE_MAX];
    struct tkv_error error;
    char key[32];

    for (unsigned version = 0; version < s->rounds; version++) {
        for (unsigned k = 0; k < KEYS_EACH; k++) {
            const size_t size = thread_value(w->number, k, version, value);
            enum tkv_status status;

            snprintf(key, sizeof key, "w%u-%u", w->number, k);
            status = version % 7 == 6
                         ? tkv_delete(s->store, tkv_text(key), NULL, &error)
                         : tkv_put(s->store, tkv_text(key), tkv_bytes(value, size), &error);
            if (status != TKV_OK) {
                fprintf(stderr, "  %s\n", error.message);
                abort();
            }
            atomic_store(&s->acked[w->number][k], version + 1);
        }
    }
    return NULL;
}

static void check_thread_value(unsigned writer, unsigned k, const uint8_t *value,
                               size_t size, unsigned least)
{
    uint8_t wanted[THREAD_VALUE_MAX];
    unsigned version;

    CHECK(size >= 8);
    memcpy(&version, value, sizeof version);
    CHECK(version + 1 >= least);
    CHECK_EQ(thread_value(writer, k, version, wanted), size);
    CHECK(memcmp(wanted, value, size) == 0);
}

/* Not there yet, or one of the versions between is a delete; `after` may be under way. */
static bool may_be_absent(unsigned before, unsigned after)
{
    bool any = before == 0;

    for (unsigned version = before == 0 ? 0 : before - 1; version <= after; version++)
        any |= version % 7 == 6;
    return any;
}

static void *read_many(void *context)
{
    const struct worker *w = context;
    struct shared *s = w->shared;
    uint8_t value[THREAD_VALUE_MAX];
    struct tkv_error error;
    uint64_t random = w->number;
    char key[32];

    while (!atomic_load(&s->stop)) {
        const unsigned writer = (unsigned)(mix(++random) % WRITERS);
        const unsigned k = (unsigned)(mix(++random) % KEYS_EACH);
        const unsigned before = atomic_load(&s->acked[writer][k]);
        size_t size;
        enum tkv_status status;

        snprintf(key, sizeof key, "w%u-%u", writer, k);
        status = tkv_get(s->store, tkv_text(key), value, sizeof value, &size, &error);
        if (status == TKV_OK) {
            check_thread_value(writer, k, value, size, before);
        } else {
            CHECK_EQ(status, TKV_NOT_FOUND);
            CHECK(may_be_absent(before, atomic_load(&s->acked[writer][k])));
        }
        status = tkv_exists(s->store, tkv_text(key), &error);
        CHECK(status == TKV_OK || may_be_absent(before, atomic_load(&s->acked[writer][k])));
        if (random % 4096 == 0)
            (void)count_iterated(s->store);
    }
    return NULL;
}

static void *compact_many(void *context)
{
    struct shared *s = ((struct worker *)context)->shared;

    while (!atomic_load(&s->stop))
        CHECK_EQ(tkv_compact(s->store, NULL, NULL), TKV_OK);
    return NULL;
}

static void check_all_threads_values(const struct shared *s, struct tkv_store *store)
{
    uint8_t value[THREAD_VALUE_MAX];
    char key[32];
    size_t size, live = 0;

    for (unsigned writer = 0; writer < WRITERS; writer++) {
        for (unsigned k = 0; k < KEYS_EACH; k++) {
            const unsigned acked = s->acked[writer][k];
            enum tkv_status status;

            snprintf(key, sizeof key, "w%u-%u", writer, k);
            status = tkv_get(store, tkv_text(key), value, sizeof value, &size, &err);
            CHECK_EQ(status, acked % 7 == 0 ? TKV_NOT_FOUND : TKV_OK);
            if (status == TKV_OK)
                check_thread_value(writer, k, value, size, acked);
            live += status == TKV_OK;
        }
    }
    CHECK_EQ(count_iterated(store), live);
    check_verifies(store);
}

static void run_threads(enum tkv_durability durability, uint32_t idle_poll_us,
                        unsigned rounds)
{
    struct place p = begin_real();
    static struct shared s;
    pthread_t threads[WRITERS + 3];
    struct worker workers[WRITERS + 3];

    memset(&s, 0, sizeof s);
    p.options.durability = durability;
    p.options.idle_poll_us = idle_poll_us;
    p.options.wal_size_max = 1024 * 1024;
    p.options.data_file_size_min = 128 * 1024;
    p.options.compact_size_min = 256 * 1024;
    reopen_real(&p);
    s.store = p.store;
    s.rounds = rounds;
    for (unsigned i = 0; i < WRITERS + 3; i++) {
        workers[i] = (struct worker){&s, i};
        CHECK(pthread_create(&threads[i], NULL,
                             i < WRITERS       ? write_many
                             : i < WRITERS + 2 ? read_many
                                               : compact_many,
                             &workers[i]) == 0);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    atomic_store(&s.stop, true);
    for (unsigned i = WRITERS; i < WRITERS + 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    check_all_threads_values(&s, p.store);
    reopen_real(&p);
    check_all_threads_values(&s, p.store);
    end_real(&p);
}

TEST(threads_see_what_was_acknowledged_with_durable_writes)
{
    run_threads(TKV_DURABILITY_ALWAYS, 0, 40);
}

TEST(threads_see_what_was_acknowledged_with_relaxed_writes)
{
    run_threads(TKV_DURABILITY_NONE, 0, 200);
}

TEST(threads_see_what_was_acknowledged_while_a_processor_is_kept_awake)
{
    run_threads(TKV_DURABILITY_ALWAYS, 200, 40);
}

TEST(a_processor_is_kept_awake_for_durable_writes_in_the_background_alone)
{
    struct place p = begin_real();

    p.options.idle_poll_us = 50;
    for (unsigned i = 0; i < 4; i++) {
        const bool always = i % 2 == 0, background = i / 2 == 0;

        p.options.durability = always ? TKV_DURABILITY_ALWAYS : TKV_DURABILITY_NONE;
        p.options.background = background;
        reopen_real(&p);
        for (unsigned n = 0; n < 8; n++) /* by then the thread is alone with it */
            CHECK_OK(tkv_put(p.store, tkv_text("k"), tkv_text("v"), &err));
        CHECK_EQ(p.store->idle_poll.started, always && background);
        CHECK_EQ(atomic_load(&p.store->idle_poll.nudges), always && background);
    }
    end_real(&p);
}
