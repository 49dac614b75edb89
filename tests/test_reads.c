/* SPDX-License-Identifier: MIT */
/*
 * Each guard of reading alone: a record in another's place, of another key, older or damaged is
 * an error in every form of reading, and a key that is gone or has expired is absent in all.
 *
 * Method: a small store on the simulated disk, without threads; a record is exchanged from
 * outside.
 */
#include "small_store.h"

TEST_MAIN

/* ---- Memory -------------------------------------------------------------------------- */

static bool memory_is_gone;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    return memory_is_gone ? NULL : __real_malloc(size);
}

/* ---- Reading: a record in another's place -------------------------------------------- */

/* Every way of reading says that the record is damaged. */
static void check_damaged(struct fixture *f, const char *key)
{
    const struct tkv_slice slice = tkv_text(key);
    struct tkv_pin pin, pins[1];
    enum tkv_status statuses[1];
    void *copy;
    uint8_t byte;
    size_t size;

    CHECK_EQ(get(f, key, &byte), TKV_CORRUPT);
    CHECK_STR(err.file, DATA);
    CHECK_EQ(tkv_get_copy(f->store, slice, &copy, &size, &err), TKV_CORRUPT);
    CHECK_EQ(tkv_get_pinned(f->store, slice, &pin, &err), TKV_CORRUPT);
    CHECK_EQ(tkv_multi_get(f->store, &slice, 1, pins, statuses, &err), TKV_CORRUPT);
    CHECK_EQ(statuses[0], TKV_CORRUPT);
}

/* Where record `nth` of `key` lies, reads find the first one of `other` from now on. */
static void misdirect(struct fixture *f, const char *key, unsigned nth, const char *other)
{
    uint64_t from, to;
    size_t size;

    open_again(f); /* else reads are served from memory */
    keep_file(f, DATA, &first);
    from = find_record(&first, other, 0, &size);
    to = find_record(&first, key, nth, &size);
    overwrite(f, DATA, to, first.bytes + from, size);
}

TEST(a_record_of_another_key_is_an_error_and_never_its_value)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "one", 1, 100);
    put_bytes(&f, "two", 2, 100);
    misdirect(&f, "two", 0, "one");
    check_damaged(&f, "two");
    check_byte(&f, "one", 1);
    end(&f);
}

TEST(an_older_record_of_the_key_is_an_error_and_never_its_value)
{
    struct fixture f;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    put_bytes(&f, "key", 2, 100);
    misdirect(&f, "key", 1, "key");
    check_damaged(&f, "key");
    end(&f);
}

TEST(a_flipped_bit_of_a_value_is_an_error_and_never_the_value)
{
    struct fixture f;
    uint64_t at;
    size_t size;

    begin(&f);
    put_bytes(&f, "key", 1, 100);
    open_again(&f);
    keep_file(&f, DATA, &first);
    at = find_record(&first, "key", 0, &size);
    first.bytes[at + size - 1] ^= 0x20;
    overwrite(&f, DATA, at, first.bytes + at, size);
    check_damaged(&f, "key");
    end(&f);
}

TEST(of_several_damaged_records_a_multi_get_tells_of_the_first)
{
    const struct tkv_slice keys[] = {tkv_text("absent"), tkv_text("one"), tkv_text("two")};
    enum tkv_status statuses[3];
    struct tkv_pin pins[3];
    struct fixture f;
    uint64_t at[2];
    size_t size;

    begin(&f);
    put_bytes(&f, "one", 1, 100);
    put_bytes(&f, "two", 2, 100);
    open_again(&f);
    keep_file(&f, DATA, &first);
    at[0] = find_record(&first, "one", 0, &size);
    at[1] = find_record(&first, "two", 0, &size);
    for (int i = 0; i < 2; i++)
        overwrite(&f, DATA, at[i] + size - 1, "?", 1);
    CHECK_EQ(tkv_multi_get(f.store, keys, 3, pins, statuses, &err), TKV_CORRUPT);
    CHECK_EQ(err.offset, at[0]);
    CHECK_EQ(statuses[0], TKV_NOT_FOUND);
    CHECK_EQ(statuses[1], TKV_CORRUPT);
    CHECK_EQ(statuses[2], TKV_CORRUPT);
    end(&f);
}

