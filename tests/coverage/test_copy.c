/* SPDX-License-Identifier: MIT */
/*
 * What a compaction makes of each record of a file: kept, set aside as a delete, or dropped;
 * and that it notices when they do not add up.
 *
 * Method: a data file in memory and an index beside it, as the test wants them to be. Memory
 * and the removal of a key fail on demand, as if another thread had been faster.
 */
#include "copy.h"
#include "simdisk.h"
#include "test.h"
#include "walk.h"

TEST_MAIN

#define SLOT    3u
#define NOW_MS  UINT64_C(1000)
#define EXPIRED UINT64_C(999)

static struct tkv_error err;
static int memory_left = -1; /* allocations; -1: any number */
static unsigned reallocations;
static bool removal_fails;
static const uint8_t uuid[16];

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
bool __real_tkv_index_remove_at(struct tkv_index *index, struct tkv_slice key,
                                uint64_t hash, uint64_t place,
                                struct tkv_location *ret_old);
bool __wrap_tkv_index_remove_at(struct tkv_index *index, struct tkv_slice key,
                                uint64_t hash, uint64_t place,
                                struct tkv_location *ret_old);

void *__wrap_malloc(size_t size)
{
    if (memory_left == 0)
        return NULL;
    if (memory_left > 0)
        memory_left--;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (memory_left == 0)
        return NULL;
    if (memory_left > 0)
        memory_left--;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    if (memory_left == 0)
        return NULL;
    if (memory_left > 0)
        memory_left--;
    reallocations++;
    return __real_realloc(old, size);
}

bool __wrap_tkv_index_remove_at(struct tkv_index *index, struct tkv_slice key,
                                uint64_t hash, uint64_t place, struct tkv_location *ret_old)
{
    return !removal_fails && __real_tkv_index_remove_at(index, key, hash, place, ret_old);
}

static unsigned peeks; /* nodes that were fetched ahead */

bool __real_tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess);
bool __wrap_tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess);

bool __wrap_tkv_index_peek(struct tkv_index *index, uint64_t hash, uint64_t *ret_guess)
{
    peeks++;
    return __real_tkv_index_peek(index, hash, ret_guess);
}

struct fixture {
    struct simdisk *disk;
    struct tkv_datafile *file;
    struct tkv_index *index;
    struct tkv_copy_job job;
    uint64_t seq;
    unsigned appended, expired;
    enum tkv_record_kind last_kind; /* appended */
    uint64_t last_seq;
    enum tkv_status append_fails;
};

/* The record is what the bytes say. */
static enum tkv_status append(void *context, const struct tkv_record *record,
                              const uint8_t *bytes, size_t size, uint64_t *ret_place,
                              struct tkv_error *ret_err)
{
    struct fixture *f = context;
    struct tkv_record same;

    (void)ret_err;
    CHECK_EQ(tkv_record_decode(tkv_bytes(bytes, size), &same), TKV_RECORD_GOOD);
    CHECK_EQ(tkv_record_size(&same), size);
    CHECK_EQ(record->kind, same.kind);
    CHECK_EQ(record->seq, same.seq);
    CHECK_EQ(record->key.size, same.key.size);
    CHECK(memcmp(record->key.data, same.key.data, same.key.size) == 0);
    f->last_kind = same.kind;
    f->last_seq = same.seq;
    *ret_place = tkv_place(SLOT + 1, f->appended++, 0);
    return f->append_fails;
}

static void note_expired(void *context, const struct tkv_location *location)
{
    struct fixture *f = context;

    CHECK(location->expires_at_ms == EXPIRED);
    f->expired++;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->disk = simdisk_new(1);
    CHECK_OK(tkv_datafile_new(&f->disk->os, uuid, 1, 1, TKV_FILE_FRESH, 64 * 1024, false,
                              &f->file, &err));
    f->file->slot = SLOT;
    atomic_store(&f->file->superseded.is_complete, false); /* the index decides */
    CHECK_OK(tkv_index_new(1, 0, &f->index, &err));
    f->job = (struct tkv_copy_job){.source = f->file,
                                   .index = f->index,
                                   .now_ms = NOW_MS,
                                   .append = append,
                                   .expired = note_expired,
                                   .context = f};
}

