/* SPDX-License-Identifier: MIT */
/*
 * Recovery where a header, a manifest or an option says something rare: each is taken as what
 * it is, refused, or makes no difference.
 *
 * Method: a small store's log header or manifest is changed from outside, its checksums made
 * right again.
 */
#include "killed_store.h"

#include <errno.h>

TEST_MAIN

static int reserve_left = -1; /* keys that the index has memory for; -1: any number */

enum tkv_status __real_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_reserve(struct tkv_index *index, struct tkv_slice key,
                                         uint64_t hash, bool expires, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_reserve(index, key, hash, expires, e);
}

enum tkv_status __real_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);
enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e);

enum tkv_status __wrap_tkv_index_add(struct tkv_index *index, struct tkv_slice key,
                                     uint64_t hash, const struct tkv_location *location,
                                     bool *ret_added, struct tkv_error *e)
{
    if (reserve_left == 0)
        return tkv_fail_memory(e, 1, "a key");
    if (reserve_left > 0)
        reserve_left--;
    return __real_tkv_index_add(index, key, hash, location, ret_added, e);
}

static int tails_left = -1; /* files that memory to grow is there for; -1: any number */

enum tkv_status __real_tkv_datafile_reopen_tail(struct tkv_datafile *file,
                                                uint64_t capacity, struct tkv_error *e);
enum tkv_status __wrap_tkv_datafile_reopen_tail(struct tkv_datafile *file,
                                                uint64_t capacity, struct tkv_error *e);

enum tkv_status __wrap_tkv_datafile_reopen_tail(struct tkv_datafile *file,
                                                uint64_t capacity, struct tkv_error *e)
{
    if (tails_left == 0)
        return tkv_fail_memory(e, 1, "a tail");
    if (tails_left > 0)
        tails_left--;
    return __real_tkv_datafile_reopen_tail(file, capacity, e);
}

static uint64_t presized[16]; /* keys that the index was made large enough for */
static unsigned presize_count;

void __real_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys);
void __wrap_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys);

void __wrap_tkv_index_presize(struct tkv_index *index, uint64_t expected_keys)
{
    if (presize_count < sizeof presized / sizeof presized[0])
        presized[presize_count++] = expected_keys;
    __real_tkv_index_presize(index, expected_keys);
}

static int new_files_left = -1; /* data files that memory is there for; -1: any number */

enum tkv_status __real_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e);
enum tkv_status __wrap_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e);

enum tkv_status __wrap_tkv_datafile_new(struct tkv_os *os, const uint8_t uuid[16],
                                        uint64_t number, uint64_t seq_base,
                                        enum tkv_file_class file_class, uint64_t capacity,
                                        bool use_map, struct tkv_datafile **ret_file,
                                        struct tkv_error *e)
{
    if (new_files_left == 0)
        return tkv_fail_memory(e, 1, "a data file");
    if (new_files_left > 0)
        new_files_left--;
    return __real_tkv_datafile_new(os, uuid, number, seq_base, file_class, capacity,
                                   use_map, ret_file, e);
}

/* ---- What is refused ------------------------------------------------------------------- */

