/* SPDX-License-Identifier: MIT */
/*
 * checker.c - opens a store after a power cut and compares it with what the board says.
 *
 *     lab-checker STORE BOARD POSITIONS SEED LIFE MODE BASE FOUND
 *
 * POSITIONS is the board's first page as it was before the cut, BASE the state in which this
 * life began ("-": empty), FOUND gets the state that was found. Prints "lost N" and one
 * "violation: ..." for the first of them, and always ends with "checked".
 */
#include "model.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MORE_STEPS 20u
#define MORE_LIFE  0x10000u /* added to the life: the steps taken after the recovery */

struct check {
    const char *directory;
    uint64_t seed;
    uint32_t life;
    struct tkv_options options;
    struct lab_positions positions;
    const struct lab_board *board;
    struct lab_state base, found;
};

__attribute__((format(printf, 1, 2))) static void violation(const char *format, ...)
{
    va_list arguments;

    printf("violation: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\nchecked\n");
    exit(0);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- What the store holds ------------------------------------------------------------ */

static void note_entry(const struct check *check, const struct tkv_entry *entry,
                       struct lab_state *state)
{
    const int size = entry->key.size < 40 ? (int)entry->key.size : 40;
    unsigned thread, key;

    if (!lab_key_parse(entry->key, &thread, &key))
        violation("a key that nobody wrote: %.*s", size, (const char *)entry->key.data);
    if (state->keys[thread][key].life != 0)
        violation("key %.*s appears twice", size, (const char *)entry->key.data);
    if (!lab_value_parse(check->seed, thread, key, entry->value, &state->keys[thread][key]))
        violation("key %.*s holds %zu bytes that nobody wrote", size,
                  (const char *)entry->key.data, entry->value.size);
}

static void iterate(const struct check *check, struct tkv_store *store,
                    struct lab_state *ret_state)
{
    struct tkv_iterator *iterator;
    struct tkv_entry entry;
    struct tkv_error err;
    enum tkv_status status = tkv_iterator_new(store, false, &iterator, &err);

    memset(ret_state, 0, sizeof *ret_state);
    while (status == TKV_OK) {
        status = tkv_iterator_next(iterator, &entry, &err);
        if (status == TKV_OK)
            note_entry(check, &entry, ret_state);
    }
    if (status != TKV_NOT_FOUND)
        violation("iteration: %s", err.message);
    tkv_iterator_free(iterator);
}

static void get_each(const struct check *check, struct tkv_store *store,
                     const struct lab_state *state)
{
    struct lab_stamp stamp;
    struct lab_key name;
    struct tkv_error err;

    for (unsigned thread = 0; thread < LAB_THREADS; thread++)
        for (unsigned key = 0; key < LAB_KEYS; key++) {
            const bool is_there = state->keys[thread][key].life != 0;
            struct tkv_pin pin = {0};
            const enum tkv_status status =
                tkv_get_pinned(store, lab_key_of(thread, key, &name), &pin, &err);

            if (status != (is_there ? TKV_OK : TKV_NOT_FOUND))
                violation("get of %s: %s, iteration says %s", name.text,
                          tkv_status_text(status), is_there ? "there" : "absent");
            if (is_there &&
                (!lab_value_parse(check->seed, thread, key, pin.value, &stamp) ||
                 memcmp(&stamp, &state->keys[thread][key], sizeof stamp) != 0))
                violation("get of %s differs from the iteration", name.text);
            tkv_unpin(&pin);
        }
}

static void print_finding(void *context, const struct tkv_finding *finding)
{
    (void)context;
    fprintf(stderr, "finding: %s at %llu: %s\n", finding->file,
            (unsigned long long)finding->offset, finding->message);
}

static void read_all(const struct check *check, struct tkv_store *store,
                     struct lab_state *ret_state)
{
    struct tkv_verify_report report;
    struct tkv_error err;

    iterate(check, store, ret_state);
    get_each(check, store, ret_state);
    if (tkv_verify(store, print_finding, NULL, &report, &err) != TKV_OK)
        violation("verify: %s", err.message);
}

/* ---- Comparing ------------------------------------------------------------------------- */

static void compare(struct check *check)
{
    struct lab_range ranges[LAB_THREADS];
    uint64_t issued[LAB_THREADS], lost = 0;
    struct lab_report why;

    for (unsigned thread = 0; thread < LAB_THREADS; thread++) {
        issued[thread] = check->board->positions.threads[thread].issued;
        if (!lab_model_match(check->seed, check->life, thread, &check->base, &check->found,
                             issued[thread], &ranges[thread], &why))
            violation("%s", why.text);
        lost += lab_model_lost(&ranges[thread], check->positions.threads[thread].durable);
    }
    printf("lost %llu\n", (unsigned long long)lost);
    if (lab_model_has_hole(check->board->tickets, ranges, issued, &why))
        violation("%s", why.text);
}

/* The recovered store is a store like any other: it takes writes and keeps them. */
static void write_more(const struct check *check, struct tkv_store *store)
{
    static uint8_t bytes[LAB_SIZE_MAX];
    const uint32_t life = check->life + MORE_LIFE;
    struct lab_key name;
    struct tkv_error err;

    for (uint64_t step = 1; step <= MORE_STEPS; step++) {
        const struct lab_step s = lab_step_of(check->seed, life, 0, step);

        for (size_t i = 0; i < s.count; i++) {
            const struct lab_stamp stamp = {life, 0, (uint16_t)i, step};
            const struct tkv_slice key = lab_key_of(0, s.items[i].key, &name);
            const enum tkv_status status =
                s.items[i].is_delete
                    ? tkv_delete(store, key, NULL, &err)
                    : tkv_put(store, key, lab_value_of(stamp, s.items[i].size, bytes),
                              &err);

            if (status != TKV_OK)
                violation("write after the recovery: %s", err.message);
        }
    }
}

static struct tkv_store *open_store(const struct check *check, bool must_be_clean)
{
    struct tkv_open_report report;
    struct tkv_store *store;
    struct tkv_error err;

    if (tkv_open(check->directory, &check->options, &store, &report, &err) != TKV_OK)
        violation("open: %s", err.message);
    if (must_be_clean && (!report.clean || report.bytes_cut != 0))
        violation("a closed store was not clean: %llu bytes replayed, %llu cut",
                  (unsigned long long)report.bytes_replayed,
                  (unsigned long long)report.bytes_cut);
    return store;
}

static void go_on(struct check *check, struct tkv_store *store)
{
    static struct lab_state after, again;
    struct lab_range range;
    struct lab_report why;
    struct tkv_error err;

    write_more(check, store);
    read_all(check, store, &after);
    if (!lab_model_match(check->seed, check->life + MORE_LIFE, 0, &check->found, &after,
                         MORE_STEPS, &range, &why))
        violation("after more writes: %s", why.text);
    if (range.most != MORE_STEPS)
        violation("of %u more writes %llu are there", MORE_STEPS,
                  (unsigned long long)range.most);
    if (tkv_close(store, &err) != TKV_OK)
        violation("close: %s", err.message);
    store = open_store(check, true);
    read_all(check, store, &again);
    if (!lab_state_equal(&after, &again, &why))
        violation("after close and open: %s", why.text);
    if (tkv_close(store, &err) != TKV_OK)
        violation("second close: %s", err.message);
}

/* ---- Files ----------------------------------------------------------------------------- */

static void load(const char *path, void *bytes, size_t size)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL || fread(bytes, 1, size, file) != size)
        die(path);
    (void)fclose(file);
}

static void save(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        die(path);
}

static const struct lab_board *map_board(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *memory;

    if (fd < 0)
        die(path);
    memory = mmap(NULL, sizeof(struct lab_board), PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("mmap");
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
    static struct check check;
    struct tkv_store *store;

    if (argc != 9) {
        fprintf(stderr,
                "usage: lab-checker STORE BOARD POSITIONS SEED LIFE MODE BASE FOUND\n");
        return 2;
    }
    check.directory = argv[1];
    check.board = map_board(argv[2]);
    load(argv[3], &check.positions, sizeof check.positions);
    check.seed = strtoull(argv[4], NULL, 10);
    check.life = (uint32_t)strtoul(argv[5], NULL, 10);
    check.options = lab_options_of(check.seed, check.life, durability_of(argv[6]));
    if (strcmp(argv[7], "-") != 0)
        load(argv[7], &check.base, sizeof check.base);
    store = open_store(&check, false);
    read_all(&check, store, &check.found);
    save(argv[8], &check.found, sizeof check.found);
    compare(&check);
    go_on(&check, store);
    printf("checked\n");
    return 0;
}
