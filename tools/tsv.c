/* SPDX-License-Identifier: MIT */
#include "tsv.h"

#include <stdint.h>

#include "utf8.h"

static void write_escape(FILE *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";

    switch (c) {
    case '\t':
        fputs("\\t", out);
        break;
    case '\n':
        fputs("\\n", out);
        break;
    case '\\':
        fputs("\\\\", out);
        break;
    default:
        fwrite((const char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 1, 4, out);
        break;
    }
}

void tsv_write(FILE *out, struct tkv_slice bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;

    while (left > 0) {
        size_t size = utf8_sequence(at, left);

        if (size == 0 || *at < 0x20 || *at == 0x7f || *at == '\\') {
            write_escape(out, *at);
            size = 1;
        } else {
            fwrite(at, 1, size, out);
        }
        at += size;
        left -= size;
    }
}

void tsv_write_first(FILE *out, struct tkv_slice bytes)
{
    const char *const text = bytes.data;

    if (bytes.size > 0 && text[0] == '{') {
        fputs("\\x7b", out);
        bytes = tkv_bytes(text + 1, bytes.size - 1);
    }
    tsv_write(out, bytes);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* `text` stands behind a backslash; returns how many characters belong to the escape. */
static size_t decode_escape(const char *text, size_t left, char *ret_byte)
{
    int high, low;

    if (left >= 1 && (text[0] == 't' || text[0] == 'n' || text[0] == '\\')) {
        *ret_byte = text[0];
        if (text[0] == 't')
            *ret_byte = '\t';
        if (text[0] == 'n')
            *ret_byte = '\n';
        return 1;
    }
    if (left < 3 || text[0] != 'x')
        return 0;
    high = hex_digit(text[1]);
    low = hex_digit(text[2]);
    if (high < 0 || low < 0)
        return 0;
    *ret_byte = (char)(high << 4 | low);
    return 3;
}

bool tsv_decode(char *text, size_t size, size_t *ret_size)
{
    size_t out = 0;

    for (size_t i = 0; i < size; i++) {
        char byte = text[i];

        if (byte == '\\') {
            const size_t used = decode_escape(text + i + 1, size - i - 1, &byte);

            if (used == 0)
                return false;
            i += used;
        }
        text[out++] = byte;
    }
    *ret_size = out;
    return true;
}
