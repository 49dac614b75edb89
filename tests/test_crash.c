/* SPDX-License-Identifier: MIT */
/*
 * The contract of tinykv.h after a crash, wherever it comes: the recovered store is a prefix
 * of the commit order that has every write that was promised to survive, batches whole; it
 * reads the same in every way, once recovered it stays as it is, and it works.
 *
 * Method: seeded workloads run on the simulated disk, without threads. Before each call that
 * changes the disk, and in the middle of each write, disks are derived that a killed process
 * or a power cut could leave at that moment (tests/simdisk.h has the models), and each one
 * that was not seen before is recovered and compared with the oracle (tests/oracle.h). Of some
 * of them the recovery is crashed in the same way. Between its operations a workload is itself
 * crashed now and then and goes on with what survived.
 *
 *     test_crash [--states N] [--seed X] [--processes P] [--only NAME]
 *
 * Everything follows from the seed. What fails is printed with workload, seed, operation, call,
 * model and choice, and `--only NAME --seed X` repeats it.
 */
#include "oracle.h"
#include "simdisk.h"
#include "store.h"
#include "test.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VIOLATIONS_MAX 20u
#define HANDLES_MAX    64u
#define STATES_DEFAULT 66000u
#define OPEN_WRITE_MAX 256u

struct test_case *test_cases; /* none: the cases are workloads */

/* ---- Random ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state);
}

static uint64_t below(uint64_t *state, uint64_t limit)
{
    return draw(state) % limit;
}

/* ---- What has been seen ------------------------------------------------------------------------ */

struct seen {
    uint64_t *slots; /* 0: empty */
    size_t count, capacity;
};

static bool seen_before(struct seen *seen, uint64_t hash)
{
    size_t at;

    hash |= hash == 0;
    if (seen->count * 2 >= seen->capacity) {
        struct seen bigger = {.capacity = seen->capacity * 2 + 1024};

        bigger.slots = calloc(bigger.capacity, sizeof *bigger.slots);
        CHECK(bigger.slots != NULL);
        for (size_t i = 0; i < seen->capacity; i++) {
            if (seen->slots[i] != 0)
                (void)seen_before(&bigger, seen->slots[i]);
        }
        free(seen->slots);
        *seen = bigger;
    }
    for (at = hash % seen->capacity; seen->slots[at] != 0; at = (at + 1) % seen->capacity) {
        if (seen->slots[at] == hash)
            return true;
    }
    seen->slots[at] = hash;
    seen->count++;
    return false;
}

/* ---- Workloads: their tables ------------------------------------------------------------------------ */

/* Shares of each kind of operation; the rest of 100 are puts. */
struct workload {
    const char *name;
    enum tkv_durability durability;
    unsigned operations;
    unsigned deletes, batches, syncs, checkpoints, compactions, reopens, crashes, expiring,
        ticks, large;
    uint32_t value_size_max;
    unsigned compress_level;
    unsigned density; /* of a hundred derived disks at each point, so many are looked at */
    uint64_t wal_size_max, data_file_size; /* 0: 64 KiB */
    bool every_byte;                       /* cut small writes at every byte */
    bool from_nothing;                     /* look at the creation of the store as well */
};

/* ---- The explorer --------------------------------------------------------------------------------------- */

struct totals {
    uint64_t states, unique, nested, opens, violations, runs;
};

struct explorer {
    const struct workload *workload;
    uint64_t seed, random;
    unsigned operation; /* number of the current one */
    const char *operation_name;
    struct tkv_options options;
    struct simdisk *disk;
    struct oracle *oracle;
    struct seen seen;
    struct totals totals;
    uint64_t unique_limit;

    /* In a recovery that is crashed: what it must give again. A power cut may take back what a
     * killed process left, until the store is open. */
    const struct oracle_found *expected;
    bool outer_killed, is_open;
    const char *outer_model;
    uint64_t outer_call, outer_choice;

    struct tkv_os real; /* the simulated disk's own functions */
    char names[HANDLES_MAX][SIMDISK_NAME_SIZE_MAX + 1];
    char directories[HANDLES_MAX][SIMDISK_NAME_SIZE_MAX + 1]; /* "" for the root */
    bool direct[HANDLES_MAX];
    bool busy; /* looking at a derived disk */
};

/* One derived disk. */
struct derived {
    const char *model;
    uint64_t choice;
    size_t cut;
    bool killed; /* everything acknowledged must be there */
};

static void report_violation(struct explorer *e, const struct derived *d, const char *what,
                             const char *text)
{
    e->totals.violations++;
    printf("VIOLATION %" PRIu64 ": %s: %s\n", e->totals.violations, what, text);
    printf("    --only %s --seed %" PRIu64 ", operation %u (%s), call %" PRIu64
           ", model %s, choice %" PRIu64 ", cut %zu; durable %zu, acked %zu, issued %zu\n",
           e->workload->name, e->seed, e->operation, e->operation_name, e->disk->calls,
           d->model, d->choice, d->cut, e->oracle->durable, e->oracle->acked,
           e->oracle->issued);
    if (e->expected != NULL)
        printf("    in the recovery of model %s, choice %" PRIu64
               ", crashed at call %" PRIu64 "\n",
               e->outer_model, e->outer_choice, e->outer_call);
    fflush(stdout);
}

static enum tkv_status open_store(struct explorer *e, struct simdisk *disk,
                                  const struct tkv_options *options,
                                  struct tkv_store **ret_store, struct tkv_error *err)
{
    e->totals.opens++;
    return tkv_open_on(&disk->os, "", options, ret_store, NULL, err);
}

