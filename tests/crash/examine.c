/* SPDX-License-Identifier: MIT */
/*
 * examine.c - recover one derived disk, and compare what it gives with the oracle:
 *
 *   - it opens, and reads the same in every way there is;
 *   - it is a prefix of the commit order that has every write that must be there;
 *   - bytes are cut only where the oracle allows a write to be missing;
 *   - what is served is durable: a power cut right after opening changes nothing;
 *   - it works: more writes, a compaction, a clean close, and all of it again;
 *   - nothing is left open.
 */
#include "explorer.h"

#include "chance.h"
#include "test.h"

#include "oracle_damaged.h"

/* Any mode may follow any other. */
static struct tkv_options vary_options(const struct explorer *e, uint64_t *random)
{
    struct tkv_options options = e->options;

    if (below(random, 4) == 0)
        options.durability = (enum tkv_durability)below(random, 3);
    if (below(random, 4) == 0)
        options.read_mode = TKV_READ_PREAD;
    return options;
}

bool open_and_read(struct explorer *e, struct simdisk *disk,
                   const struct tkv_options *options, const struct derived *d,
                   const char *which, struct tkv_store **ret_store,
                   struct oracle_found *ret_found)
{
    struct oracle_report why;
    struct tkv_error err = {.message = ""};
    enum tkv_status status = open_store(e, disk, options, ret_store, NULL, &err);
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

static enum tkv_status write_on(struct oracle *oracle, struct tkv_store *store,
                                const uint64_t *now_us, uint64_t *random,
                                struct tkv_error *err)
{
    const struct oracle_item batch[3] = {
        {.key = 2, .size = 40       },
        {.key = 3, .is_delete = true},
        {.key = 2, .size = 50       }
    };
    enum tkv_status status = TKV_OK;

