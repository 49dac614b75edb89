/* SPDX-License-Identifier: MIT */
#include "memory_disk.h"

#include "fuzz.h"

#include <errno.h>

#define HANDLES 64

enum handle_kind { UNUSED, DIRECTORY, SUBDIRECTORY, FILE_HANDLE };

struct handle {
    enum handle_kind kind;
    struct memory_file *file;
};

static struct handle handles[HANDLES];
static uint8_t contents[MEMORY_DISK_FILES][MEMORY_DISK_FILE_SIZE]
    __attribute__((aligned(4096)));

static struct memory_disk *disk_of(struct tkv_os *os)
{
    return (struct memory_disk *)(void *)os;
}

/* Count the call; negative when it has to fail. */
static int enter(struct tkv_os *os)
{
    struct memory_disk *disk = disk_of(os);

    disk->monotonic_us++;
    disk->calls++;
    return disk->fail_at != 0 && disk->calls >= disk->fail_at ? -disk->fail_errno : 0;
}

/* ---- Files ------------------------------------------------------------------------ */

bool memory_file_resize(struct memory_file *file, size_t size)
{
    if (size > MEMORY_DISK_FILE_SIZE)
        return false;
    if (size > file->size) {
        FUZZ_ALLOW(file->content, size);
        memset(file->content + file->size, 0, size - file->size);
    } else {
        FUZZ_FORBID(file->content + size, file->size - size);
    }
    file->size = size;
    return true;
}

static struct memory_file *find(struct memory_disk *disk, const char *name, bool in_sub)
{
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        struct memory_file *file = &disk->files[i];

        if (file->name[0] != 0 && file->in_subdirectory == in_sub &&
            strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

static struct memory_file *add(struct memory_disk *disk, const char *name, bool in_sub)
{
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        struct memory_file *file = &disk->files[i];

        if (file->name[0] != 0 || file->users != 0)
            continue;
        (void)memory_file_resize(file, 0);
        snprintf(file->name, sizeof file->name, "%s", name);
        file->in_subdirectory = in_sub;
        return file;
    }
    return NULL;
}

struct memory_file *memory_disk_find(struct memory_disk *disk, const char *name)
{
    return find(disk, name, false);
}

struct memory_file *memory_disk_put(struct memory_disk *disk, const char *name,
                                    const void *bytes, size_t size)
{
    struct memory_file *file = find(disk, name, false);

    if (file == NULL)
        file = add(disk, name, false);
    if (file == NULL || !memory_file_resize(file, 0) || !memory_file_resize(file, size))
        return NULL;
    if (size > 0)
        memcpy(file->content, bytes, size);
    return file;
}

/* ---- Handles ---------------------------------------------------------------------- */

static int add_handle(struct memory_disk *disk, enum handle_kind kind,
                      struct memory_file *file)
{
    for (int i = 0; i < HANDLES; i++) {
        if (handles[i].kind != UNUSED)
            continue;
        handles[i] = (struct handle){kind, file};
        disk->open_count++;
        if (file != NULL)
            file->users++;
        return i + 3; /* as in the real world */
    }
    return -EMFILE;
}

static struct handle *handle_at(int fd)
{
    FUZZ_CHECK(fd >= 3 && fd < HANDLES + 3 && handles[fd - 3].kind != UNUSED &&
               "only open descriptors are used");
    return &handles[fd - 3];
}

static struct memory_file *file_at(int fd)
{
    FUZZ_CHECK(handle_at(fd)->kind == FILE_HANDLE);
    return handle_at(fd)->file;
}

static bool is_sub(int dir)
{
    return handle_at(dir)->kind == SUBDIRECTORY;
}

/* ---- The table: directories --------------------------------------------------------- */

static int disk_open_dir(struct tkv_os *os, const char *path, bool create)
{
    const int result = enter(os);

    (void)path;
    (void)create;
    return result < 0 ? result : add_handle(disk_of(os), DIRECTORY, NULL);
}

static int disk_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    const int result = enter(os);

    (void)name;
    (void)create;
    FUZZ_CHECK(!is_sub(dir));
    return result < 0 ? result : add_handle(disk_of(os), SUBDIRECTORY, NULL);
}

