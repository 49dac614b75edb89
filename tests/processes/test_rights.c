/* SPDX-License-Identifier: MIT */
/*
 * What a store's host forbids: files of others, immutable files, large files, standard streams.
 * The store works, or says why not and has changed nothing.
 */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

TEST_MAIN

#define NOBODY 65534u

/* ---- Rights ------------------------------------------------------------------------------ */

static void expect_private(const struct place *place)
{
    DIR *dir = opendir(place->path);
    const struct dirent *entry;
    struct stat info;

    CHECK(dir != NULL);
    CHECK_EQ(fstat(dirfd(dir), &info), 0);
    CHECK_EQ(info.st_mode & 07777u, 0700);
    while ((entry = readdir(dir)) != NULL) {
        CHECK_EQ(fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW), 0);
        if (entry->d_name[0] != '.' && !S_ISDIR(info.st_mode))
            CHECK_EQ(info.st_mode & 07777u, 0600);
    }
    CHECK_EQ(closedir(dir), 0);
}

TEST(files_are_their_owners_alone_whatever_the_umask)
{
    static const mode_t masks[] = {0, 022, 077};

    for (unsigned i = 0; i < 3; i++) {
        struct place place = place_new();
        const mode_t before = umask(masks[i]);

        place_fill(&place);
        expect_private(&place);
        (void)umask(before);
        place_free(&place);
    }
}

static void open_as_nobody(const struct place *place, void *context)
{
    struct tkv_error err;

    (void)context;
    CHECK_EQ(setresgid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
    CHECK_EQ(place_try_open(place, &err), TKV_IO);
    CHECK_EQ(err.os_errno, EACCES);
    CHECK(err.message[0] != '\0');
}

TEST(without_the_right_to_a_file_opening_fails_and_changes_nothing)
{
    struct place place = place_new();
    uint64_t before;

    if (getuid() != 0) {
        puts("  (skipped: needs another user)");
        place_free(&place);
        return;
    }
    place_fill(&place);
    before = place_hash(&place);
    CHECK_EQ(chmod(place.parent, 0755), 0);
    CHECK_EQ(place_in_child(&place, open_as_nobody, NULL), 0); /* the directory */
    CHECK_EQ(chmod(place.path, 0755), 0);
    CHECK_EQ(place_in_child(&place, open_as_nobody, NULL), 0); /* the files */
    CHECK_EQ(chmod(place.path, 0700), 0);
    CHECK_EQ(place_hash(&place), before);
    place_expect_all_well(&place);
    place_free(&place);
}

static bool set_immutable(const char *path, bool immutable)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    int flags = 0, result;

    CHECK(fd >= 0);
    result = ioctl(fd, FS_IOC_GETFLAGS, &flags);
    flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    if (result == 0)
        result = ioctl(fd, FS_IOC_SETFLAGS, &flags);
    CHECK_EQ(close(fd), 0);
    return result == 0;
}

TEST(an_immutable_file_makes_opening_fail_and_changes_nothing)
{
    static const char *const names[] = {"wal.log", "MANIFEST"};
    struct place place = place_new();
    struct tkv_error err;
    char path[600];

    place_fill(&place);
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t before = place_hash(&place);
        enum tkv_status status;

        place_path_in(place.path, names[i], path);
        if (!set_immutable(path, true)) {
            puts("  (skipped: this file system or user has no immutable files)");
            break;
        }
        status = place_try_open(&place, &err);
        CHECK(set_immutable(path, false));
        if (status != TKV_OK) {
            CHECK_EQ(status, TKV_IO);
            CHECK_EQ(err.os_errno, EPERM);
            CHECK_EQ(place_hash(&place), before);
        }
        place_expect_all_well(&place);
    }
    place_free(&place);
}

/* ---- Limits and streams ------------------------------------------------------------------ */

static void limit_file_size(rlim_t size)
{
    const struct rlimit limit = {size, size};

    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR); /* which ends the process */
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void create_within_limit(const struct place *place, void *context)
{
    struct tkv_error err;

    (void)context;
    limit_file_size(30000);
    CHECK_EQ(place_try_open(place, &err), TKV_IO);
    CHECK_EQ(err.os_errno, EFBIG);
}

static void work_within_limit(const struct place *place, void *context)
{
    static const uint8_t big[500000];
    struct tkv_store *store = place_open(place);
    struct tkv_error err;

    (void)context;
    limit_file_size(200000);
    CHECK_EQ(tkv_put(store, tkv_text("big"), tkv_bytes(big, sizeof big), &err), TKV_IO);
    CHECK_EQ(err.os_errno, EFBIG);
    place_expect_filled(store);
    place_work_hard(store);
    place_close(store);
}

TEST(a_limit_on_the_size_of_files_is_an_error_and_no_signal)
{
    struct place place = place_new();
    struct tkv_store *store;

    CHECK_EQ(place_in_child(&place, create_within_limit, NULL), 0);
    place_fill(&place);
    CHECK_EQ(place_in_child(&place, work_within_limit, NULL), 0);
    store = place_open(&place);
    place_expect_filled(store);
    place_expect(store, "odd", 3099);
    place_expect_absent(store, "big");
    place_close(store);
    place_free(&place);
}

static void work_without_streams(const struct place *place, void *context)
{
    struct tkv_store *store;
    struct stat info;

    (void)context;
    for (int fd = 0; fd <= 2; fd++)
        CHECK_EQ(close(fd), 0);
    store = place_open(place);
    place_work_hard(store);
    for (int fd = 0; fd <= 2; fd++) {
        if (fstat(fd, &info) == 0 || write(fd, "stray", 5) >= 0)
            _exit(1);
    }
    place_close(store);
}

TEST(without_standard_streams_no_stray_message_reaches_a_file)
{
    struct place place = place_new();

    place_fill(&place);
    CHECK_EQ(place_in_child(&place, work_without_streams, NULL), 0);
    place_expect_all_well(&place);
    place_free(&place);
}
