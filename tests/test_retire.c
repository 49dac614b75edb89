/* SPDX-License-Identifier: MIT */
/*
 * Who writes hints and frees the memory of files that are full and durable, and when.
 *
 * Method: a small store on the simulated disk without threads, to which a flusher seems to belong:
 * one that can be woken and never comes.
 */
#include "small_store.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

TEST_MAIN

static void begin_in_mode(struct fixture *f, enum tkv_durability durability)
{
    struct tkv_worker *flusher;

    begin_closed(f);
    f->options.durability = durability;
    f->options.wal_size_max = 512 * 1024;
    open_again(f);
    flusher = &f->store->flusher;
    tkv_mutex_init(&flusher->lock);
    CHECK_EQ(pthread_cond_init(&flusher->changed, NULL), 0);
    flusher->started = flusher->joined = true;
}

static void begin_beside_flusher(struct fixture *f)
{
    begin_in_mode(f, TKV_DURABILITY_NONE);
}

/* Full and durable, and in memory all the same. */
static unsigned waiting(struct fixture *f)
{
    unsigned count = 0;

    for (uint32_t slot = 0; slot < atomic_load(&f->store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f->store, slot);

        count += file != NULL && tkv_datafile_is_settled(file);
    }
    return count;
}

static void put_some(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char key[16];

        snprintf(key, sizeof key, "%u", i % 40);
        put_bytes(f, key, (uint8_t)i, 4000);
    }
}

static void put_until_checkpoint(struct fixture *f)
{
    const uint64_t before = f->store->checkpoint.position;

    while (f->store->checkpoint.position == before)
        put_some(f, 1);
}

static void retire(struct fixture *f)
{
    tkv_mutex_lock(&f->store->upkeep);
    tkv_retire(f->store);
    tkv_mutex_unlock(&f->store->upkeep);
}

/* ---- Writers ------------------------------------------------------------------------- */

TEST(a_writer_that_makes_room_leaves_retiring_to_the_flusher_but_not_for_ever)
{
    struct fixture f;

    begin_beside_flusher(&f);
    put_until_checkpoint(&f);
    CHECK(waiting(&f) > 0);
    CHECK(f.store->retire_asked && f.store->flusher.woken);
    put_until_checkpoint(&f); /* nobody came */
    CHECK_EQ(waiting(&f), 0);
    end(&f);
}

TEST(a_writer_whose_checkpoint_fails_asks_for_nothing)
{
    struct fixture f;
    enum tkv_status status = TKV_OK;

    begin_beside_flusher(&f);
    f.disk->fail_kinds = SIMDISK_OPEN; /* of data files: the log is open */
    f.disk->fail_errno = EMFILE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    f.disk->fail_sticky = true;
    for (unsigned i = 0; i < 1000 && status == TKV_OK; i++)
        status = tkv_put(f.store, tkv_text("key"), tkv_bytes(f.disk, 4000), &err);
    CHECK_EQ(status, TKV_IO);
    CHECK(!f.store->retire_asked);
    f.disk->fail_at = 0;
    end(&f);
}

/* ---- The flusher --------------------------------------------------------------------- */

/* What it calls in every step. Waking itself, it would never sleep. */
TEST(the_flushers_own_checkpoint_retires_at_once_and_wakes_nobody)
{
    struct fixture f;

    begin_beside_flusher(&f);
    while (!tkv_log_room_is_low(f.store))
        put_some(&f, 1);
    f.disk->monotonic_us += 1000000; /* slowly: the log has no reason to grow */
    f.store->flusher.woken = false;
    f.disk->fail_kinds = SIMDISK_OPEN;
    f.disk->fail_errno = EMFILE;
    f.disk->fail_count = 0;
    f.disk->fail_at = 1;
    CHECK_EQ(tkv_log_room_maintain(f.store, &err), TKV_IO);
    CHECK(!f.store->flusher.woken && !f.store->retire_asked);
    f.disk->fail_at = 0;
    CHECK_OK(tkv_log_room_maintain(f.store, &err));
    CHECK(!tkv_log_room_is_low(f.store));
    CHECK(!f.store->flusher.woken && !f.store->retire_asked);
    CHECK_EQ(waiting(&f), 0);
    end(&f);
}