static void end(struct fixture *f)
{
    memory_left = -1;
    removal_fails = false;
    tkv_copy_release(&f->job);
    CHECK(f->job.moves == NULL && f->job.move_count == 0 && f->job.move_capacity == 0);
    CHECK(f->job.tombstones.items == NULL && f->job.tombstones.count == 0);
    tkv_index_free(f->index);
    tkv_datafile_release(f->file);
    simdisk_free(f->disk);
}

/* Append a record to the file; returns where it lies. */
static uint64_t add(struct fixture *f, const char *key, enum tkv_record_kind kind,
                    uint64_t expires_at_ms)
{
    const struct tkv_record record = {
        .kind = kind,
        .key = tkv_text(key),
        .value = kind == TKV_RECORD_DELETE ? tkv_text("") : tkv_text("value"),
        .expires_at_ms = expires_at_ms};
    uint8_t bytes[100];
    uint64_t offset;

    CHECK(tkv_record_size(&record) <= sizeof bytes);
    tkv_record_seal(bytes, tkv_record_encode(&record, bytes), ++f->seq);
    offset = tkv_datafile_append(f->file, bytes, tkv_record_size(&record));
    tkv_datafile_note_record(f->file, offset, f->seq, kind == TKV_RECORD_DELETE);
    return offset;
}

static void point(struct fixture *f, const char *key, uint64_t place,
                  uint64_t expires_at_ms)
{
    const struct tkv_location location = {
        .place = place, .size = 40, .seq_low = 1, .expires_at_ms = expires_at_ms};
    const uint64_t hash = tkv_index_hash(f->index, tkv_text(key));
    struct tkv_location old;

    CHECK_OK(tkv_index_reserve(f->index, tkv_text(key), hash, expires_at_ms != 0, &err));
    (void)tkv_index_put(f->index, tkv_text(key), hash, &location, &old);
}

TEST(a_live_record_is_moved_and_one_that_the_index_does_not_point_at_is_dropped)
{
    struct fixture f;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, 0), 0), 0);
    point(&f, "elsewhere", tkv_place(SLOT + 5, add(&f, "elsewhere", TKV_RECORD_PUT, 0), 0),
          0);
    (void)add(&f, "gone", TKV_RECORD_PUT, 0);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.move_count, 1);
    CHECK_EQ(f.job.bytes_out, f.job.moves[0].size);
    CHECK_EQ(f.job.records_dropped, 2);
    CHECK(tkv_copy_balances(&f.job));
    CHECK(tkv_copy_install(&f.job, 0));
    CHECK(!tkv_copy_install(&f.job, 0)); /* it points elsewhere by now */
    end(&f);
}

TEST(a_move_says_from_where_to_where_and_how_much)
{
    struct fixture f;
    uint64_t from, end_of_first;

    begin(&f);
    from = tkv_place(SLOT, add(&f, "large", TKV_RECORD_LARGE, 0), TKV_PLACE_LARGE);
    point(&f, "large", from, 0);
    end_of_first = atomic_load(&f.file->size);
    point(&f, "lasts", tkv_place(SLOT, add(&f, "lasts", TKV_RECORD_PUT, NOW_MS + 1), 0),
          NOW_MS + 1);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.move_count, 2);
    CHECK_EQ(f.job.moves[0].hash, tkv_index_hash(f.index, tkv_text("large")));
    CHECK_EQ(f.job.moves[0].from, from);
    CHECK_EQ(f.job.moves[0].to, tkv_place(SLOT + 1, 0, 0));
    CHECK_EQ(f.job.moves[0].size, end_of_first - TKV_DATA_HEADER_SIZE);
    CHECK_EQ(f.job.moves[1].hash, tkv_index_hash(f.index, tkv_text("lasts")));
    CHECK_EQ(f.job.moves[1].to, tkv_place(SLOT + 1, 1, 0));
    CHECK_EQ(f.job.moves[1].size, atomic_load(&f.file->size) - end_of_first);
    CHECK(tkv_copy_install(&f.job, 0));
    CHECK(tkv_copy_install(&f.job, 1));
    end(&f);
}

