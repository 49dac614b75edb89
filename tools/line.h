/* SPDX-License-Identifier: MIT */
/*
 * line.h - the lines of a file or a pipe, of any length up to a limit. A line is handed out
 * as soon as its newline has arrived, so that a program at the other end of a pipe can wait
 * for the answer to each.
 */
#ifndef TINYKV_LINE_H
#define TINYKV_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line_reader {
    int fd; /* borrowed */
    size_t size_max;
    char *bytes;
    size_t capacity;
    size_t begin, end; /* what has been read and not handed out yet */
    bool at_end;
    uint64_t number; /* of the line handed out last, from 1 */
};

enum line_result {
    LINE_READ,
    LINE_END,
    LINE_TOO_LONG,
    LINE_NO_MEMORY,
    LINE_FAILED /* errno says why */
};

void line_reader_init(struct line_reader *reader, int fd, size_t size_max);
void line_reader_release(struct line_reader *reader);

/* The next line without its newline; the last one may lack it. It may be changed in place,
 * and is valid until the next call. */
enum line_result line_next(struct line_reader *reader, char **ret_line, size_t *ret_size);

#endif