TEST(nothing_is_retired_once_a_sync_has_failed)
{
    struct fixture f;

    begin_beside_flusher(&f);
    put_until_checkpoint(&f);
    CHECK(waiting(&f) > 0);
    tkv_store_poison(f.store, TKV_IO);
    retire(&f);
    CHECK(waiting(&f) > 0);
    CHECK_EQ(tkv_close(f.store, &err), TKV_POISONED);
    f.store = NULL;
    end(&f);
}

/* ---- Removed files ------------------------------------------------------------------- */

#define REMOVED_SIZE (700u * 1024) /* two steps of mode ALWAYS, and the rest */

static struct tkv_datafile *new_file(struct fixture *f)
{
    struct tkv_datafile *file;

    CHECK_OK(tkv_datafile_new(f->store->os, f->store->uuid, 1000, 1, TKV_FILE_FRESH,
                              TKV_BLOCK_SIZE, false, &file, &err));
    tkv_datafile_reference(file); /* the test's: what is left when the store's is gone */
    return file;
}

static bool is_released(struct tkv_datafile *file)
{
    return atomic_load(&file->references) == 1;
}

TEST(the_flusher_closes_what_the_compactor_has_removed)
{
    struct fixture f;
    struct tkv_datafile *file;

    begin_beside_flusher(&f);
    file = new_file(&f);
    f.store->flusher.woken = false;
    tkv_removed_add(f.store, file);
    CHECK(!is_released(file) && f.store->flusher.woken);
    tkv_removed_finish(f.store);
    CHECK(is_released(file));
    tkv_removed_finish(f.store);
    CHECK(is_released(file));
    tkv_datafile_release(file);
    end(&f);
}

static uint64_t left_after_a_step(struct fixture *f, struct tkv_datafile *file)
{
    CHECK(tkv_removed_step(f->store));
    return file->left;
}

/* On disk, without a name, and so many bytes long. */
static struct tkv_datafile *new_file_in_class(struct fixture *f,
                                              enum tkv_file_class file_class, uint64_t size)
{
    static const uint8_t zeros[TKV_DATA_HEADER_SIZE];
    struct tkv_datafile *file;
    bool created = false;

    CHECK_OK(tkv_datafile_new(f->store->os, f->store->uuid, 1000, 1, TKV_FILE_FRESH, size,
                              false, &file, &err));
    file->file_class = file_class;
    while (atomic_load(&file->size) < size)
        (void)tkv_datafile_append(file, zeros, sizeof zeros);
    CHECK_OK(tkv_datafile_write(file, f->store->dir, size, &created, &err));
    CHECK(created);
    tkv_removed_prepare(f->store, file);
    CHECK_EQ(f->store->os->unlink(f->store->os, f->store->dir, file->name), 0);
    return file;
}

static struct tkv_datafile *new_file_of(struct fixture *f, uint64_t size)
{
    return new_file_in_class(f, TKV_FILE_FRESH, size);
}

/* Of the disk nothing is left. */
static void fill_disk(struct fixture *f)
{
    struct tkv_os_fs_info info;

    CHECK_EQ(f->disk->os.fs_info(&f->disk->os, f->store->dir, &info), 0);
    f->disk->capacity = info.total_bytes - info.free_bytes;
}

/* In mode ALWAYS a file that waits to be cut. */
static struct tkv_datafile *begin_with_removed_file(struct fixture *f)
{
    struct tkv_datafile *file;

    begin_in_mode(f, TKV_DURABILITY_ALWAYS);
    file = new_file_of(f, REMOVED_SIZE);
    tkv_removed_add(f->store, file);
    return file;
}

TEST(the_flusher_cuts_a_removed_file_by_one_step_at_a_time)
{
    struct fixture f;
    struct tkv_datafile *file = begin_with_removed_file(&f);

    CHECK_EQ(left_after_a_step(&f, file), REMOVED_SIZE - 256 * 1024);
    CHECK_EQ(left_after_a_step(&f, file), REMOVED_SIZE - 2 * 256 * 1024);
    CHECK(tkv_removed_step(f.store)); /* closed it */
    CHECK(!tkv_removed_step(f.store));
    end(&f);
}

TEST(a_removed_file_that_a_reader_holds_is_not_cut)
{
    struct fixture f;
    struct tkv_datafile *file;

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    file = new_file_of(&f, REMOVED_SIZE);
    tkv_datafile_reference(file);
    tkv_removed_add(f.store, file);
    CHECK_EQ(left_after_a_step(&f, file), REMOVED_SIZE);
    CHECK(is_released(file));
    tkv_datafile_release(file);
    end(&f);
}

