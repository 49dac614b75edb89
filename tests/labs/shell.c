/* SPDX-License-Identifier: MIT */
/*
 * shell.c - a store that a script holds open while it breaks the file system below.
 *
 *     lab-shell            reads one command a line, answers "STATUS NUMBER MESSAGE"
 *
 *     open DIRECTORY always|interval|none mmap|pread read-write|read-only
 *     put KEY COUNT VERSION SIZE   the keys KEY .. KEY + COUNT - 1, until one fails;
 *     delete KEY COUNT             NUMBER: how many were written
 *     batch KEY COUNT VERSION SIZE the same in one batch
 *     scan                         "KEY VERSION" for each key, then NUMBER of keys
 *     get KEY                      NUMBER: the version
 *     sync  checkpoint  compact  verify  poisoned  close  quit
 *
 * A value's bytes follow from key, version and size; any others are answered with "wrong".
 */
#include "tinykv.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define VALUE_SIZE_MAX (256u * 1024)

struct header {
    uint64_t key, version;
};

static struct tkv_store *store;
static struct tkv_error err;
static uint8_t bytes[VALUE_SIZE_MAX];

static void answer(enum tkv_status status, uint64_t number)
{
    printf("%d %" PRIu64 " %s\n", (int)status, number,
           status == TKV_OK          ? "ok"
           : status == TKV_NOT_FOUND ? "not found"
                                     : err.message);
}

/* ---- Keys and values ------------------------------------------------------------------- */

static struct tkv_slice key_of(uint64_t key, char out[32])
{
    snprintf(out, 32, "%" PRIu64, key);
    return tkv_text(out);
}

static struct tkv_slice value_of(uint64_t key, uint64_t version, size_t size)
{
    const struct header header = {key, version};

    if (size < sizeof header)
        size = sizeof header;
    if (size > sizeof bytes)
        size = sizeof bytes;
    memcpy(bytes, &header, sizeof header);
    for (size_t i = sizeof header; i < size; i++)
        bytes[i] =
            (uint8_t)((key * 31 + version * 17 + i) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
    return tkv_bytes(bytes, size);
}

static bool is_right(uint64_t key, struct tkv_slice value, uint64_t *ret_version)
{
    struct header header;
    struct tkv_slice same;

    if (value.size < sizeof header)
        return false;
    memcpy(&header, value.data, sizeof header);
    same = value_of(key, header.version, value.size);
    *ret_version = header.version;
    return header.key == key && same.size == value.size &&
           memcmp(same.data, value.data, value.size) == 0;
}

/* ---- Commands -------------------------------------------------------------------------- */

static enum tkv_durability durability_of(const char *text)
{
    if (strcmp(text, "always") == 0)
        return TKV_DURABILITY_ALWAYS;
    return strcmp(text, "interval") == 0 ? TKV_DURABILITY_INTERVAL : TKV_DURABILITY_NONE;
}

static void open_store(const char *line)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    char directory[512], mode[16], read_mode[16], access[16];
    enum tkv_status status;

    if (sscanf(line, "%511s %15s %15s %15s", directory, mode, read_mode, access) != 4)
        exit(2);
    options.durability = durability_of(mode);
    options.interval_ms = 10;
    options.read_mode = strcmp(read_mode, "pread") == 0 ? TKV_READ_PREAD : TKV_READ_MMAP;
    options.read_only = strcmp(access, "read-only") == 0;
    options.data_file_size_min = 256 * 1024;
    options.data_file_size_max = 1024 * 1024;
    options.compact_size_min = 256 * 1024;
    options.wal_size_max = 512 * 1024;
    status = tkv_open(directory, &options, &store, NULL, &err);
    if (status != TKV_OK)
        store = NULL;
    answer(status, 0);
}

static void put_keys(const char *line)
{
    uint64_t key, count, version, done = 0;
    size_t size;
    enum tkv_status status = TKV_OK;
    char name[32];

    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %zu", &key, &count, &version,
               &size) != 4)
        exit(2);
    while (done < count && status == TKV_OK) {
        status = tkv_put(store, key_of(key, name), value_of(key, version, size), &err);
        done += status == TKV_OK;
        key++;
    }
    answer(status, done);
}

