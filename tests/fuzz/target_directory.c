/* SPDX-License-Identifier: MIT */
/*
 * A whole store, forged: one of the small, real stores, changed as the input says, with all
 * checksums made right again, is opened and used.
 *
 *     store u8 | options u8 | faults u16 | mutations, see mutation.h
 *
 *     options bit 0: leave the checksums as the mutations left them
 *             bit 1: read-only      bits 2, 3: durability      bit 4: read with pread
 *             bit 5: log positions, sequence numbers made right as well
 *     faults  0: none; else bits 0 to 11: the call, or with bit 12 the allocation, from which
 *             on all fail
 *
 * Whatever the files say: no crash, no read outside of them, no leak, no loop; opening takes
 * memory in proportion to the files. What is written after opening is read back, in that life
 * and in the next, or the store says why not. With checksums that nobody repaired, no value is
 * returned that was not once written for its key.
 */
#include "fuzz.h"
#include "memory.h"
#include "mutation.h"
#include "order_everywhere.h"
#include "small_store.h"
#include "store.h"

/* The table of files, log buffers, an active file and the compactor's. */
#define OPEN_SIZE_MAX ((size_t)10 << 20)

struct run {
    struct memory_disk *disk;
    struct tkv_options options;
    bool is_authentic; /* no checksum was repaired: values must be true */
    bool is_faulty;
    struct tkv_error err;
};

static void check_status(enum tkv_status status, const struct run *run)
{
    FUZZ_CHECK((unsigned)status <= TKV_UNSUPPORTED);
    FUZZ_CHECK(run->is_faulty || status != TKV_IO || run->options.read_only);
}

/* ---- Reading ------------------------------------------------------------------------------- */

static void check_value(const struct run *run, struct tkv_slice key, struct tkv_slice value)
{
    if (run->is_authentic)
        FUZZ_CHECK(small_store_is_true(key, value) && "a value was written for its key");
}

static void read_key(struct run *run, struct tkv_store *store, struct tkv_slice key)
{
    struct tkv_pin pin = {0};
    enum tkv_status status = tkv_get_pinned(store, key, &pin, &run->err), again;
    void *copy = NULL;
    size_t size;

    check_status(status, run);
    if (status == TKV_OK) {
        check_value(run, key, pin.value);
        again = tkv_get_copy(store, key, &copy, &size, &run->err);
        if (again == TKV_OK)
            FUZZ_CHECK(fuzz_same(tkv_bytes(copy, size), pin.value));
        FUZZ_CHECK(again == TKV_OK || run->is_faulty || again == TKV_NO_MEMORY);
        tkv_free(copy);
    }
    tkv_unpin(&pin);
}

/* Returns how many keys came. */
static uint64_t iterate(struct run *run, struct tkv_store *store)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    uint64_t count = 0, steps = 0;
    enum tkv_status status = tkv_iterator_new(store, false, &iterator, &run->err);

    if (status != TKV_OK)
        return 0;
    while ((status = tkv_iterator_next(iterator, &entry, &run->err)) != TKV_NOT_FOUND) {
        FUZZ_CHECK(++steps < 100000 && "an iteration ends");
        if (status == TKV_OK) {
            check_value(run, entry.key, entry.value);
            read_key(run, store, entry.key);
            count++;
        } else if (status != TKV_CORRUPT && status != TKV_IO) {
            break;
        }
    }
    tkv_iterator_free(iterator);
    return count;
}

static void read_everything(struct run *run, struct tkv_store *store)
{
    struct tkv_verify_report report;
    struct tkv_stats stats;

    (void)iterate(run, store);
    read_key(run, store, tkv_text("key2"));
    check_status(tkv_verify(store, NULL, NULL, &report, &run->err), run);
    FUZZ_CHECK(tkv_stats(store, &stats, &run->err) == TKV_OK);
}

/* ---- Writing ------------------------------------------------------------------------------- */

#define OWN_KEYS 3u

/* What this run has written: NULL when nobody knows. */
struct own {
    const char *keys[OWN_KEYS], *values[OWN_KEYS];
};

static void write_own(struct run *run, struct tkv_store *store, struct own *own)
{
    static const char *const keys[OWN_KEYS] = {"own", "key2", ""};

    for (unsigned i = 0; i < OWN_KEYS; i++) {
        enum tkv_status status =
            tkv_put(store, tkv_text(keys[i]), tkv_text("what was written"), &run->err);

        check_status(status, run);
        own->keys[i] = keys[i];
        own->values[i] = status == TKV_OK ? "what was written" : NULL;
    }
    if (tkv_delete(store, tkv_text("key4"), NULL, &run->err) == TKV_OK)
        FUZZ_CHECK(tkv_exists(store, tkv_text("key4"), &run->err) == TKV_NOT_FOUND);
}

