/* SPDX-License-Identifier: MIT */
/*
 * silent.c - P9: what is durable is damaged and nobody says so. Between two operations:
 *
 *   lost write         a sector has what it had some operations ago
 *   misdirected write  it has, and its new bytes lie in another place
 *   bit flip           at rest
 *   stale read         the disk returns an old sector to reads, until the store is closed
 *
 * Every key must then be right, or an error. Of the log the store can know what a later group,
 * a checkpoint or a close has said was durable: as long as that is readable, nothing before it
 * may be missing. The writes after it are the window in which damage and a torn tail look the
 * same; docs/testing.md has it among the residual risks.
 */
#include "explorer.h"

#include "chance.h"
#include "test.h"

#define FILES_MAX      24u
#define SECTORS_MAX    64u
#define BIT_FLIPS      4u
#define OPERATIONS_OLD 3u /* the old bytes are at least so old */
#define LOG_NAME       "wal.log"
#define LOG_RING_START 8192u

/* ---- What the log knows ------------------------------------------------------------------ */

void silent_logged(struct explorer *e, const struct half_write *w)
{
    const struct logged now = {.operation = e->oracle->issued,
                               .durable_before = e->oracle->durable,
                               .from = w->offset,
                               .to = w->offset + w->size};
    size_t kept = 0;

    if (e->depth > 0 || strcmp(e->names[w->fd], LOG_NAME) != 0 ||
        w->offset < LOG_RING_START || e->oracle->issued == 0)
        return;
    for (size_t i = 0; i < e->logged_count; i++) {
        if (e->logged[i].to <= now.from || now.to <= e->logged[i].from)
            e->logged[kept++] = e->logged[i];
    }
    if (kept == GROUPS_MAX)
        memmove(e->logged, e->logged + 1, --kept * sizeof e->logged[0]);
    e->logged[kept++] = now;
    e->logged_count = kept;
}

void silent_settled(struct explorer *e, size_t writes, bool is_new_life)
{
    e->settled_before = is_new_life ? writes : e->settled;
    e->settled = writes;
    if (is_new_life)
        e->logged_count = 0;
}

/* Bytes of a file that are not what was written. */
struct hole {
    const char *file;
    uint64_t from, to;
};

static bool is_hit(const struct logged *group, const struct hole *holes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(holes[i].file, LOG_NAME) == 0 && group->from < holes[i].to &&
            holes[i].from < group->to)
            return true;
    }
    return false;
}

/* How many writes must be there, or an error: of the log, what can still be known from it; of
 * the other files, all that is durable. */
static size_t known_without(const struct explorer *e, const struct hole *holes,
                            size_t count)
{
    bool log = false, header = false;
    size_t known;

    for (size_t i = 0; i < count; i++) {
        const bool in_log = strcmp(holes[i].file, LOG_NAME) == 0;

        log |= in_log;
        header |= in_log && holes[i].from < LOG_RING_START;
    }
    if (!log)
        return e->oracle->durable;
    known = header ? e->settled_before : e->settled;
    for (size_t i = 0; i < e->logged_count; i++) {
        const struct logged *group = &e->logged[i];

        if (group->operation <= e->oracle->durable && group->durable_before > known &&
            !is_hit(group, holes, count))
            known = group->durable_before;
    }
    return known;
}

/* ---- Sectors that have changed ------------------------------------------------------------ */

struct sector {
    char file[2 * (SIMDISK_NAME_SIZE_MAX + 1)];
    uint64_t offset;
    size_t size;
    uint8_t old[SIMDISK_SECTOR], now[SIMDISK_SECTOR];
};

struct changes {
    struct explorer *e;
    struct simdisk *durable; /* the image to be damaged */
    struct sector sectors[SECTORS_MAX];
    size_t count, seen;
};

static void add_sector(struct changes *c, const char *file, uint64_t offset, size_t size,
                       const uint8_t *old, const uint8_t *now)
{
    /* A reservoir: each of all that there are is as likely to be in it. */
    const size_t at = c->seen < SECTORS_MAX ? c->seen : below(&c->e->random, c->seen + 1);
    struct sector *s = &c->sectors[at < SECTORS_MAX ? at : 0];

    c->seen++;
    if (at >= SECTORS_MAX)
        return;
    if (c->count < SECTORS_MAX)
        c->count++;
    snprintf(s->file, sizeof s->file, "%s", file);
    s->offset = offset;
    s->size = size;
    memcpy(s->old, old, size);
    memcpy(s->now, now, size);
}

static void compare_file(void *context, const char *file)
{
    struct changes *c = context;
    const int64_t size = simdisk_file_size(c->durable, file);
    const int64_t old_size = simdisk_file_size(c->e->before, file);
    uint8_t old[SIMDISK_SECTOR], now[SIMDISK_SECTOR];

    if (strcmp(file, "LOCK") == 0)
        return;
    for (uint64_t at = 0; old_size >= 0 && at < (uint64_t)size; at += sizeof now) {
        const int64_t n = simdisk_file_read(c->durable, file, now, sizeof now, at);

        memset(old, 0, sizeof old); /* of a file that has grown: zeros */
        (void)simdisk_file_read(c->e->before, file, old, sizeof old, at);
        if (n > 0 && memcmp(old, now, (size_t)n) != 0)
            add_sector(c, file, at, (size_t)n, old, now);
    }
}

