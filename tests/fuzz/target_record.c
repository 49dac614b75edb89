/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as the payload of a group: records one after another.
 *
 *     control u8 | bytes          control bit 0: make the checksums right first
 *
 * Whatever is accepted lies within the bytes, and encoding it again gives the same bytes.
 */
#include "checksums.h"
#include "fuzz.h"
#include "memory.h"
#include "record.h"

static void check_limits(const struct tkv_record *r)
{
    FUZZ_CHECK(r->kind >= TKV_RECORD_PUT && r->kind <= TKV_RECORD_LARGE);
    FUZZ_CHECK(r->value.size <= TKV_VALUE_SIZE_MAX && r->key.size <= TKV_KEY_SIZE_MAX);
    FUZZ_CHECK(r->raw_size <= TKV_VALUE_SIZE_MAX);
    FUZZ_CHECK(r->codec == TKV_CODEC_STORED ? r->raw_size == r->value.size
                                            : r->raw_size > r->value.size);
    FUZZ_CHECK(r->expires_at_ms <= INT64_MAX);
    FUZZ_CHECK(r->kind != TKV_RECORD_DELETE ||
               (r->value.size == 0 && r->expires_at_ms == 0));
}

static bool is_within(struct tkv_slice part, struct tkv_slice whole)
{
    const uint8_t *p = part.data, *w = whole.data;

    return p >= w && p <= w + whole.size && part.size <= (size_t)(w + whole.size - p);
}

/* A flag that may be ignored, or an extension of a later version, is not written again. */
static void check_encodes_back(const struct tkv_record *record, const uint8_t *bytes)
{
    const size_t size = tkv_record_size(record);
    uint8_t *again;
    uint32_t sum;

    if (record->unknown_size != 0 || bytes[21] != 0)
        return;
    again = malloc(size);
    FUZZ_CHECK(again != NULL);
    sum = tkv_record_encode(record, again);
    tkv_record_seal(again, sum, record->seq);
    FUZZ_CHECK(memcmp(again, bytes, size) == 0);
    free(again);
}

/* Returns the record's size; 0 at the end. */
static size_t check_record(struct tkv_slice in)
{
    const size_t claimed = tkv_record_claimed_size(in);
    struct tkv_record parsed, decoded;
    const enum tkv_record_result parse = tkv_record_parse(in, &parsed);
    const enum tkv_record_result decode = tkv_record_decode(in, &decoded);

    FUZZ_CHECK(claimed <= TKV_RECORD_SIZE_MAX);
    FUZZ_CHECK((parse == TKV_RECORD_SHORT) ==
               (in.size < TKV_RECORD_HEADER_SIZE || claimed > in.size));
    FUZZ_CHECK(decode == parse || (parse == TKV_RECORD_GOOD && decode == TKV_RECORD_BAD));
    if (parse != TKV_RECORD_GOOD)
        return 0;
    FUZZ_CHECK(claimed == tkv_record_size(&parsed));
    FUZZ_CHECK(is_within(parsed.key, in) && is_within(parsed.value, in));
    check_limits(&parsed);
    if (decode != TKV_RECORD_GOOD)
        return 0;
    FUZZ_CHECK(decoded.seq == parsed.seq && decoded.seq != 0);
    check_encodes_back(&decoded, in.data);
    return claimed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    const uint8_t control = fuzz_u8(&in);
    uint8_t *bytes;
    size_t at = 0, step;

    if (size == 0)
        return 0;
    memory_begin();
    bytes = malloc(in.left == 0 ? 1 : in.left); /* exactly, so that reads beyond are seen */
    FUZZ_CHECK(bytes != NULL);
    if (in.left > 0)
        memcpy(bytes, in.at, in.left);
    if ((control & 1) != 0)
        (void)fix_records(bytes, in.left, 0);
    while ((step = check_record(tkv_bytes(bytes + at, in.left - at))) != 0)
        at += step;
    free(bytes);
    memory_end(2 * size + 256);
    return 0;
}