    for (unsigned i = 0; i < 4 && status == TKV_OK; i++)
        status = oracle_put(oracle, store, (unsigned)below(random, ORACLE_KEYS),
                            (uint32_t)below(random, 300), 0, ORACLE_NEVER, now_us, err);
    if (status == TKV_OK)
        status =
            oracle_delete(oracle, store, (unsigned)below(random, ORACLE_KEYS), now_us, err);
    if (status == TKV_OK)
        status = oracle_batch(oracle, store, batch, 3, now_us, err);
    if (status == TKV_OK && below(random, 8) == 0)
        status = tkv_compact(store, NULL, err);
    return status;
}

/* A handful of writes, and then a clean close or another crash, and all of it again. Takes the
 * store. */
static bool check_goes_on(struct explorer *e, struct simdisk *disk, struct tkv_store *store,
                          struct oracle *oracle, const struct tkv_options *options,
                          const struct derived *d, uint64_t *random)
{
    const bool crash = below(random, 3) == 0;
    struct tkv_error err = {.message = ""};
    struct oracle_report why;
    struct oracle_found found;
    struct simdisk *after = disk;
    bool good;
    size_t prefix;

    if (write_on(oracle, store, &disk->monotonic_us, random, &err) != TKV_OK) {
        report_violation(e, d, "the recovered store does not work", err.message);
        (void)tkv_close(store, NULL);
        return false;
    }
    if (crash)
        after =
            simdisk_survivor(disk, SIMDISK_SUBSET, draw(random) % 1000000, SIMDISK_PAGE);
    good = close_store(e, disk, store, d) &&
           open_and_read(e, after, options, d,
                         crash ? "after another crash the store" : "the closed store",
                         &store, &found);
    if (good) {
        good = oracle_match(oracle, &found, crash ? oracle->durable : oracle->issued,
                            oracle->issued, disk->wall_ms, &prefix, &why);
        if (!good)
            report_violation(e, d, "the reopened store differs", why.text);
        good = close_store(e, after, store, d) && good;
    }
    if (after != disk)
        simdisk_free(after);
    return good;
}

static bool must_repeat(const struct explorer *e, const struct derived *d)
{
    return e->expected != NULL && (e->is_pinned || d->killed);
}

static size_t least_of(const struct explorer *e, const struct derived *d)
{
    /* After a failed sync the cache may have forgotten what only it had. */
    const bool forgets =
        e->fault.happened &&
        (e->fault.how == SIMDISK_FAILED_SYNC_REVERTS || e->fault.drop_cache);

    return d->killed && e->all_killed && !forgets ? e->oracle->acked : e->oracle->durable;
}

static bool check_contents(struct explorer *e, const struct simdisk *disk,
                           const struct derived *d, const struct tkv_open_report *report,
                           const struct oracle_found *found, size_t *ret_prefix)
{
    const size_t least = least_of(e, d), issued = e->oracle->issued;
    struct oracle_report why;

    if (must_repeat(e, d) &&
        !must_be_same(e, d, "a crashed recovery changed the contents", e->expected, found))
        return false;
    if (!oracle_match(e->oracle, found, least, issued, disk->wall_ms, ret_prefix, &why)) {
        report_violation(e, d, "not a prefix", why.text);
        return false;
    }
    if ((report->bytes_cut > 0) != (report->cut_reason[0] != 0)) {
        report_violation(e, d, "the report cuts bytes without a reason, or the reverse",
                         report->cut_reason);
        return false;
    }
    if (report->bytes_cut > 0 && d->killed && d->cut == 0 && e->all_killed &&
        e->depth == 0 && e->fault.at == 0) {
        report_violation(e, d, "a log that nobody tore was cut", report->cut_reason);
        return false;
    }
    return true;
}

static void examine_store(struct explorer *e, struct simdisk *disk, const struct derived *d,
                          const struct tkv_options *options, struct tkv_store *store,
                          const struct oracle_found *found, size_t prefix, uint64_t random)
{
    const bool thorough = e->tally->is_thorough;
    struct oracle *oracle;

    if ((below(&random, 3) == 0 || thorough) && !check_second_recovery(e, disk, d, found)) {
        (void)tkv_close(store, NULL);
        return;
    }
    if (below(&random, 3) != 0 && !thorough) {
        (void)close_store(e, disk, store, d);
        return;
    }
    oracle = oracle_recovered(e->oracle, prefix, options->durability);
    (void)check_goes_on(e, disk, store, oracle, options, d, &random);
    oracle_free(oracle);
}

/* Of the shortest programs every recovery, given the time; of the others some, and some of
 * their recoveries, five deep. */
static bool is_nested(const struct explorer *e, uint64_t *random)
{
    static const unsigned one_of[NESTED_DEPTH_MAX] = {40, 40, 30, 30, 30};
    const bool every =
        e->tally->has_nested || (e->tally->settings->is_long && e->fault.at == 0 &&
                                 e->workload->kind == EXHAUSTIVE && e->program->count == 1);

    if (e->depth >= NESTED_DEPTH_MAX)
        return false;
    return below(random, one_of[e->depth]) == 0 || (every && e->depth == 0);
}

static void examine_closely(struct explorer *e, struct simdisk *disk,
                            const struct derived *d, uint64_t random)
{
    const bool nest = is_nested(e, &random);
    struct simdisk *before = nest ? simdisk_clone(disk) : NULL;
    const struct tkv_options options = vary_options(e, &random);
    struct tkv_open_report report;
    struct tkv_error err = {.message = ""};
    struct oracle_report why;
    struct oracle_found found;
    struct tkv_store *store;
    size_t prefix = 0;

    if (open_store(e, disk, &options, &store, &report, &err) != TKV_OK) {
        report_violation(e, d, "the survivor does not open", err.message);
    } else if (!oracle_read(store, &found, &why)) {
        report_violation(e, d, "the survivor reads badly", why.text);
        (void)tkv_close(store, NULL);
    } else if (!check_contents(e, disk, d, &report, &found, &prefix)) {
        (void)tkv_close(store, NULL);
    } else {
        examine_store(e, disk, d, &options, store, &found, prefix, random);
        if (nest)
            crash_the_recovery(e, before, d, &found);
    }
    simdisk_free(before);
}

/* ---- Damaged ----------------------------------------------------------------------------- */

/* Right or an error, for every key; and nothing missing that the log can know of. */
static void examine_damaged(struct explorer *e, struct simdisk *disk,
                            const struct derived *d, uint64_t random)
{
    const struct tkv_options options = vary_options(e, &random);
    struct tkv_error err = {.message = ""};
    struct oracle_damaged found;
    struct oracle_report why;
    struct tkv_store *store;
    enum tkv_status status = open_store(e, disk, &options, &store, NULL, &err);

    if (status == TKV_OK) {
        if (!oracle_read_damaged(store, &found, &why))
            report_violation(e, d, "the damaged store reads badly", why.text);
        else if (!oracle_match_damaged(e->oracle, &found, d->least, e->oracle->issued,
                                       disk->wall_ms, &why))
            report_violation(e, d, "wrong, and no error", why.text);
        (void)tkv_close(store, NULL);
    } else if (status != TKV_CORRUPT && status != TKV_UNSUPPORTED) {
        report_violation(e, d, "damage is called something else", err.message);
    }
    if (simdisk_open_count(disk) != 0)
        report_violation(e, d, "damage leaks descriptors or mappings", "");
}

/* ---- Once each --------------------------------------------------------------------------- */

/* Image, what must be there, and what the oracle knows of it: the whole check follows. */
static uint64_t state_hash(const struct explorer *e, const struct simdisk *disk,
                           const struct derived *d)
{
    const size_t least = d->damage != NULL ? d->least : least_of(e, d);
    uint64_t hash = simdisk_hash(disk);

    hash = mix(hash ^ oracle_history(e->oracle, least));
    if (must_repeat(e, d))
        hash = mix(hash ^ oracle_found_hash(e->expected));
    return mix(hash + (d->damage != NULL) + (uint64_t)e->options.durability * 2);
}

void examine(struct explorer *e, struct simdisk *disk, struct derived d)
{
    struct tally *tally = e->tally;
    uint64_t hash;

    if (e->fault.at != 0)
        d.model = P8;
    if (e->fault.happened && e->fault.is_late) {
        d.damage = "a sync that did nothing and did not say so";
        d.least = e->fault.durable_before;
    }
    hash = state_hash(e, disk, &d);
    tally->totals.states++;
    tally->totals.trace = mix(tally->totals.trace ^ hash);
    if (!is_enough(tally) && !seen_before(&tally->seen, hash)) {
        const uint64_t random = mix(hash ^ e->program->seed);

        tally->totals.unique++;
        tally->totals.models[d.model]++;
        tally->totals.depths[e->depth]++;
        if (d.damage != NULL)
            examine_damaged(e, disk, &d, random);
        else
            examine_closely(e, disk, &d, random);
    }
    simdisk_free(disk);
}