/* Any mode may follow any other. */
static struct tkv_options vary_options(struct explorer *e)
{
    struct tkv_options options = e->options;

    if (below(&e->random, 4) == 0)
        options.durability = (enum tkv_durability)below(&e->random, 3);
    if (below(&e->random, 4) == 0)
        options.read_mode = TKV_READ_PREAD;
    return options;
}

/* Open, read all, and close or keep open. False: a violation was reported. */
static bool open_and_read(struct explorer *e, struct simdisk *disk,
                          const struct tkv_options *options, const struct derived *d,
                          const char *which, struct tkv_store **ret_store,
                          struct oracle_found *ret_found)
{
    struct oracle_report why;
    struct tkv_error err = {.message = ""};
    enum tkv_status status = open_store(e, disk, options, ret_store, &err);
    char what[96];

    if (status != TKV_OK) {
        snprintf(what, sizeof what, "%s does not open (%s)", which,
                 tkv_status_text(status));
        report_violation(e, d, what, err.message);
        return false;
    }
    if (oracle_read(*ret_store, ret_found, &why))
        return true;
    snprintf(what, sizeof what, "%s reads badly", which);
    report_violation(e, d, what, why.text);
    (void)tkv_close(*ret_store, NULL);
    return false;
}

static bool close_store(struct explorer *e, struct simdisk *disk, struct tkv_store *store,
                        const struct derived *d)
{
    struct tkv_error err = {.message = ""};

    if (tkv_close(store, &err) != TKV_OK) {
        report_violation(e, d, "close fails", err.message);
        return false;
    }
    if (simdisk_open_count(disk) != 0) {
        report_violation(e, d, "close leaks descriptors or mappings", "");
        return false;
    }
    return true;
}

static bool must_be_same(struct explorer *e, const struct derived *d, const char *what,
                         const struct oracle_found *left, const struct oracle_found *right)
{
    struct oracle_report why;

    if (oracle_same(left, right, &why))
        return true;
    report_violation(e, d, what, why.text);
    return false;
}

/* What was recovered is durable before it is served: a power cut right after opening changes
 * nothing. */
static bool check_second_recovery(struct explorer *e, struct simdisk *disk,
                                  const struct derived *d, const struct oracle_found *found)
{
    struct simdisk *after =
        simdisk_survivor(disk, SIMDISK_NOTHING_PENDING, 0, SIMDISK_PAGE);
    struct tkv_store *store;
    struct oracle_found again;
    bool good =
        open_and_read(e, after, &e->options, d, "the second recovery", &store, &again);

    if (good) {
        good = must_be_same(e, d, "the second recovery differs", found, &again);
        good = close_store(e, after, store, d) && good;
    }
    simdisk_free(after);
    return good;
}

/* A handful of writes, a clean close, and all of it again. */
static bool check_goes_on(struct explorer *e, struct simdisk *disk, struct tkv_store *store,
                          struct oracle *oracle, const struct tkv_options *options,
                          const struct derived *d)
{
    const uint64_t *now_us = &disk->monotonic_us;
    struct oracle_item batch[3] = {
        {.key = 2, .size = 40       },
        {.key = 3, .is_delete = true},
        {.key = 2, .size = 50       }
    };
    struct tkv_error err = {.message = ""};
    struct oracle_report why;
    struct oracle_found found;
    enum tkv_status status = TKV_OK;
    size_t prefix;
    bool good;

    for (unsigned i = 0; i < 4 && status == TKV_OK; i++)
        status =
            oracle_put(oracle, store, (unsigned)below(&e->random, ORACLE_KEYS),
                       (uint32_t)below(&e->random, 300), 0, ORACLE_NEVER, now_us, &err);
    if (status == TKV_OK)
        status = oracle_delete(oracle, store, (unsigned)below(&e->random, ORACLE_KEYS),
                               now_us, &err);
    if (status == TKV_OK)
        status = oracle_batch(oracle, store, batch, 3, now_us, &err);
    if (status == TKV_OK && below(&e->random, 8) == 0)
        status = tkv_compact(store, NULL, &err);
    if (status != TKV_OK) {
        report_violation(e, d, "the recovered store does not work", err.message);
        (void)tkv_close(store, NULL);
        return false;
    }
    if (!close_store(e, disk, store, d) ||
        !open_and_read(e, disk, options, d, "the closed store", &store, &found))
        return false;
    good = oracle_match(oracle, &found, oracle->issued, oracle->issued, disk->wall_ms,
                        &prefix, &why);
    if (!good)
        report_violation(e, d, "the reopened store differs", why.text);
    return close_store(e, disk, store, d) && good;
}

static void crash_the_recovery(struct explorer *e, const struct simdisk *disk,
                               const struct derived *d, const struct oracle_found *found);

static bool must_repeat(const struct explorer *e, const struct derived *d)
{
    return e->expected != NULL && (e->is_open || d->killed || !e->outer_killed);
}

static size_t least_of(const struct explorer *e, const struct derived *d)
{
    return d->killed && (e->expected == NULL || e->outer_killed) ? e->oracle->acked
                                                                 : e->oracle->durable;
}

