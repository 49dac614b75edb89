/* SPDX-License-Identifier: MIT */
/*
 * sim_store.h - one store on one simulated disk, where time, space and failures can be had;
 * keys and values are texts, or follow from numbers. Without threads: compaction happens
 * within the calls. Of 64 KiB each: the log, and every data file. Brings store_checks.h.
 *
 *     struct fixture f = begin();
 *
 *     put(&f, "key", "value");
 *     put_number(&f, 7, 0, 3000);
 *     cut_power(&f);
 *     check_value(&f, "key", "value");
 *     check_number(&f, 7, 0, 3000);
 *     end(&f);
 */
#ifndef TKV_SIM_STORE_H
#define TKV_SIM_STORE_H

#include "simdisk.h"
#include "store.h"
#include "store_checks.h"
#include "test.h"

struct fixture {
    struct simdisk *disk;
    struct tkv_options options;
    struct tkv_store *store;
};

static struct tkv_error err;

#define WALL_MS UINT64_C(1700000000000)

static inline struct fixture begin_closed(void)
{
    struct fixture f = {.disk = simdisk_new(7), .options = TKV_OPTIONS_DEFAULT};

    f.disk->wall_ms = WALL_MS;
    f.options.background = false;
    f.options.wal_size_max = 64 * 1024;
    f.options.data_file_size_min = 64 * 1024;
    f.options.data_file_size_max = 64 * 1024;
    f.options.compact_size_min = 128 * 1024;
    return f;
}

static inline void reopen(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
    CHECK_EQ(simdisk_open_count(f->disk), 0);
    CHECK_OK(tkv_open_on(&f->disk->os, "", &f->options, &f->store, NULL, &err));
}

static inline struct fixture begin(void)
{
    struct fixture f = begin_closed();

    reopen(&f);
    return f;
}

static inline void end(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    CHECK_EQ(simdisk_open_count(f->disk), 0);
    simdisk_free(f->disk);
}

/* What a power cut leaves of a store that may be in trouble; the old one is abandoned. */
static inline void cut_power(struct fixture *f)
{
    struct simdisk *after =
        simdisk_survivor(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);

    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = after;
    f->store = NULL;
    reopen(f);
}

/* What a killed process leaves, not yet opened; the old one is abandoned. */
static inline void kill_process(struct fixture *f)
{
    struct simdisk *after = simdisk_clone(f->disk);

    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = after;
    f->store = NULL;
}

static inline enum tkv_status try_put(const struct fixture *f, const char *key,
                                      const char *value)
{
    return tkv_put(f->store, tkv_text(key), tkv_text(value), &err);
}

static inline void put(const struct fixture *f, const char *key, const char *value)
{
    CHECK_OK(try_put(f, key, value));
}

static inline bool del(const struct fixture *f, const char *key)
{
    bool existed = false;

    CHECK_OK(tkv_delete(f->store, tkv_text(key), &existed, &err));
    return existed;
}

static inline void check_value(const struct fixture *f, const char *key, const char *value)
{
    void *copy;
    size_t size;

    CHECK_OK(tkv_get_copy(f->store, tkv_text(key), &copy, &size, &err));
    CHECK_EQ(size, strlen(value));
    CHECK_STR((char *)copy, value); /* a zero byte follows it */
    tkv_free(copy);
}

static inline void check_absent(const struct fixture *f, const char *key)
{
    struct tkv_pin pin = {.value = {0}};
    size_t size;
    char byte;

    CHECK_EQ(tkv_exists(f->store, tkv_text(key), &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_get(f->store, tkv_text(key), &byte, 1, &size, &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_get_pinned(f->store, tkv_text(key), &pin, &err), TKV_NOT_FOUND);
}

static inline struct tkv_stats stats_of(const struct fixture *f)
{
    struct tkv_stats stats;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats;
}

static inline void put_number(const struct fixture *f, unsigned number, unsigned version,
                              size_t size)
{
    uint8_t value[20000];
    char key[16];

    CHECK(size <= sizeof value);
    snprintf(key, sizeof key, "key%u", number);
    fill(value, size, (uint64_t)number << 32 | version);
    CHECK_OK(tkv_put(f->store, tkv_text(key), tkv_bytes(value, size), &err));
}

static inline void check_number(const struct fixture *f, unsigned number, unsigned version,
                                size_t size)
{
    uint8_t value[20000], wanted[20000];
    char key[16];
    size_t got;

    snprintf(key, sizeof key, "key%u", number);
    fill(wanted, size, (uint64_t)number << 32 | version);
    CHECK_OK(tkv_get(f->store, tkv_text(key), value, sizeof value, &got, &err));
    CHECK_EQ(got, size);
    CHECK(memcmp(value, wanted, size) == 0);
}

static inline void delete_number(const struct fixture *f, unsigned number)
{
    char key[16];

    snprintf(key, sizeof key, "key%u", number);
    CHECK(del(f, key));
}

#endif
