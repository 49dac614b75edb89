/* SPDX-License-Identifier: MIT */
/*
 * What the store answers to keys that cannot be, in a child that was forked, and to files that
 * were exchanged under it: each public function says so, and nothing else happens.
 */
#include "../small_store.h"

#include "hint.h"
#include "index_table.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

/* ---- Keys and values that cannot be ------------------------------------------------------ */

TEST(every_way_of_reading_refuses_a_key_that_is_too_long)
{
    static char text[TKV_KEY_SIZE_MAX + 1];
    const struct tkv_slice keys[2] = {tkv_text("a"), tkv_bytes(text, sizeof text)};
    enum tkv_status statuses[2];
    struct tkv_pin pins[2];
    struct fixture f;
    void *copy;
    uint8_t byte;
    size_t size;

    begin(&f);
    put_bytes(&f, "a", 1, 10);
    CHECK_EQ(tkv_get(f.store, keys[1], &byte, 1, &size, &err), TKV_TOO_BIG);
    CHECK_EQ(tkv_get_copy(f.store, keys[1], &copy, &size, &err), TKV_TOO_BIG);
    CHECK_EQ(tkv_get_pinned(f.store, keys[1], &pins[0], &err), TKV_TOO_BIG);
    CHECK_EQ(tkv_multi_get(f.store, keys, 2, pins, statuses, &err), TKV_TOO_BIG);
    CHECK_EQ(tkv_exists(f.store, keys[1], &err), TKV_TOO_BIG);
    CHECK_EQ(tkv_delete(f.store, keys[1], NULL, &err), TKV_TOO_BIG);
    check_byte(&f, "a", 1);
    end(&f);
}

TEST(a_slice_at_null_is_refused_be_it_key_or_value)
{
    struct fixture f;

    begin(&f);
    CHECK_EQ(tkv_put(f.store, tkv_bytes(NULL, 3), tkv_text("v"), &err), TKV_INVALID);
    CHECK(strstr(err.message, "3 bytes") != NULL);
    CHECK_EQ(tkv_put(f.store, tkv_text("k"), tkv_bytes(NULL, 4), &err), TKV_INVALID);
    CHECK(strstr(err.message, "4 bytes") != NULL);
    CHECK_EQ(tkv_put(f.store, tkv_bytes(NULL, 0), tkv_bytes(NULL, 5), &err), TKV_INVALID);
    CHECK(strstr(err.message, "value of 5 bytes") != NULL);
    CHECK_OK(tkv_put(f.store, tkv_bytes(NULL, 0), tkv_bytes(NULL, 0), &err));
    end(&f);
}

/* ---- A forked child ---------------------------------------------------------------------- */

static void check_forked(struct tkv_store *store)
{
    const struct tkv_slice key = tkv_text("a");
    struct tkv_iterator *iterator;
    struct tkv_verify_report report;
    struct tkv_file_stats files[1];
    struct tkv_batch *batch;
    enum tkv_status statuses[1];
    struct tkv_stats stats;
    struct tkv_pin pin;
    uint8_t byte;
    void *copy;
    size_t size;

    CHECK_EQ(tkv_get(store, key, &byte, 1, &size, &err), TKV_FORKED);
    CHECK_EQ(tkv_get_copy(store, key, &copy, &size, &err), TKV_FORKED);
    CHECK_EQ(tkv_get_pinned(store, key, &pin, &err), TKV_FORKED);
    CHECK_EQ(tkv_multi_get(store, &key, 1, &pin, statuses, &err), TKV_FORKED);
    CHECK_EQ(tkv_exists(store, key, &err), TKV_FORKED);
    CHECK_EQ(tkv_iterator_new(store, false, &iterator, &err), TKV_FORKED);
    CHECK_EQ(tkv_stats(store, &stats, &err), TKV_FORKED);
    CHECK_EQ(tkv_file_stats(store, files, 1, &size, &err), TKV_FORKED);
    CHECK_EQ(tkv_verify(store, NULL, NULL, &report, &err), TKV_FORKED);
    CHECK_EQ(tkv_put(store, key, key, &err), TKV_FORKED);
    CHECK_EQ(tkv_delete(store, key, NULL, &err), TKV_FORKED);
    CHECK_EQ(tkv_compact(store, NULL, &err), TKV_FORKED);
    CHECK_EQ(tkv_sync(store, &err), TKV_FORKED);
    CHECK_EQ(tkv_checkpoint(store, &err), TKV_FORKED);
    CHECK_OK(tkv_batch_new(&batch, &err));
    CHECK_OK(tkv_batch_put(batch, key, key, &err));
    CHECK_EQ(tkv_write(store, batch, &err), TKV_FORKED);
    tkv_batch_free(batch);
}

