/* SPDX-License-Identifier: MIT */
/*
 * load.c - the verb that sets many keys from lines of text.
 *
 *   read a line -> parse it -> put it into the batch -> after `--batch` lines, commit
 *
 * A line counts as acknowledged when everything up to it is committed. Where a batch would
 * outgrow what the log takes at once, it is committed early, and a value that is too large
 * for any batch is put by itself; so a batch of ordinary size is atomic, a huge one is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "line.h"
#include "opening.h"
#include "pair.h"
#include "verbs.h"

/* A value of nothing but \u0000 is six times as long as its bytes. */
#define LINE_SIZE_MAX (6 * ((uint64_t)TKV_VALUE_SIZE_MAX + TKV_KEY_SIZE_MAX) + 4096)

/* What a record and its group need beside key and value; generous. */
#define RECORD_OVERHEAD ((size_t)256)

#define PROGRESS_AFTER_MS 1000
#define PROGRESS_EVERY_MS 200

struct load {
    const struct command *command;
    struct tkv_store *store;
    struct tkv_batch *batch;
    size_t batch_bytes_max;
    uint64_t lines_read, lines_in_batch, lines_acknowledged;
    uint64_t records;
    uint64_t started_ms, progress_ms; /* progress_ms: shown last, 0 for not yet */
    bool shows_progress;
};

/* ---- What is told ---------------------------------------------------------------- */

static void show_progress(struct load *load)
{
    const uint64_t now_ms = clock_steady_ms();

    if (!load->shows_progress || now_ms - load->started_ms < PROGRESS_AFTER_MS ||
        now_ms - load->progress_ms < PROGRESS_EVERY_MS)
        return;
    fprintf(stderr, "\r%" PRIu64 " lines", load->lines_acknowledged);
    load->progress_ms = now_ms;
}

static void end_progress(struct load *load)
{
    if (load->progress_ms != 0)
        fputs("\r\033[K", stderr);
    load->progress_ms = 0;
}

/* Flushed at once: whoever reads this may pull the plug next. */
static int acknowledge(struct load *load)
{
    load->lines_acknowledged = load->lines_read;
    if (!has(load->command, OPTION_ACK))
        return DONE;
    printf(has(load->command, OPTION_JSON) ? "{\"ack\":%" PRIu64 "}\n"
                                           : "ack %" PRIu64 "\n",
           load->lines_acknowledged);
    if (fflush(stdout) != 0)
        return complain_errno(errno, "write standard output");
    return DONE;
}

static void summarize(const struct load *load)
{
    if (has(load->command, OPTION_JSON))
        printf("{\"lines\":%" PRIu64 ",\"records\":%" PRIu64 "}\n",
               load->lines_acknowledged, load->records);
    else if (!has(load->command, OPTION_QUIET))
        complain("loaded %" PRIu64 " records from %" PRIu64 " lines", load->records,
                 load->lines_acknowledged);
}

/* ---- Writing --------------------------------------------------------------------- */

/* Write what the batch holds; acknowledges nothing. */
static int write_batch(struct load *load)
{
    struct tkv_error err;

    if (tkv_batch_count(load->batch) > 0 &&
        tkv_write(load->store, load->batch, &err) != TKV_OK)
        return complain_of(&err);
    load->records += tkv_batch_count(load->batch);
    tkv_batch_clear(load->batch);
    return DONE;
}

/* Commit all lines read so far. */
static int commit(struct load *load)
{
    const int code = write_batch(load);

    if (code != DONE)
        return code;
    load->lines_in_batch = 0;
    return acknowledge(load);
}

static int put_alone(struct load *load, const struct pair *pair)
{
    struct tkv_error err;
    enum tkv_status status;

    if (pair->ttl_ms != 0)
        status = tkv_put_expiring(load->store, pair->key, pair->value,
                                  clock_wall_ms() + pair->ttl_ms, &err);
    else
        status = tkv_put(load->store, pair->key, pair->value, &err);
    if (status != TKV_OK)
        return complain_of(&err);
    load->records++;
    return DONE;
}

