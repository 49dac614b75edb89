/* SPDX-License-Identifier: MIT */
/*
 * seeds.c - write the first inputs of the fuzz targets, cut out of real stores.
 *
 *     fuzz_seeds DIRECTORY       writes DIRECTORY/TARGET/NAME
 *
 * What is in corpus/ is what remained of these, and of what the fuzzers found from them, when
 * inputs that reach nothing new had been left out (./run fuzz --merge).
 */
#include "codec.h"
#include "fuzz.h"
#include "small_store.h"

#include <sys/stat.h>

static const char *directory;

struct seed {
    uint8_t bytes[70000];
    size_t size;
};

static struct seed seed;

static void begin(void)
{
    seed.size = 0;
}

static void add(const void *bytes, size_t size)
{
    FUZZ_CHECK(size <= sizeof seed.bytes - seed.size);
    if (size > 0)
        memcpy(seed.bytes + seed.size, bytes, size);
    seed.size += size;
}

static void add_byte(unsigned byte)
{
    add(&(uint8_t){(uint8_t)byte}, 1);
}

static void write_seed(const char *target, const char *format, unsigned number)
{
    char path[512], name[64];
    FILE *file;

    (void)snprintf(name, sizeof name, format, number);
    (void)snprintf(path, sizeof path, "%s/%s", directory, target);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/%s/%s", directory, target, name);
    file = fopen(path, "wb");
    FUZZ_CHECK(file != NULL);
    FUZZ_CHECK(fwrite(seed.bytes, 1, seed.size, file) == seed.size && fclose(file) == 0);
}

/* ---- One file of a store ------------------------------------------------------------------- */

static void cut_log(const struct small_file *file, unsigned kind)
{
    static const uint8_t controls[] = {0x3f, 0xff, 0x15};
    const bool is_second_newer =
        tkv_get_le64(file->bytes + 32) < tkv_get_le64(file->bytes + 4096 + 32);

    for (unsigned i = 0; i < sizeof controls; i++) {
        const size_t ring = file->size - 8192;

        begin();
        add_byte(controls[i]);
        add_byte(160);
        add(file->bytes + (is_second_newer ? 4096 : 0), 160);
        add(file->bytes + 8192, ring < 6000 ? ring : 6000);
        write_seed("wal", i == 0 ? "log%u" : i == 1 ? "log%u-all" : "log%u-chain", kind);
    }
    begin();
    add_byte(1);
    add(file->bytes + 8192 + 56, 1000);
    write_seed("record", "payload%u", kind);
}

static void cut_data_file(const struct small_file *file, unsigned number)
{
    static const uint8_t reference[32];
    const bool is_large = file->bytes[48] == 3;

    begin();
    add_byte(is_large ? 1 | 2 | 8 : 1 | 2);
    add(reference, 32);
    if (is_large) { /* its size is the only thing that the target does not repair */
        tkv_put_le32(seed.bytes + 1 + 16, 20000);
        tkv_put_le64(seed.bytes + 1, 7);
    }
    add(file->bytes, file->size < 6000 ? file->size : 3000);
    write_seed("data_file", "data%u", number);
    begin();
    add_byte(1);
    add(file->bytes + 64, file->size < 2000 ? file->size - 64 : 1936);
    write_seed("record", "records%u", number);
}

static void cut_manifest(const struct small_file *file, unsigned number)
{
    static const uint8_t controls[] = {0, 3, 7};

    for (unsigned i = 0; i < sizeof controls; i++) {
        begin();
        add_byte(controls[i]);
        add(file->bytes, file->size);
        write_seed("manifest", "manifest%u", number * 3 + i);
    }
}

static void cut_hint(const struct small_file *file, unsigned number)
{
    begin();
    add_byte(3);
    add(file->bytes + 40, 3);
    add(file->bytes, file->size);
    write_seed("hint", "hint%u", number);
}

static void cut_store(const struct small_store *store, unsigned kind)
{
    for (unsigned i = 0; i < store->file_count; i++) {
        const struct small_file *file = &store->files[i];
        const unsigned number = kind * 16 + i;

        if (strcmp(file->name, "wal.log") == 0)
            cut_log(file, kind);
        else if (strcmp(file->name, "MANIFEST") == 0)
            cut_manifest(file, kind);
        else if (strstr(file->name, ".data") != NULL)
            cut_data_file(file, number);
        else if (strstr(file->name, ".hint") != NULL)
            cut_hint(file, number);
    }
}

/* ---- Programs and mutations ------------------------------------------------------------------ */

/* One field of one place of each file at a time, in each kind of store. */
static void make_directory_seeds(unsigned kind)
{
    for (unsigned i = 0; i < 24; i++) {
        begin();
        add_byte(kind);
        add_byte(i % 4 == 3 ? 1 : (i % 3) << 2 | (i % 5 == 4 ? 2u : 0u));
        add("\0\0", 2);
        add_byte(i % 8);
        add_byte(7);
        add("\0\0", 2);
        add_byte(i / 8);
        add_byte(i);
        add("\x01\0\0\0\0\0\0\0", 8);
        write_seed("directory", i < 10 ? "field%u" : "field-%u", kind * 100 + i);
    }
    for (unsigned i = 0; i < 10; i++) {
        begin();
        add_byte(kind);
        add_byte(i % 2);
        add("\0\0", 2);
        add_byte(i);
        add_byte(i);
        add("\x20\x03\x10\x20\x30\x40\x50\x60", 8);
        write_seed("directory", "change%u", kind * 100 + i);
    }
}

