/* SPDX-License-Identifier: MIT */
/*
 * The compactor has two files open: for what outlives a file that puts wrote, and for what
 * outlives a file of survivors. They go on growing after a restart, and stay few.
 *
 * Method: a small store on the simulated disk, without threads, compacted by hand. Sets of
 * twelve keys fill most of a file; every other key of a set is overwritten.
 */
#include "coverage/killed_store.h"

#include <pthread.h>
#include <semaphore.h>

TEST_MAIN

/* ---- What is watched ----------------------------------------------------------------------- */

void __real_tkv_epoch_wait(struct tkv_epoch *epoch);
void __wrap_tkv_epoch_wait(struct tkv_epoch *epoch);
bool __real_tkv_datafile_retire_tail(struct tkv_datafile *file);
bool __wrap_tkv_datafile_retire_tail(struct tkv_datafile *file);
void __real_tkv_datafile_free_tail(struct tkv_datafile *file);
void __wrap_tkv_datafile_free_tail(struct tkv_datafile *file);

static bool readers_may_be_there; /* in a memory tail that was just retired */
static unsigned freed_tails[TKV_FILE_LARGE + 1];

void __wrap_tkv_epoch_wait(struct tkv_epoch *epoch)
{
    readers_may_be_there = false;
    __real_tkv_epoch_wait(epoch);
}

bool __wrap_tkv_datafile_retire_tail(struct tkv_datafile *file)
{
    const bool retired = __real_tkv_datafile_retire_tail(file);

    readers_may_be_there |= retired;
    return retired;
}

/* In every test. */
void __wrap_tkv_datafile_free_tail(struct tkv_datafile *file)
{
    if (file->retired_tail != NULL) {
        CHECK(!readers_may_be_there);
        freed_tails[file->file_class]++;
    }
    __real_tkv_datafile_free_tail(file);
}

static uint64_t paced_bytes; /* copied not faster than the store needs */

void __wrap_tkv_pace_copy(struct tkv_store *store, uint64_t *bytes_copied,
                          uint64_t *from_us, size_t bytes);

void __wrap_tkv_pace_copy(struct tkv_store *store, uint64_t *bytes_copied,
                          uint64_t *from_us, size_t bytes)
{
    (void)store;
    (void)bytes_copied;
    (void)from_us;
    paced_bytes += bytes;
}

/* ---- Two outputs --------------------------------------------------------------------------- */

#define SET_SIZE   12u
#define VALUE_SIZE 4000u

static const char *key_of(char set, unsigned i, char out[8])
{
    snprintf(out, 8, "%c%u", set, i);
    return out;
}

/* All keys of a set, or every other one; and garbage beside them. */
static void put_set(struct fixture *f, char set, unsigned step, uint8_t byte,
                    unsigned garbage)
{
    char key[8], garbage_key[] = "garbage of ?";

    garbage_key[sizeof garbage_key - 2] = set;
    for (unsigned i = 0; i < SET_SIZE; i += step)
        put_bytes(f, key_of(set, i, key), byte, VALUE_SIZE);
    for (unsigned i = 0; i < garbage; i++)
        put_bytes(f, garbage_key, (uint8_t)i, VALUE_SIZE);
}

static void compact(struct fixture *f)
{
    CHECK_OK(tkv_checkpoint(f->store, &err));
    CHECK_OK(tkv_compact(f->store, NULL, &err));
}

static uint64_t home_of(struct fixture *f, char set, unsigned i)
{
    char key[8];
    const struct tkv_slice slice = tkv_text(key_of(set, i, key));
    struct tkv_location location;

    CHECK(tkv_index_find(f->store->index, slice, tkv_index_hash(f->store->index, slice),
                         &location));
    return tkv_files_at(f->store, tkv_place_slot(location.place))->number;
}

static uint64_t number_of(struct fixture *f, unsigned output)
{
    const struct tkv_datafile *file = f->store->outputs[output];

    return file != NULL ? file->number : 0;
}