TEST(a_header_with_a_data_file_that_the_manifest_does_not_list_is_refused)
{
    for (unsigned lists_none = 0; lists_none < 2; lists_none++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;

        begin_killed(&f);
        name_unlisted_file(&f, &h);
        read_manifest(&f, &m);
        if (lists_none) {
            free(m.files);
            m.files = NULL;
            m.file_count = 0;
        }
        write_manifest(&f, &m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK(strstr(err.message, "data file 77") != NULL);
        CHECK_EQ(err.seq, 0);
        CHECK_EQ(err.offset, 0);
        end(&f);
    }
}

/* The least that no store ever counts to. */
TEST(a_counter_at_its_end_is_refused_by_name)
{
    static const struct {
        const char *file, *name;
    } counters[] = {
        {"MANIFEST", "epoch"      },
        {"MANIFEST", "next number"},
        {"MANIFEST", "generation" },
        {"wal.log",  "generation" },
        {"wal.log",  "position"   },
        {"wal.log",  "seq next"   },
    };

    for (unsigned i = 0; i < sizeof counters / sizeof counters[0]; i++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;
        char text[64];

        begin_killed(&f);
        read_header(&f, &h);
        read_manifest(&f, &m);
        *(uint64_t *[]){&m.epoch,
                        &m.next_number,
                        &m.checkpoint.generation,
                        &h.checkpoint.generation,
                        &h.checkpoint.position,
                        &h.checkpoint.seq_next}[i] = UINT64_C(1) << 62;
        if (m.checkpoint.generation > h.checkpoint.generation)
            h.checkpoint.generation = m.checkpoint.generation;
        write_header(&f, &h);
        write_manifest(&f, &m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_STR(err.file, counters[i].file);
        CHECK_EQ(err.offset, 0);
        CHECK_EQ(err.seq, 0);
        snprintf(text, sizeof text, "its %s is 4611686018427387904", counters[i].name);
        CHECK(strstr(err.message, text) != NULL);
        end(&f);
    }
}

/* ---- Manifest and header of different times -------------------------------------------- */

TEST(a_manifest_older_than_the_one_that_the_log_knows_is_refused)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;
    struct fixture f;
    char why[64];

    begin_killed(&f);
    read_header(&f, &h);
    read_manifest(&f, &m);
    CHECK_EQ(h.manifest_epoch, m.epoch);
    snprintf(why, sizeof why, "it is number %u, but wal.log knows number %u",
             (unsigned)m.epoch, (unsigned)m.epoch + 1);
    h.manifest_epoch++;
    write_header(&f, &h);
    tkv_manifest_release(&m);
    expect_refused(&f, "MANIFEST", why);
    end(&f);
}

/* The manifest knows a header that is `newer` generations newer than the newest one. */
static void forget_headers(struct fixture *f, uint64_t newer, bool one_is_unreadable)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;

    begin_killed(f);
    read_header(f, &h);
    read_manifest(f, &m);
    m.checkpoint.generation = h.checkpoint.generation + newer;
    write_manifest(f, &m);
    if (one_is_unreadable)
        CHECK(simdisk_file_write(f->disk, "wal.log", "?", 1,
                                 1536 + (h.checkpoint.generation + 1) % 2 *
                                            TKV_BLOCK_SIZE) > 0);
}

TEST(a_header_older_than_the_one_that_the_manifest_knows_is_refused)
{
    struct tkv_wal_header h;
    struct fixture f;
    char why[80];

    for (unsigned unreadable = 0; unreadable < 2; unreadable++) {
        forget_headers(&f, 1 + unreadable, unreadable);
        read_header(&f, &h);
        snprintf(why, sizeof why, "its header is number %u, but MANIFEST knows number %u",
                 (unsigned)h.checkpoint.generation,
                 (unsigned)h.checkpoint.generation + 1 + unreadable);
        expect_refused(&f, "wal.log", why);
        end(&f);
    }
}

/* It may be the one that the manifest knows. */
TEST(an_unreadable_header_may_have_been_the_next_one)
{
    for (uint64_t newer = 0; newer < 2; newer++) {
        struct fixture f;

        forget_headers(&f, newer, true);
        CHECK_OK(try_open(&f));
        expect_both(&f);
        end(&f);
    }
}

/* What it says of a file that is not listed any more does not matter either. */
TEST(a_header_older_than_the_manifest_is_no_news_about_its_files)
{
    struct tkv_wal_header h;
    struct tkv_manifest m;
    struct fixture f;

    begin_with_news(&f);
    name_unlisted_file(&f, &h);
    read_manifest(&f, &m);
    m.epoch++;
    write_manifest(&f, &m);
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.report.groups_replayed, 2); /* from the manifest's checkpoint on */
    check_byte(&f, "c", 3);
    expect_both(&f);
    end(&f);
}

TEST(every_file_of_a_header_must_be_listed_and_not_only_the_first)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_with_news(&f);
    read_header(&f, &h);
    CHECK_EQ(h.file_count, 1);
    h.files[h.file_count++] = (struct tkv_wal_header_file){77, 4096, false, 0};
    write_header(&f, &h);
    expect_refused(&f, "wal.log", "its header has data file 77, MANIFEST does not");
    end(&f);
}

TEST(a_file_that_the_header_calls_sealed_does_not_grow_any_more)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_with_news(&f);
    read_header(&f, &h);
    CHECK_EQ(h.file_count, 1);
    CHECK(!h.files[0].sealed);
    h.files[0].sealed = true;
    write_header(&f, &h);
    CHECK_OK(try_open(&f));
    CHECK(tkv_files_find(f.store, 1)->durable_sealed);
    CHECK_EQ(f.store->active->number, 2);
    expect_both(&f);
    end(&f);
}