TEST(every_function_refuses_a_forked_child)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct fixture f;
    int status;
    pid_t child;

    begin(&f);
    put_bytes(&f, "a", 1, 10);
    CHECK_OK(tkv_iterator_new(f.store, false, &iterator, &err));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_forked(f.store);
        CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_FORKED);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    tkv_iterator_free(iterator);
    check_byte(&f, "a", 1);
    end(&f);
}

/* ---- Files and memory that were exchanged ------------------------------------------------ */

static char finding_message[256];
static unsigned findings;

static void keep_finding(void *context, const struct tkv_finding *finding)
{
    (void)context;
    findings++;
    snprintf(finding_message, sizeof finding_message, "%s", finding->message);
}

static void expect_finding(struct fixture *f, const char *text)
{
    findings = 0;
    CHECK_EQ(tkv_verify(f->store, keep_finding, NULL, NULL, NULL), TKV_CORRUPT);
    CHECK_EQ(findings, 1);
    CHECK(strstr(finding_message, text) != NULL);
}

TEST(verify_sees_a_manifest_that_is_gone_and_sums_that_are_wrong)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 10);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    keep_file(&f, "MANIFEST", &first);
    CHECK(simdisk_file_unlink(f.disk, "MANIFEST") >= 0);
    expect_finding(&f, "missing");
    put_file(&f, "MANIFEST", &first);
    atomic_fetch_add(&f.store->index->shards[0].bytes, 1);
    expect_finding(&f, "contradicts itself");
    atomic_fetch_sub(&f.store->index->shards[0].bytes, 1);
    tkv_usage_add(&f.store->live_bytes, 1);
    expect_finding(&f, "live bytes where the account says");
    tkv_usage_sub(&f.store->live_bytes, 1);
    CHECK_OK(tkv_verify(f.store, keep_finding, NULL, NULL, &err));
    end(&f);
}

/* Several data files, closed. */
static void begin_with_files(struct fixture *f)
{
    begin(f);
    for (unsigned i = 0; i < 10; i++) {
        char key[2] = {(char)('a' + i), 0};

        put_bytes(f, key, (uint8_t)i, 12000);
    }
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

TEST(a_data_file_under_the_name_of_another_is_refused)
{
    struct fixture f;

    begin_with_files(&f);
    keep_file(&f, "0000000001.data", &first);
    overwrite(&f, "0000000002.data", 0, first.bytes, 64);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK(strstr(err.message, "data file 1 under this name") != NULL);
    end(&f);
}

TEST(a_data_file_whose_header_disagrees_with_the_manifest_is_refused)
{
    static const size_t at[] = {40, 48}; /* sequence base, class */
    struct fixture f;

    begin_with_files(&f);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t header[64];

        CHECK_EQ(simdisk_file_read(f.disk, "0000000001.data", header, sizeof header, 0),
                 64);
        header[at[i]] ^= 2;
        tkv_put_le32(header + 8, tkv_crc32(0, header + 12, sizeof header - 12));
        overwrite(&f, "0000000001.data", 0, header, sizeof header);
        CHECK_EQ(try_open(&f), TKV_CORRUPT);
        CHECK(strstr(err.message, "disagrees with MANIFEST") != NULL);
        header[at[i]] ^= 2;
        tkv_put_le32(header + 8, tkv_crc32(0, header + 12, sizeof header - 12));
        overwrite(&f, "0000000001.data", 0, header, sizeof header);
    }
    CHECK_OK(try_open(&f));
    end(&f);
}

/* ---- Making a store ---------------------------------------------------------------------- */

static struct tkv_os real_os;
static unsigned zeros_left;

static int random_zeros(struct tkv_os *os, void *buffer, size_t size)
{
    if (size == 8 && zeros_left > 0) {
        zeros_left--;
        memset(buffer, 0, size);
        return 0;
    }
    return real_os.random(os, buffer, size);
}

TEST(a_salt_of_zero_is_drawn_again)
{
    struct fixture f;

    begin_closed(&f);
    real_os = f.disk->os;
    f.disk->os.random = random_zeros;
    zeros_left = 5;
    CHECK_OK(try_open(&f));
    CHECK_EQ(zeros_left, 0);
    CHECK(f.store->checkpoint.salt != 0);
    put_bytes(&f, "a", 1, 10);
    open_again(&f);
    check_byte(&f, "a", 1);
    end(&f);
}

