/* SPDX-License-Identifier: MIT */
#include "base64.h"

#include <string.h>

static const char alphabet[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode_three(const uint8_t *bytes, char *text)
{
    const uint32_t bits = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];

    text[0] = alphabet[bits >> 18];
    text[1] = alphabet[bits >> 12 & 63];
    text[2] = alphabet[bits >> 6 & 63];
    text[3] = alphabet[bits & 63];
}

static void write_last(FILE *out, const uint8_t *bytes, size_t size)
{
    uint8_t padded[3] = {0, 0, 0};
    char text[4];

    memcpy(padded, bytes, size);
    encode_three(padded, text);
    if (size < 2)
        text[2] = '=';
    text[3] = '=';
    fwrite(text, 1, sizeof text, out);
}

void base64_write(FILE *out, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    char text[4096];
    size_t used = 0;

    for (; size >= 3; size -= 3, at += 3) {
        if (used == sizeof text) {
            fwrite(text, 1, used, out);
            used = 0;
        }
        encode_three(at, text + used);
        used += 4;
    }
    fwrite(text, 1, used, out);
    if (size > 0)
        write_last(out, at, size);
}

/* 64 for what is not in the alphabet. */
static uint32_t value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : 64;
}

/* Four characters, of which the last `padding` are '=', to 3 - `padding` bytes. */
static bool decode_four(const char *text, size_t padding, uint8_t *bytes)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < 4; i++) {
        const uint32_t value = i < 4 - padding ? value_of(text[i]) : 0;

        if (value == 64)
            return false;
        bits = bits << 6 | value;
    }
    if ((bits & ((UINT32_C(1) << 8 * padding) - 1)) != 0)
        return false;
    for (size_t i = 0; i < 3 - padding; i++)
        bytes[i] = (uint8_t)(bits >> (16 - 8 * i));
    return true;
}

static size_t padding_of(const char *text, size_t size)
{
    if (size == 0 || text[size - 1] != '=')
        return 0;
    return text[size - 2] == '=' ? 2 : 1;
}

bool base64_decode(char *text, size_t size, size_t *ret_size)
{
    uint8_t *out = (uint8_t *)text;
    size_t padding;

    if (size % 4 != 0)
        return false;
    padding = padding_of(text, size);
    for (size_t at = 0; at < size; at += 4) {
        const size_t padded = at + 4 == size ? padding : 0;

        if (!decode_four(text + at, padded, out))
            return false;
        out += 3 - padded;
    }
    *ret_size = (size_t)(out - (uint8_t *)text);
    return true;
}
