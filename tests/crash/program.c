/* SPDX-License-Identifier: MIT */
#include "program.h"

#include "chance.h"
#include "test.h"

static const char *const names[OPERATION_KINDS] = {
    "put",        "delete",  "batch",  "sync",  "rotate",
    "checkpoint", "compact", "reopen", "crash", "tick"};

const char *operation_name(enum operation_kind kind)
{
    return names[kind];
}

/* ---- Drawing ----------------------------------------------------------------------------- */

static uint32_t draw_size(const struct workload *w, uint64_t *random)
{
    const uint64_t kind = below(random, 16);

    if (kind == 0)
        return 0;
    if (kind < 4)
        return (uint32_t)below(random, 24);
    if (kind < 12)
        return (uint32_t)below(random, w->value_size_max / 8 + 1);
    return (uint32_t)below(random, w->value_size_max + 1);
}

static struct oracle_item draw_item(const struct workload *w, uint64_t *random)
{
    struct oracle_item item = {.key = (unsigned)below(random, ORACLE_KEYS)};

    item.size = draw_size(w, random);
    if (below(random, 100) < w->large)
        item.size = 17000 + (uint32_t)below(random, 9000);
    if (w->compress_level > 0 && below(random, 2) == 0)
        item.flags = ORACLE_SQUEEZABLE;
    if (below(random, 100) < w->expiring)
        item.expires_at_ms = 1 + below(random, 400);
    return item;
}

/* Together below a quarter of the smallest log, which is the most that a batch may have. */
static void draw_batch(struct operation *o, const struct workload *w, uint64_t *random)
{
    o->item_count = (unsigned)(2 + below(random, ORACLE_BATCH_MAX - 1));
    for (unsigned i = 0; i < o->item_count; i++) {
        o->items[i] = draw_item(w, random);
        o->items[i].is_delete = below(random, 100) < w->deletes;
        if (o->items[i].size > 1500)
            o->items[i].size = 1500;
    }
}

static struct operation draw_operation(const struct workload *w, uint64_t *random)
{
    const unsigned shares[OPERATION_KINDS] = {
        [DELETE] = w->deletes,   [BATCH] = w->batches,          [SYNC] = w->syncs,
        [ROTATE] = w->rotations, [CHECKPOINT] = w->checkpoints, [COMPACT] = w->compactions,
        [REOPEN] = w->reopens,   [CRASH] = w->crashes,          [TICK] = w->ticks,
    };
    struct operation o = {.kind = PUT};
    uint64_t roll = below(random, 100);
    unsigned kind = DELETE;

    while (kind < OPERATION_KINDS && roll >= shares[kind])
        roll -= shares[kind++];
    if (kind < OPERATION_KINDS)
        o.kind = (enum operation_kind)kind;
    if (o.kind == PUT || o.kind == DELETE) {
        o.item_count = 1;
        o.items[0] = draw_item(w, random);
        o.items[0].is_delete = o.kind == DELETE;
    } else if (o.kind == BATCH) {
        draw_batch(&o, w, random);
    } else if (o.kind == TICK) {
        o.number = 100 + below(random, 900);
    } else if (o.kind == CRASH) {
        o.number = below(random, 1000000);
    }
    return o;
}

struct program program_draw(const struct workload *workload, uint64_t seed)
{
    struct program p = {.workload = workload, .seed = seed, .count = workload->operations};
    uint64_t random = mix(seed);

    p.operations = calloc(p.count + 1, sizeof *p.operations);
    CHECK(p.operations != NULL);
    for (size_t i = 0; i < p.count; i++)
        p.operations[i] = draw_operation(workload, &random);
    return p;
}

struct program program_copy(const struct program *program)
{
    struct program p = *program;

    p.operations = malloc((p.count + 1) * sizeof *p.operations);
    CHECK(p.operations != NULL);
    memcpy(p.operations, program->operations, p.count * sizeof *p.operations);
    return p;
}