TEST(an_index_that_is_sized_for_a_million_keys_is)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "a", 1, 10);
    f.options.expected_keys = 1000000;
    open_again(&f);
    check_byte(&f, "a", 1);
    CHECK(tkv_index_check(f.store->index));
    CHECK(tkv_index_bytes(f.store->index) > 5000000);
    end(&f);
}

/* ---- Large values ------------------------------------------------------------------------ */

TEST(a_large_value_of_several_compressed_pieces_is_read_in_every_way)
{
    const size_t size = 2500000;
    uint8_t *value = malloc(size);
    struct tkv_pin pin;
    struct fixture f;
    void *copy;
    size_t got;

    CHECK(value != NULL);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)(i / 1000);
    begin_closed(&f);
    f.options.compress_level = 1;
    open_again(&f);
    CHECK_OK(tkv_put(f.store, tkv_text("large"), tkv_bytes(value, size), &err));
    open_again(&f);
    CHECK_OK(tkv_get_copy(f.store, tkv_text("large"), &copy, &got, &err));
    CHECK(got == size && memcmp(copy, value, size) == 0);
    tkv_free(copy);
    CHECK_OK(tkv_get_pinned(f.store, tkv_text("large"), &pin, &err));
    CHECK(pin.value.size == size && memcmp(pin.value.data, value, size) == 0);
    tkv_unpin(&pin);
    CHECK_EQ(tkv_get(f.store, tkv_text("large"), value, 10, &got, &err), TKV_TOO_BIG);
    CHECK_EQ(got, size);
    free(value);
    end(&f);
}

TEST(a_value_whose_record_cannot_be_read_is_an_error_in_every_way_of_reading)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct fixture f;
    void *copy;
    uint8_t byte;
    size_t size;

    begin(&f);
    put_bytes(&f, "a", 1, 3000);
    open_again(&f);
    f.disk->fail_kinds = SIMDISK_READ;
    f.disk->fail_errno = EIO;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_sticky = true;
    CHECK_EQ(get(&f, "a", &byte), TKV_IO);
    CHECK_EQ(tkv_get_copy(f.store, tkv_text("a"), &copy, &size, &err), TKV_IO);
    CHECK_OK(tkv_iterator_new(f.store, false, &iterator, &err));
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_IO);
    CHECK(entry.key.size == 1);
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    CHECK(tkv_verify(f.store, NULL, NULL, NULL, NULL) != TKV_OK);
    f.disk->fail_at = 0;
    f.disk->fail_sticky = false;
    check_byte(&f, "a", 1);
    end(&f);
}

/* Hundreds of keys that expire at one instant are taken out in one go. */
TEST(keys_that_expire_together_go_together)
{
    struct tkv_stats stats;
    struct fixture f;
    char key[16];

    begin(&f);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %u", i);
        CHECK_OK(tkv_put_expiring(f.store, tkv_text(key), tkv_text("v"),
                                  f.disk->wall_ms + 1000, &err));
    }
    f.disk->wall_ms += 2000;
    tkv_upkeep_expire(f.store);
    CHECK_EQ(tkv_index_count(f.store->index), 0);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.keys, 0);
    end(&f);
}

TEST(a_failed_sync_of_the_interval_poisons_the_store)
{
    struct fixture f;

    begin_closed(&f);
    f.options.durability = TKV_DURABILITY_INTERVAL;
    f.options.interval_ms = 1;
    open_again(&f);
    put_bytes(&f, "a", 1, 10);
    f.disk->monotonic_us += 10000;
    f.disk->fail_kinds = SIMDISK_SYNC;
    f.disk->fail_errno = EIO;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    put_bytes(&f, "b", 2, 10); /* and then it is time */
    CHECK_EQ(f.store->poisoned, TKV_IO);
    CHECK_EQ(tkv_put(f.store, tkv_text("c"), tkv_text("v"), &err), TKV_POISONED);
    f.disk->fail_at = 0;
    CHECK(tkv_close(f.store, &err) != TKV_OK);
    f.store = NULL;
    open_again(&f);
    end(&f);
}

