/* SPDX-License-Identifier: MIT */
/*
 * writer.c - the process whose disk loses its power.
 *
 *     lab-writer STORE BOARD SEED LIFE always|interval|none [claim]
 *
 * Opens the store and lets each thread take the steps of plan.h until it is killed, noting on
 * the board what was issued, acknowledged and made durable. `claim` calls every acknowledged
 * write durable, which the relaxed modes do not promise: the run that must be caught.
 */
#include "board.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static struct {
    struct tkv_store *store;
    struct lab_board *board;
    uint64_t seed;
    uint32_t life;
    bool acks_are_durable;
} lab;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "lab-writer: %s: %s\n", what, why);
    _exit(1);
}

/* ---- One step ------------------------------------------------------------------------ */

static enum tkv_status add_item(struct tkv_batch *batch, const struct lab_item *item,
                                struct lab_stamp stamp, uint8_t *bytes,
                                struct tkv_error *err)
{
    struct lab_key name;
    const struct tkv_slice key = lab_key_of(stamp.thread, item->key, &name);

    if (item->is_delete)
        return tkv_batch_delete(batch, key, err);
    return tkv_batch_put(batch, key, lab_value_of(stamp, item->size, bytes), err);
}

static enum tkv_status write_batch(const struct lab_step *s, struct lab_stamp stamp,
                                   uint8_t *bytes, struct tkv_error *err)
{
    struct tkv_batch *batch;
    enum tkv_status status = tkv_batch_new(&batch, err);

    if (status != TKV_OK)
        return status;
    for (size_t i = 0; i < s->count && status == TKV_OK; i++) {
        stamp.item = (uint16_t)i;
        status = add_item(batch, &s->items[i], stamp, bytes, err);
    }
    if (status == TKV_OK)
        status = tkv_write(lab.store, batch, err);
    tkv_batch_free(batch);
    return status;
}

static enum tkv_status take_step(const struct lab_step *s, struct lab_stamp stamp,
                                 uint8_t *bytes, struct tkv_error *err)
{
    struct lab_key name;
    const struct tkv_slice key = lab_key_of(stamp.thread, s->items[0].key, &name);

    switch (s->kind) {
    case LAB_PUT:
        return tkv_put(lab.store, key, lab_value_of(stamp, s->items[0].size, bytes), err);
    case LAB_DELETE:
        return tkv_delete(lab.store, key, NULL, err);
    case LAB_BATCH:
        return write_batch(s, stamp, bytes, err);
    case LAB_SYNC:
        return tkv_sync(lab.store, err);
    case LAB_CHECKPOINT:
        return tkv_checkpoint(lab.store, err);
    case LAB_COMPACT:
        return tkv_compact(lab.store, NULL, err);
    }
    return TKV_OK;
}

/* ---- The board ------------------------------------------------------------------------- */

static void raise_to(_Atomic uint64_t *position, uint64_t value)
{
    uint64_t old = atomic_load(position);

    while (old < value && !atomic_compare_exchange_weak(position, &old, value))
        ;
}

static void do_step(unsigned thread, uint64_t step, uint8_t *bytes)
{
    struct lab_positions *at = &lab.board->positions;
    struct lab_tickets *tickets = &lab.board->tickets[thread][step];
    const struct lab_step s = lab_step_of(lab.seed, lab.life, thread, step);
    const struct lab_stamp stamp = {lab.life, (uint16_t)thread, 0, step};
    uint64_t acked[LAB_THREADS];
    struct tkv_error err;

    for (unsigned i = 0; i < LAB_THREADS; i++)
        acked[i] = atomic_load(&at->threads[i].acked);
    atomic_store(&tickets->issue, atomic_fetch_add(&at->clock, 1) + 1);
    atomic_store(&at->threads[thread].issued, step);
    if (take_step(&s, stamp, bytes, &err) != TKV_OK)
        die("write", err.message);
    atomic_store(&tickets->ack, atomic_fetch_add(&at->clock, 1) + 1);
    atomic_store(&at->threads[thread].acked, step);
    if (lab.acks_are_durable)
        raise_to(&at->threads[thread].durable, step);
    if (s.kind == LAB_SYNC || s.kind == LAB_CHECKPOINT)
        for (unsigned i = 0; i < LAB_THREADS; i++)
            raise_to(&at->threads[i].durable, acked[i]);
}

static void *write_until_killed(void *argument)
{
    const unsigned thread = *(const unsigned *)argument;
    uint8_t *bytes = malloc(LAB_SIZE_MAX);

    if (bytes == NULL)
        die("memory", "none");
    for (uint64_t step = 1; step <= LAB_STEPS_MAX; step++)
        do_step(thread, step, bytes);
    free(bytes);
    return NULL;
}

static struct lab_board *map_board(const char *path)
{
    const int fd = open(path, O_RDWR | O_CLOEXEC, 0600);
    void *memory;

    if (fd < 0 || ftruncate(fd, sizeof(struct lab_board)) != 0)
        die("board", path);
    memory =
        mmap(NULL, sizeof(struct lab_board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("board", "mmap");
    (void)close(fd);
    return memory;
}

static enum tkv_durability durability_of(const char *text)
{
    if (strcmp(text, "always") == 0)
        return TKV_DURABILITY_ALWAYS;
    return strcmp(text, "interval") == 0 ? TKV_DURABILITY_INTERVAL : TKV_DURABILITY_NONE;
}

int main(int argc, char **argv)
{
    static unsigned numbers[LAB_THREADS];
    struct tkv_options options;
    struct tkv_error err;
    pthread_t thread;

    if (argc < 6)
        die("usage", "lab-writer STORE BOARD SEED LIFE MODE [claim]");
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    lab.board = map_board(argv[2]);
    lab.seed = strtoull(argv[3], NULL, 10);
    lab.life = (uint32_t)strtoul(argv[4], NULL, 10);
    options = lab_options_of(lab.seed, lab.life, durability_of(argv[5]));
    lab.acks_are_durable = options.durability == TKV_DURABILITY_ALWAYS || argc > 6;
    if (tkv_open(argv[1], &options, &lab.store, NULL, &err) != TKV_OK)
        die("open", err.message);
    atomic_store(&lab.board->positions.opened, 1);
    for (unsigned i = 0; i < LAB_THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&thread, NULL, write_until_killed, &numbers[i]) != 0)
            die("thread", "create");
    }
    for (;;)
        (void)pause();
}