static void examine_closely(struct explorer *e, struct simdisk *disk,
                            const struct derived *d)
{
    const size_t least = least_of(e, d);
    const bool nest = e->expected == NULL && below(&e->random, 48) == 0;
    struct simdisk *before = nest ? simdisk_clone(disk) : NULL;
    const struct tkv_options options = vary_options(e);
    struct oracle_report why;
    struct oracle_found found;
    struct tkv_store *store;
    struct oracle *oracle;
    size_t prefix = 0;

    if (!open_and_read(e, disk, &options, d, "the survivor", &store, &found))
        goto out;
    if (must_repeat(e, d) && !must_be_same(e, d, "a crashed recovery changed the contents",
                                           e->expected, &found)) {
        (void)tkv_close(store, NULL);
        goto out;
    }
    if (!oracle_match(e->oracle, &found, least, e->oracle->issued, disk->wall_ms, &prefix,
                      &why)) {
        report_violation(e, d, "not a prefix", why.text);
        (void)tkv_close(store, NULL);
        goto out;
    }
    if (below(&e->random, 3) == 0 && !check_second_recovery(e, disk, d, &found)) {
        (void)tkv_close(store, NULL);
        goto out;
    }
    if (below(&e->random, 3) != 0) {
        (void)close_store(e, disk, store, d);
    } else {
        oracle = oracle_recovered(e->oracle, prefix, options.durability);
        (void)check_goes_on(e, disk, store, oracle, &options, d);
        oracle_free(oracle);
    }
    if (nest)
        crash_the_recovery(e, before, d, &found);
out:
    simdisk_free(before);
}

/* Takes the disk. */
static void examine(struct explorer *e, struct simdisk *disk, struct derived d)
{
    const uint64_t hash =
        mix(simdisk_hash(disk) ^ mix(least_of(e, &d) * 2 + must_repeat(e, &d)));

    e->totals.states++;
    if (e->totals.violations < VIOLATIONS_MAX && !seen_before(&e->seen, hash)) {
        e->totals.unique++;
        e->totals.nested += e->expected != NULL;
        examine_closely(e, disk, &d);
    }
    simdisk_free(disk);
}

/* ---- Deriving disks ---------------------------------------------------------------------------------------- */

static bool is_chosen(struct explorer *e)
{
    return below(&e->random, 100) < e->workload->density;
}

static void derive(struct explorer *e, const struct simdisk *disk, enum simdisk_model model,
                   const char *name, uint64_t choice, size_t unit)
{
    examine(e, simdisk_survivor(disk, model, choice, unit),
            (struct derived){.model = name, .choice = choice});
}

static void derive_prefixes(struct explorer *e, const struct simdisk *disk, size_t unit,
                            unsigned few)
{
    const uint64_t count = simdisk_pending_count(disk, unit);

    for (uint64_t k = 1; k <= count; k++) {
        if (count <= few || k == count || below(&e->random, count) < few)
            derive(e, disk, SIMDISK_PREFIX,
                   unit == SIMDISK_PAGE ? "P2 pages" : "P2 sectors", k, unit);
    }
}

static void derive_masks(struct explorer *e, const struct simdisk *disk, unsigned few)
{
    const uint64_t count = simdisk_pending_count(disk, SIMDISK_PAGE);

    if (count < 2)
        return;
    if (count <= few) {
        for (uint64_t mask = 1; mask < (UINT64_C(1) << count); mask++)
            derive(e, disk, SIMDISK_MASK, "mask", mask, SIMDISK_PAGE);
        return;
    }
    for (unsigned i = 0; i < few; i++)
        derive(e, disk, SIMDISK_MASK, "mask", draw(&e->random), SIMDISK_PAGE);
}

static void derive_sampled(struct explorer *e, const struct simdisk *disk)
{
    static const struct {
        enum simdisk_model model;
        const char *name;
    } models[] = {
        {SIMDISK_SUBSET,       "P3"},
        {SIMDISK_TORN,         "P4"},
        {SIMDISK_TORN,         "P4"},
        {SIMDISK_TRASHED,      "P5"},
        {SIMDISK_SIZE_ONLY,    "P6"},
        {SIMDISK_ENTRIES_LOST, "P7"}
    };

    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        const uint64_t choice = models[i].model == SIMDISK_SIZE_ONLY && is_chosen(e)
                                    ? 0
                                    : draw(&e->random) % 1000000;

        if (is_chosen(e))
            derive(e, disk, models[i].model, models[i].name, choice, SIMDISK_PAGE);
    }
}

static void derive_power_cuts(struct explorer *e, const struct simdisk *disk)
{
    const uint64_t pending = simdisk_pending_count(disk, SIMDISK_PAGE);

    if (is_chosen(e))
        derive(e, disk, SIMDISK_NOTHING_PENDING, "P1", 0, SIMDISK_PAGE);
    if (pending == 0)
        return;
    if (is_chosen(e))
        derive_prefixes(e, disk, SIMDISK_PAGE, 6);
    if (is_chosen(e))
        derive_prefixes(e, disk, SIMDISK_SECTOR, 2);
    if (is_chosen(e))
        derive_masks(e, disk, 3);
    derive_sampled(e, disk);
}

/* The world as it is before a call. */
static void derive_all(struct explorer *e)
{
    if (is_chosen(e))
        examine(e, simdisk_clone(e->disk), (struct derived){.model = "P0", .killed = true});
    derive_power_cuts(e, e->disk);
}

/* ---- Writes, half done -------------------------------------------------------------------------------------- */

struct half_write {
    int fd;
    const uint8_t *data;
    size_t size;
    uint64_t offset;
};