/* The simulated clock is the store's; the sleeps are real ones, of microseconds. */
TEST(the_compactors_bucket_holds_it_back_only_while_there_is_no_hurry)
{
    const size_t burst = 256 * 1024;
    uint64_t copied = 0, from_us = 0;
    struct fixture f;

    begin(&f);
    tkv_pace_copy(f.store, &copied, &from_us, 1000); /* too little to look at */
    CHECK_EQ(copied, 1000);
    tkv_pace_copy(f.store, &copied, &from_us, burst); /* the first look */
    CHECK_EQ(copied, 0);
    CHECK(from_us > 0);
    tkv_pace_copy(f.store, &copied, &from_us, burst); /* too fast: sleeps */
    CHECK_EQ(copied, 0);
    f.disk->monotonic_us += 1000000;
    tkv_pace_copy(f.store, &copied, &from_us, burst); /* not too fast */
    atomic_store(&f.store->disk_full, true);
    tkv_pace_copy(f.store, &copied, &from_us, burst); /* in a hurry */
    atomic_store(&f.store->disk_full, false);
    tkv_usage_add(&f.store->other_bytes, UINT64_C(1) << 40);
    tkv_pace_copy(f.store, &copied, &from_us, burst);
    tkv_usage_sub(&f.store->other_bytes, UINT64_C(1) << 40);
    from_us += 5000000; /* a clock that was set back must not make it sleep for ever */
    tkv_pace_copy(f.store, &copied, &from_us, burst);
    CHECK(from_us < f.disk->monotonic_us + 1000);
    end(&f);
}

/* ---- Hints that say what cannot be ------------------------------------------------------- */

static void write_hint(struct fixture *f, const uint8_t store_uuid[16], uint64_t size,
                       const struct tkv_hint_entry *entry)
{
    struct tkv_hint_identity identity = {.number = 1, .data_size = size};
    const int dir = f->disk->os.open_dir(&f->disk->os, "", false);
    struct tkv_hint_writer *writer;

    memcpy(identity.uuid, store_uuid, sizeof identity.uuid);
    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    CHECK_OK(tkv_hint_writer_add(writer, entry, &err));
    CHECK_OK(tkv_hint_writer_write(writer, &f->disk->os, dir, &identity, &err));
    tkv_hint_writer_free(writer);
    CHECK_EQ(f->disk->os.close(&f->disk->os, dir), 0);
}

TEST(a_hint_whose_checksums_are_right_and_whose_places_are_not_is_not_believed)
{
    const struct tkv_hint_entry entries[] = {
        {.seq = 1,                 .offset = 8, .size = 40, .kind = TKV_RECORD_PUT, .key = tkv_text("a")},
        {.seq = UINT64_C(1) << 33,
         .offset = 64,
         .size = 40,
         .kind = TKV_RECORD_PUT,
         .key = tkv_text("a")                                                                           },
    };
    uint8_t store_uuid[16];
    struct fixture f;
    uint64_t size;

    begin(&f);
    put_bytes(&f, "a", 1, 10);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    memcpy(store_uuid, f.store->uuid, sizeof store_uuid);
    size = f.store->active->durable;
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        write_hint(&f, store_uuid, size, &entries[i]);
        CHECK_OK(try_open(&f));
        CHECK_EQ(f.report.hints_used, 0);
        CHECK_EQ(f.report.hints_rebuilt, 1);
        check_byte(&f, "a", 1);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
    }
    end(&f);
}

/* The hint of the first file says that it has another key where `from` is. Its sum of records
 * is right: keys are not part of that. */
static void exchange_key(struct fixture *f, const struct tkv_hint_identity *identity,
                         const char *from, const char *to)
{
    struct tkv_os *os = &f->disk->os;
    const int dir = os->open_dir(os, "", false);
    struct tkv_hint_writer *writer;
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;

    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    CHECK_OK(tkv_hint_open(os, dir, identity, &hint, &err));
    while (tkv_hint_next(hint, &entry)) {
        if (entry.key.size == strlen(from) &&
            memcmp(entry.key.data, from, strlen(from)) == 0)
            entry.key = tkv_text(to);
        CHECK_OK(tkv_hint_writer_add(writer, &entry, &err));
    }
    tkv_hint_free(hint);
    CHECK_OK(tkv_hint_writer_write(writer, os, dir, identity, &err));
    tkv_hint_writer_free(writer);
    CHECK_EQ(os->close(os, dir), 0);
}

