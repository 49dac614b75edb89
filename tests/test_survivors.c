/* SPDX-License-Identifier: MIT */
/*
 * The compactor has two files open: for what outlives a file that puts wrote, and for what
 * outlives a file of survivors. They go on growing after a restart, and stay few.
 *
 * Method: a small store on the simulated disk, without threads, compacted by hand. Sets of
 * twelve keys fill most of a file; every other key of a set is overwritten.
 */
#include "small_store.h"

TEST_MAIN

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
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK(check_full_files(&f, TKV_FILE_FRESH) > 3);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(full_outputs > 2);
    check_set(&f, 'a', 'a', 'a');
    check_set(&f, 'f', 'f', 'f');
    check_whole(&f);
    end(&f);
}
