/* SPDX-License-Identifier: MIT */
#include "utf8.h"

#include <assert.h>
#include <string.h>

/* The second byte decides about overlong forms, surrogates and the upper end. */
static bool second_is_valid(uint8_t first, uint8_t second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return second >= 0x80 && second <= 0xbf;
    }
}

static size_t size_after(uint8_t first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

size_t utf8_sequence(const uint8_t *bytes, size_t size)
{
    const size_t needed = size == 0 ? 0 : size_after(bytes[0]);

    if (needed == 0 || needed > size)
        return 0;
    if (needed >= 2 && !second_is_valid(bytes[0], bytes[1]))
        return 0;
    for (size_t i = 2; i < needed; i++) {
        if (bytes[i] < 0x80 || bytes[i] > 0xbf)
            return 0;
    }
    return needed;
}

bool utf8_valid(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    const uint8_t *const end = size == 0 ? at : at + size;

    while (at < end) {
        uint64_t eight;
        size_t step;

        /* Mostly it is ASCII. */
        if (end - at >= 8) {
            memcpy(&eight, at, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                continue;
            }
        }
        step = utf8_sequence(at, (size_t)(end - at));
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, uint8_t *ret_bytes)
{
    assert(code_point < 0x110000);
    assert(code_point < 0xd800 || code_point > 0xdfff);
    if (code_point < 0x80) {
        ret_bytes[0] = (uint8_t)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        ret_bytes[0] = (uint8_t)(0xc0 | code_point >> 6);
        ret_bytes[1] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        ret_bytes[0] = (uint8_t)(0xe0 | code_point >> 12);
        ret_bytes[1] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
        ret_bytes[2] = (uint8_t)(0x80 | (code_point & 0x3f));
        return 3;
    }
    ret_bytes[0] = (uint8_t)(0xf0 | code_point >> 18);
    ret_bytes[1] = (uint8_t)(0x80 | (code_point >> 12 & 0x3f));
    ret_bytes[2] = (uint8_t)(0x80 | (code_point >> 6 & 0x3f));
    ret_bytes[3] = (uint8_t)(0x80 | (code_point & 0x3f));
    return 4;
}
