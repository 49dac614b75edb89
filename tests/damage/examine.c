/* SPDX-License-Identifier: MIT */
#include "examine.h"

#include "allocation.h"
#include "evidence.h"
#include "file_name.h"
#include "reading.h"
#include "refusal.h"
#include "store.h"
#include "test.h"

#include <stdarg.h>

const char *const outcome_names[OUTCOMES] = {"right",  "key_errors",  "refused", "unsynced",
                                             "window", "rolled_back", "wrong"};

#define MEMORY_CONSTANT (512u * 1024) /* a file is read in chunks, a group kept in memory */

struct examination {
    const struct sample *sample;
    const struct wound *wound; /* NULL: nothing is damaged */
    struct verdict *verdict;
    struct simdisk *disk;
    struct tkv_options options;
    struct tkv_store *store;
    struct reading reading;
    size_t least, prefix;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct examination *x,
                                                        const char *format, ...)
{
    va_list arguments;

    x->verdict->outcome = OUTCOME_WRONG;
    va_start(arguments, format);
    (void)vsnprintf(x->verdict->text, sizeof x->verdict->text, format, arguments);
    va_end(arguments);
    return false;
}

static const char *wounded_name(const struct examination *x)
{
    return x->wound == NULL ? "" : x->sample->image.files[x->wound->file].name;
}

/* ---- Opening ----------------------------------------------------------------------------- */

static enum tkv_status open_again(struct examination *x, struct tkv_open_report *report,
                                  struct tkv_error *err)
{
    memset(err, 0, sizeof *err);
    return tkv_open_on(&x->disk->os, "", &x->options, &x->store, report, err);
}

/* A store that is refused stays as it was found. */
static bool check_refusal(struct examination *x, const struct tkv_error *err,
                          uint64_t hash_before)
{
    struct oracle_report why;

    x->verdict->outcome = OUTCOME_REFUSED;
    snprintf(x->verdict->text, sizeof x->verdict->text, "%.31s at %llu, seq %llu: %.250s",
             err->file, (unsigned long long)err->offset, (unsigned long long)err->seq,
             err->message);
    if (x->wound == NULL)
        return wrong(x, "undamaged, but refused: %s", err->message);
    if (simdisk_hash(x->disk) != hash_before)
        return wrong(x, "refused, but changed: %s", err->message);
    return refusal_is_right(x->sample, x->wound, err, &why) || wrong(x, "%s", why.text);
}

/* ---- Reading ------------------------------------------------------------------------------ */

static bool read_first(struct examination *x)
{
    struct oracle_report why;

    if (!reading_take(x->store, READING_WHOLE, &x->reading, &why))
        return wrong(x, "%s", why.text);
    x->least = evidence_least(x->sample, x->wound);
    return reading_matches(x->sample->oracle, &x->reading, x->least,
                           x->sample->oracle->issued, x->disk->wall_ms, &x->prefix, &why) ||
           wrong(x, "%s", why.text);
}

/* Some damage harms nothing; and one bit harms one key. */
static bool check_harm(struct examination *x)
{
    const struct reading *r = &x->reading;
    const bool is_lost = x->prefix < x->sample->oracle->issued;

    if ((r->unreadable_count > 0 || is_lost) && refusal_is_harmless(wounded_name(x)))
        return wrong(x, "damage to %s harms keys", wounded_name(x));
    if (x->wound != NULL && x->wound->kind == WOUND_BIT && r->unreadable_count > 1)
        return wrong(x, "one bit makes %zu keys unreadable", r->unreadable_count);
    if (r->unreadable_count > 0 && strcmp(r->error.file, wounded_name(x)) != 0)
        return wrong(x, "the error is about %s: %s", r->error.file, r->error.message);
    return true;
}

static void classify(struct examination *x)
{
    const struct sample *s = x->sample;

    x->verdict->outcome =
        x->reading.unreadable_count > 0 ? OUTCOME_KEY_ERRORS : OUTCOME_RIGHT;
    if (x->prefix == s->oracle->issued)
        return;
    if (x->wound->kind == WOUND_OLDER && strcmp(wounded_name(x), TKV_WAL_NAME) == 0)
        x->verdict->outcome = OUTCOME_ROLLED_BACK;
    else if (x->prefix < s->oracle->durable)
        x->verdict->outcome = OUTCOME_WINDOW;
    else
        x->verdict->outcome = OUTCOME_UNSYNCED;
    snprintf(x->verdict->text, sizeof x->verdict->text, "%zu of %zu writes are left",
             x->prefix, s->oracle->issued);
}

/* ---- Using it ------------------------------------------------------------------------------- */

static bool read_again(struct examination *x, const struct oracle *oracle,
                       enum reading_way way, const char *when)
{
    struct oracle_report why;
    size_t prefix;