/* ---- Damage ------------------------------------------------------------------------------- */

static void examine_damage(struct explorer *e, struct simdisk *disk, size_t least,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

static void examine_damage(struct explorer *e, struct simdisk *disk, size_t least,
                           const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    examine(e, disk,
            (struct derived){.model = P9, .name = "P9", .damage = text, .least = least});
}

static struct hole hole_of(const struct sector *s)
{
    return (struct hole){s->file, s->offset, s->offset + s->size};
}

static void lose(struct changes *c, const struct sector *s)
{
    const struct hole hole = hole_of(s);
    struct simdisk *disk = simdisk_clone(c->durable);

    (void)simdisk_file_write(disk, s->file, s->old, s->size, s->offset);
    examine_damage(c->e, disk, known_without(c->e, &hole, 1),
                   "lost write of %zu bytes at %" PRIu64 " of %s", s->size, s->offset,
                   s->file);
}

static void read_stale(struct changes *c, const struct sector *s)
{
    const struct hole hole = hole_of(s);
    struct simdisk *disk = simdisk_clone(c->durable);

    simdisk_serve_stale(disk, s->file, s->offset, s->old, s->size);
    examine_damage(c->e, disk, known_without(c->e, &hole, 1),
                   "stale read of %zu bytes at %" PRIu64 " of %s", s->size, s->offset,
                   s->file);
}

/* One write that takes the newest log header as well as the last group takes both of what
 * knows of that group: nobody can tell. */
static bool takes_all_evidence(const struct hole holes[2])
{
    return strcmp(holes[0].file, LOG_NAME) == 0 && strcmp(holes[1].file, LOG_NAME) == 0 &&
           (holes[0].from < LOG_RING_START) != (holes[1].from < LOG_RING_START);
}

/* Where a sector was not meant to go: any other place of any file that has changed. */
static void misdirect(struct changes *c, const struct sector *s)
{
    struct explorer *e = c->e;
    const struct sector *other = &c->sectors[below(&e->random, c->count)];
    const uint64_t size = (uint64_t)simdisk_file_size(c->durable, other->file);
    const uint64_t at = below(&e->random, size / SIMDISK_SECTOR + 1) * SIMDISK_SECTOR;
    const struct hole holes[2] = {
        hole_of(s), {other->file, at, at + s->size}
    };
    struct simdisk *disk;

    if (takes_all_evidence(holes))
        return;
    disk = simdisk_clone(c->durable);
    (void)simdisk_file_write(disk, s->file, s->old, s->size, s->offset);
    (void)simdisk_file_write(disk, other->file, s->now, s->size, at);
    examine_damage(e, disk, known_without(e, holes, 2),
                   "misdirected write of %zu bytes at %" PRIu64 " of %s to %" PRIu64
                   " of %s",
                   s->size, s->offset, s->file, at, other->file);
}

static void flip_bit(struct changes *c, const struct sector *s)
{
    struct simdisk *disk = simdisk_clone(c->durable);
    const uint64_t bit = below(&c->e->random, s->size * 8);
    const uint64_t at = s->offset + bit / 8;
    const struct hole hole = {s->file, at, at + 1};
    const uint8_t byte = (uint8_t)(s->now[bit / 8] ^ 1u << bit % 8);

    (void)simdisk_file_write(disk, s->file, &byte, 1, at);
    examine_damage(c->e, disk, known_without(c->e, &hole, 1),
                   "bit %u of byte %" PRIu64 " of %s", (unsigned)(bit % 8), at, s->file);
}

static bool is_chosen(struct explorer *e)
{
    return below(&e->random, 100) < e->density;
}

static void damage(struct changes *c)
{
    const size_t count = c->count;

    for (size_t i = 0; i < count && !is_enough(c->e->tally); i++) {
        const struct sector *s = &c->sectors[i];

        if (is_chosen(c->e))
            lose(c, s);
        if (is_chosen(c->e))
            read_stale(c, s);
        if (is_chosen(c->e))
            misdirect(c, s);
        for (unsigned k = 0; k < BIT_FLIPS; k++) {
            if (is_chosen(c->e))
                flip_bit(c, s);
        }
    }
}

/* ---- Between operations -------------------------------------------------------------------- */

void silent_note(struct explorer *e)
{
    if (!settings_have(e->tally->settings, P9))
        return;
    if (e->before != NULL && e->operation % OPERATIONS_OLD != 0)
        return;
    simdisk_free(e->before);
    e->before = simdisk_survivor(e->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
}

void silent_forget(struct explorer *e)
{
    simdisk_free(e->before);
    e->before = NULL;
}

void derive_silent(struct explorer *e)
{
    struct changes *c;

    if (!settings_have(e->tally->settings, P9) || e->before == NULL || is_enough(e->tally))
        return;
    c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    e->busy = true;
    c->e = e;
    c->durable = simdisk_survivor(e->disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    simdisk_list(c->durable, compare_file, c);
    damage(c);
    simdisk_free(c->durable);
    e->busy = false;
    free(c);
}
