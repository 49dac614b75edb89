/* SPDX-License-Identifier: MIT */
#include "mutation.h"

#include "file_name.h"
#include "repair.h"

#define MUTATIONS_MAX 16u
#define RECORD_HEADER ((size_t)24)
#define GROUP_HEADER  ((size_t)56)
#define LOG_START     ((size_t)8192)

static enum tkv_file_kind kind_of(const struct memory_file *file)
{
    uint64_t number;

    return tkv_file_name_parse(file->name, &number);
}

static struct memory_file *choose(struct memory_disk *disk, unsigned number)
{
    struct memory_file *files[MEMORY_DISK_FILES];
    unsigned count = 0;

    for (size_t i = 0; i < MEMORY_DISK_FILES; i++) {
        if (disk->files[i].name[0] != 0)
            files[count++] = &disk->files[i];
    }
    return count == 0 ? NULL : files[number % count];
}

/* ---- Places in a file ---------------------------------------------------------------------- */

static bool is_record(const struct memory_file *file, size_t at, size_t *ret_end)
{
    const uint8_t *p = file->content + at;
    uint64_t size;

    if (at > file->size || file->size - at < RECORD_HEADER || p[18] < 1 || p[18] > 3)
        return false;
    size = RECORD_HEADER + tkv_get_le16(p + 22) + (uint64_t)tkv_get_le16(p + 16) +
           tkv_get_le32(p + 4);
    if (size > file->size - at)
        return false;
    *ret_end = at + (size_t)size;
    return true;
}

/* The record number `nth` after `at`, else `at`. */
static size_t record_at(const struct memory_file *file, size_t at, unsigned nth)
{
    size_t end;

    for (unsigned i = 0; i < nth && is_record(file, at, &end); i++)
        at = end;
    return at;
}

/* The group number `nth` of a log, counted in file order; the ring's start when there is none. */
static size_t group_at(const struct memory_file *file, unsigned nth)
{
    const uint64_t salt = file->size < LOG_START ? 0 : tkv_get_le64(file->content + 40);
    size_t found = LOG_START;

    for (size_t at = LOG_START; at + GROUP_HEADER <= file->size; at += 8) {
        if (salt == 0 || tkv_get_le64(file->content + at) != salt)
            continue;
        found = at;
        if (nth-- == 0)
            break;
    }
    return found;
}

static size_t place(const struct memory_file *file, unsigned which)
{
    const unsigned nth = which / 3;

    if (which == 0)
        return 0;
    switch (kind_of(file)) {
    case TKV_NAME_WAL:
        if (which % 3 == 0)
            return TKV_BLOCK_SIZE;
        return which % 3 == 1
                   ? group_at(file, nth)
                   : record_at(file, group_at(file, nth) + GROUP_HEADER, nth % 4);
    case TKV_NAME_DATA:
        return record_at(file, 64, which - 1);
    case TKV_NAME_MANIFEST:
        return 112 + 48 * (size_t)(which - 1);
    case TKV_NAME_HINT:
        return which % 2 == 1 ? 52 : file->size - (file->size < 24 ? file->size : 24);
    case TKV_NAME_FOREIGN:
    case TKV_NAME_LOCK:
    case TKV_NAME_QUARANTINE:
    case TKV_NAME_TEMPORARY:
        break;
    }
    return 0;
}

/* ---- Fields ---------------------------------------------------------------------------------- */

struct field {
    uint8_t at, size;
};

static const struct field record_fields[] = {
    {4,  4},
    {8,  8},
    {16, 2},
    {18, 1},
    {19, 1},
    {20, 1},
    {21, 1},
    {22, 2},
    {24, 8},
    {32, 8}
};
static const struct field group_fields[] = {
    {0,  8},
    {12, 4},
    {16, 8},
    {24, 8},
    {32, 8},
    {40, 4},
    {44, 1},
    {45, 1},
    {46, 2},
    {48, 4}
};
static const struct field log_fields[] = {
    {12,  4},
    {16,  8},
    {32,  8},
    {40,  8},
    {48,  8},
    {56,  8},
    {64,  8},
    {72,  4},
    {76,  4},
    {80,  8},
    {88,  8},
    {96,  8},
    {104, 4},
    {112, 8},
    {120, 8},
    {128, 8},
    {136, 8}
};
static const struct field data_fields[] = {
    {12, 4},
    {16, 8},
    {32, 8},
    {40, 8},
    {48, 1}
};
static const struct field manifest_fields[] = {
    {8,   4},
    {16,  8},
    {24,  8},
    {40,  8},
    {48,  8},
    {56,  8},
    {64,  8},
    {72,  8},
    {80,  8},
    {88,  8},
    {96,  4},
    {100, 4}
};
static const struct field listed_fields[] = {
    {0,  8},
    {8,  8},
    {16, 8},
    {24, 1},
    {25, 1}
};
static const struct field hint_fields[] = {
    {8,  4},
    {16, 8},
    {32, 8},
    {40, 8},
    {52, 4},
    {56, 4},
    {64, 8},
    {72, 8},
    {80, 4},
    {84, 2},
    {86, 1},
    {87, 1}
};

#define CHOOSE(fields, number) fields[(number) % (sizeof fields / sizeof fields[0])]