TEST(a_reference_and_a_value_at_the_same_place_are_not_the_same)
{
    struct fixture f;

    begin(&f);
    point(&f, "large", tkv_place(SLOT, add(&f, "large", TKV_RECORD_LARGE, 0), 0), 0);
    point(&f, "value",
          tkv_place(SLOT, add(&f, "value", TKV_RECORD_PUT, 0), TKV_PLACE_LARGE), 0);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.move_count, 0);
    CHECK_EQ(f.job.records_dropped, 2);
    end(&f);
}

TEST(the_first_record_that_cannot_be_written_ends_it)
{
    struct fixture f;

    begin(&f);
    point(&f, "one", tkv_place(SLOT, add(&f, "one", TKV_RECORD_PUT, 0), 0), 0);
    point(&f, "two", tkv_place(SLOT, add(&f, "two", TKV_RECORD_PUT, 0), 0), 0);
    f.append_fails = TKV_NO_SPACE;
    CHECK_EQ(tkv_copy_run(&f.job, &err), TKV_NO_SPACE);
    CHECK_EQ(f.appended, 1);
    CHECK_EQ(f.job.move_count, 0);
    end(&f);
}

TEST(deletes_are_found_by_their_hashes)
{
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 20; i++) {
        char key[8];

        snprintf(key, sizeof key, "%u", i);
        (void)add(&f, key, TKV_RECORD_DELETE, 0);
    }
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.tombstones.count, 20);
    for (size_t i = 0; i < 20; i++)
        CHECK(tkv_tombstones_note(&f.job.tombstones, f.job.tombstones.items[i].hash, 1));
    CHECK(tkv_copy_balances(&f.job));
    end(&f);
}

/* At the moment when it expires it has expired. */
TEST(an_expired_record_that_is_needed_is_written_as_a_delete_with_its_number)
{
    struct fixture f;

    begin(&f);
    (void)add(&f, "gone", TKV_RECORD_DELETE, 0);
    (void)add(&f, "now", TKV_RECORD_PUT, NOW_MS);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.tombstones.count, 2);
    for (size_t i = 0; i < 2; i++)
        f.job.tombstones.items[i].needed = f.job.tombstones.items[i].seq == 2;
    CHECK_OK(tkv_copy_tombstones(&f.job, &err));
    CHECK_EQ(f.appended, 1);
    CHECK_EQ(f.last_kind, TKV_RECORD_DELETE);
    CHECK_EQ(f.last_seq, 2);
    CHECK_EQ(f.job.records_dropped, 1);
    CHECK(tkv_copy_balances(&f.job));
    end(&f);
}

TEST(what_was_read_and_what_was_kept_is_counted_in_bytes)
{
    struct fixture f;
    uint64_t end_of_first;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, 0), 0), 0);
    end_of_first = atomic_load(&f.file->size);
    (void)add(&f, "gone", TKV_RECORD_PUT, 0);
    (void)add(&f, "deleted", TKV_RECORD_DELETE, 0);
    err.status = TKV_BUSY;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(err.status, TKV_BUSY); /* written only on failure */
    CHECK_EQ(f.job.records_in, 3);
    CHECK_EQ(f.job.bytes_in, atomic_load(&f.file->size) - TKV_DATA_HEADER_SIZE);
    CHECK_EQ(f.job.bytes_out, end_of_first - TKV_DATA_HEADER_SIZE);
    end(&f);
}

/* And there is memory for each of them. */
TEST(any_number_of_records_is_moved_with_few_allocations)
{
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 1500; i++) {
        char key[8];

        snprintf(key, sizeof key, "%u", i);
        point(&f, key, tkv_place(SLOT, add(&f, key, TKV_RECORD_PUT, 0), 0), 0);
    }
    reallocations = 0;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.move_count, 1500);
    CHECK(f.job.move_capacity >= 1500);
    CHECK(reallocations <= 3); /* 256, 768, 1792 */
    for (unsigned i = 0; i < 1500; i++)
        CHECK_EQ(f.job.moves[i].to, tkv_place(SLOT + 1, i, 0));
    end(&f);
}

