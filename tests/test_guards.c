/* SPDX-License-Identifier: MIT */
/*
 * Each guard of opening alone: what is in the wrong place, too old, too short or gone is refused
 * by name, and never becomes another answer.
 *
 * Method: a small store on the simulated disk, without threads; one file is exchanged from
 * outside.
 */
#include "small_store.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

/* ---- Opening: files that do not belong together -------------------------------------- */

/* A store with two generations of everything: `first` is an early copy of file `name`. */
static void begin_aged(struct fixture *f, const char *name)
{
    begin(f);
    put_bytes(f, "early", 1, 1000);
    CHECK_OK(tkv_close(f->store, &err));
    keep_file(f, name, &first);
    f->store = NULL;
    open_again(f);
    for (unsigned i = 0; i < 40; i++) /* more than a data file holds: a new manifest */
        put_bytes(f, "later", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f->store, &err));
    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
}

TEST(an_older_manifest_in_its_place_is_refused)
{
    struct fixture f;

    begin_aged(&f, "MANIFEST");
    put_file(&f, "MANIFEST", &first);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "MANIFEST");
    end(&f);
}

/* The log, which does not belong to what is left of it, is not blamed. */
TEST(a_damaged_manifest_is_refused_by_name)
{
    struct fixture f;

    begin_aged(&f, "MANIFEST");
    keep_file(&f, "MANIFEST", &first);
    first.bytes[first.size - 1] ^= 1;
    put_file(&f, "MANIFEST", &first);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "MANIFEST");
    end(&f);
}

TEST(an_older_log_in_its_place_is_refused)
{
    struct fixture f;

    begin_aged(&f, "wal.log");
    put_file(&f, "wal.log", &first);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    CHECK_EQ(err.offset, 0);
    CHECK_EQ(err.seq, 0);
    end(&f);
}

TEST(an_older_data_file_in_its_place_is_refused)
{
    struct fixture f;

    begin_aged(&f, DATA);
    put_file(&f, DATA, &first);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, DATA);
    end(&f);
}

TEST(an_older_hint_in_its_place_is_not_believed)
{
    struct fixture f;

    begin_aged(&f, "0000000001.hint");
    put_file(&f, "0000000001.hint", &first);
    open_again(&f);
    CHECK(f.report.hints_rebuilt > 0);
    check_byte(&f, "later", 39);
    check_byte(&f, "early", 1);
    end(&f);
}

TEST(a_log_that_became_shorter_is_refused_though_nothing_in_it_is_needed)
{
    struct fixture f;

    begin_aged(&f, "wal.log");
    CHECK(simdisk_file_truncate(f.disk, "wal.log",
                                (uint64_t)simdisk_file_size(f.disk, "wal.log") -
                                    TKV_BLOCK_SIZE) >= 0);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    end(&f);
}

/* Where and what: the error tells. */
static void check_refused(struct fixture *f, const char *file, uint64_t offset)
{
    memset(&err, 0xff, sizeof err);
    CHECK_EQ(try_open(f), TKV_CORRUPT);
    CHECK_STR(err.file, file);
    CHECK_EQ(err.offset, offset);
    CHECK_EQ(err.seq, 0);
    CHECK(err.message[0] != 0);
}

TEST(a_log_that_is_gone_or_all_but_gone_is_refused)
{
    struct fixture f;

    begin_aged(&f, "wal.log");
    CHECK(simdisk_file_truncate(f.disk, "wal.log", TKV_WAL_RING_START) >= 0);
    check_refused(&f, "wal.log", TKV_WAL_RING_START);
    CHECK(simdisk_file_truncate(f.disk, "wal.log", TKV_WAL_RING_START - 1) >= 0);
    check_refused(&f, "wal.log", TKV_WAL_RING_START - 1);
    CHECK(simdisk_file_unlink(f.disk, "wal.log") >= 0);
    check_refused(&f, "wal.log", 0);
    end(&f);
}