    if (!reading_take(x->store, way, &x->reading, &why))
        return wrong(x, "%s: %s", when, why.text);
    return reading_matches(oracle, &x->reading, oracle->issued, oracle->issued,
                           x->disk->wall_ms, &prefix, &why) ||
           wrong(x, "%s: %s", when, why.text);
}

/* What is written over damage is whole again. */
static bool write_some(struct examination *x, struct oracle *oracle)
{
    const uint64_t *now_us = &x->disk->monotonic_us;
    unsigned key = 20;
    struct tkv_error err;

    for (unsigned k = 0; k < ORACLE_KEYS; k++)
        key = x->reading.unreadable[k] ? k : key;
    if (oracle_put(oracle, x->store, key, 77, 0, ORACLE_NEVER, now_us, &err) != TKV_OK ||
        oracle_delete(oracle, x->store, (key + 1) % ORACLE_KEYS, now_us, &err) != TKV_OK)
        return wrong(x, "writing: %s", err.message);
    if (!read_again(x, oracle, READING_QUICK, "after writing"))
        return false;
    return !x->reading.unreadable[key] || wrong(x, "key %u is not overwritten", key);
}

static bool use(struct examination *x, struct oracle *oracle)
{
    struct tkv_error err = {.message = ""};
    const enum tkv_status status = tkv_compact(x->store, NULL, &err);

    if (status != TKV_OK && status != TKV_CORRUPT && status != TKV_IO)
        return wrong(x, "compaction: %s", err.message);
    return read_again(x, oracle, READING_WHOLE, "after compaction") &&
           write_some(x, oracle);
}

static bool close_it(struct examination *x)
{
    struct tkv_error err = {.message = ""};
    struct tkv_store *store = x->store;

    x->store = NULL;
    return tkv_close(store, &err) == TKV_OK || wrong(x, "close: %s", err.message);
}

static bool come_back(struct examination *x, const struct oracle *oracle)
{
    char foreign[4];
    struct tkv_error err;
    const enum tkv_status status = open_again(x, NULL, &err);

    if (status != TKV_OK && status != TKV_CORRUPT && status != TKV_IO)
        return wrong(x, "reopening: %s", err.message);
    x->verdict->later_refused = status != TKV_OK;
    if (status != TKV_OK)
        return true;
    if (!read_again(x, oracle, READING_WHOLE, "reopened"))
        return false;
    return strcmp(wounded_name(x), SAMPLE_FOREIGN) == 0 ||
           simdisk_file_read(x->disk, SAMPLE_FOREIGN, foreign, 4, 0) == 4 ||
           wrong(x, "a foreign file was touched");
}

/* ---- What is cut is kept -------------------------------------------------------------------- */

struct kept {
    const struct simdisk *disk;
    uint64_t bytes;
};

static void add_kept(void *context, const char *name)
{
    struct kept *kept = context;

    if (strncmp(name, TKV_QUARANTINE_NAME "/", strlen(TKV_QUARANTINE_NAME) + 1) == 0 &&
        strstr(name, ".torn") != NULL)
        kept->bytes += (uint64_t)simdisk_file_size(kept->disk, name);
}

static uint64_t kept_bytes(const struct simdisk *disk)
{
    struct kept kept = {disk, 0};

    simdisk_list(disk, add_kept, &kept);
    return kept.bytes;
}

/* ---- From opening to opening again --------------------------------------------------------------- */

/* Readers of read-only media see the same, and change nothing. */
static bool look_without_touching(struct examination *x, uint64_t hash)
{
    struct tkv_error err;
    bool good;

    x->options.read_only = true;
    good = open_again(x, NULL, &err) != TKV_OK
               ? check_refusal(x, &err, hash)
               : read_first(x) && check_harm(x) && close_it(x);
    if (good && simdisk_hash(x->disk) != hash)
        good = wrong(x, "a read-only store was changed");
    x->options.read_only = false;
    return good;
}

/* A refused store, opened in spite of its gaps. That must be possible when a data file is
 * damaged; a log may not even belong to the manifest. */
static bool open_with_gaps(struct examination *x, enum tkv_damage damage)
{
    struct tkv_open_report report;
    struct tkv_error err;
    uint64_t number;

    x->options.damage = damage;
    if (open_again(x, &report, &err) == TKV_OK)
        return report.gaps > 0 || wrong(x, "refused, and then without a gap");
    return tkv_file_name_parse(wounded_name(x), &number) != TKV_NAME_DATA ||
           wrong(x, "does not open with gaps: %s", err.message);
}

