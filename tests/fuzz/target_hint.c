/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a hint file.
 *
 *     control u8 | data size u24 | bytes     control bit 0: make the checksums right, bit 1:
 *                                            and the identity the one that is asked for
 *
 * An entry that is handed out lies in its data file; the same entries, written to a new hint,
 * come back in the same order; memory follows from the hint's size.
 */
#include "checksums.h"
#include "file_name.h"
#include "fuzz.h"
#include "hint.h"
#include "memory.h"
#include "memory_disk.h"

static const struct tkv_hint_identity identity_first = {
    .uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
      .number = 7
};

static void check_entry(const struct tkv_hint_entry *e,
                        const struct tkv_hint_identity *identity)
{
    FUZZ_CHECK(e->offset <= identity->data_size &&
               e->size <= identity->data_size - e->offset);
    FUZZ_CHECK(e->size >= TKV_RECORD_HEADER_SIZE + e->key.size);
    FUZZ_CHECK(e->seq != 0 && e->expires_at_ms <= INT64_MAX);
    FUZZ_CHECK((e->kind == TKV_RECORD_LARGE) == (e->large_number != 0));
}

static bool same_entry(const struct tkv_hint_entry *a, const struct tkv_hint_entry *b)
{
    return a->kind == b->kind && a->seq == b->seq && a->offset == b->offset &&
           a->size == b->size && a->expires_at_ms == b->expires_at_ms &&
           a->large_number == b->large_number && fuzz_same(a->key, b->key);
}

/* Returns how many there are. */
static uint64_t check_entries(struct tkv_hint *hint, struct tkv_hint *other,
                              const struct tkv_hint_identity *identity,
                              struct tkv_hint_writer *writer)
{
    struct tkv_hint_entry entry, again;
    struct tkv_error err;
    uint64_t count = 0;

    for (; tkv_hint_next(hint, &entry); count++) {
        check_entry(&entry, identity);
        if (other != NULL)
            FUZZ_CHECK(tkv_hint_next(other, &again) && same_entry(&entry, &again));
        if (writer != NULL)
            FUZZ_CHECK(tkv_hint_writer_add(writer, &entry, &err) == TKV_OK);
    }
    FUZZ_CHECK(other == NULL || !tkv_hint_next(other, &again));
    tkv_hint_rewind(hint);
    return count;
}

static void check_writes_back(struct tkv_os *os, int dir, struct tkv_hint *hint,
                              const struct tkv_hint_identity *identity)
{
    struct tkv_hint_writer *writer;
    struct tkv_hint *again;
    struct tkv_error err;

    FUZZ_CHECK(tkv_hint_writer_new(&writer, &err) == TKV_OK);
    (void)check_entries(hint, NULL, identity, writer);
    FUZZ_CHECK(tkv_hint_writer_write(writer, os, dir, identity, &err) == TKV_OK);
    tkv_hint_writer_free(writer);
    FUZZ_CHECK(tkv_hint_open(os, dir, identity, &again, &err) == TKV_OK);
    (void)check_entries(hint, again, identity, NULL);
    tkv_hint_free(again);
}

static void check_hint(struct tkv_os *os, const struct tkv_hint_identity *identity)
{
    const int dir = os->open_dir(os, "", false);
    struct tkv_hint *hint;
    struct tkv_error err;
    const enum tkv_status status = tkv_hint_open(os, dir, identity, &hint, &err);

    FUZZ_CHECK(status == TKV_OK || status == TKV_CORRUPT);
    if (status == TKV_OK) {
        if (check_entries(hint, NULL, identity, NULL) > 0)
            check_writes_back(os, dir, hint, identity);
        tkv_hint_free(hint);
    }
    (void)os->close(os, dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    struct tkv_hint_identity identity = identity_first;
    struct memory_disk *disk = memory_disk();
    char name[TKV_FILE_NAME_SIZE];
    struct memory_file *file;

    identity.data_size = fuzz_number(&in, 3);
    memory_disk_clear(disk);
    tkv_hint_name(identity.number, name);
    file = memory_disk_put(disk, name, in.at, in.left);
    if (size < 4 || file == NULL)
        return 0;
    if ((control & 2) != 0 && file->size >= 52) {
        memcpy(file->content + 16, identity.uuid, 16);
        tkv_put_le64(file->content + 32, identity.number);
        tkv_put_le64(file->content + 40, identity.data_size);
    }
    if ((control & 1) != 0)
        fix_hint(file->content, file->size);
    memory_begin();
    check_hint(&disk->os, &identity);
    memory_end(size + 4096 + 2 * 65536 * 2);
    FUZZ_CHECK(disk->open_count == 0);
    return 0;
}
