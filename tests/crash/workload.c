/* SPDX-License-Identifier: MIT */
#include "workload.h"

#define FILE_SIZE (UINT64_C(64) * 1024) /* the smallest log and data file there can be */

struct tkv_options workload_options(const struct workload *w)
{
    struct tkv_options options = TKV_OPTIONS_DEFAULT;

    options.background = false;
    options.durability = w->durability;
    options.interval_ms = 1;
    options.wal_size_max = w->wal_size_max != 0 ? w->wal_size_max : FILE_SIZE;
    options.data_file_size_min = w->data_file_size != 0 ? w->data_file_size : FILE_SIZE;
    options.data_file_size_max = options.data_file_size_min;
    options.compact_size_min = FILE_SIZE / 2;
    options.space_factor = 1.2;
    options.compress_level = w->compress_level;
    options.compress_size_min = 16;
    return options;
}

#define ALWAYS   TKV_DURABILITY_ALWAYS
#define INTERVAL TKV_DURABILITY_INTERVAL
#define NONE     TKV_DURABILITY_NONE

/* clang-format off */
const struct workload workloads[] = {
    {.name = "exhaustive_always", .kind = EXHAUSTIVE, .share = 400, .durability = ALWAYS,
     .density = 100},
    {.name = "exhaustive_interval", .kind = EXHAUSTIVE, .share = 400,
     .durability = INTERVAL, .density = 100},
    {.name = "exhaustive_none", .kind = EXHAUSTIVE, .share = 400, .durability = NONE,
     .density = 100},
    {.name = "always_short", .durability = ALWAYS, .operations = 10, .deletes = 10,
     .batches = 15, .checkpoints = 12, .compactions = 12, .reopens = 8, .rotations = 10,
     .large = 10, .value_size_max = 12000, .density = 50},
    {.name = "interval_short", .durability = INTERVAL, .operations = 10, .deletes = 10,
     .batches = 15, .syncs = 10, .checkpoints = 10, .compactions = 10, .reopens = 8,
     .ticks = 10, .rotations = 5, .value_size_max = 12000, .density = 50},
    {.name = "none_short", .durability = NONE, .operations = 10, .deletes = 10,
     .batches = 15, .syncs = 10, .checkpoints = 10, .compactions = 12, .reopens = 8,
     .rotations = 5, .large = 10, .value_size_max = 12000, .density = 50},
    {.name = "always_mixed", .durability = ALWAYS, .operations = 120, .deletes = 14,
     .batches = 12, .syncs = 2, .checkpoints = 3, .compactions = 2, .reopens = 2,
     .value_size_max = 3000, .density = 40},
    {.name = "interval_mixed", .durability = INTERVAL, .operations = 160, .deletes = 14,
     .batches = 12, .syncs = 3, .checkpoints = 3, .compactions = 2, .reopens = 2,
     .ticks = 10, .value_size_max = 3000, .density = 30},
    {.name = "none_mixed", .durability = NONE, .operations = 160, .deletes = 14,
     .batches = 12, .syncs = 3, .checkpoints = 3, .compactions = 2, .reopens = 2,
     .value_size_max = 3000, .density = 30},
    {.name = "always_churn", .durability = ALWAYS, .operations = 300, .deletes = 30,
     .batches = 10, .compactions = 1, .reopens = 1, .crashes = 2, .value_size_max = 9000,
     .density = 10},
    {.name = "none_churn", .durability = NONE, .operations = 400, .deletes = 30,
     .batches = 10, .syncs = 1, .compactions = 1, .reopens = 1, .crashes = 2,
     .value_size_max = 9000, .density = 10},
    {.name = "interval_churn", .durability = INTERVAL, .operations = 400, .deletes = 30,
     .batches = 10, .compactions = 1, .reopens = 1, .crashes = 2, .ticks = 10,
     .value_size_max = 9000, .density = 10},
    {.name = "always_crash_chain", .durability = ALWAYS, .operations = 150, .deletes = 10,
     .batches = 20, .checkpoints = 4, .compactions = 2, .reopens = 2, .crashes = 20,
     .value_size_max = 2000, .density = 8},
    {.name = "none_crash_chain", .durability = NONE, .operations = 150, .deletes = 10,
     .batches = 20, .checkpoints = 4, .compactions = 2, .reopens = 2, .crashes = 20,
     .value_size_max = 2000, .density = 8},
    {.name = "always_large", .durability = ALWAYS, .operations = 60, .deletes = 14,
     .batches = 10, .checkpoints = 5, .compactions = 4, .reopens = 3, .crashes = 4,
     .large = 30, .value_size_max = 3000, .density = 25},
    {.name = "none_large", .durability = NONE, .operations = 60, .deletes = 14,
     .batches = 10, .checkpoints = 5, .compactions = 4, .reopens = 3, .crashes = 4,
     .large = 30, .value_size_max = 3000, .density = 25},
    {.name = "always_expiring", .durability = ALWAYS, .operations = 120, .deletes = 8,
     .batches = 10, .checkpoints = 4, .compactions = 4, .reopens = 3, .crashes = 3,
     .expiring = 40, .ticks = 12, .value_size_max = 4000, .density = 20},
    {.name = "interval_expiring", .durability = INTERVAL, .operations = 120, .deletes = 8,
     .batches = 10, .checkpoints = 4, .compactions = 4, .reopens = 3, .crashes = 3,
     .expiring = 40, .ticks = 12, .value_size_max = 4000, .density = 20},
    {.name = "always_compressed", .durability = ALWAYS, .operations = 120, .deletes = 12,
     .batches = 12, .checkpoints = 3, .compactions = 3, .reopens = 3, .large = 5,
     .crashes = 2, .value_size_max = 6000, .compress_level = 6, .density = 20},
    {.name = "none_compressed", .durability = NONE, .operations = 120, .deletes = 12,
     .batches = 12, .checkpoints = 3, .compactions = 3, .reopens = 3, .large = 5,
     .crashes = 2, .value_size_max = 6000, .compress_level = 6, .density = 20},
    {.name = "always_growth", .durability = ALWAYS, .operations = 250, .deletes = 8,
     .batches = 5, .checkpoints = 1, .crashes = 3, .value_size_max = 60000, .density = 3,
     .share = 10, .wal_size_max = 2u << 20, .data_file_size = 512 * 1024},
    {.name = "none_growth", .durability = NONE, .operations = 250, .deletes = 8,
     .batches = 5, .checkpoints = 1, .crashes = 3, .value_size_max = 60000, .density = 3,
     .share = 10, .wal_size_max = 2u << 20, .data_file_size = 512 * 1024},
    {.name = "none_growth_without_allocation", .durability = NONE, .operations = 250, .deletes = 8,
     .batches = 5, .checkpoints = 1, .crashes = 3, .value_size_max = 60000, .density = 3,
     .share = 5, .wal_size_max = 2u << 20, .data_file_size = 512 * 1024, .no_allocation = true},
    {.name = "none_growth_without_direct_io", .durability = NONE, .operations = 250, .deletes = 8,
     .batches = 5, .syncs = 5, .checkpoints = 1, .crashes = 3, .value_size_max = 60000, .density = 3,
     .share = 5, .wal_size_max = 2u << 20, .data_file_size = 512 * 1024, .no_direct_sync = true},
    {.name = "always_every_byte", .durability = ALWAYS, .operations = 6, .deletes = 20,
     .batches = 30, .value_size_max = 300, .density = 30, .every_byte = true},
    {.name = "none_every_byte", .durability = NONE, .operations = 8, .deletes = 20,
     .batches = 30, .syncs = 10, .value_size_max = 200, .density = 30, .every_byte = true},
    {.name = "creation", .durability = ALWAYS, .operations = 4, .reopens = 40,
     .value_size_max = 300, .density = 100, .from_nothing = true},
    {.name = "creation_relaxed", .durability = NONE, .operations = 4, .reopens = 40,
     .value_size_max = 300, .density = 100, .from_nothing = true},
};
/* clang-format on */

const size_t workload_count = sizeof workloads / sizeof workloads[0];
