/* SPDX-License-Identifier: MIT */
#include "record.h"

#include <assert.h>

#include "bytes.h"
#include "checksum.h"

enum {
    AT_CRC = 0,
    AT_VALUE_SIZE = 4,
    AT_SEQ = 8,
    AT_KEY_SIZE = 16,
    AT_KIND = 18,
    AT_CODEC = 19,
    AT_MUST = 20,
    AT_IGNORE = 21,
    AT_EXTENSION_SIZE = 22,
    AT_EXTENSION = 24
};

static_assert(AT_EXTENSION == TKV_RECORD_HEADER_SIZE, "the extension follows the header");
static_assert(AT_SEQ % 8 == 0,
              "the one field written late is one aligned word of the record");
static_assert(TKV_RECORD_SIZE_MAX <= UINT32_MAX,
              "the index and the hints keep sizes in u32");

enum { MUST_EXPIRY = 1, MUST_KNOWN = MUST_EXPIRY };

#define EXPIRY_END ((uint64_t)1 << 63)

/* What this version knows of the extension; a later one may have written more. */
static size_t known_extension_size(bool expires, bool compressed)
{
    return (expires ? 8u : 0u) + (compressed ? 4u : 0u);
}

/* ---- Reject what no encoder writes, before trusting a size to skip by. ---- */

static bool flags_are_sane(uint8_t kind, uint8_t codec, uint8_t must)
{
    if (kind < TKV_RECORD_PUT || kind > TKV_RECORD_LARGE)
        return false;
    if (codec > TKV_CODEC_ZLIB || (must & ~MUST_KNOWN) != 0)
        return false;
    if (kind == TKV_RECORD_DELETE && (must & MUST_EXPIRY) != 0)
        return false;
    return codec == TKV_CODEC_STORED || kind == TKV_RECORD_PUT;
}

static bool sizes_are_sane(uint8_t kind, uint32_t value_size, size_t extension_size,
                           size_t known_size)
{
    if (kind == TKV_RECORD_DELETE && value_size != 0)
        return false;
    return value_size <= TKV_VALUE_SIZE_MAX && extension_size >= known_size;
}

static bool expiry_is_sane(uint64_t expires_at_ms)
{
    return expires_at_ms != 0 && expires_at_ms < EXPIRY_END;
}

static bool raw_size_is_sane(uint32_t raw_size, uint32_t value_size)
{
    return raw_size > value_size && raw_size <= TKV_VALUE_SIZE_MAX;
}

/* The mirror image: what the functions above reject must not be written. */
static void assert_sane(const struct tkv_record *r)
{
    assert(r->kind >= TKV_RECORD_PUT && r->kind <= TKV_RECORD_LARGE);
    assert(r->codec == TKV_CODEC_STORED || r->codec == TKV_CODEC_ZLIB);
    assert(r->key.size <= TKV_KEY_SIZE_MAX);
    assert(r->value.size <= TKV_VALUE_SIZE_MAX);
    assert(r->expires_at_ms < EXPIRY_END);
    if (r->codec == TKV_CODEC_ZLIB) {
        assert(r->kind == TKV_RECORD_PUT);
        assert(r->raw_size > r->value.size);
        assert(r->raw_size <= TKV_VALUE_SIZE_MAX);
    }
    if (r->kind == TKV_RECORD_DELETE) {
        assert(r->value.size == 0);
        assert(r->expires_at_ms == 0);
    }
    assert(r->unknown_size == 0);
    (void)r;
}

size_t tkv_record_size(const struct tkv_record *record)
{
    return TKV_RECORD_HEADER_SIZE +
           known_extension_size(record->expires_at_ms != 0,
                                record->codec == TKV_CODEC_ZLIB) +
           record->unknown_size + record->key.size + record->value.size;
}

uint32_t tkv_record_encode(const struct tkv_record *record, uint8_t *out)
{
    const bool expires = record->expires_at_ms != 0;
    const bool compressed = record->codec == TKV_CODEC_ZLIB;
    uint8_t *p = out + AT_EXTENSION;

    assert_sane(record);
    tkv_put_le32(out + AT_CRC, 0);
    tkv_put_le64(out + AT_SEQ, 0);
    tkv_put_le32(out + AT_VALUE_SIZE, (uint32_t)record->value.size);
    tkv_put_le16(out + AT_KEY_SIZE, (uint16_t)record->key.size);
    out[AT_KIND] = (uint8_t)record->kind;
    out[AT_CODEC] = (uint8_t)record->codec;
    out[AT_MUST] = expires ? MUST_EXPIRY : 0;
    out[AT_IGNORE] = 0;
    tkv_put_le16(out + AT_EXTENSION_SIZE,
                 (uint16_t)known_extension_size(expires, compressed));

    if (expires) {
        tkv_put_le64(p, record->expires_at_ms);
        p += 8;
    }
    if (compressed) {
        tkv_put_le32(p, record->raw_size);
        p += 4;
    }
    if (record->key.size != 0)
        memcpy(p, record->key.data, record->key.size);
    p += record->key.size;
    if (record->value.size != 0)
        memcpy(p, record->value.data, record->value.size);
    p += record->value.size;
    return tkv_crc32(0, out + AT_EXTENSION, (size_t)(p - (out + AT_EXTENSION)));
}