TEST(an_expired_record_becomes_a_delete_unless_a_later_one_hides_it)
{
    struct fixture f;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, EXPIRED), 0),
          EXPIRED);
    (void)add(&f, "swept", TKV_RECORD_PUT, EXPIRED);
    point(&f, "later", tkv_place(SLOT + 1, add(&f, "later", TKV_RECORD_PUT, EXPIRED), 0),
          0);
    point(&f, "lasts", tkv_place(SLOT, add(&f, "lasts", TKV_RECORD_PUT, NOW_MS + 1), 0),
          NOW_MS + 1);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.tombstones.count, 2); /* live, swept */
    CHECK_EQ(f.expired, 1);
    CHECK_EQ(f.job.records_dropped, 1); /* later */
    CHECK_EQ(f.job.move_count, 1);      /* lasts */
    CHECK_EQ(tkv_index_count(f.index), 2);
    end(&f);
}

TEST(an_expired_key_that_somebody_else_took_from_the_index_is_counted_once)
{
    struct fixture f;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, EXPIRED), 0),
          EXPIRED);
    removal_fails = true;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.expired, 0);
    CHECK_EQ(f.job.tombstones.count, 1);
    end(&f);
}

TEST(without_memory_for_an_expired_record_the_copy_fails)
{
    /* The record as a delete, the list of deletes, its bytes, the lists by hash. */
    for (int left = 0; left < 4; left++) {
        struct fixture f;

        begin(&f);
        (void)add(&f, "swept", TKV_RECORD_PUT, EXPIRED);
        (void)add(&f, "next", TKV_RECORD_PUT, 0);
        memory_left = left;
        CHECK_EQ(tkv_copy_run(&f.job, NULL), TKV_NO_MEMORY);
        CHECK_EQ(f.job.records_in, left < 3 ? 1 : 2);
        end(&f);
    }
}

TEST(without_memory_for_a_move_the_copy_fails_and_says_how_much_was_wanted)
{
    const char *size;
    struct fixture f;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, 0), 0), 0);
    memory_left = 0;
    CHECK_EQ(tkv_copy_run(&f.job, &err), TKV_NO_MEMORY);
    size = strpbrk(err.message, "0123456789");
    CHECK(size != NULL && strtoull(size, NULL, 10) >= sizeof(struct tkv_move));
    end(&f);
}

TEST(a_damaged_file_fails_the_copy_whether_or_not_somebody_wants_to_know_why)
{
    for (unsigned round = 0; round < 2; round++) {
        struct fixture f;
        uint64_t offset;

        begin(&f);
        offset = add(&f, "live", TKV_RECORD_PUT, 0);
        atomic_load(&f.file->tail)[offset + 30] ^= 1;
        memset(&err, 0, sizeof err);
        CHECK_EQ(tkv_copy_run(&f.job, round == 0 ? &err : NULL), TKV_CORRUPT);
        if (round == 0)
            CHECK_EQ(err.offset, offset);
        end(&f);
    }
}

TEST(a_delete_goes_when_a_later_put_hides_what_it_hid_and_else_is_judged)
{
    struct fixture f;
    uint64_t kept;

    begin(&f);
    (void)add(&f, "put again", TKV_RECORD_DELETE, 0);
    point(&f, "put again", tkv_place(SLOT, add(&f, "put again", TKV_RECORD_PUT, 0), 0), 0);
    (void)add(&f, "deleted", TKV_RECORD_DELETE, 0);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(f.job.records_dropped, 1);
    CHECK_EQ(f.job.tombstones.count, 1);
    f.job.tombstones.items[0].needed = true;
    kept = f.job.bytes_out;
    CHECK_OK(tkv_copy_tombstones(&f.job, &err));
    CHECK_EQ(f.job.bytes_out, kept + f.job.tombstones.items[0].size);
    CHECK_EQ(f.appended, 2);
    CHECK(tkv_copy_balances(&f.job));
    end(&f);
}