static void put_batch(const char *line)
{
    uint64_t key, count, version;
    struct tkv_batch *batch;
    enum tkv_status status;
    size_t size;
    char name[32];

    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %zu", &key, &count, &version,
               &size) != 4)
        exit(2);
    status = tkv_batch_new(&batch, &err);
    for (uint64_t i = 0; i < count && status == TKV_OK; i++)
        status = tkv_batch_put(batch, key_of(key + i, name),
                               value_of(key + i, version, size), &err);
    if (status == TKV_OK)
        status = tkv_write(store, batch, &err);
    tkv_batch_free(batch);
    answer(status, status == TKV_OK ? count : 0);
}

static void delete_keys(const char *line)
{
    uint64_t key, count, done = 0;
    enum tkv_status status = TKV_OK;
    char name[32];

    if (sscanf(line, "%" SCNu64 " %" SCNu64, &key, &count) != 2)
        exit(2);
    while (done < count && status == TKV_OK) {
        status = tkv_delete(store, key_of(key++, name), NULL, &err);
        done += status == TKV_OK;
    }
    answer(status, done);
}

static void get_key(const char *line)
{
    const uint64_t key = strtoull(line, NULL, 10);
    struct tkv_pin pin = {0};
    uint64_t version = 0;
    char name[32];
    const enum tkv_status status = tkv_get_pinned(store, key_of(key, name), &pin, &err);

    if (status == TKV_OK && !is_right(key, pin.value, &version))
        printf("wrong %" PRIu64 " bytes of key %" PRIu64 "\n", (uint64_t)pin.value.size,
               key);
    else
        answer(status, version);
    tkv_unpin(&pin);
}

/* A key that cannot be read is listed with its status and a minus sign. */
static void list_entry(enum tkv_status status, const struct tkv_entry *entry)
{
    char name[32] = "";
    uint64_t key, version;

    if (entry->key.size < sizeof name)
        memcpy(name, entry->key.data, entry->key.size);
    key = strtoull(name, NULL, 10);
    if (status != TKV_OK)
        printf("%" PRIu64 " -%d\n", key, (int)status);
    else if (is_right(key, entry->value, &version))
        printf("%" PRIu64 " %" PRIu64 "\n", key, version);
    else
        printf("wrong bytes of key %s\n", name);
}

static void scan(void)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    uint64_t count = 0;
    enum tkv_status status = tkv_iterator_new(store, false, &iterator, &err);

    if (status != TKV_OK) {
        answer(status, 0);
        return;
    }
    for (;;) {
        status = tkv_iterator_next(iterator, &entry, &err);
        if (status != TKV_OK && status != TKV_CORRUPT && status != TKV_IO)
            break;
        list_entry(status, &entry);
        count++;
    }
    tkv_iterator_free(iterator);
    puts(".");
    answer(status == TKV_NOT_FOUND ? TKV_OK : status, count);
}

static void look(const char *what)
{
    struct tkv_verify_report report = {0};
    struct tkv_stats stats = {0};
    uint64_t reclaimed = 0;
    enum tkv_status status;

    if (strcmp(what, "sync") == 0) {
        answer(tkv_sync(store, &err), 0);
    } else if (strcmp(what, "checkpoint") == 0) {
        answer(tkv_checkpoint(store, &err), 0);
    } else if (strcmp(what, "compact") == 0) {
        status = tkv_compact(store, &reclaimed, &err);
        answer(status, reclaimed);
    } else if (strcmp(what, "verify") == 0) {
        status = tkv_verify(store, NULL, NULL, &report, &err);
        answer(status, report.findings);
    } else if (strcmp(what, "poisoned") == 0) {
        status = tkv_stats(store, &stats, &err);
        answer(status, stats.poisoned);
    } else if (strcmp(what, "close") == 0) {
        status = tkv_close(store, &err);
        store = NULL;
        answer(status, 0);
    } else {
        exit(2);
    }
}

int main(void)
{
    static char line[1024];

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "quit") == 0)
            return 0;
        if (strncmp(line, "open ", 5) == 0)
            open_store(line + 5);
        else if (strncmp(line, "put ", 4) == 0)
            put_keys(line + 4);
        else if (strncmp(line, "batch ", 6) == 0)
            put_batch(line + 6);
        else if (strncmp(line, "delete ", 7) == 0)
            delete_keys(line + 7);
        else if (strncmp(line, "get ", 4) == 0)
            get_key(line + 4);
        else if (strcmp(line, "scan") == 0)
            scan();
        else
            look(line);
        fflush(stdout);
    }
    return 0;
}