/* ---- Iterating ----------------------------------------------------------------------- */

/* A compressed value needs memory of its own. */
TEST(an_iterator_that_has_no_memory_returns_the_same_key_when_it_has)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry = {.expires_at_ms = 7};
    unsigned count = 0;
    struct fixture f;

    begin(&f);
    f.options.compress_level = 6;
    open_again(&f);
    put_bytes(&f, "one", 1, 1000);
    put_bytes(&f, "two", 2, 1000);
    CHECK_OK(tkv_iterator_new(f.store, false, &iterator, &err));
    CHECK_OK(tkv_iterator_next(iterator, &entry, &err));
    entry.expires_at_ms = 7;
    memory_is_gone = true;
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NO_MEMORY);
    memory_is_gone = false;
    CHECK_EQ(entry.expires_at_ms, 7);
    while (tkv_iterator_next(iterator, &entry, &err) == TKV_OK)
        count++;
    CHECK_EQ(count, 1);
    tkv_iterator_free(iterator);
    end(&f);
}

TEST(a_key_deleted_since_the_iterator_began_is_not_returned)
{
    for (int keys_only = 0; keys_only < 2; keys_only++) {
        struct tkv_iterator *iterator;
        struct tkv_entry entry;
        struct fixture f;
        char key[8];

        begin(&f);
        for (unsigned i = 0; i < 50; i++) {
            snprintf(key, sizeof key, "%u", i);
            put_bytes(&f, key, 1, 10);
        }
        CHECK_OK(tkv_iterator_new(f.store, keys_only, &iterator, &err));
        CHECK_OK(tkv_iterator_next(iterator, &entry, &err));
        for (unsigned i = 0; i < 50; i++) {
            snprintf(key, sizeof key, "%u", i);
            del(&f, key);
        }
        CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NOT_FOUND);
        tkv_iterator_free(iterator);
        end(&f);
    }
}

/* ---- Expiry -------------------------------------------------------------- */

TEST(an_expired_key_is_absent_in_every_form_of_reading)
{
    const struct tkv_slice key = tkv_text("key");
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    enum tkv_status statuses[1];
    struct tkv_pin pins[1];
    struct fixture f;
    uint8_t byte;

    begin(&f);
    CHECK_OK(tkv_put_expiring(f.store, key, tkv_text("v"), f.disk->wall_ms + 10, &err));
    CHECK_OK(tkv_multi_get(f.store, &key, 1, pins, statuses, &err));
    CHECK_EQ(statuses[0], TKV_OK);
    tkv_unpin(&pins[0]);
    f.disk->wall_ms += 10;
    CHECK_OK(tkv_multi_get(f.store, &key, 1, pins, statuses, &err));
    CHECK_EQ(statuses[0], TKV_NOT_FOUND);
    CHECK_EQ(get(&f, "key", &byte), TKV_NOT_FOUND);
    CHECK_EQ(tkv_exists(f.store, key, &err), TKV_NOT_FOUND);
    CHECK_EQ(tkv_get_pinned(f.store, key, &pins[0], &err), TKV_NOT_FOUND);
    CHECK_OK(tkv_iterator_new(f.store, false, &iterator, &err));
    CHECK_EQ(tkv_iterator_next(iterator, &entry, &err), TKV_NOT_FOUND);
    tkv_iterator_free(iterator);
    end(&f);
}

TEST(one_instant_decides_which_keys_of_a_multi_get_have_expired)
{
    struct tkv_slice keys[40];
    enum tkv_status statuses[40];
    struct tkv_pin pins[40];
    char name[40][3];
    struct fixture f;

    begin(&f);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name[i], sizeof name[i], "%u", i);
        keys[i] = tkv_text(name[i]);
        CHECK_OK(
            tkv_put_expiring(f.store, keys[i], tkv_text("v"), f.disk->wall_ms + 10, &err));
    }
    f.disk->wall_step_ms = 1;
    CHECK_OK(tkv_multi_get(f.store, keys, 40, pins, statuses, &err));
    for (unsigned i = 0; i < 40; i++) {
        CHECK_EQ(statuses[i], TKV_OK);
        tkv_unpin(&pins[i]);
    }
    f.disk->wall_step_ms = 0;
    end(&f);
}
