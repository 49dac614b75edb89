/* SPDX-License-Identifier: MIT */
#include "json_write.h"

#include <stdint.h>

#include "base64.h"
#include "utf8.h"

static void write_escape(FILE *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";

    switch (c) {
    case '"':
    case '\\':
        fputc('\\', out);
        fputc(c, out);
        break;
    case '\n':
        fputs("\\n", out);
        break;
    case '\t':
        fputs("\\t", out);
        break;
    case '\r':
        fputs("\\r", out);
        break;
    default:
        fwrite((const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 1, 6, out);
        break;
    }
}

/* Escaped although it need not be: DEL, which some terminals act on. */
static bool needs_escape(uint8_t c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

static void write_text(FILE *out, struct tkv_slice text)
{
    const uint8_t *const bytes = text.data;
    size_t begin = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (!needs_escape(bytes[i]))
            continue;
        if (i > begin)
            fwrite(bytes + begin, 1, i - begin, out);
        write_escape(out, bytes[i]);
        begin = i + 1;
    }
    if (text.size > begin)
        fwrite(bytes + begin, 1, text.size - begin, out);
}

void json_write_string(FILE *out, struct tkv_slice text)
{
    fputc('"', out);
    write_text(out, text);
    fputc('"', out);
}

void json_write_bytes(FILE *out, const char *name, struct tkv_slice bytes)
{
    if (utf8_valid(bytes.data, bytes.size)) {
        fprintf(out, "\"%s\":", name);
        json_write_string(out, bytes);
        return;
    }
    fprintf(out, "\"%s64\":\"", name);
    base64_write(out, bytes.data, bytes.size);
    fputc('"', out);
}

void json_write_message(FILE *out, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t left = strlen(text);

    fputc('"', out);
    while (left > 0) {
        const size_t size = utf8_sequence(at, left);

        if (size == 0)
            fputs("\xef\xbf\xbd", out);
        else
            write_text(out, tkv_bytes(at, size));
        at += size == 0 ? 1 : size;
        left -= size == 0 ? 1 : size;
    }
    fputc('"', out);
}