TEST(a_log_whose_headers_are_both_damaged_is_refused)
{
    const uint8_t bytes[2 * TKV_BLOCK_SIZE] = {0};
    struct fixture f;

    begin_aged(&f, "wal.log");
    overwrite(&f, "wal.log", 0, bytes, sizeof bytes);
    check_refused(&f, "wal.log", 0);
    CHECK(strstr(err.message, "header") != NULL);
    end(&f);
}

TEST(what_an_opening_got_over_is_no_error)
{
    const struct tkv_error none = {.status = TKV_OK};
    struct fixture f;
    uint8_t byte;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    keep_file(&f, "wal.log", &first);
    byte = first.bytes[16] ^ 1;
    overwrite(&f, "wal.log", 16, &byte, 1); /* the other header block is good */
    err = none;
    CHECK_OK(try_open(&f));
    CHECK(memcmp(&err, &none, sizeof err) == 0);
    check_byte(&f, "key", 1);
    end(&f);
}

TEST(a_log_of_a_newer_format_is_not_taken_for_damage)
{
    struct fixture f;

    begin_aged(&f, "wal.log");
    keep_file(&f, "wal.log", &first);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *block = first.bytes + i * TKV_BLOCK_SIZE;

        tkv_put_le32(block + 12, TKV_FORMAT_VERSION + 1);
        tkv_put_le32(block + 8, tkv_crc32(0, block + 12, TKV_BLOCK_SIZE - 12));
    }
    put_file(&f, "wal.log", &first);
    CHECK_EQ(try_open(&f), TKV_UNSUPPORTED);
    end(&f);
}

TEST(a_file_of_another_store_is_refused)
{
    static const char *const names[] = {"wal.log", DATA};

    for (size_t i = 0; i < 2; i++) {
        struct fixture f, other;

        begin(&other);
        simdisk_free(other.disk);
        begin_closed(&other);
        other.disk->random_state = 12345;
        open_again(&other);
        put_bytes(&other, "key", 7, 100);
        CHECK_OK(tkv_close(other.store, &err));
        other.store = NULL;
        keep_file(&other, names[i], &first);
        end(&other);

        begin(&f);
        put_bytes(&f, "key", 1, 100);
        CHECK_OK(tkv_close(f.store, &err));
        f.store = NULL;
        put_file(&f, names[i], &first);
        check_refused(&f, names[i], 16); /* the uuid */
        end(&f);
    }
}

TEST(a_hint_of_another_file_is_not_believed)
{
    struct fixture f;

    begin_aged(&f, DATA);
    keep_file(&f, "0000000002.hint", &first);
    put_file(&f, "0000000001.hint", &first);
    open_again(&f);
    CHECK(f.report.hints_rebuilt > 0);
    check_byte(&f, "later", 39);
    check_byte(&f, "early", 1);
    end(&f);
}

TEST(a_file_that_belongs_to_nobody_is_removed_and_its_number_never_used)
{
    struct fixture f;

    begin_aged(&f, DATA);
    first.size = 5000;
    put_file(&f, "0000000077.data", &first);
    put_file(&f, "0000000078.hint", &first);
    put_file(&f, "MANIFEST.tmp", &first);
    open_again(&f);
    CHECK_EQ(f.report.files_removed, 3);
    CHECK(simdisk_file_size(f.disk, "0000000077.data") < 0);
    CHECK(simdisk_file_size(f.disk, "0000000078.hint") < 0);
    CHECK(simdisk_file_size(f.disk, "MANIFEST.tmp") < 0);
    for (unsigned i = 0; i < 20; i++)
        put_bytes(&f, "later", (uint8_t)i, 4000);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(simdisk_file_size(f.disk, "0000000077.data") < 0);
    CHECK(simdisk_file_size(f.disk, "0000000079.data") > 0);
    end(&f);
}

/* ---- Opening: a damaged log ---------------------------------------------------------- */