/* A copy of the disk on which the first `cut` bytes of the write are there, and pending. */
static struct simdisk *write_half(const struct explorer *e, const struct half_write *w,
                                  size_t cut)
{
    struct simdisk *disk = simdisk_clone(e->disk);
    struct tkv_os *os = &disk->os;
    const int root = os->open_dir(os, "", false);
    int dir = root, fd;

    disk->capacity = e->disk->capacity;
    if (e->directories[w->fd][0] != 0)
        dir = os->open_dir_at(os, root, e->directories[w->fd], false);
    fd = os->open(os, dir, e->names[w->fd], TKV_OS_WRITE);
    if (fd < 0) { /* unlinked or renamed meanwhile; nothing can come of it */
        simdisk_free(disk);
        return NULL;
    }
    if (cut > 0)
        CHECK_EQ(tkv_os_write_all(os, fd, w->data, cut, w->offset), 0);
    CHECK_EQ(os->close(os, fd), 0);
    if (dir != root)
        CHECK_EQ(os->close(os, dir), 0);
    CHECK_EQ(os->close(os, root), 0);
    return disk;
}

static void examine_cut(struct explorer *e, const struct half_write *w, size_t cut)
{
    struct simdisk *disk = write_half(e, w, cut);

    if (disk != NULL)
        examine(e, disk, (struct derived){.model = "P0", .cut = cut, .killed = true});
}

static void derive_half_writes(struct explorer *e, const struct half_write *w)
{
    const size_t cuts[] = {1,           16,      w->size / 2,
                           w->size - 1, w->size, (size_t)below(&e->random, w->size) + 1};
    struct simdisk *disk;

    if (e->workload->every_byte && w->size <= 2 * SIMDISK_PAGE) {
        for (size_t cut = 1; cut <= w->size; cut++) {
            if (cut <= OPEN_WRITE_MAX || cut % 61 == 0 || cut + 2 > w->size)
                examine_cut(e, w, cut);
        }
    }
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        if (is_chosen(e) && cuts[i] > 0 && cuts[i] <= w->size)
            examine_cut(e, w, cuts[i]);
    }
    if (!e->direct[w->fd])
        return; /* the rest comes before the next call */
    disk = write_half(e, w, w->size);
    if (disk == NULL)
        return;
    derive_prefixes(e, disk, SIMDISK_SECTOR, 3);
    derive_power_cuts(e, disk);
    simdisk_free(disk);
}

static void visit_write(struct explorer *e, const struct half_write *w)
{
    if (e->busy || w->fd < 0 || (unsigned)w->fd >= HANDLES_MAX)
        return;
    e->busy = true;
    derive_all(e);
    derive_half_writes(e, w);
    e->busy = false;
}

/* ---- The table, with a look at the disk before each call ---------------------------------------------------------- */

static struct explorer *explorer_of(struct tkv_os *os)
{
    return ((struct simdisk *)(void *)os)->context;
}

static void watch_call(struct simdisk *disk, enum simdisk_call call)
{
    struct explorer *e = disk->context;

    if (e->busy || (call & SIMDISK_MUTATING) == 0 ||
        (call & (SIMDISK_WRITE | SIMDISK_STORE)) != 0 || disk->crashed)
        return;
    e->busy = true;
    derive_all(e);
    e->busy = false;
}

static int watch_open(struct tkv_os *os, int dir, const char *name, unsigned flags)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open(os, dir, name, flags);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX) {
        snprintf(e->names[fd], sizeof e->names[fd], "%s", name);
        memmove(e->directories[fd], e->names[dir], sizeof e->directories[fd]);
        e->direct[fd] = (flags & TKV_OS_DIRECT_SYNC) != 0;
    }
    return fd;
}

static int watch_open_dir(struct tkv_os *os, const char *path, bool create)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open_dir(os, path, create);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX)
        e->names[fd][0] = 0;
    return fd;
}

static int watch_open_dir_at(struct tkv_os *os, int dir, const char *name, bool create)
{
    struct explorer *e = explorer_of(os);
    const int fd = e->real.open_dir_at(os, dir, name, create);

    if (fd >= 0 && (unsigned)fd < HANDLES_MAX)
        snprintf(e->names[fd], sizeof e->names[fd], "%s", name);
    return fd;
}

static int watch_rename(struct tkv_os *os, int dir, const char *from, const char *to)
{
    struct explorer *e = explorer_of(os);
    const int result = e->real.rename(os, dir, from, to);

    for (unsigned fd = 0; fd < HANDLES_MAX && result == 0; fd++) {
        if (strcmp(e->names[fd], from) == 0)
            snprintf(e->names[fd], sizeof e->names[fd], "%s", to);
    }
    return result;
}

static int64_t watch_write(struct tkv_os *os, int fd, const void *data, size_t size,
                           uint64_t offset)
{
    struct explorer *e = explorer_of(os);

    if (!e->disk->crashed && size > 0)
        visit_write(e, &(struct half_write){fd, data, size, offset});
    return e->real.write(os, fd, data, size, offset);
}

static void watch_store(struct tkv_os *os, int fd, void *map, uint64_t offset,
                        const void *data, size_t size)
{
    struct explorer *e = explorer_of(os);

    if (!e->disk->crashed && size > 0)
        visit_write(e, &(struct half_write){fd, data, size, offset});
    e->real.store(os, fd, map, offset, data, size);
}

static void watch(struct explorer *e, struct simdisk *disk)
{
    e->disk = disk;
    e->real = disk->os;
    disk->context = e;
    disk->before_call = watch_call;
    disk->os.open = watch_open;
    disk->os.open_dir = watch_open_dir;
    disk->os.open_dir_at = watch_open_dir_at;
    disk->os.rename = watch_rename;
    disk->os.write = watch_write;
    disk->os.store = watch_store;
}

