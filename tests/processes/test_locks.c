/* SPDX-License-Identifier: MIT */
/*
 * Who may have a store open, and what becomes of its lock: two processes, two paths, two copies
 * of the library, children that fork and exec, openers by the dozen.
 */
#include "place.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

static enum tkv_status try_open(const char *path, const struct tkv_options *options)
{
    struct tkv_store *store;
    struct tkv_error err;
    const enum tkv_status status = tkv_open(path, options, &store, NULL, &err);

    if (status == TKV_OK)
        place_close(store);
    return status;
}

/* ---- Two of them ------------------------------------------------------------------------- */

static void expect_busy(const struct place *place, void *context)
{
    struct tkv_options reading = place->options;

    (void)context;
    reading.read_only = true;
    CHECK_EQ(try_open(place->path, &place->options), TKV_BUSY);
    CHECK_EQ(try_open(place->path, &reading), TKV_BUSY);
}

TEST(another_process_is_refused_and_touches_nothing)
{
    struct place place = place_new();
    struct tkv_store *store;
    uint64_t before;

    place_fill(&place);
    store = place_open(&place);
    before = place_hash(&place);
    CHECK_EQ(place_in_child(&place, expect_busy, NULL), 0);
    CHECK_EQ(place_hash(&place), before);
    place_expect_filled(store);
    place_close(store);
    place_free(&place);
}

static void expect_writer_is_refused(const struct place *place, void *context)
{
    (void)context;
    CHECK_EQ(try_open(place->path, &place->options), TKV_BUSY);
}

/* A file that belongs to nobody is a leftover that only a writer may remove. */
TEST(a_reader_keeps_writers_out_and_removes_nothing_when_it_closes)
{
    struct place place = place_new();
    struct tkv_options reading = place.options;
    struct tkv_store *store;
    struct tkv_error err;
    char leftover[300];
    uint64_t before;
    int fd;

    place_fill(&place);
    snprintf(leftover, sizeof leftover, "%s/0000000999.data", place.path);
    fd = open(leftover, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    before = place_hash(&place);
    reading.read_only = true;
    CHECK_OK(tkv_open(place.path, &reading, &store, NULL, &err));
    CHECK_EQ(place_in_child(&place, expect_writer_is_refused, NULL), 0);
    place_expect_filled(store);
    place_close(store);
    CHECK_EQ(place_hash(&place), before);
    store = place_open(&place);
    CHECK(access(leftover, F_OK) != 0);
    place_close(store);
    place_free(&place);
}

/* ---- Two paths --------------------------------------------------------------------------- */

/* In a mount table of its own, which goes with the child. 77: not allowed here. */
static void expect_busy_through_a_bind_mount(const struct place *place, void *context)
{
    char other[300];
    struct tkv_store *store;

    (void)context;
    snprintf(other, sizeof other, "%s/other", place->parent);
    CHECK_EQ(mkdir(other, 0700), 0);
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(place->path, other, NULL, MS_BIND, NULL) != 0)
        _exit(77);
    store = place_open(place);
    CHECK_EQ(try_open(other, &place->options), TKV_BUSY);
    place_close(store);
    CHECK_EQ(try_open(other, &place->options), TKV_OK);
}

TEST(no_other_path_leads_around_the_lock)
{
    struct place place = place_new();
    struct tkv_store *store;
    char path[500], lock[300];
    int status;

    place_fill(&place);
    store = place_open(&place);
    snprintf(path, sizeof path, "%s/link", place.parent);
    CHECK_EQ(symlink(place.path, path), 0);
    CHECK_EQ(try_open(path, &place.options), TKV_BUSY);
    snprintf(path, sizeof path, "%s/../store/.", place.path);
    CHECK_EQ(try_open(path, &place.options), TKV_BUSY);
    snprintf(lock, sizeof lock, "%s/LOCK", place.path);
    snprintf(path, sizeof path, "%s/lock", place.parent);
    CHECK_EQ(link(lock, path), 0);
    CHECK_EQ(try_open(place.path, &place.options), TKV_BUSY);
    /* A lock file that somebody removes must not let a second one of this process in. */
    CHECK_EQ(unlink(lock), 0);
    CHECK_EQ(try_open(place.path, &place.options), TKV_BUSY);
    place_close(store);
    status = place_in_child(&place, expect_busy_through_a_bind_mount, NULL);
    CHECK(status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 77));
    if (status != 0)
        puts("  (without bind mounts, which are not allowed here)");
    store = place_open(&place);
    place_expect_filled(store);
    place_close(store);
    place_free(&place);
}

/* ---- Two copies of the library ----------------------------------------------------------- */

typedef enum tkv_status open_fn(const char *directory, const struct tkv_options *options,
                                struct tkv_store **ret_store,
                                struct tkv_open_report *ret_report, struct tkv_error *err);
typedef enum tkv_status close_fn(struct tkv_store *store, struct tkv_error *err);