/* Flip a bit in the payload of group `n` of the first block-aligned groups of the log. */
static void damage_group(const struct fixture *f, unsigned n)
{
    const uint64_t at = TKV_WAL_RING_START + (uint64_t)n * TKV_BLOCK_SIZE + 80;
    uint8_t byte;

    CHECK_EQ(simdisk_file_read(f->disk, "wal.log", &byte, 1, at), 1);
    byte ^= 1;
    overwrite(f, "wal.log", at, &byte, 1);
}

/* Mode ALWAYS: each put is one group in one block, durable before the next is built. */
TEST(a_damaged_acknowledged_group_is_refused_when_another_follows)
{
    for (unsigned n = 0; n < 4; n++) {
        struct fixture f;

        begin(&f);
        for (unsigned i = 0; i < 4; i++)
            put_bytes(&f, "key", (uint8_t)i, 100);
        kill_process(&f, SIMDISK_KILLED);
        damage_group(&f, n);
        if (n < 3) {
            CHECK_EQ(try_open(&f), TKV_CORRUPT);
            CHECK_STR(err.file, "wal.log");
            CHECK_EQ(err.seq, n + 1);
        } else { /* the last one looks torn: the stated limit */
            open_again(&f);
            CHECK(f.report.bytes_cut > 0);
            check_byte(&f, "key", 2);
        }
        end(&f);
    }
}

TEST(a_mark_in_the_header_protects_the_last_group)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    tkv_mutex_lock(&f.store->upkeep);
    CHECK_OK(tkv_checkpoint_mark(f.store, &err));
    tkv_mutex_unlock(&f.store->upkeep);
    kill_process(&f, SIMDISK_KILLED);
    damage_group(&f, 0);
    CHECK_EQ(try_open(&f), TKV_CORRUPT);
    CHECK_STR(err.file, "wal.log");
    end(&f);
}

/* ---- Opening: a new life ------------------------------------------------------------- */

static uint64_t header_field(const struct fixture *f, unsigned block, unsigned at)
{
    uint8_t bytes[8];

    CHECK_EQ(simdisk_file_read(f->disk, "wal.log", bytes, 8, block * TKV_BLOCK_SIZE + at),
             8);
    return tkv_get_le64(bytes);
}

TEST(each_opening_has_a_salt_and_positions_of_its_own)
{
    enum { SALT_AT = 40, POSITION_AT = 48 };
    uint64_t salt = 0, position = 0;
    struct fixture f;

    begin(&f);
    for (unsigned life = 0; life < 5; life++) {
        for (unsigned block = 0; block < 2; block++) {
            CHECK(header_field(&f, block, SALT_AT) != salt);
            CHECK(header_field(&f, block, POSITION_AT) > position);
        }
        CHECK_EQ(header_field(&f, 0, SALT_AT), header_field(&f, 1, SALT_AT));
        salt = header_field(&f, 0, SALT_AT);
        for (unsigned i = 0; i < 3 + 5 * life; i++) /* some lives take more than a lap */
            put_bytes(&f, "key", (uint8_t)i, 12000);
        position = f.store->wal.ring.head.position;
        if (life % 2 == 0)
            open_again(&f);
        else {
            kill_process(&f, SIMDISK_KILLED);
            open_again(&f);
        }
    }
    end(&f);
}

struct evidence {
    char torn[64], note[64];
};

static void find_evidence(void *context, const char *name)
{
    struct evidence *evidence = context;
    const size_t size = strlen(name) + 1;

    CHECK(size <= sizeof evidence->torn);
    if (strstr(name, ".torn") != NULL)
        memcpy(evidence->torn, name, size);
    if (strstr(name, ".txt") != NULL)
        memcpy(evidence->note, name, size);
}