static int add_to_batch(struct load *load, const struct pair *pair)
{
    struct tkv_error err;
    enum tkv_status status;

    if (pair->ttl_ms != 0)
        status = tkv_batch_put_expiring(load->batch, pair->key, pair->value,
                                        clock_wall_ms() + pair->ttl_ms, &err);
    else
        status = tkv_batch_put(load->batch, pair->key, pair->value, &err);
    return status == TKV_OK ? DONE : complain_of(&err);
}

static int take_pair(struct load *load, const struct pair *pair)
{
    const size_t size = pair->key.size + pair->value.size + RECORD_OVERHEAD;
    int code = DONE;

    if (tkv_batch_bytes(load->batch) + size > load->batch_bytes_max)
        code = write_batch(load);
    if (code != DONE)
        return code;
    if (size > load->batch_bytes_max)
        return put_alone(load, pair);
    return add_to_batch(load, pair);
}

/* ---- Reading --------------------------------------------------------------------- */

static int take_line(struct load *load, char *line, size_t size)
{
    char wrong[PAIR_WRONG_SIZE];
    struct pair pair;
    int code = DONE;

    if (size > 0 && !pair_parse(line, size, &pair, wrong)) {
        end_progress(load);
        return complain_usage("line %" PRIu64 ": %s", load->lines_read + 1, wrong);
    }
    if (size > 0)
        code = take_pair(load, &pair);
    if (code != DONE)
        return code;
    load->lines_read++;
    load->lines_in_batch++;
    show_progress(load);
    return load->lines_in_batch >= load->command->batch ? commit(load) : DONE;
}

static int describe_stop(const struct line_reader *reader, enum line_result result)
{
    switch (result) {
    case LINE_TOO_LONG:
        return complain_usage("line %" PRIu64 ": longer than any pair can be",
                              reader->number);
    case LINE_NO_MEMORY:
        return complain_errno(ENOMEM, "line %" PRIu64, reader->number);
    case LINE_FAILED:
        return complain_errno(errno, "read line %" PRIu64, reader->number);
    case LINE_READ:
    case LINE_END:
        break;
    }
    return DONE;
}

static int load_lines(struct load *load, int fd)
{
    struct line_reader reader;
    enum line_result result;
    int code = DONE;
    size_t size;
    char *line;

    line_reader_init(&reader, fd,
                     LINE_SIZE_MAX < SIZE_MAX / 4 ? (size_t)LINE_SIZE_MAX : SIZE_MAX / 4);
    while ((result = line_next(&reader, &line, &size)) == LINE_READ && code == DONE)
        code = take_line(load, line, size);
    if (code == DONE)
        code = describe_stop(&reader, result);
    if (code == DONE && load->lines_in_batch > 0)
        code = commit(load);
    line_reader_release(&reader);
    end_progress(load);
    return code;
}

static int load_into_store(struct load *load, int fd)
{
    const struct tkv_options options = TKV_OPTIONS_DEFAULT;
    struct tkv_error err;
    int code;

    if (tkv_batch_new(&load->batch, &err) != TKV_OK)
        return complain_of(&err);
    load->batch_bytes_max = (size_t)(options.wal_size_max / 4) - 65536;
    load->started_ms = clock_steady_ms();
    load->shows_progress = isatty(STDERR_FILENO) && !has(load->command, OPTION_QUIET);
    code = load_lines(load, fd);
    if (code == DONE)
        summarize(load);
    tkv_batch_free(load->batch);
    return code;
}

static int open_input(const struct command *command, int *ret_fd)
{
    const char *path = command->operand_count == 0 ? "-" : command->operands[0];

    *ret_fd = STDIN_FILENO;
    if (strcmp(path, "-") == 0)
        return DONE;
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd < 0 ? complain_errno(errno, "open %s", path) : DONE;
}

int run_load(const struct command *command)
{
    struct load load = {.command = command};
    int fd, code = open_input(command, &fd);

    if (code != DONE)
        return code;
    code = opening_open(command, OPENING_CREATE, &load.store);
    if (code == DONE)
        code = opening_close(load.store, load_into_store(&load, fd));
    if (fd != STDIN_FILENO)
        (void)close(fd);
    return code;
}