void program_free(struct program *program)
{
    free(program->operations);
    program->operations = NULL;
    program->count = 0;
}

/* ---- As text ------------------------------------------------------------------------------- */

static void print_item(const struct oracle_item *item, bool is_delete)
{
    printf(" %u", item->key);
    if (is_delete)
        return;
    if (item->is_delete)
        printf(" -");
    else
        printf(" %u%s", item->size, item->flags & ORACLE_SQUEEZABLE ? " z" : "");
    if (!item->is_delete && item->expires_at_ms != 0)
        printf(" +%" PRIu64, item->expires_at_ms);
}

void program_print(const struct program *program)
{
    for (size_t i = 0; i < program->count; i++) {
        const struct operation *o = &program->operations[i];

        printf("%s%s", i == 0 ? "" : "; ", operation_name(o->kind));
        for (unsigned k = 0; k < o->item_count; k++) {
            printf("%s", k == 0 ? "" : ",");
            print_item(&o->items[k], o->kind == DELETE);
        }
        if (o->kind == CRASH || o->kind == TICK)
            printf(" %" PRIu64, o->number);
    }
}

static void skip_spaces(const char **at)
{
    while (**at == ' ')
        (*at)++;
}

static bool parse_number(const char **at, uint64_t *ret_number)
{
    char *end;

    skip_spaces(at);
    if (**at < '0' || **at > '9')
        return false;
    *ret_number = strtoull(*at, &end, 10);
    *at = end;
    return true;
}

static bool parse_item(const char **at, bool is_delete, struct oracle_item *item)
{
    uint64_t key, size;

    *item = (struct oracle_item){.is_delete = is_delete};
    if (!parse_number(at, &key) || key >= ORACLE_KEYS)
        return false;
    item->key = (unsigned)key;
    if (is_delete)
        return true;
    skip_spaces(at);
    if (**at == '-') {
        item->is_delete = true;
        (*at)++;
        return true;
    }
    if (!parse_number(at, &size))
        return false;
    item->size = (uint32_t)size;
    skip_spaces(at);
    if (**at == 'z') {
        item->flags = ORACLE_SQUEEZABLE;
        (*at)++;
        skip_spaces(at);
    }
    if (**at != '+')
        return true;
    (*at)++;
    return parse_number(at, &item->expires_at_ms);
}

static bool parse_items(const char **at, struct operation *o)
{
    const unsigned most = o->kind == BATCH ? ORACLE_BATCH_MAX : 1;

    do {
        *at += **at == ',';
        if (o->item_count == most ||
            !parse_item(at, o->kind == DELETE, &o->items[o->item_count++]))
            return false;
        skip_spaces(at);
    } while (**at == ',');
    return true;
}

static bool parse_operation(const char **at, struct operation *o)
{
    unsigned kind = 0;

    skip_spaces(at);
    while (kind < OPERATION_KINDS && strncmp(*at, names[kind], strlen(names[kind])) != 0)
        kind++;
    if (kind == OPERATION_KINDS)
        return false;
    *at += strlen(names[kind]);
    *o = (struct operation){.kind = (enum operation_kind)kind};
    if (kind == PUT || kind == DELETE || kind == BATCH)
        return parse_items(at, o);
    if (kind == CRASH || kind == TICK)
        return parse_number(at, &o->number);
    return true;
}

bool program_parse(struct program *program, const char *text)
{
    size_t capacity = 1;

    for (const char *at = text; *at != 0; at++)
        capacity += *at == ';';
    program->operations = calloc(capacity, sizeof *program->operations);
    CHECK(program->operations != NULL);
    program->count = 0;
    while (*text != 0) {
        if (!parse_operation(&text, &program->operations[program->count]))
            return false;
        program->count++;
        skip_spaces(&text);
        if (*text != 0 && *text++ != ';')
            return false;
    }
    return true;
}