static uint64_t records_in(struct fixture *f, uint64_t number)
{
    return tkv_usage_get(&tkv_files_find(f->store, number)->usage.records);
}

static void check_set(struct fixture *f, char set, uint8_t even, uint8_t odd)
{
    char key[8];

    for (unsigned i = 0; i < SET_SIZE; i++)
        check_byte(f, key_of(set, i, key), i % 2 == 0 ? even : odd);
}

static void check_whole(struct fixture *f)
{
    struct tkv_verify_report report;

    CHECK_OK(tkv_verify(f->store, NULL, NULL, &report, &err));
    CHECK_EQ(report.findings, 0);
}

TEST(what_outlives_a_second_file_lies_apart)
{
    struct fixture f;

    begin(&f);
    put_set(&f, 'a', 1, 1, 3);
    compact(&f);
    CHECK(number_of(&f, TKV_OUTPUT_YOUNG) != 0);
    CHECK_EQ(home_of(&f, 'a', 1), number_of(&f, TKV_OUTPUT_YOUNG));
    CHECK_EQ(number_of(&f, TKV_OUTPUT_OLD), 0);
    put_set(&f, 'a', 2, 2, 0);
    compact(&f); /* the file of survivors is half dead */
    CHECK_EQ(home_of(&f, 'a', 1), number_of(&f, TKV_OUTPUT_OLD));
    CHECK_EQ(number_of(&f, TKV_OUTPUT_YOUNG), 0);
    put_set(&f, 'b', 1, 3, 6);
    compact(&f);
    CHECK(number_of(&f, TKV_OUTPUT_YOUNG) != 0);
    CHECK_EQ(home_of(&f, 'b', 11), number_of(&f, TKV_OUTPUT_YOUNG));
    CHECK_EQ(home_of(&f, 'a', 1), number_of(&f, TKV_OUTPUT_OLD));
    check_set(&f, 'a', 2, 1);
    check_set(&f, 'b', 3, 3);
    check_whole(&f);
    end(&f);
}

/* ---- Opened again ------------------------------------------------------------------------ */

/* Whichever of the two was begun first. */
static void open_both_outputs(struct fixture *f, bool old_first)
{
    put_set(f, 'a', 1, 1, 3);
    compact(f);
    if (old_first) {
        put_set(f, 'a', 2, 2, 0);
        compact(f);
        put_set(f, 'b', 1, 3, 6);
    } else {
        put_set(f, 'b', 1, 3, 6);
        compact(f);
        put_set(f, 'a', 2, 2, 0);
    }
    compact(f);
    CHECK(number_of(f, TKV_OUTPUT_YOUNG) != 0 && number_of(f, TKV_OUTPUT_OLD) != 0);
    CHECK_EQ(number_of(f, TKV_OUTPUT_OLD) < number_of(f, TKV_OUTPUT_YOUNG), old_first);
}

TEST(both_outputs_go_on_growing_in_the_next_life)
{
    for (unsigned i = 0; i < 4; i++) {
        struct fixture f;
        uint64_t young, old, records;

        begin(&f);
        open_both_outputs(&f, i % 2 != 0);
        young = number_of(&f, TKV_OUTPUT_YOUNG);
        old = number_of(&f, TKV_OUTPUT_OLD);
        if (i / 2 != 0)
            kill_process(&f, SIMDISK_NOTHING_PENDING);
        open_again(&f);
        CHECK_EQ(number_of(&f, TKV_OUTPUT_YOUNG), young);
        CHECK_EQ(number_of(&f, TKV_OUTPUT_OLD), old);
        records = records_in(&f, young);
        put_set(&f, 'c', 4, 4, 20);
        compact(&f);
        CHECK(records_in(&f, young) > records);
        open_again(&f);
        check_set(&f, 'a', 2, 1);
        check_set(&f, 'b', 3, 3);
        check_byte(&f, "c8", 4);
        check_whole(&f);
        end(&f);
    }
}