static void check_own(struct run *run, struct tkv_store *store, const struct own *own)
{
    for (unsigned i = 0; i < OWN_KEYS; i++) {
        char value[64];
        size_t size;
        enum tkv_status status;

        if (own->values[i] == NULL)
            continue;
        status =
            tkv_get(store, tkv_text(own->keys[i]), value, sizeof value, &size, &run->err);
        if (status == TKV_OK)
            FUZZ_CHECK(fuzz_same(tkv_bytes(value, size), tkv_text(own->values[i])));
        FUZZ_CHECK_SAYING(status == TKV_OK || run->is_faulty, run->err.message);
    }
}

/* ---- Lives --------------------------------------------------------------------------------- */

static enum tkv_status open_store(struct run *run, struct tkv_store **ret_store)
{
    struct tkv_open_report report;
    enum tkv_status status =
        tkv_open_on(&run->disk->os, "", &run->options, ret_store, &report, &run->err);

    check_status(status, run);
    FUZZ_CHECK(status == TKV_OK || run->err.message[0] != 0);
    FUZZ_CHECK(status != TKV_NO_MEMORY || run->is_faulty);
    return status;
}

static bool close_store(struct run *run, struct tkv_store *store)
{
    const enum tkv_status status = tkv_close(store, &run->err);

    check_status(status, run);
    FUZZ_CHECK(run->disk->open_count == 0 && "nothing stays open");
    return status == TKV_OK;
}

static void live(struct run *run, size_t size)
{
    struct own own = {{NULL}, {NULL}};
    struct tkv_store *store;
    bool closed;

    memory_begin();
    if (open_store(run, &store) != TKV_OK) {
        FUZZ_CHECK(run->disk->open_count == 0 && "nothing stays open");
        memory_end(OPEN_SIZE_MAX + 4 * size);
        return;
    }
    memory_check(OPEN_SIZE_MAX + 4 * size);
    read_everything(run, store);
    if (!run->options.read_only) {
        write_own(run, store, &own);
        run->is_authentic = false; /* from here on values are of two authors */
        check_own(run, store, &own);
        check_status(tkv_compact(store, NULL, &run->err), run);
        check_status(tkv_checkpoint(store, &run->err), run);
        check_own(run, store, &own);
        read_everything(run, store);
    }
    closed = close_store(run, store);
    memory_end(SIZE_MAX);
    if (run->options.read_only || !closed || open_store(run, &store) != TKV_OK)
        return;
    check_own(run, store, &own);
    (void)close_store(run, store);
    memory_end(SIZE_MAX);
}

static size_t disk_size(const struct memory_disk *disk)
{
    size_t size = 0;

    for (size_t i = 0; i < MEMORY_DISK_FILES; i++)
        size += disk->files[i].name[0] == 0 ? 0 : disk->files[i].size;
    return size;
}

static struct tkv_options take_options(unsigned bits)
{
    struct tkv_options options = small_store_options();

    options.read_only = (bits & 2) != 0;
    options.durability = (enum tkv_durability)((bits >> 2 & 3) % 3);
    options.read_mode = (bits & 16) != 0 ? TKV_READ_PREAD : TKV_READ_MMAP;
    return options;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const unsigned kind = fuzz_u8(&in) % SMALL_STORE_KINDS, bits = fuzz_u8(&in);
    const unsigned faults = fuzz_u16(&in);
    struct run run = {.disk = memory_disk(),
                      .options = take_options(bits),
                      .is_authentic = (bits & 1) != 0,
                      .is_faulty = faults != 0};
    const struct small_store *store = small_store(run.disk, (enum small_store_kind)kind);
    bool was_watched;

    small_store_put(store, run.disk);
    mutate(run.disk, &in,
           (bits & 1) != 0    ? MUTATE_ONLY
           : (bits & 32) != 0 ? MUTATE_AND_FIX_ALL
                              : MUTATE_AND_FIX);
    if (faults != 0 && (faults & 4096) == 0)
        run.disk->fail_at = faults & 4095;
    if (faults != 0 && (faults & 4096) != 0)
        memory_fail_at(faults & 4095);
    /* The order of calls is judged against what the files say, which a forger may have made
     * contradict itself. */
    was_watched = order_watch(run.is_authentic);
    live(&run, disk_size(run.disk));
    (void)order_watch(was_watched);
    memory_fail_at(0);
    return 0;
}