static bool read_certain(struct examination *x)
{
    const struct oracle *oracle = x->sample->oracle;
    struct oracle_report why;
    size_t prefix;

    if (!open_with_gaps(x, TKV_DAMAGE_CERTAIN) || x->store == NULL)
        return x->verdict->outcome != OUTCOME_WRONG;
    if (!reading_take(x->store, READING_GAPS, &x->reading, &why) ||
        !reading_matches(oracle, &x->reading, oracle->issued, oracle->issued,
                         x->disk->wall_ms, &prefix, &why))
        return wrong(x, "certain: %s", why.text);
    x->verdict->has_gaps = true;
    x->verdict->certain_keys = ORACLE_KEYS - (unsigned)x->reading.unreadable_count;
    return close_it(x);
}

static bool read_newest(struct examination *x)
{
    struct oracle_report why;

    if (!open_with_gaps(x, TKV_DAMAGE_NEWEST) || x->store == NULL)
        return x->verdict->outcome != OUTCOME_WRONG;
    if (!reading_take(x->store, READING_GAPS, &x->reading, &why) ||
        !reading_is_of_its_keys(x->sample->oracle, &x->reading, &why))
        return wrong(x, "newest: %s", why.text);
    x->verdict->salvaged_keys = (unsigned)x->reading.found.count;
    return close_it(x);
}

static void look_through_gaps(struct examination *x, uint64_t hash)
{
    x->options.read_only = true;
    if (read_certain(x) && read_newest(x) && simdisk_hash(x->disk) != hash)
        (void)wrong(x, "reading through gaps changed the store");
    x->options.read_only = false;
    x->options.damage = TKV_DAMAGE_REFUSE;
}

static void go_through(struct examination *x)
{
    const uint64_t hash = simdisk_hash(x->disk), kept = kept_bytes(x->disk);
    struct tkv_open_report report;
    struct tkv_error err;
    struct oracle *oracle;

    if (x->wound != NULL && x->wound->number % 3 == 0 && !look_without_touching(x, hash))
        return;
    if (open_again(x, &report, &err) != TKV_OK) {
        if (check_refusal(x, &err, hash))
            look_through_gaps(x, hash);
        return;
    }
    if (!read_first(x) || !check_harm(x))
        return;
    if (kept_bytes(x->disk) < kept + report.bytes_cut) {
        (void)wrong(x, "%llu bytes are cut, not all of them are kept",
                    (unsigned long long)report.bytes_cut);
        return;
    }
    classify(x);
    oracle = oracle_recovered(x->sample->oracle, x->prefix, x->options.durability);
    if (use(x, oracle) && close_it(x))
        (void)come_back(x, oracle);
    oracle_free(oracle);
}

/* ---- All together ---------------------------------------------------------------------------- */

static void run(struct examination *x, size_t *ret_memory)
{
    x->disk = simdisk_clone(x->sample->disk);
    if (x->wound != NULL)
        wound_inflict(x->sample, x->wound, x->disk);
    allocation_begin();
    go_through(x);
    if (x->store != NULL && tkv_close(x->store, NULL) == TKV_OK &&
        simdisk_open_count(x->disk) != 0 && x->verdict->outcome != OUTCOME_WRONG)
        (void)wrong(x, "descriptors or mappings are left open");
    *ret_memory = allocation_peak();
    simdisk_free(x->disk);
}

size_t examine_memory(const struct sample *sample)
{
    struct verdict verdict = {.outcome = OUTCOME_RIGHT};
    size_t memory, most = 0;

    for (unsigned mode = TKV_READ_MMAP; mode <= TKV_READ_PREAD; mode++) {
        struct examination x = {
            .sample = sample, .verdict = &verdict, .options = sample->options};

        x.options.read_mode = (enum tkv_read_mode)mode;
        run(&x, &memory);
        if (verdict.outcome != OUTCOME_RIGHT || verdict.later_refused)
            printf("undamaged: %s\n", verdict.text);
        CHECK(verdict.outcome == OUTCOME_RIGHT && !verdict.later_refused);
        if (memory > most)
            most = memory;
    }
    return most;
}

void examine(const struct sample *sample, const struct wound *wound, size_t memory_max,
             struct verdict *ret_verdict)
{
    struct examination x = {.sample = sample,
                            .wound = wound,
                            .verdict = ret_verdict,
                            .options = sample->options};
    size_t memory;

    memset(ret_verdict, 0, sizeof *ret_verdict);
    x.options.read_mode = wound->number % 2 == 0 ? TKV_READ_MMAP : TKV_READ_PREAD;
    run(&x, &memory);
    if (memory > memory_max + sample_bytes(sample) + wound->size + MEMORY_CONSTANT &&
        ret_verdict->outcome != OUTCOME_WRONG)
        (void)wrong(&x, "%zu bytes of memory, %zu without damage", memory, memory_max);
}