/* What was cut is kept, byte for byte, and survives a power cut. */
static void check_evidence(struct fixture *f)
{
    struct simdisk *after =
        simdisk_survivor(f->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    struct evidence evidence = {.torn = ""};
    static uint8_t bytes[2 * TKV_BLOCK_SIZE];
    char note[400] = "";

    simdisk_list(after, find_evidence, &evidence);
    CHECK_EQ(simdisk_file_read(after, evidence.torn, bytes, sizeof bytes, 0),
             TKV_BLOCK_SIZE);
    CHECK_EQ(bytes[TKV_GROUP_HEADER_SIZE + TKV_RECORD_HEADER_SIZE + 3 + 99], 3);
    CHECK(simdisk_file_read(after, evidence.note, note, sizeof note - 1, 0) > 0);
    CHECK(strstr(note, "offset 20480, 4096 bytes") != NULL);
    CHECK(strstr(note, "a group that was not written completely") != NULL);
    simdisk_free(after);
}

TEST(a_torn_tail_is_kept_and_reported_once_and_a_clean_close_opens_clean)
{
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 4; i++)
        put_bytes(&f, "key", (uint8_t)i, 100);
    kill_process(&f, SIMDISK_KILLED);
    damage_group(&f, 3);
    open_again(&f);
    CHECK_EQ(f.report.bytes_cut, TKV_BLOCK_SIZE);
    CHECK(!f.report.clean);
    check_evidence(&f);
    open_again(&f);
    CHECK_EQ(f.report.bytes_cut, 0);
    CHECK(f.report.clean);
    put_bytes(&f, "key", 9, 100);
    kill_process(&f, SIMDISK_KILLED);
    open_again(&f);
    CHECK_EQ(f.report.bytes_cut, 0);
    CHECK(!f.report.clean);
    check_byte(&f, "key", 9);
    end(&f);
}

TEST(sequence_numbers_go_on_where_they_were)
{
    struct fixture f;
    struct tkv_stats stats;

    begin(&f);
    for (unsigned i = 0; i < 5; i++)
        put_bytes(&f, "key", (uint8_t)i, 100);
    kill_process(&f, SIMDISK_KILLED);
    open_again(&f);
    CHECK_EQ(f.report.seq_last, 5);
    put_bytes(&f, "key", 5, 100);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.seq_last, 6);
    end(&f);
}

TEST(without_direct_io_a_durable_write_is_durable)
{
    struct fixture f;

    begin_closed(&f);
    f.disk->no_direct_sync = true;
    open_again(&f);
    put_bytes(&f, "key", 1, 100);
    kill_process(&f, SIMDISK_NOTHING_PENDING);
    open_again(&f);
    check_byte(&f, "key", 1);
    end(&f);
}

/* ---- Opening: the headers of two lives ----------------------------------------------- */

/* The second life writes no manifest, so that its headers alone say where its log begins. */
TEST(damage_to_one_header_of_a_second_life_never_loses_what_it_acknowledged)
{
    for (unsigned block = 0; block < 2; block++) {
        struct fixture f;
        uint8_t byte;

        begin(&f);
        put_bytes(&f, "key", 1, 100);
        open_again(&f);
        put_bytes(&f, "key", 2, 100);
        kill_process(&f, SIMDISK_KILLED);
        CHECK_EQ(
            simdisk_file_read(f.disk, "wal.log", &byte, 1, block * TKV_BLOCK_SIZE + 44), 1);
        byte ^= 1;
        overwrite(&f, "wal.log", block * TKV_BLOCK_SIZE + 44, &byte, 1);
        if (try_open(&f) == TKV_OK)
            check_byte(&f, "key", 2);
        else
            CHECK_EQ(err.status, TKV_CORRUPT);
        end(&f);
    }
}

/* The process is killed when a header is in the cache and not on the disk; then the power
 * fails at each call of the recovery. False: there is no such call in one of the two. */
static bool crash_twice(uint64_t first_call, uint64_t second_call, bool *ret_first)
{
    struct fixture f;
    bool second;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    f.disk->crash_kinds = SIMDISK_WRITE;
    f.disk->crash_count = 0;
    f.disk->crash_at = first_call;
    f.disk->crash_cut = TKV_BLOCK_SIZE;
    if (tkv_checkpoint(f.store, NULL) == TKV_OK)
        CHECK(!f.disk->crashed);
    *ret_first = f.disk->crashed;
    kill_process(&f, SIMDISK_KILLED);
    f.disk->crash_kinds = SIMDISK_MUTATING;
    f.disk->crash_at = second_call;
    f.disk->crash_cut = 700;
    (void)try_open(&f);
    second = f.disk->crashed;
    kill_process(&f, SIMDISK_TRASHED);
    open_again(&f);
    check_byte(&f, "key", 1);
    end(&f);
    return second;
}