TEST(the_first_delete_that_cannot_be_written_ends_it)
{
    struct fixture f;

    begin(&f);
    (void)add(&f, "one", TKV_RECORD_DELETE, 0);
    (void)add(&f, "two", TKV_RECORD_DELETE, 0);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    f.job.tombstones.items[0].needed = f.job.tombstones.items[1].needed = true;
    f.append_fails = TKV_NO_SPACE;
    CHECK_EQ(tkv_copy_tombstones(&f.job, &err), TKV_NO_SPACE);
    CHECK_EQ(f.appended, 1);
    end(&f);
}

TEST(records_that_are_missing_too_many_or_others_are_noticed)
{
    struct fixture f;

    begin(&f);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, 0), 0), 0);
    (void)add(&f, "gone", TKV_RECORD_PUT, 0);
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK(tkv_copy_balances(&f.job));
    f.job.records_dropped++; /* neither moved nor dropped */
    CHECK(!tkv_copy_balances(&f.job));
    f.job.records_dropped--;
    tkv_usage_add(&f.file->usage.records, 1); /* one that the walk did not meet */
    CHECK(!tkv_copy_balances(&f.job));
    tkv_usage_sub(&f.file->usage.records, 1);
    f.job.record_sum++; /* as many, but others */
    CHECK(!tkv_copy_balances(&f.job));
    end(&f);
}

/* ---- What lies ahead ------------------------------------------------------------------- */

static void check_glimpse(const struct tkv_walk *walk, uint64_t *offset, const char *key)
{
    struct tkv_record seen;

    CHECK(tkv_walk_glimpse(walk, offset, &seen));
    CHECK(seen.key.size == strlen(key) && memcmp(seen.key.data, key, strlen(key)) == 0);
}

TEST(the_records_that_follow_are_seen_as_far_as_there_are_records_in_memory)
{
    struct fixture f;
    struct tkv_walk walk;
    struct tkv_record record;
    uint64_t offset, third;

    begin(&f);
    (void)add(&f, "one", TKV_RECORD_PUT, 0);
    (void)add(&f, "two", TKV_RECORD_DELETE, 0);
    third = add(&f, "three", TKV_RECORD_PUT, EXPIRED);
    tkv_walk_begin(&walk, f.file, atomic_load(&f.file->size));
    offset = walk.offset;
    CHECK(!tkv_walk_glimpse(&walk, &offset, &record)); /* nothing was read yet */
    CHECK(tkv_walk_next(&walk));
    check_glimpse(&walk, &offset, "one");
    check_glimpse(&walk, &offset, "two");
    CHECK_EQ(offset, third);
    check_glimpse(&walk, &offset, "three");
    CHECK_EQ(offset, walk.end);
    CHECK(!tkv_walk_glimpse(&walk, &offset, &record));
    offset = walk.bytes_offset - 1;
    CHECK(!tkv_walk_glimpse(&walk, &offset, &record));
    offset = third;
    walk.bytes_size -= 1; /* which ends within the record */
    CHECK(!tkv_walk_glimpse(&walk, &offset, &record));
    CHECK_EQ(offset, third);
    tkv_walk_end(&walk);
    end(&f);
}

/* In windows: whatever the number of records, each is fetched once and judged once. */
TEST(any_number_of_records_is_fetched_ahead_and_judged_one_by_one)
{
    for (unsigned count = 0; count < 50; count++) {
        struct fixture f;

        begin(&f);
        for (unsigned i = 0; i < count; i++) {
            char name[8];

            snprintf(name, sizeof name, "%u", i);
            point(&f, name, tkv_place(SLOT, add(&f, name, TKV_RECORD_PUT, 0), 0), 0);
        }
        peeks = 0;
        CHECK_OK(tkv_copy_run(&f.job, &err));
        CHECK_EQ(peeks, count);
        CHECK_EQ(f.job.move_count, count);
        CHECK_EQ(f.job.records_in, count);
        for (unsigned i = 0; i < count; i++)
            CHECK(tkv_copy_install(&f.job, i));
        CHECK_EQ(peeks, 2 * count);
        for (unsigned i = 0; i < count; i++)
            CHECK(!tkv_copy_install(&f.job, i)); /* it is there already */
        end(&f);
    }
}

