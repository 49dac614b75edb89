/* SPDX-License-Identifier: MIT */
#include "line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE ((size_t)256 * 1024)

void line_reader_init(struct line_reader *reader, int fd, size_t size_max)
{
    memset(reader, 0, sizeof *reader);
    reader->fd = fd;
    reader->size_max = size_max;
}

void line_reader_release(struct line_reader *reader)
{
    free(reader->bytes);
    reader->bytes = NULL;
}

/* Room for READ_SIZE bytes behind `end`; what has been handed out is given up. */
static bool make_room(struct line_reader *reader)
{
    const size_t kept = reader->end - reader->begin;
    size_t capacity = reader->capacity;
    char *bytes;

    if (capacity - reader->end >= READ_SIZE)
        return true;
    if (kept > 0)
        memmove(reader->bytes, reader->bytes + reader->begin, kept);
    reader->begin = 0;
    reader->end = kept;
    if (capacity - kept >= READ_SIZE)
        return true;
    capacity = capacity == 0 ? 4 * READ_SIZE : 2 * capacity;
    bytes = realloc(reader->bytes, capacity);
    if (bytes == NULL)
        return false;
    reader->bytes = bytes;
    reader->capacity = capacity;
    return true;
}

static enum line_result read_more(struct line_reader *reader)
{
    ssize_t got;

    if (reader->end - reader->begin > reader->size_max)
        return LINE_TOO_LONG;
    if (!make_room(reader))
        return LINE_NO_MEMORY;
    do
        got = read(reader->fd, reader->bytes + reader->end, READ_SIZE);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return LINE_FAILED;
    reader->end += (size_t)got;
    reader->at_end = got == 0;
    return LINE_READ;
}

enum line_result line_next(struct line_reader *reader, char **ret_line, size_t *ret_size)
{
    size_t searched = 0;

    for (;;) {
        const size_t size = reader->end - reader->begin;
        char *line = size == 0 ? NULL : reader->bytes + reader->begin;
        char *newline =
            size == searched ? NULL : memchr(line + searched, '\n', size - searched);
        enum line_result result;

        if (newline == NULL && !reader->at_end) {
            searched = size;
            result = read_more(reader);
            if (result == LINE_READ)
                continue;
            reader->number++; /* the line that it is about */
            return result;
        }
        if (newline == NULL && size == 0)
            return LINE_END;
        *ret_line = line;
        *ret_size = newline == NULL ? size : (size_t)(newline - line);
        reader->begin += *ret_size + (newline == NULL ? 0 : 1);
        reader->number++;
        return *ret_size > reader->size_max ? LINE_TOO_LONG : LINE_READ;
    }
}