TEST(a_recovery_never_overwrites_the_only_durable_header)
{
    bool first_crashed = true;

    for (uint64_t i = 1; first_crashed; i++) {
        uint64_t k = 1;

        while (crash_twice(i, k, &first_crashed))
            k++;
        CHECK(k > 5);
    }
}

/* ---- Opening: any call fails ---------------------------------------------------------- */

/* What there is to open: nothing, a closed store, one that was killed, one with a torn tail. */
enum remains { NOTHING, CLOSED, KILLED, TORN, REMAINS_COUNT };

static void prepare(struct fixture *f, enum remains remains)
{
    begin_closed(f);
    if (remains == NOTHING)
        return;
    open_again(f);
    put_bytes(f, "large", 5, 30000);
    for (unsigned i = 0; i < 30; i++)
        put_bytes(f, "key", (uint8_t)i, 4000);
    put_bytes(f, "last", 6, 100);
    put_bytes(f, "torn", 7, 100);
    if (remains == CLOSED) {
        CHECK_OK(tkv_close(f->store, &err));
        f->store = NULL;
        return;
    }
    if (remains == TORN) {
        const uint64_t end = f->store->wal.ring.head.file_offset;

        kill_process(f, SIMDISK_KILLED);
        damage_group(f, (unsigned)((end - TKV_WAL_RING_START) / TKV_BLOCK_SIZE) - 1);
        return;
    }
    kill_process(f, SIMDISK_KILLED);
}

static void check_remains(struct fixture *f, enum remains remains)
{
    uint8_t byte;

    if (remains == NOTHING) {
        CHECK_EQ(f->report.keys, 0);
        return;
    }
    check_byte(f, "large", 5);
    check_byte(f, "key", 29);
    check_byte(f, "last", 6);
    if (remains == TORN)
        CHECK_EQ(get(f, "torn", &byte), TKV_NOT_FOUND);
    else
        check_byte(f, "torn", 7);
}

/* Fail call number `at` of an opening. False: there is no such call. */
static bool fail_opening(enum remains remains, uint64_t at, int code, bool sticky)
{
    struct fixture f;
    bool failed;

    prepare(&f, remains);
    f.disk->fail_kinds = SIMDISK_FALLIBLE;
    if (sticky)
        f.disk->fail_kinds &= ~(unsigned)SIMDISK_UNLINK; /* no disk is too full for that */
    f.disk->fail_count = 0;
    f.disk->fail_errno = code;
    f.disk->fail_sticky = sticky;
    f.disk->fail_at = at;
    if (try_open(&f) == TKV_OK) {
        f.disk->fail_at = 0;
        failed =
            f.disk->faults > 0; /* in a call that may fail: advice, a hint, tidying up */
        check_remains(&f, remains);
        CHECK_OK(tkv_close(f.store, &err));
    } else {
        failed = true;
        CHECK(f.disk->faults > 0);
        CHECK(err.message[0] != 0);
        f.disk->fail_at = 0;
    }
    f.store = NULL;
    CHECK_EQ(simdisk_open_count(f.disk), 0);
    open_again(&f);
    check_remains(&f, remains);
    end(&f);
    return failed;
}

static void fail_every_opening(int code, bool sticky)
{
    for (enum remains remains = 0; remains < REMAINS_COUNT; remains++) {
        uint64_t at = 1;

        while (fail_opening(remains, at, code, sticky))
            at++;
        CHECK(at > 20);
    }
}

TEST(an_opening_that_fails_leaves_nothing_open_and_nothing_lost)
{
    fail_every_opening(EMFILE, false);
    fail_every_opening(EIO, false);
    fail_every_opening(ENOSPC, true);
}

