/* SPDX-License-Identifier: MIT */
#include "order_fixture.h"

static struct order_fixture fixture;

/* ---- The table with calls left out ------------------------------------------------------- */

static bool ends_with(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) &&
           strcmp(name + strlen(name) - strlen(end), end) == 0;
}

static int watch_open_dir(struct tkv_os *os, const char *path, bool create)
{
    fixture.dir = fixture.real.open_dir(os, path, create);
    return fixture.dir;
}

static int watch_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct order_fixture *f = &fixture;
    const int fd = f->real.open(os, dir, name, flags);

    if (fd < 0)
        return fd;
    CHECK(fd < (int)NAMES_MAX);
    snprintf(f->names[fd], sizeof f->names[fd], "%s", name);
    if (strcmp(name, TKV_WAL_NAME) == 0 && flags & TKV_OS_DIRECT_SYNC)
        f->log_direct_fd = fd;
    else if (strcmp(name, TKV_WAL_NAME) == 0 && flags & TKV_OS_WRITE)
        f->log_fd = fd;
    else if (ends_with(name, ".data") && flags & TKV_OS_WRITE)
        f->data_fd = fd;
    return fd;
}

static bool is_log_lost(struct order_fixture *f, const void *data, size_t size,
                        uint64_t offset)
{
    if (offset < TKV_WAL_RING_START) {
        memcpy(f->header, data, sizeof f->header);
        return f->loses_headers;
    }
    if (size <= sizeof f->group) {
        memcpy(f->group, data, size);
        f->group_size = size;
        f->group_offset = offset;
    }
    return f->loses_groups;
}

static int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    struct order_fixture *f = &fixture;

    if (strcmp(f->names[fd], TKV_WAL_NAME) == 0 && is_log_lost(f, data, size, offset))
        return (int64_t)size;
    return f->real.write(os, fd, data, size, offset);
}

static void watch_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size)
{
    if (!is_log_lost(&fixture, data, size, offset))
        fixture.real.store(os, fd, map, offset, data, size);
}

static int watch_sync(struct tkv_os *os, int fd)
{
    struct order_fixture *f = &fixture;

    if (f->lost_sync != NULL && ends_with(f->names[fd], f->lost_sync))
        return 0;
    return f->real.sync(os, fd);
}

static int watch_sync_dir(struct tkv_os *os, int dir)
{
    return fixture.loses_directory_syncs ? 0 : fixture.real.sync_dir(os, dir);
}

/* ---- Fixture ----------------------------------------------------------------------------- */

static void keep_message(struct order_verifier *verifier, const char *message)
{
    struct order_fixture *f = verifier->context;

    if (f->message[0] == 0)
        snprintf(f->message, sizeof f->message, "%s", message);
}

static void allow(struct simdisk *disk, const char *message)
{
    (void)disk;
    (void)message;
}

void verify(struct order_fixture *f)
{
    (void)order_watch(false); /* one verifier is enough */
    f->verifier = order_verifier_new(&f->disk->os);
    f->verifier->violated = keep_message;
    f->verifier->context = f;
    f->os = &f->verifier->os;
    f->real = *f->os;
    f->os->open_dir = watch_open_dir;
    f->os->open = watch_open;
    f->os->write = watch_write;
    f->os->store = watch_store;
    f->os->sync = watch_sync;
    f->os->sync_dir = watch_sync_dir;
}

void open_store(struct order_fixture *f)
{
    struct tkv_error err;

    CHECK_OK(tkv_open_on(f->os, "", &f->options, &f->store, NULL, &err));
}

struct order_fixture *new_fixture(enum tkv_durability durability)
{
    struct order_fixture *f = &fixture;

    memset(f, 0, sizeof *f);
    f->disk = simdisk_new(1);
    f->disk->violated = allow; /* some of these calls break its rules as well */
    f->options = (struct tkv_options)TKV_OPTIONS_DEFAULT;
    f->options.durability = durability;
    f->options.background = false;
    f->options.compress_level = 0;
    f->options.wal_size_max = 64 * 1024;
    verify(f);
    return f;
}

struct order_fixture *open_fixture(enum tkv_durability durability)
{
    struct order_fixture *f = new_fixture(durability);

    open_store(f);
    CHECK_STR(f->message, "");
    return f;
}

void put(struct order_fixture *f, const char *key, size_t size)
{
    static const uint8_t zeros[32 * 1024];

    if (tkv_put(f->store, tkv_text(key), tkv_bytes(zeros, size), NULL) == TKV_OK &&
        f->options.durability == TKV_DURABILITY_ALWAYS)
        order_verifier_acknowledged(f->verifier, 1);
}

void checkpoint(struct order_fixture *f)
{
    const enum tkv_status status = tkv_checkpoint(f->store, NULL);

    CHECK(status == TKV_OK || status == TKV_POISONED);
}

void open_again(struct order_fixture *f)
{
    struct tkv_error err;

    CHECK_OK(tkv_close(f->store, &err));
    order_verifier_free(f->verifier);
    verify(f);
}

void expect_broken(struct order_fixture *f, const char *rule)
{
    const bool is_seen = strstr(f->message, rule) != NULL;

    if (!is_seen)
        fprintf(stderr, "  broken: %s\n  wanted: %s\n", f->message, rule);
    CHECK(is_seen);
    f->message[0] = 0;
}

void end_broken(struct order_fixture *f, const char *rule)
{
    struct tkv_error err;

    expect_broken(f, rule);
    (void)tkv_close(f->store, &err);
    order_verifier_free(f->verifier);
    simdisk_free(f->disk);
}