/* Each life compacts a little: what it leaves half full is filled by the next. */
TEST(lives_without_end_leave_few_files)
{
    struct fixture f;

    begin(&f);
    for (unsigned life = 0; life < 60; life++) {
        put_set(&f, (char)('a' + life % 3), 1 + life % 2, (uint8_t)life, life % 5);
        compact(&f);
        open_again(&f);
        CHECK(tkv_usage_get(&f.store->file_count) <= 6);
    }
    check_whole(&f);
    end(&f);
}

/* ---- Read from disk ------------------------------------------------------------------------ */

/* Those of a class that are full. Of none of them anything is left in memory. */
static unsigned check_full_files(struct fixture *f, enum tkv_file_class file_class)
{
    char hint[TKV_FILE_NAME_SIZE];
    unsigned count = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);

        if (file == NULL || file->file_class != file_class || !atomic_load(&file->sealed))
            continue;
        CHECK(atomic_load(&file->tail) == NULL && file->retired_tail == NULL);
        CHECK(file->fd < 0); /* mapped */
        tkv_hint_name(file->number, hint);
        CHECK(simdisk_file_size(f->disk, hint) > 0);
        count++;
    }
    return count;
}

static unsigned full_outputs; /* when the last compaction was installed */

static void check_when_installed(void *context, const struct tkv_event *event)
{
    if (event->kind == TKV_EVENT_COMPACTION_INSTALLED)
        full_outputs = check_full_files(context, TKV_FILE_COMPACTED);
}

TEST(a_full_file_has_its_hint_and_needs_neither_memory_nor_a_descriptor)
{
    struct fixture f;

    begin_closed(&f);
    f.options.on_event = check_when_installed;
    f.options.read_mode = TKV_READ_MMAP;
    open_again(&f);
    for (char set = 'a'; set < 'g'; set++)
        put_set(&f, set, 1, (uint8_t)set, 3);
    memset(freed_tails, 0, sizeof freed_tails);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(check_full_files(&f, TKV_FILE_FRESH) > 3);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(full_outputs > 2);
    CHECK(freed_tails[TKV_FILE_FRESH] > 0 && freed_tails[TKV_FILE_COMPACTED] > 2);
    check_set(&f, 'a', 'a', 'a');
    check_set(&f, 'f', 'f', 'f');
    check_whole(&f);
    end(&f);
}

/* ---- Verified meanwhile -------------------------------------------------------------------- */

enum tkv_status __real_tkv_iterator_new(struct tkv_store *store, bool keys_only,
                                        struct tkv_iterator **ret_iterator,
                                        struct tkv_error *ret_err);
enum tkv_status __wrap_tkv_iterator_new(struct tkv_store *store, bool keys_only,
                                        struct tkv_iterator **ret_iterator,
                                        struct tkv_error *ret_err);

/* A verification has read all files when it begins with the keys. */
static sem_t files_are_verified;

enum tkv_status __wrap_tkv_iterator_new(struct tkv_store *store, bool keys_only,
                                        struct tkv_iterator **ret_iterator,
                                        struct tkv_error *ret_err)
{
    (void)sem_post(&files_are_verified);
    return __real_tkv_iterator_new(store, keys_only, ret_iterator, ret_err);
}

struct verification {
    struct fixture *f;
    pthread_t thread;
    bool is_running;
    enum tkv_status status;
    struct tkv_verify_report report;
};

static void *verify(void *context)
{
    struct verification *v = context;

    v->status = tkv_verify(v->f->store, NULL, NULL, &v->report, NULL);
    return NULL;
}

/* Between the copying and the settling. */
static void verify_when_copied(void *context, const struct tkv_event *event)
{
    struct verification *v = context;

    if (event->kind != TKV_EVENT_COMPACTION_COPIED || v->is_running)
        return;
    CHECK(event->count > 0);
    v->is_running = true;
    CHECK_EQ(pthread_create(&v->thread, NULL, verify, v), 0);
    while (sem_wait(&files_are_verified) != 0)
        continue;
}

static uint64_t records_of_all(struct fixture *f)
{
    uint64_t records = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);

        if (file != NULL)
            records += tkv_usage_get(&file->usage.records);
    }
    return records;
}