TEST(a_store_that_may_not_be_made_is_not_found_though_a_directory_is_there)
{
    struct fixture f;

    begin_closed(&f);
    f.options.read_only = true;
    CHECK_EQ(try_open(&f), TKV_NOT_FOUND);
    f.options.create = false;
    CHECK_EQ(try_open(&f), TKV_NOT_FOUND);
    end(&f);
}

TEST(without_memory_for_what_the_log_has_a_store_does_not_open_and_loses_nothing)
{
    struct fixture f;

    begin_killed(&f);
    reserve_left = 0;
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = 1; /* one key of a data file, none of the log */
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    reserve_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

/* In the middle of the log: the active file has room for the group, but not for the padding that
 * a checkpoint may put before it. */
TEST(without_memory_for_another_data_file_replay_ends_and_loses_nothing)
{
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 1024 * 1024;
    open_again(&f);
    put_bytes(&f, "a", 1, 24000);
    put_bytes(&f, "b", 2, 24000);
    CHECK_OK(tkv_checkpoint(f.store, &err)); /* four blocks are left */
    put_bytes(&f, "c", 3, 13000);
    CHECK_EQ(f.store->active->number, 2);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    new_files_left = 0;
    CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    new_files_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    check_byte(&f, "c", 3);
    end(&f);
}

/* With data files, and with a log that was written to. */
TEST(a_store_without_its_manifest_is_refused_and_not_made_anew)
{
    for (unsigned has_data = 0; has_data < 2; has_data++) {
        struct fixture f;
        uint64_t hash;

        begin_killed(&f);
        CHECK(simdisk_file_unlink(f.disk, "MANIFEST") >= 0);
        if (!has_data)
            CHECK(simdisk_file_unlink(f.disk, DATA) >= 0);
        hash = simdisk_hash(f.disk);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK_STR(err.file, "MANIFEST");
        CHECK(strstr(err.message, "it is missing") != NULL);
        CHECK_EQ(simdisk_hash(f.disk), hash);
        end(&f);
    }
}

/* ---- What makes no difference ---------------------------------------------------------- */

TEST(a_log_that_is_nothing_but_headers_is_an_empty_log)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    read_header(&f, &h);
    h.checkpoint.file_offset = h.ring_end = TKV_WAL_RING_START;
    write_header(&f, &h);
    h.checkpoint.generation--;
    write_header(&f, &h);
    CHECK(simdisk_file_truncate(f.disk, "wal.log", TKV_WAL_RING_START) >= 0);
    CHECK_OK(try_open(&f));
    check_byte(&f, "a", 1);
    put_bytes(&f, "b", 2, 100);
    end(&f);
}

TEST(a_header_that_says_closed_over_a_log_with_groups_is_not_believed)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    CHECK(!h.clean);
    h.clean = true;
    write_header(&f, &h);
    CHECK_OK(try_open(&f));
    CHECK(!f.report.clean);
    CHECK_EQ(f.report.groups_replayed, 1);
    expect_both(&f);
    end(&f);
}

TEST(a_header_that_says_closed_over_a_torn_tail_is_not_believed)
{
    struct tkv_wal_header h;
    struct fixture f;

    begin_killed(&f);
    read_header(&f, &h);
    h.clean = true;
    h.durable_mark = h.checkpoint.position;
    write_header(&f, &h);
    /* Its first bytes are there, the rest is not. */
    CHECK(simdisk_file_write(f.disk, "wal.log", "????", 4, h.checkpoint.file_offset + 60) >
          0);
    CHECK_OK(try_open(&f));
    CHECK(!f.report.clean);
    CHECK_EQ(f.report.groups_replayed, 0);
    CHECK(f.report.bytes_cut > 0);
    check_byte(&f, "a", 1);
    end(&f);
}

/* As if no file had ever been sealed. */
static void unseal_files(struct fixture *f)
{
    struct tkv_manifest m;
    struct tkv_wal_header h;

    read_header(f, &h);
    for (uint32_t i = 0; i < h.file_count; i++)
        h.files[i].sealed = false;
    write_header(f, &h);
    read_manifest(f, &m);
    for (size_t i = 0; i < m.file_count; i++)
        m.files[i].sealed = false;
    write_manifest(f, &m);
}