/* ---- Crashing a recovery ------------------------------------------------------------------------------------------- */

/* The same survivor once more, crashed at every call of its recovery: what comes out must be
 * what came out without a crash. */
static void crash_the_recovery(struct explorer *e, const struct simdisk *disk,
                               const struct derived *d, const struct oracle_found *found)
{
    struct simdisk *again = simdisk_clone(disk);
    struct workload workload = *e->workload;
    struct explorer *inner = malloc(sizeof *inner);
    struct tkv_store *store;
    struct tkv_error err;

    CHECK(inner != NULL);
    *inner = *e;
    workload.density = 25;
    workload.every_byte = false;
    inner->workload = &workload;
    inner->expected = found;
    inner->outer_killed = d->killed;
    inner->is_open = false;
    inner->outer_model = d->model;
    inner->outer_choice = d->choice;
    inner->outer_call = e->disk->calls;
    inner->busy = false;
    watch(inner, again);
    if (open_store(inner, again, &e->options, &store, &err) == TKV_OK) {
        inner->is_open = true;
        (void)tkv_close(store, NULL);
    }
    inner->busy = true;
    e->seen = inner->seen;
    e->totals = inner->totals;
    e->random = inner->random;
    free(inner);
    simdisk_free(again);
}

/* ---- Running a workload ----------------------------------------------------------------------------------------------- */

#define WALL_MS_FIRST UINT64_C(1700000000000)

static void name_operation(struct explorer *e, const char *name)
{
    e->operation_name = name;
}

static uint32_t draw_size(struct explorer *e)
{
    const uint64_t kind = below(&e->random, 16);

    if (kind == 0)
        return 0;
    if (kind < 4)
        return (uint32_t)below(&e->random, 24);
    if (kind < 12)
        return (uint32_t)below(&e->random, e->workload->value_size_max / 8 + 1);
    return (uint32_t)below(&e->random, e->workload->value_size_max + 1);
}

static struct oracle_item draw_item(struct explorer *e)
{
    const struct workload *w = e->workload;
    struct oracle_item item = {.key = (unsigned)below(&e->random, ORACLE_KEYS)};

    item.size = draw_size(e);
    if (below(&e->random, 100) < w->large)
        item.size = 17000 + (uint32_t)below(&e->random, 9000);
    if (w->compress_level > 0 && below(&e->random, 2) == 0)
        item.flags = ORACLE_SQUEEZABLE;
    if (below(&e->random, 100) < w->expiring)
        item.expires_at_ms = e->disk->wall_ms + 1 + below(&e->random, 400);
    return item;
}

static enum tkv_status run_batch(struct explorer *e, struct tkv_store *store,
                                 struct tkv_error *err)
{
    const size_t count = 2 + below(&e->random, ORACLE_BATCH_MAX - 1);
    struct oracle_item items[ORACLE_BATCH_MAX];
    uint64_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        items[i] = draw_item(e);
        items[i].is_delete = below(&e->random, 100) < e->workload->deletes;
        if (items[i].size > 1500)
            items[i].size = 1500;
        bytes += items[i].size;
    }
    CHECK(bytes < 16384 - 4096);
    return oracle_batch(e->oracle, store, items, count, &e->disk->monotonic_us, err);
}

/* Stop the world in the middle of an operation or between two, and go on with what is left. */
static bool run_crash(struct explorer *e, struct tkv_store **store)
{
    static const enum simdisk_model models[] = {
        SIMDISK_KILLED, SIMDISK_NOTHING_PENDING, SIMDISK_PREFIX,    SIMDISK_SUBSET,
        SIMDISK_TORN,   SIMDISK_TRASHED,         SIMDISK_SIZE_ONLY, SIMDISK_ENTRIES_LOST};
    const enum simdisk_model model = models[below(&e->random, 8)];
    struct derived d = {
        .model = "going on", .choice = model, .killed = model == SIMDISK_KILLED};
    struct simdisk *old = e->disk, *after;
    const size_t unit = below(&e->random, 2) == 0 ? SIMDISK_PAGE : SIMDISK_SECTOR;
    struct oracle_item item = draw_item(e);
    const size_t acked = e->oracle->acked, durable = e->oracle->durable;
    struct oracle_found found;
    struct oracle_report why;
    struct oracle *oracle;
    struct tkv_error err;
    uint64_t choice;
    size_t prefix;
    bool good;

    e->busy = true;
    old->crash_kinds = SIMDISK_MUTATING;
    old->crash_at = old->crash_count + 1 + below(&e->random, 3);
    old->crash_cut = (size_t)below(&e->random, 5000);
    (void)oracle_put(e->oracle, *store, item.key, item.size, item.flags, item.expires_at_ms,
                     &old->monotonic_us, &err);
    if (!old->crashed && below(&e->random, 2) == 0)
        (void)oracle_checkpoint(e->oracle, *store, &err);
    if (old->crashed) { /* nobody lives to see what the calls returned */
        e->oracle->acked = acked;
        e->oracle->durable = durable;
    }
    choice = draw(&e->random);
    if (model == SIMDISK_PREFIX)
        choice %= simdisk_pending_count(old, unit) + 1;
    after = simdisk_survivor(old, model, choice, unit);
    old->crashed = true;
    (void)tkv_close(*store, NULL);
    *store = NULL;

    good = open_and_read(e, after, &e->options, &d, "the main line", store, &found);
    if (good) {
        good = oracle_match(e->oracle, &found,
                            d.killed ? e->oracle->acked : e->oracle->durable,
                            e->oracle->issued, after->wall_ms, &prefix, &why);
        if (!good)
            report_violation(e, &d, "the main line is not a prefix", why.text);
    }
    if (!good) {
        *store = NULL; /* the end of this workload */
        return false;
    }
    oracle = oracle_recovered(e->oracle, prefix, e->options.durability);
    oracle_free(e->oracle);
    e->oracle = oracle;
    watch(e, after); /* the handles that are open are not known by name: reopen */
    simdisk_free(old);
    good = oracle_close(e->oracle, *store, &err) == TKV_OK;
    e->busy = false;
    *store = NULL;
    if (good && open_store(e, after, &e->options, store, &err) != TKV_OK)
        good = false;
    if (!good)
        report_violation(e, &d, "the main line does not reopen", err.message);
    return good;
}

