/* SPDX-License-Identifier: MIT */
/*
 * What compaction costs: how many bytes are written to the data files for each byte of the
 * user, in the steady state, when some keys are overwritten far more often than others.
 *
 * Method: a store of some 50 files on the simulated disk, without threads, is overwritten until
 * it has settled, and then measured. Nothing depends on the speed of the machine, and the disk
 * gives the store the same random seeds every time.
 */
#include "small_store.h"

#include <math.h>

TEST_MAIN

#define KEYS       40000u
#define VALUE_SIZE 300u
#define SETTLING   (4 * KEYS)
#define MEASURED   (4 * KEYS)

static double below_one(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (double)(*state >> 11) * 0x1p-53;
}

/* Zipf with an exponent of 0.99: rank i is as frequent as sums[i] - sums[i - 1]. */
static uint32_t draw_zipf(const double *sums, uint64_t *state)
{
    const double at = below_one(state) * sums[KEYS - 1];
    uint32_t low = 0, high = KEYS - 1;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;

        if (sums[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void put_number(struct fixture *f, uint32_t number, uint32_t version)
{
    char key[16], value[VALUE_SIZE];

    snprintf(key, sizeof key, "%08" PRIu32, number * 2654435761u);
    memset(value, (int)(version & 0xff), sizeof value);
    CHECK_OK(tkv_put(f->store, tkv_text(key), tkv_bytes(value, sizeof value), &err));
}

static struct tkv_stats stats_of(struct fixture *f)
{
    struct tkv_stats stats;

    CHECK_OK(tkv_stats(f->store, &stats, &err));
    return stats;
}

static void begin_filled(struct fixture *f, double space_factor)
{
    begin_closed(f);
    f->options.durability = TKV_DURABILITY_NONE;
    f->options.auto_compact = true;
    f->options.space_factor = space_factor;
    f->options.wal_size_max = 1024 * 1024;
    f->options.data_file_size_min = f->options.data_file_size_max = 256 * 1024;
    open_again(f);
    for (uint32_t i = 0; i < KEYS; i++)
        put_number(f, i, 0);
}

/* Bytes written to data files for each live byte that was overwritten. */
static double measure(double space_factor, bool is_zipf)
{
    static double sums[KEYS];
    uint64_t state = 88172645463325252;
    struct tkv_stats before = {0}, after;
    struct fixture f;
    double share;

    for (uint32_t i = 0; i < KEYS; i++)
        sums[i] = (i == 0 ? 0 : sums[i - 1]) + (is_zipf ? pow(i + 1, -0.99) : 1);
    begin_filled(&f, space_factor);
    for (uint32_t i = 0; i < SETTLING + MEASURED; i++) {
        if (i == SETTLING)
            before = stats_of(&f);
        put_number(&f, draw_zipf(sums, &state), i);
    }
    after = stats_of(&f);
    CHECK((double)after.disk_bytes <=
          space_factor * (double)after.live_bytes + (double)f.options.data_file_size_max);
    share = (double)MEASURED / (double)KEYS * (double)after.live_bytes;
    end(&f);
    return (double)(after.data_bytes_written - before.data_bytes_written) / share;
}

static void expect_below(const char *what, double space_factor, double amplification,
                         double bound)
{
    printf("%s at %.3f: %.3f, below %.2f\n", what, space_factor, amplification, bound);
    CHECK(amplification < bound);
}

TEST(what_is_often_overwritten_is_not_kept_among_what_stays)
{
    expect_below("zipf", 1.25, measure(1.25, true), 2.5);
    expect_below("zipf", 1.386, measure(1.386, true), 2.0);
}

TEST(uniform_overwrites_cost_little_more_than_they_must)
{
    expect_below("uniform", 1.25, measure(1.25, false), 3.0);
    expect_below("uniform", 1.386, measure(1.386, false), 2.2);
}
