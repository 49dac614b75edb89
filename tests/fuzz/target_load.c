/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a line of `tinykv load`: JSON, TSV, base64, UTF-8.
 *
 * A line is parsed in place, without memory, and never read beyond its end. A pair that was
 * accepted, written as JSON and as TSV, is read back as the same pair. UTF-8 is judged as a
 * second, plain decoder here judges it.
 */
#include "base64.h"
#include "fuzz.h"
#include "memory.h"
#include "pair.h"
#include "utf8.h"

/* ---- UTF-8, by the book ---------------------------------------------------------------- */

static size_t plain_sequence(const uint8_t *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t size = p[0] < 0x80             ? 1
                        : (p[0] & 0xe0) == 0xc0 ? 2
                        : (p[0] & 0xf0) == 0xe0 ? 3
                        : (p[0] & 0xf8) == 0xf0 ? 4
                                                : 0;
    uint32_t code_point;

    if (size == 0 || size > left)
        return 0;
    code_point = size == 1 ? p[0] : p[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code_point = code_point << 6 | (p[i] & 0x3f);
    }
    if (code_point < least[size] || code_point > 0x10ffff ||
        (code_point >= 0xd800 && code_point <= 0xdfff))
        return 0;
    return size;
}

static void check_utf8(const uint8_t *bytes, size_t size)
{
    bool valid = true;
    size_t at = 0;

    while (at < size && valid) {
        const size_t plain = plain_sequence(bytes + at, size - at);

        FUZZ_CHECK(utf8_sequence(bytes + at, size - at) == plain);
        valid = plain != 0;
        at += plain;
    }
    FUZZ_CHECK(utf8_valid(bytes, size) == valid);
}

/* ---- Writing and reading back ------------------------------------------------------------- */

static char written[1 << 20];

/* What `write` writes, as a text in memory; one stream for all inputs. */
static size_t write_line(void (*write)(FILE *, const struct pair *),
                         const struct pair *pair)
{
    static FILE *out;
    long size = 0;

    if (out == NULL) {
        out = fmemopen(written, sizeof written, "w");
        FUZZ_CHECK(out != NULL);
    }
    rewind(out);
    write(out, pair);
    FUZZ_CHECK(fflush(out) == 0 && (size = ftell(out)) > 0);
    return (size_t)size;
}

static void check_reads_back(const struct pair *pair, size_t size, bool with_ttl)
{
    char wrong[PAIR_WRONG_SIZE];
    char *line = malloc(size);
    struct pair again;

    FUZZ_CHECK(line != NULL && written[size - 1] == '\n');
    memcpy(line, written, size);
    FUZZ_CHECK(memchr(line, '\n', size) == line + size - 1 && "a pair is one line");
    FUZZ_CHECK_SAYING(pair_parse(line, size - 1, &again, wrong), wrong);
    FUZZ_CHECK(fuzz_same(again.key, pair->key) && fuzz_same(again.value, pair->value));
    FUZZ_CHECK(!with_ttl || again.ttl_ms == pair->ttl_ms);
    free(line);
}

static void check_base64(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    size_t decoded;

    FUZZ_CHECK(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    if (base64_decode(text, size, &decoded))
        FUZZ_CHECK(decoded <= size / 4 * 3);
    free(text);
}

static void check_line(const uint8_t *data, size_t size)
{
    char wrong[PAIR_WRONG_SIZE] = "";
    char *line = malloc(size == 0 ? 1 : size);
    struct pair pair;

    FUZZ_CHECK(line != NULL);
    if (size > 0)
        memcpy(line, data, size);
    if (pair_parse(line, size, &pair, wrong)) {
        FUZZ_CHECK(pair.key.size <= size && pair.value.size <= size);
        FUZZ_CHECK(pair.ttl_ms <= TTL_MS_MAX);
        check_reads_back(&pair, write_line(pair_write_json, &pair), true);
        check_reads_back(&pair, write_line(pair_write_tsv, &pair), false);
    } else {
        FUZZ_CHECK(wrong[0] != 0 && memchr(wrong, 0, sizeof wrong) != NULL);
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > sizeof written / 8)
        return 0;
    memory_begin();
    check_utf8(data, size);
    check_base64(data, size);
    check_line(data, size);
    memory_end(8 * size + 256);
    return 0;
}
