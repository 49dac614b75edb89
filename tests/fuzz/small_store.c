/* SPDX-License-Identifier: MIT */
#include "small_store.h"

#include "checksums.h"
#include "file_name.h"
#include "fuzz.h"
#include "store.h"

#define KEYS          14u
#define KEY_LONG_SIZE 300u

/* ---- Keys and values ------------------------------------------------------------------- */

static struct tkv_slice key_text(unsigned key)
{
    static char text[16], long_text[KEY_LONG_SIZE];

    if (key == 0)
        return tkv_bytes("", 0);
    if (key == 1) {
        memset(long_text, 'k', sizeof long_text);
        return tkv_bytes(long_text, sizeof long_text);
    }
    (void)snprintf(text, sizeof text, "key%u", key);
    return tkv_text(text);
}

/* Byte `at` of what write number `number` gave the key; even numbers compress well. */
static uint8_t value_byte(unsigned key, uint32_t number, size_t at)
{
    const uint64_t word = number % 2 == 0 ? at / 64 : at;
    const uint64_t mixed =
        (word + key * 977u + number * 31u) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint8_t)(mixed >> 56);
}

static void make_value(unsigned key, uint32_t number, uint8_t *out, size_t size)
{
    for (size_t at = 4; at < size; at++)
        out[at] = value_byte(key, number, at);
    if (size >= 4)
        tkv_put_le32(out, number);
}

bool small_store_is_true(struct tkv_slice key, struct tkv_slice value)
{
    const uint8_t *bytes = value.data;
    unsigned number = 0;

    while (number < KEYS && !fuzz_same(key, key_text(number)))
        number++;
    if (number == KEYS)
        return false;
    for (size_t at = 4; at < value.size; at++) {
        if (bytes[at] != value_byte(number, tkv_get_le32(bytes), at))
            return false;
    }
    return true;
}

/* ---- Writing ------------------------------------------------------------------------------ */

struct author {
    struct memory_disk *disk;
    struct tkv_options options;
    struct tkv_store *store;
    uint32_t number; /* of the last write */
};

static void put(struct author *a, unsigned key, size_t size, uint64_t expires_at_ms)
{
    static uint8_t value[64 * 1024];
    struct tkv_error err;
    enum tkv_status status;

    make_value(key, ++a->number, value, size);
    status = expires_at_ms == 0
                 ? tkv_put(a->store, key_text(key), tkv_bytes(value, size), &err)
                 : tkv_put_expiring(a->store, key_text(key), tkv_bytes(value, size),
                                    expires_at_ms, &err);
    FUZZ_CHECK_SAYING(status == TKV_OK, err.message);
}

static void delete (struct author *a, unsigned key)
{
    struct tkv_error err;

    FUZZ_CHECK(tkv_delete(a->store, key_text(key), NULL, &err) == TKV_OK);
}

static void batch(struct author *a)
{
    struct tkv_batch *batch;
    uint8_t value[200];
    struct tkv_error err;

    FUZZ_CHECK(tkv_batch_new(&batch, &err) == TKV_OK);
    for (unsigned key = 4; key < 7; key++) {
        make_value(key, ++a->number, value, sizeof value);
        FUZZ_CHECK(tkv_batch_put(batch, key_text(key), tkv_bytes(value, sizeof value),
                                 &err) == TKV_OK);
    }
    FUZZ_CHECK(tkv_batch_delete(batch, key_text(7), &err) == TKV_OK);
    FUZZ_CHECK(tkv_write(a->store, batch, &err) == TKV_OK);
    tkv_batch_free(batch);
}

static void checkpoint(struct author *a)
{
    struct tkv_error err;

    FUZZ_CHECK(tkv_checkpoint(a->store, &err) == TKV_OK);
}

static void open_store(struct author *a)
{
    struct tkv_error err;

    FUZZ_CHECK_SAYING(tkv_open_on(&a->disk->os, "", &a->options, &a->store, NULL, &err) ==
                          TKV_OK,
                      err.message);
}

static void close_store(struct author *a)
{
    struct tkv_error err;

    FUZZ_CHECK_SAYING(tkv_close(a->store, &err) == TKV_OK, err.message);
}

/* Every kind of record; some before a checkpoint and some after it. */
static void write_mixture(struct author *a)
{
    for (unsigned key = 0; key < 8; key++)
        put(a, key, key * 37 % 150, 0);
    put(a, 8, 30, a->disk->wall_ms + 5000);
    put(a, 9, 700, 0);
    put(a, 10, 900, a->disk->wall_ms + 3600000);
    delete (a, 3);
    checkpoint(a);
    batch(a);
    put(a, 2, 60, 0);
    put(a, 3, 4, 0);
    delete (a, 5);
    put(a, 11, 0, 0);
}

