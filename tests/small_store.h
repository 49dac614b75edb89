/* SPDX-License-Identifier: MIT */
/*
 * small_store.h - one small store on one simulated disk, without threads, and its files from
 * outside. Of 64 KiB each: the log, and every data file. Reads go to the files (pread) once a
 * store was opened again.
 *
 *     struct fixture f;
 *
 *     begin(&f);
 *     put_bytes(&f, "key", 7, 100);
 *     kill_process(&f, SIMDISK_NOTHING_PENDING);
 *     open_again(&f);
 *     check_byte(&f, "key", 7);
 *     end(&f);
 */
#ifndef TKV_SMALL_STORE_H
#define TKV_SMALL_STORE_H

#include "checksum.h"
#include "record.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

#define FILE_SIZE_MAX (1024u * 1024)

static struct tkv_error err;

/* ---- One store on one disk ----------------------------------------------------------- */

struct fixture {
    struct simdisk *disk;
    struct tkv_options options;
    struct tkv_store *store;
    struct tkv_open_report report;
    unsigned corruptions; /* events */
};

/* Of all data files. */
struct usage_sums {
    uint64_t live_bytes, live_records, tombstone_bytes, records;
};

static inline struct usage_sums usage_of(struct fixture *f)
{
    struct usage_sums sum = {0};

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);

        if (file == NULL)
            continue;
        sum.live_bytes += tkv_usage_get(&file->usage.live_bytes);
        sum.live_records += tkv_usage_get(&file->usage.live_records);
        sum.tombstone_bytes += tkv_usage_get(&file->usage.tombstone_bytes);
        sum.records += tkv_usage_get(&file->usage.records);
    }
    return sum;
}

static inline void count_event(void *context, const struct tkv_event *event)
{
    struct fixture *f = context;

    f->corruptions += event->kind == TKV_EVENT_CORRUPTION;
}

static inline void begin_closed(struct fixture *f)
{
    *f = (struct fixture){.disk = simdisk_new(3), .options = TKV_OPTIONS_DEFAULT};
    f->options.background = false;
    f->options.auto_compact = false;
    f->options.wal_size_max = 64 * 1024;
    f->options.data_file_size_min = f->options.data_file_size_max = 64 * 1024;
    f->options.read_mode = TKV_READ_PREAD;
    f->options.on_event = count_event;
    f->options.event_context = f;
}

static inline enum tkv_status try_open(struct fixture *f)
{
    return tkv_open_on(&f->disk->os, "", &f->options, &f->store, &f->report, &err);
}

static inline void open_again(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
    CHECK_OK(try_open(f));
}

static inline void begin(struct fixture *f)
{
    begin_closed(f);
    open_again(f);
}

/* What a killed process leaves; the store that was open is abandoned. */
static inline void kill_process(struct fixture *f, enum simdisk_model model)
{
    struct simdisk *after = simdisk_survivor(f->disk, model, 0, SIMDISK_PAGE);

    (void)tkv_close(f->store, NULL);
    simdisk_free(f->disk);
    f->disk = after;
    f->store = NULL;
}

static inline void end(struct fixture *f)
{
    if (f->store != NULL)
        CHECK_OK(tkv_close(f->store, &err));
    CHECK_EQ(simdisk_open_count(f->disk), 0);
    simdisk_free(f->disk);
}

static inline void put_bytes(struct fixture *f, const char *key, uint8_t byte, size_t size)
{
    static uint8_t value[32768];

    memset(value, byte, sizeof value);
    CHECK(size <= sizeof value);
    CHECK_OK(tkv_put(f->store, tkv_text(key), tkv_bytes(value, size), &err));
}

static inline void del(struct fixture *f, const char *key)
{
    CHECK_OK(tkv_delete(f->store, tkv_text(key), NULL, &err));
}

/* What comes next goes into a file of its own. */
static inline void rotate(struct fixture *f)
{
    tkv_mutex_lock(&f->store->apply);
    CHECK_OK(tkv_apply_rotate(f->store, 0, &err));
    tkv_mutex_unlock(&f->store->apply);
}

static inline enum tkv_status get(struct fixture *f, const char *key, uint8_t *ret_byte)
{
    static uint8_t value[32768];
    size_t size;
    const enum tkv_status status =
        tkv_get(f->store, tkv_text(key), value, sizeof value, &size, &err);

    if (status == TKV_OK)
        *ret_byte = size > 0 ? value[0] : 0;
    return status;
}

static inline void check_byte(struct fixture *f, const char *key, uint8_t byte)
{
    uint8_t got;

    CHECK_OK(get(f, key, &got));
    CHECK_EQ(got, byte);
}

/* ---- Files from outside -------------------------------------------------------------- */

struct copy {
    uint8_t bytes[FILE_SIZE_MAX];
    int64_t size;
};

static inline void keep_file(const struct fixture *f, const char *name, struct copy *copy)
{
    copy->size = simdisk_file_read(f->disk, name, copy->bytes, sizeof copy->bytes, 0);
    CHECK(copy->size > 0);
}

static inline void put_file(const struct fixture *f, const char *name,
                            const struct copy *copy)
{
    if (simdisk_file_size(f->disk, name) >= 0)
        CHECK(simdisk_file_truncate(f->disk, name, 0) >= 0);
    CHECK_EQ(simdisk_file_write(f->disk, name, copy->bytes, (size_t)copy->size, 0),
             copy->size);
}

/* Offset of the n-th record (from 0) of `key`, and its size. */
static inline uint64_t find_record(const struct copy *file, const char *key, unsigned n,
                                   size_t *ret_size)
{
    for (uint64_t at = TKV_DATA_HEADER_SIZE; at < (uint64_t)file->size; at++) {
        struct tkv_record record;
        const struct tkv_slice rest =
            tkv_bytes(file->bytes + at, (size_t)file->size - (size_t)at);

        if (tkv_record_decode(rest, &record) != TKV_RECORD_GOOD)
            continue;
        if (record.key.size != strlen(key) ||
            memcmp(record.key.data, key, record.key.size) != 0 || n-- > 0)
            continue;
        *ret_size = tkv_record_size(&record);
        return at;
    }
    test_fail(__FILE__, __LINE__, "the record is there");
    return 0;
}

static inline void overwrite(const struct fixture *f, const char *name, uint64_t offset,
                             const void *bytes, size_t size)
{
    CHECK_EQ(simdisk_file_write(f->disk, name, bytes, size, offset), (int64_t)size);
}

__attribute__((unused)) static struct copy first; /* large */

#define DATA "0000000001.data" /* the first one */

#endif