static void make_operation_seeds(void)
{
    uint64_t state = 7;

    for (unsigned i = 0; i < 60; i++) {
        begin();
        add_byte(i);
        for (unsigned j = 0; j < 40 + i * 2; j++) {
            state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            add_byte((unsigned)(state >> 58));
            add_byte((unsigned)(state >> 40) & (j % 3 == 0 ? 15u : 255u));
        }
        write_seed("operations", "program%u", i);
    }
}

/* ---- Texts and streams ----------------------------------------------------------------------- */

static void make_text_seeds(const char *target, const char *const *texts)
{
    for (unsigned i = 0; texts[i] != NULL; i++) {
        begin();
        add(texts[i], strlen(texts[i]));
        write_seed(target, "text%u", i);
    }
}

static void make_stream_seeds(void)
{
    static const size_t sizes[] = {1, 30, 300, 511, 512, 2000, 5000, 30000};

    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        static uint8_t raw[30000], stream[40000];
        uint8_t size[2];
        size_t stream_size;

        for (size_t at = 0; at < sizes[i]; at++)
            raw[at] = (uint8_t)(i % 2 == 0 ? at / 50 : at * at >> 3);
        stream_size =
            tkv_codec_deflate(tkv_bytes(raw, sizes[i]), 1 + i, stream, sizeof stream);
        begin();
        add_byte(0);
        tkv_put_le16(size, (uint16_t)sizes[i]);
        add(size, 2);
        add(stream, stream_size);
        write_seed("inflate", "stream%u", i);
        begin();
        add_byte(2u | i << 2);
        add(size, 2);
        add(raw, sizes[i] < 2000 ? sizes[i] : 2000);
        write_seed("inflate", "raw%u", i);
    }
}

static void make_command_seeds(void)
{
    static const char words[][40] = {"set\0name\0value",
                                     "get\0-d\0DIR\0name",
                                     "load\0--batch=10\0--ack\0file",
                                     "--ttl-ms=5000\0set\0a\0b",
                                     "list\0--json\0--\0-d",
                                     "-dDIR\0stats\0--files",
                                     "--durability=none\0set\0k\0-",
                                     "dump\0--k64\0--values\0-q",
                                     "--help",
                                     "--version"};

    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        begin();
        add(words[i], sizeof words[i]);
        while (seed.size > 0 && seed.bytes[seed.size - 1] == 0)
            seed.size--;
        write_seed("command", "words%u", i);
    }
}

static void make_batch_seeds(void)
{
    for (unsigned i = 0; i < 10; i++) {
        begin();
        for (unsigned j = 0; j <= i; j++) {
            add_byte(j % 3 == 2 ? 2 : (j + i) % 16);
            add_byte(j);
            add("0123456789abcdef", j);
            add_byte(3 * (j % 5));
            add("a value of some size", 3 * (j % 5));
            if (j % 3 == 2)
                add("\x40\x42\x0f\0\0\0\0\0", 8);
        }
        write_seed("batch", "items%u", i);
    }
}

static const char *const lines[] = {
    "{\"k\":\"key\",\"v\":\"value\"}",
    "{\"k64\":\"AAEC/w==\",\"v64\":\"\",\"ttl_ms\":5000}",
    "{ \"v\" : \"\\u00e4\\ud83d\\ude00\\n\\\"\" , \"k\" : \"\" }",
    "{\"k\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\",\"v\":\"\\/\\b\\f\\r\\t\"}",
    "key\tvalue",
    "a\\tb\\\\\\x00\\xff\t\\n",
    "\\x7b\t",
    "{\"k\":\"a\",\"v\":1.5e-3}",
    NULL};
static const char *const inputs[] = {"\x01"
                                     "one\ntwo\n\nthree",
                                     "\x02"
                                     "\n\n",
                                     "\x01"
                                     "longer than sixteen bytes\nx",
                                     "\xff", NULL};
static const char *const names[] = {"0000000001.data",
                                    "0000000042.hint",
                                    "9223372036854775807.data",
                                    "MANIFEST",
                                    "MANIFEST.tmp",
                                    "wal.log",
                                    "wal.log.tmp",
                                    "LOCK",
                                    "quarantine",
                                    "0000000007.hint.tmp",
                                    "00000000001.data",
                                    "data",
                                    NULL};

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    for (unsigned kind = 0; kind < SMALL_STORE_KINDS; kind++) {
        cut_store(small_store(memory_disk(), (enum small_store_kind)kind), kind);
        make_directory_seeds(kind);
    }
    make_operation_seeds();
    make_stream_seeds();
    make_command_seeds();
    make_batch_seeds();
    make_text_seeds("load", lines);
    make_text_seeds("lines", inputs);
    make_text_seeds("file_name", names);
    begin();
    add("\xff\x0f", 2);
    for (unsigned i = 0; i < 96; i++)
        add_byte(i % 8 == 0 ? i : 0);
    write_seed("options", "all%u", 0);
    return 0;
}
