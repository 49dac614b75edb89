/* SPDX-License-Identifier: MIT */
/*
 * Disk space comes back, and so do memory and descriptors, on the real file system and with
 * the real threads.
 *
 * Method: overwrite, delete and compact far more than a store holds, and look at the directory
 * and at the process all the while. Nothing here asserts how long anything takes: where the
 * compactor must catch up, the test waits for it, and gives up after a minute.
 */
#include "test.h"
#include "tinykv.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

TEST_MAIN

struct fixture {
    char directory[256];
    struct tkv_store *store;
    struct tkv_error err;
};

static void open_fixture(struct fixture *f, const struct tkv_options *options)
{
    struct tkv_error err;

    memset(f, 0, sizeof *f);
    snprintf(f->directory, sizeof f->directory, "%s/tinykv-space-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    CHECK(mkdtemp(f->directory) != NULL);
    CHECK_OK(tkv_open(f->directory, options, &f->store, NULL, &err));
}

static void close_fixture(struct fixture *f)
{
    struct tkv_error err;
    char command[300];

    CHECK_OK(tkv_close(f->store, &err));
    snprintf(command, sizeof command, "rm -rf '%s'", f->directory);
    CHECK_EQ(system(command), 0);
}

static struct tkv_slice key_of(uint64_t number, char out[32])
{
    snprintf(out, 32, "key %012" PRIu64, number);
    return tkv_text(out);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct tkv_stats stats_of(struct fixture *f)
{
    struct tkv_stats stats;
    struct tkv_error err;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats;
}

/* All files of the directory but the log. */
static uint64_t directory_size(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    uint64_t total = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        struct stat info;

        if (strcmp(entry->d_name, "wal.log") != 0 &&
            fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode))
            total += (uint64_t)info.st_size;
    }
    (void)closedir(dir);
    return total;
}

static unsigned descriptor_count(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    (void)fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void pause_ms(long ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

TEST(uniform_overwrites_stay_within_the_stated_space_and_deleting_all_gives_it_back)
{
    enum { RECORDS = 100000, ROUNDS = 20, VALUE_SIZE = 1024 };
    const uint64_t one_file = 5 * 1000 * 1000 + 4096;
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    static char value[VALUE_SIZE];
    uint64_t random = 88172645463325252u;
    struct tkv_error err;
    struct fixture f;
    char key[32];

    options.durability = TKV_DURABILITY_NONE;
    open_fixture(&f, &options);
    for (uint64_t i = 0; i < (uint64_t)RECORDS * (ROUNDS + 1); i++) {
        const uint64_t number = i < RECORDS ? i : random_next(&random) % RECORDS;

        memcpy(value, &i, sizeof i);
        CHECK_OK(
            tkv_put(f.store, key_of(number, key), tkv_bytes(value, sizeof value), &err));
        if (i >= RECORDS && i % 500 == 0) {
            const struct tkv_stats stats = stats_of(&f);

            CHECK(stats.disk_bytes <= stats.live_bytes + stats.live_bytes / 2 + one_file);
        }
    }
    CHECK_EQ(stats_of(&f).keys, RECORDS);
    for (uint64_t i = 0; i < RECORDS; i++) {
        bool existed = false;

        CHECK_OK(tkv_delete(f.store, key_of(i, key), &existed, &err));
        CHECK(existed);
    }
    for (int tries = 0; directory_size(f.directory) >= 2u << 20; tries++) {
        CHECK(tries < 600);
        pause_ms(100);
    }
    CHECK_EQ(stats_of(&f).keys, 0);
    close_fixture(&f);
}

TEST(a_thousand_compactions_leak_neither_memory_nor_descriptors)
{
    enum { RECORDS = 2000, WARM_UP = 100, COMPACTIONS = 1000 };
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    uint64_t random = 1, resident = 0;
    unsigned descriptors = 0;
    struct tkv_error err;
    struct fixture f;
    char key[32], value[200] = {0};

    options.durability = TKV_DURABILITY_NONE;
    options.data_file_size_min = 128 * 1024;
    options.auto_compact = false;
    open_fixture(&f, &options);
    while (stats_of(&f).compactions < COMPACTIONS + WARM_UP) {
        for (int i = 0; i < RECORDS / 4; i++)
            CHECK_OK(tkv_put(f.store, key_of(random_next(&random) % RECORDS, key),
                             tkv_bytes(value, sizeof value), &err));
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        if (descriptors == 0 && stats_of(&f).compactions >= WARM_UP) {
            descriptors = descriptor_count();
            resident = resident_bytes();
        }
    }
    CHECK(descriptor_count() <= descriptors + 2);
    CHECK(resident_bytes() <= resident + (8u << 20));
    CHECK_OK(tkv_verify(f.store, NULL, NULL, NULL, &err));
    close_fixture(&f);
}