TEST(of_several_files_that_were_growing_the_newest_grows_on)
{
    struct fixture f;
    uint64_t newest;

    begin(&f);
    for (unsigned i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i), 0};

        put_bytes(&f, key, (uint8_t)i, 12000);
        CHECK_OK(tkv_checkpoint(f.store, &err));
    }
    newest = f.store->active->number;
    CHECK(newest > 1);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    unseal_files(&f);
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.store->active->number, newest);
    for (unsigned i = 0; i < 8; i++) {
        char key[2] = {(char)('a' + i), 0};

        check_byte(&f, key, (uint8_t)i);
    }
    end(&f);
}

TEST(of_two_files_with_room_the_older_is_sealed)
{
    const struct tkv_datafile *older;
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    tkv_mutex_lock(&f.store->apply);
    CHECK_OK(tkv_apply_rotate(f.store, 0, &err));
    tkv_mutex_unlock(&f.store->apply);
    put_bytes(&f, "b", 2, 100);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    unseal_files(&f);
    CHECK_OK(try_open(&f));
    older = tkv_files_find(f.store, 1);
    CHECK(older != NULL && older->durable_sealed);
    CHECK(atomic_load(&older->tail) == NULL);
    CHECK_EQ(f.store->active->number, 2);
    expect_both(&f);
    end(&f);
}

TEST(keys_that_have_expired_are_gone_right_after_opening)
{
    struct fixture f;
    uint64_t expiry;

    begin(&f);
    expiry = f.disk->wall_ms + 1000;
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_put_expiring(f.store, tkv_text("in a file"), tkv_text("v"), expiry, &err));
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(
        tkv_put_expiring(f.store, tkv_text("in the log"), tkv_text("v"), expiry, &err));
    put_bytes(&f, "b", 2, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    f.disk->wall_ms = expiry + 1;
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.report.keys, 2);
    CHECK_EQ(tkv_index_count(f.store->index), 2);
    expect_both(&f);
    end(&f);
}

TEST(a_log_that_is_larger_than_the_option_stays_and_works)
{
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 256 * 1024;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    f.options.wal_size_max = 64 * 1024;
    open_again(&f);
    CHECK(f.store->log_bytes > 64 * 1024);
    CHECK_EQ(f.store->wal.size_max, f.store->wal.ring.end);
    put_bytes(&f, "b", 2, 100);
    open_again(&f);
    expect_both(&f);
    end(&f);
}