static bool run_reopen(struct explorer *e, struct tkv_store **store)
{
    const struct derived d = {.model = "none"};
    struct tkv_error err = {.message = ""};
    struct oracle_found found;
    struct oracle_report why;
    size_t prefix;

    if (oracle_close(e->oracle, *store, &err) != TKV_OK) {
        *store = NULL;
        report_violation(e, &d, "close fails", err.message);
        return false;
    }
    *store = NULL;
    if (open_store(e, e->disk, &e->options, store, &err) != TKV_OK) {
        report_violation(e, &d, "a closed store does not open", err.message);
        return false;
    }
    e->busy = true;
    if (!oracle_read(*store, &found, &why) ||
        !oracle_match(e->oracle, &found, e->oracle->issued, e->oracle->issued,
                      e->disk->wall_ms, &prefix, &why)) {
        report_violation(e, &d, "a closed store differs", why.text);
        return false;
    }
    e->busy = false;
    return true;
}

static bool run_operation(struct explorer *e, struct tkv_store **store)
{
    const struct workload *w = e->workload;
    const unsigned shares[] = {w->deletes,     w->batches, w->syncs,   w->checkpoints,
                               w->compactions, w->reopens, w->crashes, w->ticks};
    static const char *const names[] = {"delete", "batch", "sync", "checkpoint", "compact",
                                        "reopen", "crash", "tick", "put"};
    const size_t count = sizeof shares / sizeof shares[0];
    uint64_t *now_us = &e->disk->monotonic_us;
    uint64_t roll = below(&e->random, 100);
    struct derived d = {.model = "none"};
    struct tkv_error err = {.message = ""};
    enum tkv_status status = TKV_OK;
    struct oracle_item item;
    size_t kind = 0;

    while (kind < count && roll >= shares[kind])
        roll -= shares[kind++];
    name_operation(e, names[kind]);
    switch (kind) {
    case 0:
        status = oracle_delete(e->oracle, *store, (unsigned)below(&e->random, ORACLE_KEYS),
                               now_us, &err);
        break;
    case 1:
        status = run_batch(e, *store, &err);
        break;
    case 2:
        status = oracle_sync(e->oracle, *store, &err);
        break;
    case 3:
        status = oracle_checkpoint(e->oracle, *store, &err);
        break;
    case 4:
        status = tkv_compact(*store, NULL, &err);
        break;
    case 5:
        return run_reopen(e, store);
    case 6:
        return run_crash(e, store);
    case 7:
        e->disk->monotonic_us += 100 + below(&e->random, 900);
        e->disk->wall_ms += below(&e->random, 120);
        break;
    default:
        item = draw_item(e);
        status = oracle_put(e->oracle, *store, item.key, item.size, item.flags,
                            item.expires_at_ms, now_us, &err);
    }
    if (status == TKV_OK)
        return true;
    report_violation(e, &d, "an operation fails", err.message);
    return false;
}

static struct tkv_options options_of(const struct workload *w)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.durability = w->durability;
    options.interval_ms = 1;
    options.wal_size_max = w->wal_size_max != 0 ? w->wal_size_max : 64 * 1024;
    options.data_file_size_min = w->data_file_size != 0 ? w->data_file_size : 64 * 1024;
    options.data_file_size_max = options.data_file_size_min;
    options.compact_size_min = 32 * 1024;
    options.space_factor = 1.2;
    options.compress_level = w->compress_level;
    options.compress_size_min = 16;
    return options;
}

/* One workload from one seed, with all its crashes. */
static struct totals run_workload(const struct workload *w, uint64_t seed,
                                  uint64_t unique_limit)
{
    struct explorer *e = calloc(1, sizeof *e);
    struct tkv_error err = {.message = ""};
    const struct derived d = {.model = "none"};
    struct tkv_store *store = NULL;
    struct simdisk *disk = simdisk_new(seed);
    struct totals totals;
    bool good;

    CHECK(e != NULL);
    e->workload = w;
    e->seed = seed;
    e->random = mix(seed);
    e->options = options_of(w);
    e->oracle = oracle_new(w->durability, (uint64_t)e->options.interval_ms * 1000);
    e->operation_name = "open";
    e->totals.runs = 1;
    e->busy = !w->from_nothing;
    disk->wall_ms = WALL_MS_FIRST;
    watch(e, disk);
    good = open_store(e, disk, &e->options, &store, &err) == TKV_OK;
    if (!good)
        report_violation(e, &d, "an empty directory does not open", err.message);
    e->busy = false;
    while (good && e->operation < w->operations && e->totals.unique < unique_limit &&
           e->totals.violations < VIOLATIONS_MAX) {
        e->operation++;
        good = run_operation(e, &store);
    }
    name_operation(e, "close");
    e->busy = e->busy || !good;
    if (store != NULL && oracle_close(e->oracle, store, &err) != TKV_OK && good)
        report_violation(e, &d, "close fails", err.message);
    totals = e->totals;
    simdisk_free(e->disk);
    oracle_free(e->oracle);
    free(e->seen.slots);
    free(e);
    return totals;
}

