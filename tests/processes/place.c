/* SPDX-License-Identifier: MIT */
#include "place.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILL_KEYS    40u
#define HANG_SECONDS 60u

struct place place_new(void)
{
    struct place place = {.options = TKV_OPTIONS_DEFAULT};

    place.options.background = false;
    place.options.wal_size_max = 64 * 1024;
    place.options.data_file_size_min = 64 * 1024;
    place.options.compact_size_min = 0;
    snprintf(place.parent, sizeof place.parent, "%.150s/tinykv-place-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    CHECK(mkdtemp(place.parent) != NULL);
    snprintf(place.path, sizeof place.path, "%s/store", place.parent);
    return place;
}

void place_free(struct place *place)
{
    char command[500];

    snprintf(command, sizeof command, "chmod -R u+rwX '%s'; rm -rf '%s'", place->parent,
             place->parent);
    CHECK_EQ(system(command), 0);
}

struct tkv_store *place_open_on(const struct place *place, struct tkv_os *os)
{
    struct tkv_store *store;
    struct tkv_error err;

    CHECK_OK(tkv_open_on(os, place->path, &place->options, &store, NULL, &err));
    return store;
}

struct tkv_store *place_open(const struct place *place)
{
    return place_open_on(place, tkv_os_posix());
}

void place_close(struct tkv_store *store)
{
    struct tkv_error err;

    CHECK_OK(tkv_close(store, &err));
}

static uint8_t *value_of(const char *key, size_t size)
{
    uint8_t *value = malloc(size + 1);

    CHECK(value != NULL);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)((size_t)key[i % strlen(key)] + i * 7 + i / 256);
    return value;
}

void place_put(struct tkv_store *store, const char *key, size_t size)
{
    uint8_t *value = value_of(key, size);
    struct tkv_error err;

    CHECK_OK(tkv_put(store, tkv_text(key), tkv_bytes(value, size), &err));
    free(value);
}

void place_expect(struct tkv_store *store, const char *key, size_t size)
{
    uint8_t *value = value_of(key, size);
    struct tkv_error err;
    size_t found_size;
    void *found;

    CHECK_OK(tkv_get_copy(store, tkv_text(key), &found, &found_size, &err));
    CHECK_EQ(found_size, size);
    CHECK(memcmp(found, value, size) == 0);
    tkv_free(found);
    free(value);
}

void place_expect_absent(struct tkv_store *store, const char *key)
{
    struct tkv_error err;

    CHECK_EQ(tkv_exists(store, tkv_text(key), &err), TKV_NOT_FOUND);
}

void place_verify(struct tkv_store *store)
{
    struct tkv_error err;

    CHECK_OK(tkv_verify(store, NULL, NULL, NULL, &err));
}

static void fill_key(unsigned i, char key[16])
{
    snprintf(key, 16, "fill %u", i % 1000);
}

void place_fill(const struct place *place)
{
    struct tkv_store *store = place_open(place);
    char key[16];

    for (unsigned i = 0; i < FILL_KEYS; i++) {
        fill_key(i, key);
        place_put(store, key, 100 + i * 150);
    }
    place_put(store, "large", 50000);
    place_close(store);
}

void place_expect_filled(struct tkv_store *store)
{
    char key[16];

    for (unsigned i = 0; i < FILL_KEYS; i++) {
        fill_key(i, key);
        place_expect(store, key, 100 + i * 150);
    }
    place_expect(store, "large", 50000);
    place_verify(store);
}

/* ---- More at once ---------------------------------------------------------------------- */

enum tkv_status place_try_open(const struct place *place, struct tkv_error *ret_err)
{
    struct tkv_store *store;
    const enum tkv_status status =
        tkv_open(place->path, &place->options, &store, NULL, ret_err);

    if (status == TKV_OK)
        place_close(store);
    return status;
}

void place_expect_all_well(const struct place *place)
{
    struct tkv_store *store = place_open(place);

    place_expect_filled(store);
    place_close(store);
}

/* Rotations, checkpoints, compactions. */
void place_work_hard(struct tkv_store *store)
{
    struct tkv_error err;

    for (unsigned i = 0; i < 100; i++)
        place_put(store, i % 2 == 0 ? "even" : "odd", 3000 + i);
    CHECK_OK(tkv_checkpoint(store, &err));
    CHECK_OK(tkv_compact(store, NULL, &err));
    place_expect(store, "even", 3098);
    place_expect(store, "odd", 3099);
}

void place_path_in(const char *directory, const char *name, char path[600])
{
    snprintf(path, 600, "%.299s/%.250s", directory, name);
}

/* ---- Children ---------------------------------------------------------------------------- */

pid_t place_start_child(const struct place *place, place_child_fn *body, void *context)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid != 0)
        return pid;
    (void)alarm(HANG_SECONDS);
    body(place, context);
    _exit(0);
}

int place_in_child(const struct place *place, place_child_fn *body, void *context)
{
    const pid_t pid = place_start_child(place, body, context);
    int status = 0;

    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

/* ---- What lies there --------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_file(int dir, const char *name)
{
    const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    uint64_t hash = hash_bytes(UINT64_C(0xcbf29ce484222325), name, strlen(name));
    uint8_t bytes[4096];
    ssize_t count;

    while (fd >= 0 && (count = read(fd, bytes, sizeof bytes)) > 0)
        hash = hash_bytes(hash, bytes, (size_t)count);
    if (fd >= 0)
        (void)close(fd);
    return hash;
}

uint64_t place_hash(const struct place *place)
{
    DIR *dir = opendir(place->path);
    const struct dirent *entry;
    uint64_t sum = 0; /* the order of the entries means nothing */

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "LOCK") != 0)
            sum += hash_file(dirfd(dir), entry->d_name);
    }
    (void)closedir(dir);
    return sum;
}
