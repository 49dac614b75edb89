/* SPDX-License-Identifier: MIT */
/*
 * What others do to a store's directory: moved, removed, linked, planted. The store works, or
 * says why not and has changed nothing.
 */
#include "place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

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
    place_work_hard(store);
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
    CHECK_EQ(place_try_open(&place, &err), TKV_NOT_FOUND);
    place_free(&place);
}

/* ---- Planted ----------------------------------------------------------------------------- */

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
    place_path_in(place->path, name, path);
    place_path_in(elsewhere.path, name, kept);
    CHECK_EQ(rename(path, kept), 0);
    before = place_hash(&elsewhere);
    plant(path, kept);
    (void)alarm(60); /* a FIFO may hang */
    status = place_try_open(place, &err);
    (void)alarm(0);
    CHECK_EQ(place_hash(&elsewhere), before);
    if (must_work)
        CHECK_OK(status);
    else
        CHECK(status != TKV_OK && err.message[0] != '\0');
    remove_planted(path);
    CHECK_EQ(rename(kept, path), 0);
    CHECK_EQ(rmdir(elsewhere.path), 0);
    place_expect_all_well(place);
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
    place_work_hard(store);
    place_close(store);
    place_expect_all_well(&place);
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
    place_path_in(place.parent, "target", target);
    CHECK_EQ(close(open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
    CHECK_EQ(truncate(target, 12345), 0);
    for (unsigned i = 0; i < 6; i++) {
        place_path_in(place.path, names[i % 2], path);
        plants[i / 2](path, target);
        (void)alarm(60);
        (void)place_try_open(&place, &err); /* works, or says what is in the way */
        (void)alarm(0);
        CHECK_EQ(stat(target, &info), 0);
        CHECK_EQ(info.st_size, 12345);
        if (access(path, F_OK) == 0 || errno == ELOOP)
            remove_planted(path);
        place_expect_all_well(&place);
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
    place_path_in(place.path, name, path);
    place_path_in(backup.path, name, copy);
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
    place_work_hard(store);
    place_work_hard(store);
    CHECK(access(path, F_OK) != 0); /* compacted away */
    CHECK_EQ(place_hash(&backup), before);
    place_close(store);
    place_free(&place);
}

/* ---- Cut while it is open ------------------------------------------------------------------ */

static void exit_by_sigbus(int signal)
{
    (void)signal;
    _exit(42);
}

/* Reads every key; the first data file has lost all but a page. */
static void read_what_was_cut(const struct place *place, void *context)
{
    unsigned *failed = context, failures = 0;
    struct tkv_store *store = place_open(place);
    char key[16], path[600];

    CHECK(signal(SIGBUS, exit_by_sigbus) != SIG_ERR);
    place_path_in(place->path, "0000000001.data", path);
    CHECK_EQ(truncate(path, 4096), 0);
    for (unsigned i = 0; i < 20; i++) {
        enum tkv_status status;
        struct tkv_error err;
        void *value = NULL;
        size_t size;

        snprintf(key, sizeof key, "fill %u", i);
        status = tkv_get_copy(store, tkv_text(key), &value, &size, &err);
        CHECK(status == TKV_OK || status == TKV_IO || status == TKV_CORRUPT);
        if (status == TKV_OK)
            place_expect(store, key, 100 + i * 150);
        else
            CHECK_STR(err.file, "0000000001.data");
        failures += status != TKV_OK;
        tkv_free(value);
    }
    *failed = failures;
    (void)tkv_close(store, NULL);
    CHECK(signal(SIGBUS, SIG_DFL) != SIG_ERR);
}

TEST(a_file_cut_under_an_open_store_is_an_error_with_pread)
{
    struct place place = place_new();
    unsigned failed = 0;

    place_fill(&place);
    place.options.read_mode = TKV_READ_PREAD;
    read_what_was_cut(&place, &failed);
    CHECK(failed > 0 && failed < 20);
    place_free(&place);
}

/* As lib/tinykv.h says of TKV_READ_MMAP. */
TEST(a_file_cut_under_a_mapping_is_sigbus)
{
    struct place place = place_new();
    unsigned failed = 0;
    int status;

    place_fill(&place);
    place.options.read_mode = TKV_READ_MMAP;
    status = place_in_child(&place, read_what_was_cut, &failed);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    place_free(&place);
}

/* ---- A backup by hard links, of files that are given back in steps --------------------- */

static struct tkv_os counting_os;
static unsigned truncate_count;

static int count_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    truncate_count++;
    return tkv_os_posix()->truncate(os, fd, size);
}

/* Its first data file has more than 32 MiB. */
static struct tkv_store *open_with_a_big_file(struct place *place)
{
    struct tkv_store *store;
    struct tkv_error err;
    char key[16];

    counting_os = *tkv_os_posix();
    counting_os.truncate = count_truncate;
    place->options.durability = TKV_DURABILITY_NONE;
    place->options.wal_size_max = 4 * 1024 * 1024;
    place->options.auto_compact = false;
    place->options.data_file_size_min = place->options.data_file_size_max = 40 << 20;
    store = place_open_on(place, &counting_os);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "big %u", i);
        place_put(store, key, 100000);
    }
    CHECK_OK(tkv_checkpoint(store, &err));
    return store;
}

/* How many times a file is cut while the first one is compacted away. */
static unsigned truncates_of_its_end(const struct place *place, struct tkv_store *store)
{
    char key[16], path[600];
    unsigned count;

    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "big %u", i);
        place_put(store, key, 10);
    }
    truncate_count = 0;
    place_work_hard(store);
    count = truncate_count;
    place_close(store); /* which cuts the log */
    place_path_in(place->path, "0000000001.data", path);
    CHECK(access(path, F_OK) != 0);
    return count;
}

TEST(a_file_with_another_name_is_not_given_back_in_steps)
{
    struct place place = place_new(), backup;
    struct tkv_store *store = open_with_a_big_file(&place);
    char path[600], copy[600];
    uint64_t before;

    CHECK(truncates_of_its_end(&place, store) > 0); /* which would ruin a copy */
    place_free(&place);

    place = place_new();
    store = open_with_a_big_file(&place);
    backup = place;
    snprintf(backup.path, sizeof backup.path, "%s/backup", place.parent);
    CHECK_EQ(mkdir(backup.path, 0700), 0);
    place_path_in(place.path, "0000000001.data", path);
    place_path_in(backup.path, "0000000001.data", copy);
    CHECK_EQ(link(path, copy), 0);
    before = place_hash(&backup);
    CHECK_EQ(truncates_of_its_end(&place, store), 0);
    CHECK_EQ(place_hash(&backup), before);
    place_free(&place);
}
