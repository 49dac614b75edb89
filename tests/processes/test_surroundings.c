/* SPDX-License-Identifier: MIT */
/*
 * What others do to a store's directory, and what its host forbids: moved, removed, linked,
 * planted, without rights, without room, without standard streams. The store works, or says why
 * not and has changed nothing.
 */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

TEST_MAIN

#define NOBODY 65534u

static enum tkv_status try_open(const struct place *place, struct tkv_error *ret_err)
{
    struct tkv_store *store;
    const enum tkv_status status =
        tkv_open(place->path, &place->options, &store, NULL, ret_err);

    if (status == TKV_OK)
        place_close(store);
    return status;
}

static void expect_filled_after_all(const struct place *place)
{
    struct tkv_store *store = place_open(place);

    place_expect_filled(store);
    place_close(store);
}

/* Rotations, checkpoints, compactions. */
static void work_hard(struct tkv_store *store)
{
    struct tkv_error err;

    for (unsigned i = 0; i < 100; i++)
        place_put(store, i % 2 == 0 ? "even" : "odd", 3000 + i);
    CHECK_OK(tkv_checkpoint(store, &err));
    CHECK_OK(tkv_compact(store, NULL, &err));
    place_expect(store, "even", 3098);
    place_expect(store, "odd", 3099);
}

/* ---- Moved and removed ------------------------------------------------------------------- */

TEST(a_store_whose_directory_is_renamed_works_on_where_it_is_now)
{
    struct place place = place_new(), moved;
    struct tkv_store *store;

    place_fill(&place);
    store = place_open(&place);
    moved = place;
    snprintf(moved.path, sizeof moved.path, "%s/moved", place.parent);
    CHECK_EQ(rename(place.path, moved.path), 0);
    CHECK_EQ(mkdir(place.path, 0700), 0); /* a decoy */
    work_hard(store);
    place_close(store);
    CHECK_EQ(rmdir(place.path), 0); /* still empty */
    store = place_open(&moved);
    place_expect_filled(store);
    place_expect(store, "odd", 3099);
    place_close(store);
    place_free(&place);
}

TEST(a_store_whose_directory_is_removed_fails_when_it_needs_a_new_file_and_says_so)
{
    struct place place = place_new();
    struct tkv_store *store;
    struct tkv_error err = {.message = ""};
    enum tkv_status status;
    static char value[50000];
    char command[300];

    place_fill(&place);
    store = place_open(&place);
    snprintf(command, sizeof command, "rm -rf '%s'", place.path);
    CHECK_EQ(system(command), 0);
    place_put(store, "one", 1000); /* what is open is enough for it */
    status = tkv_put(store, tkv_text("big"), tkv_bytes(value, sizeof value), &err);
    CHECK_EQ(status, TKV_IO); /* a file of its own */
    CHECK_EQ(err.os_errno, ENOENT);
    CHECK(strstr(err.message, ".data") != NULL);
    status = TKV_OK;
    for (unsigned i = 0; i < 10000 && status == TKV_OK; i++)
        status = tkv_put(store, tkv_text("more"), tkv_bytes(value, 5000 - i % 100), &err);
    CHECK(status == TKV_IO || status == TKV_POISONED);
    place_expect(store, "fill 1", 250); /* reads go on, from open files */
    CHECK(tkv_close(store, &err) != TKV_OK);
    CHECK(access(place.path, F_OK) != 0);
    place.options.create = false;
    CHECK_EQ(try_open(&place, &err), TKV_NOT_FOUND);
    place_free(&place);
}

/* ---- Planted ----------------------------------------------------------------------------- */

static void path_in(const char *directory, const char *name, char path[600])
{
    snprintf(path, 600, "%.299s/%.250s", directory, name);
}

/* The first file of the store, by its name, that ends so. */
static void find_name(const struct place *place, const char *end, char name[256])
{
    DIR *dir = opendir(place->path);
    const struct dirent *entry;

    CHECK(dir != NULL);
    name[0] = '\0';
    while ((entry = readdir(dir)) != NULL) {
        const char *at = strstr(entry->d_name, end);

        if (at != NULL && strcmp(at, end) == 0 &&
            (name[0] == '\0' || strcmp(entry->d_name, name) < 0))
            snprintf(name, 256, "%s", entry->d_name);
    }
    CHECK_EQ(closedir(dir), 0);
    CHECK(name[0] != '\0');
}

static void plant_link(const char *path, const char *target)
{
    CHECK_EQ(symlink(target, path), 0);
}

static void plant_fifo(const char *path, const char *target)
{
    (void)target;
    CHECK_EQ(mkfifo(path, 0600), 0);
}

static void plant_directory(const char *path, const char *target)
{
    (void)target;
    CHECK_EQ(mkdir(path, 0700), 0);
}

/* A socket's address is short; the directory is entered for it. */
static void plant_socket(const char *path, const char *target)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *slash = strrchr(path, '/');
    char directory[600];

    (void)target;
    CHECK(fd >= 0 && slash != NULL);
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    CHECK_EQ(chdir(directory), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", slash + 1);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(chdir("/"), 0);
}

typedef void plant_fn(const char *path, const char *target);

static void remove_planted(const char *path)
{
    CHECK(unlink(path) == 0 || rmdir(path) == 0);
}