TEST(a_file_whose_hint_has_a_key_that_it_does_not_have_is_kept_by_compaction)
{
    struct tkv_hint_identity identity = {.number = 1};
    struct fixture f;
    uint8_t byte;

    begin(&f);
    put_bytes(&f, "right", 1, 100);
    while (f.store->active->number == 1)
        put_bytes(&f, "garbage", 2, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    memcpy(identity.uuid, f.store->uuid, sizeof identity.uuid);
    identity.data_size = tkv_files_find(f.store, 1)->durable;
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    exchange_key(&f, &identity, "right", "wrong");
    open_again(&f);
    CHECK_EQ(f.report.hints_rebuilt, 0);
    CHECK_EQ(get(&f, "wrong", &byte), TKV_CORRUPT);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(f.corruptions, 1);
    CHECK(simdisk_file_size(f.disk, DATA) > 0);
    CHECK_EQ(get(&f, "wrong", &byte), TKV_CORRUPT);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    CHECK(simdisk_file_unlink(f.disk, "0000000001.hint") >= 0);
    open_again(&f);
    check_byte(&f, "right", 1);
    check_byte(&f, "garbage", 2);
    end(&f);
}

/* Likewise, of two keys; NULL: of one. */
static void change_kinds(struct fixture *f, const struct tkv_hint_identity *identity,
                         const char *key, enum tkv_record_kind kind, const char *other,
                         enum tkv_record_kind other_kind)
{
    struct tkv_os *os = &f->disk->os;
    const int dir = os->open_dir(os, "", false);
    struct tkv_hint_writer *writer;
    struct tkv_hint_entry entry;
    struct tkv_hint *hint;

    CHECK_OK(tkv_hint_writer_new(&writer, &err));
    CHECK_OK(tkv_hint_open(os, dir, identity, &hint, &err));
    while (tkv_hint_next(hint, &entry)) {
        if (entry.key.size == strlen(key) && memcmp(entry.key.data, key, strlen(key)) == 0)
            entry.kind = kind, entry.large_number = 0;
        if (other != NULL && entry.key.size == strlen(other) &&
            memcmp(entry.key.data, other, strlen(other)) == 0)
            entry.kind = other_kind;
        CHECK_OK(tkv_hint_writer_add(writer, &entry, &err));
    }
    tkv_hint_free(hint);
    CHECK_OK(tkv_hint_writer_write(writer, os, dir, identity, &err));
    tkv_hint_writer_free(writer);
    CHECK_EQ(os->close(os, dir), 0);
}

/* The first: a reference is told for a value. The second: a put for a delete, and the other way
 * round, so that as many are live. */
TEST(a_file_whose_hint_has_other_kinds_than_it_has_is_kept_by_compaction)
{
    for (unsigned round = 0; round < 2; round++) {
        struct tkv_hint_identity identity = {.number = 1};
        const char *told = round == 0 ? "big" : "gone";
        struct fixture f;
        uint8_t byte;

        begin(&f);
        put_bytes(&f, "small", 1, 100);
        put_bytes(&f, "big", 1, 30000); /* in a file of its own */
        put_bytes(&f, "gone", 1, 10);
        del(&f, "gone");
        while (f.store->active->number < 3)
            put_bytes(&f, "garbage", 2, 4000);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        memcpy(identity.uuid, f.store->uuid, sizeof identity.uuid);
        identity.data_size = tkv_files_find(f.store, 1)->durable;
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        if (round == 0)
            change_kinds(&f, &identity, "big", TKV_RECORD_PUT, NULL, TKV_RECORD_PUT);
        else
            change_kinds(&f, &identity, "small", TKV_RECORD_DELETE, "gone", TKV_RECORD_PUT);
        open_again(&f);
        CHECK_EQ(f.report.hints_rebuilt, 0);
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        CHECK_EQ(f.corruptions, 1);
        CHECK(tkv_files_find(f.store, 1) != NULL);
        CHECK(get(&f, told, &byte) != TKV_NOT_FOUND);
        end(&f);
    }
}

/* ---- What is left of an interrupted creation --------------------------------------------- */

TEST(remains_of_a_creation_are_looked_at_before_they_are_replaced)
{
    struct fixture f;

    begin_closed(&f);
    CHECK(simdisk_file_write(f.disk, "wal.log", "torn", 4, 0) > 0);
    f.disk->fail_kinds = SIMDISK_OPEN;
    f.disk->fail_errno = EMFILE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 2; /* after LOCK */
    CHECK_EQ(try_open(&f), TKV_IO);
    CHECK_EQ(simdisk_file_size(f.disk, "wal.log"), 4);
    f.disk->fail_at = 0;
    CHECK_OK(try_open(&f)); /* nothing was ever in it */
    CHECK(f.report.created);
    end(&f);
}