TEST(two_copies_of_the_library_in_one_process_exclude_each_other)
{
    struct place place = place_new();
    const char *path = getenv("TKV_SHARED_LIBRARY");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct tkv_store *store, *other;
    struct tkv_error err;
    open_fn *open_other;
    close_fn *close_other;

    if (library == NULL) {
        puts("  (skipped: TKV_SHARED_LIBRARY does not name it)");
        place_free(&place);
        return;
    }
    open_other = (open_fn *)(uintptr_t)dlsym(library, "tkv_open");
    close_other = (close_fn *)(uintptr_t)dlsym(library, "tkv_close");
    CHECK(open_other != NULL && close_other != NULL && open_other != tkv_open);
    place_fill(&place);
    store = place_open(&place);
    CHECK_EQ(open_other(place.path, &place.options, &other, NULL, &err), TKV_BUSY);
    place_close(store);
    CHECK_OK(open_other(place.path, &place.options, &other, NULL, &err));
    CHECK_EQ(try_open(place.path, &place.options), TKV_BUSY);
    CHECK_OK(close_other(other, &err));
    CHECK_EQ(try_open(place.path, &place.options), TKV_OK);
    CHECK_EQ(dlclose(library), 0);
    place_free(&place);
}

/* ---- Fork and exec ----------------------------------------------------------------------- */

/* Fails when a descriptor above 2 leads into the store's directory. */
static void exec_and_list(const struct place *place, void *context)
{
    char script[600];

    (void)context;
    snprintf(script, sizeof script, "! ls -l /proc/self/fd/ | grep -F '%s'", place->parent);
    (void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
}

TEST(a_program_that_is_executed_inherits_no_descriptor)
{
    struct place place = place_new();
    struct tkv_store *store;

    place_fill(&place);
    store = place_open(&place);
    place_expect(store, "large", 50000);
    CHECK_EQ(place_in_child(&place, exec_and_list, NULL), 0);
    place_close(store);
    place_free(&place);
}

struct family {
    int ready[2]; /* closed by the grandchild's exec */
    int told[2];  /* the grandchild's pid */
};

static void exec_sleep(const struct place *place, void *context)
{
    (void)place, (void)context;
    (void)execl("/bin/sleep", "sleep", "60", (char *)NULL);
}

static void open_fork_and_die(const struct place *place, void *context)
{
    struct family *family = context;
    struct tkv_store *store = place_open(place);
    pid_t grandchild;
    char byte;

    place_put(store, "one", 1000);
    grandchild = place_start_child(place, exec_sleep, NULL);
    CHECK(write(family->told[1], &grandchild, sizeof grandchild) == sizeof grandchild);
    CHECK_EQ(close(family->ready[1]), 0);
    CHECK_EQ(read(family->ready[0], &byte, 1), 0); /* the grandchild has executed */
    (void)kill(getpid(), SIGKILL);
}

TEST(a_killed_holders_lock_does_not_live_on_in_a_program_that_it_started)
{
    struct place place = place_new();
    struct family family;
    struct tkv_store *store;
    pid_t grandchild = 0, child;
    int status;

    place_fill(&place);
    CHECK_EQ(pipe2(family.ready, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(family.told, O_CLOEXEC), 0);
    child = place_start_child(&place, open_fork_and_die, &family);
    CHECK_EQ(close(family.ready[1]), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, SIGKILL);
    CHECK(read(family.told[0], &grandchild, sizeof grandchild) == sizeof grandchild);
    CHECK_EQ(kill(grandchild, 0), 0); /* it is alive */
    store = place_open(&place);
    place_expect(store, "one", 1000);
    place_close(store);
    CHECK_EQ(kill(grandchild, SIGKILL), 0);
    CHECK_EQ(close(family.ready[0]), 0);
    CHECK_EQ(close(family.told[0]), 0);
    CHECK_EQ(close(family.told[1]), 0);
    place_free(&place);
}

/* ---- Many of them ------------------------------------------------------------------------ */

#define OPENERS 6u
#define TRIES   40u

struct storm {
    const struct place *place;
    _Atomic unsigned inside, opened, tried;
};

static void *open_again_and_again(void *context)
{
    struct storm *storm = context;
    struct tkv_store *store;
    struct tkv_error err;

    for (unsigned i = 0; i < TRIES; i++) {
        const enum tkv_status status =
            tkv_open(storm->place->path, &storm->place->options, &store, NULL, &err);

        atomic_fetch_add(&storm->tried, 1);
        if (status == TKV_BUSY)
            continue;
        CHECK_OK(status);
        CHECK_EQ(atomic_fetch_add(&storm->inside, 1), 0); /* alone */
        place_put(store, "one", i * 10);
        place_expect(store, "one", i * 10);
        atomic_fetch_add(&storm->opened, 1);
        CHECK_EQ(atomic_fetch_sub(&storm->inside, 1), 1);
        place_close(store);
    }
    return NULL;
}

static void take_part_in_storm(const struct place *place, void *context)
{
    (void)place;
    (void)open_again_and_again(context);
}

TEST(of_many_threads_and_processes_that_open_a_store_one_has_it_at_a_time)
{
    struct place place = place_new();
    struct storm *storm = mmap(NULL, sizeof *storm, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t threads[OPENERS];
    pid_t children[OPENERS];
    struct tkv_store *store;
    int status;

    CHECK(storm != MAP_FAILED);
    place.options.background = true;
    place_fill(&place);
    storm->place = &place;
    for (unsigned i = 0; i < OPENERS; i++)
        children[i] = place_start_child(&place, take_part_in_storm, storm);
    for (unsigned i = 0; i < OPENERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, open_again_and_again, storm), 0);
    for (unsigned i = 0; i < OPENERS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, 0);
    }
    CHECK_EQ(storm->tried, 2 * OPENERS * TRIES);
    CHECK(storm->opened > 0);
    store = place_open(&place);
    place_expect_filled(store);
    place_close(store);
    CHECK_EQ(munmap(storm, sizeof *storm), 0);
    place_free(&place);
}