/* ---- Bytes and processes ----------------------------------------------------------------- */

/* The same bytes as in docs/format.md. */
TEST(the_bytes_of_a_data_file_never_change)
{
    static const uint8_t golden[] = {
        0x54, 0x4b, 0x56, 0x44, 0x41, 0x54, 0x0d, 0x0a, 0xc3, 0x66, 0x5c, 0x26, 0x01, 0x00,
        0x00, 0x00, 0x28, 0xbd, 0x81, 0xfb, 0x2a, 0xaa, 0x3c, 0x2b, 0xd6, 0x8c, 0xbe, 0x9e,
        0x5f, 0x03, 0xdd, 0x61, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xd6, 0x20, 0x35, 0x79, 0x05, 0x00,
        0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00, 0x01, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x6e, 0x61, 0x6d, 0x65, 0x76, 0x61, 0x6c, 0x75, 0x65,
    };
    const struct tkv_record record = {
        .kind = TKV_RECORD_PUT, .key = tkv_text("name"), .value = tkv_text("value")};
    uint8_t bytes[sizeof golden];
    struct tkv_datafile *file;
    bool created = false;
    struct fixture f;

    begin_closed(&f);
    CHECK_OK(tkv_datafile_new(&f.disk->os, golden + 16, 1, 1, TKV_FILE_FRESH, 64 * 1024,
                              false, &file, &err));
    tkv_record_seal(bytes, tkv_record_encode(&record, bytes), 1);
    (void)tkv_datafile_append(file, bytes, tkv_record_size(&record));
    CHECK_OK(tkv_datafile_write(file, f.disk->os.open_dir(&f.disk->os, "", false),
                                sizeof golden, &created, &err));
    CHECK_EQ(simdisk_file_read(f.disk, DATA, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK(memcmp(bytes, golden, sizeof golden) == 0);
    tkv_datafile_release(file);
    simdisk_free(f.disk);
}

TEST(a_write_that_finds_the_log_poisoned_tells_why_it_is)
{
    struct tkv_stats stats;
    struct fixture f;

    begin(&f);
    tkv_wal_poison(&f.store->wal, TKV_IO); /* by another, who is about to tell the store */
    CHECK(tkv_put(f.store, tkv_text("key"), tkv_text("value"), &err) != TKV_OK);
    CHECK_OK(tkv_stats(f.store, &stats, &err));
    CHECK_EQ(stats.poisoned, TKV_IO);
    (void)tkv_close(f.store, &err);
    f.store = NULL;
    end(&f);
}

static void read_log_headers(const char *path, uint8_t *bytes)
{
    FILE *log = fopen(path, "rb");

    CHECK(log != NULL);
    CHECK_EQ(fread(bytes, 1, TKV_WAL_RING_START, log), TKV_WAL_RING_START);
    CHECK_EQ(fclose(log), 0);
}

/* On the real disk, which parent and child share. */
TEST(a_forked_child_that_closes_the_store_writes_nothing)
{
    static uint8_t before[TKV_WAL_RING_START], after[TKV_WAL_RING_START];
    struct tkv_options options = TKV_OPTIONS_DEFAULT;
    char directory[] = "/tmp/tkv-test-guards-XXXXXX", path[64];
    struct tkv_store *store;
    pid_t child;
    int outcome;

    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/wal.log", directory);
    options.background = false;
    CHECK_OK(tkv_open(directory, &options, &store, NULL, &err));
    CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("value"), &err));
    read_log_headers(path, before);
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(tkv_close(store, NULL) == TKV_OK ? 0 : 1);
    CHECK(waitpid(child, &outcome, 0) == child);
    CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0);
    read_log_headers(path, after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_OK(tkv_put(store, tkv_text("key"), tkv_text("later"), &err));
    CHECK_OK(tkv_close(store, &err));
    snprintf(path, sizeof path, "rm -r %s", directory);
    CHECK_EQ(system(path), 0);
}