static struct field choose_field(const struct memory_file *file, unsigned which,
                                 unsigned number)
{
    switch (kind_of(file)) {
    case TKV_NAME_WAL:
        if (which % 3 == 0)
            return CHOOSE(log_fields, number);
        return which % 3 == 1 ? CHOOSE(group_fields, number)
                              : CHOOSE(record_fields, number);
    case TKV_NAME_DATA:
        return which == 0 ? CHOOSE(data_fields, number) : CHOOSE(record_fields, number);
    case TKV_NAME_MANIFEST:
        return which == 0 ? CHOOSE(manifest_fields, number) : CHOOSE(listed_fields, number);
    case TKV_NAME_HINT:
        return which == 0 ? CHOOSE(hint_fields, number) : (struct field){0, 8};
    case TKV_NAME_FOREIGN:
    case TKV_NAME_LOCK:
    case TKV_NAME_QUARANTINE:
    case TKV_NAME_TEMPORARY:
        break;
    }
    return (struct field){0, 8};
}

static void write_at(struct memory_file *file, size_t at, const void *bytes, size_t size)
{
    if (at >= file->size)
        return;
    if (size > file->size - at)
        size = file->size - at;
    if (size > 0)
        memcpy(file->content + at, bytes, size);
}

static void write_field(struct memory_file *file, struct fuzz_input *in)
{
    const unsigned which = fuzz_u8(in), number = fuzz_u8(in);
    const struct field field = choose_field(file, which, number);
    uint8_t bytes[8];

    tkv_put_le64(bytes, fuzz_u64(in));
    write_at(file, place(file, which) + field.at, bytes, field.size);
}

/* ---- Mutations ------------------------------------------------------------------------------- */

static void make_name(struct fuzz_input *in, char out[TKV_FILE_NAME_SIZE])
{
    static const char *const names[] = {TKV_MANIFEST_NAME, TKV_WAL_NAME,
                                        TKV_MANIFEST_TEMPORARY_NAME, "foreign"};
    const unsigned choice = fuzz_u8(in) % 6;
    const unsigned given = fuzz_u8(in);
    const uint64_t number = given == 255 ? INT64_MAX : given + UINT64_C(1);

    if (choice == 4)
        tkv_data_name(number, out);
    else if (choice == 5)
        tkv_hint_name(number, out);
    else
        snprintf(out, TKV_FILE_NAME_SIZE, "%s", names[choice]);
}

static void rename_file(struct memory_disk *disk, struct memory_file *file,
                        struct fuzz_input *in, bool keep)
{
    char name[TKV_FILE_NAME_SIZE];
    struct memory_file *target;

    make_name(in, name);
    target = memory_disk_find(disk, name);
    if (target == file)
        return;
    if (keep) {
        (void)memory_disk_put(disk, name, file->content, file->size);
        return;
    }
    if (target != NULL)
        target->name[0] = 0;
    snprintf(file->name, sizeof file->name, "%s", name);
}

static void copy_range(struct memory_disk *disk, struct memory_file *file, size_t at,
                       struct fuzz_input *in)
{
    static uint8_t bytes[65536];
    const struct memory_file *from = choose(disk, fuzz_u8(in));
    const size_t begin = fuzz_u16(in);
    size_t size = fuzz_u16(in);

    if (begin >= from->size)
        return;
    if (size > from->size - begin)
        size = from->size - begin;
    memcpy(bytes, from->content + begin, size);
    write_at(file, at, bytes, size);
}

static void add_to(struct memory_file *file, size_t at, unsigned delta)
{
    uint8_t bytes[8];

    if (file->size < 8 || at > file->size - 8)
        return;
    tkv_put_le64(bytes, tkv_get_le64(file->content + at) + delta - 128);
    memcpy(file->content + at, bytes, 8);
}

static void mutate_once(struct memory_disk *disk, struct fuzz_input *in)
{
    struct memory_file *file = choose(disk, fuzz_u8(in));
    const unsigned what = fuzz_u8(in);
    const size_t offset = fuzz_u16(in);
    struct tkv_slice bytes;
    size_t at;

    if (file == NULL)
        return;
    at = place(file, what / 10) + offset;
    switch (what % 10) {
    case 0:
        bytes = fuzz_take(in, fuzz_u8(in));
        write_at(file, at, bytes.data, bytes.size);
        break;
    case 1:
        if (at < file->size)
            file->content[at] ^= (uint8_t)(1u << fuzz_u8(in) % 8);
        break;
    case 2:
        (void)memory_file_resize(file, at < file->size ? at : file->size);
        break;
    case 3:
        (void)memory_file_resize(file, file->size + offset);
        break;
    case 4:
        file->name[0] = 0;
        break;
    case 5:
        copy_range(disk, file, at, in);
        break;
    case 6:
        rename_file(disk, file, in, false);
        break;
    case 7:
        write_field(file, in);
        break;
    case 8:
        rename_file(disk, file, in, true);
        break;
    case 9:
        add_to(file, at, fuzz_u8(in));
        break;
    default:
        break;
    }
}

/* ---- All together ------------------------------------------------------------------------ */

void mutate(struct memory_disk *disk, struct fuzz_input *in, enum mutate how)
{
    for (unsigned i = 0; i < MUTATIONS_MAX && in->left > 0; i++)
        mutate_once(disk, in);
    if (how != MUTATE_ONLY)
        repair(disk, how == MUTATE_AND_FIX_ALL);
}