/* Its name may come back after a power cut, and a record that has expired refers to it. */
TEST(a_removed_file_of_a_large_value_is_never_cut)
{
    struct fixture f;

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    tkv_removed_add(f.store, new_file_in_class(&f, TKV_FILE_LARGE, REMOVED_SIZE));
    simdisk_trace(f.disk);
    tkv_removed_finish(f.store);
    CHECK(strstr(f.disk->trace, "truncate 0000001000.data") == NULL);
    end(&f);
}

TEST(a_store_that_is_closed_cuts_nothing_any_more)
{
    struct fixture f;

    (void)begin_with_removed_file(&f);
    simdisk_trace(f.disk);
    CHECK_OK(tkv_close(f.store, &err));
    f.store = NULL;
    CHECK(strstr(f.disk->trace, "truncate 0000001000.data") == NULL);
    end(&f);
}

TEST(only_a_few_removed_files_wait_for_the_flusher)
{
    struct tkv_datafile *files[TKV_REMOVED_MAX + 1];
    struct fixture f;

    begin_beside_flusher(&f);
    for (unsigned i = 0; i <= TKV_REMOVED_MAX; i++) {
        files[i] = new_file(&f);
        tkv_removed_add(f.store, files[i]);
        CHECK_EQ(is_released(files[i]), i == TKV_REMOVED_MAX);
    }
    end(&f); /* a store that is closed has released them */
    for (unsigned i = 0; i <= TKV_REMOVED_MAX; i++) {
        CHECK(is_released(files[i]));
        tkv_datafile_release(files[i]);
    }
}

TEST(on_a_full_disk_a_removed_file_gives_its_room_back_at_once)
{
    struct fixture f;
    struct tkv_datafile *file;

    begin_beside_flusher(&f);
    file = new_file(&f);
    f.store->disk_full = true;
    tkv_removed_add(f.store, file);
    CHECK(is_released(file));
    f.store->disk_full = false;
    tkv_datafile_release(file);
    end(&f);
}

TEST(a_flush_takes_the_room_of_removed_files_when_there_is_no_other)
{
    struct fixture f;
    struct tkv_datafile *file;

    begin_beside_flusher(&f);
    file = new_file(&f);
    tkv_removed_add(f.store, file);
    tkv_upkeep_flush(f.store);
    CHECK(!is_released(file));
    fill_disk(&f);
    tkv_upkeep_flush(f.store);
    CHECK(is_released(file));
    f.disk->capacity = UINT64_MAX / 2;
    tkv_upkeep_flush(f.store);
    tkv_datafile_release(file);
    end(&f);
}

static void note_space(struct fixture *f)
{
    tkv_mutex_lock(&f->store->upkeep);
    tkv_space_note(f->store);
    tkv_mutex_unlock(&f->store->upkeep);
}

/* The disk has as much beside the store as is left of it, and then so many bytes more. */
static void leave_beside_the_reserve(struct fixture *f, uint64_t bytes)
{
    fill_disk(f);
    while (!tkv_space_permits(f->store, 0))
        f->disk->capacity += 512;
    f->disk->capacity += bytes;
}

TEST(a_disk_is_not_called_full_for_room_that_removed_files_take)
{
    struct fixture f;

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    tkv_removed_add(f.store, new_file_of(&f, 2 * 1024 * 1024));
    fill_disk(&f);
    note_space(&f);
    CHECK(!f.store->disk_full && f.store->removed[0] == NULL);
    end(&f);
}

TEST(the_log_grows_into_room_that_removed_files_take)
{
    static const uint8_t value[400 * 1024];
    struct fixture f;
    struct tkv_datafile *file;

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    file = new_file_of(&f, 2 * 1024 * 1024);
    leave_beside_the_reserve(&f, 10 * 1024);
    CHECK(!tkv_space_permits(f.store, sizeof value));
    tkv_removed_add(f.store, file);
    CHECK(tkv_space_permits(f.store, sizeof value));
    CHECK(f.store->removed[0] == NULL);
    end(&f);
}