static int disk_sync_dir(struct tkv_os *os, int dir)
{
    (void)handle_at(dir);
    return enter(os);
}

static int disk_list(struct tkv_os *os, int dir, tkv_os_name_fn *fn, void *context)
{
    struct memory_disk *disk = disk_of(os);
    const int result = enter(os);

    for (size_t i = 0; i < MEMORY_DISK_FILES && result == 0; i++) {
        char name[MEMORY_DISK_NAME_SIZE];

        if (disk->files[i].name[0] == 0 || disk->files[i].in_subdirectory != is_sub(dir))
            continue;
        memcpy(name, disk->files[i].name, sizeof name); /* fn may unlink it */
        fn(context, name);
    }
    return result;
}

static int disk_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct memory_file *file = find(disk_of(os), from, is_sub(dir));
    struct memory_file *target = find(disk_of(os), to, is_sub(dir));
    const int result = enter(os);

    if (result < 0 || file == NULL)
        return result < 0 ? result : -ENOENT;
    if (target != NULL && target != file)
        target->name[0] = 0;
    snprintf(file->name, sizeof file->name, "%s", to);
    return 0;
}

static int disk_unlink(struct tkv_os *os, int dir, const char *name)
{
    struct memory_file *file = find(disk_of(os), name, is_sub(dir));
    const int result = enter(os);

    if (result < 0 || file == NULL)
        return result < 0 ? result : -ENOENT;
    file->name[0] = 0;
    return 0;
}

static int disk_fs_info(struct tkv_os *os, int dir, struct tkv_os_fs_info *ret_info)
{
    (void)handle_at(dir);
    *ret_info = (struct tkv_os_fs_info){.free_bytes = UINT64_C(1) << 40,
                                        .total_bytes = UINT64_C(1) << 41};
    return enter(os);
}

/* ---- The table: files --------------------------------------------------------------- */

static int disk_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    const bool in_sub = is_sub(dir);
    struct memory_file *file = find(disk_of(os), name, in_sub);
    const int result = enter(os);

    if (result < 0)
        return result;
    FUZZ_CHECK(strchr(name, '/') == NULL && "no name of a file leaves the directory");
    if (file != NULL && (flags & TKV_OS_CREATE) != 0 && (flags & TKV_OS_EXCLUSIVE) != 0)
        return -EEXIST;
    if (file == NULL && (flags & TKV_OS_CREATE) == 0)
        return -ENOENT;
    if (file == NULL)
        file = add(disk_of(os), name, in_sub);
    if (file == NULL)
        return -ENOSPC;
    if ((flags & TKV_OS_TRUNCATE) != 0)
        (void)memory_file_resize(file, 0);
    return add_handle(disk_of(os), FILE_HANDLE, file);
}

/* A descriptor is closed even where the call reports a failure, as on Linux. */
static int disk_close(struct tkv_os *os, int fd)
{
    struct handle *handle = handle_at(fd);

    if (handle->file != NULL)
        handle->file->users--;
    *handle = (struct handle){UNUSED, NULL};
    disk_of(os)->open_count--;
    return enter(os);
}

static int64_t disk_read(struct tkv_os *os, int fd, void *buffer, size_t size,
                         uint64_t offset)
{
    const struct memory_file *file = file_at(fd);
    const int result = enter(os);

    if (result < 0 || offset >= file->size)
        return result;
    if (size > file->size - offset)
        size = file->size - (size_t)offset;
    memcpy(buffer, file->content + offset, size);
    return (int64_t)size;
}

static int64_t disk_write(struct tkv_os *os, int fd, const void *data, size_t size,
                          uint64_t offset)
{
    struct memory_file *file = file_at(fd);
    const int result = enter(os);

    if (result < 0)
        return result;
    if (offset > MEMORY_DISK_FILE_SIZE || size > MEMORY_DISK_FILE_SIZE - offset)
        return -ENOSPC;
    if (offset + size > file->size)
        (void)memory_file_resize(file, (size_t)offset + size);
    memcpy(file->content + offset, data, size);
    return (int64_t)size;
}

static int disk_sync(struct tkv_os *os, int fd)
{
    (void)file_at(fd);
    return enter(os);
}

