/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as the input of `tinykv load`, through a descriptor: cut into lines as a plain
 * search for newlines cuts them, and refused when one is too long.
 *
 *     limit u8 (times 16) | bytes
 */
#include "fuzz.h"
#include "line.h"
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#define READER_SIZE ((size_t)1024 * 1024)

/* The next line of `in`, which is not at its end. */
static struct tkv_slice plain_line(struct fuzz_input *in)
{
    const uint8_t *newline = memchr(in->at, '\n', in->left);
    const struct tkv_slice line =
        fuzz_take(in, newline == NULL ? in->left : (size_t)(newline - in->at));

    if (newline != NULL)
        (void)fuzz_take(in, 1);
    return line;
}

static void check_lines(struct fuzz_input in, int fd, size_t limit)
{
    struct line_reader reader;
    enum line_result result;
    uint64_t number = 0;
    size_t size;
    char *line;

    line_reader_init(&reader, fd, limit);
    while ((result = line_next(&reader, &line, &size)) == LINE_READ) {
        struct tkv_slice plain;

        FUZZ_CHECK(in.left > 0);
        plain = plain_line(&in);
        FUZZ_CHECK(fuzz_same(tkv_bytes(line, size), plain) && size <= limit);
        FUZZ_CHECK(reader.number == ++number);
    }
    FUZZ_CHECK(result == LINE_END || result == LINE_TOO_LONG);
    if (result == LINE_END)
        FUZZ_CHECK(in.left == 0);
    else
        FUZZ_CHECK(plain_line(&in).size > limit && reader.number == number + 1);
    line_reader_release(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct fuzz_input in = {data, size};
    const size_t limit = (size_t)fuzz_u8(&in) * 16;

    if (size == 0)
        return 0;
    if (fd < 0)
        fd = memfd_create("lines", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, in.at, in.left, 0) == (ssize_t)in.left);
    FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0);
    memory_begin();
    check_lines(in, fd, limit);
    memory_end(2 * READER_SIZE + 4 * size);
    return 0;
}