/* Instead of the file, with the file elsewhere. `must_work`: the file is only a cache. */
static void replace_and_open(const struct place *place, const char *name, plant_fn *plant,
                             bool must_work)
{
    struct place elsewhere = *place;
    char path[600], kept[600];
    struct tkv_error err;
    enum tkv_status status;
    uint64_t before;

    snprintf(elsewhere.path, sizeof elsewhere.path, "%s/elsewhere", place->parent);
    CHECK_EQ(mkdir(elsewhere.path, 0700), 0);
    path_in(place->path, name, path);
    path_in(elsewhere.path, name, kept);
    CHECK_EQ(rename(path, kept), 0);
    before = place_hash(&elsewhere);
    plant(path, kept);
    (void)alarm(60); /* a FIFO may hang */
    status = try_open(place, &err);
    (void)alarm(0);
    CHECK_EQ(place_hash(&elsewhere), before);
    if (must_work)
        CHECK_OK(status);
    else
        CHECK(status != TKV_OK && err.message[0] != '\0');
    remove_planted(path);
    CHECK_EQ(rename(kept, path), 0);
    CHECK_EQ(rmdir(elsewhere.path), 0);
    expect_filled_after_all(place);
}

TEST(links_fifos_sockets_and_directories_in_place_of_files_are_refused)
{
    static plant_fn *const plants[] = {plant_link, plant_fifo, plant_directory,
                                       plant_socket};
    static const char *const names[] = {"wal.log", "MANIFEST", "LOCK", ".data"};
    struct place place = place_new();
    char name[256];

    place_fill(&place);
    for (unsigned p = 0; p < 4; p++) {
        for (unsigned n = 0; n < 4; n++) {
            find_name(&place, names[n], name);
            replace_and_open(&place, name, plants[p], false);
        }
    }
    find_name(&place, ".hint", name);
    replace_and_open(&place, name, plant_link, true);
    place_free(&place);
}

TEST(a_link_to_the_directory_is_followed_once_and_then_forgotten)
{
    struct place place = place_new(), through = place;
    struct tkv_store *store;

    place_fill(&place);
    through = place;
    snprintf(through.path, sizeof through.path, "%s/link", place.parent);
    CHECK_EQ(symlink(place.path, through.path), 0);
    store = place_open(&through);
    CHECK_EQ(unlink(through.path), 0);
    work_hard(store);
    place_close(store);
    expect_filled_after_all(&place);
    place_free(&place);
}

TEST(what_waits_under_a_temporary_name_is_not_followed)
{
    static plant_fn *const plants[] = {plant_link, plant_fifo, plant_directory};
    static const char *const names[] = {"MANIFEST.tmp", "0000000001.hint.tmp"};
    struct place place = place_new();
    char path[600], target[600];
    struct stat info;
    struct tkv_error err;

    place_fill(&place);
    path_in(place.parent, "target", target);
    CHECK_EQ(close(open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
    CHECK_EQ(truncate(target, 12345), 0);
    for (unsigned i = 0; i < 6; i++) {
        path_in(place.path, names[i % 2], path);
        plants[i / 2](path, target);
        (void)alarm(60);
        (void)try_open(&place, &err); /* works, or says what is in the way */
        (void)alarm(0);
        CHECK_EQ(stat(target, &info), 0);
        CHECK_EQ(info.st_size, 12345);
        if (access(path, F_OK) == 0 || errno == ELOOP)
            remove_planted(path);
        expect_filled_after_all(&place);
    }
    place_free(&place);
}

/* A second name for a data file, such as a backup: the store leaves its bytes alone. */
TEST(a_hard_linked_data_file_is_read_and_its_copy_outlives_the_compaction)
{
    struct place place = place_new(), backup = place;
    struct tkv_store *store;
    char name[256], path[600], copy[600];
    uint64_t before;

    place_fill(&place);
    backup = place;
    snprintf(backup.path, sizeof backup.path, "%s/backup", place.parent);
    CHECK_EQ(mkdir(backup.path, 0700), 0);
    find_name(&place, ".data", name);
    path_in(place.path, name, path);
    path_in(backup.path, name, copy);
    CHECK_EQ(link(path, copy), 0);
    store = place_open(&place);
    place_expect_filled(store);
    before = place_hash(&backup);
    for (unsigned i = 0; i < 40; i++) {
        char key[16];

        snprintf(key, sizeof key, "fill %u", i);
        place_put(store, key, 10);
    }
    place_put(store, "large", 10);
    work_hard(store);
    work_hard(store);
    CHECK(access(path, F_OK) != 0); /* compacted away */
    CHECK_EQ(place_hash(&backup), before);
    place_close(store);
    place_free(&place);
}

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
    CHECK_EQ(try_open(place, &err), TKV_IO);
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
    expect_filled_after_all(&place);
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

        path_in(place.path, names[i], path);
        if (!set_immutable(path, true)) {
            puts("  (skipped: this file system or user has no immutable files)");
            break;
        }
        status = try_open(&place, &err);
        CHECK(set_immutable(path, false));
        if (status != TKV_OK) {
            CHECK_EQ(status, TKV_IO);
            CHECK_EQ(err.os_errno, EPERM);
            CHECK_EQ(place_hash(&place), before);
        }
        expect_filled_after_all(&place);
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
    CHECK_EQ(try_open(place, &err), TKV_IO);
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
    work_hard(store);
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
    work_hard(store);
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
    expect_filled_after_all(&place);
    place_free(&place);
}