TEST(a_store_opens_the_same_with_an_index_sized_in_advance)
{
    struct fixture f;

    begin_killed(&f);
    f.options.expected_keys = 1000;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

static struct tkv_os *real_os;
static unsigned refused_opens; /* of files that were to grow */

/* No descriptor for the first file that is to grow. */
static int refuse_to_grow(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    if (strstr(name, ".data") != NULL && flags & TKV_OS_WRITE) {
        refused_opens++;
        return -EMFILE;
    }
    return real_os->open(os, dir, name, flags);
}

/* A closed store of which two files were growing, the one of puts and the compactor's. */
static void begin_with_two_growing(struct fixture *f)
{
    begin(f);
    for (unsigned i = 0; i < 20; i++)
        put_bytes(f, i % 2 == 0 ? "a" : "b", (uint8_t)(1 + i % 2), 8000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    CHECK_OK(tkv_compact(f->store, NULL, &err));
    put_bytes(f, "b", 2, 8000); /* after the compactor's file */
    CHECK(f->store->outputs[TKV_OUTPUT_YOUNG] != NULL && f->store->active != NULL);
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

TEST(without_memory_for_a_file_that_is_to_grow_a_store_does_not_open)
{
    struct fixture f;

    begin_with_two_growing(&f);
    for (int enough_for = 0; enough_for < 2; enough_for++) {
        tails_left = enough_for;
        CHECK_EQ(try_open(&f), TKV_NO_MEMORY);
    }
    tails_left = -1;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

TEST(a_file_that_cannot_be_opened_for_growing_ends_the_opening)
{
    struct fixture f;
    struct tkv_os os;

    begin_with_two_growing(&f);
    os = f.disk->os;
    real_os = &os;
    refused_opens = 0;
    f.disk->os.open = refuse_to_grow;
    CHECK_EQ(try_open(&f), TKV_IO);
    CHECK_EQ(err.os_errno, EMFILE);
    CHECK_EQ(refused_opens, 1); /* the second is not tried */
    f.disk->os = os;
    CHECK_OK(try_open(&f));
    expect_both(&f);
    end(&f);
}

TEST(a_header_whose_checkpoint_lies_before_the_manifests_is_refused)
{
    for (unsigned i = 0; i < 2; i++) {
        struct tkv_wal_header h;
        struct tkv_manifest m;
        struct fixture f;

        begin_killed(&f);
        read_header(&f, &h);
        read_manifest(&f, &m);
        CHECK_EQ(h.manifest_epoch, m.epoch);
        if (i == 0)
            h.checkpoint.position = m.checkpoint.position - 8;
        else
            h.checkpoint.seq_next = m.checkpoint.seq_next - 1;
        write_header(&f, &h);
        tkv_manifest_release(&m);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK(strstr(err.message, "lies before") != NULL);
        CHECK_EQ(err.seq, 0);
        CHECK_STR(err.file, "wal.log");
        CHECK_EQ(err.offset, 0);
        end(&f);
    }
}

/* ---- What a recovered store goes on with ----------------------------------------------- */

static uint64_t bytes_of_files(const struct fixture *f)
{
    uint64_t bytes = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        const struct tkv_datafile *file = tkv_files_at(f->store, slot);

        bytes += file != NULL ? atomic_load(&file->size) : 0;
    }
    return bytes;
}

/* Of three groups, after a file that was growing and after none. */
TEST(what_is_replayed_goes_into_one_file_and_is_counted_once)
{
    for (unsigned has_file = 0; has_file < 2; has_file++) {
        struct tkv_stats stats;
        struct fixture f;

        begin(&f);
        if (has_file) {
            put_bytes(&f, "a", 9, 100);
            CHECK_OK(tkv_checkpoint(f.store, &err));
        }
        put_bytes(&f, "a", 1, 100);
        put_bytes(&f, "b", 1, 100);
        put_bytes(&f, "b", 2, 100);
        kill_process(&f, SIMDISK_NOTHING_PENDING);
        CHECK_OK(try_open(&f));
        CHECK_EQ(f.report.groups_replayed, 3);
        CHECK_EQ(f.report.records_replayed, 3);
        CHECK_EQ(f.report.seq_last, 3 + has_file);
        CHECK_OK(tkv_stats(f.store, &stats, &err));
        CHECK_EQ(stats.seq_last, 3 + has_file);
        CHECK_EQ(stats.data_files, 1);
        CHECK_EQ(stats.disk_bytes, (1 + has_file) * TKV_BLOCK_SIZE);
        CHECK_EQ(stats.disk_bytes, bytes_of_files(&f));
        CHECK_EQ(stats.live_bytes, 2 * (TKV_RECORD_HEADER_SIZE + 1 + 100));
        CHECK_EQ(usage_of(&f).records, 3 + has_file);
        expect_both(&f);
        end(&f);
    }
}

TEST(a_log_of_deletes_needs_no_memory_for_keys)
{
    struct fixture f;
    uint8_t byte;

    begin(&f);
    put_bytes(&f, "a", 1, 100);
    put_bytes(&f, "b", 2, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    del(&f, "a");
    del(&f, "b");
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    reserve_left = 2; /* for those of the data file */
    CHECK_OK(try_open(&f));
    reserve_left = -1;
    CHECK_EQ(f.report.records_replayed, 2);
    CHECK_EQ(get(&f, "a", &byte), TKV_NOT_FOUND);
    end(&f);
}

/* The first of three groups that no sync covered did not reach the disk: the others count for
 * nothing, but somebody may have seen their numbers. */
TEST(sequence_numbers_of_groups_that_were_cut_are_not_used_again)
{
    struct tkv_stats stats;
    struct fixture f;
    uint64_t at, seq;
    uint8_t byte;
    size_t size;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_NONE;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    seq = atomic_load(&f.store->seq_last);
    put_bytes(&f, "lost", 2, 100);
    put_bytes(&f, "after", 2, 100);
    put_bytes(&f, "last", 2, 100);
    kill_process(&f, SIMDISK_KILLED);
    keep_file(&f, "wal.log", &first);
    at = find_record(&first, "lost", 0, &size);
    overwrite(&f, "wal.log", at + size - 1, "?", 1);
    CHECK_OK(try_open(&f));
    CHECK(f.report.bytes_cut > 0);
    CHECK_EQ(f.report.seq_last, seq);
    CHECK_EQ(get(&f, "last", &byte), TKV_NOT_FOUND);
    put_bytes(&f, "b", 2, 100);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.seq_last, seq + 4);
    open_again(&f);
    expect_both(&f);
    end(&f);
}

/* Its file is gone, so that the directory does not tell. */
TEST(a_number_that_a_file_has_had_is_not_given_again)
{
    struct tkv_manifest m;
    struct fixture f;

    begin_killed(&f);
    read_manifest(&f, &m);
    m.next_number = 50;
    write_manifest(&f, &m);
    CHECK_OK(try_open(&f));
    CHECK_EQ(f.store->active->number, 1);
    while (f.store->active->number == 1)
        put_bytes(&f, "c", 3, 10000);
    CHECK_EQ(f.store->active->number, 50);
    open_again(&f);
    CHECK_EQ(f.store->next_number, 51);
    expect_both(&f);
    end(&f);
}

/* Of sixteen blocks. Records of a block each, so that no checkpoint pads. */
TEST(a_file_goes_on_growing_when_four_blocks_of_it_are_left)
{
    for (unsigned blocks = 11; blocks <= 13; blocks++) {
        const struct tkv_datafile *file;
        struct fixture f;

        begin(&f);
        put_bytes(&f, "a", 1, TKV_BLOCK_SIZE - TKV_DATA_HEADER_SIZE - 25);
        for (unsigned i = 1; i < blocks; i++)
            put_bytes(&f, "b", 2, TKV_BLOCK_SIZE - 25);
        open_again(&f);
        file = tkv_files_find(f.store, 1);
        CHECK(file != NULL);
        CHECK_EQ(file->durable, blocks * TKV_BLOCK_SIZE);
        CHECK_EQ(f.store->active == file, blocks <= 12);
        CHECK_EQ(atomic_load(&file->tail) != NULL, blocks <= 12);
        CHECK_EQ(atomic_load(&file->sealed), blocks > 12);
        expect_both(&f);
        end(&f);
    }
}

/* It is larger than a data file. */
TEST(a_large_group_in_the_log_makes_no_file_large_but_its_own)
{
    static const uint8_t value[200 * 1024];
    struct tkv_batch *batch;
    struct fixture f;

    begin_closed(&f);
    f.options.wal_size_max = 4u << 20;
    open_again(&f);
    put_bytes(&f, "a", 1, 100);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, tkv_text("b"), tkv_bytes(value, sizeof value), &err));
    CHECK_OK(tkv_write(f.store, batch, &err));
    tkv_batch_free(batch);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    CHECK_OK(try_open(&f));
    CHECK(f.store->active->capacity > sizeof value);
    tkv_mutex_lock(&f.store->apply);
    CHECK_OK(tkv_apply_rotate(f.store, 0, &err));
    tkv_mutex_unlock(&f.store->apply);
    CHECK_EQ(f.store->active->capacity, f.options.data_file_size_max);
    end(&f);
}

/* Five files of fifteen keys each, and a sixth one of a block. */
static void begin_with_six_files(struct fixture *f)
{
    char key[8];

    begin_closed(f);
    f->options.wal_size_max = 4u << 20; /* no checkpoint pads a file meanwhile */
    open_again(f);
    for (unsigned i = 0; i < 76; i++) {
        snprintf(key, sizeof key, "%02u", i);
        put_bytes(f, key, (uint8_t)i, 4000);
    }
    CHECK_EQ(f->store->active->number, 6);
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

static void check_presized(struct fixture *f, uint64_t option, double space_factor,
                           const uint64_t *wanted, unsigned count)
{
    f->options.expected_keys = option;
    f->options.space_factor = space_factor;
    presize_count = 0;
    open_again(f);
    CHECK_EQ(presize_count, count);
    for (unsigned i = 0; i < count; i++)
        CHECK_EQ(presized[i], wanted[i]);
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

/* The first one has a fifth of all records, but only one of so many may be live; and no more
 * than four times what is there by now. */
TEST(an_index_is_made_as_large_as_all_files_need_by_what_the_first_ones_have)
{
    static const uint64_t by_files[] = {0, 38, 38, 38, 38, 38, 38},
                          at_most[] = {0, 60, 72, 72, 72, 72},
                          by_both[] = {38, 38, 38, 38, 38, 38}, by_option[] = {1000};
    struct fixture f;

    begin_with_six_files(&f);
    check_presized(&f, 0, 2, by_files, 7);
    check_presized(&f, 0, 1.05, at_most, 6);
    check_presized(&f, 38, 2, by_both, 6);
    check_presized(&f, 1000, 2, by_option, 1);
    end(&f);
}
