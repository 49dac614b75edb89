/* SPDX-License-Identifier: MIT */
/*
 * The rules of the simulated disk: a program that breaks one is caught, and one that keeps them
 * finds what a plain array of bytes would hold, and may have several threads.
 */
#include "simdisk_fixture.h"

#include <errno.h>
#include <pthread.h>

TEST_MAIN

static void remember_violation(struct simdisk *disk, const char *message)
{
    snprintf(disk->context, 256, "%s", message);
}

static struct fixture forgiving_disk(char message[256])
{
    struct fixture f = new_disk();

    message[0] = 0;
    f.disk->violated = remember_violation;
    f.disk->context = message;
    return f;
}

TEST(the_naive_program_that_renames_before_it_syncs_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "MANIFEST.tmp");

    write_at(&f, fd, "files", 5, 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "MANIFEST.tmp", "MANIFEST"), 0);
    CHECK_STR(message, "MANIFEST.tmp is renamed to MANIFEST before it is synced");
    simdisk_free(f.disk);
}

TEST(the_careful_program_breaks_no_rule)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "MANIFEST.tmp");

    write_at(&f, fd, "files", 5, 0);
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_EQ(f.os->close(f.os, fd), 0);
    CHECK_EQ(f.os->rename(f.os, f.dir, "MANIFEST.tmp", "MANIFEST"), 0);
    CHECK_EQ(f.os->sync_dir(f.os, f.dir), 0);
    CHECK_STR(message, "");
    simdisk_free(f.disk);
}

TEST(a_sync_that_is_tried_again_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = durable_file(&f, "x", 1);

    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(f.os->sync(f.os, fd), -EIO);
    CHECK_STR(message, "");
    CHECK_EQ(f.os->sync(f.os, fd), 0);
    CHECK_STR(message, "x is synced again after a failed sync");
    simdisk_free(f.disk);
}

TEST(a_misaligned_direct_write_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd =
        f.os->open(f.os, f.dir, "x", TKV_OS_WRITE | TKV_OS_CREATE | TKV_OS_DIRECT_SYNC);

    CHECK_EQ(f.os->write(f.os, fd, block_a, 4096, 512), -EINVAL);
    CHECK(strstr(message, "misaligned direct write to x") != NULL);
    message[0] = 0;
    CHECK_EQ(f.os->write(f.os, fd, block_a + 512, 4096, 0), -EINVAL);
    CHECK(message[0] != 0);
    message[0] = 0;
    write_at(&f, fd, block_a, 4096, 0);
    CHECK_STR(message, "");
    simdisk_free(f.disk);
}

TEST(a_store_beyond_the_end_of_the_file_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = durable_file(&f, "x", 10);
    void *map;

    CHECK_EQ(f.os->map(f.os, fd, 4096, true, &map), 0);
    f.os->store(f.os, fd, map, 9, "1", 1);
    CHECK_STR(message, "");
    f.os->store(f.os, fd, map, 9, "12", 2);
    CHECK(strstr(message, "is outside") != NULL);
    simdisk_free(f.disk);
}

TEST(a_descriptor_that_is_closed_twice_is_caught)
{
    char message[256];
    struct fixture f = forgiving_disk(message);
    const int fd = create(&f, "x");

    CHECK_EQ(f.os->close(f.os, fd), 0);
    (void)f.os->close(f.os, fd);
    CHECK(strstr(message, "is closed but not open") != NULL);
    simdisk_free(f.disk);
}

/* Against a model ---------------------------------------------------------------------- */

#define MODEL_SIZE 20000

/* One file as plain arrays: what reads see, and what was there at the last sync. */
struct model {
    uint8_t now[MODEL_SIZE], durable[MODEL_SIZE];
    size_t size, durable_size;
};

static uint64_t step_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void model_write(struct model *m, const uint8_t *data, size_t size, size_t offset)
{
    memcpy(m->now + offset, data, size);
    if (offset + size > m->size)
        m->size = offset + size;
}

static void random_step(struct fixture *f, int fd, struct model *m, uint64_t *random)
{
    const size_t offset = step_random(random) % (MODEL_SIZE / 2);
    const size_t size = step_random(random) % (MODEL_SIZE / 2);
    uint8_t data[MODEL_SIZE];

    switch (step_random(random) % 8) {
    case 0:
        CHECK_EQ(f->os->sync(f->os, fd), 0);
        memcpy(m->durable, m->now, MODEL_SIZE);
        m->durable_size = m->size;
        break;
    case 1:
        CHECK_EQ(f->os->truncate(f->os, fd, offset), 0);
        if (offset < m->size)
            memset(m->now + offset, 0, m->size - offset);
        m->size = offset;
        break;
    default:
        memset(data, (int)(step_random(random) % 255) + 1, size);
        write_at(f, fd, data, size, offset);
        model_write(m, data, size, offset);
        break;
    }
}

static void check_file(const struct simdisk *disk, const uint8_t *data, size_t size)
{
    CHECK_EQ(simdisk_file_size(disk, "x"), size);
    CHECK_EQ(simdisk_file_read(disk, "x", text_buffer, sizeof text_buffer, 0), size);
    CHECK(memcmp(text_buffer, data, size) == 0);
}

TEST(kills_power_cuts_and_full_prefixes_agree_with_a_plain_array)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t random = seed;
        struct fixture f = new_disk();
        const int fd = durable_file(&f, "x", 0);
        struct model m = {.size = 0};

        for (int step = 0; step < 40; step++) {
            struct simdisk *killed, *cut, *full;
            random_step(&f, fd, &m, &random);
            killed = simdisk_clone(f.disk);
            check_file(killed, m.now, m.size);
            cut = simdisk_survivor(killed, SIMDISK_NOTHING_PENDING, 0, 0);
            check_file(cut, m.durable, m.durable_size);
            full = simdisk_survivor(killed, SIMDISK_PREFIX, UINT64_MAX, SIMDISK_SECTOR);
            check_file(full, m.now, m.size);
            simdisk_free(killed);
            simdisk_free(cut);
            simdisk_free(full);
        }
        simdisk_free(f.disk);
    }
}

static void *write_and_sync(void *context)
{
    struct fixture *f = context;
    const int fd = create(f, "x");

    for (int i = 0; i < 200; i++) {
        write_at(f, fd, block_b, 100, (uint64_t)i * 100);
        if (i % 16 == 0)
            CHECK_EQ(f->os->sync(f->os, fd), 0);
    }
    CHECK_EQ(f->os->close(f->os, fd), 0);
    return NULL;
}

TEST(threads_may_use_one_disk_while_survivors_are_taken)
{
    struct fixture f = new_disk();
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, write_and_sync, &f), 0);
    for (uint64_t i = 0; i < 50; i++)
        simdisk_free(simdisk_survivor(f.disk, SIMDISK_TORN, i, 0));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(simdisk_file_size(f.disk, "x"), 20000);
    simdisk_free(f.disk);
}