/* ---- What is known without the index --------------------------------------------------- */

TEST(what_was_noted_is_dropped_and_the_rest_kept_without_asking_the_index)
{
    struct fixture f;
    uint64_t noted, live;

    begin(&f);
    atomic_store(&f.file->superseded.is_complete, true);
    noted = add(&f, "noted", TKV_RECORD_PUT, 0);
    live = add(&f, "live", TKV_RECORD_PUT, 0);
    (void)add(&f, "large", TKV_RECORD_LARGE, 0);
    tkv_superseded_note(&f.file->superseded, noted, f.file->capacity);
    point(&f, "noted", tkv_place(SLOT, noted, 0), 0); /* which is not so */
    peeks = 0;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(peeks, 0);
    CHECK_EQ(f.job.records_dropped, 1);
    CHECK_EQ(f.job.move_count, 2);
    CHECK_EQ(f.job.moves[0].from, tkv_place(SLOT, live, 0));
    CHECK(!f.job.moves[0].expires);
    CHECK_EQ(f.job.moves[0].hash, tkv_index_hash(f.index, tkv_text("live")));
    CHECK_EQ(tkv_place_offset(f.job.moves[1].from), f.job.moves[0].size + live);
    CHECK(tkv_copy_balances(&f.job));
    end(&f);
}

TEST(the_index_is_asked_about_deletes_and_what_expires)
{
    struct fixture f;

    begin(&f);
    atomic_store(&f.file->superseded.is_complete, true);
    (void)add(&f, "kept", TKV_RECORD_PUT, 0);
    (void)add(&f, "gone", TKV_RECORD_DELETE, 0);
    point(&f, "here", tkv_place(SLOT, add(&f, "here", TKV_RECORD_PUT, NOW_MS + 1), 0),
          NOW_MS + 1);
    point(&f, "there", tkv_place(SLOT + 1, add(&f, "there", TKV_RECORD_PUT, NOW_MS + 1), 0),
          NOW_MS + 1);
    (void)add(&f, "swept", TKV_RECORD_PUT, EXPIRED);
    peeks = 0;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(peeks, 4);
    CHECK_EQ(f.job.move_count, 2);
    CHECK(!f.job.moves[0].expires && f.job.moves[1].expires);
    CHECK_EQ(f.job.tombstones.count, 2);
    CHECK_EQ(f.job.records_dropped, 1);
    end(&f);
}

/* Which is the case after a lack of memory. */
TEST(the_index_decides_about_what_was_not_noted_where_some_may_be_missing)
{
    struct fixture f;
    uint64_t noted;

    begin(&f);
    noted = add(&f, "noted", TKV_RECORD_PUT, 0);
    tkv_superseded_note(&f.file->superseded, noted, f.file->capacity);
    point(&f, "live", tkv_place(SLOT, add(&f, "live", TKV_RECORD_PUT, 0), 0), 0);
    (void)add(&f, "missed", TKV_RECORD_PUT, 0);
    peeks = 0;
    CHECK_OK(tkv_copy_run(&f.job, &err));
    CHECK_EQ(peeks, 2);
    CHECK_EQ(f.job.move_count, 1);
    CHECK_EQ(f.job.records_dropped, 2);
    CHECK(tkv_copy_balances(&f.job));
    end(&f);
}

TEST(a_delete_of_any_size_is_kept_whole)
{
    static uint8_t record[20000];
    struct tkv_tombstones t = {.count = 0};
    size_t at = 0;

    for (uint32_t size = 5000; size <= sizeof record; size += 5000) {
        memset(record, (int)(size / 100), size);
        CHECK_OK(tkv_tombstones_add(&t, size, size, record, size, &err));
        CHECK_EQ(t.items[t.count - 1].at, at);
        CHECK_EQ(t.items[t.count - 1].size, size);
        CHECK(memcmp(t.bytes + at, record, size) == 0);
        at += size;
        CHECK(t.bytes_capacity >= at);
    }
    tkv_tombstones_release(&t);
}
