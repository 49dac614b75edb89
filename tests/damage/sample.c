/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include "store.h"
#include "test.h"

#define DATA_FILE_SIZE \
    10240u /* far below what an option allows: several files in few bytes */

struct maker {
    struct sample *sample;
    struct simdisk *disk;
    struct tkv_store *store;
    uint64_t random;
};

/* ---- Files --------------------------------------------------------------------------- */

struct listing {
    const struct simdisk *disk;
    struct sample_image *image;
};

static void add_file(void *context, const char *name)
{
    const struct listing *listing = context;
    struct sample_image *image = listing->image;
    struct sample_file *file = &image->files[image->count++];
    const int64_t size = simdisk_file_size(listing->disk, name);

    CHECK(image->count <= SAMPLE_FILES_MAX && size >= 0);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->size = (size_t)size;
    file->bytes = malloc(file->size + 1);
    CHECK(file->bytes != NULL);
    CHECK_EQ(simdisk_file_read(listing->disk, name, file->bytes, file->size, 0), size);
}

static int by_name(const void *left, const void *right)
{
    const struct sample_file *l = left, *r = right;

    return strcmp(l->name, r->name);
}

static void read_image(const struct simdisk *disk, struct sample_image *image)
{
    struct listing listing = {disk, image};

    simdisk_list(disk, add_file, &listing);
    qsort(image->files, image->count, sizeof image->files[0], by_name);
}

static void release_image(struct sample_image *image)
{
    for (size_t i = 0; i < image->count; i++) {
        parts_release(&image->files[i].parts);
        free(image->files[i].bytes);
    }
}

const struct sample_file *sample_find(const struct sample_image *image, const char *name)
{
    for (size_t i = 0; i < image->count; i++) {
        if (strcmp(image->files[i].name, name) == 0)
            return &image->files[i];
    }
    return NULL;
}

size_t sample_bytes(const struct sample *sample)
{
    size_t bytes = 0;

    for (size_t i = 0; i < sample->image.count; i++)
        bytes += sample->image.files[i].size;
    return bytes;
}

size_t sample_ops_up_to(const struct sample *sample, uint64_t seq)
{
    size_t count = 0;

    while (count < sample->oracle->issued && sample->op_seqs[count] <= seq)
        count++;
    return count;
}

/* ---- Life of the store ------------------------------------------------------------------ */

static void open_store(struct maker *m)
{
    struct tkv_error err;

    CHECK_OK(tkv_open_on(&m->disk->os, "", &m->sample->options, &m->store, NULL, &err));
    m->store->options.data_file_size_min = DATA_FILE_SIZE;
}

static void close_store(struct maker *m)
{
    struct tkv_error err;

    CHECK_OK(oracle_close(m->sample->oracle, m->store, &err));
    m->store = NULL;
}

static void remember(struct maker *m)
{
    struct sample *s = m->sample;

    CHECK(s->moment_count < SAMPLE_MOMENTS_MAX);
    read_image(m->disk, &s->moments[s->moment_count++]);
}

static uint64_t below(struct maker *m, uint64_t limit)
{
    m->random = sample_mix(m->random);
    return m->random % limit;
}

/* ---- Writes ---------------------------------------------------------------------------- */

static void note_seq(struct maker *m)
{
    struct sample *s = m->sample;
    struct tkv_stats stats;
    struct tkv_error err;

    if (s->oracle->issued > s->op_capacity) {
        s->op_capacity = s->op_capacity * 2 + 256;
        s->op_seqs = realloc(s->op_seqs, s->op_capacity * sizeof *s->op_seqs);
        CHECK(s->op_seqs != NULL);
    }
    CHECK_OK(tkv_stats(m->store, &stats, &err));
    s->op_seqs[s->oracle->issued - 1] = stats.seq_last;
}

static void put(struct maker *m, unsigned key, uint32_t size, unsigned flags,
                uint64_t expires_at_ms)
{
    struct tkv_error err;

    CHECK_OK(oracle_put(m->sample->oracle, m->store, key, size, flags, expires_at_ms,
                        &m->disk->monotonic_us, &err));
    note_seq(m);
}

static void del(struct maker *m, unsigned key)
{
    struct tkv_error err;

    CHECK_OK(oracle_delete(m->sample->oracle, m->store, key, &m->disk->monotonic_us, &err));
    note_seq(m);
}

static void batch(struct maker *m, unsigned key)
{
    const struct oracle_item items[] = {
        {.key = key,                     .size = 70       },
        {.key = (key + 1) % ORACLE_KEYS, .is_delete = true},
        {.key = (key + 2) % ORACLE_KEYS, .size = 0        },
        {.key = key,                     .size = 90       },
    };
    struct tkv_error err;

    CHECK_OK(
        oracle_batch(m->sample->oracle, m->store, items, 4, &m->disk->monotonic_us, &err));
    note_seq(m);
}

/* Large values stay where they are; the other keys are written again and again. */
#define LARGE_KEYS 3u

static void mixture(struct maker *m, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const unsigned key = LARGE_KEYS + (unsigned)below(m, ORACLE_KEYS - LARGE_KEYS - 3);
        const uint64_t chance = below(m, 10);

        if (chance == 0)
            del(m, key);
        else if (chance == 1)
            batch(m, key);
        else if (chance == 2)
            put(m, key, 300 + (uint32_t)below(m, 600), ORACLE_SQUEEZABLE, ORACLE_NEVER);
        else if (chance == 3)
            put(m, key, 40, 0, m->disk->wall_ms + 3600u * 1000);
        else
            put(m, key, (uint32_t)below(m, 400), 0, ORACLE_NEVER);
    }
}