static int disk_truncate(struct tkv_os *os, int fd, uint64_t size)
{
    const int result = enter(os);

    if (result < 0)
        return result;
    if (size > MEMORY_DISK_FILE_SIZE || !memory_file_resize(file_at(fd), (size_t)size))
        return -ENOSPC;
    return 0;
}

static int disk_allocate(struct tkv_os *os, int fd, uint64_t size)
{
    return size > file_at(fd)->size ? disk_truncate(os, fd, size) : enter(os);
}

static int disk_file_size(struct tkv_os *os, int fd, uint64_t *ret_size)
{
    *ret_size = file_at(fd)->size;
    return enter(os);
}

static int disk_advise(struct tkv_os *os, int fd, enum tkv_os_advice advice)
{
    (void)file_at(fd);
    (void)advice;
    return enter(os);
}

/* ---- The table: mappings -------------------------------------------------------------- */

static int disk_map(struct tkv_os *os, int fd, size_t size, bool writable,
                    void **ret_address)
{
    struct memory_file *file = file_at(fd);
    const int result = enter(os);

    (void)writable;
    if (result < 0)
        return result;
    if (size > MEMORY_DISK_FILE_SIZE)
        return -ENOMEM;
    file->users++;
    disk_of(os)->open_count++;
    *ret_address = file->content;
    return 0;
}

static int disk_unmap(struct tkv_os *os, void *address, size_t size)
{
    struct memory_disk *disk = disk_of(os);

    (void)size;
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        if (disk->files[i].content != address)
            continue;
        FUZZ_CHECK(disk->files[i].users > 0 && "nothing is unmapped twice");
        disk->files[i].users--;
        disk->open_count--;
    }
    return enter(os);
}

static void disk_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                       const void *data, size_t size)
{
    FUZZ_CHECK(map == file_at(fd)->content && offset <= file_at(fd)->size &&
               size <= file_at(fd)->size - offset);
    memcpy((uint8_t *)map + offset, data, size);
    (void)enter(os);
}

/* ---- The table: the rest ---------------------------------------------------------------- */

static int disk_lock(struct tkv_os *os, int dir, int fd, bool shared)
{
    (void)handle_at(dir);
    (void)handle_at(fd);
    (void)shared;
    return enter(os);
}

static int disk_wall_clock_ms(struct tkv_os *os, uint64_t *ret_ms)
{
    *ret_ms = disk_of(os)->wall_ms;
    return 0;
}

static int disk_monotonic_us(struct tkv_os *os, uint64_t *ret_us)
{
    *ret_us = disk_of(os)->monotonic_us;
    return 0;
}

static int disk_random(struct tkv_os *os, void *buffer, size_t size)
{
    struct memory_disk *disk = disk_of(os);
    uint8_t *p = buffer;
    const int result = enter(os);

    for (size_t i = 0; i < size && result == 0; i++) {
        disk->random_state = disk->random_state * UINT64_C(6364136223846793005) +
                             UINT64_C(1442695040888963407);
        p[i] = (uint8_t)(disk->random_state >> 56);
    }
    return result;
}

struct memory_disk *memory_disk(void)
{
    static struct memory_disk disk;

    if (disk.os.open != NULL)
        return &disk;
    disk.os = (struct tkv_os){
        disk_open_dir,      disk_open_dir_at,  disk_sync_dir, disk_list,     disk_rename,
        disk_unlink,        disk_fs_info,      disk_open,     disk_close,    disk_read,
        disk_write,         disk_sync,         disk_truncate, disk_allocate, disk_file_size,
        disk_advise,        disk_map,          disk_unmap,    disk_store,    disk_lock,
        disk_wall_clock_ms, disk_monotonic_us, disk_random};
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        disk.files[i].content = contents[i];
        FUZZ_FORBID(contents[i], MEMORY_DISK_FILE_SIZE);
    }
    return &disk;
}

void memory_disk_clear(struct memory_disk *disk)
{
    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        disk->files[i].name[0] = 0;
        disk->files[i].users = 0;
    }
    if (disk->open_count != 0)
        memset(handles, 0, sizeof handles);
    disk->open_count = 0;
    disk->wall_ms = UINT64_C(1700000000000);
    disk->monotonic_us = 1;
    disk->random_state = 1;
    disk->calls = disk->fail_at = 0;
    disk->fail_errno = EIO;
}