static uint32_t sum_header(uint32_t body_sum, const uint8_t *bytes)
{
    return tkv_crc32(body_sum, bytes + AT_VALUE_SIZE, AT_EXTENSION - AT_VALUE_SIZE);
}

void tkv_record_seal(uint8_t *bytes, uint32_t body_sum, uint64_t seq)
{
    assert(seq != 0);
    tkv_put_le64(bytes + AT_SEQ, seq);
    tkv_put_le32(bytes + AT_CRC, sum_header(body_sum, bytes));
}

size_t tkv_record_claimed_size(struct tkv_slice in)
{
    const uint8_t *const p = in.data;
    size_t extension_size, known_size;
    uint32_t value_size;

    if (in.size < TKV_RECORD_HEADER_SIZE ||
        !flags_are_sane(p[AT_KIND], p[AT_CODEC], p[AT_MUST]))
        return 0;
    value_size = tkv_get_le32(p + AT_VALUE_SIZE);
    extension_size = tkv_get_le16(p + AT_EXTENSION_SIZE);
    known_size =
        known_extension_size(p[AT_MUST] & MUST_EXPIRY, p[AT_CODEC] == TKV_CODEC_ZLIB);
    if (!sizes_are_sane(p[AT_KIND], value_size, extension_size, known_size))
        return 0;
    return AT_EXTENSION + extension_size + tkv_get_le16(p + AT_KEY_SIZE) + value_size;
}

enum tkv_record_result tkv_record_parse(struct tkv_slice in, struct tkv_record *ret)
{
    const size_t size = tkv_record_claimed_size(in);
    const uint8_t *p = in.data;
    bool expires, compressed;
    struct tkv_record r;

    if (size == 0)
        return in.size < TKV_RECORD_HEADER_SIZE ? TKV_RECORD_SHORT : TKV_RECORD_BAD;
    if (in.size < size)
        return TKV_RECORD_SHORT;

    expires = (p[AT_MUST] & MUST_EXPIRY) != 0;
    compressed = p[AT_CODEC] == TKV_CODEC_ZLIB;
    r.kind = (enum tkv_record_kind)p[AT_KIND];
    r.codec = (enum tkv_record_codec)p[AT_CODEC];
    r.seq = tkv_get_le64(p + AT_SEQ);
    r.key.size = tkv_get_le16(p + AT_KEY_SIZE);
    r.value.size = tkv_get_le32(p + AT_VALUE_SIZE);
    r.key.data = p + size - r.value.size - r.key.size;
    r.value.data = p + size - r.value.size;
    r.unknown_size = (uint16_t)(tkv_get_le16(p + AT_EXTENSION_SIZE) -
                                known_extension_size(expires, compressed));
    r.expires_at_ms = 0;
    r.raw_size = (uint32_t)r.value.size;
    p += AT_EXTENSION;
    if (expires) {
        r.expires_at_ms = tkv_get_le64(p);
        if (!expiry_is_sane(r.expires_at_ms))
            return TKV_RECORD_BAD;
        p += 8;
    }
    if (compressed) {
        r.raw_size = tkv_get_le32(p);
        if (!raw_size_is_sane(r.raw_size, (uint32_t)r.value.size))
            return TKV_RECORD_BAD;
    }
    *ret = r;
    return TKV_RECORD_GOOD;
}

enum tkv_record_result tkv_record_decode(struct tkv_slice in, struct tkv_record *ret)
{
    const uint8_t *const p = in.data;
    enum tkv_record_result result;
    struct tkv_record r;
    uint32_t body_sum;

    result = tkv_record_parse(in, &r);
    if (result != TKV_RECORD_GOOD)
        return result;
    body_sum = tkv_crc32(0, p + AT_EXTENSION, tkv_record_size(&r) - AT_EXTENSION);
    if (sum_header(body_sum, p) != tkv_get_le32(p + AT_CRC) || r.seq == 0)
        return TKV_RECORD_BAD;
    *ret = r;
    return TKV_RECORD_GOOD;
}