static void write_and_compact(struct author *a)
{
    struct tkv_error err;

    for (unsigned i = 0; i < 40; i++)
        put(a, 2 + i % 4, 4000 + (i % 3) * 601, 0);
    delete (a, 2);
    put(a, 6, 100, 0);
    checkpoint(a);
    FUZZ_CHECK(tkv_compact(a->store, NULL, &err) == TKV_OK);
    close_store(a);
    open_store(a); /* which writes the hints that are missing */
    for (unsigned i = 0; i < 3; i++)
        put(a, 7 + i, 50, 0);
    delete (a, 8);
}

static void write_large(struct author *a)
{
    put(a, 2, 20000, 0);
    put(a, 3, 30001, 0);
    put(a, 4, 20010, a->disk->wall_ms + 5000);
    put(a, 3, 18000, 0);
    checkpoint(a);
    put(a, 5, 24001, 0);
    put(a, 6, 10, 0);
}

static void write_laps(struct author *a)
{
    for (unsigned i = 0; i < 45; i++)
        put(a, 2 + i % 3, 1500 + i * 3, 0);
}

static void write_kind(struct author *a, enum small_store_kind kind)
{
    switch (kind) {
    case SMALL_STORE_NEW:
        put(a, 2, 10, 0);
        break;
    case SMALL_STORE_COMPACTED:
        write_and_compact(a);
        break;
    case SMALL_STORE_LARGE:
        write_large(a);
        break;
    case SMALL_STORE_WRAPPED:
        write_laps(a);
        break;
    case SMALL_STORE_CLOSED:
    case SMALL_STORE_KILLED:
    case SMALL_STORE_RELAXED:
    case SMALL_STORE_KINDS:
        write_mixture(a);
        break;
    }
}

/* ---- Taking and putting them ------------------------------------------------------------------ */

struct tkv_options small_store_options(void)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.wal_size_max = 64 * 1024;
    options.data_file_size_min = options.data_file_size_max = 64 * 1024;
    options.compact_size_min = 0;
    return options;
}

static void take(struct small_store *store, const struct memory_disk *disk)
{
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        const struct memory_file *from = &disk->files[i];
        struct small_file *file = &store->files[store->file_count];

        if (from->name[0] == 0 || from->in_subdirectory)
            continue;
        FUZZ_CHECK(store->file_count < sizeof store->files / sizeof store->files[0]);
        memcpy(file->name, from->name, sizeof file->name);
        file->size = from->size;
        file->bytes = malloc(from->size + 1);
        FUZZ_CHECK(file->bytes != NULL);
        memcpy(file->bytes, from->content, from->size);
        store->file_count++;
    }
}

/* What was never used of the log is left out, so that mutations hit what matters. */
static void trim_log(struct small_store *store)
{
    struct small_file *log = store->files;
    size_t used;

    while (strcmp(log->name, TKV_WAL_NAME) != 0)
        log++;
    used = log->size;
    while (used > 0 && log->bytes[used - 1] == 0)
        used--;
    log->size = (size_t)tkv_round_up(used, TKV_BLOCK_SIZE);
    for (size_t block = 0; block < 2 * TKV_BLOCK_SIZE; block += TKV_BLOCK_SIZE) {
        tkv_put_le64(log->bytes + block + 96, log->size);
        fix_log_header(log->bytes + block, TKV_BLOCK_SIZE);
    }
}

static void make(struct small_store *store, struct memory_disk *disk,
                 enum small_store_kind kind)
{
    struct author author = {.disk = disk, .options = small_store_options()};

    if (kind == SMALL_STORE_RELAXED)
        author.options.durability = TKV_DURABILITY_NONE;
    author.options.compress_level = kind == SMALL_STORE_WRAPPED ? 0 : 6;
    memory_disk_clear(disk);
    open_store(&author);
    write_kind(&author, kind);
    if (kind != SMALL_STORE_CLOSED)
        take(store, disk);
    close_store(&author);
    if (kind == SMALL_STORE_CLOSED)
        take(store, disk);
    trim_log(store);
}

const struct small_store *small_store(struct memory_disk *disk, enum small_store_kind kind)
{
    static struct small_store stores[SMALL_STORE_KINDS];

    if (stores[kind].file_count == 0)
        make(&stores[kind], disk, kind);
    return &stores[kind];
}

void small_store_put(const struct small_store *store, struct memory_disk *disk)
{
    memory_disk_clear(disk);
    for (size_t i = 0; i < store->file_count; i++)
        FUZZ_CHECK(memory_disk_put(disk, store->files[i].name, store->files[i].bytes,
                                   store->files[i].size) != NULL);
}