/* ---- The workloads -------------------------------------------------------------------------------------------------------- */

#define ALWAYS   TKV_DURABILITY_ALWAYS
#define INTERVAL TKV_DURABILITY_INTERVAL
#define NONE     TKV_DURABILITY_NONE

static const struct workload workloads[] = {
    {.name = "always_mixed",
     .durability = ALWAYS,
     .operations = 120,
     .deletes = 14,
     .batches = 12,
     .syncs = 2,
     .checkpoints = 3,
     .compactions = 2,
     .reopens = 2,
     .value_size_max = 3000,
     .density = 40},
    {.name = "interval_mixed",
     .durability = INTERVAL,
     .operations = 160,
     .deletes = 14,
     .batches = 12,
     .syncs = 3,
     .checkpoints = 3,
     .compactions = 2,
     .reopens = 2,
     .ticks = 10,
     .value_size_max = 3000,
     .density = 30},
    {.name = "none_mixed",
     .durability = NONE,
     .operations = 160,
     .deletes = 14,
     .batches = 12,
     .syncs = 3,
     .checkpoints = 3,
     .compactions = 2,
     .reopens = 2,
     .value_size_max = 3000,
     .density = 30},
    {.name = "always_churn",
     .durability = ALWAYS,
     .operations = 300,
     .deletes = 30,
     .batches = 10,
     .compactions = 1,
     .reopens = 1,
     .crashes = 2,
     .value_size_max = 9000,
     .density = 10},
    {.name = "none_churn",
     .durability = NONE,
     .operations = 400,
     .deletes = 30,
     .batches = 10,
     .syncs = 1,
     .compactions = 1,
     .reopens = 1,
     .crashes = 2,
     .value_size_max = 9000,
     .density = 10},
    {.name = "interval_churn",
     .durability = INTERVAL,
     .operations = 400,
     .deletes = 30,
     .batches = 10,
     .compactions = 1,
     .reopens = 1,
     .crashes = 2,
     .ticks = 10,
     .value_size_max = 9000,
     .density = 10},
    {.name = "always_crash_chain",
     .durability = ALWAYS,
     .operations = 150,
     .deletes = 10,
     .batches = 20,
     .checkpoints = 4,
     .compactions = 2,
     .reopens = 2,
     .crashes = 20,
     .value_size_max = 2000,
     .density = 8},
    {.name = "none_crash_chain",
     .durability = NONE,
     .operations = 150,
     .deletes = 10,
     .batches = 20,
     .checkpoints = 4,
     .compactions = 2,
     .reopens = 2,
     .crashes = 20,
     .value_size_max = 2000,
     .density = 8},
    {.name = "always_large",
     .durability = ALWAYS,
     .operations = 60,
     .deletes = 14,
     .batches = 10,
     .checkpoints = 5,
     .compactions = 4,
     .reopens = 3,
     .crashes = 4,
     .large = 30,
     .value_size_max = 3000,
     .density = 25},
    {.name = "none_large",
     .durability = NONE,
     .operations = 60,
     .deletes = 14,
     .batches = 10,
     .checkpoints = 5,
     .compactions = 4,
     .reopens = 3,
     .crashes = 4,
     .large = 30,
     .value_size_max = 3000,
     .density = 25},
    {.name = "always_expiring",
     .durability = ALWAYS,
     .operations = 120,
     .deletes = 8,
     .batches = 10,
     .checkpoints = 4,
     .compactions = 4,
     .reopens = 3,
     .crashes = 3,
     .expiring = 40,
     .ticks = 12,
     .value_size_max = 4000,
     .density = 20},
    {.name = "interval_expiring",
     .durability = INTERVAL,
     .operations = 120,
     .deletes = 8,
     .batches = 10,
     .checkpoints = 4,
     .compactions = 4,
     .reopens = 3,
     .crashes = 3,
     .expiring = 40,
     .ticks = 12,
     .value_size_max = 4000,
     .density = 20},
    {.name = "always_compressed",
     .durability = ALWAYS,
     .operations = 120,
     .deletes = 12,
     .batches = 12,
     .checkpoints = 3,
     .compactions = 3,
     .reopens = 3,
     .large = 5,
     .crashes = 2,
     .value_size_max = 6000,
     .compress_level = 6,
     .density = 20},
    {.name = "none_compressed",
     .durability = NONE,
     .operations = 120,
     .deletes = 12,
     .batches = 12,
     .checkpoints = 3,
     .compactions = 3,
     .reopens = 3,
     .large = 5,
     .crashes = 2,
     .value_size_max = 6000,
     .compress_level = 6,
     .density = 20},
    {.name = "always_growth",
     .durability = ALWAYS,
     .operations = 250,
     .deletes = 8,
     .batches = 5,
     .checkpoints = 1,
     .crashes = 3,
     .value_size_max = 60000,
     .density = 3,
     .wal_size_max = 4u << 20,
     .data_file_size = 512 * 1024},
    {.name = "none_growth",
     .durability = NONE,
     .operations = 250,
     .deletes = 8,
     .batches = 5,
     .checkpoints = 1,
     .crashes = 3,
     .value_size_max = 60000,
     .density = 3,
     .wal_size_max = 4u << 20,
     .data_file_size = 512 * 1024},
    {.name = "always_every_byte",
     .durability = ALWAYS,
     .operations = 6,
     .deletes = 20,
     .batches = 30,
     .value_size_max = 300,
     .density = 30,
     .every_byte = true},
    {.name = "none_every_byte",
     .durability = NONE,
     .operations = 8,
     .deletes = 20,
     .batches = 30,
     .syncs = 10,
     .value_size_max = 200,
     .density = 30,
     .every_byte = true},
    {.name = "creation",
     .durability = ALWAYS,
     .operations = 4,
     .reopens = 40,
     .value_size_max = 300,
     .density = 100,
     .from_nothing = true},
    {.name = "creation_relaxed",
     .durability = NONE,
     .operations = 4,
     .reopens = 40,
     .value_size_max = 300,
     .density = 100,
     .from_nothing = true                                 },
};