static void checkpoint(struct maker *m)
{
    struct tkv_error err;

    CHECK_OK(oracle_checkpoint(m->sample->oracle, m->store, &err));
}

static void compact(struct maker *m)
{
    struct tkv_error err;

    CHECK_OK(tkv_compact(m->store, NULL, &err));
}

/* ---- A torn write, so that there is a quarantine -------------------------------------------- */

static void tear_a_write(struct maker *m)
{
    struct sample *s = m->sample;
    struct tkv_open_report report;
    struct simdisk *after;
    struct tkv_error err;

    m->disk->crash_kinds = SIMDISK_WRITE | SIMDISK_STORE;
    m->disk->crash_at = m->disk->crash_count + 1;
    m->disk->crash_cut = 200;
    (void)oracle_put(s->oracle, m->store, 4, 700, 0, ORACLE_NEVER, &m->disk->monotonic_us,
                     &err);
    (void)tkv_close(m->store, NULL);
    CHECK(m->disk->crashed);
    after = simdisk_survivor(m->disk, SIMDISK_KILLED, 0, SIMDISK_PAGE);
    simdisk_free(m->disk);
    m->disk = after;
    CHECK_OK(tkv_open_on(&after->os, "", &s->options, &m->store, &report, &err));
    CHECK(report.bytes_cut > 0);
    m->store->options.data_file_size_min = DATA_FILE_SIZE;
    s->oracle->ops[s->oracle->issued - 1].is_out = true;
    note_seq(m);
}

/* ---- Phases ------------------------------------------------------------------------------ */

static void live_through_everything(struct maker *m)
{
    open_store(m);
    /* A file that stays: too little of it dies. It has something for every delete to hide. */
    put(m, 2, 6000, 0, ORACLE_NEVER);
    for (unsigned key = LARGE_KEYS; key < ORACLE_KEYS; key++)
        put(m, key, 30 + key * 3, key % 4 == 0 ? ORACLE_SQUEEZABLE : 0, ORACLE_NEVER);
    put(m, 0, 17000, ORACLE_SQUEEZABLE, ORACLE_NEVER);
    put(m, 1, 20000, ORACLE_SQUEEZABLE, ORACLE_NEVER);
    put(m, ORACLE_KEYS - 1, 60, 0, m->disk->wall_ms + 5000);
    remember(m);
    mixture(m, 30);
    put(m, 1, 100, 0, ORACLE_NEVER);
    m->disk->wall_ms += 10000;
    checkpoint(m);
    compact(m);
    remember(m);
    mixture(m, 20);
    tear_a_write(m);
    mixture(m, 20);
    remember(m);
    close_store(m);
    open_store(m);
    mixture(m, 12);
    checkpoint(m);
    compact(m);
    mixture(m, 30);
    remember(m);
    close_store(m); /* a hint of the file that goes on growing */
    open_store(m);
    remember(m);
    mixture(m, 16); /* more than one lap, where a group takes a block */
    checkpoint(m);
}

/* What the log alone has when the store is killed. */
static void write_the_last_words(struct maker *m)
{
    put(m, 5, 120, 0, ORACLE_NEVER);
    batch(m, 6);
    put(m, 2, 16500, ORACLE_SQUEEZABLE, ORACLE_NEVER);
    del(m, 5);
    put(m, 9, 33, 0, m->disk->wall_ms + 3600u * 1000);
    remember(m);
    put(m, 10, 222, ORACLE_SQUEEZABLE, ORACLE_NEVER);
}

/* A copy with everything durable: only damage happens to it. */
static struct simdisk *settled_copy(const struct simdisk *disk, struct sample_image *image)
{
    struct simdisk *copy = simdisk_clone(disk);

    read_image(copy, image);
    for (size_t i = 0; i < image->count; i++)
        CHECK(simdisk_file_write(copy, image->files[i].name, image->files[i].bytes,
                                 image->files[i].size, 0) >= 0);
    return copy;
}

struct sample *sample_new(const char *name, enum tkv_durability durability, bool is_closed,
                          uint64_t seed)
{
    struct sample *s = calloc(1, sizeof *s);
    struct maker m = {.sample = s, .random = sample_mix(seed)};

    CHECK(s != NULL);
    s->name = name;
    s->options = (struct tkv_options)TKV_OPTIONS_DEFAULT;
    s->options.durability = durability;
    s->options.background = false;
    s->options.auto_compact = false;
    s->options.wal_size_max = 64 * 1024;
    s->options.data_file_size_min = 64 * 1024;
    s->options.compact_size_min = 0;
    s->options.compress_level = 6;
    s->oracle = oracle_new(durability, 0);
    m.disk = simdisk_new(seed);
    live_through_everything(&m);
    write_the_last_words(&m);
    CHECK(simdisk_file_write(m.disk, SAMPLE_FOREIGN, "mine", 4, 0) == 4);
    if (is_closed)
        close_store(&m);
    s->disk = settled_copy(m.disk, &s->image);
    for (size_t i = 0; i < s->image.count; i++)
        parts_read(&s->image.files[i], &s->image.files[i].parts);
    if (!is_closed)
        (void)tkv_close(m.store, NULL);
    simdisk_free(m.disk);
    return s;
}

void sample_free(struct sample *s)
{
    simdisk_free(s->disk);
    oracle_free(s->oracle);
    release_image(&s->image);
    for (size_t i = 0; i < s->moment_count; i++)
        release_image(&s->moments[i]);
    free(s->op_seqs);
    free(s);
}