/* Two rounds: the second compaction appends to the output of the first. */
TEST(a_verification_leaves_alone_what_a_compaction_may_still_take_back)
{
    struct verification v = {0};
    struct fixture f;
    uint64_t records;

    begin_closed(&f);
    v.f = &f;
    f.options.on_event = verify_when_copied;
    f.options.event_context = &v;
    CHECK_EQ(sem_init(&files_are_verified, 0, 0), 0);
    open_again(&f);
    for (char set = 'a'; set <= 'b'; set++) {
        put_set(&f, set, 1, 1, 6);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        records = records_of_all(&f);
        v.is_running = false;
        CHECK_OK(tkv_compact(f.store, NULL, &err));
        CHECK(v.is_running);
        CHECK_EQ(pthread_join(v.thread, NULL), 0);
        CHECK_OK(v.status);
        CHECK_EQ(v.report.records, records);
    }
    check_whole(&f);
    end(&f);
    (void)sem_destroy(&files_are_verified);
}

/* ---- How fast ------------------------------------------------------------------------------ */

/* The store works without threads, as it does when they cannot be made. */
TEST(only_the_compactors_thread_is_held_back_when_it_copies)
{
    for (unsigned i = 0; i < 4; i++) {
        const bool is_thread = i % 2 != 0, is_automatic = i / 2 != 0;
        struct fixture f;
        bool did;

        begin(&f);
        put_set(&f, 'a', 1, 1, 12);
        CHECK_OK(tkv_checkpoint(f.store, &err));
        paced_bytes = 0;
        f.store->compactor.started = is_thread;
        CHECK_OK(tkv_reclaim_step(
            f.store, is_automatic ? TKV_RECLAIM_AUTOMATIC : f.store->next_number, &did,
            NULL, &err));
        f.store->compactor.started = false;
        CHECK(did && number_of(&f, TKV_OUTPUT_YOUNG) != 0);
        CHECK_EQ(paced_bytes > 0, is_thread && is_automatic);
        check_whole(&f);
        end(&f);
    }
}

/* ---- After billions of writes -------------------------------------------------------------- */

/* A closed store whose next write has this sequence number. */
static void begin_life_at(struct fixture *f, uint64_t seq_next)
{
    struct tkv_wal_header h;

    CHECK_OK(tkv_close(f->store, &err));
    f->store = NULL;
    read_header(f, &h);
    h.checkpoint.seq_next = seq_next;
    write_header(f, &h);
    open_again(f);
}

/* The first file begins at sequence number 1 and stays; the second one is compacted, and its last
 * record lies just so far beyond, or one further than an index can tell apart. */
TEST(an_output_begins_where_the_oldest_file_does_while_it_can_hold_what_is_new)
{
    enum { COUNT = 12 };

    for (unsigned beyond = 0; beyond < 2; beyond++) {
        const uint64_t last = 1 + UINT32_MAX / 2 + beyond, base = last - COUNT + 1;
        struct fixture f;

        begin(&f);
        put_set(&f, 'a', 1, 1, 0);
        tkv_mutex_lock(&f.store->apply);
        CHECK_OK(tkv_apply_rotate(f.store, 0, &err));
        tkv_mutex_unlock(&f.store->apply);
        begin_life_at(&f, base);
        CHECK_EQ(tkv_files_find(f.store, 1)->seq_base, 1);
        CHECK_EQ(f.store->active->seq_base, base);
        put_set(&f, 'b', 2, 2, 6);
        CHECK_EQ(atomic_load(&f.store->active->seq_max), last);
        compact(&f);
        CHECK(number_of(&f, TKV_OUTPUT_YOUNG) != 0);
        CHECK_EQ(f.store->outputs[TKV_OUTPUT_YOUNG]->seq_base, beyond ? base : 1);
        open_again(&f);
        check_set(&f, 'a', 1, 1);
        check_byte(&f, "b10", 2);
        check_whole(&f);
        end(&f);
    }
}