#define WORKLOADS (sizeof workloads / sizeof workloads[0])

/* ---- All of them ----------------------------------------------------------------------------------------------------------- */

struct settings {
    uint64_t states, seed;
    unsigned processes;
    const char *only;
};

static void add_totals(struct totals *sum, const struct totals *more)
{
    sum->states += more->states;
    sum->unique += more->unique;
    sum->nested += more->nested;
    sum->opens += more->opens;
    sum->violations += more->violations;
    sum->runs += more->runs;
}

/* This process's share: every workload in turn, with one seed after the other, until there
 * are enough states. */
static void run_share(const struct settings *settings, unsigned process,
                      struct totals sums[WORKLOADS])
{
    const uint64_t limit = settings->states / settings->processes + 1;
    const uint64_t at_once = limit * settings->processes / WORKLOADS + 1;
    uint64_t unique = 0, violations = 0, ran = 1;

    for (uint64_t round = 0; unique < limit && violations < VIOLATIONS_MAX && ran > 0;
         round++) {
        ran = 0;
        for (size_t i = 0; i < WORKLOADS; i++) {
            const uint64_t seed = settings->seed + round;
            struct totals totals;

            if ((i + round) % settings->processes != process ||
                strstr(workloads[i].name, settings->only) == NULL)
                continue;
            ran = 1;
            if (unique >= limit || violations >= VIOLATIONS_MAX)
                break;
            totals = run_workload(&workloads[i], seed,
                                  limit - unique < at_once ? limit - unique : at_once);
            add_totals(&sums[i], &totals);
            unique += totals.unique;
            violations += totals.violations;
        }
        ran |= round == 0;
    }
}

static bool parse(int argc, char **argv, struct settings *settings)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--states") == 0)
            settings->states = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            settings->seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--processes") == 0)
            settings->processes = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            settings->only = value;
        else
            return false;
    }
    return settings->processes > 0 && settings->processes <= WORKLOADS;
}

/* A child writes its totals into a pipe. */
static pid_t start_share(const struct settings *settings, unsigned process, int *ret_pipe)
{
    struct totals sums[WORKLOADS] = {{0}};
    int ends[2];
    pid_t child;

    CHECK(pipe(ends) == 0);
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_share(settings, process, sums);
        fflush(NULL);
        _exit(write(ends[1], sums, sizeof sums) == (ssize_t)sizeof sums ? 0 : 1);
    }
    (void)close(ends[1]);
    *ret_pipe = ends[0];
    return child;
}

static bool run_all(const struct settings *settings, struct totals sums[WORKLOADS])
{
    pid_t children[WORKLOADS];
    int pipes[WORKLOADS];
    bool good = true;

    if (settings->processes == 1) {
        run_share(settings, 0, sums);
        return true;
    }
    for (unsigned i = 0; i < settings->processes; i++)
        children[i] = start_share(settings, i, &pipes[i]);
    for (unsigned i = 0; i < settings->processes; i++) {
        struct totals share[WORKLOADS];
        int outcome = 0;

        if (read(pipes[i], share, sizeof share) == (ssize_t)sizeof share) {
            for (size_t k = 0; k < WORKLOADS; k++)
                add_totals(&sums[k], &share[k]);
        } else {
            good = false;
        }
        (void)close(pipes[i]);
        (void)waitpid(children[i], &outcome, 0);
        good = good && WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0;
    }
    return good;
}

int main(int argc, char **argv)
{
    struct settings settings = {STATES_DEFAULT, 1, 2, ""};
    struct totals sums[WORKLOADS] = {{0}}, sum = {0};
    struct timespec from, to;
    unsigned passed = 0, failed = 0;
    bool good;

    if (!parse(argc, argv, &settings)) {
        fprintf(stderr, "usage: %s [--states N] [--seed X] [--processes P] [--only NAME]\n",
                argv[0]);
        return 2;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    good = run_all(&settings, sums);
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    for (size_t i = 0; i < WORKLOADS; i++) {
        if (sums[i].runs == 0)
            continue;
        printf("%-20s runs=%" PRIu64 " states=%" PRIu64 " unique=%" PRIu64
               " nested=%" PRIu64 " violations=%" PRIu64 "\n",
               workloads[i].name, sums[i].runs, sums[i].states, sums[i].unique,
               sums[i].nested, sums[i].violations);
        add_totals(&sum, &sums[i]);
        passed += sums[i].violations == 0;
        failed += sums[i].violations != 0;
    }
    if (!good)
        printf("a process died\n");
    printf("states=%" PRIu64 " unique=%" PRIu64 " violations=%" PRIu64 " seconds=%.1f\n",
           sum.states, sum.unique, sum.violations,
           (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 && good ? 0 : 1;
}