/* Each step writes a file and leaves another to the flusher, which does not come here. */
TEST(a_compaction_goes_on_where_its_own_removed_files_have_taken_the_room)
{
    static const uint8_t value[1000];
    struct fixture f;
    char key[8];

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_put(f.store, tkv_text(key), tkv_bytes(value, sizeof value), &err));
    }
    for (unsigned i = 0; i < 1000; i += 8) {
        snprintf(key, sizeof key, "%u", i);
        CHECK_OK(tkv_delete(f.store, tkv_text(key), NULL, &err));
    }
    CHECK_OK(tkv_checkpoint(f.store, &err));
    fill_disk(&f);
    f.disk->capacity += 2 * tkv_files_capacity(f.store);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    end(&f);
}

/* Those that wait already take room as well. */
TEST(room_that_removed_files_take_is_looked_for_before_a_put_is_refused)
{
    static const uint8_t value[6000];
    struct fixture f;
    struct tkv_datafile *file;

    begin_beside_flusher(&f);
    file = new_file(&f);
    tkv_removed_add(f.store, file);
    fill_disk(&f);
    note_space(&f); /* and there is none */
    CHECK(is_released(file) && f.store->disk_full);
    CHECK_EQ(tkv_put(f.store, tkv_text("key"), tkv_bytes(value, sizeof value), &err),
             TKV_NO_SPACE);
    f.disk->capacity = UINT64_MAX / 2;
    note_space(&f);
    tkv_datafile_release(file);
    end(&f);
}

/* There is some, but too little for this one. */
TEST(a_put_is_not_refused_for_room_that_removed_files_take)
{
    static const uint8_t value[6000];
    struct fixture f;
    struct tkv_datafile *file;

    begin_in_mode(&f, TKV_DURABILITY_ALWAYS);
    file = new_file_of(&f, REMOVED_SIZE);
    leave_beside_the_reserve(&f, 0);
    CHECK(!tkv_space_permits(f.store, sizeof value));
    tkv_removed_add(f.store, file);
    note_space(&f);
    CHECK(!f.store->disk_full && f.store->removed[0] != NULL);
    CHECK_OK(tkv_put(f.store, tkv_text("key"), tkv_bytes(value, sizeof value), &err));
    CHECK(f.store->removed[0] == NULL);
    end(&f);
}

TEST(compacting_by_hand_returns_when_the_room_is_there)
{
    struct fixture f;

    begin_beside_flusher(&f);
    put_some(&f, 200);
    CHECK_OK(tkv_checkpoint(f.store, &err));
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    for (unsigned i = 0; i < TKV_REMOVED_MAX; i++)
        CHECK(f.store->removed[i] == NULL);
    end(&f);
}

TEST(a_forked_child_that_closes_the_store_closes_removed_files_as_well)
{
    struct fixture f;
    struct tkv_datafile *file;
    pid_t child;
    int status = -1;

    begin_beside_flusher(&f);
    file = new_file(&f);
    tkv_removed_add(f.store, file);
    child = fork();
    if (child == 0) {
        (void)tkv_close(f.store, NULL);
        _exit(is_released(file) ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
    end(&f);
    tkv_datafile_release(file);
}

/* ---- The compactor ------------------------------------------------------------------- */

static bool has_hint(struct fixture *f, const struct tkv_datafile *file)
{
    char name[TKV_FILE_NAME_SIZE];

    tkv_hint_name(file->number, name);
    return simdisk_file_size(f->disk, name) > 0;
}

TEST(a_compaction_leaves_hints_and_memory_to_the_flusher)
{
    struct fixture f;
    unsigned hinted = 0, sealed = 0;

    begin_beside_flusher(&f);
    put_some(&f, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK(waiting(&f) > 0);
    CHECK(f.store->retire_asked && f.store->flusher.woken);
    retire(&f);
    CHECK_EQ(waiting(&f), 0);
    for (uint32_t slot = 0; slot < atomic_load(&f.store->slots_used); slot++) {
        struct tkv_datafile *file = tkv_files_at(f.store, slot);

        if (file == NULL || !atomic_load(&file->sealed))
            continue;
        sealed++;
        hinted += has_hint(&f, file);
    }
    CHECK(sealed > 0);
    CHECK_EQ(hinted, sealed);
    end(&f);
}

TEST(without_threads_a_compaction_retires_what_it_made)
{
    struct fixture f;

    begin_closed(&f);
    open_again(&f);
    put_some(&f, 100);
    CHECK_OK(tkv_compact(f.store, NULL, &err));
    CHECK_EQ(waiting(&f), 0);
    end(&f);
}
