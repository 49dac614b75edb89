/* SPDX-License-Identifier: MIT */
/*
 * The input as a list of puts and deletes that go into a batch, become a group of the log and
 * are read back from it.
 *
 *     for each: what u8 | key size u8 | key | value size u8 | value | expiry u64
 *
 *     what bit 0: delete; bit 1: a put with an expiry; bits 2 and 3: the size given for the key, or
 *     for the value, is one that no slice can have
 *
 * Sizes beyond the limits are refused before a byte is read; what is accepted comes back.
 */
#include "draft.h"
#include "fuzz.h"
#include "group.h"
#include "memory.h"
#include "record.h"

#define ITEMS_MAX 64u

struct item {
    struct tkv_slice key, value;
    uint64_t expires_at_ms;
    bool is_delete;
};

static size_t impossible_size(unsigned choice, size_t limit)
{
    static const size_t beyond[] = {1, 2, 65536, SIZE_MAX / 2};

    return choice % 8 == 0 ? SIZE_MAX : limit + beyond[choice % 4];
}

static enum tkv_status add(struct tkv_batch *batch, const struct item *item, bool expires)
{
    struct tkv_error err;

    if (item->is_delete)
        return tkv_batch_delete(batch, item->key, &err);
    if (expires)
        return tkv_batch_put_expiring(batch, item->key, item->value, item->expires_at_ms,
                                      &err);
    return tkv_batch_put(batch, item->key, item->value, &err);
}

static enum tkv_status expected(const struct item *item, bool expires)
{
    if (item->key.size > TKV_KEY_SIZE_MAX || item->value.size > TKV_VALUE_SIZE_MAX)
        return TKV_TOO_BIG;
    if (!item->is_delete && expires &&
        (item->expires_at_ms == 0 || item->expires_at_ms > INT64_MAX))
        return TKV_INVALID;
    return TKV_OK;
}

/* Read one operation, do it, and keep it when it was accepted. */
static bool take_item(struct fuzz_input *in, struct tkv_batch *batch, struct item *ret_item)
{
    const unsigned what = fuzz_u8(in);
    const bool expires = (what & 3) == 2;
    const size_t count = tkv_batch_count(batch), bytes = tkv_batch_bytes(batch);
    struct item item = {.is_delete = (what & 1) != 0};
    enum tkv_status status;

    item.key = fuzz_take(in, fuzz_u8(in));
    if (!item.is_delete)
        item.value = fuzz_take(in, fuzz_u8(in));
    if (expires)
        item.expires_at_ms = fuzz_u64(in);
    if ((what & 4) != 0)
        item.key.size = impossible_size(what >> 4, TKV_KEY_SIZE_MAX);
    if ((what & 8) != 0 && !item.is_delete)
        item.value.size = impossible_size(what >> 4, TKV_VALUE_SIZE_MAX);
    status = add(batch, &item, expires);
    FUZZ_CHECK(status == expected(&item, expires));
    if (status != TKV_OK) {
        FUZZ_CHECK(tkv_batch_count(batch) == count && tkv_batch_bytes(batch) == bytes);
        return false;
    }
    FUZZ_CHECK(tkv_batch_count(batch) == count + 1 && tkv_batch_bytes(batch) > bytes);
    *ret_item = item;
    return true;
}

static bool is_item(const struct tkv_record *record, const struct item *item)
{
    return (record->kind == TKV_RECORD_DELETE) == item->is_delete &&
           fuzz_same(record->key, item->key) && fuzz_same(record->value, item->value) &&
           record->expires_at_ms == item->expires_at_ms;
}

static void add_to_draft(struct tkv_draft *draft, const struct item *item)
{
    const struct tkv_record record = {.kind = item->is_delete ? TKV_RECORD_DELETE
                                                              : TKV_RECORD_PUT,
                                      .raw_size = (uint32_t)item->value.size,
                                      .expires_at_ms = item->expires_at_ms,
                                      .key = item->key,
                                      .value = item->value};
    struct tkv_error err;

    FUZZ_CHECK(tkv_draft_add(draft, &record, &err) == TKV_OK);
}

/* As the log's writer makes a group of a draft. */
static uint8_t *make_group(const struct tkv_draft *draft, struct tkv_group *group,
                           uint32_t seed)
{
    uint8_t *bytes = malloc(TKV_GROUP_HEADER_SIZE + draft->size);

    FUZZ_CHECK(bytes != NULL);
    memcpy(bytes + TKV_GROUP_HEADER_SIZE, draft->bytes, draft->size);
    for (size_t i = 0; i < draft->count; i++)
        tkv_record_seal(bytes + TKV_GROUP_HEADER_SIZE + draft->items[i].offset,
                        draft->items[i].body_sum, group->seq + i);
    group->payload_size = (uint32_t)draft->size;
    group->count = (uint32_t)draft->count;
    (void)tkv_group_encode(group, seed, bytes);
    return bytes;
}

static void check_group(const struct tkv_draft *draft, const struct item *items)
{
    struct tkv_group group = {.salt = 5, .position = 4096, .seq = 9, .durable = 4096}, back;
    uint8_t *bytes = make_group(draft, &group, 77);
    size_t at = TKV_GROUP_HEADER_SIZE;
    uint32_t chain;

    FUZZ_CHECK(tkv_group_decode_header(bytes, 77, &back));
    FUZZ_CHECK(back.count == draft->count && back.payload_size == draft->size);
    FUZZ_CHECK(tkv_group_check_payload(&back, bytes, bytes + at, 77, &chain));
    FUZZ_CHECK(!tkv_group_decode_header(bytes, 78, &back) && "a place counts");
    for (size_t i = 0; i < draft->count; i++) {
        struct tkv_record record;

        FUZZ_CHECK(tkv_record_decode(
                       tkv_bytes(bytes + at, TKV_GROUP_HEADER_SIZE + draft->size - at),
                       &record) == TKV_RECORD_GOOD);
        FUZZ_CHECK(is_item(&record, &items[i]) && record.seq == group.seq + i);
        tkv_draft_record(draft, i, &record);
        FUZZ_CHECK(is_item(&record, &items[i]));
        at += tkv_record_size(&record);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct item items[ITEMS_MAX];
    struct tkv_batch *batch;
    struct tkv_draft draft;
    struct tkv_error err;
    size_t count = 0;

    memory_begin();
    FUZZ_CHECK(tkv_batch_new(&batch, &err) == TKV_OK);
    while (in.left > 0 && count < ITEMS_MAX)
        count += take_item(&in, batch, &items[count]);
    tkv_draft_init(&draft);
    for (size_t i = 0; i < count; i++)
        add_to_draft(&draft, &items[i]);
    FUZZ_CHECK(draft.count == tkv_batch_count(batch) &&
               draft.size == tkv_batch_bytes(batch));
    if (count > 0)
        check_group(&draft, items);
    tkv_draft_release(&draft);
    tkv_batch_clear(batch);
    FUZZ_CHECK(tkv_batch_count(batch) == 0 && tkv_batch_bytes(batch) == 0);
    tkv_batch_free(batch);
    memory_end(64 * size + 16384);
    return 0;
}
