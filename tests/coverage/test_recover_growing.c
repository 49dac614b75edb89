/* SPDX-License-Identifier: MIT */
/*
 * Which data file goes on growing after an opening, which number and size the next one gets, and
 * what happens where a file cannot be got ready for it.
 *
 * Method: a small store is opened again, some of it changed from outside; descriptors and memory
 * are refused on demand.
 */
#include "killed_store.h"

#include <errno.h>

TEST_MAIN

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

/* ---- Which file grows ------------------------------------------------------------- */

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

/* ---- When it cannot --------------------------------------------------------------- */

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
